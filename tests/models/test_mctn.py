"""MCTN: what goes into a translation, what comes out of it, and that the source is enough."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from models.base import MODALITIES, Batch
from models.mctn import LETTERS, CodeDecoder, Decoder, Encoder, MCTNSettings, Model, Reader, _error, resample
from tests.batches import DIMS, hide, lengthen, make_batch, reorder, train

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
    assert _error(found + 1, target, torch.tensor([True, False, True])) == (2 + 1) / 2
    assert _error(found, target, torch.tensor([True, False, False])) == 5
    assert _error(found, target, torch.zeros(3, dtype=torch.bool)) == 0


@pytest.mark.parametrize("variant", ["paper", "code"])
@pytest.mark.parametrize("source", SOURCES)
def test_every_source_has_the_other_modalities_as_targets_and_trains_them_all(
    source: str, variant: str
) -> None:
    network = make(source=source, variant=variant)
    assert set(network.source) | set(network.targets) == set(MODALITIES)
    assert len(network.source) + len(network.targets) == 3
    output = network(shown(source, make_batch(5, 4)))
    torch.stack(list(output.losses.values())).sum().backward()
    expected = ["classification", "forward", "backward"] + ["second"] * (len(source) == 1)
    assert list(output.losses) == expected + ["penalty"] * (variant == "code")
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("variant", ["paper", "code"])
@pytest.mark.parametrize("source", SOURCES)
def test_the_source_is_enough_at_test_and_the_rest_tells_nothing(source: str, variant: str) -> None:
    network = make(source=source, variant=variant).eval()
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


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_padding_changes_nothing(variant: str) -> None:
    network = make(source="av", variant=variant)
    batch = shown("av", make_batch(5, 4))
    assert "complement" in batch.views
    padded = replace(lengthen(batch, 4), views={"complement": lengthen(batch.views["complement"], 3)})
    plain, other = network(batch), network(padded)
    torch.testing.assert_close(other.prediction, plain.prediction)
    for name, loss in plain.losses.items():
        torch.testing.assert_close(other.losses[name], loss)


@pytest.mark.parametrize(("outputs", "variant"), [(1, "paper"), (4, "paper"), (4, "code")])
def test_one_batch_overfits_and_the_translations_improve(outputs: int, variant: str) -> None:
    network = make(outputs, source="t", steps=6, variant=variant)
    history = train(network, shown("t", make_batch(6, outputs)), 150, rate=5e-3)
    for name, value in history[0].items():
        if name == "penalty":
            continue
        assert history[-1][name] < 0.7 * value, name


def test_its_training_is_on_the_source_alone() -> None:
    wanted = Model.recipe(MCTNSettings(source="av"))
    assert (wanted["train_on"], wanted["batch_size"], wanted["learning_rate"]) == ("av", 32, 1e-4)


@pytest.mark.parametrize("targets", [["text"], ["audio", "audio"]])
def test_targets_that_are_the_source_or_stand_twice(targets: list[str]) -> None:
    with pytest.raises(ValidationError, match="expected different ones that are not the source"):
        MCTNSettings.model_validate({"source": "t", "targets": targets})


class Fixed(nn.Module):
    """Gives what it is told to, whatever it is given."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = values

    def forward(self, _: Tensor) -> Tensor:
        return self.values


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_every_loss_by_hand_with_its_weight(variant: str) -> None:
    """One step; every feature is its modality's number."""
    weights = {"forward_weight": 0.5, "backward_weight": 0.25, "second_weight": 2.0, "penalty": 0.1}
    network = make(1, source="t", steps=1, hidden=2, variant=variant, **weights).train()
    batch = make_batch(2, outputs=1)
    numbers = {"text": 3.0, "audio": 1.0, "video": -2.0}
    features = {m: torch.full_like(v, numbers[m]) for m, v in batch.features.items()}
    batch = replace(batch, features=features, scores=torch.tensor([4.0, 1.0]))
    width = 6 if variant == "code" else 0  # text has 6 columns, audio 5 and video 4
    network.decoder = Fixed(torch.full((2, 1, width or 5), 4.0))
    network.second_decoder = Fixed(torch.full((2, 1, width or 4), -3.0))
    if variant == "paper":
        network.back_decoder = Fixed(torch.full((2, 1, 6), 5.0))
    with torch.no_grad():
        network.head.weight.copy_(torch.tensor([[1.0, -3.0]]))
        network.head.bias.fill_(2.0)
    network.reader = Fixed(torch.zeros(2, 2))  # type: ignore[assignment]
    losses = {name: loss.item() for name, loss in network(batch).losses.items()}
    assert losses["regression"] == pytest.approx((2 + 1) / 2)
    assert losses["penalty"] == pytest.approx(0.1 * (1 + 9))
    if variant == "paper":
        assert losses["forward"] == pytest.approx(0.5 * 3**2)
        assert losses["backward"] == pytest.approx(0.25 * 2**2)
        assert losses["second"] == pytest.approx(2.0 * 1**2)
    else:  # what is filled up counts: audio with one column of 0, video with two; the decoder goes both ways
        assert losses["forward"] == pytest.approx(0.5 * (5 * 3**2 + 4**2) / 6)
        assert losses["backward"] == pytest.approx(0.25 * 1**2)
        assert losses["second"] == pytest.approx(2.0 * (4 * 1**2 + 2 * 3**2) / 6)


def test_the_penalty_is_the_codes() -> None:
    assert (make(variant="code").penalty, make().penalty, make(penalty=0.3).penalty) == (0.01, 0.0, 0.3)
    assert "penalty" not in make().train()(shown("t", make_batch(3, 4))).losses


