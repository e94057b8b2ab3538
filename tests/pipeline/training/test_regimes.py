"""M3S: the meta-gradient on a function worked by hand, and what it is without inner steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from models.base import Batch, ModelSettings, Network, Output
from models.misa import Model as Misa
from models.mmim import Model as Mmim
from models.self_mm import Model as SelfMM
from pipeline.data.masks import read_masks
from pipeline.errors import TrainingError
from pipeline.params import Experiment
from pipeline.training.experiment import resolve
from pipeline.training.folds import make_folds
from pipeline.training.kept_runs import build
from pipeline.training.loop import Fit, deterministic, fit
from pipeline.training.regimes import m3s, standard
from pipeline.training.regimes.base import BaseRegime, Step, Stream
from pipeline.training.samples import SampleSet, read_samples
from tests import small_world
from tests.batches import DIMS, make_batch


class Quadratic(Network):
    """The loss is a / 2 (w - c)^2, with a and c the batch's first two scores; a buffer counts the calls."""

    Settings = ModelSettings

    def __init__(self, settings: Any, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__(settings, dims, outputs)
        self.w = nn.Parameter(torch.tensor(1.0))
        self.fixed = nn.Parameter(torch.tensor(5.0))
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"w": [self.w], "fixed": [self.fixed]}

    def forward(self, batch: Batch) -> Output:
        assert batch.scores is not None
        self.calls += 1
        a, c = batch.scores[:2]
        error = a / 2 * (self.w - c) ** 2
        return Output(self.w.view(1, 1), {"square": error, "other": 0 * self.fixed**2})


def quadratic_step(factor: float = 1.0, **settings: Any) -> tuple[Quadratic, float, dict[str, Tensor]]:
    """Do one M3S step: w = 1; the inner loss is 3 / 2 (w - 2)^2, the outer 4 / 2 (w + 1)^2, alpha 0.1."""
    network = Quadratic(None, DIMS, 1)
    regime = m3s.Regime(m3s.M3SSettings(inner_rate=0.1, **settings))
    batch = make_batch(2, outputs=1)
    outer = replace(batch, scores=torch.tensor([4.0, -1.0]))
    inner = replace(batch, scores=torch.tensor([3.0, 2.0]))
    step = Step(network, network, 1, 0, torch.Generator(), {"w": [network.w]}, factor)
    losses = regime.gradients(step, [outer, inner])
    assert network.w.grad is not None
    return network, float(network.w.grad), losses


# w' = w - 0.1 * 3 (w - 2): w - 2 shrinks by 0.7 a step. K = 1: 1.3; K = 3: 2 - 0.343 = 1.657.
# First order: 4 (w* + 1). Second: times dw*/dw = 0.7^K.
@pytest.mark.parametrize(
    ("steps", "order", "expected"),
    [
        (0, "first", 8.0),
        (0, "second", 8.0),
        (1, "first", 9.2),
        (1, "second", 6.44),
        (3, "first", 10.628),
        (3, "second", 10.628 * 0.343),
    ],
)
def test_the_meta_gradient_by_hand(steps: int, order: str, expected: float) -> None:
    network, gradient, losses = quadratic_step(inner_steps=steps, order=order)
    assert gradient == pytest.approx(expected, rel=1e-5)
    adapted = 2 - 0.7**steps
    assert losses["square"].item() == pytest.approx(2 * (adapted + 1) ** 2, rel=1e-5)
    assert network.w.item() == 1.0, "the inner steps leave the weights as they were"
    assert network.calls.item() == 1.0, "of the buffers, only the outer batch is counted"
    assert network.fixed.item() == 5.0


def test_a_group_can_have_its_own_inner_rate() -> None:
    # w' = 1 - 0.2 * 3 * (1 - 2) = 1.6
    assert quadratic_step(inner_steps=1, inner_rates={"w": 0.2})[1] == pytest.approx(4 * 2.6, rel=1e-5)
    with pytest.raises(TrainingError, match='no parameter group "W"; the model has w, fixed'):
        quadratic_step(inner_rates={"W": 0.2})


