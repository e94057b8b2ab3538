"""OpenFace 2's csv files: a folder with <id>.csv, or <video>.csv of whole videos that are cut by time.

Each has five columns about the picture (frame, face_id, timestamp, confidence, success) and the 709 of
``-2Dfp -3Dfp -pdmparams -pose -aus -gaze``. Where a release has fewer, the setting ``field`` names the groups that are
there, joined by +: gaze, eyes (the 280 of the eyes' landmarks), pose, landmarks2d, landmarks3d, shape, aus. Every
picture becomes a row; the extractor ``openface`` reads the same files at a set rate (``csv_folder``).
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.data.store import FeatureSequence, Status
from pipeline.errors import MediaError, StoreError, nearest
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.importers.base import Reader as Base
from pipeline.extraction.importers.base import Request, cut, file_of, plain_file

_REGRESSED = (
    "01",
    "02",
    "04",
    "05",
    "06",
    "07",
    "09",
    "10",
    "12",
    "14",
    "15",
    "17",
    "20",
    "23",
    "25",
    "26",
    "45",
)
_CLASSIFIED = (*_REGRESSED[:-1], "28", "45")
GROUPS = {
    "gaze": (
        *(f"gaze_{eye}_{axis}" for eye in (0, 1) for axis in "xyz"),
        *("gaze_angle_x", "gaze_angle_y"),
    ),
    "eyes": tuple(f"eye_lmk_{axis}_{point}" for axis in "xyXYZ" for point in range(56)),
    "pose": tuple(f"pose_{part}{axis}" for part in "TR" for axis in "xyz"),
    "landmarks2d": tuple(f"{axis}_{point}" for axis in "xy" for point in range(68)),
    "landmarks3d": tuple(f"{axis}_{point}" for axis in "XYZ" for point in range(68)),
    "shape": (  # of the point distribution model
        *("p_scale", "p_rx", "p_ry", "p_rz", "p_tx", "p_ty"),
        *(f"p_{number}" for number in range(34)),
    ),
    "aus": (  # action units: intensity 17, presence 18
        *(f"AU{unit}_r" for unit in _REGRESSED),
        *(f"AU{unit}_c" for unit in _CLASSIFIED),
    ),
}
COLUMNS = tuple(name for names in GROUPS.values() for name in names)
HEADS = ("frame", "face_id", "timestamp", "confidence", "success")  # the first five
NEEDED = ("frame", "confidence", "success")
LIMIT_BYTES = 2 * 2**30  # one csv file's; five kB a picture
LIMIT_LINE = 2**16  # bytes of its first line
LIMIT_LINES = 2**23  # three days of pictures
# How OpenFace's builds write what is no number: nan, -nan, -nan(ind), -1.#IND, inf.
_NO_NUMBER = re.compile(r"[-+]?(nan(\(\w+\))?|inf(inity)?|1\.#\w+)", re.IGNORECASE)


class Reader(Base):
    """A folder of OpenFace's csv files."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        if not any(request.file.glob("*.csv")):
            raise StoreError(f"{request.file}: found no *.csv; expected the folder that OpenFace wrote into")
        self._latest: tuple[Path, Table] | None = None
        groups = request.field.split("+") if request.field else list(GROUPS)
        if unknown := [name for name in groups if name not in GROUPS]:
            raise StoreError(
                f'field: found the group "{unknown[0]}" of OpenFace\'s columns, expected some of '
                f"{'+'.join(GROUPS)}.{nearest(unknown[0], GROUPS)}"
            )
        self._columns = tuple(name for group, names in GROUPS.items() if group in groups for name in names)

    @property
    def columns(self) -> tuple[str, ...]:
        """gaze_0_x .. AU45_c, as OpenFace names them; those of the groups that ``field`` names."""
        return self._columns

    def read(self, clip: Clip) -> FeatureSequence | None:
        """Return one row for each picture. A picture without success is unobserved; a clip in which all are so is
        *missing*.
        """
        found = file_of(self.request.file, clip, ".csv")
        if found is None:
            return None
        path, is_whole = found
        if clip.picture and path.stem != clip.id:
            raise MediaError(
                f'{path}, id "{clip.id}": is of the whole picture, the sample of its {clip.picture} half; '
                f"give {path.with_name(f'{clip.id}.csv')}"
            )
        if self._latest is None or self._latest[0] != path:  # the clips of one video come one after another
            self._latest = path, read_csv(path, clip.id, self.request.non_finite, self._columns)
        table = self._latest[1]
        made = FeatureSequence(table.values, table.times.astype(np.float32), table.flags)
        made = cut(made, clip, f'{path}, id "{clip.id}"') if is_whole else made
        if len(made.flags) and not made.flags.any():
            reason = f"no face in any of {len(made.flags)} pictures"
            return FeatureSequence.absent(len(self._columns), Status.MISSING, reason)
        return made


