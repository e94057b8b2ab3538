"""``lacuna doctor``: what it finds on this machine, and where it looks for OpenFace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.commands import doctor
from pipeline.commands.doctor import Finding, examine
from pipeline.data.fetching import fetch
from pipeline.params import load_params
from tests.command_line import Command
from tests.openface_program import write_program


def openface(folder: Path, **settings: Any) -> list[Finding]:
    """Write a params.yaml; select OpenFace in it with these settings, or not when there are none."""
    chosen = {"extractor": "openface", "settings": settings} if settings else {"extractor": "fer"}
    section = {
        "loader": "folder",
        "root": ".",
        "options": {},
        "text": {"extractor": "bert"},
        "audio": {"extractor": "opensmile"},
        "video": chosen,
    }
    extractors = {"text": {"bert": {}}, "audio": {"opensmile": {}}, "video": {chosen["extractor"]: {}}}
    params = {"datasets": {"mine": section}, "extractors": extractors}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    found = examine(load_params(folder / "params.yaml"))
    return [finding for finding in found if finding.part == "programs"]


def test_openface_by_the_path_and_by_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = openface(tmp_path)
    assert (finding.state, finding.detail) == (
        "note",
        "FeatureExtraction is not on the PATH; nothing selected needs it",
    )
    (finding,) = openface(tmp_path, frame_rate_hz=8)
    assert finding.state == "lacking"
    assert finding.remedy.startswith("Install OpenFace 2")
    (finding,) = openface(tmp_path, executable=str(tmp_path / "absent"))
    assert (finding.state, finding.detail) == ("lacking", f"{tmp_path / 'absent'} is no program")
    (finding,) = openface(tmp_path, csv_folder=str(tmp_path))  # its csv files are enough
    assert finding.state == "note"
    elsewhere = write_program(tmp_path / "openface")
    (finding,) = openface(tmp_path, executable=str(elsewhere))
    assert (finding.state, finding.detail) == ("ok", str(elsewhere.resolve()))
    program = write_program(tmp_path / "FeatureExtraction")
    (finding,) = openface(tmp_path)
    assert (finding.state, finding.detail) == ("ok", str(program.resolve()))


def test_it_names_what_is_here(lacuna: Command, project: Path) -> None:
    status, out, err = lacuna("doctor")
    assert err == ""
    for words in (
        "Python",
        "torch",
        "ffmpeg",
        "libavcodec",
        "opensmile",
        "mediapipe",
        "libGL",
        "OpenFace",
    ):
        assert words in out
    for name in load_params().assets:
        assert f"{name}: not fetched yet" in out
    lacking = [line for line in out.splitlines() if line.startswith("  !!")]
    assert status == (1 if lacking else 0)


def test_a_library_that_the_selection_needs_is_lacking(
    lacuna: Command, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_load", lambda library: None if library == "libEGL.so" else library)
    status, out, _ = lacuna("doctor")
    assert status == 1
    assert "!!  libEGL.so: not found; needed by facelandmarker" in out
    assert "apt-get install libegl1" in out


def test_the_same_library_is_a_note_when_nothing_needs_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_load", lambda _: None)
    raw = yaml.safe_load((project / "params.yaml").read_text())
    raw["datasets"] = {}
    raw["experiments"] = {}
    (project / "params.yaml").write_text(yaml.safe_dump(raw))
    found = [one for one in doctor.examine(load_params()) if one.part == "system libraries"]
    assert found
    assert {one.state for one in found} == {"note"}


def test_a_changed_asset_is_lacking(lacuna: Command, project: Path) -> None:
    weights = project / "weights"
    weights.mkdir()
    (weights / "face_landmarker.task").write_bytes(b"mine")
    raw = yaml.safe_load((project / "params.yaml").read_text())
    raw["assets"]["facelandmarker"] = {"path": str(weights), "licence": "mine"}
    (project / "params.yaml").write_text(yaml.safe_dump(raw))
    folder = fetch(
        "facelandmarker", load_params().asset("facelandmarker"), Path("data/assets/facelandmarker")
    )
    assert "checksums correct; mine" in lacuna("doctor")[1]
    (folder / "face_landmarker.task").write_bytes(b"other")
    status, out, _ = lacuna("doctor")
    assert status == 1
    assert "!!  facelandmarker" in out
    assert "dvc repro -f -s assets@facelandmarker" in out


def test_another_version_than_the_locks_is_a_note(lacuna: Command, project: Path) -> None:
    Path("requirements.lock").write_text("# pins\nnumpy==0.0.1\nno-such-thing==1\n")
    _, out, _ = lacuna("doctor")
    assert "--  versions: 0 of 2 packages" in out
    assert f"numpy {np.__version__} (locked 0.0.1)" in out
    assert "absent: no-such-thing" in out


def test_a_mistake_in_params_is_shown_and_the_rest_as_well(lacuna: Command, project: Path) -> None:
    Path("params.yaml").write_text("seed: x\ndatasets: {}\n")
    status, out, _ = lacuna("doctor")
    assert status == 1
    assert "torch" in out
    assert "seed: found 'x'" in out


def test_weights_that_selected_extractors_lack(project: Path, tmp_path: Path) -> None:
    raw = yaml.safe_load((project / "params.yaml").read_text())
    raw["datasets"]["demo"]["text"]["extractor"] = "word2vec"
    raw["datasets"]["demo"]["audio"]["extractor"] = "wav2vec2"
    raw["datasets"]["demo"]["video"]["extractor"] = "denseface"
    raw["extractors"]["text"]["word2vec"]["path"] = str(tmp_path / "none.vec")
    raw["extractors"]["video"]["denseface"]["weights"] = str(tmp_path / "own.safetensors")
    del raw["assets"]["wav2vec2"]
    (tmp_path / "own.safetensors").touch()
    (project / "params.yaml").write_text(yaml.safe_dump(raw))
    found = [(one.name, one.state, one.detail) for one in doctor._weights(load_params())]
    assert found == [
        ("word2vec", "lacking", f"path {tmp_path / 'none.vec'}: no such file or folder"),
        ("wav2vec2", "lacking", "datasets.demo.audio selects it; assets.wav2vec2 is not there"),
        ("wav2vec2", "lacking", "datasets.demo.audio selects it, and it has no weights"),
    ]