@pytest.mark.parametrize("order", ["first", "second"])
def test_the_inner_steps_adapt_some_groups_alone(order: str) -> None:
    # nothing of "fixed" trains here, so nothing is adapted: the outer gradient at w = 1, 4 (1 + 1)
    network, gradient, _ = quadratic_step(inner_steps=2, order=order, inner_groups=["fixed"])
    assert gradient == pytest.approx(8.0) and network.w.item() == 1.0
    assert quadratic_step(inner_groups=["w"])[1] == pytest.approx(9.2, rel=1e-5)
    with pytest.raises(TrainingError, match=r'inner_groups: .* "fixd"; the model has w, fixed.*mean "fixed"'):
        quadratic_step(order=order, inner_groups=["fixd"])


# The inner loss at w = 1 is 3 / 2, its gradient 3 (1 - 2) = -3: that is added to the meta-gradient above.
@pytest.mark.parametrize(
    ("steps", "order", "groups", "expected"),
    [
        (1, "first", [], 9.2 - 3),
        (1, "second", [], 6.44 - 3),
        (3, "first", [], 10.628 - 3),
        (3, "second", [], 10.628 * 0.343 - 3),
        (2, "first", ["fixed"], 8.0 - 3),
        (2, "second", ["fixed"], 8.0 - 3),
    ],
)
def test_the_inner_loss_can_be_minimised_too(
    steps: int, order: str, groups: list[str], expected: float
) -> None:
    settings = {"inner_steps": steps, "order": order, "inner_groups": groups, "add_inner_loss": True}
    network, gradient, losses = quadratic_step(**settings)
    assert gradient == pytest.approx(expected, rel=1e-5)
    assert losses["inner"].item() == pytest.approx(1.5) and set(losses) == {"square", "other", "inner"}
    assert network.w.item() == 1.0 and network.calls.item() == 1.0


def test_an_inner_loss_without_an_inner_step_is_refused() -> None:
    with pytest.raises(ValidationError, match="add_inner_loss means nothing to inner_steps: 0"):
        m3s.M3SSettings(inner_steps=0, add_inner_loss=True)


def test_the_inner_rate_falls_where_it_is_asked_to() -> None:
    # alpha 0.05: w' = 1 - 0.05 * 3 * (1 - 2) = 1.15; a group's own rate 0.2 becomes 0.1: 1.3
    assert quadratic_step(factor=0.5, inner_decay=True)[1] == pytest.approx(4 * 2.15, rel=1e-5)
    given = {"factor": 0.5, "inner_decay": True, "inner_rates": {"w": 0.2}}
    assert quadratic_step(**given)[1] == pytest.approx(4 * 2.3, rel=1e-5)
    assert quadratic_step(factor=0.5)[1] == pytest.approx(9.2, rel=1e-5)
    network = Quadratic(None, DIMS, 1)
    assert Step(network, network, 1, 0, torch.Generator(), {}).factor == 1


def test_weights_are_restored_when_a_step_fails() -> None:
    network = Quadratic(None, DIMS, 1)
    batch = make_batch(2, outputs=1)
    calls = []

    def forward(given: Batch) -> Output:
        calls.append(given)
        if len(calls) == 3:
            return Output(torch.zeros(2, 1))
        return network(given)

    step = Step(network, forward, 1, 0, torch.Generator(), {"w": [network.w]})
    with pytest.raises(TrainingError, match="gave no loss"):
        m3s.Regime(m3s.M3SSettings(inner_steps=2)).gradients(step, [batch, batch])
    assert network.w.item() == 1.0 and network.calls.item() == 0


