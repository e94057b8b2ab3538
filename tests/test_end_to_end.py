"""The main job as a newcomer runs it, at a reduced size: `dvc repro`, twice, and with a swap."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.project import change, copy_project, digests, repro, run, try_run

RESULTS = ("data/results/*/*.json", "data/results/*/*.csv")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh copy of the project at a small size, its main job run once."""
    folder = tmp_path_factory.mktemp("main job") / "lacuna"
    copy_project(folder, size=20, epochs=2)
    change(folder, "datasets.demo.folds.count", 2)
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
            assert json.loads((project / f"data/results/{experiment}/metrics.json").read_text())

    def test_a_second_run_does_nothing(self, project: Path) -> None:
        assert repro(project) == []

    def test_a_swapped_extractor_reruns_what_depends_on_it_and_back_runs_nothing(self, project: Path) -> None:
        before = digests(project, "data/features/demo/*.h5", *RESULTS)
        change(project, "datasets.demo.audio.extractor", "librosa")
        ran = repro(project, "evaluate@linear")  # one experiment stands for the four: minutes less
        assert ran == ["check", "extract-audio@demo", "mask@demo", "train@linear", "evaluate@linear"]
        assert digests(project, "data/features/demo/audio.h5").items() - before.items()
        change(project, "datasets.demo.audio.extractor", "opensmile")
        assert repro(project) == []
        assert digests(project, "data/features/demo/*.h5", *RESULTS) == before

    def test_the_same_seed_gives_the_same_bytes(self, project: Path) -> None:
        patterns = ("data/features/*/*.h5", "data/masks/*.h5", *RESULTS)
        before = digests(project, *patterns)
        for name in ("raw", "cache", "features", "masks", "runs", "results"):
            shutil.rmtree(project / "data" / name, ignore_errors=True)
        shutil.rmtree(project / ".dvc" / "cache")  # what ran before is not found there: all of it runs again
        ran = repro(project)
        kinds = {name.partition("@")[0] for name in ran}
        wanted = {"corpus", "extract-text", "extract-audio", "extract-video", "mask", "train", "evaluate"}
        assert wanted <= kinds, ran
        assert digests(project, *patterns) == before

    def test_a_mistake_in_params_stops_before_any_work(self, project: Path) -> None:
        original = (project / "params.yaml").read_text()
        change(project, "datasets.demo.audio.extractor", "opensmiel")
        result = try_run(project, sys.executable, "-m", "pipeline.extract", "demo", "audio")
        (project / "params.yaml").write_text(original)
        assert result.returncode == 1
        assert 'Did you mean "opensmile"?' in result.stderr
        assert "Traceback" not in result.stderr

    @pytest.mark.parametrize(
        ("stage", "outputs"),
        [
            ("assets sentences", "data/assets/sentences/*"),
            ("corpus", "data/raw/demo/**/*"),
            ("prepare demo", "data/manifests/demo.*"),
            ("extract demo text", "data/features/demo/text.h5"),
            ("extract demo audio", "data/features/demo/audio.h5"),
            ("extract demo video", "data/features/demo/video.h5"),
            ("mask demo", "data/masks/demo.h5"),
            ("train mmin", "data/runs/mmin/**/*"),
            ("evaluate mmin", "data/results/mmin/*"),
            ("report", "data/report/**/*"),
        ],
    )
    def test_a_kill_loses_nothing(self, project: Path, stage: str, outputs: str) -> None:
        before = digests(project, outputs)
        command = [sys.executable, "-m", f"pipeline.{stage.split()[0]}", *stage.split()[1:]]
        for seconds in (0.3, 1.0, 2.5):
            shutil.rmtree(project / "data" / "cache", ignore_errors=True)
            process = subprocess.Popen(
                command,
                cwd=project,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            time.sleep(seconds)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)
        run(project, *command)
        assert digests(project, outputs) == before

    def test_dvc_shows_metrics(self, project: Path) -> None:
        assert "data/results/mmin/metrics.json" in run(project, "dvc", "metrics", "show", "--json")

    def test_the_sentences_ratings_are_learnt_as_scores(self, project: Path) -> None:
        original = (project / "params.yaml").read_text()
        change(project, "experiments.mmin.task", "regression")
        change(project, "experiments.mmin.select_by", "mae")
        ran = repro(project)
        assert set(ran) == {"check", "train@mmin", "evaluate@mmin", "report"}
        average = json.loads((project / "data/results/mmin/metrics.json").read_text())["average"]
        assert {"mae", "r", "acc2_non0", "f1_has0", "acc3", "acc5", "acc7"} <= average.keys()
        assert 0 < average["mae"]["mean"] < 4
        page = (project / "data/report/index.html").read_text()
        assert all(f">{kind}</h3>" in page for kind in ("Classes", "Scores"))
        (project / "params.yaml").write_text(original)
        assert repro(project) == []
