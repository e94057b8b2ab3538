"""Self-MM: how its labels move, by hand, and that they are kept."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch

from models.self_mm import VIEWS, Model, centres, move, relative_distance
from tests.batches import DIMS, hide, make_batch, reorder


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
    network = Model(Model.Settings(dropout=0.0), DIMS, 1).train()
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


def labelled(outputs: int, **state: list[list[float]]) -> Model:
    """Return a network of three samples with these labels (text=..., fusion=...), in epoch 1."""
    torch.manual_seed(0)
    network = Model(Model.Settings(dropout=0.0), DIMS, outputs).train()
    network.samples_known(3, 3.0)
    network.seen.fill_(True)
    for name, rows in state.items():
        setattr(network, f"labels_{name}", torch.tensor(rows))
    return network


def test_every_loss_of_a_regression_by_hand() -> None:
    network = labelled(
        1, text=[[1.0], [2.0], [0.0]], audio=[[2.0], [-1.0], [1.0]], video=[[0.0], [0.0], [0.0]]
    )
    answers = {"fusion": 0.5, "text": 3.0, "audio": -1.0, "video": 2.0}
    for name, answer in answers.items():
        last = network.read_out[name][-1]
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.constant_(last.bias, answer)
    batch = replace(make_batch(3, outputs=1), scores=torch.tensor([2.0, -1.0, 0.0]))
    losses = {name: loss.item() for name, loss in network(batch).losses.items()}
    assert losses["regression"] == pytest.approx((1.5 + 1.5 + 0.5) / 3)
    # tanh |label - score| times |answer - label|: text 1 and 2, 3 and 1, 0 and 3
    assert losses["text"] == pytest.approx((math.tanh(1) * 2 + math.tanh(3) * 1 + 0) / 3)
    # audio 0, 0, 1 and 2; video 2 and 2, 1 and 2, 0
    assert losses["audio"] == pytest.approx(math.tanh(1) * 2 / 3)
    assert losses["video"] == pytest.approx((math.tanh(2) * 2 + math.tanh(1) * 2) / 3)


def test_a_unimodal_loss_of_a_classification_by_hand() -> None:
    rows = [[0.5, -1.0], [-1.0, 1.0], [-1.0, 1.0]]
    network = labelled(2, text=rows, audio=[[1.0, -1.0]] * 3, video=[[1.0, -1.0]] * 3)
    last = network.read_out["text"][-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, math.log(3))
    batch = replace(make_batch(3, outputs=2), labels=torch.tensor([0, 1, 1]))
    # One label of six is not the sample's own: 0.5 for 1. Its probability is (0.5 + 1) / 2 = 3/4, and the answer 3/4.
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert network(batch).losses["text"].item() == pytest.approx(math.tanh(0.5) * entropy / 6)


def test_a_label_moves_once_an_epoch_however_often_its_sample_is_met() -> None:
    """As with train_on: missing, where a sample is met six times an epoch, also twice in one batch."""
    torch.manual_seed(0)
    network = Model(Model.Settings(dropout=0.0), DIMS, 1).train()
    network.samples_known(8, 3.0)
    batch = make_batch(8, outputs=1)
    twice = reorder(batch, torch.tensor([0, 1, 0, 2, 1, 3]))
    network.epoch_start(1)
    network(batch)
    network.epoch_start(2)
    alone = copy.deepcopy(network)
    alone(hide(reorder(batch, torch.tensor([0, 1, 2, 3])), [True, True, False]))
    network(hide(twice, [True, True, False]))
    first = network.labels_text.clone()
    assert network.moved.tolist() == [2] * 4 + [0] * 4
    network(hide(twice, [False, True, True]))
    assert torch.equal(network.labels_text, first), "not again in the same epoch"
    assert torch.equal(network.labels_text[4:, 0], batch.scores[4:])  # type: ignore[index]
    # what was moved is what one meeting of each gives, from the same centres and representations
    torch.testing.assert_close(alone.labels_text, first)
    network.epoch_start(3)
    kept = Model(Model.Settings(dropout=0.0), DIMS, 1)
    kept.load_state_dict(network.state_dict())
    assert torch.equal(kept.moved, network.moved), "a resumed run knows"
    network(twice)
    assert not torch.equal(network.labels_text[:4], first[:4]) and network.moved.tolist() == [3] * 4 + [0] * 4


def test_of_two_rows_of_a_sample_the_first_moves_its_label_and_the_last_is_remembered() -> None:
    torch.manual_seed(0)
    network = Model(Model.Settings(dropout=0.0), DIMS, 1).train()
    network.samples_known(8, 3.0)
    batch = make_batch(8, outputs=1)
    network.epoch_start(1)
    network(batch)
    network.epoch_start(2)
    shown = replace(
        reorder(batch, torch.tensor([5, 6])), rows=torch.tensor([5, 5])
    )  # one sample, two contents
    alone, hidden = copy.deepcopy(network), network(shown).hidden
    alone(replace(reorder(batch, torch.tensor([5])), rows=torch.tensor([5])))
    torch.testing.assert_close(network.latest_audio[5], hidden["audio"][1].detach())
    torch.testing.assert_close(network.labels_audio[5], alone.labels_audio[5])


def test_the_two_repositories() -> None:
    def dropouts(network: Model) -> dict[str, float]:
        return {view: network.represent[view][0].p for view in VIEWS}

    authors, mmsa = (Model(Model.Settings(variant=name), DIMS, 1) for name in ("authors", "mmsa"))
    assert (authors.audio.last.lstm.hidden_size, authors.video.last.lstm.hidden_size) == (32, 64)
    assert (mmsa.audio.last.lstm.hidden_size, mmsa.video.last.lstm.hidden_size) == (16, 32)
    assert authors.widths == {"fusion": 128, "text": 64, "audio": 16, "video": 32}
    assert mmsa.widths == {"fusion": 128, "text": 32, "audio": 16, "video": 32}
    assert dropouts(authors) == {"fusion": 0.1, "text": 0.0, "audio": 0.1, "video": 0.1}
    assert dropouts(mmsa) == {"fusion": 0.0, "text": 0.1, "audio": 0.1, "video": 0.0}
    common = {"learning_rate": 1e-3, "weight_decay": 1e-3, "accumulate": 4, "patience": 8}
    rates = {"audio": 1e-3, "video": 1e-4}
    own = {"batch_size": 32, "learning_rates": rates, "weight_decays": {"audio": 0.01}}
    assert Model.recipe(Model.Settings()) == {**common, **own}
    tokens = Model.recipe(Model.Settings(text="tokens"))
    assert tokens["learning_rates"] == {"text": 5e-5, **rates}
    tokens = Model.Settings(variant="mmsa", text="tokens")
    rates = {"text": 5e-5, "audio": 5e-3, "video": 5e-3}
    own = {"batch_size": 16, "learning_rates": rates, "weight_decays": {}}
    assert Model.recipe(tokens) == {**common, **own}
    given = Model(Model.Settings(dropout=0.2, audio_hidden=3, text_width=5), DIMS, 1)
    assert set(dropouts(given).values()) == {0.2}
    assert (given.audio.last.lstm.hidden_size, given.widths["text"]) == (3, 5)


def test_centres_under_autocast_are_those_of_float32() -> None:
    torch.manual_seed(0)
    values, members = torch.randn(9, 3), torch.randn(9, 2) > 0
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = centres(values, members)
    assert torch.equal(found, centres(values, members)[0])


def test_what_the_settings_leave_to_the_variant() -> None:
    assert Model.Settings().model_dump(exclude={"encoder"}) == {
        "text": "features", "frozen_layers": 0, "train_embeddings": False, "variant": "authors", "audio_hidden": None,
        "video_hidden": None, "text_width": None, "fusion": 128, "dropout": None, "label_limit": None,
        "distance": "squared",
    }  # fmt: skip


def test_labels_stay_while_a_centre_has_no_sample() -> None:
    torch.manual_seed(0)
    network = Model(Model.Settings(dropout=0.0), DIMS, 1).train()
    batch = make_batch(5, outputs=1)
    assert batch.scores is not None
    positive = batch.scores.abs() + 0.1
    for epoch in (1, 2, 3):
        network.epoch_start(epoch)
        network(replace(batch, scores=positive))
    assert torch.equal(network.labels_text[:, 0], positive), "there is no negative centre"


def test_there_is_no_state_before_there_is_a_sample() -> None:
    network = Model(Model.Settings(), DIMS, 4)
    kept = {"seen", "moved", *(f"{kind}_{view}" for kind in ("labels", "latest") for view in VIEWS)}
    assert {name: len(value) for name, value in network.named_buffers()} == dict.fromkeys(kept, 0)


def test_the_text_is_read_at_cls() -> None:
    network, batch = Model(Model.Settings(), DIMS, 1).eval(), make_batch(3, outputs=1)
    first, mean = torch.randn(3, DIMS["text"]), torch.randn(3, DIMS["text"])
    network.text.forward = lambda _: (first, mean)  # type: ignore[method-assign]
    torch.testing.assert_close(network(batch).hidden["text"], network.represent["text"](first))
