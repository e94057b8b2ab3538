"""Shares clips among workers: processes of this machine, or actors of a Ray cluster.

A worker loads the model once, uses one thread, and gets one batch of clips at a time, so that at most one batch is
lost when a worker dies. The worker is replaced, and its clips go to the end of the queue; a clip has failed once two
workers have died while they worked on it. The engine and the number of workers change no byte of the results.

On a Ray cluster every node must see the project's folder and the media under the same paths (a shared file
system), because workers get the paths of the clips and not their bytes. A worker compares its code, weights,
settings and libraries with those of the machine that started the stage, and stops the stage if they differ.
Results are sent back to that machine and kept there. The clips of a lost node are given to the other nodes.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

from pipeline import errors
from pipeline.data.store import FeatureSequence, Status
from pipeline.errors import LacunaError
from pipeline.extraction.extractors import base
from pipeline.extraction.extractors.base import BaseExtractor, Clip
from pipeline.extraction.kept_clips import ResultWriter, file_of, made_with
from pipeline.extraction.offline import NO_NETWORK
from pipeline.logs import log_to_stderr
from pipeline.machine import usable_cores

Engine = Literal["processes", "ray"]

STRIKES = 2  # a clip has failed when this many workers died while they worked on it
LOSSES = 5  # or when it was lost this many times together with a node of the cluster
# The stage stops when this many workers die one after another, without a result in between:
DEATHS = 6  # before they are ready
DEATHS_AT_WORK = 50  # while they work on clips: so many clips cannot all be the cause
DEATHS_AT_FIRST = 6  # while they work on clips, if no clip has been extracted yet
SAME = (
    10  # the stage also stops when this many clips, the first ones, all fail with the same unexpected error
)
PATIENCE_S = 30.0  # a warning is logged when the cluster has had no free processor for so long

_ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "NUMBA_NUM_THREADS",
        "OPENCV_FOR_THREADS_NUM",
    ),
    "1",
) | {"TOKENIZERS_PARALLELISM": "false"}

log = logging.getLogger("lacuna")


@dataclass(frozen=True)
class Job:
    """What a worker must know of the work; it is sent to other processes and machines.

    Attributes:
        modality, extractor: the names of the modality and of its extractor.
        settings: the extractor's settings, as JSON.
        assets: the folder with its weights.
        cache: the folder where results are kept.
        dims: the number of columns of a result.
        made_with: the part of a kept result's key that all clips share (pipeline/extraction/kept_clips.py).
    """

    modality: str
    extractor: str
    settings: str
    assets: Path
    cache: Path
    dims: int
    made_with: str = ""


Work = list[tuple[int, str | None, Clip]]  # index, key, clip
Done = list[tuple[int, FeatureSequence | None]]  # index, and the result unless it is kept already


@dataclass(frozen=True)
class Fault:
    """An error that no clip caused, in the form in which a worker sends it. It stops the stage."""

    kind: str
    message: str

    @classmethod
    def of(cls, error: LacunaError, where: str = "") -> Fault:
        """Return the form in which a worker sends an error."""
        return cls(type(error).__name__, f"{where}{error}")

    def error(self) -> LacunaError:
        """Return the error as an exception."""
        found: LacunaError = getattr(errors, self.kind)(self.message)
        return found


def compute(
    job: Job,
    clips: Sequence[Clip],
    keys: Sequence[str | None],
    todo: Sequence[int],
    workers: int | str = "auto",
    title: str = "",
    engine: Engine = "processes",
    address: str = "auto",
    timeout_s: float = 3600.0,
) -> dict[int, FeatureSequence]:
    """Compute and keep the results of some clips.

    Args:
        job: the extractor, and where to keep results.
        clips: N clips.
        keys: N keys; None for a clip whose result may not be kept.
        todo: indices of the clips to compute.
        workers: how many; "auto" is one for each core of the machine or of the cluster.
        title: of the progress bar; without a title there is none.
        engine: where the workers run.
        address: of the Ray cluster.
        timeout_s: a clip that takes longer has failed, and its worker is stopped: a decoder may hang.

    Returns:
        The results that are not kept, by index: of unreadable files, of unexpected errors, and of clips on which
        workers died or took too long.

    Raises:
        LacunaError: the cause is not a clip: weights are missing, the disk is full, there is no such cluster.
    """
    if not todo:
        return {}
    from tqdm import tqdm

    terminal = os.isatty(2)
    with tqdm(
        total=len(todo), desc=title, unit="clip", disable=not title, mininterval=0.2 if terminal else 30.0
    ) as bar:
        pool: _Pool
        if engine == "ray":
            pool = _RayPool(job, clips, keys, bar.update, timeout_s, address)
        else:
            pool = _ProcessPool(job, clips, keys, bar.update, timeout_s)
        return pool.run(todo, workers)


# --- what a worker does ---------------------------------------------------------------


def extract_all(
    job: Job, extractor: BaseExtractor[Any], work: Work
) -> list[tuple[int, bool, FeatureSequence]]:
    """Return for each clip its index, whether its result may be kept, and the result.

    Raises:
        LacunaError: an error whose cause is not a clip.
    """
    clips = [clip for _, _, clip in work]
    try:
        results = extractor.extract_batch(clips)
    except LacunaError:
        raise
    except Exception as error:  # noqa: BLE001 - one clip must not stop the others
        results = [error]
        if len(clips) > 1:
            log.warning("%s: a batch failed (%s); its clips go one by one", job.extractor, error)
            return [each for one in work for each in extract_all(job, extractor, [one])]
    return [
        (index, *base.with_status(result, job.dims, job.extractor))
        for (index, _, _), result in zip(work, results, strict=True)
    ]


def keep_all(writer: ResultWriter, work: Work, results: Sequence[tuple[int, bool, FeatureSequence]]) -> Done:
    """Keep the results that may be kept, in one go. Return the indices of all, with the results that were not kept.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    keys = {index: key for index, key, _ in work}
    kept = {index: key for index, lasting, _ in results if lasting and (key := keys[index]) is not None}
    writer.keep([(kept[index], result) for index, _, result in results if index in kept])
    return [(index, None if index in kept else result) for index, _, result in results]


