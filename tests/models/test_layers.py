"""The shared layers, on numbers worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from models.base import MODALITIES, Batch, Dialogues
from models.layers import (
    Attention,
    AttentionLayer,
    CrossAttention,
    FeedForwardLayer,
    GatedPooling,
    LSTMEncoder,
    ResidualAutoencoder,
    TextCNN,
    distance,
    encode_present,
    full_precision,
    initialise,
    jensen_shannon,
    masked_max,
    mlp,
    mmd,
    observed_counts,
    resample,
    seen_lengths,
    sequence_distance,
    sinusoids,
    task_loss,
    unit_rows,
)
from tests.batches import make_batch


def test_padding_never_wins_the_maximum() -> None:
    values = torch.tensor([[[-3.0, -1.0], [-2.0, -5.0], [0.0, 9.0]], [[4.0, 0.0], [5.0, 1.0], [6.0, 2.0]]])
    found = masked_max(values, torch.tensor([2, 3]))
    assert found.tolist() == [[-2.0, -1.0], [6.0, 2.0]]


def test_only_the_winning_step_gets_a_gradient() -> None:
    values = torch.tensor([[[1.0], [3.0], [8.0]]], requires_grad=True)
    masked_max(values, torch.tensor([2])).sum().backward()
    assert values.grad is not None
    assert values.grad.flatten().tolist() == [0.0, 1.0, 0.0]


def test_lstm_by_hand() -> None:
    encoder = LSTMEncoder(1, 1)
    with torch.no_grad():
        for name, weight in encoder.lstm.named_parameters():
            weight.fill_(1.0 if name.startswith("weight_ih") else 0.0)
    # Without recurrence every gate is s(x): c = s(x) c' + s(x) tanh(x), h = s(x) tanh(c).
    x = torch.tensor([2.0, -1.0])
    gate, new = torch.sigmoid(x), torch.tanh(x)
    c1 = gate[0] * new[0]
    c2 = gate[1] * c1 + gate[1] * new[1]
    h1, h2 = gate[0] * torch.tanh(c1), gate[1] * torch.tanh(c2)
    found = encoder(x.view(1, 2, 1), torch.tensor([2]))
    assert found.item() == pytest.approx(max(h1, h2).item(), rel=1e-6)


def set_text_cnn(biases: tuple[float, float, float]) -> TextCNN:
    """Return a TextCNN of one column and one channel that sums each kernel's words and adds up the three."""
    encoder = TextCNN(1, 1)
    with torch.no_grad():
        for convolution, bias in zip(encoder.convolutions, biases, strict=True):
            convolution.weight.fill_(1.0)
            convolution.bias.fill_(bias)
        encoder.output[0].weight.fill_(1.0)
        encoder.output[0].bias.fill_(0.0)
    return encoder


def test_text_cnn_by_hand() -> None:
    encoder = set_text_cnn((0.0, 10.0, 0.0))
    words = torch.tensor([[[1.0], [2.0], [-4.0], [3.0], [1.0], [2.0]]])
    # sums of three: -1 1 0 6; of four, + 10: 12 12 12; of five: 3 4
    assert encoder(words, torch.tensor([6])).item() == 6 + 12 + 4


@pytest.mark.parametrize(("length", "expected"), [(1, 3.0), (2, 6.0), (4, 20.0)])
def test_a_text_shorter_than_a_kernel_is_filled_with_zero_words(length: int, expected: float) -> None:
    encoder = set_text_cnn((0.0, 0.0, 0.0))
    words = torch.tensor([[[1.0], [1.0], [1.0], [4.0], [100.0], [100.0], [100.0]]])
    # of four words: the sums of three are 3 and 6, that of four is 7, that of five (one is filled in) 7
    assert encoder(words, torch.tensor([length])).item() == expected
    assert encoder(words[:, :length], torch.tensor([length])).item() == expected


def test_text_of_negative_sums_gives_zeros_not_the_paddings_sums() -> None:
    encoder = set_text_cnn((0.0, 0.0, 0.0))
    words = torch.full((1, 9, 1), -1.0)
    words[0, 6:] = 50.0
    assert encoder(words, torch.tensor([6])).item() == 0.0


