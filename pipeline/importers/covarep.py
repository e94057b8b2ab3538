"""COVAREP's .mat files: a folder with <id>.mat, or <video>.mat of whole recordings that are cut by time.

Each holds ``features`` (T, 74) at 100 frames a second, and perhaps ``names``. MATLAB's version 7.3 files are
HDF5 and not read here: save them with ``-v7``.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import MediaError, StoreError
from pipeline.extractors.base import Clip
from pipeline.importers.base import Reader as Base
from pipeline.importers.base import Request, cut, file_of, plain_file
from pipeline.store import FeatureSequence

RATE_HZ = 100.0
LIMIT_BYTES = 2 * 2**30  # one recording's


class Reader(Base):
    """A folder of .mat files of one width."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        files = sorted(path for path in request.file.glob("*.mat") if not path.name.startswith("."))
        if not files:
            raise StoreError(f"{request.file}: found no *.mat; expected the folder that COVAREP wrote into")
        values, names = self._load(files[0])
        self._columns = names if len(names) == values.shape[1] else self.numbered(values.shape[1])

    @property
    def columns(self) -> tuple[str, ...]:
        """COVAREP's own names when the first file has them, else numbers."""
        return self._columns

    @property
    def frame_period_s(self) -> float | None:
        """A hundredth of a second, unless the settings say otherwise."""
        return 1 / (self.request.frame_rate_hz or RATE_HZ)

    def _load(self, path: Path) -> tuple[NDArray[Any], tuple[str, ...]]:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError

        field = self.request.field or "features"
        try:
            content = loadmat(plain_file(path, LIMIT_BYTES), variable_names=[field, "names"])
        except (
            MatReadError,
            NotImplementedError,
            ValueError,
            TypeError,
            OSError,
            zlib.error,
            LookupError,
        ) as error:
            raise StoreError(f"{path}: not a whole .mat file of version 7 or older ({error})") from error
        if field not in content:
            raise StoreError(f"{path}: has no {field}")
        values = np.asarray(content[field])
        if values.ndim != 2 or values.dtype.kind not in "fiu":
            raise StoreError(f"{path}, {field}: found {values.dtype} {values.shape}, expected numbers (T, D)")
        names = np.asarray(content.get("names", [])).ravel()
        return values, tuple(str(np.asarray(name).ravel()[0]) if np.size(name) else "" for name in names)

    def read(self, clip: Clip) -> FeatureSequence | None:
        """Return the frames of the clip."""
        found = file_of(self.request.file, clip, ".mat")
        if found is None:
            return None
        path, is_whole = found
        try:
            values, _ = self._load(path)
        except StoreError as error:
            raise MediaError(f'{error} (id "{clip.id}")') from error
        times = (np.arange(len(values)) + 0.5) * (self.frame_period_s or 0.0)
        field = self.request.field or "features"
        made = self.sequence(values, f'{path}, {field}, id "{clip.id}"', times=times)
        return cut(made, clip) if is_whole else made
