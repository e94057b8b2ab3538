"""The split of a dataset by video, read from a file that the user gives; no split is ever invented.

Two kinds of file are read: a csv with the columns ``video`` (or ``id``) and ``split``, and the file of standard
folds of the CMU Multimodal SDK (``cmu_mosei_std_folds.py``: three lists of video ids). The latter is parsed,
never executed.
"""

from __future__ import annotations

import ast
import io
from pathlib import Path

from pipeline.data.csv_rows import check_header, csv_rows, read_small
from pipeline.errors import DataError

PARTS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "dev": "valid",
    "validation": "valid",
    "test": "test",
    "testing": "test",
}
_LISTS = {"standard_train_fold": "train", "standard_valid_fold": "valid", "standard_test_fold": "test"}


def read_split(path: Path) -> dict[str, str]:
    """Return video id -> train, valid or test.

    Raises:
        DataError: the file cannot be read, has a part of another name, or has a video in two parts.
    """
    try:
        text = read_small(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the split file cannot be read ({error})") from error
    rows = _folds(path, text) if path.suffix == ".py" else _table(path, text)
    parts: dict[str, str] = {}
    for line, video, part in rows:
        if parts.setdefault(video, part) != part:
            raise DataError(f'{path}, line {line}: the video "{video}" is in {parts[video]} and in {part}')
    if not parts:
        raise DataError(f"{path}: the split file names no video")
    return parts


def _table(path: Path, text: str) -> list[tuple[int, str, str]]:
    rows = csv_rows(io.StringIO(text, newline=""), str(path))
    _, _, header = next(rows, (1, 1, []))
    key = next((name for name in ("video", "video_id", "id") if name in header), None)
    if key is None or "split" not in header:
        raise DataError(f"{path}, line 1: found {header}, expected the columns video and split")
    check_header(header, (), str(path))
    result = []
    for line, _, fields in rows:
        if not fields:
            continue
        if len(fields) != len(header):
            raise DataError(f"{path}, line {line}: found {len(fields)} fields, expected {len(header)}")
        row = dict(zip(header, fields, strict=True))
        video, part = row[key].strip(), PARTS.get(row["split"].strip().lower())
        if not video:
            raise DataError(f"{path}, line {line}: found no name of a video in the column {key}")
        if part is None:
            raise DataError(
                f'{path}, line {line}: found the split "{row["split"]}" of "{video}", '
                f"expected train, valid or test"
            )
        result.append((line, video, part))
    return result


def _folds(path: Path, text: str) -> list[tuple[int, str, str]]:
    result = []
    try:
        for node in ast.parse(text).body:
            if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
                continue
            if part := _LISTS.get(node.targets[0].id):
                result += [(node.lineno, str(video), part) for video in ast.literal_eval(node.value)]
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
        raise DataError(f"{path}: not the SDK's lists of videos ({error})") from error
    if {part for *_, part in result} != {"train", "valid", "test"}:
        raise DataError(f"{path}: expected the lists {', '.join(_LISTS)}")
    return result