class Counting(nn.Module):
    """An encoder that counts the rows it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0
        self.inner = LSTMEncoder(3, 4)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        self.rows += len(values)
        encoded: Tensor = self.inner(values, lengths)
        return encoded


@pytest.mark.parametrize("present", [[1, 0, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
def test_missing_rows_share_one_encoding_and_nothing_else_changes(present: list[int]) -> None:
    torch.manual_seed(0)
    there = torch.tensor(present, dtype=torch.bool)
    values = torch.randn(5, 6, 3) * there[:, None, None]
    lengths = torch.where(there, torch.tensor([6, 3, 2, 5, 4]), 1)
    encoder = Counting()
    found = encode_present(encoder, values, lengths, there)
    assert encoder.rows == int(there.sum()) + (not there.all())
    whole = encoder.inner(values, lengths)
    torch.testing.assert_close(found, whole)
    weights = list(encoder.parameters())
    target = torch.randn(5, 4)
    mine = torch.autograd.grad((found * target).sum(), weights)
    theirs = torch.autograd.grad((whole * target).sum(), weights)
    torch.testing.assert_close(mine, theirs)


def test_mlp_has_nothing_behind_its_last_layer() -> None:
    assert [type(layer).__name__ for layer in mlp((4, 3, 2))] == ["Linear", "ReLU", "Linear"]
    leaky = [type(layer).__name__ for layer in mlp((4, 3, 2), activation=nn.LeakyReLU)]
    assert leaky == ["Linear", "LeakyReLU", "Linear"]
    names = [type(layer).__name__ for layer in mlp((4, 3, 2, 1), dropout=0.5)]
    assert names == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]


def batch_of(labels: Tensor | None, scores: Tensor | None) -> Batch:
    return Batch({}, {}, torch.ones(2, 3, dtype=torch.bool), {}, labels, scores)


def test_task_losses_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, torch.tensor(3.0).log()]])
    losses = task_loss(logits, batch_of(torch.tensor([0, 1]), None))
    assert losses["classification"].item() == pytest.approx((torch.tensor(2.0) * 4 / 3).log().item() / 2)
    losses = task_loss(torch.tensor([[1.0], [-1.0]]), batch_of(None, torch.tensor([3.0, 0.0])))
    assert losses["regression"].item() == 1.5
    assert task_loss(logits, batch_of(None, None)) == {}


def test_dropout_stands_between_the_maxima_and_the_layer() -> None:
    encoder = set_text_cnn((0.0, 10.0, 0.0))  # the maxima are 6, 12 and 4, as above
    encoder.dropout.p = 0.5
    words, lengths = torch.tensor([[[1.0], [2.0], [-4.0], [3.0], [1.0], [2.0]]]), torch.tensor([6])
    assert encoder.eval()(words, lengths).item() == 22
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = {encoder.train()(words, lengths).item() for _ in range(200)}
    assert found == {0.0, 8, 12, 20, 24, 32, 36, 44}, "each of 12, 24 and 8 is there or not"


def test_rows_of_length_one_and_rows_of_no_length() -> None:
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-7, 1e-7]])
    assert unit_rows(rows).tolist() == [pytest.approx([0.6, 0.8]), [0.0, 0.0], [0.0, 0.0]]


def derivatives(function: object, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient, and that of the gradient's sum."""
    values = values.clone().requires_grad_()
    (first,) = torch.autograd.grad(function(values), values, create_graph=True)  # type: ignore[operator]
    (second,) = torch.autograd.grad(first.sum(), values)
    return first.detach(), second


def test_the_gradient_of_a_row_of_no_length_is_nothing_whatever_the_others_are() -> None:
    others = torch.tensor([[5.0, 1.0], [2.0, -3.0], [1.0, 1.0]])

    def overlap(rows: Tensor) -> Tensor:
        return (unit_rows(rows).T @ others).square().sum()

    first, second = derivatives(overlap, torch.tensor([[0.0, 0.0], [1e-7, 0.0], [3.0, 4.0]]))
    assert first[:2].abs().sum() == 0 and second[:2].abs().sum() == 0
    assert first[2].abs().sum() > 0 and torch.isfinite(second).all()


