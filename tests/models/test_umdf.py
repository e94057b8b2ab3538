"""UMDF: its masks, its two streams, its losses with their weights, and the ablations of Table 3."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from models.base import MODALITIES, Batch, View, drop_frames
from models.layers import task_loss
from models.umdf import Dfim, Encoder, Interaction, Layer, Model, UMDFSettings
from tests.batches import DIMS, PATTERNS, hide, lengthen, make_batch, reorder, train

SMALL = {"columns": 8, "heads": 2, "layers": 2, "steps": 6}
VARIANTS = [
    {},
    {"steps": None},
    {"fusion": "concatenation"},
    {"interaction": "self"},
    {"logits": "own"},
    {"enhance": "sum"},
    {"kernel": "sum", "estimator": "unbiased", "attend": "all", "encoder_layers": 2},
]


def make(outputs: int = 4, **settings: object) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Model(UMDFSettings.model_validate({**SMALL, **settings}), DIMS, outputs)


def two_versions(
    outputs: int = 4,
    first: tuple[bool, bool, bool] = (True, True, False),
    second: tuple[bool, bool, bool] = (True, False, True),
    size: int = 5,
) -> Batch:
    whole = make_batch(size, outputs)
    return replace(hide(whole, list(first)), views={"second": hide(whole, list(second))})


def swapped(batch: Batch) -> Batch:
    return replace(batch.views["second"], views={"second": replace(batch, views={})})


def no_frames(batch: Batch) -> Batch:
    """Return the batch at the missing rate p = 1."""
    return drop_frames(batch, {m: torch.zeros_like(batch.observed[m]) for m in MODALITIES})


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("outputs", [1, 4])
def test_every_parameter_gets_a_gradient(outputs: int, variant: dict[str, object]) -> None:
    network = make(outputs, **variant)
    history = train(network, two_versions(outputs), 1)
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert list(history[0]) == ["regression" if outputs == 1 else "classification", "features", "logits"]


@pytest.mark.parametrize("variant", [{}, {"fusion": "concatenation", "steps": None}])
@pytest.mark.parametrize("outputs", [1, 4])
def test_one_batch_overfits(outputs: int, variant: dict[str, object]) -> None:
    network = make(outputs, **variant, dropout=0.0, layers=1)
    history = train(network, two_versions(outputs), 60, rate=1e-2)
    task = "regression" if outputs == 1 else "classification"
    assert history[-1][task] < 0.2 * history[0][task]


def test_the_losses_and_their_weights_by_the_equations() -> None:
    for outputs in (1, 4):
        network = make(outputs, feature_weight=0.3, logits_weight=0.7, kernel="linear").eval()
        batch = two_versions(outputs)
        output = network(batch)
        h_a, h_b = output.hidden["first"], output.hidden["second"]
        # Eq. 2 with phi the identity: the squared distance of the batch's means
        distance = (h_a.mean(dim=0) - h_b.mean(dim=0)).square().sum()
        torch.testing.assert_close(output.losses["features"], 0.3 * distance)
        a, b = network.head(h_a), network.head(h_b)
        if outputs == 1:
            apart = (a - b).square().mean()  # Eq. 6
            assert batch.scores is not None
            task = (output.prediction[:, 0] - batch.scores).square().mean()
            torch.testing.assert_close(output.losses["regression"], task)
        else:
            p, q = a.softmax(dim=1), b.softmax(dim=1)
            middle = (p + q) / 2
            apart = (
                ((p * (p / middle).log()).sum() + (q * (q / middle).log()).sum()) / 2 / len(batch)
            )  # Eq. 5
            torch.testing.assert_close(
                output.losses["classification"], task_loss(output.prediction, batch)["classification"]
            )
        torch.testing.assert_close(output.losses["logits"], 0.7 * apart)


def test_without_a_second_version_nothing_is_distilled() -> None:
    output = make().eval()(hide(make_batch(5, 4), [True, False, True]))
    assert list(output.losses) == ["classification"]
    assert torch.equal(output.hidden["first"], output.hidden["second"])
    assert make().eval()(replace(two_versions(), labels=None)).losses == {}


def test_equal_versions_have_nothing_to_agree_on() -> None:
    batch = hide(make_batch(5, 4), [True, False, True])
    losses = make().eval()(replace(batch, views={"second": batch})).losses
    assert abs(losses["features"].item()) < 1e-6 and abs(losses["logits"].item()) < 1e-7


def test_swapping_the_streams() -> None:
    """The losses of Eqs. 3, 5 and 6 do not care which version is a. The gate of Eq. 10 does: it convolves a and b
    by weights of their own. Where both streams are the sample, as in use, Eq. 11 leaves no trace of it."""
    network = make().eval()
    batch = two_versions()
    ahead, back = network(batch), network(swapped(batch))
    for name in ("features", "logits"):
        torch.testing.assert_close(ahead.losses[name], back.losses[name])
    assert (ahead.prediction - back.prediction).abs().max() > 1e-4
    same = replace(batch, views={"second": replace(batch, views={})})
    used = network(replace(batch, views={})).prediction
    torch.testing.assert_close(network(same).prediction, used)
    with torch.no_grad():
        network.dfim.gate.weight.normal_()  # type: ignore[union-attr]
    torch.testing.assert_close(network(replace(batch, views={})).prediction, used)


def test_dfim_by_hand() -> None:
    module = Dfim(1, "frames")
    with torch.no_grad():
        module.score.weight.fill_(1.0)
        module.gate.weight.zero_()
        module.gate.weight[0, 1, 1] = 1.0  # the second stream, the frame itself
        module.gate.bias.zero_()
    a = torch.tensor([[[0.0], [math.log(3.0)], [5.0]]])  # softmax over the two frames that count: 1/4, 3/4
    b = torch.tensor([[[math.log(4.0)], [0.0], [5.0]]])  # 4/5, 1/5
    counted = torch.tensor([[True, True, False]])
    h_a = [0.0, 0.75 * math.log(3.0)]
    h_b = [0.8 * math.log(4.0), 0.0]
    mu = [1 / (1 + math.exp(-value)) for value in h_b]
    expected = [m * x + (1 - m) * y for m, x, y in zip(mu, h_a, h_b, strict=True)]
    found = module(a, b, counted)[0, :, 0].tolist()
    assert found == pytest.approx([*expected, 0.0])
    summed = Dfim(1, "sum")
    summed.load_state_dict(module.state_dict())
    assert summed.enhanced(a, counted)[0, :, 0].tolist() == pytest.approx([sum(h_a), sum(h_a), 0.0])


def test_mcim_is_equations_8_and_9() -> None:
    """Every target asks all three, then each of its two pairs, with its own frames among them."""
    layer = Layer(UMDFSettings(columns=4, heads=1, dropout=0.0)).double().eval()
    low = {m: torch.randn(2, 3, 4, dtype=torch.double) for m in MODALITIES}
    counted = {m: torch.ones(2, 3, dtype=torch.bool) for m in MODALITIES}
    counted["audio"][0, 1] = False

    def attend(part: torch.nn.Module, target: Tensor, names: list[str]) -> Tensor:
        source = torch.cat([low[m] for m in names], dim=1)
        keys, values = (source @ weight.T for weight in part.key_value.weight.chunk(2))
        scores = torch.einsum("btd,bsd->bts", target @ part.query.weight.T, keys) / 2.0  # sqrt(d_k) = 2
        hidden = ~torch.cat([counted[m] for m in names], dim=1)
        weights = scores.masked_fill(hidden[:, None], -math.inf).softmax(dim=2)
        return weights @ values @ part.output.weight.T

    pairs = {"text": ["ta", "tv"], "audio": ["ta", "av"], "video": ["tv", "av"]}
    names = {"t": "text", "a": "audio", "v": "video"}
    found = layer(low, counted)
    for modality in MODALITIES:
        part = layer.targets[modality]
        assert isinstance(part, Interaction)
        z = part.coarse_norm(attend(part.coarse, low[modality], list(MODALITIES)) + low[modality])
        fine = [
            norm(attend(attention, z, [names[letter] for letter in pair]) + z)
            for attention, norm, pair in zip(part.fine, part.fine_norms, pairs[modality], strict=True)
        ]
        total = fine[0] + fine[1]
        torch.testing.assert_close(found[modality], part.last_norm(part.feed(total) + total))


def test_self_attention_sees_no_other_modality() -> None:
    layer = Layer(UMDFSettings(columns=4, heads=2, interaction="self")).eval()
    low = {m: torch.randn(2, 3, 4) for m in MODALITIES}
    counted = {m: torch.ones(2, 3, dtype=torch.bool) for m in MODALITIES}
    before = layer(low, counted)
    after = layer({**low, "video": torch.randn(2, 3, 4)}, counted)
    assert torch.equal(before["text"], after["text"]) and torch.equal(before["audio"], after["audio"])
    assert not torch.equal(before["video"], after["video"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_pattern_gives_numbers_and_gradients_that_are_finite(variant: dict[str, object]) -> None:
    network = make(**variant)
    for pattern in [*PATTERNS, [False, False, False]]:
        batch = two_versions(first=tuple(pattern), second=(False, False, False))  # type: ignore[arg-type]
        network.zero_grad()
        output = network(batch)
        torch.stack(list(output.losses.values())).sum().backward()
        assert torch.isfinite(output.prediction).all()
        assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    nothing = network.eval()(hide(make_batch(5, 4), [False, False, False])).prediction
    torch.testing.assert_close(nothing, nothing[:1].expand(5, -1))


@pytest.mark.parametrize("steps", [6, None])
def test_a_rate_of_1_is_everything_missing_and_a_rate_of_0_nothing(steps: int | None) -> None:
    network = make(steps=steps).eval()
    batch = make_batch(5, 4)
    none = drop_frames(batch, {m: torch.ones_like(batch.observed[m]) for m in MODALITIES})
    assert torch.equal(network(none).prediction, network(batch).prediction)
    gone = network(no_frames(batch)).prediction
    torch.testing.assert_close(gone, network(hide(batch, [False, False, False])).prediction)
    assert torch.isfinite(gone).all()
    audio = drop_frames(batch, {"audio": torch.zeros_like(batch.observed["audio"])})
    torch.testing.assert_close(
        network(audio).prediction, network(hide(batch, [True, False, True])).prediction
    )


@pytest.mark.parametrize("steps", [6, None])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_padding_order_and_company_change_nothing(pattern: list[bool], steps: int | None) -> None:
    network = make(steps=steps).eval()
    batch = hide(make_batch(5, 4), pattern)
    plain = network(batch).prediction
    torch.testing.assert_close(network(lengthen(batch, 4)).prediction, plain)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(network(reorder(batch, order)).prediction, plain[order])
    for row in range(5):
        alone = network(reorder(batch, torch.tensor([row]))).prediction
        torch.testing.assert_close(alone, plain[row : row + 1])


def test_missing_frames_are_left_out_of_the_first_layers_attention() -> None:
    """A frame without content still has a position and a bias; with ``attend: all`` others find it."""
    batch = make_batch(5, 4)
    hidden = drop_frames(batch, {"audio": torch.zeros_like(batch.observed["audio"])})
    answers = {}
    for attend in ("observed", "all"):
        network = make(attend=attend, layers=1).eval()
        seen = network.layers[0].targets["text"].coarse
        kept: list[Tensor] = []
        seen.register_forward_hook(lambda module, given, result, kept=kept: kept.append(result))
        network(hidden)
        with torch.no_grad():
            network.project["audio"].bias.add_(1.0)
        network(hidden)
        answers[attend] = (kept[0] - kept[1]).abs().max().item()
    assert answers["observed"] == 0 and answers["all"] > 1e-4


def test_a_batch_of_one_trains_under_every_kernel() -> None:
    for kernel in ("gaussian", "sum", "linear"):
        for estimator in ("biased", "unbiased"):
            history = train(make(1, kernel=kernel, estimator=estimator), two_versions(1, size=1), 3)
            assert all(math.isfinite(value) for step in history for value in step.values())


def test_ablations_drop_what_they_name() -> None:
    batch = two_versions()
    assert "features" not in make(feature_weight=0.0)(batch).losses
    assert "logits" not in make(logits_weight=0.0)(batch).losses
    joined = make(fusion="concatenation").eval()
    output = joined(batch)
    both = torch.cat([output.hidden["first"], output.hidden["second"]], dim=1)
    assert joined.dfim is None and torch.equal(output.hidden["joint"], both)
    assert not any(isinstance(module, Encoder) for module in [joined.last_encoder])


def test_a_second_derivative_exists_where_the_versions_are_equal() -> None:
    network = make(1, dropout=0.0)
    batch = hide(make_batch(3, 1), [True, True, True])
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        losses = network(replace(batch, views={"second": batch})).losses
        total = torch.stack(list(losses.values())).sum()
        first = torch.autograd.grad(total, list(network.parameters()), create_graph=True, allow_unused=True)
        torch.stack([g.square().sum() for g in first if g is not None]).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize("outputs", [1, 4])
def test_bfloat16_gives_finite_numbers(outputs: int) -> None:
    network, batch = make(outputs), two_versions(outputs)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(batch)
    total = torch.stack([loss.float() for loss in output.losses.values()]).sum()
    total.backward()
    assert torch.isfinite(total)
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_what_it_asks_for() -> None:
    assert Model.views(UMDFSettings()) == {"second": View("redrawn")}
    assert Model.recipe(UMDFSettings()) == {
        "train_on": "random-condition", "learning_rate": 1e-3, "batch_size": 128, "epochs": 100
    }  # fmt: skip
    with pytest.raises(ValidationError, match="expected a divisor of columns"):
        UMDFSettings(columns=40, heads=7)
    with pytest.raises(ValidationError, match="Extra inputs"):
        UMDFSettings.model_validate({"kernels": "linear"})
