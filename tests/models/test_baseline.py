"""The full-modality network."""

from __future__ import annotations

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
    assert not [x for x in paper.modules() if isinstance(x, nn.Dropout)]
    assert Model.recipe(BaselineSettings(variant="code"))["learning_rate"] == 2e-4
    assert Model.recipe(BaselineSettings()) == {}


def test_groups_hold_every_parameter_once() -> None:
    network = make()
    grouped = [id(p) for group in network.parameter_groups().values() for p in group]
    assert sorted(grouped) == sorted(id(p) for p in network.parameters())


@pytest.mark.parametrize("outputs", [1, 4])
def test_one_batch_can_be_learnt_by_heart(outputs: int) -> None:
    history = train(make(outputs), make_batch(12, outputs), steps=100)
    assert sum(history[-1].values()) < 0.1
