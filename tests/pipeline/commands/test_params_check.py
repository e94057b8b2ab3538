"""``lacuna params check``."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from pipeline import check
from pipeline.errors import ParamsError
from pipeline.params import load_params
from tests.command_line import Command
from tests.project import ROOT


def test_a_correct_file(lacuna: Command, project: Path) -> None:
    raw = yaml.safe_load((project / "params.yaml").read_text())
    sizes = ", ".join(f"{len(raw[key])} {key}" for key in ("assets", "datasets", "masks", "experiments"))
    assert lacuna("params", "check") == (0, f"params.yaml: correct: {sizes}\n", "")


def test_every_mistake_is_listed(lacuna: Command, project: Path) -> None:
    raw = yaml.safe_load((project / "params.yaml").read_text())
    raw["datasets"]["demo"]["audio"]["extractor"] = "opensmiel"
    raw["experiments"]["mmin"]["dataset"] = "dmeo"
    other = project / "other.yaml"
    other.write_text(yaml.safe_dump(raw))
    status, _, err = lacuna("params", "check", str(other))
    assert status == 1
    assert "2 mistake(s)" in err
    assert 'Did you mean "opensmile"?' in err
    assert 'Did you mean "demo"?' in err


def test_outside_a_project(lacuna: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = lacuna("params", "check")
    assert status == 1
    assert "Run Lacuna in the project's folder" in err


def test_every_section_that_dvc_needs_is_named_and_docs_say_which(project: Path, lacuna: Command) -> None:
    shutil.copy(ROOT / "dvc.yaml", project)
    raw = yaml.safe_load((project / "params.yaml").read_text())
    left = {key: raw[key] for key in ("assets", "datasets", "extractors")}
    (project / "params.yaml").write_text(yaml.safe_dump(left))
    names = ["corpus", "masks", "predictions", "report", "seed"]
    assert f"params.yaml: {', '.join(names)}: missing" in lacuna("params", "check")[2]
    for page in ("docs/params.md", "docs/your-own-videos.md"):
        said = re.search(r"`seed`, `corpus`, [^:]*:", (ROOT / page).read_text(encoding="utf-8"))
        assert said
        assert sorted({*re.findall(r"`(\w+)`", said[0])} - {"options"}) == names, page


def test_sections_without_which_dvc_would_fail_are_named(project: Path, lacuna: Command) -> None:
    shutil.copy(ROOT / "dvc.yaml", project)
    assert lacuna("params", "check")[0] == 0
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("\nseed: 0\n", "\n"))
    status, _, err = lacuna("params", "check")
    assert status == 1
    assert "params.yaml: seed: missing" in err
    with pytest.raises(ParamsError, match=r"params\.yaml: seed: missing"):  # before DVC comes to that stage
        check.main(load_params())
