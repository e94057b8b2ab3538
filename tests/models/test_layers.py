"""The shared layers, on numbers worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from models.base import NO_LABEL, Batch, Dialogues
from models.layers import (
    Attention,
    AttentionLayer,
    CrossAttention,
    FeedForwardLayer,
    GatedPooling,
    LSTMEncoder,
    TextCNN,
    TransformerLayer,
    distance,
    encode_present,
    full_precision,
    initialise,
    jensen_shannon,
    masked_max,
    mlp,
    mmd,
    observed_deviation,
    observed_mean,
    resample,
    sequence_distance,
    sinusoids,
    task_loss,
    unit_rows,
)


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
    edge = torch.tensor([[0.9e-5, 0.0], [1.1e-5, 0.0]])  # on either side of the shortest that has a direction
    assert unit_rows(edge).tolist() == [[0.0, 0.0], pytest.approx([1.0, 0.0])]


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


def test_no_position_reaches_beyond_a_text() -> None:
    encoder = set_text_cnn((0.0, 0.0, 0.0))
    words = torch.tensor([[[-4.0], [1.0], [1.0], [0.0], [0.0], [0.0]]])
    # The only three words sum to -2; the last two of them and one of the filling would give 2.
    assert encoder(words, torch.tensor([3])).item() == 0
    encoder = set_text_cnn((10.0, 0.0, 0.0))
    # One position for one word: 10 - 3. A second one, of filling alone, would give 10.
    assert encoder(torch.tensor([[[-3.0]] + [[0.0]] * 5]), torch.tensor([1])).item() == 7


# Squared distances among 0, 1 and 1, 3: 0, 1, 1, 4, 4, 9. Their (lower) median is 1, so k = exp(-d).
@pytest.mark.parametrize(
    ("kernel", "unbiased", "expected"),
    [
        ("linear", False, 1.5**2),  # of the means 0.5 and 2
        ("linear", True, 0 + 3 - 0 - 1),  # x1 x2 + y1 y2 - x1 y2 - x2 y1
        (
            "gaussian",
            False,
            0.5 - 0.5 * math.exp(-9),
        ),  # what is across is 1 and 4 apart within, too, but for 0 and 3
        ("gaussian", True, math.exp(-1) + math.exp(-4) - math.exp(-9) - 1),
        ("sum", False, 0.5 - 0.5 * sum(math.exp(-9 / width) for width in (0.25, 0.5, 1, 2, 4)) / 5),
    ],
)
def test_mmd_by_hand(kernel: str, unbiased: bool, expected: float) -> None:
    first, second = torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [3.0]])
    assert mmd(first, second, kernel, unbiased).item() == pytest.approx(expected, rel=1e-5)  # type: ignore[arg-type]
    assert mmd(second, first, kernel, unbiased).item() == pytest.approx(expected, rel=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize("kernel", ["linear", "gaussian", "sum"])
def test_mmd_of_equal_samples_is_nothing(kernel: str) -> None:
    values = torch.randn(6, 5)
    assert abs(mmd(values, values.clone(), kernel).item()) < 1e-6  # type: ignore[arg-type]
    same = torch.full((4, 3), 2.0, requires_grad=True)  # the median distance is 0, too
    found = mmd(same, same.detach(), kernel)  # type: ignore[arg-type]
    found.backward()
    assert found.item() == 0 and same.grad is not None and torch.isfinite(same.grad).all()
    single = mmd(torch.zeros(1, 2), torch.ones(1, 2), kernel, unbiased=True)  # type: ignore[arg-type]
    assert single.item() == 0  # there are no two different pairs


def test_distances_under_autocast_are_those_of_float32() -> None:
    torch.manual_seed(0)
    first, second, keep = torch.randn(6, 5), torch.randn(6, 5), torch.ones(6, 1, dtype=torch.bool)
    made = [partial(mmd, kernel=kernel) for kernel in ("gaussian", "sum", "linear")]
    made += [jensen_shannon]
    for kind in ("kl", "mae", "cosine"):
        made.append(lambda a, b, kind=kind: sequence_distance(a[:, None], b[:, None], keep, kind))
    for distance_of in made:
        with torch.autocast("cpu", torch.bfloat16):
            found = distance_of(first, second)
        assert found.dtype == torch.float32 and found.item() == distance_of(first, second).item()


def test_jensen_shannon_by_hand() -> None:
    first = torch.tensor([[0.0, 0.0], [100.0, -100.0]])
    second = torch.tensor([[0.0, math.log(3.0)], [-100.0, 100.0]])
    # (1/2, 1/2) and (1/4, 3/4) with (3/8, 5/8) between them; and two that share nothing
    half = 0.5 * math.log(4 / 3) + 0.5 * math.log(4 / 5)
    other = 0.25 * math.log(2 / 3) + 0.75 * math.log(6 / 5)
    assert jensen_shannon(first[:1], second[:1]).item() == pytest.approx((half + other) / 2, rel=1e-5)
    assert jensen_shannon(first[1:], second[1:]).item() == pytest.approx(math.log(2), rel=1e-5)
    assert jensen_shannon(first, second).item() == pytest.approx(
        ((half + other) / 2 + math.log(2)) / 2, rel=1e-5
    )
    assert jensen_shannon(first, first).item() == pytest.approx(0, abs=1e-7)


def test_cross_attention_by_hand_and_with_nothing_to_attend_to() -> None:
    attention = CrossAttention(1, 1)
    with torch.no_grad():
        attention.query.weight.fill_(1.0)
        attention.key_value.weight.copy_(torch.tensor([[1.0], [2.0]]))
        attention.output.weight.fill_(3.0)
    target = torch.ones(2, 1, 1, requires_grad=True)
    source = torch.tensor([[[0.0], [math.log(3.0)], [9.0]]]).repeat(2, 1, 1).requires_grad_()
    counted = torch.tensor([[True, True, False], [False, False, False]])
    found = attention(target, source, counted)
    # softmax(0, log 3) = 1/4, 3/4; values 2 x; output 3 times
    assert found[:, 0, 0].tolist() == pytest.approx([0.75 * 2 * math.log(3.0) * 3, 0.0], rel=1e-5)
    found.sum().backward()
    assert target.grad is not None and source.grad is not None
    assert torch.isfinite(target.grad).all() and torch.isfinite(source.grad).all()
    assert (source.grad[1] == 0).all() and target.grad[1].item() == 0 and source.grad[0, 2].item() == 0


def test_resampling_by_hand() -> None:
    values = torch.tensor(
        [[[1.0], [3.0], [8.0], [99.0]], [[5.0], [99.0], [99.0], [99.0]], [[1.0], [3.0], [8.0], [0.0]]]
    )
    counted = torch.tensor([[True, True, True, True], [True] * 4, [True, False, True, True]])
    lengths, steps = torch.tensor([3, 1, 3]), torch.tensor([2, 3, 2])
    found, there = resample(values, counted, lengths, steps, 3)
    # 3 frames to 2 steps: frames 0, 1 and 1, 2; 1 frame to 3; and 3 to 2 without the one in the middle
    assert found[:, :, 0].tolist() == [[2.0, 5.5, 0.0], [5.0, 5.0, 5.0], [1.0, 8.0, 0.0]]
    assert there.tolist() == [[True, True, False], [True, True, True], [True, True, False]]
    nothing, none = resample(values, torch.zeros_like(counted), lengths, steps, 3)
    assert not nothing.any() and not none.any()


LOG3 = math.log(3.0)


def test_the_distance_of_two_sequences_by_hand() -> None:
    # (1/4, 3/4) and (1/2, 1/2): half of -1/4 log 1/2 + 1/4 log 3/2, which is log 3 / 8
    first = torch.tensor([[[0.0, LOG3], [2.0, 1.0]], [[0.0, LOG3], [9.0, 5.0]], [[1.0, 2.0], [3.0, 4.0]]])
    second = torch.tensor([[[0.0, 0.0], [2.0, 1.0]], [[0.0, 0.0], [0.0, 7.0]], [[4.0, 3.0], [2.0, 1.0]]])
    keep = torch.tensor([[True, True], [True, False], [False, False]])  # two positions, one, none
    expected = {
        "kl": (LOG3 / 16 + LOG3 / 8 + 0) / 3,
        "mae": (LOG3 / 4 + LOG3 / 2 + 0) / 3,
        # a vector of zeros has no direction: 1 - 0; an equal one 1 - 1
        "cosine": ((1 + 0) / 2 + 1 + 0) / 3,
    }
    for kind, value in expected.items():
        for one, other in ((first, second), (second, first)):
            found = sequence_distance(one, other, keep, kind)  # type: ignore[arg-type]
            assert found.item() == pytest.approx(value, rel=1e-5, abs=1e-6), kind
    turned = sequence_distance(
        torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[4.0, 3.0]]]), keep[:1, :1], "cosine"
    )
    assert turned.item() == pytest.approx(1 - 24 / 25, rel=1e-5)


def test_the_distance_over_time_by_hand() -> None:
    first = torch.tensor([[[0.0, 1.0], [LOG3, 1.0], [5.0, 5.0]]])
    second = torch.tensor(
        [[[math.log(2.0), 1.0], [0.0, 1.0], [-5.0, 9.0]]]
    )  # the third position does not count
    keep = torch.tensor([[True, True, False]])
    # the first of two features: (1/4, 3/4) and (2/3, 1/3), half of 5/12 (log 8/3 + log 9/4); the second: nothing
    for one, other in ((first, second), (second, first)):
        found = sequence_distance(one, other, keep, over="time")
        assert found.item() == pytest.approx(5 / 24 * math.log(6) / 2, rel=1e-5)


def test_sinusoids_by_hand() -> None:
    found = sinusoids(3, 4)  # rates 1 and 10000^(-2/4)
    assert found[0].tolist() == [0.0, 1.0, 0.0, 1.0]
    assert found[2].tolist() == pytest.approx([math.sin(2), math.cos(2), math.sin(0.02), math.cos(0.02)])
    assert sinusoids(2, 3)[1].tolist() == pytest.approx([math.sin(1), math.cos(1), math.sin(1e4 ** (-2 / 3))])


def test_attention_by_hand() -> None:
    memory = torch.tensor([[[0.0, 0.0], [LOG3, 0.0], [9.0, 9.0]]])
    keep = torch.tensor([[True, True, False]])
    for heads, weights in ((2, [[0.25, 0.75, 0.0], [0.5, 0.5, 0.0]]), (1, [[0.25, 0.75, 0.0]])):
        attention = Attention(2, heads)
        with torch.no_grad():
            for layer, factor in (
                (attention.query, (2 / heads) ** 0.5),
                (attention.key, 1.0),
                (attention.value, 2.0),
            ):
                layer.weight.copy_(factor * torch.eye(2))  # the query undoes the root of the head's size
            attention.output.weight.copy_(3 * torch.eye(2))
            for layer in (attention.query, attention.value, attention.output):
                layer.bias.zero_()
            attention.output.bias.fill_(1.0)
        assert attention.key.bias is None
        query = torch.ones(1, 1, 2)
        found = attention.weights(query, memory, keep)
        torch.testing.assert_close(found, torch.tensor(weights)[None, :, None])
        assert attention(query, memory, keep)[0, 0].tolist() == pytest.approx([3 * 2 * 0.75 * LOG3 + 1, 1.0])


def test_the_layers_of_a_transformer_add_and_normalise_or_do_neither() -> None:
    torch.manual_seed(0)
    values, memory, keep = torch.randn(2, 3, 4), torch.randn(2, 5, 4), torch.ones(2, 5, dtype=torch.bool)
    layer, bare = AttentionLayer(4, 2), AttentionLayer(4, 2, residual=False)
    read = layer.attention(values, memory, keep)
    torch.testing.assert_close(layer(values, keep, memory), nn.functional.layer_norm(values + read, (4,)))
    torch.testing.assert_close(bare(values, keep, memory), bare.attention(values, memory, keep))
    own = layer.attention(values, values, keep[:, :3])
    torch.testing.assert_close(layer(values, keep[:, :3]), nn.functional.layer_norm(values + own, (4,)))
    feed, plain = FeedForwardLayer(4, 6), FeedForwardLayer(4, 6, residual=False)
    torch.testing.assert_close(feed(values), nn.functional.layer_norm(values + feed.layers(values), (4,)))
    torch.testing.assert_close(plain(values), plain.layers(values))
    both = TransformerLayer(4, 2, 6, dropout=0.25)
    assert (both.attention.attention.dropout.p, both.feed_forward.layers[2].p) == (0.25, 0.25)
    assert TransformerLayer(4, 2, 6, 0.25, hidden_dropout=0.5).feed_forward.layers[2].p == 0.5
    both.eval()
    torch.testing.assert_close(
        both(values, keep[:, :3]), both.feed_forward(both.attention(values, keep[:, :3]))
    )
    for made in (Attention(4, 2), layer.attention, bare.attention):
        assert made.dropout.p == 0
    assert feed.layers[2].p == TransformerLayer(4, 2, 6).feed_forward.layers[2].p == 0


def test_gated_pooling_by_hand() -> None:
    pooling = GatedPooling(1)
    with torch.no_grad():
        pooling.content.weight.fill_(2.0)
        pooling.gate.weight.fill_(1.0)
        pooling.score.weight.fill_(0.5)
    assert pooling.content.bias is None and pooling.gate.bias is None and pooling.score.bias is None
    values, keep = torch.tensor([[[0.0], [LOG3], [9.0]]]), torch.tensor([[True, True, False]])
    # scores 0 and 0.5 * 2 log 3 * sigmoid(log 3) = 0.75 log 3
    share = 3**0.75 / (1 + 3**0.75)
    assert pooling(values, keep).tolist() == [[pytest.approx(share * LOG3)]]


def test_the_deviation_of_what_was_observed_by_hand() -> None:
    values = torch.zeros(2, 3, 1)
    values[:, :, 0] = torch.tensor([[1.0, 5.0, 99.0], [7.0, 7.0, 7.0]])
    seen = torch.tensor([[True, True, False], [False, False, False]])
    batch = Batch({"audio": values}, {}, torch.ones(2, 3, dtype=torch.bool), {"audio": seen})
    assert observed_mean(batch, "audio").tolist() == [[3.0], [0.0]]
    assert observed_deviation(batch, "audio").tolist() == [[pytest.approx(2.0)], [0.0]]


def test_task_losses_leave_context_out() -> None:
    labelled = torch.tensor([True, False])
    talk = Dialogues(torch.tensor([0, 0]), torch.tensor([0, 1]), torch.tensor([0, 1]), labelled, 1, 2)
    logits = torch.tensor([[0.0, LOG3], [0.0, 9.0]])
    batch = replace(batch_of(torch.tensor([1, NO_LABEL]), None), dialogues=talk)
    assert task_loss(logits, batch)["classification"].item() == pytest.approx(math.log(4 / 3))
    scores = torch.tensor([[1.0], [-1.0]])
    batch = replace(batch_of(None, torch.tensor([3.0, 0.0])), dialogues=talk)
    assert task_loss(scores, batch)["regression"].item() == 2
    assert task_loss(scores, batch, squared=True)["regression"].item() == 4
    nobody = replace(batch, dialogues=replace(talk, labelled=torch.zeros(2, dtype=torch.bool)))
    assert task_loss(scores, nobody)["regression"].item() == 0
    two = replace(batch, dialogues=replace(talk, labelled=torch.ones(2, dtype=torch.bool)))
    assert task_loss(scores, two)["regression"].item() == (2 + 1) / 2
    assert task_loss(scores, two, squared=True)["regression"].item() == (4 + 1) / 2
    plain = batch_of(None, torch.tensor([3.0, 0.0]))
    assert task_loss(scores, plain, squared=True)["regression"].item() == (4 + 1) / 2
