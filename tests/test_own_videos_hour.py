"""The first hour with one's own videos: from a folder of clips to a report, and to a colleague who extracts nothing.

Every step is a command that docs/your-own-videos.md gives. The clips are real ones of CREMA-D, as somebody may have
them: pictures and sound, sound alone, one file cut into two rows, a name with a space, one that is no video.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
from collections.abc import Callable
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


def test_from_a_folder_of_clips_to_a_colleague(assets: Callable[[str], Path], tmp_path: Path) -> None:
    clips, project = tmp_path / "my clips", tmp_path / "project"
    write_clips(assets("cremad"), clips)
    copy_project(project, size=20, epochs=1)
    write_params(project)
    here = {"LACUNA_MEDIA_MINE": str(clips)}

    # Look at one clip, then at the table.
    run(project, "lacuna", "extract", str(clips / WHOLE), "--with", "opensmile", "--out", "one.csv")
    first_line, *lines = (project / "one.csv").read_text(encoding="utf-8").splitlines()
    assert first_line.count(",") >= 130
    assert len(lines) > 100  # 100 rows a second
    assert "correct" in run(project, "lacuna", "params", "check", env=here)
    told = run(project, "lacuna", "dataset", "check", "mine", env=here)
    assert re.search(r"\b13\b", told), told

    # Features, a look at them, training, the page.
    ran = run(project, "dvc", "repro", "report", env=here)
    assert "train@mine-linear" in ran
    with h5py.File(project / "data/features/mine/video.h5") as file:
        ids = [one.decode() for one in file["ids"][:]]
        status = dict(zip(ids, file["status"][:].tolist(), strict=True))
    assert status.pop("broken") == 2
    assert {one for one, number in status.items() if number == 1} == {
        f"{label}-3" for label in LABELS.values()
    }
    page = (project / "data/report/index.html").read_text(encoding="utf-8")
    assert "mine-linear" in page
    assert "broken.mp4" in page
    run(
        project,
        *("lacuna", "features", "show", "data/features/mine/video.h5"),
        *("--id", "happy-1", "--picture", "happy.png"),
        env=here,
    )
    assert (project / "happy.png").read_bytes()[:4] == b"\x89PNG"
    told = run(
        project,
        *("lacuna", "predict", str(clips / WHOLE), "--text", WORDS, "--experiment", "mine-linear"),
    )
    assert any(label in told for label in LABELS.values())

    # A colleague has neither the clips nor the same path.
    run(project, "dvc", "remote", "add", "-d", "team", str(tmp_path / "our store"))
    run(project, *GIT, "add", "-A")
    run(project, *GIT, "commit", "-qm", "My clips")
    run(project, "dvc", "push")
    made = digests(project, *MADE)
    shutil.move(clips, tmp_path / "gone")
    clone = tmp_path / "elsewhere" / "colleague"
    clone.parent.mkdir()
    run(tmp_path, "git", "clone", "-q", str(project), str(clone))
    run(clone, "dvc", "pull", "--with-deps", "report")  # the demo and its assets were not made
    assert repro(clone, "report") == ["media@mine"]
    assert digests(clone, *MADE) == made
    assert not os.path.lexists(clips)

    # Who has the clips elsewhere, and one more, extracts that one alone.
    moved = tmp_path / "gone"
    with (moved / "samples.csv").open("a", encoding="utf-8", newline="") as file:
        file.write(f'more,{WHOLE},,0.3,1.5,"{WORDS}",anna,happy,train\n')
    (clone / "params.local.yaml").write_text(yaml.safe_dump({"media": {"mine": str(moved)}}))
    told = run(clone, "dvc", "repro", "extract-audio@mine")
    assert re.findall(r"Running stage '([^']+)'", told) == [
        "media@mine",
        "prepare@mine",
        "extract-audio@mine",
    ]
    with h5py.File(clone / "data/features/mine/audio.h5") as file:
        assert file["ids"][-1].decode() == "more"
