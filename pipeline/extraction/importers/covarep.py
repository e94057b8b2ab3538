"""COVAREP's .mat files: a folder with <id>.mat, or <video>.mat of whole recordings that are cut by time.

Each holds ``features`` (T, 74) at 100 frames a second, and perhaps ``names``. Files of MATLAB's version 7.3
are HDF5 behind 512 bytes of MATLAB's own; their arrays lie transposed, as MATLAB counts columns first.
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.store import FeatureSequence, ForeignArrays
from pipeline.errors import MediaError, StoreError
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.importers.base import Reader as Base
from pipeline.extraction.importers.base import Request, cut, file_of, plain_file

RATE_HZ = 100.0
LIMIT_BYTES = 2 * 2**30  # one recording's
LIMIT_VALUES = 2**28  # of one array, whatever it takes up in the file
LIMIT_NAMES = 2**16  # bytes of the cells with the columns' names; cells within cells take a reader's stack
NUMBERS = ("double", "single", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
_MATRIX, _PACKED = 14, 15
_HDF5 = b"\x89HDF\r\n\x1a\n"


class Reader(Base):
    """A folder of .mat files with the same number of columns."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        files = sorted(path for path in request.file.glob("*.mat") if not path.name.startswith("."))
        if not files:
            raise StoreError(f"{request.file}: found no *.mat; expected the folder that COVAREP wrote into")
        values, names = self._load(files[0])
        self._named = files[0] if len(names) == values.shape[1] else None
        if twice := sorted({name for name in names if name and names.count(name) > 1}):
            raise StoreError(f"{files[0]}, names: {', '.join(twice[:3])} stand there more than once")
        self._columns = names if self._named else self.numbered(values.shape[1])

    @property
    def columns(self) -> tuple[str, ...]:
        """COVAREP's own names if the first file has them, else numbered names."""
        return self._columns

    @property
    def frame_period_s(self) -> float | None:
        """0.01 s, unless the settings give another frame rate."""
        return 1 / (self.request.frame_rate_hz or RATE_HZ)

    def _load(self, path: Path) -> tuple[NDArray[Any], tuple[str, ...]]:
        """Return (T, D) numbers, and the columns' names or nothing.

        Raises:
            StoreError: the file is absent, too large, damaged, or holds something else.
        """
        field = self.request.field or "features"
        with plain_file(path, LIMIT_BYTES).open("rb") as file:
            start = file.read(512 + len(_HDF5))
        newer = start.startswith(_HDF5) or start.endswith(_HDF5)
        values, names = _read_newer(path, field) if newer else _read_older(path, field)
        if values.ndim != 2 or values.dtype.kind not in "fiu":
            raise StoreError(f"{path}, {field}: found {values.dtype} {values.shape}, expected numbers (T, D)")
        return values, names

    def read(self, clip: Clip) -> FeatureSequence | None:
        """Return the frames of the clip."""
        found = file_of(self.request.file, clip, ".mat")
        if found is None:
            return None
        path, is_whole = found
        try:
            values, names = self._load(path)
        except StoreError as error:
            raise MediaError(f'{error} (id "{clip.id}")') from error
        if self._named and len(names) == values.shape[1] and names != self._columns:
            other = next(place for place, name in enumerate(names) if name != self._columns[place])
            raise MediaError(
                f'{path}, names (id "{clip.id}"): column {other} is "{names[other]}", in {self._named.name} '
                f'"{self._columns[other]}"; expected the same columns in all files'
            )
        times = (np.arange(len(values)) + 0.5) * (self.frame_period_s or 0.0)
        field = self.request.field or "features"
        made = self.sequence(values, f'{path}, {field}, id "{clip.id}"', times=times)
        return cut(made, clip, f'{path}, id "{clip.id}"') if is_whole else made


def _read_newer(path: Path, field: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Read a file of MATLAB 7.3."""
    with ForeignArrays(path, LIMIT_VALUES) as file:
        if field not in file:
            raise StoreError(f"{path}: has no {field}")
        values = file.read(field)
        return values.T, file.read_cell("names") if "names" in file else ()


def _check_names(path: Path) -> None:
    """Refuse a variable ``names`` of a file of MATLAB 5 to 7 that is far too large for names of columns."""
    with path.open("rb") as file:
        order = {b"IM": "<", b"MI": ">"}.get(file.read(128)[126:])
        while order and len(tag := file.read(8)) == 8:
            kind, size = struct.unpack(f"{order}II", tag)
            end = file.tell() + size
            start = file.read(min(size, LIMIT_NAMES + 1))
            if kind == _PACKED:
                start = zlib.decompressobj().decompress(start, LIMIT_NAMES + 1)
                if len(start) >= 8:
                    kind, size = struct.unpack_from(f"{order}II", start)
            # Its flags (16 bytes), its dimensions, and then its name: within the first hundred bytes.
            if kind == _MATRIX and size > LIMIT_NAMES and b"names" in start[:256].split(b"\0"):
                raise StoreError(f"{path}, names: found {size} bytes, at most {LIMIT_NAMES} are read")
            file.seek(end)


def _read_older(path: Path, field: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Read a file of MATLAB 4 to 7."""
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    try:
        for name, shape, kind in whosmat(path):
            if name in (field, "names") and (size := math.prod(map(int, shape))) > LIMIT_VALUES:
                raise StoreError(f"{path}, {name}: found {size} values, at most {LIMIT_VALUES} are read")
            if name == field and kind not in NUMBERS:
                raise StoreError(f"{path}, {name}: found a {kind}, expected numbers (T, D)")
        _check_names(path)
        content = loadmat(path, variable_names=[field, "names"])
    except (
        MatReadError,
        NotImplementedError,
        ValueError,
        TypeError,
        OSError,
        zlib.error,
        LookupError,
    ) as error:
        raise StoreError(f"{path}: not a whole .mat file ({error})") from error
    if field not in content:
        raise StoreError(f"{path}: has no {field}")
    names = [np.asarray(name).ravel() for name in np.asarray(content.get("names", [])).ravel()]
    if any(name.dtype.kind not in "US" and len(name) for name in names):
        return np.asarray(content[field]), ()  # no texts: they name nothing
    return np.asarray(content[field]), tuple(str(name[0]) if len(name) else "" for name in names)
