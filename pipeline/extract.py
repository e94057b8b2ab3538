"""Stages ``extract-<modality>@<dataset>``: a manifest and its media -> data/features/<dataset>/<modality>.h5.

Worker processes go over the clips, each with the model loaded once and one thread: more workers are the one
way to use more cores, and so the bytes of the result depend on no number of threads. A worker that dies is
replaced; a clip that it dies of twice has failed.

Every result is kept at once under data/cache/, by a key of all that it was made from: the media's bytes, the
part of them, the extractor with its settings, weights, code and libraries. A changed or added clip therefore
costs one clip, and a stop at any moment loses only the clips that were being worked on. The store is put
together from these results in the manifest's order.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import inspect
import io
import json
import logging
import multiprocessing
import os
import signal
import time
import zipfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import errors, media
from pipeline.align import Align, aligned
from pipeline.errors import (
    DataError,
    LacunaError,
    MediaError,
    ParamsError,
    StoreError,
    StreamMissing,
    nearest,
)
from pipeline.extractors import base
from pipeline.extractors.base import BaseExtractor, Clip, ExtractorSettings
from pipeline.manifest import MODALITIES, Sample, manifest_checksum, read_manifest, resolve_media
from pipeline.params import Params
from pipeline.stage import run_stage
from pipeline.store import FEATURE_SCHEMA, FeatureInfo, FeatureSequence, FeatureWriter, Status

CACHE = Path("data/cache")
STRIKES = 2  # a clip that so many workers died of has failed
DEATHS = 6  # so many deaths without one result between them are no clip's fault
NAMED_FAILURES = 10

_WORKERS_ENVIRONMENT = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "NUMBA_NUM_THREADS",
        "OPENCV_FOR_THREADS_NUM",
    ),
    "1",
) | {
    "TOKENIZERS_PARALLELISM": "false",
    # Workers have no business on the network, but MediaPipe reports its use to Google: this address answers
    # nobody
    "https_proxy": "http://127.0.0.1:9",
}

log = logging.getLogger("lacuna")


@dataclass(frozen=True)
class Summary:
    """What an extraction came to.

    Attributes:
        ok, missing, failed: samples by status.
        computed: results that were computed now; the others were kept from before, or equal one of these.
        rows: rows of the store; unobserved: those among them that stand for nothing (no face, an unknown
            word).
        seconds: of wall time that computing took.
    """

    ok: int
    missing: int
    failed: int
    computed: int
    rows: int
    unobserved: int
    seconds: float

    def __str__(self) -> str:
        """Return it as one line."""
        total = self.ok + self.missing + self.failed
        rate = f" in {self.seconds:.1f} s ({self.computed / self.seconds:.1f}/s)" if self.computed else ""
        unobserved = (
            f"; {self.unobserved / self.rows:.1%} of {self.rows} rows unobserved" if self.unobserved else ""
        )
        return (
            f"{self.ok} ok, {self.missing} missing, {self.failed} failed; {self.computed} computed{rate}, "
            f"{max(0, total - self.computed)} kept{unobserved}"
        )


def main(params: Params, dataset: str, modality: str) -> None:
    """Extract one modality of one dataset as params.yaml says."""
    if modality not in MODALITIES:
        raise ParamsError(
            f'found the modality "{modality}"; expected one of {MODALITIES}.{nearest(modality, MODALITIES)}'
        )
    chosen = params.dataset(dataset)
    name = chosen.extraction(modality).extractor  # type: ignore[arg-type]
    summary = extract(
        dataset=dataset,
        modality=modality,
        manifest=Path("data/manifests") / f"{dataset}.csv",
        root=chosen.root,
        extractor=name,
        settings=params.extractor_settings(dataset, modality),  # type: ignore[arg-type]
        assets=Path("data/assets") / name,
        store=Path("data/features") / dataset / f"{modality}.h5",
        workers=params.compute.workers,
        max_failed_share=params.compute.max_failed_share,
        align=chosen.extraction(modality).align,  # type: ignore[arg-type]
    )
    log.info("%s %s by %s: %s", dataset, modality, name, summary)


def extract(
    *,
    dataset: str,
    modality: str,
    manifest: Path,
    root: Path,
    extractor: str,
    settings: ExtractorSettings,
    assets: Path,
    store: Path,
    cache: Path = CACHE,
    workers: int | str = "auto",
    max_failed_share: float = 0.05,
    align: Align = "none",
    progress: bool = True,
) -> Summary:
    """Write the feature store of one modality of a dataset.

    Args:
        dataset: its name, kept in the store.
        modality: text, audio or video.
        manifest: the dataset's manifest.
        root: the folder that the manifest's paths are relative to.
        extractor: the name of a file in pipeline/extractors/<modality>/.
        settings: an object of that extractor's ``Settings``.
        assets: the folder with its weights.
        store: the file to write; it takes its place when whole.
        cache: where results are kept by content.
        workers: processes, or "auto" for one a core.
        max_failed_share: of the samples that may fail; missing ones do not count as failed.
        align: rows averaged over words, or resampled to this many (pipeline/align.py).
        progress: show a bar with rate and time left.

    Raises:
        DataError: the manifest is bad, or too many clips failed; the results are kept all the same.
        AssetError, SystemLibraryError: the extractor cannot work here.
        StoreError: the disk is full or cannot be written.
    """
    samples = read_manifest(manifest)
    clips = [clip_of(sample, root) for sample in samples]
    owner = base.find(modality, extractor)
    with _closing(owner(settings, assets)) as instance:
        versions = _versions(owner)
        info = FeatureInfo(
            dataset=dataset,
            modality=modality,
            extractor=extractor,
            settings=settings.model_dump(mode="json") | ({} if align == "none" else {"align": align}),
            columns=instance.columns,
            frame_period_s=instance.frame_period_s if align == "none" else None,
            manifest_sha256=manifest_checksum(manifest),
            versions=versions,
        )
        made_with = _made_with(instance, extractor, versions)
    keys = _keys_by_id(clips, made_with) if owner.by_id else _keys(clips, modality, made_with)
    job = _Job(
        modality,
        extractor,
        settings.model_dump_json(),
        assets,
        cache / modality / extractor,
        len(info.columns),
    )
    begin = time.perf_counter()
    todo = _first_of_each(keys, lambda key: not job.entry(key).is_file())
    unkept = _compute(
        job, clips, keys, todo, owner.batch, workers, f"{dataset} {modality}" if progress else ""
    )
    computed = len(todo)
    damaged = _damaged(job, keys, set(todo))
    if damaged:
        log.warning("%d kept result(s) are damaged and computed again", len(damaged))
        unkept |= _compute(job, clips, keys, damaged, owner.batch, workers, "again" if progress else "")
        computed += len(damaged)
    seconds = time.perf_counter() - begin
    results = (
        aligned(result, sample.words, align)
        for sample, result in zip(samples, _results(job, keys, unkept), strict=True)
    )
    return _assemble(
        store, info, [sample.id for sample in samples], results, max_failed_share, computed, seconds
    )


def clip_of(sample: Sample, root: Path) -> Clip:
    """Return a manifest's row as extractors get it.

    Raises:
        DataError: a path leaves the root.
    """
    return Clip(
        id=sample.id,
        video=resolve_media(root, sample.video_path) if sample.video_path else None,
        audio=resolve_media(root, sample.audio_path) if sample.audio_path else None,
        start_s=sample.start_s,
        end_s=sample.end_s,
        audio_start_s=sample.audio_start_s,
        audio_end_s=sample.audio_end_s,
        picture=sample.picture,
        text=sample.text,
        words=sample.words,
    )


def _assemble(
    store: Path,
    info: FeatureInfo,
    ids: Sequence[str],
    results: Iterator[FeatureSequence],
    max_failed_share: float,
    computed: int,
    seconds: float,
) -> Summary:
    counts: Counter[Status] = Counter()
    failures: list[str] = []
    rows = unobserved = 0
    with FeatureWriter(store, info) as writer:
        for sample_id, result in zip(ids, results, strict=True):
            writer.append(sample_id, result)
            counts[result.status] += 1
            rows += len(result.flags)
            unobserved += int((result.flags == 0).sum())
            if result.status is Status.FAILED:
                failures.append(f"  {sample_id}: {result.reason}")
        if len(failures) > max_failed_share * len(ids):
            more = len(failures) - NAMED_FAILURES
            raise DataError(
                f"{info.dataset}, {info.modality}: {len(failures)} of {len(ids)} clips failed, more than the "
                f"{max_failed_share:.0%} that compute.max_failed_share allows:\n"
                + "\n".join(failures[:NAMED_FAILURES])
                + (f"\n  and {more} more" if more > 0 else "")
                + "\nThe other results are kept. Mend or remove these clips, or raise "
                "compute.max_failed_share, and run: dvc repro"
            )
    for line in failures[:NAMED_FAILURES]:
        log.warning("failed:%s", line[1:])
    return Summary(
        counts[Status.OK], counts[Status.MISSING], counts[Status.FAILED], computed, rows, unobserved, seconds
    )


# --- keys: what a result was made from ------------------------------------------------


def _versions(owner: type[BaseExtractor[Any]]) -> dict[str, str]:
    names = owner.libraries if owner.modality == "text" else (*owner.libraries, "av")
    return {name: importlib.metadata.version(name) for name in sorted(set(names))}


def _made_with(instance: BaseExtractor[Any], name: str, versions: dict[str, str]) -> str:
    """Return the part of every key that all clips share."""
    code = [Path(inspect.getfile(type(instance))), Path(str(base.__file__))]
    code += [Path(str(importlib.import_module(part).__file__)) for part in instance.parts]
    if instance.modality != "text":
        code.append(Path(media.__file__))
    record = instance.assets / "asset.json"
    return json.dumps(
        [
            FEATURE_SCHEMA,
            instance.modality,
            name,
            instance.settings.model_dump(mode="json"),
            _digest(record) if record.is_file() else "",
            [_digest(path) for path in code],
            [_digest(path) for path in instance.files],
            versions,
        ],
        sort_keys=True,
    )


def _keys(clips: Sequence[Clip], modality: str, made_with: str) -> list[str | None]:
    """Return each clip's key, or None where its file cannot be read: nothing is kept of that."""
    paths = {path for clip in clips if (path := _file(clip, modality)) is not None}
    with ThreadPoolExecutor(max_workers=4) as pool:
        digests = dict(zip(paths, pool.map(_digest_or_none, paths), strict=True))
    keys: list[str | None] = []
    for clip in clips:
        path = _file(clip, modality)
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
        content = json.dumps([made_with, digest, path is None, meant], sort_keys=True)
        keys.append(hashlib.sha256(content.encode()).hexdigest())
    return keys


