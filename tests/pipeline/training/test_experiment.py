"""One experiment: filled in, written down whole, and read back."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import StoreError
from pipeline.params import Experiment, module_names
from pipeline.training.experiment import (
    INHERITED,
    chain,
    masks_in,
    pretraining,
    record,
    recorded,
    resolve,
)

# Every field that has a default, with another value.
OTHER: dict[str, Any] = {
    "regime": "m3s",
    "target": "score_text",
    "train_on": "augmented",
    "train_mask": "block",
    "evaluate_on": ["conditions", "block"],
    "evaluate_conditions": True,
    "labels": {"good": ">= 0", "bad": "< 0"},
    "folds": {"scheme": "session", "count": 2},
    "lengths": {"text": 25, "audio": {"frames": 150, "by": "resample"}},
    "regime_settings": {"inner_steps": 3, "inner_on": "full"},
    "frame_rate_hz": {"video": 5.0},
    "runs": 3,
    "epochs": 7,
    "batch_size": 9,
    "batches": "by-length",
    "accumulate": 2,
    "learning_rate": 0.01,
    "learning_rates": {"text": 0.1},
    "decay_epochs": 2,
    "halve_after": 4,
    "beta1": 0.5,
    "weight_decay": 0.1,
    "weight_decays": {"text": 0.2},
    "clip_norm": 1.0,
    "clip_groups": True,
    "clip_value": 2.0,
    "patience": 5,
    "select_by": "wa",
    "selection": "test-paper",
    "precision": "bfloat16",
    "compile": True,
    "watch_test": True,
    "keep_hidden": ["joint"],
}


def read_back(said: dict[str, Any]) -> Experiment:
    """Return what a file of the record gives, whose keys are sorted."""
    facts = {"trained": said, "classes": list(said["labels"])}
    return recorded(json.loads(json.dumps(facts, sort_keys=True)), Path("run.json"))


@pytest.mark.parametrize("model", module_names("models"))
def test_what_was_trained_is_written_down_whole_and_read_back(model: str) -> None:
    assert set(OTHER) == set(Experiment.model_fields) - {"dataset", "model", "task", "settings"}
    settings = import_module(f"models.{model}").Model.Settings().model_dump(mode="json")
    for given in ({}, {**OTHER, "settings": settings}, {"task": "regression"}):
        experiment = resolve(Experiment.model_validate({"dataset": "d", "model": model, **given}))
        said = record(experiment)
        assert set(said) == {*Experiment.model_fields, "pretraining"}
        again = read_back(said)
        assert record(again) == said
        for name in set(Experiment.model_fields) - {"settings", "regime_settings"}:
            assert getattr(again, name) == getattr(experiment, name), name
        assert list(again.labels) == list(experiment.labels), "the classes' order"
        assert said["settings"] == settings, "every default is filled in"
        for name in given.keys() & OTHER.keys():
            assert said[name] != Experiment.model_fields[name].get_default(call_default_factory=True), name


@pytest.mark.parametrize("scheme", ["official", "session", "speaker", "speaker-partner", "random"])
def test_a_split_of_its_own_is_read_back(scheme: str) -> None:
    given = {"scheme": scheme, **({"shares": [0.7, 0.2, 0.1]} if scheme == "random" else {})}
    experiment = Experiment.model_validate({"dataset": "d", "model": "linear", "folds": given})
    assert read_back(record(resolve(experiment))).folds == experiment.folds


def test_the_record_holds_the_recipe_and_the_network_before() -> None:
    experiment = resolve(Experiment(dataset="d", model="mmin", settings={"variant": "code"}))
    said = record(experiment)
    assert (said["epochs"], said["beta1"], said["train_on"]) == (60, 0.5, "random-condition")
    before = said["pretraining"]
    wanted = pretraining(experiment)
    assert wanted is not None and before["model"] == "baseline" and before["pretraining"] is None
    assert (before["epochs"], before["learning_rate"]) == (wanted.epochs, wanted.learning_rate)
    assert record(read_back(said))["pretraining"] == before


def test_what_a_network_before_takes_over() -> None:
    given = {**OTHER, "task": "classification", "dataset": "d", "model": "mmin"}
    first, before = chain(resolve(Experiment.model_validate(given)))
    for name in set(OTHER) - {"train_on"}:
        same = getattr(before, name) == getattr(first, name)
        assert same == (name in INHERITED), name
    assert before.train_on == "full"


@pytest.mark.parametrize(
    "said", [{}, {"trained": 3}, {"trained": {}}, {"trained": {"pretraining": None, "x": 1}}]
)
def test_a_record_of_another_version_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(
        StoreError, match=r"(?s)1-1/run\.json: the record .* cannot be read .*dvc repro -f -s train"
    ):
        recorded(said, Path("1-1/run.json"))


def test_the_masks_of_a_training_are_its_own_and_its_streams() -> None:
    def named(**given: Any) -> tuple[str, ...]:
        return masks_in(Experiment.model_validate({"dataset": "d", "model": "linear", **given}))

    assert named() == named(train_on="missing") == named(train_on="at") == ()
    assert named(train_on="block", train_mask="random") == ("block", "random")
    assert named(train_on="full", train_mask="block", evaluate_on=["frames"]) == ("block",)
    inner = {"inner_on": "frames", "inner_mask": "block"}
    assert named(train_on="block", regime="m3s", regime_settings=inner) == ("block", "frames")
    assert named(regime="m3s", regime_settings={"inner_on": "full", "inner_mask": "block"}) == ("block",)
