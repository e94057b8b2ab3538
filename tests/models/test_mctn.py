"""MCTN: what goes into a translation, what comes out of it, and that the source is enough."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from models.base import MODALITIES, Batch
from models.mctn import LETTERS, MCTNSettings, Model, _error, resample
from tests.batches import DIMS, hide, lengthen, make_batch, train

SOURCES = ("a", "v", "t", "av", "at", "vt")


def make(outputs: int = 4, **settings: object) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Model(MCTNSettings.model_validate(settings), DIMS, outputs)


def pattern(source: str) -> list[bool]:
    return [m in {LETTERS[letter] for letter in source} for m in MODALITIES]


def shown(source: str, batch: Batch, complement: bool = True) -> Batch:
    return hide(batch, pattern(source), complement=complement)


def test_resampling_by_hand() -> None:
    batch = make_batch(2, 4)
    values = torch.zeros(2, 5, DIMS["video"])
    values[0, :, 0] = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    values[1, :, 0] = torch.tensor([7.0, 9.0, 99.0, 99.0, 99.0])  # two frames, then padding
    batch = replace(
        batch,
        features={**batch.features, "video": values},
        lengths={**batch.lengths, "video": torch.tensor([5, 2])},
    )
    # 5 frames in 2 steps: [0, 3) and [2, 5); 2 frames in 4: each twice.
    assert resample(batch, "video", 2)[0, :, 0].tolist() == [2.0, 4.0]
    assert resample(batch, "video", 4)[1, :, 0].tolist() == [7.0, 7.0, 9.0, 9.0]


def test_the_error_counts_only_what_is_known() -> None:
    found, target = torch.zeros(3, 2, 1), torch.tensor([[[1.0], [3.0]], [[9.0], [9.0]], [[2.0], [2.0]]])
    assert _error(found, target, torch.tensor([True, False, True])) == (5 + 4) / 2
    assert _error(found, target, torch.zeros(3, dtype=torch.bool)) == 0


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_has_the_other_modalities_as_targets_and_trains_them_all(source: str) -> None:
    network = make(source=source)
    assert set(network.source) | set(network.targets) == set(MODALITIES)
    assert len(network.source) + len(network.targets) == 3
    output = network(shown(source, make_batch(5, 4)))
    torch.stack(list(output.losses.values())).sum().backward()
    assert list(output.losses) == ["classification", "forward", "backward"] + ["second"] * (len(source) == 1)
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("source", SOURCES)
def test_the_source_is_enough_at_test_and_the_rest_tells_nothing(source: str) -> None:
    network = make(source=source).eval()
    first, second = make_batch(5, 4, seed=0), make_batch(5, 4, seed=1)
    alone = network(shown(source, first, complement=False))
    torch.testing.assert_close(alone.prediction, network(first).prediction)
    others = {m: second.features[m] for m in network.targets}
    lengths = {m: second.lengths[m] for m in network.targets}
    mixed = replace(
        first, features={**first.features, **others}, lengths={**first.lengths, **lengths}, labels=None
    )
    output = network(mixed)
    torch.testing.assert_close(output.prediction, alone.prediction)
    assert output.losses == {}


def test_targets_come_from_the_complement() -> None:
    network = make(source="t")
    batch = make_batch(5, 4)
    hidden, whole = network(shown("t", batch)), network(batch)
    for name in ("forward", "backward", "second"):
        torch.testing.assert_close(hidden.losses[name], whole.losses[name])


def test_padding_changes_nothing() -> None:
    network = make(source="av")
    batch = shown("av", make_batch(5, 4))
    assert "complement" in batch.views
    padded = replace(lengthen(batch, 4), views={"complement": lengthen(batch.views["complement"], 3)})
    plain, other = network(batch), network(padded)
    torch.testing.assert_close(other.prediction, plain.prediction)
    for name, loss in plain.losses.items():
        torch.testing.assert_close(other.losses[name], loss)


@pytest.mark.parametrize("outputs", [1, 4])
def test_one_batch_overfits_and_the_translations_improve(outputs: int) -> None:
    history = train(make(outputs, source="t", steps=6), shown("t", make_batch(6, outputs)), 150, rate=5e-3)
    for name, value in history[0].items():
        assert history[-1][name] < 0.7 * value, name


def test_its_training_is_on_the_source_alone() -> None:
    wanted = Model.recipe(MCTNSettings(source="av"))
    assert (wanted["train_on"], wanted["batch_size"], wanted["learning_rate"]) == ("av", 32, 1e-4)


@pytest.mark.parametrize("targets", [["text"], ["audio", "audio"]])
def test_targets_that_are_the_source_or_stand_twice(targets: list[str]) -> None:
    with pytest.raises(ValidationError, match="expected different ones that are not the source"):
        MCTNSettings.model_validate({"source": "t", "targets": targets})
