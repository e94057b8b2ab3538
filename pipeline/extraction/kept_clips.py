"""The cache of extracted clips. A result's key is a hash of all that it was made from: media, extractor, code, ...

A folder holds pairs of files, one pair for each process that wrote: ``<name>.results`` contains one result after
another, ``<name>.index`` a record of fixed size for each, written after the result: key, place, length and
checksum. Nothing is ever rewritten, so that several stages may share the folder. A result that is incomplete
because of a kill, a crash or a full disk has no record, or not the recorded checksum: it counts as not kept, and
is computed again. To keep the results of a batch of clips takes two writes, and no file for each clip.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import json
import os
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.files import file_sha256
from pipeline.data.store import FEATURE_SCHEMA, FeatureSequence, Status
from pipeline.errors import StoreError
from pipeline.extraction.extractors import base
from pipeline.extraction.extractors.base import BaseExtractor, Clip

RECORD = struct.Struct("<32sQQI")  # key, place in the file, length, CRC-32


# --- keys -----------------------------------------------------------------------------


def versions_of(owner: type[BaseExtractor[Any]]) -> dict[str, str]:
    """Return the versions of the libraries that can change an extractor's numbers."""
    names = owner.libraries if owner.modality == "text" else (*owner.libraries, "av")
    return {name: importlib.metadata.version(name) for name in sorted(set(names))}


def made_with(instance: BaseExtractor[Any], name: str) -> str:
    """Return the part of the key that is the same for all clips: extractor, settings, weights, code, libraries."""
    shared = () if instance.modality == "text" else ("pipeline.extraction.media", "pipeline.data.wav_header")
    modules = (type(instance).__module__, base.__name__, *instance.parts, *shared)
    code = [Path(str(importlib.import_module(module).__file__)) for module in modules]
    record = instance.assets / "asset.json"
    return json.dumps(
        [
            FEATURE_SCHEMA,
            instance.modality,
            name,
            instance.settings.model_dump(mode="json"),
            file_sha256(record) if record.is_file() else "",
            [file_sha256(path) for path in code],
            [file_sha256(path) for path in instance.files],
            versions_of(type(instance)),
        ],
        sort_keys=True,
    )


def keys_of(clips: Sequence[Clip], instance: BaseExtractor[Any], shared: str) -> list[str | None]:
    """Return the key of each clip's result.

    Args:
        clips: N clips.
        instance: the extractor.
        shared: what :func:`made_with` gives.

    Returns:
        N keys of 64 hexadecimal digits; None for a clip whose file cannot be read: its result is not kept.
    """
    if instance.by_id:
        return _keys_by_id(clips, shared)
    return _keys_by_content(clips, instance.modality, shared)


def _keys_by_content(clips: Sequence[Clip], modality: str, shared: str) -> list[str | None]:
    paths = {path for clip in clips if (path := file_of(clip, modality)) is not None}
    with ThreadPoolExecutor(max_workers=4) as pool:
        digests = dict(zip(paths, pool.map(_digest_or_none, paths), strict=True))
    keys: list[str | None] = []
    for clip in clips:
        path = file_of(clip, modality)
        digest = "" if path is None else digests[path]
        if digest is None:
            keys.append(None)
            continue
        meant: list[Any]
        if modality == "text":
            meant = [clip.text, [asdict(word) for word in clip.words]]
        elif modality == "audio":
            same = clip.audio == clip.video
            meant = [
                same,
                clip.audio_start_s,
                clip.audio_end_s,
                *((clip.start_s, clip.end_s) if same else ()),
            ]
        else:
            meant = [clip.start_s, clip.end_s, clip.picture]
        content = json.dumps([shared, digest, path is None, meant], sort_keys=True)
        keys.append(hashlib.sha256(content.encode()).hexdigest())
    return keys


def _keys_by_id(clips: Sequence[Clip], shared: str) -> list[str | None]:
    """Return the keys for an extractor that reads no media: from each clip's id, file names, times and transcript."""
    keys: list[str | None] = []
    for clip in clips:
        names = [path.name if path else "" for path in (clip.video, clip.audio)]
        words = [asdict(word) for word in clip.words]
        times = [clip.start_s, clip.end_s, clip.audio_start_s, clip.audio_end_s]
        meant = json.dumps([shared, clip.id, names, times, clip.picture, clip.text, words])
        keys.append(hashlib.sha256(meant.encode()).hexdigest())
    return keys


def file_of(clip: Clip, modality: str) -> Path | None:
    """Return the media file that a modality is extracted from; None for text, or if the clip has none."""
    return {"text": None, "audio": clip.audio, "video": clip.video}[modality]


def _digest_or_none(path: Path) -> str | None:
    try:
        return file_sha256(path) if path.is_file() else None
    except OSError:
        return None


