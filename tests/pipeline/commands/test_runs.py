"""lacuna runs and lacuna compare: what stands in data/, in the terminal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from pipeline.commands.cli import main
from pipeline.commands.runs import seconds_an_epoch, settings_that_differ
from tests import report_tree
from tests.project import ROOT


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder with three experiments; its params.yaml is the project's with these."""
    folder = tmp_path_factory.mktemp("project")
    report_tree.write_tree(folder / "data")
    for name in report_tree.GAIN:
        report_tree.write_predictions(folder / "data", name)
    shutil.copy(ROOT / "params.yaml", folder / "params.yaml")
    raw = yaml.safe_load((folder / "params.yaml").read_text())
    made = report_tree.params()
    raw["experiments"] = {n: one.model_dump(exclude_unset=True) for n, one in made.experiments.items()}
    raw["report"] = {"baseline": "full-modality"}
    (folder / "params.yaml").write_text(yaml.safe_dump(raw))
    return folder


def run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str]:
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as ended:
        main(words)
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out + said.err


def test_runs_lists_every_experiment(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = run(tree, monkeypatch, capsys, "runs")
    assert status == 0
    assert (
        "mmin: mmin by standard on demo, trained on missing: evaluated, 5 run(s), UA 0.605 (average)" in said
    )
    times = tree / "data/cache/times/mmin.json"
    times.parent.mkdir(parents=True)
    times.write_text(
        json.dumps({"1-1": {"seconds": 3.0, "epochs": 10}, "2-1": {"seconds": 5.0, "epochs": 10}})
    )
    assert "UA 0.605 (average), 0.4 s an epoch" in run(tree, monkeypatch, capsys, "runs")[1]
    times.write_text("{")
    assert seconds_an_epoch(tree / "data", "mmin") is None
    (row,) = [
        one
        for one in json.loads(run(tree, monkeypatch, capsys, "runs", "--json")[1])
        if one["name"] == "mmin"
    ]
    assert row["mean"] == pytest.approx(0.605, abs=5e-4) and row["state"] == "evaluated"


def test_runs_names_what_differs(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = run(tree, monkeypatch, capsys, "runs", "full-modality", "augmented")
    assert status == 0 and 'train_on: "full" | "augmented"' in said and "1 setting(s) differ" in said
    assert "the same settings" in run(tree, monkeypatch, capsys, "runs", "mmin", "mmin")[1]
    status, said = run(tree, monkeypatch, capsys, "runs", "mmin")
    assert status == 1 and "expected none or two" in said
    found = settings_that_differ({"a": {"b": 1, "c": 2}, "d": 1}, {"a": {"b": 1, "c": 3}})
    assert found == {"a.c": ("2", "3"), "d": ("1", "null")}


def test_compare_prints_differences_and_p(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = run(tree, monkeypatch, capsys, "compare", "mmin", "augmented")
    assert status == 0 and 'model: "mmin" | "baseline"' in said and "p (Holm)" in said
    (line,) = [one for one in said.splitlines() if one.startswith("average ") and " UA " in one]
    assert line.split()[2:5] == ["0.605", "0.581", "+0.024"] and line.split()[-1] == "5"
    found = json.loads(run(tree, monkeypatch, capsys, "compare", "mmin", "augmented", "--json")[1])
    assert {row["condition"] for row in found["tests"]} == {*report_tree.LEVEL, "average", "pooled"}
    for row in found["tests"]:
        assert row["p"] is None or row["p_holm"] >= row["p"]


def test_compare_says_what_is_not_there(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, said = run(tree, monkeypatch, capsys, "compare", "mmin", "augmentd")
    assert status == 1 and "augmented" in said
    shutil.copytree(tree, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy/data/results/mmin")
    status, said = run(tmp_path / "copy", monkeypatch, capsys, "compare", "mmin", "augmented")
    assert status == 1 and "dvc repro evaluate@mmin" in said
