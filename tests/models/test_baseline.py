"""The full-modality network."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from models.baseline import BaselineSettings, Model
from tests.batches import DIMS, PATTERNS, hide, make_batch, train


def make(outputs: int = 4, **settings: object) -> Model:
    torch.manual_seed(0)
    return Model(BaselineSettings.model_validate(settings), DIMS, outputs)


def test_the_embedding_is_text_audio_video_side_by_side() -> None:
    network, batch = make().eval(), make_batch(5, 4)
    embedding = network(batch).hidden["embedding"]
    assert embedding.shape == (5, 384)
    for index, modality in enumerate(("text", "audio", "video")):
        encoder = getattr(network.encoders, modality)
        alone = encoder(batch.features[modality], batch.lengths[modality])
        torch.testing.assert_close(embedding[:, 128 * index : 128 * (index + 1)], alone)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_missing_modality_is_the_encoding_of_one_zero_frame(pattern: list[bool]) -> None:
    network, batch = make().eval(), make_batch(5, 4)
    embedding = network(hide(batch, pattern)).hidden["embedding"]
    whole = network(batch).hidden["embedding"]
    for index, modality in enumerate(("text", "audio", "video")):
        part = slice(128 * index, 128 * (index + 1))
        if pattern[index]:
            torch.testing.assert_close(embedding[:, part], whole[:, part])
        else:
            zero = getattr(network.encoders, modality)(
                torch.zeros(1, 1, DIMS[modality]), torch.ones(1, dtype=torch.int64)
            )
            torch.testing.assert_close(embedding[:, part], zero.expand(5, -1))


def test_what_was_dropped_has_no_influence() -> None:
    network, batch = make().eval(), make_batch(5, 4)
    other = make_batch(5, 4, seed=9)
    mixed = hide(batch, [True, False, True])
    swapped = hide(
        type(batch)(
            features={**batch.features, "audio": other.features["audio"]},
            lengths={**batch.lengths, "audio": other.lengths["audio"]},
            present=batch.present,
            observed={**batch.observed, "audio": other.observed["audio"]},
            labels=batch.labels,
        ),
        [True, False, True],
    )
    assert torch.equal(network(mixed).prediction, network(swapped).prediction)


def test_variants() -> None:
    paper, code = make(), make(variant="code")
    assert [x.out_features for x in paper.classifier if isinstance(x, nn.Linear)] == [128, 64, 4]
    assert [x.out_features for x in code.classifier if isinstance(x, nn.Linear)] == [128, 128, 4]
    assert [x.p for x in code.classifier if isinstance(x, nn.Dropout)] == [0.3, 0.3]
    assert (code.encoders.text.dropout.p, paper.encoders.text.dropout.p) == (0.5, 0.0)
    assert [x.p for x in paper.modules() if isinstance(x, nn.Dropout)] == [0.0], (
        "the text encoder's, which is off"
    )
    given = make(variant="code", dropout=0.1, text_dropout=0.2)
    assert [x.p for x in given.modules() if isinstance(x, nn.Dropout)] == [0.2, 0.1, 0.1]


def test_its_training_is_the_references() -> None:
    code = {"learning_rate": 2e-4, "beta1": 0.9, "batch_size": 128, "clip_norm": 0.5, "clip_groups": True}
    ten_and_ten = {"epochs": 20, "decay_epochs": 10, **code}
    twenty_and_twenty = {"epochs": 40, "decay_epochs": 20, "train_on": "random-condition", **code}
    assert Model.recipe(BaselineSettings()) == {}
    assert Model.recipe(BaselineSettings(augmented=True)) == {"train_on": "augmented"}
    assert Model.recipe(BaselineSettings(variant="code")) == ten_and_ten
    assert Model.recipe(BaselineSettings(variant="code", augmented=True)) == twenty_and_twenty


def test_weights_of_the_references_start() -> None:
    code, augmented, paper = make(variant="code"), make(variant="code", augmented=True), make()
    for network, expected in ((code, (2 / 384) ** 0.5), (augmented, 0.012), (paper, (1 / 384 / 3) ** 0.5)):
        assert network.classifier[0].weight.std().item() == pytest.approx(expected, rel=0.03)
    convolution = code.encoders.text.convolutions[0]
    assert (
        convolution.weight.std().item() == pytest.approx((2 / 18) ** 0.5, rel=0.05)
        and not convolution.bias.any()
    )
    assert paper.classifier[0].bias.any() and not code.classifier[0].bias.any()


def test_each_sample_has_its_own_dropout_of_the_text_also_where_it_is_missing() -> None:
    network, batch = make(text_dropout=0.5), hide(make_batch(6, 4), [False, True, True])
    text = network.train().encoders(batch)[:, :128]
    assert not any(torch.equal(text[0], other) for other in text[1:])
    text = network.eval().encoders(batch)[:, :128]
    torch.testing.assert_close(text, text[:1].expand(6, -1))


@pytest.mark.parametrize("outputs", [1, 4])
def test_its_loss_by_hand(outputs: int) -> None:
    network, batch = make(outputs), make_batch(4, outputs)
    with torch.no_grad():
        for parameter in network.classifier.parameters():
            parameter.zero_()
    (loss,) = network(batch).losses.values()  # all logits are 0
    if outputs == 1:
        assert batch.scores is not None
        assert loss.item() == pytest.approx(batch.scores.abs().mean().item())
    else:
        assert loss.item() == pytest.approx(math.log(4))


def test_groups_hold_every_parameter_once() -> None:
    network = make()
    grouped = [id(p) for group in network.parameter_groups().values() for p in group]
    assert sorted(grouped) == sorted(id(p) for p in network.parameters())


@pytest.mark.parametrize("outputs", [1, 4])
def test_one_batch_can_be_learnt_by_heart(outputs: int) -> None:
    history = train(make(outputs), make_batch(12, outputs), steps=100)
    assert sum(history[-1].values()) < 0.1
