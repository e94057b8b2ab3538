"""Self-MM: how its labels move, by hand, and that they are kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.self_mm import VIEWS, Model, centres, move, relative_distance
from tests.batches import DIMS, make_batch


def test_centres_leave_out_zeros() -> None:
    values = torch.tensor([[1.0], [3.0], [10.0], [20.0]])
    labels = torch.tensor([[1.0], [2.0], [0.0], [-1.0]])
    positive, has_positive = centres(values, labels > 0)
    negative, has_negative = centres(values, labels < 0)
    assert (positive.item(), negative.item()) == (2.0, 20.0)
    assert has_positive.item() and has_negative.item()
    nobody, has_nobody = centres(values, labels > 5)
    assert nobody.item() == 0 and not has_nobody.item()


def test_relative_distance_by_hand() -> None:
    here = torch.zeros(1, 4)
    positive, negative = torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([[0, 3.0, 0, 0]])
    # squared: (9 - 1) / 1, both over sqrt(4); norm: (3 - 1) / 1
    assert relative_distance(here, positive, negative, "squared").item() == pytest.approx(8, rel=1e-6)
    assert relative_distance(here, positive, negative, "norm").item() == pytest.approx(2, rel=1e-6)
    assert relative_distance(here, negative, positive, "norm").item() == pytest.approx(-2 / 3, rel=1e-6)


@pytest.mark.parametrize(("epoch", "expected"), [(2, 2 / 3 * 1.0 + 1 / 3 * 0.3), (3, 0.5 * 1.0 + 0.5 * 0.3)])
def test_a_label_moves_by_hand(epoch: int, expected: float) -> None:
    # half of 2 * 1 / 2, half of 2 + 1 - 2: 1; the label before was 0.3
    moved = move(*(torch.tensor([[v]]) for v in (0.3, 2.0, 1.0, 2.0)), limit=3.0, epoch=epoch)
    assert moved.item() == pytest.approx(expected, rel=1e-6)


def test_labels_stay_within_the_limit_even_without_a_ratio() -> None:
    zero = torch.tensor([[0.0]])
    for target, alpha in ((1.0, 5.0), (-1.0, 5.0), (0.0, 0.0), (1.0, 0.0)):
        moved = move(zero, torch.tensor([[target]]), torch.tensor([[alpha]]), zero, limit=3.0, epoch=2)
        assert torch.isfinite(moved).all() and moved.abs().item() <= 2.0 + 1e-6


def test_labels_are_the_multimodal_ones_in_the_first_epoch_and_move_from_the_second() -> None:
    torch.manual_seed(0)
    network = Model(Model.Settings(), DIMS, 1).train()
    batch = make_batch(8, outputs=1, first_row=3)
    assert batch.scores is not None
    network.epoch_start(1)
    losses = network(batch).losses
    assert losses["text"].item() == losses["audio"].item() == losses["video"].item() == 0
    assert network.labels_text[3:, 0].tolist() == batch.scores.tolist()
    assert network.seen.tolist() == [False] * 3 + [True] * 8
    before = network.labels_text.clone()
    network.eval()
    network.epoch_start(2)
    network(batch)
    assert torch.equal(network.labels_text, before), "evaluation moves nothing"
    network.train()
    network(batch)
    assert not torch.equal(network.labels_text, before)
    assert torch.equal(network.labels_fusion[3:, 0], batch.scores)
    assert network.labels_text.abs().max() <= 3
    assert network(batch).losses["text"].item() > 0


def test_the_first_update_of_the_labels_is_the_papers() -> None:
    torch.manual_seed(0)
    network = Model(Model.Settings(), DIMS, 1).train()
    batch = make_batch(8, outputs=1)
    assert batch.scores is not None
    network.epoch_start(1)
    hidden = {v: h.detach() for v, h in network(batch).hidden.items()}
    network.epoch_start(2)
    network(batch)
    scores = batch.scores
    alpha = {}
    for view in VIEWS:
        positive, negative = hidden[view][scores > 0].mean(dim=0), hidden[view][scores < 0].mean(dim=0)
        near = (hidden[view] - positive).square().sum(dim=1)
        far = (hidden[view] - negative).square().sum(dim=1)
        alpha[view] = (far - near) / near
    for modality in ("text", "audio", "video"):
        ratio = alpha[modality] / alpha["fusion"]
        generated = 0.5 * scores * ratio + 0.5 * (scores + alpha[modality] - alpha["fusion"])
        expected = scores / 3 + 2 / 3 * generated.clamp(-3, 3)
        found = getattr(network, f"labels_{modality}")[:, 0]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_state_survives_a_save_whatever_its_size() -> None:
    torch.manual_seed(0)
    network = Model(Model.Settings(), DIMS, 4).train()
    for epoch in (1, 2):
        network.epoch_start(epoch)
        network(make_batch(8, outputs=4))
    other = Model(Model.Settings(), DIMS, 4)
    other(make_batch(20, outputs=4))  # another number of rows
    other.load_state_dict(network.state_dict())
    for name, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    assert other.labels_audio.shape == (8, 4)


def test_each_class_is_a_polarity_within_one() -> None:
    torch.manual_seed(0)
    network = Model(Model.Settings(), DIMS, 4).train()
    batch = make_batch(8, outputs=4)
    assert batch.labels is not None
    network.epoch_start(1)
    network(batch)
    assert network.labels_video.argmax(dim=1).tolist() == batch.labels.tolist()
    assert sorted(set(network.labels_video.flatten().tolist())) == [-1.0, 1.0]
    for epoch in range(2, 5):
        network.epoch_start(epoch)
        network(batch)
    assert network.labels_video.abs().max() <= 1


def test_rows_are_asked_for_in_words() -> None:
    network = Model(Model.Settings(), DIMS, 1).train()
    with pytest.raises(ValueError, match="without rows, expected"):
        network(replace(make_batch(3, outputs=1), rows=None))


def test_room_for_all_samples_is_made_at_once_and_changes_no_label() -> None:
    batch = make_batch(8, outputs=1)
    kept = []
    for count in (0, 20):
        torch.manual_seed(0)
        network = Model(Model.Settings(), DIMS, 1).train()
        network.samples_known(count, 3.0)
        assert len(network.seen) == count
        for epoch in (1, 2, 3):
            network.epoch_start(epoch)
            network(batch)
        kept.append(network.labels_audio[:8])
    assert torch.equal(*kept)
    network.load_state_dict(network.state_dict())
    network.samples_known(12, 3.0)
    assert len(network.seen) == 20, "what is known of a sample is not thrown away"


@pytest.mark.parametrize(("given", "limit"), [(None, 1.0), (0.5, 0.5)])
def test_labels_stay_on_the_datasets_scale(given: float | None, limit: float) -> None:
    network = Model(Model.Settings(label_limit=given), DIMS, 1).train()
    network.samples_known(8, 1.0)
    batch = make_batch(8, outputs=1)
    assert batch.scores is not None
    torch.manual_seed(0)
    for epoch in range(1, 6):
        network.epoch_start(epoch)
        network(replace(batch, scores=batch.scores.sign() * limit))
    moved = torch.stack([network.labels_text, network.labels_audio, network.labels_video])
    assert moved.abs().max() <= limit
    assert not torch.equal(moved[0], moved[1]), "labels are moved at all"
