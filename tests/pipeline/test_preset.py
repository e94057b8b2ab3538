"""Presets: every one is valid wherever it can go, and params.yaml keeps the rest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from pipeline import cli
from pipeline.errors import ParamsError
from pipeline.params import load_params
from pipeline.preset import Blocks, load_preset, make_blocks, preset_names, render, write_blocks
from pipeline.published import find_rows

PARAMS = Path(__file__).parents[2] / "params.yaml"
CASES = [(name, dataset) for name in preset_names() for dataset in load_preset(name).protocols]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml, the working directory."""
    shutil.copy(PARAMS, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "params.yaml"


def blocks(name: str, dataset: str) -> Blocks:
    return make_blocks(load_preset(name), dataset, load_params())


@pytest.mark.parametrize(("name", "dataset"), CASES)
def test_every_preset_gives_valid_params_and_rows_that_are_published(
    project: Path, name: str, dataset: str
) -> None:
    made = blocks(name, dataset)
    write_blocks(made)
    params = load_params()
    assert list(params.experiments) == list(load_preset(name).experiments)
    assert all(one.dataset == dataset for one in params.experiments.values())
    assert all(find_rows(row) for row in params.report.published.values())
    raw = yaml.safe_load(project.read_text())
    for experiment in raw["experiments"].values():  # what dvc.yaml names
        assert {"dataset", "model", "regime", "evaluate_on"} <= experiment.keys()
    printed = yaml.safe_load(render(made))
    assert {key: raw[key] for key in ("experiments", "report")} == {
        key: printed[key] for key in ("experiments", "report")
    }
    assert "&id" not in render(made)


def test_protocols_of_the_paper(project: Path) -> None:
    for dataset, metric in (("iemocap", "ua"), ("msp_improv", "macro_f1")):
        made = blocks("mmin-table5", dataset)
        assert made.dataset[dataset]["folds"] == {"scheme": "speaker-partner"}
        assert made.dataset[dataset]["video"] == {"extractor": "denseface"}
        assert {(e["runs"], e["select_by"]) for e in made.experiments.values()} == {(3, metric)}


def test_everything_else_stays_comments_and_all(project: Path) -> None:
    before = project.read_text()
    text = before.replace("experiments:\n", "# about experiments\nexperiments:\n", 1) + "\n# the end\n"
    project.write_text(text)
    write_blocks(blocks("mmin-table6", "iemocap"))
    after = project.read_text()
    old, new = yaml.safe_load(before), yaml.safe_load(after)
    assert new["datasets"].pop("iemocap")["loader"] == "iemocap"
    for key in old.keys() - {"experiments", "report"}:
        assert new[key] == old[key], key
    kept = text[: text.index("# about experiments")]
    assert [line for line in kept.splitlines() if line not in after.splitlines()] == []
    assert "# about experiments\nexperiments:\n" in after
    assert after.rstrip().endswith("# the end")
    once = after
    write_blocks(blocks("mmin-table6", "iemocap"))
    assert project.read_text() == once


def test_what_is_not_the_papers_is_said(project: Path) -> None:
    made = blocks("mmin-table5", "demo")
    assert any("facelandmarker; the paper's is denseface" in note for note in made.notes)
    assert render(made).startswith("# ")


def test_a_preset_that_does_not_fit_leaves_params_as_they_were(project: Path) -> None:
    text = project.read_text()
    made = blocks("mmin-table5", "demo")
    made.experiments["mmin"]["epochs"] = 0
    with pytest.raises(ParamsError, match="left as it was"):
        write_blocks(made)
    assert project.read_text() == text
    assert [path.name for path in project.parent.iterdir()] == ["params.yaml"]


def test_names_that_are_not_there(project: Path) -> None:
    with pytest.raises(ParamsError, match='Did you mean "mmin-table5"'):
        load_preset("mmin-tabel5")
    with pytest.raises(ParamsError, match="no protocol"):
        blocks("mmin-table6", "cremad")


def test_the_command(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["preset", *words])
        return int(ended.value.code or 0), capsys.readouterr().out

    status, listed = run()
    assert status == 0
    assert [line.split()[0] for line in listed.splitlines()] == preset_names()
    text = project.read_text()
    status, printed = run("mmin-table4")
    assert status == 0 and list(yaml.safe_load(printed)) == ["experiments", "report"]
    assert project.read_text() == text
    status, said = run("mmin-table4", "--write")
    assert status == 0 and "replaced the experiments augmented, mmin" in said
    assert list(load_params().experiments) == ["full-modality"]
