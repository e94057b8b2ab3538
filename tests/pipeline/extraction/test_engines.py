"""The engines under extraction: a Ray cluster of two nodes on this machine, and how many threads a worker has.

Two nodes of Ray start here, each with one processor, and stand for two machines that share a file system.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from pipeline.data.store import Status
from pipeline.extraction.engines import Fault, Job, RayWorker, closing
from pipeline.extraction.extractors import base
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.kept_clips import made_with
from tests.pipeline.test_extract import Project, project, wait_for_end

ray = pytest.importorskip("ray")
__all__ = ["project"]  # the fixture

# Ray writes a token into the home folder unless told that there is none, and reports its use to its makers.
ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes; the second can be taken away."""
    from ray.cluster_utils import Cluster

    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    made = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
    try:
        made.second = made.add_node(**NODE)
        yield made
    finally:
        made.shutdown()


def use(project: Project, engine: str, address: str = "auto", **settings: Any) -> None:
    """Write params.yaml with this engine."""
    project.params(**settings)
    path = project.root / "params.yaml"
    text = yaml.safe_load(path.read_text(encoding="utf-8"))
    text["compute"] |= {"engine": engine, "address": address, "workers": "auto"}
    path.write_text(yaml.safe_dump(text), encoding="utf-8")


@pytest.mark.slow
def test_two_ray_nodes_give_the_bytes_of_processes(project: Project, cluster: Any) -> None:
    ids = project.samples(*(f"ok-{index:02d}" for index in range(20)), "missing-1", "broken-1", "odd-1")
    (project.root / "media/ok-07.wav").unlink()  # gone before the stage starts: failed, not an error
    use(project, "processes", pause_s=0.5)
    project.run()
    expected = project.store.read_bytes()
    assert project.calls().total() == len(ids)
    shutil.rmtree(project.root / "data/cache")
    use(project, "ray", cluster.address, pause_s=0.5)  # both are up before one has done all
    said = project.run()
    assert project.store.read_bytes() == expected
    assert len(project.workers()) == 2  # one a node
    assert project.calls().total() == len(ids)
    assert f"{len(ids)} computed" in said
    project.run()  # nothing that is kept is done again
    assert set(project.calls()) == {"odd-1", "ok-07"}
    use(project, "processes", pause_s=0.5)
    project.run()  # nor by the other engine
    assert set(project.calls()) == {"odd-1", "ok-07"}

    # A node is lost in the middle: its clips are done by the other.
    shutil.rmtree(project.root / "data/cache")
    project.samples(*(f"ok-{index:02d}" for index in range(7)), "once-1", "dies-1", "environment-1")
    use(project, "ray", cluster.address, pause_s=0.4)
    process = project.start()
    project.wait_for_calls(5)
    cluster.remove_node(cluster.second, allow_graceful=False)
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert "together with its node; another takes over" in said
    statuses = project.statuses()
    assert statuses.pop("dies-1") == (
        Status.FAILED,
        "2 worker processes died while they worked on it, the last on the cluster",
    )
    assert statuses.pop("environment-1")[1] == "1 thread, proxy http://127.0.0.1:9"
    assert all(status is Status.OK for status, _ in statuses.values())
    calls = project.calls()
    assert calls["dies-1"] in (2, 3)
    assert calls["once-1"] in (2, 3)
    again = calls.total() - len(calls) - 2  # beside the two that take their worker with them
    assert 0 <= again <= 1, "only what the lost node was at is done again"

    # Ctrl-C takes the actors away; the cluster, which is others' too, goes on.
    shutil.rmtree(project.root / "data/cache")
    process = project.start()
    project.wait_for_calls(2)
    workers = project.workers()
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    end = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < end, "actors live on"
        time.sleep(0.1)
    assert cluster.head_node.any_processes_alive()
    kept = project.kept()
    project.calls()
    project.samples(*(f"ok-{index:02d}" for index in range(7)))
    project.run()
    assert 7 - kept <= project.calls().total() <= 7


@pytest.mark.slow
def test_a_clip_that_hangs_on_a_node_is_stopped_and_named(project: Project, cluster: Any) -> None:
    cluster.remove_node(cluster.second)  # one worker: the clips after the one that hangs need another
    project.samples("hangs-1", "ok-1", "ok-2")
    use(project, "ray", cluster.address)
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
    assert len(project.workers()) == 2
    wait_for_end(project.workers())
    assert project.calls() == {"hangs-1": 1, "ok-1": 1, "ok-2": 1}


def test_no_cluster_is_said(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "1")
    project.samples("ok-1")
    use(project, "ray", "auto")
    said = project.run(code=1)
    assert re.search(r'compute.address "auto": no Ray cluster answers .*ray start --head', said, re.DOTALL)
    assert "Traceback" not in said


def test_a_node_that_cannot_do_the_same_work_stops_the_stage(
    assets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("OMP_NUM_THREADS", "https_proxy"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # a worker sets them: put back afterwards
    owner = base.find("audio", "librosa")
    settings = owner.Settings()
    with closing(owner(settings, assets("librosa"))) as extractor:
        right = made_with(extractor, "librosa")
    job = Job("audio", "librosa", settings.model_dump_json(), assets("librosa"), tmp_path, 33, right)
    for worker, message in (
        (RayWorker(job, str(tmp_path / "elsewhere")), "the project's folder cannot be entered"),
        (RayWorker(replace(job, made_with="[]"), str(tmp_path)), "has other code, weights or libraries"),
    ):
        fault = worker.begin()
        assert isinstance(fault, Fault)
        assert message in fault.message
    worker = RayWorker(job, str(tmp_path))
    monkeypatch.setattr("ray.get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "here"))
    assert worker.begin() == "here"
    unseen = Clip("a", audio=tmp_path / "a.wav")
    fault = worker.extract([(0, "f" * 64, unseen)])  # it has a key: the other side could read it
    assert isinstance(fault, Fault)
    assert "a.wav: not visible on the Ray node" in fault.message
    ((index, _, result),) = worker.extract([(0, None, unseen)])  # type: ignore[misc]
    assert (index, result.status, result.reason) == (
        0,
        Status.FAILED,
        f"{unseen.audio}: there is no such file",
    )
    worker.close()


def test_what_numba_compiles_is_kept_for_every_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker's librosa takes compiled functions from the user's cache, wherever librosa is installed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    code = (
        "from pipeline.extraction.engines import keep_compiled_code; keep_compiled_code()\n"
        "import numba; print(numba.config.CACHE_DIR)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str(tmp_path / "cache/lacuna/numba")