def make_extractor(job: Job) -> BaseExtractor[Any]:
    """Return an extractor as the job describes it."""
    owner = base.find(job.modality, job.extractor)
    return owner(owner.Settings.model_validate_json(job.settings), job.assets)


def keep_compiled_code() -> None:
    """Let numba keep the machine code that it makes of librosa's functions in the user's cache.

    It would keep it beside librosa's files, where a new set-up has none and a shared one may not be written: the first
    clip then takes 25 s of CPU more. Where the folder cannot be written, numba does as it would.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    os.environ.setdefault("NUMBA_CACHE_DIR", str(cache / "lacuna" / "numba"))


def prepare(extractor: BaseExtractor[Any]) -> None:
    """Let the extractor load what it needs.

    Raises:
        LacunaError: loading failed. No clip has been read yet, so no clip is the cause.
    """
    keep_compiled_code()
    try:
        extractor.prepare()
    except LacunaError:
        raise
    except Exception as error:
        name = type(extractor).__module__.rpartition(".")[2]
        raise LacunaError(
            f"the {extractor.modality} extractor {name} cannot be made ready: {type(error).__name__}: {error}"
        ) from error


@contextmanager
def closing(extractor: BaseExtractor[Any]) -> Iterator[BaseExtractor[Any]]:
    """Close the extractor at the block's end."""
    try:
        yield extractor
    finally:
        extractor.close()


# --- what all pools share -------------------------------------------------------------


class _Worker(ABC):
    """A worker as its pool sees it: the indices that it is working on, since when, and whether it can take some."""

    doing: list[int]
    since_s: float = 0.0  # of the clock that never goes back
    ready: bool

    @abstractmethod
    def tell(self, work: Work) -> None:
        """Send a batch."""

    @abstractmethod
    def say_goodbye(self) -> None:
        """Let the worker close its model and end by itself."""

    @abstractmethod
    def stop(self) -> None:
        """End the worker at once."""