def test_the_distance_has_gradients_of_any_order() -> None:
    first, second = derivatives(distance, torch.tensor([3.0, 4.0]))
    assert first.tolist() == pytest.approx([0.6, 0.8])
    # (1 - 0.6 (0.6 + 0.8)) / 5 and (1 - 0.8 * 1.4) / 5
    assert second.tolist() == pytest.approx([0.032, -0.024], rel=1e-5)
    assert distance(torch.tensor([3.0, 4.0])).item() == 5
    for nothing in (torch.zeros(2), torch.full((2,), 1e-13)):
        assert distance(nothing).item() == 0
        first, second = derivatives(distance, nothing)
        assert first.abs().sum() == 0 and second.abs().sum() == 0
    first, second = derivatives(distance, torch.tensor([3e-11, 4e-11]))  # its squares are no float32
    assert first.tolist() == pytest.approx([0.6, 0.8]) and torch.isfinite(second).all()


def test_full_precision_is_that_within_an_autocast() -> None:
    one = torch.tensor([[1.0, 2**-10]])  # bfloat16 has eight digits
    with torch.autocast("cpu", torch.bfloat16):
        assert (one @ one.T).dtype == torch.bfloat16
        with full_precision(one):
            assert (one @ one.T).item() == 1 + 2**-20


def test_weights_are_drawn_anew_but_for_recurrent_ones() -> None:
    torch.manual_seed(0)
    network = nn.ModuleDict(
        {
            "a": nn.Linear(400, 300),
            "b": nn.Conv1d(40, 300, 5),
            "c": nn.LSTM(8, 8),
            "d": nn.Linear(3, 3, bias=False),
        }
    )
    recurrent = {name: value.clone() for name, value in network["c"].state_dict().items()}
    initialise(network, nn.init.kaiming_normal_)
    assert network["a"].weight.std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.02)
    assert network["b"].weight.std().item() == pytest.approx((2 / 200) ** 0.5, rel=0.02)
    assert not network["a"].bias.any() and not network["b"].bias.any()
    assert all(torch.equal(value, recurrent[name]) for name, value in network["c"].state_dict().items())
    initialise(network, partial(nn.init.normal_, std=0.012))
    assert network["a"].weight.std().item() == pytest.approx(0.012, rel=0.02)


def test_the_symmetric_divergence_by_hand() -> None:
    # p = (1/4, 3/4), q = (1/2, 1/2): KL(p|q) = 3/4 log 3 - log 2, KL(q|p) = log 2 - 1/2 log 3
    log3 = torch.tensor(3.0).log()
    p, q = torch.tensor([[[0.0, log3], [5.0, 1.0]]]), torch.tensor([[[7.0, 7.0], [0.0, 0.0]]])
    found = sequence_distance(p, q, torch.tensor([[True, False]]))
    assert found.item() == pytest.approx((log3 / 4 / 2).item(), rel=1e-5)
    assert sequence_distance(q, p, torch.tensor([[True, False]])).item() == pytest.approx(found.item())
    # the same over time: each feature's two positions; features 1 (p, q) and 2 (alike)
    first = torch.tensor([[[0.0, 1.0], [log3, 1.0], [9.0, 9.0]]])
    second = torch.tensor([[[2.0, 3.0], [2.0, 3.0], [0.0, 0.0]]])
    keep = torch.tensor([[True, True, False]])
    over_time = sequence_distance(first, second, keep, over="time")
    assert over_time.item() == pytest.approx((log3 / 8 / 2).item(), rel=1e-5)


def test_the_other_distances_by_hand_and_the_mean_over_positions_then_samples() -> None:
    first = torch.tensor([[[1.0, 0.0], [3.0, 4.0]], [[2.0, 0.0], [9.0, 9.0]], [[1.0, 1.0], [1.0, 1.0]]])
    second = torch.tensor([[[0.0, 2.0], [4.0, 3.0]], [[2.0, 0.0], [0.0, 0.0]], [[5.0, 5.0], [5.0, 5.0]]])
    keep = torch.tensor([[True, True], [True, False], [False, False]])
    # absolute: 1.5 and 1 -> 1.25; 0; nothing. cosine: 0 and 24/25 -> mean of 1 and 1/25; 1; nothing
    assert sequence_distance(first, second, keep, "mae").item() == pytest.approx(1.25 / 3)
    assert sequence_distance(first, second, keep, "cosine").item() == pytest.approx(0.52 / 3)