# --- results --------------------------------------------------------------------------


class ResultWriter:
    """Keeps results in a folder. Each process needs a writer of its own, which writes its own pair of files.

    Use it as a context manager. The files are created with the first result.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: tuple[int, int] | None = None
        self._place = 0

    def __enter__(self) -> ResultWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files or ():
            os.close(file)
        self._files, self._place = None, 0

    def keep(self, results: Sequence[tuple[str, FeatureSequence]]) -> None:
        """Keep results under their keys.

        Raises:
            StoreError: the disk is full or cannot be written.
        """
        if not results:
            return
        data, records = [], []
        place = self._place
        for key, result in results:
            encoded = _encode(result)
            records.append(RECORD.pack(bytes.fromhex(key), place, len(encoded), zlib.crc32(encoded)))
            data.append(encoded)
            place += len(encoded)
        try:
            results_file, index_file = self._open()
            _write_all(results_file, b"".join(data))
            _write_all(index_file, b"".join(records))
        except OSError as error:
            self.__exit__()  # later results go into new files
            raise StoreError(f"{self._folder}: writing failed: {error}. Is the disk full?") from error
        self._place = place

    def _open(self) -> tuple[int, int]:
        if self._files is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            name = f"{time.time_ns():020d}-{os.getpid()}"  # names sort by time
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            paths = [self._folder / f"{name}{suffix}" for suffix in (".results", ".index")]
            first = os.open(paths[0], flags, 0o666)
            try:
                self._files = first, os.open(paths[1], flags, 0o666)
            except OSError:
                os.close(first)
                raise
        return self._files


class KeptResults:
    """The results in a folder. :meth:`refresh` reads which of the wanted keys there are.

    Args:
        folder: it may not exist yet.
        dims: the number of columns of a result; one with another number counts as damaged.
    """

    def __init__(self, folder: Path, dims: int) -> None:
        self._folder, self._dims = folder, dims
        self._places: dict[str, tuple[Path, int, int, int]] = {}

    def refresh(self, wanted: set[str]) -> None:
        """Look up which of these keys have a result."""
        self._places = {}
        raw = {bytes.fromhex(key): key for key in wanted}
        for index in sorted(self._folder.glob("*.index")):
            try:
                records = index.read_bytes()
            except OSError:
                continue
            path = index.with_suffix(".results")
            whole = len(records) - len(records) % RECORD.size
            for key, place, length, checksum in RECORD.iter_unpack(records[:whole]):
                if key in raw:
                    self._places[raw[key]] = path, place, length, checksum

    def __contains__(self, key: str) -> bool:
        return key in self._places

    @contextmanager
    def reader(self) -> Iterator[_Reader]:
        """Yield a function that returns the result of a key, or None if there is none or it is damaged."""
        reader = _Reader(self._places, self._dims)
        try:
            yield reader
        finally:
            reader.close()


class _Reader:
    """Reads results, and keeps their files open until it is closed."""

    def __init__(self, places: dict[str, tuple[Path, int, int, int]], dims: int) -> None:
        self._places, self._dims = places, dims
        self._open: dict[Path, int] = {}

    def __call__(self, key: str) -> FeatureSequence | None:
        if key not in self._places:
            return None
        path, place, length, checksum = self._places[key]
        try:
            if path not in self._open:
                if len(self._open) >= 64:
                    self.close()
                self._open[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            data = os.pread(self._open[path], length, place)
        except OSError:
            return None
        if len(data) != length or zlib.crc32(data) != checksum:
            return None
        return _decode(data, self._dims)

    def close(self) -> None:
        """Close the files."""
        for file in self._open.values():
            os.close(file)
        self._open = {}


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _encode(result: FeatureSequence) -> bytes:
    from safetensors.numpy import save

    facts = {"status": int(result.status), "reason": result.reason, "tokens": result.tokens}
    text = json.dumps(facts | ({"unseen": result.unseen} if result.unseen else {}))
    arrays: dict[str, Any] = {
        "values": result.values,
        "times": result.times,
        "flags": result.flags,
        "text": np.frombuffer(text.encode(), np.uint8),
    }
    if result.token_ids is not None:
        arrays["token_ids"] = result.token_ids
    data: bytes = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    return data


def _decode(data: bytes, dims: int) -> FeatureSequence | None:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(data)
        text = json.loads(arrays["text"].tobytes())
        result = FeatureSequence(
            values=arrays["values"],
            times=arrays["times"],
            flags=arrays["flags"],
            status=Status(text["status"]),
            reason=text["reason"],
            tokens=tuple(text["tokens"]),
            token_ids=arrays.get("token_ids"),
            unseen=int(text.get("unseen", 0)),
        )
        result.check(dims, "kept result")
    except (SafetensorError, ValueError, KeyError, TypeError, StoreError):
        return None
    return result
