"""``lacuna clean``: what it finds, what it leaves, and what it makes of dvc.lock."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pipeline.commands.clean import old_results
from tests.command_line import Command
from tests.project import ROOT

LOCK = """schema: '2.0'
stages:
  prepare@demo:
    cmd: python -m pipeline.prepare @
    deps:
    - path: data/raw/demo
      hash: md5
      md5: 0f1e.dir
      size: 12
      nfiles: 3
  prepare@old:
    cmd: python -m pipeline.prepare @
  train@gone:
    cmd: python -m pipeline.train @
  report:
    cmd: python -m pipeline.report
"""


@pytest.fixture
def cluttered(project: Path) -> Path:
    shutil.copy(ROOT / "dvc.yaml", project)
    (project / "dvc.lock").write_text(LOCK)
    for name in (
        "features/demo/text.h5", "features/old/text.h5", "manifests/old.csv", "manifests/old.sha256",
        "manifests/demo.csv", "masks/old.h5", "runs/gone/a", "runs/mmin/a", "results/gone/a", "assets/bert/a",
        "cache/times/gone.json", "cache/times/mmin.json", "live/gone/1-0/metrics.json", "live/mmin/1-0/metrics.json",
        "denseface/README.md", "denseface/mine.json", "media/ours", "raw/old/clip.mp4", "README.md",
    ):  # fmt: skip
        path = project / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1234")
    return project


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


GONE = {
    "features/old/text.h5", "manifests/old.csv", "manifests/old.sha256", "masks/old.h5", "runs/gone/a",
    "results/gone/a", "denseface/mine.json", "media/ours", "cache/times/gone.json", "live/gone/1-0/metrics.json",
}  # fmt: skip


def test_what_params_yaml_no_longer_names_goes_and_nothing_else(cluttered: Path, lacuna: Command) -> None:
    before = files(cluttered / "data")
    status, out, _ = lacuna("clean", "--dry-run")
    assert status == 0
    assert files(cluttered / "data") == before
    assert (cluttered / "dvc.lock").read_text() == LOCK
    assert "data/features/old: params.yaml has no datasets.old" in out
    assert "2 stage(s) of dvc.lock that dvc.yaml no longer has: prepare@old, train@gone" in out
    assert lacuna("clean")[0] == 0
    assert before - files(cluttered / "data") == GONE
    kept = LOCK.replace("  prepare@old:\n    cmd: python -m pipeline.prepare @\n", "")
    assert (cluttered / "dvc.lock").read_text() == kept.replace(
        "  train@gone:\n    cmd: python -m pipeline.train @\n", ""
    )
    assert lacuna("clean") == (0, "nothing to remove\n", "")


def test_kept_results_by_age_and_size(tmp_path: Path) -> None:
    """Four results of 1000 bytes, written 1, 2, 3 and 4 days ago; a training is a folder, a clip a pair of files."""
    day, now = 86_400, 1_000 * 86_400
    (tmp_path / "audio/librosa").mkdir(parents=True)
    for age in (1, 2, 3):
        for ending, size in ((".results", 900), (".index", 100)):
            path = tmp_path / f"audio/librosa/{age}{ending}"
            path.write_bytes(bytes(size))
            os.utime(path, (now - age * day, now - age * day))
    run = tmp_path / "runs/key"
    run.mkdir(parents=True)
    (run / "weights.safetensors").write_bytes(bytes(1000))
    os.utime(run, (now - 4 * day, now - 4 * day))

    def names(days: float | None, gigabytes: float | None) -> list[str]:
        found = list(old_results(tmp_path, days, gigabytes, now))
        assert all(one.bytes == 1000 for one in found)
        return [one.paths[-1].name for one in found]

    assert names(None, None) == []
    assert names(2.5, None) == ["key", "3.results"]
    assert names(None, 2.5e-6) == ["key", "3.results"]  # 4000 bytes, of which 2500 may stay
    assert names(None, 4e-6) == []
    assert names(3.5, 1e-6) == ["key", "3.results", "2.results"]


def test_a_wrong_number_is_a_wrong_command_line(lacuna: Command) -> None:
    for word in ("-1", "nan", "many"):
        assert lacuna("clean", "--older-than", word)[0] == 2
