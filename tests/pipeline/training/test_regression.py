"""Scores instead of classes, through all stages: what is read, trained, evaluated, predicted and shown."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline import report
from pipeline.data.manifest import read_manifest, write_manifest
from pipeline.data.masks import CONDITIONS
from pipeline.data.store import FeatureStore
from pipeline.errors import DataError, ParamsError
from pipeline.evaluate import write_results
from pipeline.params import Compute, Dataset, Experiment, Params, load_params, module_names
from pipeline.reporting.facts import gather
from pipeline.training import metrics
from pipeline.training.all_runs import train_experiment
from pipeline.training.evaluation import ScoreResult, against_chance, evaluate_experiment, summarise
from pipeline.training.metrics import Scale
from pipeline.training.predictor import load_run, predict
from pipeline.training.samples import read_samples
from tests import small_world
from tests.batches import SMALL

CPU = Compute(workers=1, device="cpu")
TWO = small_world.dataset(folds={"scheme": "session", "count": 2})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "data"
    small_world.write(folder, 60, missing=[("video", 3)])
    return folder


def experiment(model: str = "baseline", **settings: object) -> Experiment:
    given: dict[str, object] = {"dataset": "small", "model": model, "task": "regression"}
    given["frame_rate_hz"] = {"audio": 10}
    given["settings"] = SMALL.get(model, {})
    return Experiment.model_validate(
        {**given, "epochs": 2, "batch_size": 16, "train_on": "missing", **settings}
    )


def run(name: str, settings: Experiment, data: Path, dataset: Dataset = TWO) -> list[ScoreResult]:
    """Train and evaluate one experiment, and write its results."""
    train_experiment(name, settings, dataset, 0, CPU, data)
    found = evaluate_experiment(name, dataset, settings, settings.evaluate_on, CPU, data)
    folder = data / "results" / name
    write_results(folder, name, found.classes, found.results)
    (folder / "chance.json").write_text(against_chance(found.results, found.constant).to_json())
    return [result for result in found.results if isinstance(result, ScoreResult)]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_targets_are_the_manifests_scores(data: Path) -> None:
    samples = read_samples("small", TWO, data=data, target="score")
    assert samples.scores is not None and samples.scores.dtype == np.float32
    assert samples.scores.tolist() == [sample.score for sample in samples.samples]
    assert dict(samples.left_out) == {"no score": 1} and len(samples) == 59
    assert (samples.classes, samples.outputs, samples.scale) == ((), 1, Scale(-4, 4))  # the demo's loader
    text = read_samples("small", small_world.dataset(labels=()), data=data, target="score_text")
    assert text.scores is not None and len(text) == 15
    assert text.scores.tolist() == [sample.score_text for sample in text.samples]
    with pytest.raises(DataError, match=r"no sample is left.*no score_audio.*task: classification"):
        read_samples("small", TWO, data=data, target="score_audio")
    assert read_samples("small", TWO, data=data).scores is None


def models_and_regimes() -> list[Any]:
    """Return every model in the usual training; M3S meets models of three kinds, and the others in the sweep."""
    found = [(model, "standard", False) for model in module_names("models")]
    found += [(model, "m3s", model not in ("baseline", "mmin", "gcnet")) for model in module_names("models")]
    return [pytest.param(*case, marks=[pytest.mark.sweep] if swept else []) for *case, swept in found]


@pytest.mark.parametrize(("model", "regime"), models_and_regimes())
def test_every_model_learns_scores_through_all_stages(model: str, regime: str, data: Path) -> None:
    train_on = "t" if model == "mctn" else "missing"
    one = small_world.dataset(folds={"scheme": "session", "count": 1})
    results = run(f"{model}-{regime}", experiment(model, regime=regime, train_on=train_on), data, one)
    folder = data / "results" / f"{model}-{regime}"
    found = rows(folder / "predictions.csv")
    assert len(found) == len(results[0].conditions) * len(results[0].ids)
    for condition in results[0].conditions:
        own = [row for row in found if row["condition"] == condition]
        truth, said = (np.array([float(row[name]) for row in own]) for name in ("score", "predicted"))
        np.testing.assert_allclose(truth, results[0].scores, atol=1e-6)
        (line,) = [row for row in rows(folder / "folds.csv") if row["condition"] == condition]
        assert float(line["mae"]) == pytest.approx(float(np.abs(truth - said).mean()), abs=2e-6)
        assert list(line)[5:] == list(metrics.MOSI_METRICS)
    history = rows(data / "runs" / f"{model}-{regime}" / "1-1" / "history.csv")
    for row in history:
        assert float(row["valid_loss"]) == pytest.approx(float(row["valid_mae"]), rel=1e-5)
    facts = json.loads((data / "runs" / f"{model}-{regime}" / "1-1" / "run.json").read_text())
    assert (facts["task"], facts["trained"]["select_by"], facts["classes"]) == ("regression", "mae", [])


def test_scores_are_learnt(data: Path) -> None:
    results = run("learnt", experiment(epochs=12, train_on="full"), data)
    _, table = summarise(results)
    full: Any = table["conditions"]["avt"]  # type: ignore[index]
    truth = np.concatenate([result.scores for result in results])
    assert full["mae"]["pooled"] < 0.7 * np.abs(truth - np.median(truth)).mean()
    assert full["r"]["pooled"] > 0.6


def test_numbers_over_folds_and_pooled_by_hand() -> None:
    first = ScoreResult(1, 1, ("p", "q"), np.array([1.0, -1.0]), {"block": np.array([2.0, 1.0])})
    second = ScoreResult(2, 1, ("r",), np.array([3.0]), {"block": np.array([2.5])})
    lines, table = summarise([first, second])
    # fold 1: |1-2|, |-1-1| -> 3/2; fold 2: 1/2; together (1 + 2 + 1/2) / 3
    found: Any = table["average"]
    assert found["mae"] == {"mean": 1.0, "std": round(0.5**0.5, 6), "pooled": round(3.5 / 3, 6)}
    assert [line["mae"] for line in lines] == [1.5, 1.5, 0.5, 0.5]
    # Acc-7, rounded half to even: 1 -1 3 against 2 1 2: none; Acc-2 without 0: + - + against + + +
    assert found["acc7"]["pooled"] == 0 and found["acc2_non0"]["pooled"] == round(2 / 3, 6)


def test_files_by_hand(tmp_path: Path) -> None:
    result = ScoreResult(1, 2, ("p",), np.array([0.5]), {"block": np.array([-0.25])}, Scale(-1, 1))
    write_results(tmp_path, "x", (), [result])
    assert (tmp_path / "predictions.csv").read_text().splitlines() == [
        "experiment,fold,run,condition,id,score,predicted",
        "x,1,2,block,p,0.500000,-0.250000",
    ]
    header, first, *_ = (tmp_path / "folds.csv").read_text().splitlines()
    assert header == "experiment,fold,run,condition,samples,mae,r,ccc,sims_acc2,sims_acc3,sims_acc5,sims_f1"
    assert first == "x,1,2,block,1,0.750000,0.000000,0.000000,0.000000,0.000000,0.000000,0.000000"
    assert (tmp_path / "confusion.csv").read_text() == "experiment,condition,label,predicted,count\n"


def test_equal_runs_give_equal_bytes(data: Path, tmp_path: Path) -> None:
    small_world.write(tmp_path, 60, missing=[("video", 3)])
    for folder in (data, tmp_path):
        run("twice", experiment("self_mm", regime="m3s"), folder)
    for part in ("runs", "results"):
        for path in sorted((data / part / "twice").rglob("*.*")):
            other = tmp_path / path.relative_to(data)
            assert path.read_bytes() == other.read_bytes(), path


def test_predict_says_what_evaluate_said(data: Path) -> None:
    results = run("asked", experiment(train_on="augmented"), data)
    predictor = load_run(data / "runs" / "asked" / "1-1")
    name, said = results[0].ids[1], results[0].predicted["at"][1]
    features = {}
    for modality in ("text", "audio"):
        with FeatureStore(data / "features" / "small" / f"{modality}.h5") as store:
            features[modality] = store.read(store.ids.index(name))
    assert predict([predictor], features) == {"score": pytest.approx(said, abs=1e-5)}


def test_a_mask_that_draws_can_lie_over_the_conditions(data: Path) -> None:
    settings = experiment(evaluate_on="block", evaluate_conditions=True)
    (first, _), (plain, _) = run("over", settings, data), run("plain", experiment(evaluate_on="block"), data)
    assert first.conditions == tuple(CONDITIONS) and plain.conditions == ("block",)
    # two trainings; sums may be rounded otherwise, as memory lies otherwise
    np.testing.assert_allclose(first.predicted["avt"], plain.predicted["block"], rtol=1e-5, atol=1e-6)
    (alone, _) = run("alone", experiment(), data)
    assert not np.allclose(first.predicted["a"], alone.predicted["a"])


def test_what_was_trained_on_scores_is_evaluated_as_scores_whatever_is_asked_now(data: Path) -> None:
    settings = experiment()
    first, _ = run("mixed", settings, data)
    asked = Experiment(dataset="small", model="linear", frame_rate_hz={"video": 2}, train_on="t")
    again = evaluate_experiment("mixed", TWO, asked, ("conditions",), CPU, data).results[0]
    assert isinstance(again, ScoreResult) and again.conditions == first.conditions
    for condition, predicted in first.predicted.items():
        np.testing.assert_array_equal(again.predicted[condition], predicted)


def test_the_page_shows_classes_and_scores_apart(data: Path, tmp_path: Path) -> None:
    given = {"dataset": "small", "model": "baseline", "train_on": "missing", "evaluate_on": "conditions"}
    scores = {**given, "task": "regression"}
    raw: dict[str, Any] = {
        "datasets": {"small": TWO.model_dump(mode="json", exclude_unset=True)},
        "masks": {"conditions": {"protocol": "conditions"}},
        "experiments": {"classes": given, "first": scores, "second": {**scores, "regime": "m3s"}},
        "report": {"title": "Both", "baseline": "first"},
    }
    params = Params.model_validate(raw)
    quick = {"frame_rate_hz": {"audio": 10}, "epochs": 2, "batch_size": 16, "watch_test": True}
    for name, one in params.experiments.items():
        run(name, one.model_copy(update=quick), data)
    datasets, experiments = gather(params, data)
    report.write(params, datasets, experiments, tmp_path / "report")
    page = (tmp_path / "report/index.html").read_text(encoding="utf-8")
    assert '<h3 id="part-small">Classes' in page and '<h3 id="part-small-scores">Scores' in page
    assert "MAE" in page and "Acc-7" in page and "UA" in page
    assert "Always the median score of the training part, mean over folds: MAE " in page
    tables = tmp_path / "report/tables"
    (line,) = [
        row
        for row in rows(tables / "small-scores-tests.csv")
        if (row["metric"], row["condition"]) == ("MAE", "average of six")
    ]
    assert (line["experiment"], line["against"], line["pairs"]) == ("second", "first", "2")
    assert {row["metric"] for row in rows(tables / "small-conditions.csv")} == {
        "WA", "UA", "macro-F1", "weighted F1"
    }  # fmt: skip
    assert (tmp_path / "report/figures/small-scores-first-learning-curves.svg").is_file()
    assert not (tables / "small-scores-confusion.csv").exists()


def write_params(folder: Path, **changes: object) -> Path:
    raw = yaml.safe_load((Path(__file__).parents[3] / "params.yaml").read_text())
    raw["experiments"] = {"scores": {"dataset": "demo", "model": "misa", "task": "regression", **changes}}
    raw["report"] = {}
    (folder / "params.yaml").write_text(yaml.safe_dump(raw))
    return folder / "params.yaml"


def test_what_a_dataset_without_scores_is_told(tmp_path: Path) -> None:
    load_params(write_params(tmp_path))
    with pytest.raises(
        ParamsError, match=r'scores.task: found "regression", but the loader cremad of cremad gives '
    ):
        load_params(write_params(tmp_path, dataset="cremad"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"select_by": "ua"}, 'found select_by "ua"; a regression has: mae, loss, r'),
        (
            {"select_by": "sims_f1"},
            'select_by: found "sims_f1", expected one of loss, mae, r, .*goes from -4 to 4',
        ),
        ({"task": "classification", "target": "score_text"}, "means nothing to a classification"),
        ({"target": "valence"}, "the loader demo of demo gives score$"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(ParamsError, match=said):
        load_params(write_params(tmp_path, **changes))


def test_the_range_of_scores_is_the_loaders() -> None:
    limits = {}
    for name, loader, options in (
        ("demo", "demo", {}), ("mosi", "mosi", {}), ("mosei", "mosei", {}), ("sims", "sims", {}),
        ("like-mosi", "mmsa_layout", {"dataset": "mosi"}), ("like-sims", "mmsa_layout", {"dataset": "simsv2"}),
        ("own", "folder", {"score_limit": 1}),
    ):  # fmt: skip
        section = replace_dataset(name, loader, options)
        limits[name] = section.loader(name).score_limit
    assert limits == {"demo": 4, "mosi": 3, "mosei": 3, "sims": 1, "like-mosi": 3, "like-sims": 1, "own": 1}
    assert Scale(-1, 1).metrics == metrics.SIMS_METRICS and Scale(-3, 3).metrics == metrics.MOSI_METRICS


def replace_dataset(name: str, loader: str, options: dict[str, Any]) -> Params:
    chosen = small_world.dataset(loader=loader, options=options)
    return Params(datasets={name: chosen})


def test_a_score_on_the_sims_scale_is_measured_by_its_metrics(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "manifests" / "small.json").write_text('{"score_limit": 1}')
    results = run("sims", experiment(), tmp_path / "data")
    assert results[0].scale == Scale(-1, 1)
    history = rows(tmp_path / "data" / "runs" / "sims" / "1-1" / "history.csv")
    assert "valid_sims_acc5" in history[0] and "valid_acc7" not in history[0]
    facts = json.loads((tmp_path / "data" / "runs" / "sims" / "1-1" / "run.json").read_text())
    assert facts["scale"] == {"low": -1, "high": 1, "sentiment": True}
    (tmp_path / "data" / "manifests" / "small.json").unlink()
    with pytest.raises(DataError, match="does not say how large the score can be"):
        read_samples("small", TWO, data=tmp_path / "data", target="score")


def valence_world(data: Path) -> None:
    """Write the small world with a valence of 4 + score, on a scale from 0 to 8."""
    small_world.write(data, 60)
    manifest = data / "manifests/small.csv"
    samples = [
        replace(one, valence=None if one.score is None else one.score + 4) for one in read_manifest(manifest)
    ]
    write_manifest(manifest, samples)
    said = {"score_limit": 4.0, "ranges": {"valence": [0, 8]}}
    manifest.with_suffix(".json").write_text(json.dumps(said))


def test_valence_is_learnt_about_the_middle_of_its_scale(tmp_path: Path) -> None:
    """A valence of 4 + score from 0 to 8 is what a score from -4 to 4 is, moved by 4."""
    data = tmp_path / "data"
    valence_world(data)
    wanted = {"train_on": "full", "select_by": "mae"}
    scored = run("scored", experiment(target="score", **wanted), data)
    felt = run("felt", experiment(target="valence", **wanted), data)
    for one, other in zip(scored, felt, strict=True):
        np.testing.assert_allclose(one.scores + 4, other.scores, atol=1e-6)
        np.testing.assert_array_equal(one.predicted["avt"] + 4, other.predicted["avt"])
    _, table = summarise(felt)
    full: Any = table["conditions"]["avt"]  # type: ignore[index]
    assert list(full) == ["mae", "r", "ccc"]
    found = [row for row in rows(data / "results/felt/predictions.csv") if row["condition"] == "avt"]
    truth, said = (np.array([float(row[name]) for row in found]) for name in ("score", "predicted"))
    assert truth.min() >= 0 and truth.mean() > 3
    lin = 2 * np.cov(truth, said, bias=True)[0, 1]
    lin /= truth.var() + said.var() + (truth.mean() - said.mean()) ** 2
    assert full["ccc"]["pooled"] == pytest.approx(lin, abs=1e-5)
    assert {"valid_mae", "valid_r", "valid_ccc"} < rows(data / "runs/felt/1-1/history.csv")[0].keys()
    # run.json knows the scale, and a prediction stands on it
    predictor = load_run(data / "runs/felt/1-1")
    assert predictor.scale == Scale(0, 8, sentiment=False)
    features = {}
    for modality in small_world.DIMS:
        with FeatureStore(data / "features/small" / f"{modality}.h5") as store:
            features[modality] = store.read(store.ids.index(felt[0].ids[1]))
    assert predictor.predict(features)["valence"] == pytest.approx(felt[0].predicted["avt"][1], abs=1e-5)
    # and the page has its columns
    params = Params.model_validate(
        {
            "datasets": {"small": TWO.model_dump(mode="json", exclude_unset=True)},
            "experiments": {"felt": {"dataset": "small", "model": "baseline", "task": "regression"}},
        }
    )
    report.write(params, *gather(params, data), tmp_path / "report")
    table = rows(tmp_path / "report/tables/small-scores-conditions.csv")
    assert [row["metric"] for row in table] == ["MAE", "r", "CCC"]
    page = (tmp_path / "report/index.html").read_text(encoding="utf-8")
    low, high = min(truth), max(truth)
    assert f"<dt>valence</dt><dd>{low:.2f} to " in page and high > 4
    assert re.search(r"Always the median score .*: MAE \d\.\d{3}, r 0\.000, CCC 0\.000\.", page)


def test_a_target_needs_its_range(tmp_path: Path) -> None:
    given = yaml.safe_load(Path("params.yaml").read_text())
    given["datasets"]["mine"] = {**given["datasets"]["demo"], "loader": "folder", "options": {}}
    given["experiments"] = {
        "v": {"dataset": "mine", "model": "linear", "task": "regression", "target": "valence"}
    }
    given["report"].pop("baseline")
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(given))
    with pytest.raises(ParamsError, match=r"gives score. Write its scale .*valence: \[1, 7\]"):
        load_params(file)
    given["datasets"]["mine"]["options"] = {"ranges": {"valence": [1, 7]}}
    given["experiments"]["v"]["select_by"] = "ccc"
    file.write_text(yaml.safe_dump(given))
    assert load_params(file).loader("mine").ranges == {"valence": (1.0, 7.0)}
    given["experiments"]["v"]["select_by"] = "acc7"
    file.write_text(yaml.safe_dump(given))
    with pytest.raises(
        ParamsError, match="expected one of loss, mae, r, ccc: the valence of mine goes from 1 to 7"
    ):
        load_params(file)
