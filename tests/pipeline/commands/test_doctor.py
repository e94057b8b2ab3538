"""Where `lacuna doctor` looks for OpenFace: where the extractor does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.commands.doctor import Finding, examine
from pipeline.params import load_params
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
