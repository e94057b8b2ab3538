"""The one place through which the commands print.

Every text goes through ``clean`` (pipeline/logs.py), so that a file's name or a transcript cannot control the terminal.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from pipeline.logs import clean as clean

NAMED = 5  # names that a line lists before it says how many more there are


def set_up() -> None:
    """Let stdout and stderr write a character's code where their encoding has no such character."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def say(text: str = "") -> None:
    """Print a text and a line break to stdout."""
    print(clean(text))


def say_error(text: str) -> None:
    """Print a text and a line break to stderr."""
    print(clean(text), file=sys.stderr)


def say_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print two columns to stdout, the first padded to one width."""
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        say(f"{name:<{width}}  {value}")


def say_json(found: Any) -> None:
    """Print an object as JSON to stdout.

    Characters that are not printable, or that the encoding of stdout does not have, are written as JSON's own
    escapes: the output stays valid JSON.
    """
    encoding = sys.stdout.encoding or "utf-8"

    def shown(character: str) -> str:
        if character == "\n" or (character.isprintable() and _encodes(character, encoding)):
            return character
        return json.dumps(character)[1:-1]

    print("".join(map(shown, json.dumps(found, ensure_ascii=False, indent=2, default=dict))))


def _encodes(character: str, encoding: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def listed(names: Sequence[str]) -> str:
    """Return the first names separated by commas, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def on_terminal() -> bool:
    """Return whether stderr, where progress is shown, is a terminal."""
    return sys.stderr.isatty()


def bar(length: int) -> str:
    """Return a bar of so many characters, made of blocks where stdout can show them, else of ``#``."""
    return ("█" if _encodes("█", sys.stdout.encoding or "ascii") else "#") * length


def finish() -> None:
    """Write out what is still buffered. Raises BrokenPipeError when nobody reads it any more."""
    sys.stdout.flush()


def discard() -> None:
    """Send the rest of stdout nowhere: Python would otherwise report the broken pipe once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