class Table:
    """An OpenFace csv file.

    Attributes:
        frames: (N,) int64, counted from 1.
        times: (N,) float64, seconds, not decreasing.
        values: (N, D) float32, D 709 with all groups; zeros where the flag is 0.
        flags: (N,) uint8, 1 where OpenFace had success and some confidence.
    """

    def __init__(
        self,
        frames: NDArray[np.int64],
        times: NDArray[np.float64],
        values: NDArray[np.float32],
        flags: NDArray[np.uint8],
    ) -> None:
        self.frames, self.times, self.values, self.flags = frames, times, values, flags


def read_csv(
    path: Path,
    sample_id: str,
    non_finite: Literal["refuse", "zero"] = "refuse",
    columns: tuple[str, ...] = COLUMNS,
) -> Table:
    """Read an OpenFace 2 csv file; of several faces in a picture the one with the highest confidence.

    Args:
        path: the file.
        sample_id: for whom, in messages.
        non_finite: what becomes of a row with success whose numbers are not all finite.
        columns: which to read; the file may have others of OpenFace's as well.

    Raises:
        MediaError: the file is absent, too large or cut, has other columns than OpenFace writes, or holds
            something that is no number; the message names file, line, column and id.
    """
    import pandas as pd

    where = f'{path}, id "{sample_id}"'
    header, lines, rows = _lines(path, where, columns)
    try:
        read = pd.read_csv(
            io.BytesIO(b"\n".join(rows)),
            names=header,
            header=None,
            index_col=False,
            skipinitialspace=True,
            quoting=csv.QUOTE_NONE,
            low_memory=False,
        )
    except ValueError as error:  # pandas' own errors are ValueErrors
        raise MediaError(f"{where}: not a csv file of OpenFace ({error})") from error
    for name in header:
        if read[name].dtype.kind not in "iuf":
            read[name] = _numbers(read[name].astype(str), lines, name, where)
    heads: NDArray[Any] = read[["frame", "confidence", "success"]].to_numpy(np.float64)
    times = read["timestamp"].to_numpy(np.float64) if "timestamp" in header else (heads[:, 0] - 1) / 30.0
    for name, found in (("frame", heads[:, 0]), ("timestamp", times)):
        cannot_be = ~np.isfinite(found) | (found < 0) | (found >= 2**31)
        if cannot_be.any():
            first_bad = int(np.flatnonzero(cannot_be)[0])
            raise MediaError(
                f"{where}, line {lines[first_bad]}, column {name}: found {found[first_bad]}; expected a number from 0. "
                "Was the file cut?"
            )
    best = np.lexsort((-np.nan_to_num(heads[:, 1]), heads[:, 0]))
    first = np.ones(len(best), bool)
    first[1:] = heads[best[1:], 0] != heads[best[:-1], 0]
    rows_of = best[first]
    with np.errstate(over="ignore"):  # checked just below
        values = read[list(columns)].to_numpy(np.float64)[rows_of].astype(np.float32)
    heads, times = heads[rows_of], times[rows_of]
    seen = (heads[:, 1] > 0) & (heads[:, 2] > 0)
    bad = ~np.isfinite(values)
    wrong = bad & seen[:, None]
    if wrong.any() and non_finite == "refuse":
        row, column = (int(n) for n in np.argwhere(wrong)[0])
        raise MediaError(
            f"{where}, line {lines[int(rows_of[row])]}, column {columns[column]}: found "
            f"{values[row, column]} though success is 1; expected a number (or set non_finite: zero)"
        )
    seen &= ~bad.any(axis=1)
    values[~seen] = 0.0
    # A file without timestamps is taken to have 30 pictures a second, as OpenFace assumes.
    return Table(heads[:, 0].astype(np.int64), np.maximum.accumulate(times), values, seen.astype(np.uint8))


