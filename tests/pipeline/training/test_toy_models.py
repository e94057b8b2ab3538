"""Models that ask for dialogues, for other versions of a sample, and for a look at the training part: whole runs."""

from __future__ import annotations

import csv
import inspect
import json
import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import models.base
from models.base import Network
from pipeline.data.store import FeatureSequence, FeatureStore
from pipeline.errors import ParamsError
from pipeline.evaluate import write_results
from pipeline.params import Compute, Dataset, Experiment
from pipeline.training import loop
from pipeline.training.all_runs import train_experiment
from pipeline.training.evaluation import Evaluation, Result, evaluate_experiment
from pipeline.training.experiment import chain, resolve
from pipeline.training.folds import make_folds
from pipeline.training.kept_runs import PlannedRun, read_tensors
from pipeline.training.predictor import load_run
from pipeline.training.samples import read_samples
from pipeline.training.training_set import showings
from tests import small_world, toys

CPU = Compute(workers=1, device="cpu")
ONE = small_world.dataset(folds={"scheme": "session", "count": 1})
SIZE = 50


def of_the_docstring() -> type[Network]:
    """Return the model that models/base.py opens with, from its very text."""
    text = models.base.__doc__ or ""
    block = re.search(r"::\n\n((?:(?:    .*)?\n)+)", text)
    assert block is not None
    code = textwrap.dedent(block[1]).strip()
    assert 15 <= len(code.splitlines()) <= 30
    space: dict[str, Any] = {"__name__": "models.docstring"}
    exec(compile(code, "models/base.py", "exec"), space)  # noqa: S102 - that it can be run is what is tested
    found: type[Network] = space["Model"]
    return found


TOYS: dict[str, type[Network]] = {"talk": toys.Talk, "twin": toys.Twin, "centred": toys.Centred}
ASKING = {
    "talk": {"batch_size": 3, "train_on": "augmented"},
    "twin": {"train_on": "sampled"},
    "centred": {"train_mask": "one-missing"},
    "docstring": {"train_on": "mixed"},
}