def _keys_by_id(clips: Sequence[Clip], made_with: str) -> list[str | None]:
    """Return each clip's key when its media are not read: what it is called, where it lies in its file."""
    keys: list[str | None] = []
    for clip in clips:
        names = [path.name if path else "" for path in (clip.video, clip.audio)]
        words = [asdict(word) for word in clip.words]
        times = [clip.start_s, clip.end_s, clip.audio_start_s, clip.audio_end_s]
        meant = json.dumps([made_with, clip.id, names, times, clip.text, words])
        keys.append(hashlib.sha256(meant.encode()).hexdigest())
    return keys


def _file(clip: Clip, modality: str) -> Path | None:
    return {"text": None, "audio": clip.audio, "video": clip.video}[modality]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_or_none(path: Path) -> str | None:
    try:
        return _digest(path) if path.is_file() else None
    except OSError:
        return None


def _first_of_each(keys: Sequence[str | None], wanted: Callable[[str], bool]) -> list[int]:
    """Return what to compute: each clip without a key, and the first of those that share a wanted key."""
    seen: set[str] = set()
    chosen = []
    for index, key in enumerate(keys):
        if key is None or (key not in seen and wanted(key)):
            chosen.append(index)
        if key is not None:
            seen.add(key)
    return chosen


# --- results, kept by key -------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """What a worker must know; it travels to other processes."""

    modality: str
    extractor: str
    settings: str
    assets: Path
    cache: Path
    dims: int

    def entry(self, key: str) -> Path:
        """Return the file of a result."""
        return self.cache / key[:2] / f"{key}.npz"


