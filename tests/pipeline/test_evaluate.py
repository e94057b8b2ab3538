"""Evaluation and prediction: numbers by hand, files, and that both say the same."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.data.masks import CONDITIONS, MISSING_CONDITIONS, read_masks, write_masks
from pipeline.data.store import FeatureSequence, FeatureStore, Status
from pipeline.errors import ParamsError, StoreError
from pipeline.evaluate import main, write_arrays, write_results
from pipeline.params import Compute, Dataset, Experiment, Mask, Params
from pipeline.training.all_runs import train_experiment
from pipeline.training.chance import Chance
from pipeline.training.evaluation import Result, evaluate_experiment, summarise
from pipeline.training.folds import make_folds
from pipeline.training.predictor import load_run, predict
from pipeline.training.samples import read_samples
from tests import small_world

CPU = Compute(workers=1, device="cpu")
MISSING = [("video", 0), ("audio", 5), ("text", 10)]


def sharp(predicted: list[int]) -> np.ndarray:
    """Return probabilities (n, 2) that say these classes."""
    return np.eye(2)[predicted] * 0.8 + 0.1


def by_hand(first: list[int], second: list[int], conditions: tuple[str, ...]) -> list[Result]:
    labels = np.array([0, 0, 1, 1])
    ids = ("p", "q", "r", "s")
    return [
        Result(1, 1, ids, labels, {name: sharp(first) for name in conditions}),
        Result(2, 1, ids[:2], np.array([1, 1]), {name: sharp(second) for name in conditions}),
    ]


def test_mean_deviation_and_pooled_by_hand() -> None:
    rows, table = summarise(by_hand([0, 0, 1, 0], [1, 0], ("block",)))
    # fold 1: WA 3/4, UA (1 + 1/2) / 2; fold 2, of one class: 1/2, 1/2; together WA 4/6, UA (1 + 2/4) / 2
    wa, ua = table["conditions"]["block"]["wa"], table["conditions"]["block"]["ua"]  # type: ignore[index]
    assert wa == {"mean": 0.625, "std": round(0.125 * 2**0.5, 6), "pooled": round(4 / 6, 6)}
    assert ua == {"mean": 0.625, "std": round(0.125 * 2**0.5, 6), "pooled": 0.75}
    assert table["average"] == table["conditions"]["block"]  # type: ignore[index]
    assert [(row["fold"], row["condition"], row["samples"], row["wa"]) for row in rows] == [
        (1, "block", 4, 0.75),
        (1, "average", 4, 0.75),
        (2, "block", 2, 0.5),
        (2, "average", 2, 0.5),
    ]


def test_the_average_leaves_out_the_full_condition() -> None:
    results = by_hand([0, 0, 1, 1], [1, 1], tuple(CONDITIONS))
    for result in results:
        chances: Any = result.probabilities
        chances["avt"] = 1 - chances["avt"]  # all wrong where nothing is missing
        chances["a"] = 1 - chances["a"]
    rows, table = summarise(results)
    assert table["average"]["wa"]["mean"] == round(5 / 6, 6)  # type: ignore[index]
    assert table["conditions"]["avt"]["wa"]["mean"] == 0  # type: ignore[index]
    assert [row["condition"] for row in rows[:8]] == [*CONDITIONS, "average"]


def test_files_by_hand(tmp_path: Path) -> None:
    write_results(tmp_path, "x", ("no", "yes"), by_hand([0, 0, 1, 0], [1, 0], ("block",)))
    assert (tmp_path / "predictions.csv").read_text().splitlines() == [
        "experiment,fold,run,condition,id,label,predicted,p_no,p_yes",
        "x,1,1,block,p,no,no,0.900000,0.100000",
        "x,1,1,block,q,no,no,0.900000,0.100000",
        "x,1,1,block,r,yes,yes,0.100000,0.900000",
        "x,1,1,block,s,yes,no,0.900000,0.100000",
        "x,2,1,block,p,yes,yes,0.100000,0.900000",
        "x,2,1,block,q,yes,no,0.900000,0.100000",
    ]
    assert (tmp_path / "confusion.csv").read_text().splitlines() == [
        "experiment,condition,label,predicted,count",
        "x,block,no,no,2",
        "x,block,no,yes,0",
        "x,block,yes,no,2",
        "x,block,yes,yes,2",
    ]
    first = (tmp_path / "folds.csv").read_text().splitlines()[:2]
    assert first[0] == "experiment,fold,run,condition,samples,wa,ua,macro_f1,weighted_f1"
    assert first[1].startswith("x,1,1,block,4,0.750000,0.750000,")
    assert set(json.loads((tmp_path / "metrics.json").read_text())) == {"average", "conditions"}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return small_world.dataset()


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return Experiment(
        dataset="small",
        model="baseline",
        train_on="augmented",
        epochs=12,
        batch_size=32,
        frame_rate_hz={"audio": 10},
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, experiment: Experiment) -> Path:
    folder = tmp_path_factory.mktemp("world") / "data"
    small_world.write(folder, 80, missing=MISSING)
    train_experiment("aug", experiment, dataset, 0, CPU, folder)
    return folder


def evaluate(experiment: Experiment, dataset: Dataset, data: Path) -> list[Result]:
    found = evaluate_experiment("aug", dataset, experiment, experiment.evaluate_on, CPU, data)
    assert found.classes == small_world.CLASSES and found.hidden == {}
    return [result for result in found.results if isinstance(result, Result)]


def test_every_sample_is_tested_once_under_every_condition(
    data: Path, dataset: Dataset, experiment: Experiment
) -> None:
    results = evaluate(experiment, dataset, data)
    assert [(result.fold, result.run) for result in results] == [(fold, 1) for fold in range(1, 6)]
    assert sorted(name for result in results for name in result.ids) == [
        f"s{index:03d}" for index in range(80)
    ]
    for result in results:
        assert list(result.probabilities) == list(CONDITIONS)
        for chances in result.probabilities.values():
            np.testing.assert_allclose(chances.sum(axis=1), 1)
    _, table = summarise(results)
    assert table["conditions"]["avt"]["wa"]["pooled"] > 0.6  # type: ignore[index]  # chance is 0.25
    assert table["average"]["wa"]["pooled"] > 0.5  # type: ignore[index]
    assert all(table["conditions"][name]["wa"]["pooled"] > 0.35 for name in MISSING_CONDITIONS)  # type: ignore[index]


def test_two_evaluations_give_equal_bytes(
    data: Path, dataset: Dataset, experiment: Experiment, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        write_results(tmp_path / name, "aug", dataset.labels, evaluate(experiment, dataset, data))
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert len(list((tmp_path / "a").iterdir())) == 4


@pytest.mark.parametrize(
    "mask",
    [name for name in small_world.ALL_MASKS if name not in ("conditions", "share-0")],
)
def test_masks_that_draw_are_one_condition(
    data: Path, dataset: Dataset, experiment: Experiment, mask: str
) -> None:
    masked = evaluate(experiment.model_copy(update={"evaluate_on": (mask,)}), dataset, data)
    whole = evaluate(experiment, dataset, data)
    assert all(list(result.probabilities) == [mask] for result in masked)
    changed = [
        not np.allclose(a.probabilities[mask], b.probabilities["avt"])
        for a, b in zip(masked, whole, strict=True)
    ]
    assert all(changed)


def test_what_is_trained_on_one_condition_is_evaluated_under_it(
    dataset: Dataset, experiment: Experiment, tmp_path: Path
) -> None:
    small_world.write(tmp_path, 40)
    folds = dataset.model_copy(update={"folds": dataset.folds.model_copy(update={"count": 1})})
    matched = experiment.model_copy(update={"train_on": "at", "epochs": 2})
    train_experiment("aug", matched, folds, 0, CPU, tmp_path)
    results = evaluate(matched, folds, tmp_path)
    assert [list(result.probabilities) for result in results] == [["at"]]
    _, table = summarise(results)
    assert table["average"] == table["conditions"]["at"]  # type: ignore[index]


@pytest.fixture(scope="module")
def imagined(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> tuple[Path, Dataset, Experiment]:
    """Two trained folds of MMIN; one test sample of each lacks a modality in the recording."""
    folder = tmp_path_factory.mktemp("mmin") / "data"
    small_world.write(folder, 40, missing=[("video", 0), ("audio", 11), ("text", 13)])
    two = dataset.model_copy(update={"folds": dataset.folds.model_copy(update={"count": 2})})
    experiment = Experiment(
        dataset="small", model="mmin", epochs=1, batch_size=32, keep_hidden=("target", "imagined"), runs=2
    )
    train_experiment("aug", experiment, two, 0, CPU, folder)
    return folder, two, experiment


def kept_by(
    imagined: tuple[Path, Dataset, Experiment], *names: str, evaluate_on: tuple[str, ...] = ("conditions",)
) -> dict[str, np.ndarray]:
    folder, two, experiment = imagined
    asked = experiment.model_copy(update={"keep_hidden": names})
    return dict(evaluate_experiment("aug", two, asked, evaluate_on, CPU, folder).hidden)


def test_hidden_states_are_those_of_the_first_runs_networks(
    imagined: tuple[Path, Dataset, Experiment],
) -> None:
    folder, two, _ = imagined
    kept = kept_by(imagined, "target", "imagined")
    samples = read_samples("small", two, {}, folder)
    tested = [i for fold in make_folds(samples.samples, two.folds) for i in fold.test]
    assert kept["ids"].tolist() == [samples.samples[i].id for i in tested] and len(tested) == 16
    assert kept["folds"].tolist() == [1] * 8 + [2] * 8
    assert kept["labels"].tolist() == samples.labels[tested].tolist()
    assert kept["present"].tolist() == samples.present[tested].tolist()  # of s000 no video, of s011 no audio
    assert (~kept["present"]).sum() == 2
    names = [f"{condition}/{name}" for condition in CONDITIONS for name in ("target", "imagined")]
    assert list(kept) == ["ids", "folds", "labels", "present", *names]
    assert {kept[name].shape for name in names} == {(16, 384)}
    for place, fold in ((0, 1), (9, 2)):  # the audio that is imagined from text and video
        predictor = load_run(folder / "runs" / "aug" / f"{fold}-1")
        prepared = samples.prepare(predictor.normalisers, torch.device("cpu"))
        index = torch.tensor(tested[place : place + 1])
        with torch.no_grad():
            alone = prepared.collate(index, torch.tensor([[False, True, False]]))
            others = prepared.collate(index, torch.tensor([[True, False, True]]))
            true, hidden = predictor.network.teacher(alone), predictor.network(others).hidden
        np.testing.assert_allclose(kept["vt/target"][place], true[0], atol=1e-5)
        np.testing.assert_allclose(kept["vt/imagined"][place], hidden["imagined"][0], atol=1e-5)


def test_hidden_states_of_any_model_under_any_mask(
    data: Path, dataset: Dataset, experiment: Experiment, imagined: tuple[Path, Dataset, Experiment]
) -> None:
    asked = experiment.model_copy(update={"keep_hidden": ("embedding",)})
    kept = evaluate_experiment("aug", dataset, asked, ("block", "share-25"), CPU, data).hidden
    assert list(kept)[4:] == ["block/embedding", "share-25/embedding"]
    assert kept["block/embedding"].shape == (80, 384) and sorted(kept["ids"]) == [
        f"s{i:03d}" for i in range(80)
    ]
    assert not np.allclose(kept["block/embedding"], kept["share-25/embedding"])
    assert list(kept_by(imagined, "joint"))[4:] == [f"{condition}/joint" for condition in CONDITIONS]
    assert kept_by(imagined) == {}


def test_a_hidden_state_that_there_is_not(data: Path, dataset: Dataset, experiment: Experiment) -> None:
    asked = experiment.model_copy(update={"keep_hidden": ("imagined",)})
    with pytest.raises(ParamsError, match='baseline has no hidden state "imagined" here; it has embedding'):
        evaluate(asked, dataset, data)


def test_arrays_are_written_without_pickle_and_with_equal_bytes(tmp_path: Path) -> None:
    arrays = {"ids": np.array(["x", "yy"]), "vt/target": np.arange(4, dtype=np.float32).reshape(2, 2)}
    for name in ("one", "two"):
        write_arrays(tmp_path / name, arrays)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with np.load(tmp_path / "one", allow_pickle=False) as found:
        assert found["ids"].tolist() == ["x", "yy"]
        np.testing.assert_array_equal(found["vt/target"], arrays["vt/target"])
    write_arrays(tmp_path / "none", {})
    with np.load(tmp_path / "none", allow_pickle=False) as found:
        assert list(found) == []


def test_several_masks_and_a_family_in_one_experiment(
    data: Path, dataset: Dataset, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each as if it were alone; nothing is trained for it."""
    asked = experiment.model_copy(update={"evaluate_on": ("conditions", "share", "block")})
    masks = {**small_world.MASKS, **small_world.FAMILIES}
    params = Params(datasets={"small": dataset}, experiments={"aug": asked}, masks=masks, compute=CPU)
    shares = ["share-0", "share-25", "share-50", "share-100"]
    weights = {path: path.stat().st_mtime_ns for path in (data / "runs").rglob("*.safetensors")}
    monkeypatch.chdir(data.parent)
    main(params, "aug")
    assert weights == {path: path.stat().st_mtime_ns for path in (data / "runs").rglob("*.safetensors")}
    with (data / "results" / "aug" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = [*CONDITIONS, *shares, "block"]
    assert list(dict.fromkeys(row["condition"] for row in rows)) == names and len(rows) == 80 * len(names)
    with (data / "results" / "aug" / "folds.csv").open() as file:
        assert list(dict.fromkeys(row["condition"] for row in csv.DictReader(file))) == [*names, "average"]
    table = json.loads((data / "results" / "aug" / "metrics.json").read_text())
    assert list(table["conditions"]) == names
    by_name = {name: table["conditions"][name]["wa"]["pooled"] for name in names}
    assert by_name["share-0"] == by_name["avt"] > by_name["share-100"]
    six = [by_name[name] for name in MISSING_CONDITIONS]
    assert table["average"]["wa"]["pooled"] == pytest.approx(sum(six) / 6, abs=2e-6)
    said = {(row["condition"], row["id"]): row for row in rows}
    for name in ("block", "share-50"):
        for result in evaluate(experiment.model_copy(update={"evaluate_on": (name,)}), dataset, data):
            for sample, chances in zip(result.ids, result.probabilities[name], strict=True):
                found = [float(said[name, sample][f"p_{label}"]) for label in small_world.CLASSES]
                np.testing.assert_allclose(found, chances, atol=2e-6)


def test_masks_over_each_condition_are_named_by_both(
    data: Path, dataset: Dataset, experiment: Experiment
) -> None:
    asked = experiment.model_copy(update={"evaluate_on": ("block", "frames"), "evaluate_conditions": True})
    result = evaluate(asked, dataset, data)[0]
    assert result.conditions == tuple(f"{mask} {name}" for mask in ("block", "frames") for name in CONDITIONS)
    alone = evaluate(experiment.model_copy(update={"evaluate_on": ("frames",)}), dataset, data)[0]
    np.testing.assert_allclose(result.probabilities["frames avt"], alone.probabilities["frames"], atol=1e-6)


def test_a_mask_with_a_range_of_its_own_for_a_modality(
    data: Path, dataset: Dataset, experiment: Experiment, tmp_path: Path
) -> None:
    """All of audio, averaged from 100 Hz to 10, and nothing of the others: as if nothing of audio were observed."""
    masks = {
        "deaf": Mask(protocol="block", range=(0.0, 0.0), ranges={"audio": (1.0, 1.0)}),
        "deaf-anew": Mask(protocol="block", range=(0, 0), ranges={"audio": (1, 1)}, draw="sampled"),
        "half-deaf": Mask(protocol="block", range=(0.0, 0.0), ranges={"audio": (0.5, 0.5)}),
    }
    for folder in ("manifests", "features", "runs"):
        (tmp_path / folder).symlink_to(data / folder)
    known = read_masks(data / "masks" / "small.h5")
    (tmp_path / "masks").mkdir()
    write_masks(
        tmp_path / "masks" / "small.h5", "small", masks, 0, known.ids, known.lengths, [12, 8, 6], "no matter"
    )
    asked = experiment.model_copy(update={"evaluate_on": tuple(masks)})
    result = evaluate(asked, dataset, tmp_path)[0]
    predictor = load_run(data / "runs" / "aug" / "1-1")
    kept = dict(
        zip(
            known.ids,
            np.split(
                read_masks(tmp_path / "masks" / "small.h5").draw("half-deaf").frames["audio"],
                np.cumsum(known.lengths[:, 1])[:-1],
            ),
            strict=True,
        )
    )
    for row, name in enumerate(result.ids[:4]):  # s005 has no audio
        features = sequences(data, int(name[1:]))
        audio = features["audio"]
        assert audio is not None
        for mask, left in (
            ("deaf", np.zeros_like(kept[name])),
            ("deaf-anew", np.zeros_like(kept[name])),
            ("half-deaf", kept[name]),
        ):
            features["audio"] = replace(audio, flags=audio.flags * left) if len(left) else audio
            found = list(predictor.predict(features).values())
            np.testing.assert_allclose(found, result.probabilities[mask][row], atol=1e-5)
    assert (np.abs(result.probabilities["half-deaf"] - result.probabilities["deaf"]).max(axis=1) > 1e-4).any()


def sequences(data: Path, index: int) -> dict[str, FeatureSequence | None]:
    found: dict[str, FeatureSequence | None] = {}
    for modality in small_world.DIMS:
        with FeatureStore(data / "features" / "small" / f"{modality}.h5") as store:
            found[modality] = store.read(index)
    return found


@pytest.mark.parametrize("condition", ["t", "av", "avt"])
def test_predict_says_what_evaluate_says(
    data: Path, dataset: Dataset, experiment: Experiment, condition: str
) -> None:
    result = evaluate(experiment, dataset, data)[0]
    predictor = load_run(data / "runs" / "aug" / "1-1")
    for row, name in enumerate(result.ids[:4]):  # s000 has no video, s005 no audio, s010 no text
        features = sequences(data, int(name[1:]))
        for modality in small_world.DIMS:
            if modality[0] not in condition:
                features[modality] = None
        found = predictor.predict(features)
        assert list(found) == list(small_world.CLASSES)
        np.testing.assert_allclose(list(found.values()), result.probabilities[condition][row], atol=1e-5)


def test_predict_takes_any_modalities_and_none(data: Path) -> None:
    predictor = load_run(data / "runs" / "aug" / "2-1")
    features = sequences(data, 20)
    nothing = predictor.predict({})
    assert sum(nothing.values()) == pytest.approx(1)
    failed = FeatureSequence.absent(small_world.DIMS["audio"], Status.FAILED, "no reason")
    assert predictor.predict({"audio": failed, "text": None}) == nothing
    assert predictor.predict({"text": features["text"]}) != nothing


def test_several_runs_are_averaged(data: Path) -> None:
    predictors = [load_run(data / "runs" / "aug" / name) for name in ("1-1", "2-1")]
    features = sequences(data, 20)
    each = [predictor.predict(features) for predictor in predictors]
    together = predict(predictors, features)
    for name, value in together.items():
        assert value == pytest.approx((each[0][name] + each[1][name]) / 2)
    with pytest.raises(StoreError, match="no run to predict with"):
        predict([], features)


def test_features_of_another_extractor_are_refused(data: Path) -> None:
    predictor = load_run(data / "runs" / "aug" / "1-1")
    wide = FeatureSequence(np.zeros((3, 99), np.float32), np.zeros(3, np.float32), np.ones(3, np.uint8))
    with pytest.raises(StoreError, match=r"the audio features given to aug \(made\).*\(3, 99\), expected"):
        predictor.predict({"audio": wide})


def copied(data: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(data, tmp_path / "data"))


def test_runs_of_other_features_are_refused(
    data: Path, dataset: Dataset, experiment: Experiment, tmp_path: Path
) -> None:
    mine = copied(data, tmp_path)
    small_world.write(mine, 80, missing=MISSING, noise=0.6)
    with pytest.raises(StoreError, match="trained with other features"):
        evaluate(experiment, dataset, mine)


def test_runs_of_other_folds_or_classes_are_refused(data: Path, experiment: Experiment) -> None:
    with pytest.raises(StoreError, match="trained with other fold"):
        evaluate(experiment, small_world.dataset(folds={"scheme": "speaker-partner"}), data)
    with pytest.raises(StoreError, match="trained with other classes"):
        evaluate(experiment, small_world.dataset(labels=("sad", "happy", "neutral", "angry")), data)


@pytest.mark.parametrize("text", ["{", "[1", '{"format": 99}'])
def test_a_damaged_run_is_refused(data: Path, tmp_path: Path, text: str) -> None:
    mine = copied(data, tmp_path)
    (mine / "runs" / "aug" / "1-1" / "run.json").write_text(text)
    with pytest.raises(StoreError, match=r"run\.json: (cannot be read|found format 99, expected 2)"):
        load_run(mine / "runs" / "aug" / "1-1")
    with pytest.raises(StoreError, match="Make it with: dvc repro train"):
        load_run(mine / "runs" / "aug" / "9-9")


def test_the_stage(
    data: Path, dataset: Dataset, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    main(Params(datasets={"small": dataset}, experiments={"aug": experiment}, compute=CPU), "aug")
    folder = data / "results" / "aug"
    with (folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 80 * 7
    right = [row["label"] == row["predicted"] for row in rows if row["condition"] == "avt"]
    pooled = json.loads((folder / "metrics.json").read_text())["conditions"]["avt"]["wa"]["pooled"]
    assert pooled == pytest.approx(sum(right) / 80, abs=1e-6)
    table = json.loads((folder / "metrics.json").read_text())
    known = Chance.from_json(json.loads((folder / "chance.json").read_text()), "chance.json")
    assert list(known.conditions) == [*CONDITIONS, "average"]
    for name, one in known.conditions.items():
        found = table["average" if name == "average" else "conditions"]
        found = found if name == "average" else found[name]
        assert (one.mean, one.pooled) == (found["ua"]["mean"], found["ua"]["pooled"])
    assert known.above("avt") and known.conditions["avt"].p == 1 / 10_000
    assert (known.level, known.pooled_level, known.networks) == (1 / 4, 1 / 4, 5)
    truth = [row["label"] for row in rows if row["condition"] == "avt"]
    assert known.constant["wa"]["pooled"] <= max(map(truth.count, truth)) / 80
