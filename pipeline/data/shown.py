"""Texts of a user's files in files that people open: nothing in them may act."""

from __future__ import annotations

import re

# Control characters but line break and tab; separators that break lines; what turns the direction of text around.
_ACTING = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# What a spreadsheet takes for a formula, but for numbers and for ids such as -3g5yACwYnA, which can do nothing.
_FORMULA = re.compile(r"[=@\t\r]|[+-](?![\w.-]*$)")


def without_controls(text: str) -> str:
    """Return the text with every character that would control a terminal or viewer replaced by its escape sequence."""
    return _ACTING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def for_spreadsheet(text: str) -> str:
    """Return a field of a csv file that people open: ``=cmd|...`` gets an apostrophe in front, and stays text."""
    text = without_controls(text)
    return f"'{text}" if _FORMULA.match(text) else text