@pytest.mark.parametrize("kind", ["kl", "mae", "cosine"])
def test_a_distance_at_zero_has_finite_gradients(kind: str) -> None:
    values = torch.zeros(2, 3, 4, requires_grad=True)
    keep = torch.tensor([[True, True, False], [False, False, False]])
    for over in ("features", "time"):
        found = sequence_distance(values, torch.zeros(2, 3, 4), keep, kind, over)  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad(found, values, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), values, allow_unused=True)
        assert torch.isfinite(gradient).all() and (second is None or torch.isfinite(second).all())


def test_attention_is_pytorchs() -> None:
    torch.manual_seed(0)
    ours, theirs = Attention(8, 2), nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        for name, rows in (("query", slice(0, 8)), ("key", slice(8, 16)), ("value", slice(16, 24))):
            getattr(ours, name).weight.copy_(theirs.in_proj_weight[rows])
            if name != "key":
                theirs.in_proj_bias[rows].normal_()
                getattr(ours, name).bias.copy_(theirs.in_proj_bias[rows])
    ours.output.load_state_dict(theirs.out_proj.state_dict())
    queries, memory = torch.randn(3, 4, 8), torch.randn(3, 5, 8)
    keep = torch.tensor([[True] * 5, [True, False, True, False, False], [False] * 4 + [True]])
    expected, _ = theirs(queries, memory, memory, key_padding_mask=~keep)
    torch.testing.assert_close(ours(queries, memory, keep), expected)


def test_layers_of_the_transformer_with_and_without_what_stands_around_them() -> None:
    torch.manual_seed(0)
    values, keep = torch.randn(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)
    bare, layer = AttentionLayer(4, 2, residual=False), AttentionLayer(4, 2)
    layer.attention.load_state_dict(bare.attention.state_dict())
    normed = nn.functional.layer_norm(values + bare(values, keep), (4,))
    torch.testing.assert_close(layer(values, keep), normed)
    forward, around = FeedForwardLayer(4, 6, residual=False), FeedForwardLayer(4, 6)
    around.layers.load_state_dict(forward.layers.state_dict())
    first, _, _, last = forward.layers
    torch.testing.assert_close(forward(values), last(torch.relu(first(values))))
    torch.testing.assert_close(around(values), nn.functional.layer_norm(values + forward(values), (4,)))


def test_sinusoids_by_hand() -> None:
    found = sinusoids(3, 4)
    assert found[0].tolist() == [0.0, 1.0, 0.0, 1.0]
    position = torch.tensor(2.0)
    expected = torch.stack([position.sin(), position.cos(), (position / 100).sin(), (position / 100).cos()])
    torch.testing.assert_close(found[2], expected)


def test_gated_pooling_by_hand() -> None:
    pooling = GatedPooling(1)
    with torch.no_grad():
        for layer, weight in ((pooling.content, 2.0), (pooling.gate, 0.0), (pooling.score, 1.0)):
            layer.weight.fill_(weight)
    # scores 2 x / 2 = x: weights 1/4 and 3/4 of 0 and log 3
    log3 = torch.tensor(3.0).log().item()
    found = pooling(torch.tensor([[[0.0], [log3], [50.0]]]), torch.tensor([[True, True, False]]))
    assert found.item() == pytest.approx(0.75 * log3)


def test_an_autoencoders_way_back_may_have_other_sizes_and_end_in_relu() -> None:
    torch.manual_seed(0)
    block = ResidualAutoencoder((6, 6, 4, 2), (2, 4, 6), positive=True)
    sizes = [(x.in_features, x.out_features) for x in block.modules() if isinstance(x, nn.Linear)]
    assert sizes == [(6, 6), (6, 4), (4, 2), (2, 4), (4, 6)]
    output, latent = block(torch.randn(50, 6))
    assert latent.shape == (50, 2) and (output >= 0).all() and (output == 0).any()
    plain, _ = ResidualAutoencoder((6, 2))(torch.randn(50, 6))
    assert (plain < 0).any()


