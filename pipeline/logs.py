"""What is shown on a terminal: no text of a user's files may control it."""

from __future__ import annotations

import logging
import sys


def clean(text: str) -> str:
    """Return the text with every control character but the line break replaced by its escape sequence."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


class _Clean(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return clean(super().format(record))


def log_to_stderr() -> None:
    """Let this process log to stderr from the level INFO, cleaned (:func:`clean`); once, if nobody does yet."""
    if hasattr(sys.stderr, "reconfigure"):  # a character that the terminal lacks is shown by its code
        sys.stderr.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Clean("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
