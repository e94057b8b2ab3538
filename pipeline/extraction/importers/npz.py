"""An npz file with the fields of a feature store: ids (N,), offsets (N + 1,), values (sum T, D); and optionally
times, flags, status, reasons, tokens, token_ids, columns. Strings are arrays of numpy's own type (``<U...``), not
of objects.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.store import FeatureSequence, Status
from pipeline.errors import StoreError
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.importers import base
from pipeline.extraction.importers.base import Reader as Base
from pipeline.extraction.importers.base import Request, plain_file
from pipeline.machine import memory_bytes

NEEDED = ("ids", "offsets", "values")
ALLOWED = (*NEEDED, "times", "flags", "status", "reasons", "tokens", "token_ids", "columns")


def _check_declared(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    """Refuse an array whose header declares more than its entry holds: numpy asks for the memory before it reads."""
    if not entry.filename.endswith(".npy"):
        return
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
    if (declared := math.prod(map(int, shape)) * dtype.itemsize) > entry.file_size:
        raise StoreError(
            f"{path}, {entry.filename}: its header declares {declared} bytes, it holds {entry.file_size}"
        )


class Reader(Base):
    """One npz file, in memory."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        path = plain_file(request.file)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                most = min(base.LIMIT_BYTES, memory_bytes())
                entries = archive.zip.infolist()
                for entry in entries:  # unpacked: zeros pack into next to nothing
                    if entry.file_size > most:
                        raise StoreError(
                            f"{path}, {entry.filename}: found {entry.file_size} bytes, at most {most} are read"
                        )
                    _check_declared(archive.zip, entry, path)
                if (total := sum(entry.file_size for entry in entries)) > most:
                    raise StoreError(f"{path}: found {total} bytes, at most {most} are read")
                self._arrays: dict[str, NDArray[Any]] = {k: archive[k] for k in ALLOWED if k in archive.files}
        except (
            OSError,
            ValueError,
            EOFError,
            KeyError,
            zipfile.BadZipFile,
            zlib.error,
            MemoryError,
            SyntaxError,
        ) as error:
            raise StoreError(f"{path}: not a whole npz file of plain arrays ({error})") from error
        self._check()
        self._index = {str(name): index for index, name in enumerate(self._arrays["ids"])}

    def _check(self) -> None:
        path, arrays = self.request.file, self._arrays
        if lacking := [name for name in NEEDED if name not in arrays]:
            raise StoreError(f"{path}: lacks {', '.join(lacking)}; expected {', '.join(NEEDED)}")
        values, offsets, count = arrays["values"], arrays["offsets"], len(arrays["ids"])
        if values.ndim != 2:
            raise StoreError(f"{path}, values: found {values.shape}, expected (sum T, D)")
        if offsets.shape != (count + 1,) or offsets.dtype.kind not in "iu":
            raise StoreError(
                f"{path}, offsets: found {offsets.dtype} {offsets.shape}, "
                f"expected whole numbers ({count + 1},)"
            )
        if count and (
            offsets[0] != 0 or offsets[-1] != len(values) or (np.diff(offsets.astype(np.int64)) < 0).any()
        ):
            raise StoreError(f"{path}, offsets: they must rise from 0 to {len(values)}")
        if len({str(name) for name in arrays["ids"]}) != count:
            raise StoreError(f"{path}, ids: one occurs twice")
        rows = {name: len(values) for name in ("times", "flags", "tokens", "token_ids")}
        for name, length in {**rows, "status": count, "reasons": count, "columns": values.shape[1]}.items():
            if name in arrays and arrays[name].shape != (length,):
                raise StoreError(f"{path}, {name}: found {arrays[name].shape}, expected ({length},)")

    @property
    def columns(self) -> tuple[str, ...]:
        """The names in the file, else numbered names."""
        if "columns" in self._arrays:
            return tuple(map(str, self._arrays["columns"]))
        return self.numbered(self._arrays["values"].shape[1])

    @property
    def frame_period_s(self) -> float | None:
        """From the settings, else the step of the times if it is the same everywhere."""
        if self.request.frame_rate_hz or "times" not in self._arrays:
            return super().frame_period_s
        offsets, times = self._arrays["offsets"], self._arrays["times"].astype(np.float64)
        starts = np.unique(offsets[(offsets > 0) & (offsets < len(times))])
        steps = np.delete(np.diff(times), starts - 1)  # but not the step from one sample to the next
        even = len(steps) > 0 and np.allclose(steps, steps[0], atol=1e-4) and steps[0] > 0
        return float(steps[0]) if even else None

    def read(self, clip: Clip) -> FeatureSequence | None:
        """Return the sample's rows with their times, flags, tokens and status."""
        if (index := self._index.get(clip.id)) is None:
            return None
        arrays, offsets = self._arrays, self._arrays["offsets"]
        rows = slice(int(offsets[index]), int(offsets[index + 1]))

        def part(name: str) -> NDArray[Any] | None:
            return arrays[name][rows] if name in arrays else None

        tokens = part("tokens")
        made = self.sequence(
            arrays["values"][rows],
            f'{self.request.file}, values, id "{clip.id}"',
            times=part("times"),
            flags=part("flags"),
            tokens=() if tokens is None else [str(token) for token in tokens],
            token_ids=part("token_ids"),
        )
        if "status" not in arrays and len(made.times) == 0:
            return FeatureSequence.absent(len(self.columns), Status.MISSING, "no rows in the imported file")
        status = Status(int(arrays["status"][index])) if "status" in arrays else Status.OK
        reason = str(arrays["reasons"][index]) if "reasons" in arrays else ""
        return FeatureSequence(
            made.values, made.times, made.flags, status, reason, made.tokens, made.token_ids
        )