def pair_of_samples() -> tuple[Tensor, Tensor]:
    return torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [3.0]])


def test_mmd_by_hand() -> None:
    x, y = pair_of_samples()
    # squared distances: within x 4, within y 4, across 1, 9, 1, 1; the median of (4, 4, 1, 9, 1, 1): 1 or 4, the lower
    e = math.exp
    biased = (2 + 2 * e(-4)) / 4 + (2 + 2 * e(-4)) / 4 - 2 * (e(-1) + e(-9) + e(-1) + e(-1)) / 4
    assert mmd(x, y).item() == pytest.approx(biased, rel=1e-5)
    unbiased = (2 * e(-4) + 2 * e(-4) - 2 * (e(-9) + e(-1))) / 2
    assert mmd(x, y, unbiased=True).item() == pytest.approx(unbiased, rel=1e-5)
    assert mmd(x, y, "linear").item() == pytest.approx((1.0 - 2.0) ** 2)  # the means are 1 and 2
    # (0, 2) and (1, 3) pair by pair without i = j: (0 2 + 1 3 - 0 3 - 2 1) twice, over 2
    assert mmd(x, y, "linear", unbiased=True).item() == pytest.approx(1.0)

    def gaussian(factor: float) -> float:
        k = {d: e(-d / factor) for d in (1, 4, 9)}
        return (4 + 4 * k[4]) / 4 - (3 * k[1] + k[9]) / 2

    several = sum(gaussian(factor) for factor in (0.25, 0.5, 1.0, 2.0, 4.0)) / 5
    assert mmd(x, y, "sum").item() == pytest.approx(several, rel=1e-5)


def test_mmd_of_equal_samples_is_zero_and_of_others_is_not() -> None:
    torch.manual_seed(0)
    x = torch.randn(16, 6) * 3
    for kernel in ("gaussian", "sum", "linear"):
        for unbiased in (False, True):
            assert abs(mmd(x, x.clone(), kernel, unbiased).item()) < 1e-5
            assert mmd(x, x + 2, kernel, unbiased).item() > 0.05
    assert mmd(x, x[torch.randperm(16)]).item() == pytest.approx(0, abs=1e-5)


def test_mmd_of_constants_and_of_one_pair_is_a_number_with_a_gradient() -> None:
    same = torch.ones(4, 3, requires_grad=True)
    mmd(same, torch.ones(4, 3)).backward()
    assert same.grad is not None and torch.isfinite(same.grad).all()
    one = torch.zeros(1, 3, requires_grad=True)
    loss = mmd(one, torch.ones(1, 3))  # the only distance is the median: 2 - 2 / e
    assert loss.item() == pytest.approx(2 - 2 / math.e)
    assert mmd(one, torch.ones(1, 3), unbiased=True).item() == 0
    loss.backward()
    assert one.grad is not None and (one.grad < 0).all()  # towards the other


def test_mmd_takes_the_bandwidth_as_a_constant() -> None:
    x = torch.tensor([[0.0], [2.0]], requires_grad=True)
    y = torch.tensor([[1.0], [3.0]])
    mmd(x, y).backward()
    assert x.grad is not None

    def value(first: float) -> float:  # with the bandwidth of the unmoved samples, 1
        a, b = [first, 2.0], [1.0, 3.0]
        k = [[math.exp(-((p - q) ** 2)) for q in a + b] for p in a + b]
        signs = [1, 1, -1, -1]
        return sum(k[i][j] * signs[i] * signs[j] for i in range(4) for j in range(4)) / 4

    assert x.grad[0, 0].item() == pytest.approx((value(1e-4) - value(-1e-4)) / 2e-4, rel=1e-2)


