"""ORIG, SPL-TRN and M3S: the blocks, and the meta-gradient on a function worked by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pipeline.training.regimes.blocks import BlockSettings, hide_blocks, kept
from pydantic import ValidationError
from scipy import stats
from torch import Tensor, nn

from models.base import MODALITIES, Batch, ModelSettings, Network, Output
from models.misa import Model as Misa
from models.mmim import Model as Mmim
from models.self_mm import Model as SelfMM
from pipeline.data.masks import draw, hash_words, uniforms
from pipeline.errors import TrainingError
from pipeline.params import Experiment, Mask
from pipeline.train import build, resolve
from pipeline.training.folds import make_folds
from pipeline.training.loop import Fit, deterministic, fit
from pipeline.training.regimes import m3s, orig, sampled, standard
from pipeline.training.regimes.base import BaseRegime, Step
from pipeline.training.samples import SampleSet, read_samples
from tests import small_world
from tests.batches import DIMS, hide, make_batch, reorder


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


def quadratic_step(**settings: Any) -> tuple[Quadratic, float, dict[str, Tensor]]:
    """Do one M3S step: w = 1; the inner loss is 3 / 2 (w - 2)^2, the outer 4 / 2 (w + 1)^2, alpha 0.1."""
    network = Quadratic(None, DIMS, 1)
    regime = m3s.Regime(m3s.M3SSettings(inner_rate=0.1, **settings))
    batch = make_batch(2, outputs=1)
    outer = replace(batch, scores=torch.tensor([4.0, -1.0]))
    inner = replace(batch, scores=torch.tensor([3.0, 2.0]))
    step = Step(network, network, 1, 0, torch.Generator(), {"w": [network.w]})
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
def test_a_real_networks_meta_gradient_is_that_at_the_adapted_weights(order: str) -> None:
    """Against copies: adapt one by hand, and difference the meta-loss for the second order."""
    torch.manual_seed(0)
    settings = {"hidden": 4, "audio_hidden": 3, "video_hidden": 3, "dropout": 0.0, "difference_weight": 0.0}
    network = Misa(Misa.Settings.model_validate(settings), DIMS, 1).double().eval()
    rate, steps = 0.02, 2
    regime = m3s.Regime(m3s.M3SSettings(inner_rate=rate, inner_steps=steps, order=order))
    batches = [_double(make_batch(5, outputs=1, seed=seed)) for seed in (0, 1)]
    step = Step(network, network, 1, 0, torch.Generator(), network.parameter_groups())
    regime.gradients(step, batches)
    found = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    outer = hide_blocks(batches[0], regime.settings, "sampled", 0, 1)
    inner = hide_blocks(batches[1], regime.settings, "m3s-inner", 0, 1)

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


def test_m3s_without_inner_steps_is_sampled_exactly() -> None:
    batches = [make_batch(8, 4, seed=0), make_batch(8, 4, seed=1)]
    plain = gradients(sampled.Regime(BlockSettings()), batches[:1])
    meta = gradients(m3s.Regime(m3s.M3SSettings(inner_steps=0)), batches)
    assert plain.keys() == meta.keys()
    for name, gradient in plain.items():
        assert torch.equal(meta[name], gradient), name
    changed = gradients(m3s.Regime(m3s.M3SSettings(inner_steps=1)), batches)
    assert any(not torch.equal(changed[name], gradient) for name, gradient in plain.items())


def two_epochs(world: SampleSet, regime: BaseRegime) -> tuple[Fit, dict[str, Tensor]]:
    """Train a network with dropout for two epochs on a small dataset."""
    fold = make_folds(world.samples, small_world.dataset().folds)[0]
    given = {"dataset": "small", "model": "misa", "epochs": 2, "batch_size": 11, "settings": {"hidden": 8}}
    experiment = resolve(Experiment.model_validate(given))
    samples = world.prepare(world.fit_normalisers(fold.train), torch.device("cpu"))
    with deterministic(torch.device("cpu"), 3):
        network = build(experiment, world.dims, len(world.classes))
    found = fit(network, regime, samples, fold, experiment, 3, len(world.classes))
    return found, network.state_dict()


def test_a_whole_training_without_inner_steps_is_that_of_sampled(tmp_path: Path) -> None:
    small_world.write(tmp_path, 40)
    world = read_samples("small", small_world.dataset(), data=tmp_path)
    plain, weights = two_epochs(world, sampled.Regime(BlockSettings()))
    meta, others = two_epochs(world, m3s.Regime(m3s.M3SSettings(inner_steps=0)))
    assert meta == plain
    assert all(torch.equal(others[name], value) for name, value in weights.items())
    changed, _ = two_epochs(world, m3s.Regime(m3s.M3SSettings(inner_steps=1)))
    assert changed != plain


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
    mmim.stage_start("main")
    groups = mmim.parameter_groups()
    regime.gradients(Step(mmim, mmim, 1, 0, torch.Generator(), groups), [outer, inner])
    filled = (mmim.history_audio.abs().sum(dim=1) > 0).sum()
    assert filled == 6


def zeros_of(regime_name: str, epoch: int, batch: Batch, **settings: Any) -> list[Tensor]:
    """Return, for each modality, (B, T) bool: where the batch lost a frame."""
    chosen = BlockSettings.model_validate(settings)
    left = hide_blocks(batch, chosen, regime_name, seed=1, epoch=epoch)
    return [batch.observed[m] & ~left.observed[m] for m in MODALITIES]


def test_orig_keeps_its_blocks_over_epochs_and_sampled_draws_anew() -> None:
    batch = make_batch(16, 4)
    seen: dict[str, list[Batch]] = {"orig": [], "sampled": []}
    for name, regime in (("orig", orig.Regime), ("sampled", sampled.Regime)):
        network = Misa(Misa.Settings(hidden=8), DIMS, 4)

        def forward(given: Batch, network: Network = network, name: str = name) -> Output:
            seen[name].append(given)
            return network(given)

        for epoch in (1, 2):
            step = Step(network, forward, epoch, 0, torch.Generator(), network.parameter_groups())
            regime(BlockSettings()).gradients(step, [batch])
    first, second = seen["orig"]
    assert all(torch.equal(first.features[m], second.features[m]) for m in MODALITIES)
    first, second = seen["sampled"]
    assert all(not torch.equal(first.features[m], second.features[m]) for m in MODALITIES)


def test_blocks_do_not_depend_on_the_batch() -> None:
    batch = make_batch(10, 4)
    whole = hide_blocks(batch, BlockSettings(), "sampled", 1, 4)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    shuffled = hide_blocks(reorder(batch, order), BlockSettings(), "sampled", 1, 4)
    alone = hide_blocks(reorder(batch, torch.tensor([6])), BlockSettings(), "sampled", 1, 4)
    for modality in MODALITIES:
        assert torch.equal(shuffled.features[modality], whole.features[modality][order])
        assert torch.equal(alone.features[modality][0], whole.features[modality][6])


@pytest.mark.parametrize("axis", ["time", "feature"])
def test_blocks_are_those_of_the_mask_protocol(axis: str) -> None:
    batch = make_batch(20, 4)
    mask = Mask(protocol="block", range=(0.2, 0.8), axis=axis)
    lengths = np.stack([batch.lengths[m].numpy() for m in MODALITIES], axis=1)
    expected = draw(mask, "sampled", 3, 5, batch.ids, lengths, list(DIMS.values()))
    left = hide_blocks(batch, BlockSettings(range=(0.2, 0.8), axis=axis), "sampled", 3, 5)
    for modality in MODALITIES:
        here = batch.features[modality] != 0
        if axis == "feature":
            keep = torch.from_numpy(expected.columns[modality])[:, None, :].expand_as(here)
        else:
            keep = torch.zeros(here.shape[:2], dtype=torch.bool)
            valid = torch.arange(here.shape[1]) < batch.lengths[modality][:, None]
            keep[valid] = torch.from_numpy(expected.frames[modality])
            keep = keep[:, :, None].expand_as(here)
        assert torch.equal(left.features[modality] != 0, here & keep)


def test_sizes_and_bounds_of_the_blocks() -> None:
    lengths = torch.tensor([0, 1, 1, 10, 10, 100])
    share = torch.tensor([0.5, 0.5, 1.0, 1.0, 0.0, 0.29], dtype=torch.float64)
    place = torch.full((6,), 0.999999, dtype=torch.float64)
    keep = kept(share, place, lengths, 100)
    gone = [int((~keep[row]).sum()) for row in range(6)]
    assert gone == [0, 0, 1, 10, 0, 29]
    assert (~keep[5]).nonzero().flatten().tolist() == list(range(71, 100)), "the last possible start"
    first = kept(share, torch.zeros(6, dtype=torch.float64), lengths, 100)
    assert (~first[5]).nonzero().flatten().tolist() == list(range(29))


def test_starts_are_uniform() -> None:
    count, frames = 100_000, 10
    draws = hash_words(0, "mask/sampled", 3, [f"s{index}" for index in range(count)], 1)
    place = torch.from_numpy(uniforms(draws, 1))
    share = torch.full((count,), 0.4, dtype=torch.float64)
    keep = kept(share, place, torch.full((count,), frames), frames)
    starts = (~keep).int().argmax(dim=1)
    assert set((~keep).sum(dim=1).tolist()) == {4}
    counts = torch.bincount(starts, minlength=7).numpy()
    assert len(counts) == 7
    assert stats.chisquare(counts).pvalue > 1e-3


def test_each_modality_has_its_own_range() -> None:
    batch = make_batch(20, 4)
    text, audio, video = zeros_of("sampled", 1, batch, range=[0.0, 0.0], ranges={"audio": [1.0, 1.0]})
    assert not text.any() and not video.any()
    assert torch.equal(audio, batch.observed["audio"])
    with pytest.raises(ValidationError, match="lower end first"):
        BlockSettings(range=(0.6, 0.4))


def test_the_complement_loses_the_same_block() -> None:
    batch = make_batch(6, 4)
    shown = hide(batch, [True, False, True], complement=True)
    left = hide_blocks(shown, BlockSettings(), "orig", 0, 0)
    whole = hide_blocks(batch, BlockSettings(), "orig", 0, 0)
    assert left.complement is not None
    assert torch.equal(left.complement.features["audio"], whole.features["audio"])
    assert torch.equal(left.features["text"], whole.features["text"])


def test_validation_is_judged_under_blocks_that_stay() -> None:
    batch = make_batch(6, 4)
    regime = m3s.Regime(m3s.M3SSettings())
    first, second = regime.validation(batch, 1), regime.validation(batch, 1)
    assert torch.equal(first.features["audio"], second.features["audio"])
    assert not torch.equal(first.features["audio"], batch.features["audio"])
    assert standard.Regime(standard.StandardSettings()).validation(batch, 1) is batch


def test_a_test_mask_can_have_a_range_a_modality() -> None:
    lengths = np.full((50, 3), 10)
    ids = [f"s{index}" for index in range(50)]
    mask = Mask.model_validate({"protocol": "block", "range": [0, 0], "ranges": {"video": [0.5, 0.5]}})
    frames = draw(mask, "any", 0, 0, ids, lengths).frames
    gone = {m: (~frames[m]).reshape(50, 10).sum(axis=1).tolist() for m in MODALITIES}
    assert gone == {"text": [0] * 50, "audio": [0] * 50, "video": [5] * 50}
    with pytest.raises(ValidationError, match="means nothing to the protocol frames"):
        Mask.model_validate({"protocol": "frames", "rate": 0.5, "ranges": {"video": [0, 1]}})