def _write_entry(path: Path, result: FeatureSequence) -> None:
    """Keep a result, whole or not at all.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    text = json.dumps({"status": int(result.status), "reason": result.reason, "tokens": result.tokens})
    arrays: dict[str, Any] = {"values": result.values, "times": result.times, "flags": result.flags}
    if result.token_ids is not None:
        arrays["token_ids"] = result.token_ids
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, text=np.frombuffer(text.encode(), np.uint8), **arrays)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_bytes(buffer.getbuffer())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path}: writing failed: {error}. Is the disk full?") from error


def _read_entry(path: Path, dims: int) -> FeatureSequence | None:
    """Return a kept result, or None when its file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            text = json.loads(arrays["text"].tobytes())
            result = FeatureSequence(
                values=arrays["values"],
                times=arrays["times"],
                flags=arrays["flags"],
                status=Status(text["status"]),
                reason=text["reason"],
                tokens=tuple(text["tokens"]),
                token_ids=arrays.get("token_ids"),
            )
        result.check(dims, str(path))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, StoreError):
        return None
    return result


def _sweep(cache: Path, processes: set[int | None]) -> None:
    """Remove what these ended processes, or others long ago, had begun to write."""
    for part in cache.glob("*/.*.part"):
        process = part.name.split(".")[-2]
        with suppress(OSError):
            if process in map(str, processes) or part.stat().st_mtime < time.time() - 86_400:
                part.unlink()


