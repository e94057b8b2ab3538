"""docs/your-own-videos.md played by its commands: from a folder of real clips to a colleague who extracts nothing."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from pipeline.features import open_features
from tests.project import GIT, change, copy_project, digests, repro, run, try_run
from tests.test_own_videos_page import block

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
LABELS = {"ANG": "angry", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
TEXT = "Don't forget a jacket."  # what CREMA-D's speakers say in these clips
CUT_S = 1.2  # the clips with pictures last two seconds and more; each is two samples
SPACED = "anna take 1.mp4"
MADE = ("data/manifests/*", "data/features/**/*", "data/masks/*", "data/runs/**/*", "data/results/**/*")
STAGES = ("prepare@mine", "extract-text@mine", "extract-audio@mine", "extract-video@mine", "mask@mine")


CLOSED = ("unshare", "--map-root-user", "--net")  # no interface is up, not even loopback


def lacuna(project: Path, *words: str, within: tuple[str, ...] = ()) -> str:
    """Run ``lacuna`` in a project's folder, ``within`` another command, and return what it printed."""
    return run(project, *within, sys.executable, "-m", "pipeline.commands.cli", *words)


def encode_anew(source: Path, target: Path) -> None:
    """Write a clip's pictures and sound as H.264 and AAC."""
    with av.open(str(source)) as given, av.open(str(target), "w") as written:
        pictures, sound = given.streams.video[0], given.streams.audio[0]
        new_pictures = written.add_stream("libx264", rate=pictures.average_rate)
        new_pictures.width, new_pictures.height, new_pictures.pix_fmt = (
            pictures.width,
            pictures.height,
            "yuv420p",
        )
        new_sound = written.add_stream("aac", rate=sound.rate, layout=sound.layout)
        for frame in given.decode(pictures, sound):
            written.mux((new_pictures if isinstance(frame, av.VideoFrame) else new_sound).encode(frame))
        for stream in (new_pictures, new_sound):
            written.mux(stream.encode(None))


