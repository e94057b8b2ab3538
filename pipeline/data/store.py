"""The only file that opens HDF5: the store of features, one file for a dataset and modality.

Layout of a feature store (ragged, nothing is padded)::

    /ids      (N,)        utf-8 strings, in the manifest's order
    /offsets  (N + 1,)    int64; sample i has the rows offsets[i]:offsets[i + 1]
    /values   (sum T, D)  float32
    /times    (sum T,)    float32, seconds from the sample's start (the middle of each frame, word or token)
    /flags    (sum T,)    uint8: 1 the frame was observed, 0 it stands for nothing (no face found), all zeros
    /status   (N,)        uint8: 0 ok, 1 missing, 2 failed
    /reasons  (N,)        utf-8 strings: why a status is not ok, else empty
    /tokens   (sum T,)    utf-8 strings: words or word pieces; text only
    /token_ids (sum T,)   int64, the encoder's vocabulary, -1 where there are none; text only

The attribute ``values_sha256`` is a checksum of all of these except the offsets. Files are written under another
name and renamed when they are complete. They are opened read-only, and hold no time of day, so that equal
features give equal bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.data.files import whole_or_nothing
from pipeline.errors import StoreError

FEATURE_SCHEMA = 2
ROWS_A_CHUNK = 1024
LIMIT_FOREIGN_BYTES = 2**32  # of one array of somebody else's file
SMALL_BYTES, DENSEST = (
    2**26,
    1100,
)  # an array above the first takes up at least its bytes over the second (deflate)
_NUMBERS = {"values": "<f4", "times": "<f4", "flags": "u1", "token_ids": "<i8"}


class Status(IntEnum):
    """Whether one modality of one sample has features."""

    OK = 0
    MISSING = 1  # there is nothing to extract: no such stream, no face in any frame, no words
    FAILED = 2  # there may be something to extract, but the clip could not be read


@dataclass(frozen=True)
class FeatureSequence:
    """The features of one modality of one sample.

    Attributes:
        values: (T, D) float32, finite; zeros where a frame was not observed. T may be 0 only if status is not OK.
        times: (T,) float32, seconds from the sample's start, not decreasing.
        flags: (T,) uint8, 1 where the frame was observed (a face found, a known word), else 0.
        status: OK, MISSING or FAILED.
        reason: why the status is not OK; empty otherwise.
        tokens: T words or word pieces (text only), else empty.
        token_ids: (T,) int64 of the encoder's vocabulary (text only), else None. A model that contains an encoder
            reads them in place of the values.
        unseen: of a sequence without rows, how many words were looked up or pictures looked at, none of which
            was observed. It is for the stage's summary, and is not written to the store.
    """

    values: NDArray[np.float32]
    times: NDArray[np.float32]
    flags: NDArray[np.uint8]
    status: Status = Status.OK
    reason: str = ""
    tokens: tuple[str, ...] = ()
    token_ids: NDArray[np.int64] | None = None
    unseen: int = 0

    @classmethod
    def absent(cls, dims: int, status: Status, reason: str, unseen: int = 0) -> FeatureSequence:
        """Return the sequence without frames that stands for a missing or failed modality."""
        values, times = np.zeros((0, dims), np.float32), np.zeros(0, np.float32)
        return cls(values, times, np.zeros(0, np.uint8), status, reason, unseen=unseen)

    def check(self, dims: int, where: str) -> None:
        """Check shapes, dtypes and values.

        Raises:
            StoreError: one of them is not as described above; the message names ``where`` and the field.
        """
        length = len(self.times)
        if self.values.shape != (length, dims) or self.values.dtype != np.float32:
            raise StoreError(
                f"{where}: values are {self.values.dtype} {self.values.shape}, expected float32 {(length, dims)}"
            )
        if self.flags.shape != (length,):
            raise StoreError(f"{where}: flags have the shape {self.flags.shape}, expected {(length,)}")
        if self.tokens and len(self.tokens) != length:
            raise StoreError(f"{where}: {len(self.tokens)} tokens for {length} rows of values")
        if self.token_ids is not None and self.token_ids.shape != (length,):
            raise StoreError(
                f"{where}: token ids have the shape {self.token_ids.shape}, expected {(length,)}"
            )
        if not np.isfinite(self.values).all():
            row, column = np.argwhere(~np.isfinite(self.values))[0]
            raise StoreError(
                f"{where}: values[{row}, {column}] is {self.values[row, column]}, expected a number"
            )
        if length and (np.diff(self.times) < 0).any():
            raise StoreError(
                f"{where}: times run backwards at row {int(np.argmax(np.diff(self.times) < 0)) + 1}"
            )
        if self.status is Status.OK and length == 0:
            raise StoreError(f"{where}: status ok, but no rows")


@dataclass(frozen=True)
class FeatureInfo:
    """The attributes of a feature store."""

    dataset: str
    modality: str
    extractor: str
    settings: Mapping[str, Any]
    columns: tuple[str, ...]
    frame_period_s: float | None  # None: the frames are words, tokens or otherwise uneven
    manifest_sha256: str
    versions: Mapping[str, str] = field(default_factory=dict)
    schema: int = FEATURE_SCHEMA


class _PatientFile(io.FileIO):
    """A file that remembers a failed write and does not report it at once: the HDF5 library crashes when one fails."""

    problem: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of ``data``, or remember why not."""
        view = memoryview(data).cast("B")
        done = 0
        try:
            while done < len(view) and self.problem is None:
                done += super().write(view[done:]) or 0
        except OSError as error:
            self.problem = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Change the length, or remember why not."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.problem = self.problem or error
            return size or 0


