"""The extraction stage: statuses, results kept by content, deaths, stops, full disks, equal bytes.

The stage runs as its command does, in a small copy of the project that has one extractor more: a probe that
counts its calls and misbehaves as a clip's name says.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.data.manifest import Sample, Word, manifest_checksum, write_manifest
from pipeline.data.store import FeatureStore, Status
from pipeline.errors import DataError
from pipeline.extraction.dataset import Summary, clip_of, extract
from pipeline.extraction.extractors import base
from pipeline.extraction.kept_clips import RECORD

REPOSITORY = Path(__file__).parents[2]

PROBE = '''
"""A probe: (rows, 2) numbers from the file's bytes, and mischief by the clip's name."""

import hashlib
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np

from pipeline.errors import AssetError, MediaError, MomentaryError, StreamMissing
from pipeline.extraction.extractors.base import BaseExtractor, ExtractorSettings
from pipeline.data.store import FeatureSequence


class ProbeSettings(ExtractorSettings):
    rows: int = 3
    pause_s: float = 0.0
    dies_at_start: bool = False
    unready: bool = False


def threads():
    import cv2
    import numba
    import torch
    from threadpoolctl import threadpool_info

    before = set(os.listdir("/proc/self/task"))
    numbers = np.ones((400, 400), np.float32)
    numbers @ numbers
    torch.from_numpy(numbers) @ torch.from_numpy(numbers)
    cv2.GaussianBlur(np.ones((1000, 1000, 3), np.float32), (15, 15), 0)
    double = numba.njit(parallel=True)(lambda x: x * 2)
    double(np.ones(100_000))
    most = {
        "BLAS and OpenMP": max(pool["num_threads"] for pool in threadpool_info()),
        "torch": torch.get_num_threads(),
        "OpenCV": cv2.getNumThreads(),
        "numba": numba.get_num_threads(),
        "started": 1 + len(set(os.listdir("/proc/self/task")) - before),
    }
    return ", ".join(f"{name} {count}" for name, count in most.items())


class Extractor(BaseExtractor[ProbeSettings]):
    modality = "audio"
    Settings = ProbeSettings
    batch = 1
    columns = ("first", "second")

    def __init__(self, settings, assets):
        super().__init__(settings, assets)
        if settings.dies_at_start and multiprocessing.parent_process() is not None:
            os._exit(3)
        with Path("starts.log").open("a") as log:
            log.write("*")

    def prepare(self):
        if self.settings.unready:
            with Path("starts.log").open("a") as log:
                log.write("!")
            raise RuntimeError("half of a download")

    def extract(self, clip):
        with Path("calls.log").open("a") as log:
            log.write(f"{clip.id} {os.getpid()}\\n")
        if clip.audio is None:
            raise StreamMissing("no audio file")
        if not clip.audio.exists():
            raise MediaError(f"{clip.audio.name}: there is no such file")
        time.sleep(self.settings.pause_s)
        kind = clip.id.split("-")[0]
        if kind == "missing":
            raise StreamMissing("nothing to hear")
        if kind == "environment":
            raise MediaError(f"{os.environ['OMP_NUM_THREADS']} thread, proxy {os.environ['https_proxy']}")
        if kind == "threads":
            raise MediaError(threads())
        if kind == "broken":
            raise MediaError("cannot be read")
        if kind == "moment" and not Path("mended").exists():
            raise MomentaryError("no space left")
        if kind == "odd":
            raise KeyError("surprise")
        if kind == "hangs":  # as a decoder does, whose loop no signal reaches
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            time.sleep(10_000)
        if kind == "asset":
            raise AssetError("the weights are not the pinned ones")
        if kind == "dies" or (kind == "once" and not Path("died").exists()):
            Path("died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        digest = hashlib.sha256(clip.audio.read_bytes() + str(clip.audio_start_s).encode()).digest()
        values = np.resize(np.frombuffer(digest, np.uint8).astype(np.float32), (self.settings.rows, 2))
        if kind == "nan":
            values[0, 0] = np.nan
        times = np.arange(len(values), dtype=np.float32)
        return FeatureSequence(values.copy(), times, np.ones(len(values), np.uint8))
'''


class Project:
    """A small copy of the project with a dataset ``toy``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for package in ("pipeline", "models"):
            shutil.copytree(
                REPOSITORY / package, root / package, ignore=shutil.ignore_patterns("__pycache__")
            )
        self.probe = root / "pipeline/extraction/extractors/audio/probe.py"
        self.probe.write_text(PROBE, encoding="utf-8")
        self.store = root / "data/features/toy/audio.h5"
        self.log = root / "calls.log"
        (root / "media").mkdir()
        self.params()

    def params(self, workers: int = 2, max_failed_share: float = 1.0, **settings: Any) -> None:
        """Write params.yaml with these settings of the probe."""
        text = {
            "compute": {"workers": workers, "max_failed_share": max_failed_share},
            "datasets": {
                "toy": {
                    "loader": "demo",
                    "root": "media",
                    "options": {},
                    "text": {"extractor": "bert"},
                    "audio": {"extractor": "probe", "settings": settings},
                    "video": {"extractor": "facelandmarker"},
                }
            },
            "extractors": {"text": {"bert": {}}, "audio": {"probe": {}}, "video": {"facelandmarker": {}}},
        }
        (self.root / "params.yaml").write_text(yaml.safe_dump(text), encoding="utf-8")

    def samples(self, *ids: str, make: bool = True) -> list[str]:
        """Write a manifest of these ids, each with a file of its own bytes."""
        for name in ids if make else ():
            path = self.root / "media" / f"{name}.wav"
            if not path.exists():
                path.write_bytes(f"sound of {name}".encode())
        rows = [Sample(id=name, audio_path=f"{name}.wav") for name in ids]
        write_manifest(self.root / "data/manifests/toy.csv", rows)
        return list(ids)

    def start(self, limit: Callable[[], None] = lambda: None) -> subprocess.Popen[str]:
        """Start the stage's command; ``limit`` is called in its process before it begins."""

        def prepare() -> None:  # a shell's background job ignores ctrl-C, and so would all that it starts
            signal.signal(signal.SIGINT, signal.default_int_handler)
            limit()

        environment = {  # as a user has it: no test's settings, no limits to threads
            name: value
            for name, value in os.environ.items()
            if not name.startswith("PYTEST") and not name.endswith("_NUM_THREADS")
        }
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline.extract", "toy", "audio"],
            cwd=self.root,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=prepare,
        )

    def run(self, code: int = 0, **how: Any) -> str:
        """Run the stage to its end, check its exit code and return what it said."""
        process = self.start(**how)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == code, said
        return said

    def calls(self) -> Counter[str]:
        """Return how often each clip was extracted since the last question."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return Counter(line.split()[0] for line in lines)

    def workers(self) -> set[int]:
        """Return the process ids in the log."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return {int(line.split()[1]) for line in lines if len(line.split()) == 2}

    def wait_for_calls(self, count: int) -> None:
        """Wait until so many clips were begun."""
        end = time.monotonic() + 60
        while not self.log.exists() or len(self.log.read_text().splitlines()) < count:
            assert time.monotonic() < end, "the stage does not come on"
            time.sleep(0.02)

    def statuses(self) -> dict[str, tuple[Status, str]]:
        """Return id -> status and reason of the store."""
        with FeatureStore(self.store) as store:
            return {
                name: (Status(int(status)), reason)
                for name, status, reason in zip(store.ids, store.status, store.reasons, strict=True)
            }

    def kept(self) -> int:
        """Return how many results are kept."""
        indices = (self.root / "data/cache").rglob("*.index")
        return sum(path.stat().st_size // RECORD.size for path in indices)

    def left_over(self) -> list[str]:
        """Return files that were begun and not finished."""
        return [str(path) for path in (self.root / "data").rglob("*.part")]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def is_running(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_for_end(process_ids: set[int]) -> None:
    end = time.monotonic() + 20
    while any(is_running(process_id) for process_id in process_ids):
        assert time.monotonic() < end, "workers live on"
        time.sleep(0.05)


# --- statuses -------------------------------------------------------------------------


def test_every_end_of_a_clip_has_its_status(project: Project) -> None:
    project.samples("ok-1", "missing-1", "broken-1", "odd-1", "nan-1", "ok-2")
    (project.root / "media/ok-2.wav").unlink()
    said = project.run()
    statuses = project.statuses()
    assert statuses["ok-1"] == (Status.OK, "")
    assert statuses["missing-1"] == (Status.MISSING, "nothing to hear")
    assert statuses["broken-1"] == (Status.FAILED, "cannot be read")
    assert statuses["odd-1"] == (Status.FAILED, "KeyError: 'surprise'")
    assert statuses["nan-1"][0] is Status.FAILED
    assert "values[0, 0] is nan" in statuses["nan-1"][1]
    assert statuses["ok-2"] == (Status.FAILED, "ok-2.wav: there is no such file")
    assert "toy audio by probe: 1 ok, 1 missing, 4 failed; 6 computed" in said
    assert "failed: broken-1: cannot be read" in said
    assert project.calls().total() == 6
    project.run()  # what may be another time is tried again; what is the file's own is kept
    assert set(project.calls()) == {"odd-1", "nan-1", "ok-2"}


def test_workers_have_one_thread_and_no_network(project: Project) -> None:
    project.samples("environment-1")
    project.run()
    assert project.statuses()["environment-1"][1] == "1 thread, proxy http://127.0.0.1:9"


def test_libraries_start_no_threads_in_workers(project: Project) -> None:
    project.samples("threads-1")
    project.run()
    assert project.statuses()["threads-1"][1] == "BLAS and OpenMP 1, torch 1, OpenCV 1, numba 1, started 1"


def test_the_store_says_what_it_was_made_of(project: Project) -> None:
    ids = project.samples("ok-1", "ok-2")
    project.params(rows=4)
    project.run()
    manifest = project.root / "data/manifests/toy.csv"
    with FeatureStore(project.store, ids) as store:
        info = store.info
        assert (info.dataset, info.modality, info.extractor) == ("toy", "audio", "probe")
        assert info.settings == {"rows": 4, "pause_s": 0.0, "dies_at_start": False, "unready": False}
        assert info.columns == ("first", "second")
        assert info.manifest_sha256 == manifest_checksum(manifest)
        assert set(info.versions) == {"av"}
        assert store.lengths.tolist() == [4, 4]


def test_too_many_failures_stop_the_stage_but_keep_its_results(project: Project) -> None:
    broken = [f"broken-{index:02d}" for index in range(12)]
    project.samples(*broken, *(f"ok-{index}" for index in range(4)))
    project.params(max_failed_share=0.5)
    said = project.run(code=1)
    assert (
        "error: toy, audio: 12 of 16 clips failed, more than the 50% that compute.max_failed_share allows"
        in said
    )
    assert all(f"  {name}: cannot be read" in said for name in broken[:10])
    assert broken[10] not in said
    assert "and 2 more" in said
    assert "Traceback" not in said
    assert not project.store.exists()
    assert project.left_over() == []
    assert project.calls().total() == 16
    project.params(max_failed_share=0.75)
    project.run()
    assert project.calls().total() == 0
    assert Counter(status for status, _ in project.statuses().values()) == {Status.FAILED: 12, Status.OK: 4}


def test_missing_is_not_failed(project: Project) -> None:
    project.samples("missing-1", "missing-2", "ok-1")
    project.params(max_failed_share=0.0)
    assert "1 ok, 2 missing, 0 failed" in project.run()


# --- results kept by content ----------------------------------------------------------


def test_a_second_run_computes_nothing(project: Project) -> None:
    project.samples(*(f"ok-{index}" for index in range(6)))
    assert "6 computed" in project.run()
    first = project.store.read_bytes()
    assert project.calls().total() == 6
    assert "0 computed, 6 kept\n" in project.run()
    assert project.store.read_bytes() == first


def test_one_clip_added_costs_one(project: Project) -> None:
    ids = project.samples(*(f"ok-{index}" for index in range(6)))
    project.run()
    project.calls()
    project.samples("new", *ids)
    project.run()
    assert project.calls() == {"new": 1}
    (project.root / "media/ok-3.wav").write_bytes(b"recorded again")
    project.run()
    assert project.calls() == {"ok-3": 1}
    project.samples(*reversed(ids))  # another order, one fewer
    project.run()
    assert project.calls() == {}
    with FeatureStore(project.store, list(reversed(ids))) as store:
        assert len(store) == 6


def test_other_settings_or_code_cost_all_and_the_old_ones_nothing(project: Project) -> None:
    project.samples("ok-1", "ok-2")
    project.run()
    old = project.store.read_bytes()
    assert project.calls().total() == 2
    project.params(rows=5)
    project.run()
    assert project.calls().total() == 2
    project.probe.write_text(PROBE + "\n# changed\n", encoding="utf-8")
    project.run()
    assert project.calls().total() == 2
    project.probe.write_text(PROBE, encoding="utf-8")
    project.params()
    project.run()
    assert project.calls().total() == 0
    assert project.store.read_bytes() == old


def test_the_same_content_is_computed_once(project: Project) -> None:
    media = project.root / "media"
    for name in ("a", "b"):
        (media / f"{name}.wav").write_bytes(b"twice the same")
    rows = [
        Sample(id="a", audio_path="a.wav"),
        Sample(id="b", audio_path="b.wav"),
        Sample(id="part", audio_path="a.wav", audio_start_s=1.0),
    ]
    write_manifest(project.root / "data/manifests/toy.csv", rows)
    project.run()
    assert project.calls() == {"a": 1, "part": 1}
    with FeatureStore(project.store) as store:
        values = [sequence.values for sequence in store]
    assert np.array_equal(values[0], values[1])
    assert not np.array_equal(values[0], values[2])


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "gone", "index"])
def test_a_damaged_result_is_computed_again(project: Project, damage: str) -> None:
    project.samples("ok-1", "ok-2", "ok-3")
    project.params(workers=1)
    project.run()
    whole = project.store.read_bytes()
    project.calls()
    (entry,) = (project.root / "data/cache").rglob("*.results")
    data = entry.read_bytes()
    middle = len(data) // 2
    if damage == "gone":
        entry.unlink()
    elif damage == "index":  # cut within the last record
        index = entry.with_suffix(".index")
        index.write_bytes(index.read_bytes()[:-3])
    else:
        entry.write_bytes(
            {"cut": data[:-40], "noise": data[:middle] + b"\xff" * 4 + data[middle + 4 :], "empty": b""}[
                damage
            ]
        )
    said = project.run()
    lost = 3 if damage in ("empty", "gone") else 1
    if damage != "index":
        assert f"{lost} kept result(s) are damaged and computed again" in said
    assert project.calls().total() == lost
    assert project.store.read_bytes() == whole
    assert "0 computed" in project.run()  # what was computed last counts


