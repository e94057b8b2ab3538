"""FER+: the faces of FER-2013 with ten annotators' votes, for the training of Denseface's network.

fer2013.csv (Kaggle, "Challenges in Representation Learning") has 35,887 grey faces of 48 x 48 pixels, as text;
fer2013new.csv (Barsoum et al., ICMI 2016, github.com/microsoft/FERPlus) has the votes for the same rows in the same
order.

Targets (``labels``), after Barsoum et al., section 3. Rows with a vote for "NF" (no face) of more than half, and rows
without any vote for the eight classes, are left out and counted. Votes for "unknown" are dropped.

- ``majority``, the default: the class with more than half of these votes; rows without one are left out.
- ``soft``: the share of each class among these votes; accuracy is then that of the most voted class.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.csv_rows import check_header, csv_rows
from pipeline.errors import DataError
from pipeline.extraction.extractors.video._densenet import CLASSES

SIDE_FER = 48
USAGES = ("Training", "PublicTest", "PrivateTest")
VOTES = (*CLASSES, "unknown", "NF")


@dataclass(frozen=True)
class Faces:
    """The rows of one usage.

    Attributes:
        pixels: (N, 48, 48) uint8.
        targets: (N, 8) float32, each row's sum 1, in the order of :data:`CLASSES`.
        left_out: reason -> how many rows were left out for it.
    """

    pixels: NDArray[np.uint8]
    targets: NDArray[np.float32]
    left_out: dict[str, int]


def read_faces(fer2013: Path, ferplus: Path, labels: str = "majority") -> dict[str, Faces]:
    """Return the faces of every usage, ``Training``, ``PublicTest`` and ``PrivateTest``.

    Raises:
        DataError: a file is absent or has other columns, a row is damaged, or the two files do not have the
            same rows.
    """
    pixels: dict[str, list[NDArray[np.uint8]]] = {usage: [] for usage in USAGES}
    targets: dict[str, list[NDArray[np.float32]]] = {usage: [] for usage in USAGES}
    left_out: dict[str, dict[str, int]] = {usage: {} for usage in USAGES}
    pictures = _rows(fer2013, ("emotion", "pixels", "Usage"))
    votes = _rows(ferplus, ("Usage", *VOTES))
    while True:
        picture, vote = next(pictures, None), next(votes, None)
        if picture is None or vote is None:
            if (picture is None) != (vote is None):
                shorter = fer2013 if picture is None else ferplus
                raise DataError(f"{shorter}: ends before the other file; the two must have the same rows")
            break
        usage = picture[1]["Usage"]
        where = f"{fer2013}, line {picture[0]}, and {ferplus}, line {vote[0]}"
        if usage not in USAGES or usage != vote[1]["Usage"]:
            raise DataError(
                f'{where}: found the usages "{usage}" and "{vote[1]["Usage"]}", expected one of {USAGES}'
            )
        target, reason = _target(vote[1], labels, f"{ferplus}, line {vote[0]}")
        if target is None:
            left_out[usage][reason] = left_out[usage].get(reason, 0) + 1
            continue
        pixels[usage].append(_pixels(picture[1]["pixels"], f"{fer2013}, line {picture[0]}"))
        targets[usage].append(target)
    return {
        usage: Faces(
            np.stack(pixels[usage]) if pixels[usage] else np.zeros((0, SIDE_FER, SIDE_FER), np.uint8),
            np.stack(targets[usage]) if targets[usage] else np.zeros((0, len(CLASSES)), np.float32),
            left_out[usage],
        )
        for usage in USAGES
    }


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv_rows(file, str(path))
        line = 0
        try:
            _, _, header = next(rows, (1, 1, []))
            names = [name.strip() for name in header]
            check_header(names, columns, str(path))
            for line, _, row in rows:
                if not row:
                    continue
                if len(row) != len(names):
                    raise DataError(f"{path}, line {line}: found {len(row)} fields, expected {len(names)}")
                yield line, dict(zip(names, row, strict=True))
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, after line {line}: not UTF-8 ({error.reason})") from error


def _pixels(text: str, where: str) -> NDArray[np.uint8]:
    try:
        values = np.array(text.split(), dtype=np.int64)
    except ValueError:
        values = np.zeros(0, np.int64)
    if len(values) != SIDE_FER**2 or values.min() < 0 or values.max() > 255:
        raise DataError(
            f"{where}: expected {SIDE_FER**2} pixels from 0 to 255, found {len(values)} that can be read"
        )
    return values.astype(np.uint8).reshape(SIDE_FER, SIDE_FER)


def _target(row: dict[str, str], labels: str, where: str) -> tuple[NDArray[np.float32] | None, str]:
    """Return the target (8,) and nothing, or None and the reason why the row is left out."""
    try:
        votes = np.array([int(row[name]) for name in VOTES], np.float32)
    except ValueError:
        raise DataError(f"{where}: expected whole numbers of votes for {', '.join(VOTES)}") from None
    if (votes < 0).any():
        raise DataError(f"{where}: found a negative number of votes")
    if votes[9] > votes.sum() / 2:
        return None, "no face"
    shares = votes[:8]
    if not shares.sum():
        return None, "no vote for a class"
    shares = shares / shares.sum()
    if labels == "soft":
        return shares, ""
    if shares.max() <= 0.5:
        return None, "no majority"
    return (shares == shares.max()).astype(np.float32), ""