def test_the_directions_are_summed_in_the_code() -> None:
    torch.manual_seed(0)
    apart, summed = Encoder(3, 2), Encoder(3, 2, summed=True)
    summed.load_state_dict(apart.state_dict())
    values = torch.randn(4, 5, 3)
    states = apart(values)
    assert states.shape == (4, 5, 4)
    torch.testing.assert_close(summed(values), states[:, :, :2] + states[:, :, 2:])


def test_the_codes_decoder_by_hand() -> None:
    """One column, one unit: scores of state + 2 cell, gates that are open by half, the candidate tanh(context)."""
    decoder = CodeDecoder(1, 1)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.zero_()
        decoder.score.weight.copy_(torch.tensor([[1.0, 2.0]]))
        decoder.cell.weight_ih[2] = 1.0  # the candidate's row: input, forget, candidate, output
        decoder.output.weight.fill_(3.0)
        decoder.output.bias.fill_(0.5)
    states = torch.tensor([[[0.0], [math.log(3)]]])
    found = decoder(states)[0, :, 0].tolist()
    # The weights are 1/4 and 3/4 at both steps: 2 cell is the same for both states.
    context, cell, expected = 0.75 * math.log(3), 0.0, []
    for _ in range(2):
        cell = 0.5 * cell + 0.5 * math.tanh(context)
        expected.append(math.tanh(3 * 0.5 * math.tanh(cell) + 0.5))
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_papers_decoder_by_hand() -> None:
    """As above: scores of tanh(state + hidden), a start of tanh(last state / 4), and the last output goes in."""
    decoder = Decoder(1, 1)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.zero_()
        decoder.keys.weight.copy_(torch.tensor([[1.0, 0.0]]))
        decoder.query.weight.fill_(1.0)
        decoder.score.weight.fill_(2.0)
        decoder.start.weight.copy_(torch.tensor([[0.25, 0.0]]))
        decoder.cell.weight_ih[2] = torch.tensor([1.0, 1.0, 0.0])  # the candidate: last output + context
        decoder.output.weight.copy_(torch.tensor([[3.0, 0.0, 1.0]]))  # of hidden and context
    first, second = (0.5, 1.0), (-1.0, 2.0)
    found = decoder(torch.tensor([[first, second]]))[0, :, 0].tolist()
    hidden, cell, value, expected = math.tanh(-0.25), 0.0, 0.0, []
    for _ in range(2):
        scores = [math.exp(2 * math.tanh(state[0] + hidden)) for state in (first, second)]
        shares = [score / sum(scores) for score in scores]
        context = [shares[0] * first[i] + shares[1] * second[i] for i in (0, 1)]
        cell = 0.5 * cell + 0.5 * math.tanh(value + context[0])
        hidden = 0.5 * math.tanh(cell)
        value = 3 * hidden + context[1]
        expected.append(value)
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_code_reads_all_states_by_attention() -> None:
    reader = Reader(1, 2, attends=True)
    reader.lstm = _Pair(torch.tensor([[[1.0, 0.0], [0.0, 4.0], [2.0, 2.0]]]))  # type: ignore[assignment]
    with torch.no_grad():
        reader.score.weight.copy_(torch.tensor([[1.0, 0.0]]))
        reader.score.bias.zero_()
    shares = [math.exp(math.tanh(x)) for x in (1.0, 0.0, 2.0)]
    a, b, c = (share / sum(shares) for share in shares)
    assert reader(torch.zeros(1, 3, 1))[0].tolist() == pytest.approx([a + 2 * c, 4 * b + 2 * c])
    last = Reader(1, 2)
    last.lstm = reader.lstm
    assert last(torch.zeros(1, 3, 1))[0].tolist() == [2.0, 2.0]


class _Pair(Fixed):
    def forward(self, _: Tensor) -> tuple[Tensor, None]:
        return self.values, None


def test_the_code_goes_both_ways_with_the_same_weights_at_one_width() -> None:
    network = make(source="v", variant="code")
    assert network.back_encoder is None and network.back_decoder is None
    widest = max(DIMS.values())
    assert network.width == widest == network.encoder.lstm.input_size
    assert network.decoder.output.out_features == network.second_decoder.output.out_features == widest
    assert make(source="at", variant="code").width == DIMS["text"] + DIMS["audio"]
    assert make(source="v").width == 0


def test_the_settings_are_the_papers() -> None:
    assert MCTNSettings().model_dump() == {
        "source": "t", "targets": (), "steps": 20, "hidden": 32, "forward_weight": 0.1, "backward_weight": 0.1,
        "second_weight": 0.1, "variant": "paper", "penalty": None,
    }  # fmt: skip
    assert Model.recipe(MCTNSettings()) == {
        "train_on": "t",
        "learning_rate": 1e-4,
        "batch_size": 32,
        "patience": 20,
    }


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_a_sample_alone_is_what_it_is_among_others(variant: str) -> None:
    network, batch = make(source="t", variant=variant).eval(), make_batch(4, 4)
    together = network(batch).prediction
    for row in range(4):
        alone = network(reorder(batch, torch.tensor([row]))).prediction
        torch.testing.assert_close(alone[0], together[row])


def test_there_are_translations_in_training_or_where_the_targets_are_given() -> None:
    network, batch = make(), make_batch(5, 4)
    bare, given = shown("a", batch, complement=False), shown("a", batch)
    assert set(network.train()(bare).losses) == {"classification", "forward", "backward", "second"}
    assert set(network.eval()(bare).losses) == {"classification"}
    assert set(network(given).losses) == {"classification", "forward", "backward", "second"}


def test_additive_attention_has_one_bias_before_its_tanh() -> None:
    decoder = Decoder(3, 2)
    assert decoder.keys.bias is not None and decoder.query.bias is None and decoder.score.bias is None