def test_a_kept_result_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine clips of three texts: nine are read for the store, none a second time to see whether it is whole."""
    from pipeline.extraction import kept_clips

    decoded = []
    decode = kept_clips._decode

    def counted(data: bytes, dims: int) -> Any:
        decoded.append(data)
        return decode(data, dims)

    monkeypatch.setattr(kept_clips, "_decode", counted)
    samples = [Sample(f"s{index}", text=f"word{index % 3}") for index in range(9)]
    write_manifest(tmp_path / "manifest.csv", samples)
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("word0 1 2\nword1 3 4\nword2 5 6\n", encoding="utf-8")
    owner = base.find("text", "glove")
    for computed in (3, 0):
        decoded.clear()
        summary = extract(
            dataset="tiny",
            modality="text",
            manifest=tmp_path / "manifest.csv",
            root=tmp_path,
            extractor="glove",
            settings=owner.Settings(path=vectors),  # type: ignore[call-arg]
            assets=tmp_path,
            store=tmp_path / "text.h5",
            cache=tmp_path / "cache",
            workers=1,
            progress=False,
        )
        assert (summary.ok, summary.computed) == (9, computed)
        assert len(decoded) == 9


# --- workers --------------------------------------------------------------------------


def test_any_number_of_workers_gives_the_same_bytes(project: Project) -> None:
    project.samples(*(f"ok-{index}" for index in range(9)), "missing-1")
    bytes_of = []
    for workers in (1, 2, 5):
        shutil.rmtree(project.root / "data/cache", ignore_errors=True)
        project.params(workers=workers)
        project.run()
        assert 1 <= len(project.workers()) <= workers
        assert project.calls().total() == 10
        bytes_of.append(project.store.read_bytes())
    assert bytes_of[0] == bytes_of[1] == bytes_of[2]


def test_a_clip_that_kills_workers_fails_alone(project: Project) -> None:
    project.samples("ok-1", "dies-1", "ok-2", "once-1", "ok-3")
    said = project.run()
    statuses = project.statuses()
    assert statuses.pop("dies-1") == (
        Status.FAILED,
        "2 worker processes died while they worked on it, the last by signal SIGKILL",
    )
    assert all(status is Status.OK for status, _ in statuses.values())
    assert "a worker process died by signal SIGKILL; another takes over" in said
    assert project.calls()["dies-1"] == 2
    project.run()  # a death is not kept
    assert project.calls() == {"dies-1": 2}


def test_clips_that_kill_workers_one_after_another_fail_alone(project: Project) -> None:
    killers = [f"dies-{index}" for index in range(4)]
    project.samples(*killers, *(f"ok-{index}" for index in range(3)), "dies-4", "dies-5")
    project.params(workers=1)
    said = project.run()
    statuses = project.statuses()
    assert "3 ok, 0 missing, 6 failed" in said
    for name in (*killers, "dies-4", "dies-5"):
        assert statuses[name] == (
            Status.FAILED,
            "2 worker processes died while they worked on it, the last by signal SIGKILL",
        )
    calls = project.log.read_text().splitlines()
    first = [line.split()[0] for line in calls[:9]]
    assert first == [
        *killers,
        "ok-0",
        "ok-1",
        "ok-2",
        "dies-4",
        "dies-5",
    ]  # a killer comes again when all are done


@pytest.mark.parametrize(("before", "deaths"), [((), 6), (("ok-0",), 7)])
def test_a_machine_on_which_every_clip_kills_is_not_tried_for_ever(
    project: Project, before: tuple[str, ...], deaths: int
) -> None:
    engines = project.root / "pipeline/extraction/engines.py"
    source = engines.read_text(encoding="utf-8")
    assert "DEATHS_AT_WORK = 50 " in source
    engines.write_text(source.replace("DEATHS_AT_WORK = 50 ", "DEATHS_AT_WORK = 7 "), encoding="utf-8")
    project.samples(*before, *(f"dies-{index}" for index in range(9)))
    project.params(workers=1)
    said = project.run(code=1)
    last = f"dies-{deaths - 1}"
    assert f"{deaths} worker processes died one after another, the last by signal SIGKILL, at {last}" in said


def test_what_fails_before_a_clip_is_read_is_said_once(project: Project) -> None:
    project.samples(*(f"ok-{index}" for index in range(8)))
    project.params(workers=1, unready=True)
    said = project.run(code=1)
    assert (
        "error: the audio extractor probe cannot be made ready: RuntimeError: half of a download"
        in said.splitlines()
    )
    assert (project.root / "starts.log").read_text() == "**!"  # the stage's own, one worker, and its end
    assert project.calls() == {}


def test_the_same_odd_error_of_all_first_clips_is_not_their_fault(project: Project) -> None:
    ids = project.samples(*(f"odd-{index:02d}" for index in range(14)))
    project.params(workers=1)
    said = project.run(code=1)
    assert (
        "the first 10 clips all failed with the same error, so the clips are not the cause: KeyError" in said
    )
    assert 10 <= project.calls().total() <= 11
    for name in ids:
        (project.root / f"media/{name}.wav").unlink()  # the disk is not there
    said = project.run(code=1)
    assert "so the clips are not the cause: ...: there is no such file" in said
    project.samples("ok-1", *ids, make=False)
    (project.root / "media/ok-1.wav").write_bytes(b"sound")
    project.run()
    assert Counter(status for status, _ in project.statuses().values()) == {Status.FAILED: 14, Status.OK: 1}


def test_a_clip_that_hangs_is_stopped_and_named(project: Project) -> None:
    project.samples("hangs-1", "ok-1", "ok-2")
    project.params(workers=1)
    path = project.root / "params.yaml"
    text = yaml.safe_load(path.read_text(encoding="utf-8"))
    text["compute"]["clip_timeout_s"] = 3
    path.write_text(yaml.safe_dump(text), encoding="utf-8")
    said = project.run()
    reason = "stopped after more than 3 s a clip (compute.clip_timeout_s)"
    assert project.statuses() == {
        "hangs-1": (Status.FAILED, reason),
        "ok-1": (Status.OK, ""),
        "ok-2": (Status.OK, ""),
    }
    assert "hangs-1: a worker was stopped after more than 3 s a clip" in said
    assert project.calls() == {"hangs-1": 1, "ok-1": 1, "ok-2": 1}
    project.run()
    assert project.calls() == {"hangs-1": 1}  # another time it may go


def test_no_more_workers_start_than_there_is_work(project: Project) -> None:
    ids = project.samples(*(f"ok-{index}" for index in range(6)))
    project.params(workers=2)
    project.run()
    starts = project.root / "starts.log"
    starts.unlink()
    project.samples(*ids, "new")
    project.params(workers=8)
    project.run()
    assert project.calls()["new"] == 1
    assert starts.read_text() == "**"  # the stage's own, which knows the columns, and one worker


def test_what_fails_for_the_moment_is_tried_again(project: Project) -> None:
    project.samples("moment-1", "broken-1", "ok-1")
    project.run()
    assert project.statuses()["moment-1"] == (Status.FAILED, "no space left")
    project.calls()
    project.run()
    assert project.calls() == {"moment-1": 1}
    (project.root / "mended").touch()
    project.run()
    assert project.statuses()["moment-1"] == (Status.OK, "")
    assert project.calls() == {"moment-1": 1}
    project.run()
    assert project.calls() == {}


def test_workers_that_die_at_their_start_stop_the_stage(project: Project) -> None:
    project.samples("ok-1", "ok-2", "ok-3", "ok-4", "ok-5")
    project.params(dies_at_start=True)
    said = project.run(code=1)
    assert "worker processes died one after another, the last with exit code 3" in said
    assert not project.store.exists()


def test_an_error_that_is_no_clips_fault_stops_the_stage(project: Project) -> None:
    project.samples("ok-1", "asset-1", "ok-2")
    said = project.run(code=1)
    assert "error: the weights are not the pinned ones" in said
    assert "Traceback" not in said
    assert not project.store.exists()


def test_a_worker_killed_from_outside_costs_nothing(project: Project) -> None:
    ids = project.samples(*(f"ok-{index}" for index in range(12)))
    project.params(pause_s=0.2)
    process = project.start()
    project.wait_for_calls(4)
    os.kill(next(iter(project.workers())), signal.SIGKILL)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert all(status is Status.OK for status, _ in project.statuses().values())
    assert 12 <= project.calls().total() <= 13  # the clip that it was at is done again
    assert list(project.statuses()) == ids


def test_a_killed_stage_loses_only_the_clips_in_flight(project: Project) -> None:
    project.samples(*(f"ok-{index}" for index in range(12)))
    project.params(pause_s=0.2)
    process = project.start()
    project.wait_for_calls(6)
    workers = project.workers()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    wait_for_end(workers)  # nobody is there any more to work for
    assert not project.store.exists()
    kept = project.kept()
    assert kept >= 4
    project.calls()
    said = project.run()
    assert project.calls().total() == 12 - kept
    assert f"{12 - kept} computed" in said
    assert all(status is Status.OK for status, _ in project.statuses().values())


def test_an_interrupt_ends_cleanly(project: Project) -> None:
    project.samples(*(f"ok-{index}" for index in range(12)))
    project.params(pause_s=0.2)
    process = project.start()
    project.wait_for_calls(5)
    workers = project.workers()
    os.killpg(process.pid, signal.SIGINT)  # as ctrl-C in a terminal does: to all processes at once
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; what is finished is kept" in said
    assert "Traceback" not in said
    wait_for_end(workers)
    assert project.left_over() == []
    kept = project.kept()
    project.calls()
    project.run()
    assert project.calls().total() == 12 - kept < 12


def test_where_the_work_is_done_runs_no_stage_again() -> None:
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for modality in ("text", "audio", "video"):
        stage = stages[f"extract-{modality}"]["do"]
        assert not [name for name in stage["params"] if name.startswith("compute")]
        assert not {"pipeline/extraction/engines.py", "pipeline/extraction/kept_clips.py"} & set(
            stage["deps"]
        )


# --- a full disk ----------------------------------------------------------------------


def limited(size: int) -> Callable[[], None]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize(("rows", "limit"), [(10_000, 50_000), (2_000, 40_000)], ids=["result", "store"])
def test_a_full_disk_is_said_and_heals(project: Project, rows: int, limit: int) -> None:
    project.samples(*(f"ok-{index}" for index in range(4)))
    project.params(rows=rows)
    said = project.run(code=1, limit=limited(limit))
    assert "Is the disk full?" in said
    assert "Traceback" not in said
    assert not project.store.exists()
    assert project.left_over() == []
    project.run()
    assert all(status is Status.OK for status, _ in project.statuses().values())


# --- the command ----------------------------------------------------------------------


def test_names_that_are_not_there(project: Project) -> None:
    project.samples("ok-1")
    for arguments, message in (
        (["toy", "vidio"], 'found the modality "vidio".* Did you mean "video"'),
        (["toys", "audio"], 'Did you mean "toy"'),
    ):
        result = subprocess.run(
            [sys.executable, "-m", "pipeline.extract", *arguments],
            cwd=project.root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 1
        assert re.search(message, result.stderr)
        assert "Traceback" not in result.stderr


def test_a_manifest_is_needed(project: Project) -> None:
    assert "data/manifests/toy.csv: there is no such manifest" in project.run(code=1)


# --- with real extractors -------------------------------------------------------------


@pytest.fixture
def cremad(assets: Callable[[str], Path], tmp_path: Path) -> tuple[Path, Path]:
    """A manifest of four real recordings, two without a picture, and the folder they are in."""
    root = assets("cremad")
    rows = [
        Sample(
            id=path.stem,
            video_path=path.name,
            audio_path=path.name,
            text=f"Clip {path.stem[9:12]}, a jacket.",
        )
        for path in sorted(root.iterdir())
        if path.stem[9:12] in ("HAP", "SAD") and path.suffix in (".flv", ".mp3")
    ]
    manifest = tmp_path / "cremad.csv"
    write_manifest(manifest, [*rows, Sample(id="nothing")])
    return manifest, root


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modality", "name"),
    [("text", "bert"), ("audio", "opensmile"), ("video", "facelandmarker")],
)
def test_real_features_are_the_same_bytes_with_one_and_two_workers(
    assets: Callable[[str], Path], cremad: tuple[Path, Path], tmp_path: Path, modality: str, name: str
) -> None:
    manifest, root = cremad
    settings = base.find(modality, name).Settings()
    stores = []
    for workers in (1, 2):
        store = tmp_path / f"{workers}.h5"
        summary = extract(
            dataset="cremad",
            modality=modality,
            manifest=manifest,
            root=root,
            extractor=name,
            settings=settings,
            assets=assets(name),
            store=store,
            cache=tmp_path / f"cache-{workers}",
            workers=workers,
            progress=False,
        )
        missing = {"text": 1, "audio": 1, "video": 3}[modality]
        assert (summary.ok, summary.missing, summary.failed) == (5 - missing, missing, 0)
        stores.append(store.read_bytes())
    assert stores[0] == stores[1]
    with FeatureStore(tmp_path / "1.h5") as read:
        assert read.ids[-1] == "nothing"
        assert read.status[-1] == Status.MISSING
        assert (read.read_token_ids() is not None) == (modality == "text")


def test_the_share_of_unknown_words_counts_transcripts_of_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("good 1 2\nbad 3 4\n", encoding="utf-8")
    texts = {"a": "good bad xyz", "b": "xyz zyx", "c": "", "d": "good"}
    write_manifest(tmp_path / "m.csv", [Sample(id=name, text=text) for name, text in texts.items()])
    owner = base.find("text", "glove")

    def run() -> Summary:
        return extract(
            dataset="words",
            modality="text",
            manifest=tmp_path / "m.csv",
            root=tmp_path,
            extractor="glove",
            settings=owner.Settings(path=tmp_path / "v.txt"),
            assets=tmp_path / "none",
            store=tmp_path / "text.h5",
            cache=tmp_path / "cache",
            workers=1,
            progress=False,
        )

    for computed in (4, 0):  # what is kept counts alike
        summary = run()
        assert (summary.ok, summary.missing, summary.computed) == (2, 2, computed)
        assert (summary.rows, summary.unobserved) == (6, 3)
        assert str(summary).endswith("; 50.0% of 6 words are unknown words")


def test_a_clip_has_what_its_row_says(tmp_path: Path) -> None:
    sample = Sample(
        id="a",
        video_path="v/a.mp4",
        audio_path="w/a.wav",
        start_s=1.0,
        end_s=2.0,
        audio_start_s=3.0,
        audio_end_s=4.0,
        picture="left",
        text="Hello",
        words=(Word("Hello", 0.0, 0.5),),
    )
    clip = clip_of(sample, tmp_path)
    assert clip == base.Clip(
        "a", tmp_path / "v/a.mp4", tmp_path / "w/a.wav", 1.0, 2.0, 3.0, 4.0, "left", "Hello", sample.words
    )
    assert clip_of(Sample(id="b"), tmp_path) == base.Clip("b")
    with pytest.raises(DataError, match="leaves the dataset's root"):
        clip_of(Sample(id="c", audio_path="../c.wav"), tmp_path)
