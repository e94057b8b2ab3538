"""No network's training reads memory that nothing wrote.

PyTorch fills new memory with NaN while it is asked to be deterministic, so that such a read shows; training turns this
off for speed (pipeline/training/loop.py). Here every model learns with it on, and must come to the same weights.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch

from models import baseline
from pipeline.errors import TrainingError
from pipeline.params import Experiment, module_names
from pipeline.training.experiment import resolve
from pipeline.training.folds import make_folds
from pipeline.training.kept_runs import build
from pipeline.training.loop import deterministic, fit
from pipeline.training.samples import SampleSet, read_samples
from tests import small_world
from tests.batches import SMALL

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SampleSet:
    """Return the samples of a small dataset."""
    root = tmp_path_factory.mktemp("world")
    small_world.write(root, 40, "world")
    return read_samples("world", small_world.dataset(), data=root)


def train(
    world: SampleSet, model: str, filled: bool, monkeypatch: pytest.MonkeyPatch
) -> dict[str, torch.Tensor]:
    """Return the weights after two epochs, with new memory filled with NaN or as it comes."""
    given = {"dataset": "world", "model": model, "batch_size": 8, "train_on": "missing", "epochs": 2}
    experiment = resolve(Experiment.model_validate({**given, "settings": SMALL.get(model, {})}))
    fold = make_folds(world.samples, small_world.dataset().folds)[0]
    samples = world.prepare(world.fit_normalisers(fold.train), CPU)
    regime = import_module("pipeline.training.regimes.standard").Regime
    with deterministic(CPU, 0):
        network = build(experiment, world.dims, len(world.classes))
    plain = network.epoch_start
    filling = []

    def start(epoch: int) -> None:
        monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", filled)
        filling.append(torch.utils.deterministic.fill_uninitialized_memory)
        plain(epoch)

    monkeypatch.setattr(network, "epoch_start", start)
    fit(network, regime(regime.Settings()), samples, fold, experiment, 0, len(world.classes), {})
    assert set(filling) == {filled}
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("model", module_names("models"))
def test_the_weights_are_the_same(model: str, world: SampleSet, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = train(world, model, False, monkeypatch)
    filled = train(world, model, True, monkeypatch)
    assert all(torch.equal(value, filled[name]) for name, value in plain.items())


def test_such_a_read_would_show(world: SampleSet, monkeypatch: pytest.MonkeyPatch) -> None:
    original = baseline.Model.forward

    def forward(self: Any, batch: Any) -> Any:
        output = original(self, batch)
        output.losses["classification"] = output.losses["classification"] + torch.empty(3).sum()
        return output

    monkeypatch.setattr(baseline.Model, "forward", forward)
    with pytest.raises(TrainingError, match=r"nan|finite"):
        train(world, "baseline", True, monkeypatch)
