"""The first hour with one's own videos: from a folder of clips to a report, and to a colleague who extracts nothing.

Every step is a command that docs/your-own-videos.md gives. The clips are real ones of CREMA-D, as somebody may have
them: pictures and sound, sound alone, one file cut into two rows, a name with a space, one that is no video.
"""

from __future__ import annotations

import csv
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import pytest
import yaml

from tests.project import GIT, copy_project, digests, repro, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

LABELS = {"HAP": "happy", "NEU": "neutral", "SAD": "sad", "ANG": "angry"}
WORDS = "Don't forget a jacket."
WHOLE = "happy one.flv"
MADE = ("data/manifests/*", "data/features/mine/*", "data/runs/*/*", "data/results/*/*", "data/media/*")


def write_clips(cremad: Path, folder: Path) -> None:
    """Fill a folder with clips and samples.csv: 4 films in two parts each, 4 sounds, and a broken film."""
    folder.mkdir()
    rows: list[dict[str, object]] = []
    for code, label in LABELS.items():
        film, sound = WHOLE if code == "HAP" else f"{label}.flv", f"{label}.mp3"
        shutil.copy(cremad / f"1001_DFA_{code}_XX.flv", folder / film)
        shutil.copy(cremad / f"1002_DFA_{code}_XX.mp3", folder / sound)
        shown = {"label": label, "text": WORDS}
        part = {"video_path": film, "speaker": "anna"}
        rows += [
            {"id": f"{label}-1", **part, "end_s": 1.2, "split": "train", **shown},
            {"id": f"{label}-2", **part, "start_s": 1.2, "split": "test", **shown},
            {"id": f"{label}-3", "audio_path": sound, "speaker": "ben", "split": "valid", **shown},
        ]
    (folder / "broken.mp4").write_bytes(b"This is no film." * 1000)
    rows.append({"id": "broken", "video_path": "broken.mp4", "label": "sad", "text": WORDS, "split": "train"})
    columns = ["id", "video_path", "audio_path", "start_s", "end_s", "text", "speaker", "label", "split"]
    with (folder / "samples.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def write_params(folder: Path) -> None:
    """Name the clips in params.yaml, as step 3 of the page does, in place of the demo."""
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["media"] = {"mine": "data/not-on-this-machine"}
    params["compute"]["max_failed_share"] = 0.2
    params["extractors"]["video"]["facelandmarker"]["frame_rate_hz"] = 2
    params["datasets"] = {
        "mine": {
            "loader": "folder",
            "root": "data/media/mine",
            "options": {},
            "labels": list(LABELS.values()),
            "folds": {"scheme": "official"},
            "text": {"extractor": "glove"},
            "audio": {"extractor": "opensmile"},
            "video": {"extractor": "facelandmarker"},
        }
    }
    params["experiments"] = {
        "mine-linear": {"dataset": "mine", "model": "linear", "train_on": "augmented", "epochs": 3}
    }
    params["report"] = {"title": "Mine"}
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


@dataclass(frozen=True)
class Own:
    """Somebody's clips, and the project that stands on them, with all stages up to the page run and committed."""

    clips: Path
    project: Path
    here: dict[str, str]  # the environment in which the clips are found


@pytest.fixture(scope="module")
def own(assets: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Own:
    base = tmp_path_factory.mktemp("own")
    clips, project = base / "my clips", base / "project"
    write_clips(assets("cremad"), clips)
    copy_project(project, size=20, epochs=1)
    write_params(project)
    here = {"LACUNA_MEDIA_MINE": str(clips)}

    assert "correct" in run(project, "lacuna", "params", "check", env=here)
    told = run(project, "lacuna", "dataset", "check", "mine", env=here)
    assert re.search(r"\b13\b", told), told
    assert "train@mine-linear" in run(project, "dvc", "repro", "report", env=here)
    run(project, *GIT, "add", "-A")
    run(project, *GIT, "commit", "-qm", "My clips")
    return Own(clips, project, here)


def test_features_a_page_and_a_prediction(own: Own) -> None:
    project = own.project
    whole = str(own.clips / WHOLE)
    run(project, "lacuna", "extract", whole, "--with", "opensmile", "--out", "data/one.csv")
    first_line, *lines = (project / "data/one.csv").read_text(encoding="utf-8").splitlines()
    assert first_line.count(",") >= 130
    assert len(lines) > 100  # 100 rows a second
    with h5py.File(project / "data/features/mine/video.h5") as file:
        ids = [one.decode() for one in file["ids"][:]]
        status = dict(zip(ids, file["status"][:].tolist(), strict=True))
    assert status.pop("broken") == 2
    without = {one for one, number in status.items() if number == 1}
    assert without == {f"{label}-3" for label in LABELS.values()}
    page = (project / "data/report/index.html").read_text(encoding="utf-8")
    assert "mine-linear" in page
    assert "broken.mp4" in page
    command = ["lacuna", "features", "show", "data/features/mine/video.h5", "--id", "happy-1"]
    run(project, *command, "--picture", "data/happy.png", env=own.here)
    assert (project / "data/happy.png").read_bytes()[:4] == b"\x89PNG"
    told = run(project, "lacuna", "predict", whole, "--text", WORDS, "--experiment", "mine-linear")
    assert any(label in told for label in LABELS.values())


def test_a_colleague_without_the_clips_makes_nothing_again(own: Own, tmp_path: Path) -> None:
    project = own.project
    run(project, "dvc", "remote", "add", "-f", "-d", "--local", "team", str(tmp_path / "our store"))
    run(project, "dvc", "push")
    made = digests(project, *MADE)
    clone = tmp_path / "elsewhere" / "colleague"
    clone.parent.mkdir()
    run(tmp_path, "git", "clone", "-q", str(project), str(clone))
    run(clone, "dvc", "remote", "add", "-d", "--local", "team", str(tmp_path / "our store"))
    run(clone, "dvc", "pull", "--with-deps", "report")  # the demo and its assets were not made
    nowhere = {"LACUNA_MEDIA_MINE": str(tmp_path / "no such folder")}
    told = run(clone, "dvc", "repro", "report", env=nowhere)
    assert re.findall(r"Running stage '([^']+)'", told) == ["media@mine"]
    assert digests(clone, *MADE) == made

    # Who has the clips elsewhere, and one more row, computes that one.
    moved = tmp_path / "my disk"
    shutil.copytree(own.clips, moved)
    with (moved / "samples.csv").open("a", encoding="utf-8", newline="") as file:
        file.write(f'more,{WHOLE},,0.3,1.5,"{WORDS}",anna,happy,train\n')
    (clone / "params.local.yaml").write_text(yaml.safe_dump({"media": {"mine": str(moved)}}))
    assert repro(clone, "extract-audio@mine") == ["media@mine", "prepare@mine", "extract-audio@mine"]
    with h5py.File(clone / "data/features/mine/audio.h5") as file:
        assert file["ids"][-1].decode() == "more"


def test_experiments_with_other_settings(own: Own, tmp_path: Path) -> None:
    """The README's block on DVC's experiments: run, queue, show, and what differs between branches."""
    project = tmp_path / "mine"
    run(tmp_path, "git", "clone", "-q", str(own.project), str(project))
    run(project, "dvc", "cache", "dir", "--local", str(own.project / ".dvc/cache"))
    run(project, "dvc", "checkout", "--allow-missing", env=own.here)
    variables = [f"GIT_{who}_{what}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")]
    here = {**own.here, **dict.fromkeys(variables, "test@example.org")}
    setting = "experiments.mine-linear.epochs"
    told = run(project, "dvc", "exp", "run", "-n", "two", "-S", f"{setting}=2", "report", env=here)
    ran = re.findall(r"Running stage '([^']+)'", told)
    assert {"train@mine-linear", "evaluate@mine-linear", "report"} <= set(ran)
    assert not [stage for stage in ran if stage.startswith("extract")]

    run(project, *GIT, "checkout", "-q", "--", ".")
    run(project, "dvc", "exp", "run", "--queue", "-n", "four", "-S", f"{setting}=4", "report", env=here)
    run(project, "dvc", "queue", "start", "-j", "1", env=here)
    for _ in range(240):
        told = run(project, "dvc", "queue", "status", env=here)
        if "Success" in told or "Failed" in told:
            break
        time.sleep(1)
    assert "Success" in told, told + run(project, "dvc", "queue", "logs", "four", env=here)

    rows = list(csv.DictReader(run(project, "dvc", "exp", "show", "--csv", env=here).splitlines()))
    shown = {
        row["Experiment"]: row[f"params.yaml:{setting}"] if f"params.yaml:{setting}" in row else row[setting]
        for row in rows
        if row["Experiment"]
    }
    assert (shown["two"], shown["four"]) == ("2", "4")

    run(project, "dvc", "exp", "branch", "four", "four-epochs", env=here)
    told = run(project, "dvc", "metrics", "diff", "HEAD", "four-epochs", "--all", env=here)
    assert "data/results/mine-linear/metrics.json" in told
    told = run(project, "dvc", "plots", "diff", "HEAD", "four-epochs", "-o", "data/plots", env=here)
    assert (project / "data/plots/index.html").is_file(), told
