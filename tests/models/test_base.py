"""Modalities, frames, columns and token ids going missing."""

from __future__ import annotations

import torch

from models.base import MODALITIES, drop_columns, drop_frames, drop_modalities
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
