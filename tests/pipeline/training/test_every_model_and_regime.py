"""Every model under every regime: gradients, overfitting, resuming, memory. What models alone must do is asked in
tests/models/test_contract.py.

Every run of the tests meets every model in the usual training, and every regime with models of three kinds; what is
left of the products is the sweep (``-m sweep``).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch

from models import baseline
from models.base import Batch, Output
from pipeline.errors import TrainingError
from pipeline.params import Experiment, module_names
from pipeline.training.experiment import resolve
from pipeline.training.folds import make_folds
from pipeline.training.loop import fit
from pipeline.training.regimes.base import BaseRegime
from pipeline.training.samples import SampleSet, read_samples
from tests import small_world
from tests.batches import build, make_batch, ready, run_epoch, shown

MODELS = module_names("models")
REGIMES = [(name, {}) for name in module_names("pipeline.training.regimes")]
REGIMES.append(("m3s", {"order": "second", "inner_steps": 2}))
NAMES = [f"{name}{'-second' if settings else ''}" for name, settings in REGIMES]
over_models = pytest.mark.parametrize("model", MODELS)
over_outputs = pytest.mark.parametrize("outputs", [1, 4])
CASES = [pytest.param(*case, id=name) for case, name in zip(REGIMES, NAMES, strict=True)]
# One model without anything special, one that is pretrained and trains on two views, one on whole dialogues: what a
# regime must know of a model is met among them.
KINDS = ("baseline", "mmin", "gcnet")


def products(
    *names: str, always: Collection[str] = ("standard",), swept: Collection[str] = ()
) -> pytest.MarkDecorator:
    """Return models times regimes: :data:`KINDS` in all of them, the other models in some.

    Args:
        names: of the regimes, as in NAMES.
        always: regimes that every model meets in every run of the tests.
        swept: regimes that are tried by hand alone, with every model.
    """
    found = []
    for model, (name, case) in itertools.product(MODELS, zip(NAMES, REGIMES, strict=True)):
        if name in names:
            daily = name not in swept and (name in always or model in KINDS)
            marks = [] if daily else [pytest.mark.sweep]
            found.append(pytest.param(model, *case, id=f"{model}-{name}", marks=marks))
    return pytest.mark.parametrize(("model", "regime", "settings"), found)


def make_regime(name: str, settings: dict[str, object]) -> BaseRegime:
    """Return a regime."""
    owner = import_module(f"pipeline.training.regimes.{name}").Regime
    regime: BaseRegime = owner(owner.Settings.model_validate(settings))
    return regime


# That every model can be differentiated twice is asked by the test below.
@products(*(name for name in NAMES if name != "standard"), always=("m3s",))
@over_outputs
def test_gradients_reach_every_parameter_and_leave_the_weights(
    model: str, outputs: int, regime: str, settings: dict[str, object]
) -> None:
    network, method = ready(build(model, outputs), outputs), make_regime(regime, settings)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    reached: set[str] = set()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for epoch in (1, 2, 3):  # Self-MM's unimodal tasks begin with the third; each epoch, other modalities
            for pattern in ([True] * 3, [True, True, False], [False, True, True], [True, False, True]):
                batches = [
                    shown(network, make_batch(12, outputs, seed), pattern, seed)
                    for seed in range(len(method.streams))
                ]
                reached |= run_epoch(network, method, batches, epoch)[0]
    expected = {name for name, p in network.named_parameters() if p.requires_grad}
    assert reached == expected
    for name, p in network.named_parameters():
        assert torch.equal(p, before[name]), f"{name} was changed"


@pytest.mark.parametrize("order", ["first", "second"])
@over_models
def test_every_model_takes_smils_meta_step(model: str, order: str) -> None:
    """Inner batches without views, of which the first group alone adapts; both losses are minimised."""
    network = ready(build(model, 4), 4)
    settings = {
        "order": order,
        "inner_views": False,
        "inner_groups": [next(iter(network.parameter_groups()))],
    }
    method = make_regime("m3s", {**settings, "add_inner_loss": True, "inner_decay": True})
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    outer = shown(network, make_batch(12, 4, 0), [True, False, True], 0)
    inner = replace(shown(network, make_batch(12, 4, 1), [False, True, True], 1), views={})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for epoch in (1, 2, 3):
            reached, total = run_epoch(network, method, [outer, inner], epoch)
    assert reached and math.isfinite(total)
    for name, p in network.named_parameters():
        assert torch.equal(p, before[name]), f"{name} was changed"
        assert p.grad is None or bool(torch.isfinite(p.grad).all()), name


@products(*NAMES)
@over_outputs
def test_one_batch_overfits(model: str, outputs: int, regime: str, settings: dict[str, object]) -> None:
    network, method = ready(build(model, outputs), outputs), make_regime(regime, settings)
    groups = network.parameter_groups()
    optimizers: dict[str, torch.optim.Optimizer] = {
        phase: torch.optim.Adam([p for n, g in groups.items() if not wanted or n in wanted for p in g], 1e-3)
        for phase, wanted in network.phases.items()
    }
    full = shown(network, make_batch(6, outputs), [True, True, True])
    batch = replace(full, views={})

    def error() -> float:
        network.eval()
        answers = network(batch).prediction
        if outputs == 1:
            assert batch.scores is not None
            return float((answers[:, 0] - batch.scores).abs().mean().detach())
        assert batch.labels is not None
        return float(torch.nn.functional.cross_entropy(answers, batch.labels).detach())

    before = error()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for epoch in range(1, 501):  # a linear model needs the most
            run_epoch(network, method, [full] * len(method.streams), epoch, optimizers)
            if epoch % 50 == 0 and error() < 0.5 * before:
                return
    assert error() < 0.5 * before


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SampleSet:
    """Return the samples of a small dataset."""
    root = tmp_path_factory.mktemp("world")
    small_world.write(root, 40, "world")
    return read_samples("world", small_world.dataset(), data=root)


# What a run keeps does not hang on the order of the gradient: the long way is the sweep.
@products(*NAMES, swept=NAMES[-1:])
def test_a_resumed_run_is_the_same_bit_for_bit(
    model: str, regime: str, settings: dict[str, object], world: SampleSet, tmp_path: Path
) -> None:
    fold = make_folds(world.samples, small_world.dataset().folds)[0]
    owner = import_module(f"models.{model}").Model
    train_on = "missing" if owner.views(owner.Settings()) else "full"
    experiment = Experiment(
        dataset="world", model=model, regime=regime, train_on=train_on, epochs=3, batch_size=11
    )
    samples = world.prepare(world.fit_normalisers(fold.train), torch.device("cpu"))

    class Stopped(Exception):
        pass

    def stop_after_two(epoch: int) -> None:
        if epoch == 2:
            raise Stopped

    arguments = (make_regime(regime, settings), samples, fold, experiment, 5, len(world.classes))
    whole, state = build(model, len(world.classes), world.dims), tmp_path / "state"
    expected = fit(whole, *arguments)
    with pytest.raises(Stopped):
        fit(
            build(model, len(world.classes), world.dims),
            *arguments,
            state=state,
            save_every_s=0,
            after_epoch=stop_after_two,
        )
    resumed = build(model, len(world.classes), world.dims)
    assert fit(resumed, *arguments, state=state) == expected
    assert len(expected.history) == 3
    assert resumed.state_dict().keys() == whole.state_dict().keys()
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("regime", "settings"), [*CASES[:-1], pytest.param(*REGIMES[-1], id=NAMES[-1], marks=[pytest.mark.sweep])]
)
@pytest.mark.parametrize("model", ["misa", "mmim", "self_mm"])
def test_a_resumed_regression_by_the_models_own_recipe_is_the_same(
    model: str, regime: str, settings: dict[str, object], tmp_path: Path
) -> None:
    """With accumulated gradients, halved rates and, for Self-MM, labels that move."""
    small_world.write(tmp_path, 40)
    world = read_samples("small", small_world.dataset(), {"audio": 10}, tmp_path, target="score")
    fold = make_folds(world.samples, small_world.dataset().folds)[0]
    given = {"dataset": "small", "model": model, "task": "regression", "regime": regime, "epochs": 4}
    experiment = resolve(
        Experiment.model_validate({**given, "batch_size": 5, "accumulate": 2, "halve_after": 1})
    )
    samples = world.prepare(world.fit_normalisers(fold.train), torch.device("cpu"))
    arguments = (make_regime(regime, settings), samples, fold, experiment, 5, 1)

    class Stopped(Exception):
        pass

    def stop_after_three(epoch: int) -> None:
        if epoch == 3:
            raise Stopped

    whole, resumed = build(model, 1, world.dims), build(model, 1, world.dims)
    expected = fit(whole, *arguments)
    state = tmp_path / "state"
    with pytest.raises(Stopped):
        fit(
            build(model, 1, world.dims), *arguments, state=state, save_every_s=0, after_epoch=stop_after_three
        )
    assert fit(resumed, *arguments, state=state) == expected
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def weights_with_filled_memory(
    filled: bool, model: str, world: SampleSet, monkeypatch: pytest.MonkeyPatch
) -> dict[str, torch.Tensor]:
    """Train two epochs, while PyTorch fills new memory with NaN or, as training has it, does not."""
    fold = make_folds(world.samples, small_world.dataset().folds)[0]
    samples = world.prepare(world.fit_normalisers(fold.train), torch.device("cpu"))
    experiment = Experiment(dataset="world", model=model, train_on="missing", epochs=2, batch_size=8)
    network = build(model, len(world.classes), world.dims)
    plain = network.epoch_start

    def start(epoch: int) -> None:
        torch.utils.deterministic.fill_uninitialized_memory = filled  # `fit` puts it back at its end
        plain(epoch)

    monkeypatch.setattr(network, "epoch_start", start)
    fit(network, make_regime("standard", {}), samples, fold, experiment, 5, len(world.classes))
    return network.state_dict()


@over_models
def test_no_model_reads_memory_that_nothing_wrote(
    model: str, world: SampleSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training does without the filling, for speed: it must make no difference."""
    filled = weights_with_filled_memory(True, model, world, monkeypatch)
    for name, value in weights_with_filled_memory(False, model, world, monkeypatch).items():
        assert torch.equal(filled[name], value), name


def test_a_read_of_unwritten_memory_would_show(world: SampleSet, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = baseline.Model.forward

    def forward(self: baseline.Model, batch: Batch) -> Output:
        output = plain(self, batch)
        output.losses["classification"] = output.losses["classification"] + torch.empty(3).sum()
        return output

    monkeypatch.setattr(baseline.Model, "forward", forward)
    with pytest.raises(TrainingError, match=r"nan|finite"):
        weights_with_filled_memory(True, "baseline", world, monkeypatch)
    assert torch.utils.deterministic.fill_uninitialized_memory