def _lines(path: Path, where: str, columns: tuple[str, ...]) -> tuple[list[str], list[int], list[bytes]]:
    """Return a csv file's column names, and the number and the bytes of each line below them.

    Raises:
        MediaError: the file is absent or too large, its columns are not OpenFace's, or a line has more or
            fewer fields than the first.
    """
    try:
        content = plain_file(path, LIMIT_BYTES).read_bytes()
    except (StoreError, OSError) as error:
        raise MediaError(f"{error} ({where.rpartition(', ')[2]})") from error
    start = content[:LIMIT_LINE]
    if len(start) == LIMIT_LINE and b"\n" not in start and b"\r" not in start:
        raise MediaError(
            f"{where}: its first line has no end within {LIMIT_LINE} bytes; expected OpenFace's columns"
        )
    if (count := content.count(b"\n") + content.count(b"\r")) > LIMIT_LINES:
        raise MediaError(f"{where}: found {count} ends of lines, at most {LIMIT_LINES} are read")
    raw = content.removeprefix(b"\xef\xbb\xbf").splitlines()
    header = [name.strip() for name in (raw[0] if raw else b"").decode("utf-8", "replace").split(",")]
    if lacking := [name for name in (*NEEDED, *columns) if name not in header]:
        there = [group for group, names in GROUPS.items() if set(names) <= set(header)]
        named = f", or import the groups that are there by field: {'+'.join(there)}" if there else ""
        raise MediaError(
            f"{where}: {len(lacking)} of OpenFace's columns are lacking, such as {', '.join(lacking[:3])}; "
            f"let FeatureExtraction write them with: -2Dfp -3Dfp -pdmparams -pose -aus -gaze{named}"
        )
    known = {*HEADS, *COLUMNS}
    if others := [name for name, times in Counter(header).items() if name not in known or times > 1]:
        raise MediaError(
            f"{where}: found {len(header)} columns; OpenFace does not write, or not twice, "
            f"{', '.join(others[:3])}"
        )
    numbered = [(number, line) for number, line in enumerate(raw[1:], start=2) if line.strip()]
    for number, line in numbered:
        if (fields := line.count(b",") + 1) != len(header):
            raise MediaError(
                f"{where}, line {number}: found {fields} fields, expected {len(header)}. Was the file cut?"
            )
    if not numbered:
        raise MediaError(f"{where}: has no row below its header. Was the file cut?")
    return header, [number for number, _ in numbered], [line for _, line in numbered]


def _numbers(column: Any, lines: list[int], name: str, where: str) -> NDArray[np.float64]:
    """Turn a column of text into (N,) numbers; what OpenFace writes for a value that is not finite becomes NaN.

    Raises:
        MediaError: a field is something else.
    """
    values = np.empty(len(column), np.float64)
    for row, text in enumerate(column):
        try:
            values[row] = float(text)
        except ValueError:
            if not _NO_NUMBER.fullmatch(text.strip()):
                raise MediaError(
                    f'{where}, line {lines[row]}, column {name}: found "{text[:40]}", expected a number'
                ) from None
            values[row] = np.nan
    return values
