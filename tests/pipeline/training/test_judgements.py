"""What a dataset knows of its samples goes to the model that asks; what the model judges comes into judgements.csv."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from models.base import MODALITIES
from pipeline.data.masks import CONDITIONS
from pipeline.data.store import FeatureStore
from pipeline.errors import DataError, StoreError
from pipeline.evaluate import main
from pipeline.params import Compute, Dataset, Experiment, Params
from pipeline.training.all_runs import read_all, train_experiment
from pipeline.training.experiment import resolve
from pipeline.training.folds import make_folds
from pipeline.training.kept_runs import PlannedRun
from pipeline.training.predictor import load_run
from tests import small_world

CPU = Compute(workers=1, device="cpu")
SIZE = 43  # no multiple of a batch: the last one is partial
FLAGS = [(i % 2 == 0, i % 3 == 0, False) for i in range(SIZE)]  # text, audio, video


def emmr(**settings: object) -> Experiment:
    small = {"size": 12, "heads": 2, "inner": 16, **settings}
    return Experiment.model_validate(
        {
            "dataset": "small",
            "model": "emmr",
            "train_on": "one-missing",
            "epochs": 1,
            "batch_size": 8,
            "frame_rate_hz": {"audio": 10},
            "settings": small,
        }
    )


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return small_world.dataset(folds={"scheme": "session", "count": 5})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Path:
    folder = tmp_path_factory.mktemp("known") / "data"
    known = [replace(s, facts={"key": f}) for s, f in zip(small_world.samples(SIZE), FLAGS, strict=True)]
    small_world.write(folder, SIZE, missing=[("video", 0)], given=known)
    train_experiment("oracle", emmr(key="oracle"), dataset, 0, CPU, folder)
    return folder


def test_every_sample_is_judged_once_as_the_dataset_says(
    data: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    experiment = emmr(key="oracle")
    main(Params(datasets={"small": dataset}, experiments={"oracle": experiment}, compute=CPU), "oracle")
    with (data / "results" / "oracle" / "judgements.csv").open() as file:
        said = {(row["condition"], row["id"]): row for row in csv.DictReader(file)}
    with (data / "results" / "oracle" / "predictions.csv").open() as file:
        predicted = {(row["condition"], row["id"]): row["predicted"] for row in csv.DictReader(file)}
    assert said.keys() == predicted.keys() and len(said) == SIZE * 7
    for (condition, name), row in said.items():
        index = int(name[1:])
        lacking = [i for i in range(3) if not CONDITIONS[condition][i] or (i == 2 and index == 0)]
        absent = lacking[0] if len(lacking) == 1 else None
        assert row["absent"] == ("" if absent is None else MODALITIES[absent])
        assert row["key"] == str(int(absent is not None and FLAGS[index][absent]))
        assert predicted[condition, name] == row["ensemble" if row["key"] == "1" else "backbone"]
    assert {"0", "1"} == {row["key"] for row in said.values()}


def test_a_kept_run_hangs_on_what_the_model_was_told(data: Path, dataset: Dataset) -> None:
    def key(samples: object, experiment: Experiment) -> str:
        return PlannedRun(experiment, fold, 0, "cpu", data / "cache", masks).key(samples)  # type: ignore[arg-type]

    experiment = resolve(emmr(key="oracle"))
    samples, masks = read_all(experiment, dataset, data)
    fold = make_folds(samples.samples, dataset.folds, samples.labelled)[0]
    others = replace(samples, facts={"key": ~samples.facts["key"]})
    assert samples.facts["key"].tolist() == [list(flags) for flags in FLAGS]
    assert key(samples, experiment) != key(others, experiment)
    plain = resolve(emmr())
    assert key(samples, plain) == key(others, plain)


def test_what_nobody_knows_is_refused(data: Path, dataset: Dataset, tmp_path: Path) -> None:
    small_world.write(tmp_path, 10)
    with pytest.raises(DataError, match=r'no fact "key" of the samples.*found none.*Sample\.facts'):
        read_all(resolve(emmr(key="oracle")), dataset, tmp_path)
    predictor = load_run(data / "runs" / "oracle" / "1-1")
    with FeatureStore(data / "features" / "small" / "text.h5") as store:
        text = store.read(1)
    with pytest.raises(StoreError, match="oracle: its emmr must be told key"):
        predictor.predict({"text": text})