@pytest.mark.parametrize("order", ["first", "second"])
def test_a_real_networks_meta_gradient_is_that_at_the_adapted_weights(
    order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against copies: adapt one by hand, and difference the meta-loss for the second order."""
    whole = Tensor.float  # models take float32 for their losses; here differences need all digits
    monkeypatch.setattr(
        Tensor, "float", lambda given: given if given.dtype == torch.float64 else whole(given)
    )
    torch.manual_seed(0)
    settings = {"hidden": 4, "audio_hidden": 3, "video_hidden": 3, "dropout": 0.0, "difference_weight": 0.0}
    network = Misa(Misa.Settings.model_validate(settings), DIMS, 1).double().eval()
    rate, steps = 0.02, 2
    regime = m3s.Regime(m3s.M3SSettings(inner_rate=rate, inner_steps=steps, order=order))
    batches = [_double(make_batch(5, outputs=1, seed=seed)) for seed in (2, 3)]
    step = Step(network, network, 1, 0, torch.Generator(), network.parameter_groups())
    regime.gradients(step, batches)
    found = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    outer, inner = batches

    def adapt(start: dict[str, Tensor]) -> Misa:
        copy = Misa(Misa.Settings.model_validate(settings), DIMS, 1).double().eval()
        copy.load_state_dict(start)
        for _ in range(steps):
            copy.zero_grad()
            standard.total(copy(inner)).backward()
            with torch.no_grad():
                for p in copy.parameters():
                    p -= rate * p.grad
        copy.zero_grad()
        return copy

    start = {name: value.clone() for name, value in network.state_dict().items()}
    if order == "first":
        adapted = adapt(start)
        standard.total(adapted(outer)).backward()
        for name, p in adapted.named_parameters():
            torch.testing.assert_close(found[name], p.grad)
        return
    for name in (
        "audio.first.forwards.weight_hh_l0",
        "attend.self_attn.in_proj_weight",
        "project.text.0.weight",
    ):
        place, step_size = (1, 2), 1e-4
        values = []
        for sign in (1, -1):
            moved = {key: value.clone() for key, value in start.items()}
            moved[name][place] += sign * step_size
            values.append(float(standard.total(adapt(moved)(outer)).detach()))
        slope = (values[0] - values[1]) / (2 * step_size)
        assert float(found[name][place]) == pytest.approx(slope, rel=1e-5, abs=1e-10)


def _double(batch: Batch) -> Batch:
    assert batch.scores is not None
    features = {m: v.double() for m, v in batch.features.items()}
    return replace(batch, features=features, scores=batch.scores.double())


def gradients(regime: BaseRegime, batches: Sequence[Batch]) -> dict[str, Tensor]:
    """Return the gradients that a regime gives a network with dropout, from the same start at each call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Misa(Misa.Settings(hidden=8), DIMS, 4).train()
        groups = network.parameter_groups()
        regime.gradients(Step(network, network, 3, 7, torch.Generator(), groups), batches)
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def test_m3s_without_inner_steps_is_standard_exactly() -> None:
    batches = [make_batch(8, 4, seed=0), make_batch(8, 4, seed=1)]
    plain = gradients(standard.Regime(standard.StandardSettings()), batches[:1])
    meta = gradients(m3s.Regime(m3s.M3SSettings(inner_steps=0)), batches)
    assert plain.keys() == meta.keys()
    for name, gradient in plain.items():
        assert torch.equal(meta[name], gradient), name
    changed = gradients(m3s.Regime(m3s.M3SSettings(inner_steps=1)), batches)
    assert any(not torch.equal(changed[name], gradient) for name, gradient in plain.items())


def two_epochs(
    world: SampleSet, regime: BaseRegime, data: Path, train_on: str = "sampled"
) -> tuple[Fit, dict[str, Tensor]]:
    """Train a network with dropout for two epochs on a small dataset, under a mask."""
    fold = make_folds(world.samples, small_world.dataset().folds)[0]
    given = {"dataset": "small", "model": "misa", "epochs": 2, "batch_size": 11, "settings": {"hidden": 8}}
    experiment = resolve(Experiment.model_validate({**given, "train_on": train_on}))
    masks = world.named_masks(read_masks(data / "masks" / "small.h5"), ["sampled", "block"])
    samples = world.prepare(world.fit_normalisers(fold.train), torch.device("cpu"))
    with deterministic(torch.device("cpu"), 3):
        network = build(experiment, world.dims, len(world.classes))
    found = fit(network, regime, samples, fold, experiment, 3, len(world.classes), masks)
    return found, network.state_dict()


def test_a_whole_training_without_inner_steps_is_the_standard_one(tmp_path: Path) -> None:
    """SPL-TRN of the paper, with a mask that is drawn anew; ORIG with one that stays."""
    small_world.write(tmp_path, 40)
    world = read_samples("small", small_world.dataset(), data=tmp_path)
    found = {}
    for train_on in ("sampled", "block"):
        plain, weights = two_epochs(world, standard.Regime(standard.StandardSettings()), tmp_path, train_on)
        meta, others = two_epochs(world, m3s.Regime(m3s.M3SSettings(inner_steps=0)), tmp_path, train_on)
        assert meta == plain
        assert all(torch.equal(others[name], value) for name, value in weights.items())
        found[train_on] = plain
    assert found["sampled"] != found["block"]
    changed, _ = two_epochs(world, m3s.Regime(m3s.M3SSettings(inner_steps=1)), tmp_path)
    assert changed != found["sampled"]


def test_the_streams_of_m3s() -> None:
    plain = m3s.Regime(m3s.M3SSettings())
    assert plain.streams == (Stream("outer"), Stream("inner"))
    settings = m3s.M3SSettings(inner_on="full", inner_mask="block")
    assert m3s.Regime(settings).streams == (Stream("outer"), Stream("inner", "full", "block"))
    assert standard.Regime(standard.StandardSettings()).streams == (Stream("batches"),)


class Recorded(m3s.Regime):
    """Notes the views of outer and inner batches, and the factor of the rates."""

    seen: list[tuple[set[str], set[str], float]]

    def gradients(self, step: Step, batches: Sequence[Batch]) -> dict[str, Tensor]:
        outer, inner = batches
        self.seen.append((set(outer.views), set(inner.views), step.factor))
        return super().gradients(step, batches)


@pytest.mark.parametrize("views", [True, False])
def test_smils_meta_step_by_the_loop(views: bool, tmp_path: Path) -> None:
    """Its inner batches carry no views, so that the task's loss is all that they see; the rates' factor arrives."""
    small_world.write(tmp_path, 40, "small")
    world = read_samples("small", small_world.dataset(), data=tmp_path)
    fold = make_folds(world.samples, small_world.dataset().folds)[0]
    samples = world.prepare(world.fit_normalisers(fold.train), torch.device("cpu"))
    inner = {"inner_views": views, "inner_groups": ["text", "audio", "video", "classifier"]}
    regime = Recorded(m3s.M3SSettings(order="second", add_inner_loss=True, **inner))
    regime.seen = []
    settings = {"pretrained": False, "hidden": 4, "joint": 4, "centres": 2}
    one = {"epochs": 2, "decay_epochs": 1, "batch_size": 64, "settings": settings, "regime": "m3s"}
    experiment = resolve(Experiment.model_validate({"dataset": "small", "model": "smil", **one}))
    with deterministic(torch.device("cpu"), 0):
        network = build(experiment, world.dims, len(world.classes))
    history = fit(network, regime, samples, fold, experiment, 0, len(world.classes)).history
    assert regime.seen == [({"whole"}, {"whole"} if views else set(), factor) for factor in (1.0, 0.5)]
    assert {name for name in history[0] if name.startswith("train_")} == {
        f"train_{name}" for name in ("loss", "classification", "features", "joint", "inner")
    }


@pytest.mark.parametrize("order", ["first", "second"])
def test_the_optimisers_state_is_of_the_outer_gradient_alone(order: str) -> None:
    torch.manual_seed(0)
    network = Misa(Misa.Settings(hidden=8), DIMS, 4).train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    regime = m3s.Regime(m3s.M3SSettings(inner_steps=3, inner_rate=0.1, order=order))
    step = Step(network, network, 1, 0, torch.Generator(), network.parameter_groups())
    regime.gradients(step, [make_batch(6, 4, seed=seed) for seed in (0, 1)])
    optimizer.step()
    for parameter in network.parameters():
        state = optimizer.state[parameter]
        assert parameter.grad is not None
        torch.testing.assert_close(state["exp_avg"], 0.1 * parameter.grad)
        assert state["step"] == 1


def test_each_inner_step_has_a_dropout_mask_of_its_own() -> None:
    torch.manual_seed(0)
    network = Misa(Misa.Settings(hidden=32), DIMS, 4).train()
    dropouts = [module for module in network.modules() if isinstance(module, nn.Dropout) and module.p > 0]
    masks: list[Tensor] = []
    dropouts[-1].register_forward_hook(lambda _, given, result: masks.append((result == 0) & (given[0] != 0)))
    regime = m3s.Regime(m3s.M3SSettings(inner_steps=2))
    step = Step(network, network, 1, 0, torch.Generator(), network.parameter_groups())
    regime.gradients(step, [make_batch(6, 4, seed=seed) for seed in (0, 1)])
    assert len(masks) == 3 and all(mask.any() for mask in masks)
    assert not any(torch.equal(masks[i], masks[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("order", ["first", "second"])
def test_what_models_remember_is_of_the_second_batch_alone(order: str) -> None:
    """Self-MM's labels of the samples, and MMIM's history, as of one pass over the outer batch."""
    regime = m3s.Regime(m3s.M3SSettings(inner_steps=2, order=order))
    outer, inner = make_batch(6, 1), make_batch(6, 1, seed=1, first_row=6)
    torch.manual_seed(0)
    network = SelfMM(SelfMM.Settings(), DIMS, 1).train()
    network.samples_known(12, 3.0)
    network.epoch_start(1)
    regime.gradients(
        Step(network, network, 1, 0, torch.Generator(), network.parameter_groups()), [outer, inner]
    )
    assert network.seen.tolist() == [True] * 6 + [False] * 6
    torch.manual_seed(0)
    mmim = Mmim(Mmim.Settings(), DIMS, 1).train()
    mmim.epoch_start(1)
    mmim.phase_start("main")
    groups = mmim.parameter_groups()
    regime.gradients(Step(mmim, mmim, 1, 0, torch.Generator(), groups), [outer, inner])
    filled = (mmim.history_audio.abs().sum(dim=1) > 0).sum()
    assert filled == 6


@pytest.mark.parametrize(("order", "enabled"), [("first", True), ("second", False)])
def test_cudnn_is_off_while_a_gradient_needs_a_gradient(order: str, enabled: bool) -> None:
    """Its recurrent layers have no second derivative."""
    network, seen, batch = Quadratic(None, DIMS, 1), [], make_batch(2, outputs=1)

    def forward(given: Batch) -> Output:
        seen.append(torch.backends.cudnn.enabled)
        return network(given)

    step = Step(network, forward, 1, 0, torch.Generator(), {"w": [network.w]})
    m3s.Regime(m3s.M3SSettings(order=order)).gradients(step, [batch, batch])
    assert seen == [enabled, enabled] and torch.backends.cudnn.enabled


def test_its_settings_are_the_papers() -> None:
    assert m3s.M3SSettings().model_dump() == {
        "inner_steps": 1, "inner_rate": 1e-3, "inner_rates": {}, "order": "first", "inner_on": None, "inner_mask": None,
        "inner_views": True, "inner_groups": (), "inner_decay": False, "add_inner_loss": False,
    }  # fmt: skip
