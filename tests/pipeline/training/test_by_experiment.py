"""Classes, split and lengths that an experiment chooses for itself, through all stages, from one set of features."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data.manifest import Sample
from pipeline.data.store import FeatureStore
from pipeline.errors import DataError
from pipeline.evaluate import main as evaluate
from pipeline.params import Compute, Experiment, Folds, Params
from pipeline.train import main as train
from pipeline.training.folds import make_folds
from pipeline.training.predictor import load_run
from tests import small_world

TWO = small_world.dataset(folds={"scheme": "session", "count": 2})
SIZE = 60


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    small_world.write(folder / "data", SIZE, missing=[("video", 3)])
    return folder


def run(
    root: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Train and evaluate one experiment by the stages; return a run's facts and the rows of predictions.csv."""
    monkeypatch.chdir(root)
    given = {"dataset": "small", "model": "linear", "epochs": 2, "frame_rate_hz": {"audio": 10}}
    one = Experiment.model_validate({**given, **settings})
    params = Params(
        datasets={"small": TWO},
        experiments={"one": one},
        masks=small_world.MASKS,
        compute=Compute(workers=1, device="cpu"),
    )
    train(params, "one")
    evaluate(params, "one")
    facts = json.loads(Path("data/runs/one/1-1/run.json").read_text())
    with Path("data/results/one/predictions.csv").open() as file:
        return facts, list(csv.DictReader(file))


def told(rows: list[dict[str, str]]) -> dict[str, str]:
    return {row["id"]: row["label"] for row in rows}


def summary() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("data/runs/one/summary.json").read_text())
    return found


def of_test(samples: list[Sample], folds: Folds) -> list[str]:
    return sorted(samples[i].id for fold in make_folds(samples, folds) for i in fold.test)


def test_groups_of_labels(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts, rows = run(root, monkeypatch, labels={"bad": ["sad", "angry"], "good": "happy"})
    made = [sample for sample in small_world.samples(SIZE) if sample.label != "neutral"]
    assert facts["classes"] == ["bad", "good"] and {"p_bad", "p_good"} <= rows[0].keys()
    expected = {
        s.id: "good" if s.label == "happy" else "bad" for s in made if s.session in ("Ses01", "Ses02")
    }
    assert told(rows) == expected
    assert summary()["left_out"] == {"label neutral": SIZE - len(made)}
    predictor = load_run(Path("data/runs/one/1-1"))
    assert list(predictor.predict({})) == ["bad", "good"]


def test_one_emotion_against_the_rest(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, rows = run(root, monkeypatch, labels={"angry": "angry", "other": "others"}, regime="m3s")
    counts = Counter(told(rows).values())
    assert counts["angry"] + counts["other"] == 24 and counts["other"] > counts["angry"] > 0


def test_classes_of_scores(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts, rows = run(root, monkeypatch, labels={"negative": "< 0", "zero": "= 0", "positive": "> 0"})
    expected = {}
    for sample in small_world.samples(SIZE):
        if sample.score is not None and sample.session in ("Ses01", "Ses02"):
            sign = (sample.score > 0) - (sample.score < 0)
            expected[sample.id] = ("negative", "zero", "positive")[sign + 1]
    assert told(rows) == expected and set(expected.values()) == {"negative", "zero", "positive"}
    assert summary()["left_out"] == {"no score": 1} and "scale" not in facts
    run(root, monkeypatch, labels={"no": "< 0", "yes": "> 0"}, target="score_text")
    scores = [sample.score_text for sample in small_world.samples(SIZE)]
    assert summary()["left_out"] == {
        "no score_text": scores.count(None),
        "score_text in no class": scores.count(0.0),
    }


def test_a_split_of_its_own(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {"scheme": "random", "shares": [0.6, 0.2, 0.2], "seed": 3}
    facts, rows = run(root, monkeypatch, folds=chosen)
    expected = of_test(small_world.samples(SIZE), Folds.model_validate(chosen))
    assert sorted(told(rows)) == expected and len(expected) == 12
    assert "LEAK" in facts["description"] and facts["samples"] == {"train": 36, "valid": 12, "test": 12}
    assert [fold["fold"] for fold in summary()["folds"]] == [1]
    _, rows = run(root, monkeypatch)
    assert sorted(told(rows)) == of_test(small_world.samples(SIZE), TWO.folds), "the dataset's again"
    with pytest.raises(DataError, match=r"left out: .'no split': 60"):  # nobody has an owner's split
        run(root, monkeypatch, folds={"scheme": "official"})


def test_lengths_of_its_own(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = {"text": 2, "audio": {"frames": 5, "by": "resample"}}
    facts, rows = run(
        root,
        monkeypatch,
        lengths=lengths,
        frame_rate_hz={},
        train_on="sampled",
        evaluate_on=["conditions", "block"],
    )
    assert facts["features"]["text"]["length"] == {"frames": 2, "by": "cut"}
    assert facts["features"]["audio"]["length"] == {"frames": 5, "by": "resample"}
    assert facts["features"]["video"]["length"] is None
    # What the predictor makes of the features as extracted is what evaluation said.
    row = next(row for row in rows if (row["condition"], row["fold"]) == ("avt", "1"))
    sequences = {}
    for modality in small_world.DIMS:
        with FeatureStore(Path(f"data/features/small/{modality}.h5")) as store:
            sequences[modality] = store.read(store.ids.index(row["id"]))
    said = load_run(Path("data/runs/one/1-1")).predict(sequences)
    np.testing.assert_allclose(
        list(said.values()), [float(row[f"p_{c}"]) for c in small_world.CLASSES], atol=2e-6
    )
    plain, _ = run(root, monkeypatch, frame_rate_hz={}, train_on="sampled")
    assert plain["features"]["audio"]["length"] is None


def test_a_network_before_has_the_same_classes_split_and_lengths(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = {"bad": ["sad", "angry"], "good": ["happy", "neutral"]}
    facts, rows = run(
        root, monkeypatch, model="mmin", labels=labels, lengths={"text": 3}, epochs=1, batch_size=64,
        folds={"scheme": "session", "count": 1},
    )  # fmt: skip
    before = facts["trained"]["pretraining"]
    for name in ("labels", "lengths", "folds"):
        assert before[name] == facts["trained"][name], name
    assert facts["classes"] == ["bad", "good"] and len(told(rows)) == 12