@dataclass(frozen=True)
class _Death:
    """How a worker ended, whether its clip may be the cause, and whether it was stopped because it took too long."""

    how: str
    blame: bool = True
    late: bool = False


class _Pool(ABC):
    """The workers, the queue of batches, and the results that are not kept."""

    def __init__(
        self,
        job: Job,
        clips: Sequence[Clip],
        keys: Sequence[str | None],
        done: Callable[[int], object],
        timeout_s: float,
    ) -> None:
        self._job, self._clips, self._keys, self._done = job, clips, keys, done
        self._timeout_s = timeout_s
        self._queue: deque[list[int]] = deque()
        self._workers: list[Any] = []
        self._unkept: dict[int, FeatureSequence] = {}
        self._strikes: Counter[int] = Counter()
        self._losses: Counter[int] = Counter()
        self._deaths = self._deaths_at_work = 0  # since the last result
        self._first = True  # no result yet, except clips that failed with the same unexpected error
        self._same: Counter[str] = Counter()

    @abstractmethod
    def _cores(self) -> int:
        """Return how many workers can run at present."""

    @abstractmethod
    def _start(self) -> _Worker:
        """Start a worker."""

    @abstractmethod
    def _wait(self) -> Iterator[tuple[Any, Done | Fault | _Death]]:
        """Wait until something happens; yield workers and what came from them."""

    def run(self, todo: Sequence[int], workers: int | str) -> dict[int, FeatureSequence]:
        """Extract the clips; all workers are stopped at the end, whether it succeeds or fails."""
        try:
            self._fill(todo, self._wanted(workers))
            while self._queue or any(worker.doing for worker in self._workers):
                free = sum(not worker.doing for worker in self._workers)
                while free < len(self._queue) and len(self._workers) < self._wanted(workers):
                    self._workers.append(self._start())
                    free += 1
                for worker in self._workers:
                    if worker.ready and not worker.doing and self._queue:
                        worker.doing, worker.since_s = self._queue.popleft(), time.monotonic()
                        worker.tell([(i, self._keys[i], self._clips[i]) for i in worker.doing])
                for worker, came in self._wait():
                    self._take(worker, came)
                self._stop_late()
            for worker in self._workers:
                worker.say_goodbye()
            return self._unkept
        finally:
            for worker in self._workers:
                worker.stop()
            self._end()

    def _end(self) -> None:  # noqa: B027 - optional for a subclass
        """Release what the pool holds."""

    def _left_s(self) -> float | None:
        """Return the seconds until the next worker exceeds its time limit; None if no worker is busy."""
        ends = [
            worker.since_s + self._timeout_s * len(worker.doing) for worker in self._workers if worker.doing
        ]
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def _stop_late(self) -> None:
        now = time.monotonic()
        for worker in list(self._workers):
            if worker.doing and now > worker.since_s + self._timeout_s * len(worker.doing):
                how = f"after more than {self._timeout_s:g} s a clip (compute.clip_timeout_s)"
                self._bury(worker, _Death(how, late=True))

    def _wanted(self, workers: int | str) -> int:
        return max(1, self._cores()) if workers == "auto" else int(workers)

    def _fill(self, todo: Sequence[int], count: int) -> None:
        batch = base.find(self._job.modality, self._job.extractor).batch
        if batch > 1:  # clips of similar length come into one batch
            batch = max(1, min(batch, -(-len(todo) // count)))
            todo = sorted(todo, key=lambda index: (len(self._clips[index].text), index))
        self._queue.extend(list(todo[start : start + batch]) for start in range(0, len(todo), batch))

    def _take(self, worker: Any, came: Done | Fault | _Death) -> None:
        if isinstance(came, Fault):
            raise came.error()
        if isinstance(came, _Death):
            self._bury(worker, came)
            return
        self._deaths = self._deaths_at_work = 0
        for index, result in came:
            worker.doing.remove(index)
            if result is not None:
                self._unkept[index] = result
            self._watch(index, result)
        self._done(len(came))

    def _watch(self, index: int, result: FeatureSequence | None) -> None:
        """Notice when all first clips fail of the same, which is then not their fault."""
        if not self._first:
            return
        if result is None or result.status is not Status.FAILED:
            self._first = False
            return
        clip = self._clips[index]
        reason = result.reason
        for path in (clip.video, clip.audio):
            reason = reason.replace(str(path), "...").replace(path.name, "...") if path else reason
        reason = re.sub(rf"(?<!\w){re.escape(clip.id)}(?!\w)", "...", reason)
        self._same[reason] += 1
        self._first = len(self._same) == 1
        if self._first and self._same[reason] >= SAME:
            raise LacunaError(
                f"{self._job.modality} extractor {self._job.extractor}: the first {SAME} clips all failed "
                f"with the same error, so the clips are not the cause: {reason}. None of their results is kept. "
                "Mend the cause and run: dvc repro"
            )

    def _bury(self, worker: Any, death: _Death) -> None:
        self._workers.remove(worker)
        worker.stop()
        if death.late:
            pass  # the pool itself stopped it
        elif worker.ready:
            self._deaths_at_work += death.blame
        else:
            self._deaths += death.blame
        most = DEATHS_AT_FIRST if self._first else DEATHS_AT_WORK
        if self._deaths >= DEATHS or self._deaths_at_work >= most:
            ids = ", ".join(self._clips[index].id for index in worker.doing[:3])
            deaths = self._deaths + self._deaths_at_work
            raise LacunaError(
                f"{self._job.modality} extractor {self._job.extractor}: {deaths} worker processes died "
                f"one after another, the last {death.how}, at {ids or 'the start'}. Their own messages are "
                "above. Is there enough memory for compute.workers processes?"
            )
        for index in worker.doing:
            if death.late and len(worker.doing) == 1:
                reason = f"stopped {death.how}"
                self._unkept[index] = FeatureSequence.absent(self._job.dims, Status.FAILED, reason)
                self._done(1)
                continue
            self._strikes[index] += death.blame and not death.late
            self._losses[index] += not death.blame
            if self._strikes[index] >= STRIKES or self._losses[index] >= LOSSES:
                count = STRIKES if self._strikes[index] >= STRIKES else LOSSES
                reason = f"{count} worker processes died while they worked on it, the last {death.how}"
                self._unkept[index] = FeatureSequence.absent(self._job.dims, Status.FAILED, reason)
                self._done(1)
            else:
                self._queue.append([index])  # at the end: the others come first
        if death.late:
            ids = ", ".join(self._clips[index].id for index in worker.doing[:3])
            log.warning("%s: a worker was stopped %s; another takes over", ids, death.how)
        else:
            log.warning("a worker process died %s; another takes over", death.how)


# --- processes of this machine --------------------------------------------------------


class _ProcessPool(_Pool):
    """Processes that get clips through a pipe and keep the results themselves."""

    def _cores(self) -> int:
        return usable_cores()

    def _start(self) -> _Worker:
        return _Process(self._job)

    def _wait(self) -> Iterator[tuple[_Process, Done | Fault | _Death]]:
        busy = [worker.connection for worker in self._workers if worker.doing or not worker.ready]
        ends = [*busy, *(worker.process.sentinel for worker in self._workers)]
        ready = set(wait(ends, self._left_s()))
        for worker in list(self._workers):
            if not ready & {worker.connection, worker.process.sentinel}:
                continue
            try:
                while worker.connection.poll():
                    came = worker.connection.recv()
                    if isinstance(came, _Ready):
                        worker.ready = True
                    else:
                        yield worker, came
            except (EOFError, OSError):
                yield worker, worker.death()
                continue
            if not worker.process.is_alive() and not worker.connection.poll():
                yield worker, worker.death()


@dataclass(frozen=True)
class _Ready:
    """What a process sends when its extractor is loaded."""


class _Process(_Worker):
    """One process and the pipe to it."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.doing, self.ready = [], False
        self.process = context.Process(target=_work, args=(theirs, job), daemon=True)
        with _environment(_ONE_THREAD | NO_NETWORK):
            self.process.start()
        theirs.close()

    def tell(self, work: Work | None) -> None:
        """Send a batch, or None to end the process. A dead process is noticed when its answer is waited for."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(work)

    def death(self) -> _Death:
        """Return how the process ended."""
        self.process.join()
        code = self.process.exitcode or 0
        return _Death(f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}")

    def say_goodbye(self) -> None:
        """Let the process end by itself."""
        self.tell(None)
        self.process.join(timeout=10)

    def stop(self) -> None:
        """End the process."""
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()


def _leave(*_: object) -> None:
    """End the process by an exception, so that the programs that it started are ended and its folders removed."""
    sys.exit(128 + signal.SIGTERM)


def _work(connection: Connection, job: Job) -> None:
    """Work on batches until told to end, or until the parent is gone; the main function of a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    log_to_stderr()
    try:
        with closing(make_extractor(job)) as extractor, ResultWriter(job.cache) as writer:
            prepare(extractor)
            connection.send(_Ready())
            while (work := connection.recv()) is not None:
                connection.send(keep_all(writer, work, extract_all(job, extractor, work)))
    except LacunaError as error:
        connection.send(Fault.of(error))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass


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


# --- actors of a Ray cluster ----------------------------------------------------------


class _RayPool(_Pool):
    """Ray actors with one processor each; this process receives their results and keeps them."""

    def __init__(
        self,
        job: Job,
        clips: Sequence[Clip],
        keys: Sequence[str | None],
        done: Callable[[int], object],
        timeout_s: float,
        address: str,
    ) -> None:
        super().__init__(job, clips, keys, done, timeout_s)
        self._ray = _connect(address)
        self._writer = ResultWriter(job.cache)
        self._stalled_since: float | None = None

    def _cores(self) -> int:
        return int(self._ray.cluster_resources().get("CPU", 0))

    def _wanted(self, workers: int | str) -> int:
        there = max(1, self._cores())  # may be fewer than at the start: nodes can be lost
        return there if workers == "auto" else min(int(workers), there)

    def _start(self) -> _Worker:
        return _Actor(self._ray, self._job)

    def _wait(self) -> Iterator[tuple[_Actor, Done | Fault | _Death]]:
        waiting = {worker.answer: worker for worker in self._workers if worker.answer is not None}
        ready, _ = self._ray.wait(list(waiting), num_returns=1, timeout=1.0)
        self._say_when_stalled()
        for answer in ready:
            worker = waiting[answer]
            work, worker.answer, worker.work = worker.work, None, []
            try:
                came = self._ray.get(answer)
            except self._ray.exceptions.RayError as error:
                yield worker, self._death(worker, error)
                continue
            if isinstance(came, Fault):
                yield worker, came
            elif worker.ready:
                yield worker, keep_all(self._writer, work, came)
            else:
                worker.ready, worker.node = True, came

    def _death(self, worker: _Actor, error: Exception) -> _Death:
        """Return how an actor ended. If its node or the connection was lost, its clips are not the cause."""
        if not isinstance(error, self._ray.exceptions.RayActorError):
            return _Death(f"with {error}")
        gone = {node["NodeID"] for node in self._ray.nodes() if not node["Alive"]}
        died = isinstance(error, self._ray.exceptions.ActorDiedError)
        if died and worker.node not in gone and "node has died" not in str(error):
            return _Death("on the cluster")
        return _Death("together with its node", blame=False)

    def _say_when_stalled(self) -> None:
        now = time.monotonic()
        if any(worker.ready for worker in self._workers):
            self._stalled_since = None
        elif self._stalled_since is None:
            self._stalled_since = now
        elif now - self._stalled_since > PATIENCE_S:
            log.warning("no worker has started yet: the cluster has no free processor, or is slow to start")
            self._stalled_since = now

    def _end(self) -> None:
        self._writer.__exit__()
        self._ray.shutdown()


def _connect(address: str) -> Any:
    """Return Ray, connected to a cluster that is there.

    Raises:
        LacunaError: Ray is not installed, or no cluster answers.
    """
    try:
        import ray
    except ImportError as error:
        raise LacunaError(
            "compute.engine is ray, but Ray is not installed. Install it: pip install 'lacuna[ray]', or set "
            "compute.engine to processes"
        ) from error
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise LacunaError(
            f'compute.address "{address}": no Ray cluster answers ({error}). Start one on its first machine: '
            "ray start --head, and join it on every other, this one too: ray start --address=FIRST:6379"
        ) from error
    return ray


class _Actor(_Worker):
    """One Ray actor and its pending answer; ``node`` is the id of its node, once it is ready."""

    def __init__(self, ray: Any, job: Job) -> None:
        self._ray = ray
        self.doing, self.ready = [], False
        self.work: Work = []
        self.node = ""
        root = str(Path.cwd())
        path = os.pathsep.join([root, *(p for p in [os.environ.get("PYTHONPATH")] if p)])
        options = {"num_cpus": 1, "max_restarts": 0, "max_task_retries": 0}
        environment = {"env_vars": _ONE_THREAD | {"PYTHONPATH": path}}
        self._actor = ray.remote(RayWorker).options(**options, runtime_env=environment).remote(job, root)
        self.answer: Any = self._actor.begin.remote()

    def tell(self, work: Work) -> None:
        """Send a batch."""
        self.work, self.answer = work, self._actor.extract.remote(work)

    def say_goodbye(self) -> None:
        """Let the actor close its model."""
        if self.ready:
            with suppress(self._ray.exceptions.RayError):
                self._ray.get(self._actor.close.remote(), timeout=10)

    def stop(self) -> None:
        """End the actor."""
        with suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(self._actor, no_restart=True)


class RayWorker:
    """The program of a Ray actor.

    Args:
        job: the extractor.
        root: the project's folder, which every node must have at the same path.
    """

    def __init__(self, job: Job, root: str) -> None:
        self._job, self._root = job, root
        self._extractor: BaseExtractor[Any] | None = None

    def begin(self) -> str | Fault:
        """Load the extractor; return the node's id, or the reason why this node cannot do the work."""
        import ray

        os.environ.update(_ONE_THREAD | NO_NETWORK)
        log_to_stderr()
        where = f"Ray node {ray.util.get_node_ip_address()}: "
        shared = "every node must see the project's folder and the media under the same paths"
        try:
            os.chdir(self._root)
        except OSError as error:
            return Fault("LacunaError", f"{where}the project's folder cannot be entered ({error}); {shared}")
        try:
            self._extractor = make_extractor(self._job)
            found = made_with(self._extractor, self._job.extractor)
            prepare(self._extractor)
        except LacunaError as error:
            return Fault.of(error, where)
        except (ImportError, OSError) as error:
            return Fault("LacunaError", f"{where}{type(error).__name__}: {error}; {shared}")
        if found != self._job.made_with:
            return Fault(
                "LacunaError",
                f"{where}has other code, weights or libraries than the machine that started the stage:\n"
                f"  there: {found}\n  here:  {self._job.made_with}\n"
                "Results would not be the same. Set every node up from the same requirements.lock",
            )
        node: str = ray.get_runtime_context().get_node_id()
        return node

    def extract(self, work: Work) -> list[tuple[int, bool, FeatureSequence]] | Fault:
        """Return what :func:`extract_all` returns."""
        if self._extractor is None:
            return Fault("LacunaError", "a Ray worker was given clips before it had begun")
        for _, key, clip in work:
            path = None if self._extractor.by_id else file_of(clip, self._job.modality)
            if key is not None and path is not None and not path.is_file():
                return Fault("LacunaError", f"{path}: not visible on the Ray node {os.uname().nodename}")
        try:
            return extract_all(self._job, self._extractor, work)
        except LacunaError as error:
            return Fault.of(error)

    def close(self) -> None:
        """Close the model."""
        if self._extractor is not None:
            self._extractor.close()