def test_jensen_shannon_by_hand() -> None:
    sure = torch.tensor([[0.0, -1e4], [math.log(3.0), 0.0]])  # (1, 0), (3/4, 1/4)
    other = torch.tensor([[-1e4, 0.0], [0.0, 0.0]])  # (0, 1), (1/2, 1/2)
    mixed = 0.75 * math.log(0.75 / 0.625) + 0.25 * math.log(0.25 / 0.375)
    even = 0.5 * math.log(0.5 / 0.625) + 0.5 * math.log(0.5 / 0.375)
    assert jensen_shannon(sure[:1], other[:1]).item() == pytest.approx(math.log(2))
    assert jensen_shannon(sure, other).item() == pytest.approx(
        (math.log(2) + (mixed + even) / 2) / 2, rel=1e-5
    )
    assert jensen_shannon(other, sure).item() == pytest.approx(jensen_shannon(sure, other).item(), rel=1e-6)
    assert jensen_shannon(sure, sure).item() == pytest.approx(0, abs=1e-7)


def test_attention_leaves_out_what_does_not_count_and_all_left_out_is_zeros() -> None:
    torch.manual_seed(0)
    attention = CrossAttention(6, 3).eval()
    target, source = torch.randn(3, 2, 6), torch.randn(3, 4, 6, requires_grad=True)
    counted = torch.tensor([[True, True, False, True], [False] * 4, [True] * 4])
    found = attention(target, source, counted)
    torch.testing.assert_close(
        found[:1], attention(target[:1], source[:1, [0, 1, 3]], counted[:1, [0, 1, 3]])
    )
    assert found[1].abs().max() == 0
    found.sum().backward()
    assert source.grad is not None and torch.isfinite(source.grad).all()
    assert source.grad[0, 2].abs().max() == 0 and source.grad[1].abs().max() == 0


def test_sinusoids_of_an_odd_number_of_columns() -> None:
    places = sinusoids(3, 4, torch.device("cpu"))
    assert places[0].tolist() == [0, 1, 0, 1]
    expected = [math.sin(2), math.cos(2), math.sin(0.02), math.cos(0.02)]  # 10000^(2/4) = 100
    assert places[2].tolist() == pytest.approx(expected)
    assert sinusoids(2, 5, torch.device("cpu")).shape == (2, 5)


def test_resampling_by_hand() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 7.0, 99.0, 99.0]])[:, :, None]
    counted = torch.tensor([[True, True, False, True], [True, True, True, True]])
    lengths, steps = torch.tensor([4, 2]), torch.tensor([2, 4])
    found, seen = resample(values, counted, lengths, steps, 5)
    # 4 frames in 2 steps, the third left out: (1 + 2) / 2, 4; 2 frames in 4 steps: each twice
    assert found[:, :, 0].tolist() == [[1.5, 4, 0, 0, 0], [5, 5, 7, 7, 0]]
    assert seen.tolist() == [[True, True, False, False, False], [True, True, True, True, False]]
    same, all_seen = resample(values, counted, lengths, lengths, 4)
    assert same[:, :, 0].tolist() == [[1, 2, 0, 4], [5, 7, 0, 0]]
    assert all_seen.tolist() == [[True, True, False, True], [True, True, False, False]]


def test_a_modality_without_an_observed_frame_is_one_frame_long() -> None:
    batch = make_batch(3, 4)
    observed = batch.observed["audio"].clone()
    observed[1] = False
    batch = replace(batch, observed={**batch.observed, "audio": observed})
    lengths = batch.lengths["audio"].tolist()
    assert seen_lengths(batch, "audio").tolist() == [lengths[0], 1, lengths[2]]
    expected = [[int(batch.observed[m][row].sum()) for m in MODALITIES] for row in range(3)]
    assert observed_counts(batch).tolist() == expected and expected[1][1] == 0


def test_squared_task_loss_counts_labelled_turns_alone() -> None:
    batch = replace(make_batch(3, 1), scores=torch.tensor([1.0, 0.0, 2.0]))
    prediction = torch.tensor([[0.0], [7.0], [5.0]])
    assert task_loss(prediction, batch, squared=True)["regression"].item() == pytest.approx((1 + 49 + 9) / 3)
    turns = Dialogues(
        torch.zeros(3, dtype=torch.long), torch.arange(3), torch.zeros(3, dtype=torch.long),
        torch.tensor([True, False, True]), 1, 3,
    )  # fmt: skip
    talk = replace(batch, dialogues=turns)
    assert task_loss(prediction, talk, squared=True)["regression"].item() == pytest.approx((1 + 9) / 2)
    assert task_loss(prediction, talk)["regression"].item() == pytest.approx((1 + 3) / 2)