@pytest.fixture(autouse=True)
def in_models(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, model in {**TOYS, "ladder": toys.Ladder, "docstring": of_the_docstring()}.items():
        toys.register(monkeypatch, name, model)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder like data/, with two datasets: dialogues with unlabelled turns, and single samples."""
    folder = tmp_path_factory.mktemp("data")
    small_world.write(folder, SIZE, "talks", missing=[("video", 3)], given=small_world.dialogues(SIZE))
    small_world.write(folder, SIZE, missing=[("video", 3)])
    return folder


def experiment(model: str, **settings: Any) -> Experiment:
    given = {
        "dataset": "talks" if model == "talk" else "small",
        "model": model,
        "epochs": 12,
        "batch_size": 16,
        "learning_rate": 0.02,
        "frame_rate_hz": {"audio": 10},
        "keep_hidden": ["joint"],
    }
    return Experiment.model_validate({**given, **ASKING.get(model, {}), **settings})


def run(
    settings: Experiment, data: Path, dataset: Dataset = ONE, evaluate_on: tuple[str, ...] = ("conditions",)
) -> Evaluation:
    train_experiment(settings.model, settings, dataset, 0, CPU, data)
    return evaluate_experiment(settings.model, dataset, settings, evaluate_on, CPU, data)


def first(found: Evaluation) -> Result:
    (result,) = found.results
    assert isinstance(result, Result)
    return result


@pytest.mark.parametrize("model", [*TOYS, "docstring"])
def test_a_small_model_goes_through_the_whole_pipeline(model: str, world: Path, tmp_path: Path) -> None:
    if model in TOYS:
        assert len(inspect.getsource(TOYS[model]).splitlines()) < 40
    found = run(experiment(model), world, evaluate_on=("conditions", "block"))
    result = first(found)
    assert result.conditions == ("a", "v", "t", "av", "at", "vt", "avt", "block")
    full = (result.probabilities["avt"].argmax(axis=1) == result.labels).mean()
    assert full > 0.5  # chance is 0.25
    facts = json.loads((world / "runs" / model / "1-1" / "run.json").read_text())
    assert set(facts["trained"]) == {*Experiment.model_fields, "pretraining"}
    with (world / "runs" / model / "1-1" / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert float(history[-1]["train_loss"]) < float(history[0]["train_loss"])
    assert {"train_other", "train_whole"} <= history[0].keys() or model != "twin"
    hidden = found.hidden["block/joint"]
    assert hidden.shape[0] == len(result.ids) and np.isfinite(hidden).all()
    assert found.hidden["ids"].tolist() == list(result.ids)
    write_results(tmp_path, model, found.classes, found.results)
    with (tmp_path / "predictions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 8 * len(result.ids)
    # One sample alone, by the predictor: a turn of a dialogue with itself.
    sequences: dict[str, FeatureSequence | None] = {}
    for modality in small_world.DIMS:
        with FeatureStore(world / "features" / "small" / f"{modality}.h5") as store:
            sequences[modality] = store.read(store.ids.index(result.ids[0]))
    said = load_run(world / "runs" / model / "1-1").predict(sequences)
    if model != "talk":
        np.testing.assert_allclose(list(said.values()), result.probabilities["avt"][0], atol=1e-5)
    assert sum(said.values()) == pytest.approx(1)


def test_unlabelled_turns_are_context_and_are_counted(world: Path) -> None:
    found = run(experiment("talk", epochs=2), world)
    rows = small_world.dialogues(SIZE)
    unlabelled = [sample.id for sample in rows if not sample.label]
    summary = json.loads((world / "runs" / "talk" / "summary.json").read_text())
    assert summary["left_out"] == {"no label (context only)": len(unlabelled)} and len(unlabelled) > 4
    assert summary["samples"] == SIZE - len(unlabelled)
    tested = [sample.id for sample in rows if sample.session == "Ses01"]
    assert list(first(found).ids) == [name for name in tested if name not in unlabelled]
    assert len(first(found).ids) < len(tested)
    facts = json.loads((world / "runs" / "talk" / "1-1" / "run.json").read_text())
    fold = make_folds([sample for sample in rows if sample.label], ONE.folds)[0]
    sizes = {"train": len(fold.train), "valid": len(fold.valid), "test": len(fold.test)}
    assert facts["samples"] == sizes
    plain = read_samples("talks", ONE, data=world)
    assert plain.left_out == {"no label": len(unlabelled)}, "other models have no use for them"


def test_a_dialogue_is_read_in_the_order_of_its_turns_with_its_context(world: Path) -> None:
    """Against each turn collated alone and read one after the other, without any padding or batch."""
    settings = experiment("talk", epochs=2)
    result = first(run(settings, world))
    samples = read_samples("talks", ONE, settings.frame_rate_hz, world, dialogues=True)
    predictor = load_run(world / "runs" / "talk" / "1-1")
    network = predictor.network
    device = samples.prepare(predictor.normalisers, torch.device("cpu"))
    expected: dict[str, np.ndarray] = {}
    seen_context = 0
    for name in {sample.dialogue for sample in samples.samples if sample.session == "Ses01"}:
        turns = sorted((s.turn, i) for i, s in enumerate(samples.samples) if s.dialogue == name)
        state = None
        for _, index in turns:
            alone = device.collate(torch.tensor([index]), torch.tensor([[True, False, True]]))
            with torch.no_grad():
                read = torch.relu(network.read(toys.means(alone)))
                states, state = network.turns(read[None], state)
                logits = network.head(torch.cat([read, states[0]], dim=1))
            expected[samples.samples[index].id] = torch.softmax(logits[0].double(), dim=0).numpy()
            seen_context += not samples.samples[index].label
    assert seen_context
    for row, name in enumerate(result.ids):
        np.testing.assert_allclose(result.probabilities["vt"][row], expected[name], atol=1e-5)


def test_batches_of_dialogues_change_nothing(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone or padded beside longer ones; and validation says what evaluation says."""
    settings = experiment("talk", epochs=1, train_on="full")
    together = first(run(settings, world))
    monkeypatch.setattr(loop, "EVALUATION_BATCH", 1)
    alone = first(evaluate_experiment("talk", ONE, settings, ("conditions",), CPU, world))
    for condition, chances in together.probabilities.items():
        np.testing.assert_allclose(alone.probabilities[condition], chances, atol=1e-5)
    samples = read_samples("talks", ONE, settings.frame_rate_hz, world, dialogues=True)
    predictor = load_run(world / "runs" / "talk" / "1-1")
    device = samples.prepare(predictor.normalisers, torch.device("cpu"))
    fold = make_folds(samples.samples, ONE.folds, samples.labelled)[0]
    answers = loop.predict(predictor.network, predictor.network, device, fold.valid, showings(["avt"]))
    right = (answers[:, 0].argmax(dim=1).numpy() == samples.labels[fold.valid]).mean()
    with (world / "runs" / "talk" / "1-1" / "history.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["valid_wa"]) == pytest.approx(right)


def test_centres_are_of_the_training_part_alone_and_are_kept(world: Path) -> None:
    settings = experiment("centred", epochs=1)
    run(settings, world)
    samples = read_samples("small", ONE, settings.frame_rate_hz, world)
    fold = make_folds(samples.samples, ONE.folds)[0]
    device = samples.prepare(samples.fit_normalisers(fold.train), torch.device("cpu"))
    values = toys.means(device.collate(torch.from_numpy(fold.train)))
    centres = read_tensors(world / "runs" / "centred" / "1-1" / "weights.safetensors")["centres"]
    labels = torch.from_numpy(samples.labels[fold.train])
    for label in range(4):  # whole, though it is trained under a mask
        torch.testing.assert_close(centres[label], values[labels == label].mean(dim=0))


def test_a_network_can_start_from_its_own_kind(world: Path, tmp_path: Path) -> None:
    settings = experiment("ladder", settings={"steps": 2}, epochs=1, keep_hidden=[])
    whole = chain(resolve(settings))
    assert [one.settings["steps"] for one in whole] == [2, 1, 0]
    assert [one.train_on for one in whole] == ["full", "missing", "missing"]
    assert [one.learning_rate for one in whole] == [0.02, 0.02, 0.01]
    run(settings, world)
    weights = read_tensors(world / "runs" / "ladder" / "1-1" / "weights.safetensors")
    assert weights["climbed"] == 2
    facts = json.loads((world / "runs" / "ladder" / "1-1" / "run.json").read_text())
    below = facts["trained"]["pretraining"]
    assert (below["settings"]["steps"], below["pretraining"]["settings"]["steps"]) == (1, 0)
    assert below["pretraining"]["pretraining"] is None
    with pytest.raises(ParamsError, match="do not come to an end: ladder <- ladder"):
        chain(resolve(experiment("ladder", settings={"endless": True, "steps": 1})))


def test_a_runs_key_covers_the_whole_chain(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = read_samples("small", ONE, {"audio": 10}, world)
    fold = make_folds(samples.samples, ONE.folds)[0]

    def key(steps: int) -> str:
        settings = resolve(experiment("ladder", settings={"steps": steps}))
        return PlannedRun(settings, fold, 0, "cpu", tmp_path).key(samples)

    before = [key(steps) for steps in (0, 1, 2)]
    assert len(set(before)) == 3
    original = toys.Ladder.recipe

    def recipe(settings: toys.LadderSettings) -> dict[str, Any]:  # of the lowest alone
        return {} if settings.steps else {"weight_decay": 0.5}

    monkeypatch.setattr(toys.Ladder, "recipe", staticmethod(recipe))
    after = [key(steps) for steps in (0, 1, 2)]
    assert all(one != other for one, other in zip(before, after, strict=True))
    monkeypatch.setattr(toys.Ladder, "recipe", original)
    assert [key(steps) for steps in (0, 1, 2)] == before
