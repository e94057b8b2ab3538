"""Presets through training, evaluation and report, on a world that is small enough."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import evaluate, mask, report, train
from pipeline.commands.preset import Draft, load_preset, make_draft, make_plan, write_plan
from pipeline.params import Params, load_params
from tests import small_world

PARAMS = Path(__file__).parents[3] / "params.yaml"
pytestmark = pytest.mark.slow


def short(made: Draft, models: tuple[str, ...], ends: str = "", **more: Any) -> Draft:
    """Return a preset with one epoch and one run of each experiment, of some models, whose name ends so."""
    fields = {"epochs": 1, "runs": 1, "batch_size": 64, **more}
    own = {
        n: one | fields for n, one in made.experiments.items() if one["model"] in models and n.endswith(ends)
    }
    for one in own.values():
        if one["model"] == "emmr":
            one["settings"] = {**one.get("settings", {}), "size": 12, "heads": 2, "inner": 16}
    table: dict[str, Any] = {**made.table, "experiments": list(own)}
    for kind in ("published", "against", "p_values"):
        table[kind] = {name: row for name, row in table.get(kind, {}).items() if name in own}
    return replace(made, experiments=own, table=table)


def prepare(
    folder: Path, preset: str, models: tuple[str, ...], datasets: tuple[str, ...] = ("small",), **more: Any
) -> Params:
    """Write the small dataset, under each name, and params.yaml with a preset's experiments, short ones."""
    raw = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    folds = {"scheme": "speaker-partner", "count": 3}
    own = {**raw["datasets"]["demo"], "folds": folds, "labels": list(small_world.CLASSES)}
    for name in datasets:
        small_world.write(folder / "data", 40, name, missing=[("video", 3)])
    raw["datasets"] = dict.fromkeys(datasets, own)
    raw.update(experiments={}, report={}, compute={"device": "cpu", "workers": 1})
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(raw))
    params = load_params(path)
    made = [short(make_draft(preset, load_preset(preset), name, params), models, **more) for name in datasets]
    write_plan(make_plan(made, params, raw), path)
    return load_params(path)


def run(params: Params) -> None:
    for dataset in params.datasets:
        mask.main(params, dataset)
    for name in params.experiments:
        train.main(params, name)
        evaluate.main(params, name)
    report.main(params)


def rows(name: str) -> list[dict[str, str]]:
    with Path(f"data/report/tables/{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_table_5_of_mmin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(prepare(tmp_path, "mmin-table5", models=("baseline", "mmin", "mctn", "linear")))
    table = rows("mmin-table5-small-conditions")
    assert [row["experiment"] for row in table if row["metric"] == "UA"] == [
        "full-modality", "augmented", "mmin", "MCTN", "linear",
    ]  # fmt: skip
    (mctn,) = [row for row in table if (row["experiment"], row["metric"]) == ("MCTN", "WA")]
    numbers = [float(mctn[c].split()[0]) for c in ("{a}", "{v}", "{t}", "{a,v}", "{a,t}", "{v,t}")]
    assert float(mctn["average"].split()[0]) == pytest.approx(sum(numbers) / 6, abs=6e-4)
    assert mctn["{a,v,t}"] == "–"
    tests = {
        (row["experiment"], row["against"], row["condition"], row["metric"]): row
        for row in rows("mmin-table5-small-tests")
    }
    for other in ("full-modality", "augmented", "MCTN"):
        for metric in ("WA", "UA", "macro-F1"):
            assert tests["mmin", other, "average of six", metric]["pairs"] == "3"
    published = {
        (row["published as"], row["metric"], row["condition"]): row
        for row in rows("mmin-table5-small-published")
    }
    assert published["MCTN", "WA", "average of six"]["published"] == "0.5894"
    assert published["MCTN", "WA", "average of six"]["experiment"] == "MCTN"
    page = Path("data/report/index.html").read_text(encoding="utf-8")
    for words in ("on 5531 samples; ours is on 40", "is over 10 folds × 3 runs; ours is over 3 folds"):
        assert words in page


def test_table_5_of_m3s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(prepare(tmp_path, "m3s-table5", models=("mmin", "mmim")))
    found = {(row["published as"], row["metric"]): row for row in rows("m3s-table5-small-p-values")}
    assert found.keys() == {("MMIN", "WA"), ("MMIN", "UA"), ("MMIN", "weighted F1")}
    assert {row["against"] for row in found.values()} == {"mmin-orig-40-60"}
    scores = {(row["published as"], row["metric"]): row for row in rows("m3s-table5-small-scores-p-values")}
    assert scores["MMIM", "Acc-7"]["published p"] == "0.0263"
    assert {row["pairs"] for row in (*found.values(), *scores.values())} == {"3"}
    page = Path("data/report/index.html").read_text(encoding="utf-8")
    assert "number K of inner steps (K is 1 here)" in page
    assert "under all three regimes alike" in page
    assert "under the masks of training: block-40-60, block-40-60-sampled." in page


ONE_FOLD = {"scheme": "random", "shares": [0.6, 0.2, 0.2]}


def test_figure_4_of_emmr_has_a_part_for_each_embedding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(prepare(tmp_path, "emmr-fig4", ("emmr",), ("small", "small-glove"), ends="-20", folds=ONE_FOLD))
    for dataset in ("small", "small-glove"):
        (row,) = [row for row in rows(f"emmr-fig4-{dataset}-conditions") if row["metric"] == "macro-F1"]
        assert row["experiment"].startswith("emmr-missing-20") and row["one-missing-at-20"] != "–"


def test_figure_5_of_emmr_has_both_losses_of_each_distance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(prepare(tmp_path, "emmr-fig5", ("emmr",), ends="-20", folds=ONE_FOLD))
    found = {}
    for name in ("emmr-mae-missing-20", "emmr-cosine-missing-20", "emmr-missing-20"):
        with Path(f"data/runs/{name}/1-1/history.csv").open() as file:
            (row,) = csv.DictReader(file)
        found[name] = (row["train_forward"], row["train_backward"])
        assert f"{name}</h4>" in Path("data/report/index.html").read_text(encoding="utf-8")
    assert len(set(found.values())) == 3


def test_figure_7_of_emmr_has_three_ensembles_at_two_rates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(prepare(tmp_path, "emmr-fig7", ("emmr",), folds=ONE_FOLD))
    drawn = [Path(f"data/report/figures/emmr-fig7-small-joint-{i}.svg").read_text() for i in (1, 2)]
    for rate in (20, 40):
        for name in ("emmr-tf-joint", "emmr-tf-ae-joint", "emmr-joint"):
            assert sum(svg.count(f">{name}-missing-{rate}<") for svg in drawn) == 1


def test_figure_9_of_emmr_counts_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(prepare(tmp_path, "emmr-fig9", ("emmr",), folds=ONE_FOLD))
    names = ("emmr-tf-missing-0", "emmr-tf-ae-missing-0", "emmr-missing-0")
    counts = [json.loads(Path(f"data/runs/{n}/summary.json").read_text())["parameters"] for n in names]
    assert counts == sorted(set(counts))
    page = Path("data/report/index.html").read_text(encoding="utf-8")
    assert all(f"{count:,}".replace(",", "\u202f") in page for count in counts)
