"""Rows of csv files that other people wrote, read strictly.

Python's csv module, as it is set up by default, forgives: a quote that is never closed makes one text of the rest of
the file.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pipeline.errors import DataError

LIMIT_BYTES = 2**30  # of a table or list of labels, which is read into memory


def csv_rows(lines: Iterable[str], where: str, delimiter: str = ",") -> Iterator[tuple[int, int, list[str]]]:
    """Yield (first line, last line, fields) of every row; lines count from 1, and a blank one has no fields.

    Args:
        lines: with their ends.
        where: the file, for messages.
        delimiter: between two fields.

    Raises:
        DataError: a quote is never closed, or something else follows a closing one, or a field is endless.
    """
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    first = 1
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise DataError(f"{where}, line {first}: {_why(error, first, rows.line_num)}") from error
        if row is None:
            return
        yield first, rows.line_num, row
        first = rows.line_num + 1


def _why(error: csv.Error, first: int, last: int) -> str:
    if "unexpected end" in str(error):
        return f'a quote (") that is opened in this row is never closed; all to line {last} would be one text'
    to = f" (the row runs to line {last}: is a quote open?)" if last > first else ""
    if "expected after" in str(error):
        return f'something follows a closing quote ("){to}; write a quote within a text twice ("")'
    return f"not csv: {error}{to}"


def check_header(header: Sequence[str], needed: Sequence[str], where: str) -> None:
    """Check the names of a table's columns.

    Raises:
        DataError: one lacks, or is listed twice: a row has just one value by a name.
    """
    if lacking := [name for name in needed if name not in header]:
        raise DataError(
            f"{where}, line 1: lacks the columns {', '.join(lacking)}; found {', '.join(header) or 'nothing'}"
        )
    if twice := [name for name, times in Counter(filter(None, map(str.strip, header))).items() if times > 1]:
        raise DataError(
            f"{where}, line 1: the column {twice[0]} is listed twice; remove or rename one of them"
        )


def read_small(path: Path) -> bytes:
    """Return the bytes of a file of labels.

    Raises:
        OSError: it cannot be read.
        DataError: it is so large that it can be no such file.
    """
    if (size := path.stat().st_size) > LIMIT_BYTES:
        raise DataError(
            f"{path}: found {size} bytes, at most {LIMIT_BYTES} are read of a table or list of labels"
        )
    return path.read_bytes()
