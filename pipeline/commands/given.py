"""The clips that a user names to ``lacuna extract`` and ``lacuna predict``: files, folders, parts, and what is said."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import DataError

if TYPE_CHECKING:
    from pipeline.data.manifest import Word


def add_clips(command: argparse.ArgumentParser) -> None:
    """Add the options that say which clips, which part of them, and what is said."""
    command.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="media files, or folders of them"
    )
    command.add_argument("--text", metavar="WORDS", help="what is said in the one file, or without a file")
    command.add_argument(
        "--transcript", type=Path, metavar="PATH", help="a text file, or a folder with NAME.txt of each file"
    )
    command.add_argument(
        "--words",
        type=Path,
        metavar="FILE",
        help='JSON, [["word", start, end], ...] in seconds of the one file: the times of its words',
    )
    command.add_argument(
        "--start", type=float, metavar="S", help="seconds of the file; default: its beginning"
    )
    command.add_argument("--end", type=float, metavar="S", help="seconds of the file; default: its end")


def check_times(start_s: float | None, end_s: float | None) -> None:
    """Refuse a part that begins before the file, or does not end after its beginning.

    Raises:
        DataError: it does so.
    """
    begin = 0.0 if start_s is None else start_s
    if not 0 <= begin < float("inf"):
        raise DataError(f"--start: found {begin:g} s, expected 0 or more")
    if end_s is not None and not begin < end_s < float("inf"):
        raise DataError(f"--end: found {end_s:g} s, expected more than the start at {begin:g} s")


def read_said(options: argparse.Namespace, files: Sequence[Path]) -> tuple[list[str], tuple[Word, ...]]:
    """Return what is said in each file ("": unknown), and the words' times of the only one.

    Raises:
        DataError: the options contradict each other, name one text for several files, or a file cannot be read.
    """
    count = max(1, len(files))
    if options.text is not None and options.transcript is not None:
        raise DataError("found --text and --transcript; expected one of them")
    for_each = options.transcript is not None and options.transcript.is_dir()
    for name in ("text", "transcript", "words"):
        given = getattr(options, name) is not None and not (name == "transcript" and for_each)
        if given and count > 1:
            raise DataError(f"--{name} is of one file, found {count}; give a folder of texts to --transcript")
    words = () if options.words is None else read_words(options.words)
    if for_each:
        paths = [options.transcript / f"{file.stem}.txt" for file in files]
        return [_read_text(path) if path.is_file() else "" for path in paths], words
    said = options.text or "" if options.transcript is None else _read_text(options.transcript)
    return [said] * count, words


def read_words(path: Path) -> tuple[Word, ...]:
    """Read the words of a clip with their times in seconds: JSON, ``[["word", start, end], ...]``.

    Raises:
        DataError: the file cannot be read, is not of this form, or has impossible times.
    """
    from pipeline.data.manifest import Word
    from pipeline.predicting import check_words

    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
        words = tuple(Word(str(text), float(start), float(end)) for text, start, end in rows)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f'{path}: {error}; expected JSON, [["word", start, end], ...] in seconds') from error
    check_words(words, str(path))
    return words


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text: {error}") from error
