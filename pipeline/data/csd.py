"""Computational sequences of the CMU Multimodal SDK (.csd): HDF5 with ``<root>/data/<id>/{features,intervals}``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.store import ForeignArrays
from pipeline.errors import StoreError


class Sequences:
    """A .csd file, read id by id.

    Raises:
        StoreError: the file is absent, damaged, or has another layout.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = ForeignArrays(path)
        roots = [name for name in self.file.names() if self.file.is_group(f"{name}/data")]
        if len(roots) != 1:
            self.close()
            raise StoreError(
                f"{path}: found {len(roots)} groups with data; expected one <root>/data/<id>/... (.csd)"
            )
        self.root = roots[0]
        self._ids = self.file.names(f"{self.root}/data")
        self._known = frozenset(self._ids)

    def __enter__(self) -> Sequences:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def ids(self) -> list[str]:
        """Return the ids, sorted."""
        return list(self._ids)

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def read(self, key: str) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """Return (T, 2) start and end in seconds, and (T, D) numbers or words.

        Raises:
            StoreError: the shapes do not fit each other, or a time is no number; the message names file,
                field, id.
        """
        place = f"{self.root}/data/{key}"
        intervals, features = self.file.read(f"{place}/intervals"), self.file.read(f"{place}/features")
        where = f'{self.path}, id "{key}"'
        if intervals.ndim != 2 or intervals.shape[1:] != (2,) or intervals.dtype.kind not in "fiu":
            raise StoreError(
                f"{where}, intervals: found {intervals.dtype} {intervals.shape}, expected numbers (T, 2)"
            )
        if features.ndim != 2 or len(features) != len(intervals):
            raise StoreError(f"{where}, features: found {features.shape}, expected ({len(intervals)}, D)")
        times = intervals.astype(np.float64)
        if not np.isfinite(times).all():
            row = int(np.argwhere(~np.isfinite(times))[0][0])
            raise StoreError(f"{where}, intervals: row {row} is {times[row].tolist()}, expected numbers")
        return times, features

    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns as the metadata have them, or an empty tuple."""
        name = f"{self.root}/metadata/dimension names"
        if name not in self.file:
            return ()
        try:
            names = json.loads(str(self.file.read(name).ravel()[0]))
        except (ValueError, IndexError, RecursionError):
            return ()
        return tuple(map(str, names)) if isinstance(names, list) else ()