def _damaged(job: _Job, keys: Sequence[str | None], fresh: set[int]) -> list[int]:
    """Return the indices whose results were kept before, and cannot be read now."""
    kept = [None if index in fresh else key for index, key in enumerate(keys)]
    chosen = _first_of_each(kept, lambda key: _read_entry(job.entry(key), job.dims) is None)
    damaged = [index for index in chosen if kept[index] is not None]
    computed = {keys[index] for index in fresh}
    damaged = [index for index in damaged if keys[index] not in computed]
    for index in damaged:
        job.entry(str(keys[index])).unlink(missing_ok=True)
    return damaged


def _results(
    job: _Job, keys: Sequence[str | None], unkept: dict[int, FeatureSequence]
) -> Iterator[FeatureSequence]:
    """Yield every clip's result in order."""
    by_key = {keys[index]: result for index, result in unkept.items() if keys[index] is not None}
    for index, key in enumerate(keys):
        if index in unkept:
            yield unkept[index]
        elif key in by_key:
            yield by_key[key]
        else:
            result = _read_entry(job.entry(str(key)), job.dims)
            if result is None:
                raise StoreError(f"{job.entry(str(key))}: changed while it was used. Run: dvc repro")
            yield result


# --- processes ------------------------------------------------------------------------


def _compute(
    job: _Job,
    clips: Sequence[Clip],
    keys: Sequence[str | None],
    todo: Sequence[int],
    batch: int,
    workers: int | str,
    title: str,
) -> dict[int, FeatureSequence]:
    """Compute the clips of ``todo``; return the results that are not kept: unreadable files, odd errors."""
    if not todo:
        return {}
    count = _cores() if workers == "auto" else int(workers)
    if batch > 1:
        batch = max(1, min(batch, -(-len(todo) // count)))
        todo = sorted(todo, key=lambda index: (len(clips[index].text), index))
    queue = deque(list(todo[start : start + batch]) for start in range(0, len(todo), batch))
    from tqdm import tqdm

    terminal = os.isatty(2)
    with tqdm(
        total=len(todo), desc=title, unit="clip", disable=not title, mininterval=0.2 if terminal else 30.0
    ) as bar:
        pool = _Pool(job, clips, keys, queue, min(count, len(queue)), bar.update)
        return pool.run()


class _Pool:
    """Worker processes, each with one batch at a time: nothing piles up, and a death costs one batch."""

    def __init__(
        self,
        job: _Job,
        clips: Sequence[Clip],
        keys: Sequence[str | None],
        queue: deque[list[int]],
        count: int,
        done: Callable[[int], object],
    ) -> None:
        self._job, self._clips, self._keys, self._queue = job, clips, keys, queue
        self._count, self._done = count, done
        self._workers: list[_Worker] = []
        self._unkept: dict[int, FeatureSequence] = {}
        self._strikes: Counter[int] = Counter()
        self._deaths = 0
        self._started: set[int | None] = set()

    def run(self) -> dict[int, FeatureSequence]:
        """Work the queue off, and leave no process behind, whatever happens."""
        try:
            while self._queue or any(worker.doing for worker in self._workers):
                while len(self._workers) < self._count and self._queue:
                    self._workers.append(_Worker(self._job))
                    self._started.add(self._workers[-1].process.pid)
                self._feed()
                waiting = [worker.connection for worker in self._workers if worker.doing]
                for connection in wait([*waiting, *(w.process.sentinel for w in self._workers)]):
                    self._serve(connection)
            for worker in self._workers:
                worker.say_goodbye()
            return self._unkept
        finally:
            for worker in self._workers:
                worker.stop()
            _sweep(self._job.cache, self._started)

    def _feed(self) -> None:
        for worker in self._workers:
            if not worker.doing and self._queue:
                worker.doing = self._queue.popleft()
                worker.tell([(index, self._keys[index], self._clips[index]) for index in worker.doing])

    def _serve(self, ready: Any) -> None:
        """Take a message from a worker, or bury it."""
        worker = next((w for w in self._workers if ready in (w.connection, w.process.sentinel)), None)
        if worker is None:
            return
        try:
            while worker.connection.poll():
                index, kept, result = worker.connection.recv()
                if index < 0:
                    raise getattr(errors, kept)(result)
                self._deaths = 0
                worker.doing.remove(index)
                if not kept:
                    self._unkept[index] = result
                self._done(1)
        except (EOFError, OSError):
            self._bury(worker)
            return
        if not worker.process.is_alive() and not worker.connection.poll():
            self._bury(worker)

    def _bury(self, worker: _Worker) -> None:
        worker.process.join()
        self._workers.remove(worker)
        worker.connection.close()
        self._deaths += 1
        code = worker.process.exitcode or 0
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        if self._deaths >= DEATHS:
            ids = ", ".join(self._clips[index].id for index in worker.doing[:3])
            raise LacunaError(
                f"{self._job.modality} extractor {self._job.extractor}: {self._deaths} worker processes died "
                f"one after another, the last {how}, at {ids or 'the start'}. What they wrote stands above. "
                "Is there enough memory for compute.workers processes?"
            )
        for index in reversed(worker.doing):
            self._strikes[index] += 1
            if self._strikes[index] >= STRIKES:
                reason = f"{STRIKES} worker processes died of it, the last {how}"
                self._unkept[index] = FeatureSequence.absent(self._job.dims, Status.FAILED, reason)
                self._done(1)
            else:
                self._queue.appendleft([index])
        log.warning("a worker process died %s; another takes over", how)


class _Worker:
    """One process, the pipe to it, and the indices that it is working on."""

    def __init__(self, job: _Job) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.doing: list[int] = []
        self.process = context.Process(target=_work, args=(theirs, job), daemon=True)
        with _environment(_WORKERS_ENVIRONMENT):
            self.process.start()
        theirs.close()

    def tell(self, work: list[tuple[int, str | None, Clip]] | None) -> None:
        """Send a batch, or None for the end. A dead worker's silence is noticed by whoever waits for it."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(work)

    def say_goodbye(self) -> None:
        """Let the worker end by itself, and so close its model."""
        self.tell(None)
        self.process.join(timeout=10)

    def stop(self) -> None:
        """End the process, whatever it does."""
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()


def _work(connection: Connection, job: _Job) -> None:
    """Serve batches until told to end, or until nobody is there any more; the main function of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        owner = base.find(job.modality, job.extractor)
        with _closing(owner(owner.Settings.model_validate_json(job.settings), job.assets)) as extractor:
            while (work := connection.recv()) is not None:
                results = extractor.extract_batch([clip for _, _, clip in work])
                for (index, key, _), result in zip(work, results, strict=True):
                    connection.send(_finish(job, index, key, result))
    except LacunaError as error:
        connection.send((-1, type(error).__name__, str(error)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass


def _finish(
    job: _Job, index: int, key: str | None, result: FeatureSequence | Exception
) -> tuple[int, bool, FeatureSequence | None]:
    """Make an exception a status and keep what may be kept; an error that is no clip's fault goes on."""
    lasting = key is not None
    if isinstance(result, StreamMissing):
        result = FeatureSequence.absent(job.dims, Status.MISSING, str(result))
    elif isinstance(result, MediaError):
        result = FeatureSequence.absent(job.dims, Status.FAILED, str(result))
    elif isinstance(result, LacunaError):
        raise result
    elif isinstance(result, Exception):
        lasting = False
        result = FeatureSequence.absent(job.dims, Status.FAILED, f"{type(result).__name__}: {result}")
    try:
        result.check(job.dims, job.extractor)
    except StoreError as error:
        lasting = False
        result = FeatureSequence.absent(job.dims, Status.FAILED, str(error))
    if lasting and key is not None:
        _write_entry(job.entry(key), result)
        return index, True, None
    return index, False, result


@contextmanager
def _closing(extractor: BaseExtractor[Any]) -> Iterator[BaseExtractor[Any]]:
    try:
        yield extractor
    finally:
        extractor.close()


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that are started within the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


if __name__ == "__main__":
    run_stage(main)
