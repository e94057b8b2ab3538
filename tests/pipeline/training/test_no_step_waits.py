"""No training step asks the device for a number: on a GPU each such question would stop the host until it is done.

On a CPU nothing waits, but the same operations can be counted: a tensor's value as a Python number, and results
whose shape depends on values. Copies to the device are counted on a device alone (test_gpu.py).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from models import baseline
from pipeline.params import Experiment, module_names
from pipeline.training.experiment import resolve
from pipeline.training.folds import make_folds
from pipeline.training.kept_runs import build
from pipeline.training.loop import Run, deterministic
from pipeline.training.samples import SampleSet, read_samples
from tests import small_world
from tests.batches import SMALL

ASKING = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::equal",
    "aten::is_nonzero",
}
ASKING |= {"aten::_unique2", "aten::unique_dim", "aten::repeat_interleave", "aten::bincount"}
INDEXING = {"aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_"}


class Questions(TorchDispatchMode):
    """Notes the operations that would make the host wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.listening = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        by_mask = name in INDEXING and any(
            isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1]
        )
        if self.listening and (name in ASKING or by_mask):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SampleSet:
    """Return the samples of a small dataset."""
    root = tmp_path_factory.mktemp("world")
    small_world.write(root, 40, "world")
    return read_samples("world", small_world.dataset(), data=root)


def questions(
    world: SampleSet, model: str, regime: str, monkeypatch: pytest.MonkeyPatch, **more: Any
) -> list[str]:
    """Train two epochs and return what the networks and the regime asked."""
    fold = make_folds(world.samples, small_world.dataset().folds)[0]
    samples = world.prepare(world.fit_normalisers(fold.train), torch.device("cpu"))
    more = {"settings": SMALL.get(model, {}), **more}
    given = {"dataset": "world", "model": model, "regime": regime, "batch_size": 8, "train_on": "missing"}
    experiment = resolve(Experiment.model_validate({**given, **more}))
    owner = import_module(f"pipeline.training.regimes.{regime}").Regime
    method = owner(owner.Settings())
    with deterministic(torch.device("cpu"), 0):
        network = build(experiment, world.dims, len(world.classes))
    run = Run(network, method, samples, fold, experiment, 0, len(world.classes), {})
    counted = Questions()
    plain = method.gradients

    def listen(*arguments: Any) -> Any:
        counted.listening = True  # not while batches are cut: lengths are known on the CPU there
        try:
            return plain(*arguments)
        finally:
            counted.listening = False

    monkeypatch.setattr(method, "gradients", listen)
    network.train()
    with counted:
        for run.epoch in (1, 2, 3):
            network.epoch_start(run.epoch)
            for phase in network.phases:
                network.phase_start(phase)
                run._train_phase(phase)
    return counted.found


def cases() -> list[Any]:
    """Return models times regimes; the sweep is of other regimes than the usual, with models not of three kinds."""
    found = []
    for model in module_names("models"):
        for regime in module_names("pipeline.training.regimes"):
            daily = regime == "standard" or model in ("baseline", "mmin", "gcnet")
            found.append(pytest.param(model, regime, marks=[] if daily else [pytest.mark.sweep]))
    return found


@pytest.mark.parametrize(("model", "regime"), cases())
def test_no_step_asks(model: str, regime: str, world: SampleSet, monkeypatch: pytest.MonkeyPatch) -> None:
    assert questions(world, model, regime, monkeypatch) == []


def test_a_question_would_be_found(world: SampleSet, monkeypatch: pytest.MonkeyPatch) -> None:
    original = baseline.Model.forward

    def forward(self: Any, batch: Any) -> Any:
        float(batch.features["text"].sum())
        batch.features["text"][batch.observed["text"]]
        return original(self, batch)

    monkeypatch.setattr(baseline.Model, "forward", forward)
    found = questions(world, "baseline", "standard", monkeypatch)
    assert {"aten::_local_scalar_dense", "aten::index"} <= set(found)