@pytest.fixture(scope="module")
def media(assets: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of real clips and the page's table of them: four films, each cut in two, and four sounds."""
    folder = tmp_path_factory.mktemp("hour") / "my clips"
    (folder / "ben").mkdir(parents=True)
    rows: list[dict[str, str | float]] = []
    for number, (code, label) in enumerate(LABELS.items()):
        film = SPACED if number == 0 else f"anna-{number}.flv"
        sound = f"ben/{number}.mp3"
        source = assets("cremad") / f"1001_DFA_{code}_XX.flv"
        if number == 0:
            encode_anew(source, folder / film)
        else:
            shutil.copy(source, folder / film)
        shutil.copy(assets("cremad") / f"1002_DFA_{code}_XX.mp3", folder / sound)
        rows += [
            {"id": f"{label}-1", "video_path": film, "end_s": CUT_S, "text": TEXT, "split": "train"},
            {"id": f"{label}-2", "video_path": film, "start_s": CUT_S, "text": "", "split": "valid"},
            {"id": f"{label}-3", "audio_path": sound, "text": TEXT, "split": "test"},
        ]
        for row in rows[-3:]:
            row["label"] = label
    with (folder / "samples.csv").open("w", encoding="utf-8", newline="") as file:
        fields = ["id", "video_path", "audio_path", "start_s", "end_s", "text", "label", "split"]
        table = csv.DictWriter(file, fields)
        table.writeheader()
        table.writerows(rows)
    return folder


@pytest.fixture(scope="module")
def project(media: Path) -> Path:
    """A project whose one dataset is that folder and whose one experiment is the linear floor."""
    folder = media.parent / "lacuna"
    copy_project(folder, size=20, epochs=1)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params |= yaml.safe_load(block("yaml"))
    params["media"]["mine"] = str(media)
    params["datasets"]["mine"]["text"]["extractor"] = "glove"  # cheaper to fetch than bert
    del params["experiments"]["mine-mmin"]
    params["assets"] = {
        name: params["assets"][name]
        for name in ("cremad", "sentences", "glove", "opensmile", "facelandmarker")
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    change(folder, "extractors.video.facelandmarker.frame_rate_hz", 4)
    return folder


class TestTheHour:
    """In this order, each on what came before."""

    def test_one_clip_is_looked_at_without_a_dataset(
        self, project: Path, media: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "one.csv"
        lacuna(project, "extract", str(media / SPACED), "--with", "opensmile", "--out", str(out))
        table = pd.read_csv(out)
        assert table.shape[1] == 3 + 130  # id, time and whether it was observed; the page says 130
        assert table["time_s"].diff().median() == pytest.approx(0.01)
        assert 2 < table["time_s"].max() < 4

    def test_the_table_is_checked_before_anything_is_extracted(self, project: Path) -> None:
        assert "correct: 5 assets, 1 datasets" in lacuna(project, "params", "check")
        found = json.loads(lacuna(project, "dataset", "check", "mine", "--json"))
        assert found["counts"]["split"] == {"train": 4, "valid": 4, "test": 4}
        assert {name: found["modalities"][name] for name in ("text", "audio", "video")} == {
            "text": 8,
            "audio": 12,
            "video": 8,
        }
        assert (found["missing_files"], found["skipped"], found["notes"]) == ([], [], [])
        assert not (project / "data/features").exists()

    def test_repro_ends_with_a_report_that_names_the_experiment(self, project: Path) -> None:
        assert {*STAGES, "train@mine-linear", "evaluate@mine-linear", "report"} <= set(repro(project))
        assert "mine-linear" in (project / "data/report/index.html").read_text(encoding="utf-8")
        for modality in ("text", "audio", "video"):
            with open_features("mine", modality, data=project / "data") as features:
                counts = Counter(features[name].status.name for name in features.ids)
            assert counts == ({"OK": 12} if modality == "audio" else {"OK": 8, "MISSING": 4})
        run(project, *GIT, "add", "-A")
        run(project, *GIT, "commit", "-qm", "Features and models")

    def test_a_picture_of_a_clip_is_drawn(self, project: Path, tmp_path: Path) -> None:
        store, look = "data/features/mine/video.h5", tmp_path / "look.png"
        lacuna(project, "features", "show", store, "--id", "angry-1", "--picture", str(look))
        with Image.open(look) as picture:
            assert np.asarray(picture.convert("L")).std() > 10

    def test_a_clip_is_predicted_with_and_without_a_network(self, project: Path, media: Path) -> None:
        words = ("predict", str(media / SPACED), "--text", TEXT, "--experiment", "mine-linear", "--json")
        printed = lacuna(project, *words)
        found = json.loads(printed)
        assert {name: one["state"] for name, one in found["modalities"].items()} == dict.fromkeys(
            ("text", "audio", "video"), "available"
        )
        assert sum(found["probabilities"].values()) == pytest.approx(1)
        assert found["prediction"] == max(found["probabilities"], key=found["probabilities"].__getitem__)
        if shutil.which(CLOSED[0]) is None or try_run(project, *CLOSED, "true").returncode:
            pytest.skip("this machine lets nobody make a network namespace of their own")
        assert lacuna(project, *words, within=CLOSED) == printed

    def test_other_settings_are_tried_as_dvcs_experiments(self, project: Path, tmp_path: Path) -> None:
        """The README's block: run, queue, show, keep as a branch, and what differs between branches."""
        clone = tmp_path / "mine"
        run(tmp_path, "git", "clone", "-q", str(project), str(clone))
        run(clone, "dvc", "cache", "dir", "--local", str(project / ".dvc/cache"))
        run(clone, "dvc", "checkout")
        variables = [f"GIT_{who}_{what}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")]
        here = dict.fromkeys(variables, "test@example.org")
        setting = "experiments.mine-linear.epochs"
        told = run(clone, "dvc", "exp", "run", "-n", "two", "-S", f"+{setting}=2", env=here)
        ran = {*re.findall(r"Running stage '([^']+)'", told)}
        assert {"train@mine-linear", "evaluate@mine-linear", "report"} <= ran
        assert not [stage for stage in ran if stage.startswith(("extract", "mask", "prepare"))]

        run(clone, "git", "checkout", "-q", "--", ".")
        run(clone, "dvc", "exp", "run", "--queue", "-n", "four", "-S", f"+{setting}=4", env=here)
        run(clone, "dvc", "queue", "start", "-j", "1", env=here)
        for _ in range(240):
            told = run(clone, "dvc", "queue", "status", env=here)
            if "Success" in told or "Failed" in told:
                break
            time.sleep(1)
        assert "Success" in told, told + run(clone, "dvc", "queue", "logs", "four", env=here)

        rows = csv.DictReader(run(clone, "dvc", "exp", "show", "--csv", env=here).splitlines())
        shown = {row["Experiment"]: row[setting] for row in rows}
        assert (shown["two"], shown["four"]) == ("2", "4")

        run(clone, "dvc", "exp", "branch", "four", "four-epochs", env=here)
        told = run(clone, "dvc", "metrics", "diff", "HEAD", "four-epochs", "--all", env=here)
        assert "data/results/mine-linear/metrics.json" in told
        run(clone, "dvc", "plots", "diff", "HEAD", "four-epochs", "-o", "data/plots", env=here)
        assert (clone / "data/plots/index.html").is_file()

    def test_colleagues_extract_and_train_nothing(self, project: Path, media: Path, tmp_path: Path) -> None:
        """Neither who has no media, nor who has them elsewhere."""
        made = digests(project, *MADE)
        store = str(tmp_path / "a shared folder")
        run(project, "dvc", "remote", "add", "-d", "--local", "team", store)
        run(project, "dvc", "push", "--run-cache")
        assert "my clips" not in (project / "dvc.lock").read_text()

        elsewhere = tmp_path / "my disk"
        media.rename(elsewhere)
        for name, place in (("no media", None), ("media elsewhere", elsewhere)):
            clone = tmp_path / name
            run(tmp_path, "git", "clone", "-q", str(project), str(clone))
            run(clone, "dvc", "remote", "add", "-d", "--local", "team", store)
            if place:
                (clone / "params.local.yaml").write_text(yaml.safe_dump({"media": {"mine": str(place)}}))
            run(clone, "dvc", "pull", "--run-cache")
            assert digests(clone, *MADE) == made
            assert repro(clone) == ["media@mine"]
            assert digests(clone, *MADE) == made
            assert run(clone, "git", "status", "--porcelain") == ""
