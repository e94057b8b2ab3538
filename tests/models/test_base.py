"""Modalities, frames, columns and token ids going missing."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from models.base import (
    MODALITIES,
    NO_LABEL,
    Batch,
    Dialogues,
    Network,
    Pretraining,
    View,
    drop_columns,
    drop_frames,
    drop_modalities,
)
from tests.batches import DIMS, make_batch


def test_a_missing_text_is_one_unknown_token() -> None:
    batch = make_batch(3, outputs=1)
    leave = torch.tensor([[True, True, True], [False, True, True], [False, False, True]])
    left = drop_modalities(batch, leave)
    assert left.token_ids is not None and batch.token_ids is not None
    longest = left.token_ids.shape[1]
    assert left.token_ids[0].tolist() == batch.token_ids[0, :longest].tolist()
    for row in (1, 2):
        assert left.token_ids[row].tolist() == [100] + [0] * (longest - 1)


def test_dropped_frames_are_zeros_and_unknown_tokens_and_padding_stays() -> None:
    batch = make_batch(2, outputs=1)
    keep = {m: torch.ones(2, batch.features[m].shape[1], dtype=torch.bool) for m in MODALITIES}
    keep["text"][:, 1:] = False
    keep["audio"][:, 0] = False
    left = drop_frames(batch, keep)
    assert left.token_ids is not None and batch.token_ids is not None
    for row in range(2):
        length = int(batch.lengths["text"][row])
        padding = batch.token_ids.shape[1] - length
        expected = [int(batch.token_ids[row, 0])] + [100] * (length - 1) + [0] * padding
        assert left.token_ids[row].tolist() == expected
    assert left.features["text"][:, 1:].abs().sum() == 0
    assert left.features["audio"][:, 0].abs().sum() == 0
    assert not left.observed["audio"][:, 0].any()
    assert torch.equal(left.features["audio"][:, 1:], batch.features["audio"][:, 1:])
    assert torch.equal(left.features["video"], batch.features["video"])
    assert torch.equal(left.lengths["text"], batch.lengths["text"])


def test_dropped_columns_are_zeros_in_every_frame_and_no_token_leaks() -> None:
    batch = make_batch(2, outputs=1)
    keep = {m: torch.ones(2, DIMS[m], dtype=torch.bool) for m in MODALITIES}
    keep["text"][0, 2] = False
    left = drop_columns(batch, keep)
    assert left.features["text"][0, :, 2].abs().sum() == 0
    assert torch.equal(left.features["text"][1], batch.features["text"][1])
    assert left.token_ids is None
    assert drop_columns(batch, {"audio": keep["audio"]}).token_ids is batch.token_ids


def test_a_missing_modality_is_one_zero_frame_and_the_batch_is_cut_to_what_is_left() -> None:
    batch = make_batch(3, outputs=4)
    longest = {m: int(batch.lengths[m].argmax()) for m in MODALITIES}
    leave = torch.ones(3, 3, dtype=torch.bool)
    for column, modality in enumerate(MODALITIES):
        leave[longest[modality], column] = False
    left = drop_modalities(batch, leave)
    assert torch.equal(left.present, leave)
    for modality in MODALITIES:
        row = longest[modality]
        others = [int(n) for index, n in enumerate(batch.lengths[modality]) if index != row]
        assert left.features[modality].shape[1] == left.observed[modality].shape[1] == max(others)
        assert left.lengths[modality][row] == 1
        assert not left.features[modality][row].any() and not left.observed[modality][row].any()


def test_what_a_sample_never_had_stays_missing() -> None:
    batch = make_batch(2, outputs=4)
    once = drop_modalities(batch, torch.tensor([[True, False, True]] * 2))
    again = drop_modalities(once, torch.tensor([[False, True, True]] * 2))
    assert again.present.tolist() == [[False, False, True]] * 2
    assert not again.features["audio"].any()


def dialogues() -> Dialogues:
    """Return two dialogues: of three turns and of one."""
    return Dialogues(
        dialogue=torch.tensor([0, 0, 0, 1]),
        turn=torch.tensor([0, 1, 2, 0]),
        speaker=torch.tensor([0, 1, 0, 0]),
        labelled=torch.tensor([True, False, True, True]),
        count=2,
        longest=3,
    )


def test_rows_stand_by_dialogue_and_turn_and_come_back() -> None:
    rows = torch.tensor([[1.0, 10], [2, 20], [3, 30], [4, 40]])
    padded = dialogues().padded(rows)
    assert padded.tolist() == [[[1, 10], [2, 20], [3, 30]], [[4, 40], [0, 0], [0, 0]]]
    assert torch.equal(dialogues().flat(padded), rows)
    longer = functional.pad(padded + 0.0, (0, 0, 0, 2), value=9.0)  # as a convolution with padding gives it
    assert torch.equal(dialogues().flat(longer), rows)
    assert dialogues().turns.tolist() == [[True, True, True], [True, False, False]]
    assert dialogues().padded(torch.tensor([5, 6, 7, 8])).tolist() == [[5, 6, 7], [8, 0, 0]]


def test_a_batch_is_as_long_as_its_samples() -> None:
    assert len(make_batch(3, outputs=1)) == 3 and len(make_batch(1, outputs=4)) == 1


def test_what_has_no_label_is_what_cross_entropy_leaves_out() -> None:
    logits = torch.tensor([[0.0, 3.0], [5.0, 1.0]])
    alone = functional.cross_entropy(logits[:1], torch.tensor([1]))
    assert functional.cross_entropy(logits, torch.tensor([1, NO_LABEL])).item() == pytest.approx(alone.item())


def test_only_what_is_drawn_as_the_training_is_shows_nothing_that_is_hidden() -> None:
    assert [View(kind).shows_hidden for kind in ("complement", "whole", "redrawn")] == [True, True, False]


def test_a_network_asks_for_nothing_by_itself() -> None:
    assert Network.phases == {"all": ()} and not Network.dialogues
    assert Network.views(None) == Network.recipe(None) == {}
    assert Network.pretraining(None) is None and Network.files(None) == () and Network.needs(None) == ()
    assert Pretraining("baseline") == Pretraining("baseline", {}, {})


def test_an_empty_batch_can_lose_modalities() -> None:
    batch = make_batch(2, outputs=1)
    none = Batch(
        features={m: v[:0] for m, v in batch.features.items()},
        lengths={m: v[:0] for m, v in batch.lengths.items()},
        present=batch.present[:0],
        observed={m: v[:0] for m, v in batch.observed.items()},
    )
    left = drop_modalities(none, none.present)
    assert len(left) == 0 and left.features["audio"].shape == (0, 0, DIMS["audio"])
