"""Every model under every regime: gradients, missing patterns, padding, order, overfitting, resuming."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch

from models.base import Batch, Network
from pipeline.params import Experiment, module_names
from pipeline.train import resolve
from pipeline.training.folds import make_folds
from pipeline.training.loop import fit
from pipeline.training.regimes.base import BaseRegime, Step
from pipeline.training.samples import SampleSet, read_samples
from tests import small_world
from tests.batches import DIMS, PATTERNS, hide, lengthen, make_batch, reorder

MODELS = module_names("models")
REGIMES = [(name, {}) for name in module_names("pipeline.training.regimes")]
REGIMES.append(("m3s", {"order": "second", "inner_steps": 2}))
NAMES = [f"{name}{'-second' if settings else ''}" for name, settings in REGIMES]
over_models = pytest.mark.parametrize("model", MODELS)
over_outputs = pytest.mark.parametrize("outputs", [1, 4])
CASES = [
    pytest.param(*case, id=name, marks=[pytest.mark.slow] if case[1] else [])
    for case, name in zip(REGIMES, NAMES, strict=True)
]
over_regimes = pytest.mark.parametrize(("regime", "settings"), CASES)


def build(model: str, outputs: int, dims: dict[str, int] = DIMS) -> Network:
    """Return a network with the same weights at each call."""
    module = import_module(f"models.{model}")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: Network = module.Model(module.Model.Settings(), dims, outputs)
    return network


def make_regime(name: str, settings: dict[str, object]) -> BaseRegime:
    """Return a regime."""
    owner = import_module(f"pipeline.training.regimes.{name}").Regime
    regime: BaseRegime = owner(owner.Settings.model_validate(settings))
    return regime


def shown(network: Network, batch: Batch, pattern: list[bool]) -> Batch:
    """Return the batch as the loop would give it to this network in training."""
    return hide(batch, pattern, complement=network.needs_complement)


def run_epoch(
    network: Network,
    regime: BaseRegime,
    batches: Sequence[Batch],
    epoch: int,
    optimizers: dict[str, torch.optim.Optimizer] | None = None,
) -> tuple[set[str], float]:
    """Do one step of every stage; return the parameters that got a gradient, and the sum of the losses."""
    network.train()
    network.epoch_start(epoch)
    reached: set[str] = set()
    groups, total = network.parameter_groups(), 0.0
    for stage, wanted in network.stages.items():
        network.stage_start(stage)
        network.zero_grad(set_to_none=True)
        trained = {name: group for name, group in groups.items() if not wanted or name in wanted}
        step = Step(network, network, epoch, 0, torch.Generator().manual_seed(0), trained)
        losses = regime.gradients(step, batches)
        total = sum(float(loss) for loss in losses.values())
        ids = {id(p) for group in trained.values() for p in group}
        reached |= {
            name
            for name, p in network.named_parameters()
            if id(p) in ids and p.grad is not None and p.grad.abs().sum() > 0
        }
        if optimizers is not None:
            optimizers[stage].step()
    return reached, total


@over_regimes
@over_outputs
@over_models
def test_gradients_reach_every_parameter_and_leave_the_weights(
    model: str, outputs: int, regime: str, settings: dict[str, object]
) -> None:
    network, method = build(model, outputs), make_regime(regime, settings)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    reached: set[str] = set()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for epoch in (1, 2, 3):  # Self-MM's unimodal tasks begin with the third; each epoch, other modalities
            for pattern in ([True, True, True], [True, True, False], [False, True, True]):
                batches = [make_batch(12, outputs, seed) for seed in range(method.batches)]
                shown_batches = [shown(network, batch, pattern) for batch in batches]
                reached |= run_epoch(network, method, shown_batches, epoch)[0]
    expected = {name for name, p in network.named_parameters() if p.requires_grad}
    assert reached == expected
    for name, p in network.named_parameters():
        assert torch.equal(p, before[name]), f"{name} was changed"


@over_outputs
@over_models
def test_every_missing_pattern_gives_numbers(model: str, outputs: int) -> None:
    network = build(model, outputs).eval()
    batch = make_batch(5, outputs)
    for pattern in PATTERNS:
        output = network(hide(batch, pattern))
        assert output.prediction.shape == (5, outputs)
        assert torch.isfinite(output.prediction).all()
    nothing = hide(batch, [False, False, False])
    answers = network(nothing).prediction
    torch.testing.assert_close(answers, answers[:1].expand(5, -1))


@over_outputs
@over_models
def test_what_is_missing_tells_nothing(model: str, outputs: int) -> None:
    network = build(model, outputs).eval()
    first, second = make_batch(5, outputs, seed=0), make_batch(5, outputs, seed=1)
    mixed = replace(
        first,
        features={**first.features, "audio": second.features["audio"]},
        lengths={**first.lengths, "audio": second.lengths["audio"]},
        observed={**first.observed, "audio": second.observed["audio"]},
    )
    without_audio = [True, False, True]
    found = network(hide(mixed, without_audio)).prediction
    torch.testing.assert_close(found, network(hide(first, without_audio)).prediction)


@over_outputs
@over_models
def test_padding_changes_nothing(model: str, outputs: int) -> None:
    network = build(model, outputs).eval()
    batch = make_batch(5, outputs)
    plain, padded = network(batch), network(lengthen(batch, 4))
    torch.testing.assert_close(padded.prediction, plain.prediction)
    for name, loss in plain.losses.items():
        torch.testing.assert_close(padded.losses[name], loss)


@over_outputs
@over_models
def test_the_order_of_a_batch_changes_nothing_but_the_order(model: str, outputs: int) -> None:
    network = build(model, outputs).eval()
    batch, order = make_batch(5, outputs), torch.tensor([3, 0, 4, 1, 2])
    plain, other = network(batch), network(reorder(batch, order))
    torch.testing.assert_close(other.prediction, plain.prediction[order])
    for name, loss in plain.losses.items():
        torch.testing.assert_close(other.losses[name], loss)


@over_outputs
@over_models
def test_a_last_batch_of_one_sample_trains(model: str, outputs: int) -> None:
    network, regime = build(model, outputs), make_regime("standard", {})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for epoch in (1, 2):
            big, one = make_batch(6, outputs), make_batch(1, outputs, seed=1, first_row=6)
            for batch in (big, one):
                loss = run_epoch(network, regime, [shown(network, batch, [True, False, True])], epoch)[1]
                assert torch.isfinite(torch.tensor(loss))
                assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@over_regimes
@over_outputs
@over_models
def test_one_batch_overfits(model: str, outputs: int, regime: str, settings: dict[str, object]) -> None:
    network = build(model, outputs)
    method = make_regime(regime, settings | ({"range": [0.0, 0.2]} if regime != "standard" else {}))
    groups = network.parameter_groups()
    optimizers: dict[str, torch.optim.Optimizer] = {
        stage: torch.optim.Adam([p for n, g in groups.items() if not wanted or n in wanted for p in g], 1e-3)
        for stage, wanted in network.stages.items()
    }
    batch = make_batch(6, outputs)
    full = shown(network, batch, [True, True, True])

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
        for epoch in range(1, 101):
            run_epoch(network, method, [full] * method.batches, epoch, optimizers)
    assert error() < 0.5 * before


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SampleSet:
    """Return the samples of a small dataset."""
    root = tmp_path_factory.mktemp("world")
    small_world.write(root, 40, "world")
    return read_samples("world", small_world.dataset(), data=root)


@over_regimes
@over_models
def test_a_resumed_run_is_the_same_bit_for_bit(
    model: str, regime: str, settings: dict[str, object], world: SampleSet, tmp_path: Path
) -> None:
    fold = make_folds(world.samples, small_world.dataset().folds)[0]
    train_on = "missing" if import_module(f"models.{model}").Model.needs_complement else "full"
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


@pytest.mark.parametrize(("regime", "settings"), CASES[:1] + CASES[-1:])
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


@over_outputs
def test_padding_changes_no_imagination(outputs: int) -> None:
    """MMIN's losses look at the missing modalities too."""
    network = build("mmin", outputs).eval()
    batch = hide(make_batch(5, outputs), [True, False, True], complement=True)
    assert "complement" in batch.views
    padded = replace(lengthen(batch, 4), views={"complement": lengthen(batch.views["complement"], 3)})
    plain, found = network(batch).losses, network(padded).losses
    assert {"forward", "backward"} <= plain.keys()
    for name, loss in plain.items():
        torch.testing.assert_close(found[name], loss)
