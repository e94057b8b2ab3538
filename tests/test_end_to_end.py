"""The main job as a newcomer runs it, at a reduced size: `dvc repro` on real media, twice, and with a swap."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
SIZE = 40
EPOCHS = 4


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment in a project folder."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(folder), "PYTHONWARNINGS": "default"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=1200, check=False)


def repro(folder: Path, *arguments: str) -> list[str]:
    """Run `dvc repro` and return the names of the stages that it really ran."""
    result = run(folder, "dvc", "repro", *arguments)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    return re.findall(r"Running stage '([^']+)'", result.stdout)


def change(folder: Path, **changes: object) -> None:
    """Change keys of params.yaml, given as dotted paths with __ for the dots."""
    file = folder / "params.yaml"
    params = yaml.safe_load(file.read_text())
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        node = params
        for parent in parents:
            node = node[parent]
        node[last] = value
    file.write_text(yaml.safe_dump(params, sort_keys=False))


def digests(folder: Path, *patterns: str) -> dict[str, str]:
    """Return path -> sha256 of the files that match."""
    files = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
    assert files
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh copy of the project at a small size, its main job run once."""
    folder = tmp_path_factory.mktemp("main job") / "lacuna"
    ignore = shutil.ignore_patterns(".venv", "__pycache__", "raw", "cache", "features", "masks", "runs", "*.egg-info")
    folder.mkdir()
    for name in ("pipeline", "models", "dvc.yaml", "params.yaml", ".dvcignore", "pyproject.toml"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignore)
        else:
            shutil.copy(source, folder / name)
    (folder / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
    assert run(folder, "git", "init", "-q").returncode == 0
    change(folder, corpus__size=SIZE)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    for experiment in params["experiments"].values():
        experiment["epochs"] = EPOCHS
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    repro(folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
class TestMainJob:
    """In this order: later tests change params.yaml and change it back."""

    def test_it_ends_with_a_page_that_says_what_it_is(self, project: Path) -> None:
        page = (project / "data/report/index.html").read_text()
        assert "constructed" in page.lower()
        for experiment in ("full-modality", "augmented", "mmin"):
            assert experiment in page
            metrics = json.loads((project / f"data/results/{experiment}/metrics.json").read_text())
            assert metrics

    def test_a_second_run_does_nothing(self, project: Path) -> None:
        assert repro(project) == []

    def test_a_swapped_extractor_reruns_only_what_depends_on_it_and_back_runs_nothing(self, project: Path) -> None:
        before = digests(project, "data/features/demo/*.h5", "data/results/*/*.json")
        change(project, datasets__demo__audio__extractor="librosa")
        ran = repro(project)
        allowed = ("extract-audio@demo", "mask@demo", "train@", "evaluate@", "report")
        assert "extract-audio@demo" in ran
        assert all(name.startswith(allowed) for name in ran), ran
        assert digests(project, "data/features/demo/audio.h5") != {
            "data/features/demo/audio.h5": before["data/features/demo/audio.h5"]
        }
        change(project, datasets__demo__audio__extractor="opensmile")
        assert repro(project) == []
        assert digests(project, "data/features/demo/*.h5", "data/results/*/*.json") == before

    def test_the_same_seed_gives_the_same_bytes(self, project: Path) -> None:
        patterns = ("data/features/*/*.h5", "data/masks/*.h5", "data/results/*/*.json", "data/results/*/*.csv")
        before = digests(project, *patterns)
        for name in ("raw", "cache", "features", "masks", "runs", "results"):
            shutil.rmtree(project / "data" / name, ignore_errors=True)
        shutil.rmtree(project / ".dvc" / "cache")
        repro(project, "--force")
        assert digests(project, *patterns) == before

    def test_a_mistake_in_params_stops_before_any_work(self, project: Path) -> None:
        original = (project / "params.yaml").read_text()
        change(project, datasets__demo__audio__extractor="opensmiel")
        result = run(project, sys.executable, "-m", "pipeline.extract", "demo", "audio")
        (project / "params.yaml").write_text(original)
        assert result.returncode == 1
        assert 'Did you mean "opensmile"?' in result.stderr
        assert "Traceback" not in result.stderr

    def test_dvc_shows_metrics(self, project: Path) -> None:
        result = run(project, "dvc", "metrics", "show", "--json")
        assert result.returncode == 0, result.stderr
        assert "data/results/mmin/metrics.json" in result.stdout