class _Abandoned(Exception):
    """The ``with`` block ended with an error: the file must not appear at its path."""


class HDF5Writing:
    """An HDF5 file that appears at ``path`` only when the ``with`` block ends without an error.

    After an error nothing is left behind. When the disk is full, :meth:`check` or the end of the block raises
    StoreError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with ExitStack() as opened:
                beside = opened.enter_context(whole_or_nothing(path))
                self._raw = opened.enter_context(_PatientFile(beside, "w+b"))
                self._opened = opened.pop_all()
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error}") from error
        self.file = h5py.File(self._raw, "w", libver="latest", track_order=False)

    def __enter__(self) -> h5py.File:
        return self.file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._opened:
                self.file.close()
                if error is not None:
                    raise _Abandoned
                self.check()
        except _Abandoned:
            return
        except (OSError, RuntimeError) as problem:
            if error is None:
                raise self._failed(problem) from problem

    def check(self) -> None:
        """Raise StoreError when something could not be written."""
        if self._raw.problem is not None:
            raise self._failed(self._raw.problem) from self._raw.problem

    def _failed(self, problem: Exception) -> StoreError:
        return StoreError(f"{self._path}: writing failed: {problem}. Is the disk full?")


class FeatureWriter:
    """Writes a feature store sample by sample; the memory it takes does not grow with the number of samples.

    Use it as a context manager: the file appears at ``path`` when the block ends without an error; after an error
    nothing is left behind.
    """

    def __init__(self, path: Path, info: FeatureInfo) -> None:
        self._path = path
        self._info = info
        self._ids: list[str] = []
        self._offsets = [0]
        self._status: list[int] = []
        self._reasons: list[str] = []
        self._checksum = hashlib.sha256()
        self._writing = HDF5Writing(path)
        self._file = self._writing.file
        dims = len(info.columns)
        rows: dict[str, Any] = {"maxshape": (None,), "chunks": (ROWS_A_CHUNK,), "track_times": False}
        make = self._file.create_dataset
        make(
            "values",
            (0, dims),
            np.float32,
            maxshape=(None, dims),
            chunks=(max(1, min(ROWS_A_CHUNK, 262_144 // max(dims, 1))), dims),
            track_times=False,
        )
        make("times", (0,), np.float32, **rows)
        make("flags", (0,), np.uint8, **rows)
        if info.modality == "text":
            make("tokens", (0,), h5py.string_dtype(), **rows)
            make("token_ids", (0,), np.int64, **rows)

    def __enter__(self) -> FeatureWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._writing.__exit__(kind, error, trace)
            return
        with self._writing:
            self._finish()

    def append(self, sample_id: str, sequence: FeatureSequence) -> None:
        """Add the next sample.

        Raises:
            StoreError: the sequence does not pass :meth:`FeatureSequence.check`, or the disk is full.
        """
        sequence.check(len(self._info.columns), f'{self._path}, sample "{sample_id}"')
        length = len(sequence.times)
        start, end = self._offsets[-1], self._offsets[-1] + length
        parts: dict[str, Any] = {"values": sequence.values, "times": sequence.times, "flags": sequence.flags}
        if self._info.modality == "text":
            parts["tokens"] = sequence.tokens or ("",) * length
            ids = sequence.token_ids
            parts["token_ids"] = np.full(length, -1, np.int64) if ids is None else ids
        if length:
            for name, part in parts.items():
                data = self._file[name]
                data.resize(end, axis=0)
                data[start:end] = part
            self._writing.check()
        self._offsets.append(end)
        self._ids.append(sample_id)
        self._status.append(int(sequence.status))
        self._reasons.append(sequence.reason)
        add_to_checksum(self._checksum, sample_id, int(sequence.status), sequence.reason, parts)

    def _finish(self) -> None:
        write = self._file.create_dataset
        text = h5py.string_dtype()
        write("ids", data=np.array(self._ids, dtype=object), dtype=text, track_times=False)
        write("reasons", data=np.array(self._reasons, dtype=object), dtype=text, track_times=False)
        write("offsets", data=np.array(self._offsets, np.int64), track_times=False)
        write("status", data=np.array(self._status, np.uint8), track_times=False)
        info = self._info
        self._file.attrs.update(
            {
                "kind": "lacuna features",
                "schema": info.schema,
                "dataset": info.dataset,
                "modality": info.modality,
                "extractor": info.extractor,
                "settings": json.dumps(info.settings, sort_keys=True),
                "columns": json.dumps(info.columns),
                "frame_period_s": -1.0 if info.frame_period_s is None else info.frame_period_s,
                "manifest_sha256": info.manifest_sha256,
                "versions": json.dumps(info.versions, sort_keys=True),
                "values_sha256": self._checksum.hexdigest(),
            }
        )


class FeatureStore:
    """A feature store, opened read-only and checked.

    Args:
        path: the file.
        ids: the manifest's ids; when given, the store must hold these samples, in this order.

    Raises:
        StoreError: the file is absent, cut short, not a feature store, of another schema, or not of this manifest.
    """

    info: FeatureInfo
    ids: tuple[str, ...]
    offsets: NDArray[np.int64]
    status: NDArray[np.uint8]
    reasons: tuple[str, ...]

    def __init__(self, path: Path, ids: Sequence[str] | None = None) -> None:
        self.path = path
        self._file = open_checked(
            path, "lacuna features", FEATURE_SCHEMA, "dvc repro -f -s extract-<modality>"
        )
        try:
            self._read_index(ids)
        except StoreError:
            self._file.close()
            raise
        except (KeyError, OSError, ValueError) as error:
            self._file.close()
            raise StoreError(f"{path}: damaged ({error}). Remove it and run: dvc repro") from error

    def _read_index(self, ids: Sequence[str] | None) -> None:
        attrs = self._file.attrs
        period = float(attrs["frame_period_s"])
        self.info = FeatureInfo(
            dataset=str(attrs["dataset"]),
            modality=str(attrs["modality"]),
            extractor=str(attrs["extractor"]),
            settings=json.loads(attrs["settings"]),
            columns=tuple(json.loads(attrs["columns"])),
            frame_period_s=None if period < 0 else period,
            manifest_sha256=str(attrs["manifest_sha256"]),
            versions=json.loads(attrs["versions"]),
            schema=int(attrs["schema"]),
        )
        self.values_sha256 = str(attrs["values_sha256"])
        self.ids = tuple(self._file["ids"].asstr()[:])
        self.reasons = tuple(self._file["reasons"].asstr()[:])
        self.offsets = self._file["offsets"][:]
        self.status = self._file["status"][:]
        rows, dims = self._file["values"].shape
        count = len(self.ids)
        for name, found, expected in (
            ("columns", len(self.info.columns), dims),
            ("offsets", len(self.offsets), count + 1),
            ("status", len(self.status), count),
            ("last offset", int(self.offsets[-1]) if len(self.offsets) else -1, rows),
            ("times", self._file["times"].shape[0], rows),
            ("flags", self._file["flags"].shape[0], rows),
        ):
            if found != expected:
                raise StoreError(
                    f"{self.path}, {name}: found {found}, expected {expected}. Run: dvc repro -f"
                )
        if (np.diff(self.offsets) < 0).any() or self.offsets[0] != 0:
            raise StoreError(f"{self.path}, offsets: they must rise from 0. Run: dvc repro -f")
        if ids is not None and tuple(ids) != self.ids:
            self._refuse_ids(ids)

    def _refuse_ids(self, ids: Sequence[str]) -> None:
        strange = sorted(set(self.ids) - set(ids))[:3]
        lacking = sorted(set(ids) - set(self.ids))[:3]
        raise StoreError(
            f"{self.path}: holds other samples than the manifest (not in the manifest: {strange or 'none'}; "
            f"not in the store: {lacking or 'none'}; or another order). Run: dvc repro"
        )

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) int64: rows of each sample."""
        lengths: NDArray[np.int64] = np.diff(self.offsets)
        return lengths

    def read(self, index: int) -> FeatureSequence:
        """Return sample ``index``.

        Raises:
            StoreError: its values cannot be read, or are not all finite.
        """
        rows = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        is_text = "tokens" in self._file
        try:
            sequence = FeatureSequence(
                values=self._file["values"][rows],
                times=self._file["times"][rows],
                flags=self._file["flags"][rows],
                status=Status(int(self.status[index])),
                reason=self.reasons[index],
                tokens=tuple(self._file["tokens"].asstr()[rows]) if is_text else (),
                token_ids=self._file["token_ids"][rows] if is_text else None,
            )
        except (OSError, ValueError) as error:
            raise StoreError(
                f'{self.path}, sample "{self.ids[index]}": {error}. Run: dvc repro -f'
            ) from error
        sequence.check(len(self.info.columns), f'{self.path}, sample "{self.ids[index]}"')
        return sequence

    def __iter__(self) -> Iterator[FeatureSequence]:
        for index in range(len(self)):
            yield self.read(index)

    def read_all(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return all rows at once: values (sum T, D) float32 and flags (sum T,) uint8.

        Raises:
            StoreError: they cannot be read, or are not all finite.
        """
        try:
            values: NDArray[np.float32] = self._file["values"][:]
            flags: NDArray[np.uint8] = self._file["flags"][:]
        except OSError as error:
            raise StoreError(f"{self.path}, values: {error}. Remove the file and run: dvc repro") from error
        if not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0][0])
            sample = self.ids[int(np.searchsorted(self.offsets, row, side="right")) - 1]
            raise StoreError(f'{self.path}, values of sample "{sample}": not a number. Run: dvc repro -f')
        return values, flags

    def read_rows(
        self, start: int, stop: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
        """Return the rows ``start:stop`` without checking them: values (T, D) and times (T,) float32, flags (T,)
        uint8.

        Raises:
            StoreError: they cannot be read.
        """
        try:
            parts = (self._file[name][start:stop] for name in ("values", "times", "flags"))
            values, times, flags = parts
        except OSError as error:
            raise StoreError(f"{self.path}, rows {start} to {stop}: {error}") from error
        return values, times, flags

    def read_token_rows(self, start: int, stop: int) -> dict[str, Any]:
        """Return the tokens and token_ids of the rows ``start:stop``, (T,) each; an empty dict if it is not text.

        Raises:
            StoreError: they cannot be read.
        """
        if "tokens" not in self._file:
            return {}
        try:
            tokens = self._file["tokens"].asstr()[start:stop]
            return {"tokens": tokens, "token_ids": self._file["token_ids"][start:stop]}
        except (KeyError, OSError, ValueError) as error:
            raise StoreError(f"{self.path}, tokens of the rows {start} to {stop}: {error}") from error

    def read_flags(self) -> NDArray[np.uint8]:
        """Return (sum T,) uint8: 1 where a frame was observed.

        Raises:
            StoreError: they cannot be read.
        """
        try:
            flags: NDArray[np.uint8] = self._file["flags"][:]
        except OSError as error:
            raise StoreError(f"{self.path}, flags: {error}. Remove the file and run: dvc repro") from error
        return flags

    def read_token_ids(self) -> NDArray[np.int64] | None:
        """Return (sum T,) int64 token ids of a text store, or None when it has none."""
        if "token_ids" not in self._file:
            return None
        ids: NDArray[np.int64] = self._file["token_ids"][:]
        return ids


def add_to_checksum(
    checksum: Any, sample_id: str, status: int, reason: str, parts: Mapping[str, Any]
) -> None:
    """Add a sample to the sha256 of a store.

    Args:
        checksum: a sha256 object of hashlib.
        sample_id, status, reason: of the sample. Each text is ended by a zero byte, which no text in HDF5 contains.
        parts: values (T, D), times, flags and, for text, tokens and token_ids, (T,) each.
    """
    texts = [sample_id, reason, *parts.get("tokens", ())]
    checksum.update(struct.pack("<QB", len(parts["times"]), status))
    checksum.update("".join(f"{text}\0" for text in texts).encode())
    for name, dtype in _NUMBERS.items():
        if name in parts:
            checksum.update(np.ascontiguousarray(parts[name], dtype).tobytes())


def open_checked(path: Path, kind: str, schema: int, fix: str) -> Any:
    """Open an HDF5 file read-only and check the kind and schema that it records.

    Raises:
        StoreError: the file is absent, cut short, not HDF5, of another kind or schema; the message names the fix.
    """
    if not path.is_file():
        raise StoreError(f"{path}: there is no such file. Make it with: {fix}")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise StoreError(f"{path}: not a whole HDF5 file ({error}). Remove it and run: {fix}") from error
    if bomb := _declares_what_it_does_not_hold(file):
        file.close()
        raise StoreError(f"{path}, {bomb}. Remove it and run: {fix}")
    found, version = file.attrs.get("kind"), file.attrs.get("schema")
    if found != kind or version != schema:
        file.close()
        raise StoreError(
            f'{path}: found kind "{found}", schema {version}; expected kind "{kind}", schema {schema}. '
            f"Remove it and run: {fix}"
        )
    return file


def _declares_what_it_does_not_hold(file: Any) -> str:
    """Return which array is declared far larger than what the file holds of it, or nothing; no values are read."""
    found: list[str] = []

    def look(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.nbytes > SMALL_BYTES:
            held = node.id.get_storage_size()
            if held * DENSEST < node.nbytes:
                found.append(f"{name}: declares {node.nbytes} bytes, and holds {held}")

    try:
        file.visititems(look)
    except (OSError, RuntimeError, ValueError, KeyError):
        return ""  # whoever reads it says what is damaged
    return found[0] if found else ""


def write_arrays(path: Path, kind: str, schema: int, groups: Mapping[str, Mapping[str, Any]]) -> None:
    """Write groups of arrays and attributes; masks are kept so.

    Args:
        path: the file; it appears there when it is complete.
        kind: the kind of file, checked by :func:`read_arrays`.
        schema: the version of its layout.
        groups: group -> {name: numpy array (a dataset) or str, int, float (an attribute)}; the group "" is the root.
    """
    with HDF5Writing(path) as file:
        file.attrs.update({"kind": kind, "schema": schema})
        for group, items in groups.items():
            target = file.require_group(group) if group else file
            for name, item in items.items():
                if isinstance(item, np.ndarray):
                    text = item.dtype == object
                    dtype = h5py.string_dtype() if text else item.dtype
                    target.create_dataset(name, data=item, dtype=dtype, track_times=False)
                else:
                    target.attrs[name] = item


def read_arrays(path: Path, kind: str, schema: int, fix: str) -> dict[str, dict[str, Any]]:
    """Read back what :func:`write_arrays` wrote (string arrays come as numpy arrays of objects).

    Raises:
        StoreError: as :func:`open_checked`, or a part cannot be read.
    """
    result: dict[str, dict[str, Any]] = {}

    def read(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            group, _, leaf = name.rpartition("/")
            text = h5py.check_string_dtype(node.dtype) is not None
            result.setdefault(group, {})[leaf] = node.asstr()[...] if text else node[...]
        else:
            result.setdefault(name, {}).update(node.attrs)

    with open_checked(path, kind, schema, fix) as file:
        result[""] = dict(file.attrs)
        try:
            file.visititems(read)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: damaged ({error}). Remove it and run: {fix}") from error
    return result


class ForeignArrays:
    """An HDF5 file that somebody else's tools wrote, opened read-only: named arrays, each checked when it is read.

    Args:
        path: the file.
        limit: an array with more values than this is refused before it is read.

    Raises:
        StoreError: the file is absent, or not a complete HDF5 file.
    """

    def __init__(self, path: Path, limit: int = 2**28) -> None:
        self.path, self._limit = path, limit
        if not path.is_file():
            raise StoreError(f"{path}: there is no such file")
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise StoreError(f"{path}: not a whole HDF5 file ({error}); fetch it again") from error

    def __enter__(self) -> ForeignArrays:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def names(self, group: str = "/") -> list[str]:
        """Return the names in a group, sorted.

        Raises:
            StoreError: there is no such group, or it cannot be read.
        """
        try:
            node = self._file[group]
            if not isinstance(node, h5py.Group):
                raise StoreError(f'{self.path}, "{group}": found an array, expected a group')
            return sorted(node)
        except (KeyError, OSError, RuntimeError, ValueError) as error:
            raise StoreError(f'{self.path}, "{group}": cannot be read ({error})') from error

    def __contains__(self, name: str) -> bool:
        return name in self._file

    def is_group(self, name: str) -> bool:
        """Return whether there is a group of that name."""
        return isinstance(self._file.get(name), h5py.Group)

    def read(self, name: str) -> NDArray[Any]:
        """Return an array of numbers, or of strings (as objects, decoded).

        Raises:
            StoreError: it is absent, too large, lies in another file, or its bytes are damaged; the message names it.
        """
        try:
            node = self._file[name]
            here = (
                node.file.filename == self._file.filename
            )  # it is not reached by a link, its own or that of a group above
            if not here or not isinstance(node, h5py.Dataset) or node.external or node.is_virtual:
                raise StoreError(f'{self.path}, "{name}": expected an array that lies in this file')
            if node.size is None or node.size > self._limit:
                raise StoreError(
                    f'{self.path}, "{name}": found {node.size} values, at most {self._limit} are read'
                )
            if node.nbytes > LIMIT_FOREIGN_BYTES:
                raise StoreError(
                    f'{self.path}, "{name}": found {node.nbytes} bytes, at most {LIMIT_FOREIGN_BYTES} are read'
                )
            array: NDArray[Any] = node[...]
            if array.dtype.kind in "SO":
                flat = [v.decode() if isinstance(v, bytes) else str(v) for v in array.ravel()]
                array = np.array(flat, dtype=object).reshape(array.shape)
            return array
        except (KeyError, OSError, RuntimeError, ValueError) as error:
            raise StoreError(f'{self.path}, "{name}": cannot be read ({error})') from error

    def read_cell(self, name: str) -> tuple[str, ...]:
        """Return the texts of a MATLAB cell array: references to arrays of UTF-16 characters.

        Raises:
            StoreError: it is something else, or its bytes are damaged; the message names it.
        """
        try:
            node = self._file[name]
            if (
                not isinstance(node, h5py.Dataset)
                or h5py.check_ref_dtype(node.dtype) is not h5py.Reference
                or node.size > 10_000
            ):
                raise StoreError(f'{self.path}, "{name}": expected a cell array of texts')
            texts = []
            for reference in node[...].ravel():
                characters = self.read(self._file[reference].name)
                if characters.dtype.kind != "u" or characters.dtype.itemsize > 2:
                    raise StoreError(f'{self.path}, "{name}": expected a cell array of texts')
                texts.append(characters.astype("<u2").ravel().tobytes().decode("utf-16-le"))
            return tuple(texts)
        except (KeyError, OSError, RuntimeError, ValueError) as error:
            raise StoreError(f'{self.path}, "{name}": cannot be read ({error})') from error


def write_utterances(path: Path, arrays: Iterable[tuple[str, NDArray[np.float32]]]) -> int:
    """Write one array for each utterance id, at the root of an HDF5 file (MMIN's layout); return how many.

    Raises:
        StoreError: an id cannot be a name in the file, or the disk is full.
    """
    count = 0
    with HDF5Writing(path) as file:
        for name, values in arrays:
            if "/" in name or name in (".", ".."):
                raise StoreError(f'{path}: the id "{name}" cannot be the name of an array')
            file.create_dataset(name, data=values, track_times=False)
            count += 1
    return count
