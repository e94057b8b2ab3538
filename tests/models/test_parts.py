"""The parts that MISA, MMIM and Self-MM share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.base import drop_frames
from models.parts import (
    BiLstm,
    LastState,
    StackedBiLstm,
    TextEncoder,
    TextSettings,
    add_specials,
    masked_mean,
    positions_before,
    split_parameters,
    turned,
)
from tests.batches import hide, lengthen, make_batch


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny BERT with random weights."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        BertModel(BertConfig(vocab_size=1100, max_position_embeddings=16, **sizes)).save_pretrained(folder)
    return folder


def test_specials_go_around_each_text() -> None:
    ids = torch.tensor([[7, 8, 9], [7, 0, 0], [0, 0, 0]])
    assert add_specials(ids).tolist() == [[101, 7, 8, 9, 102], [101, 7, 102, 0, 0], [101, 102, 0, 0, 0]]


def test_masked_mean_by_hand() -> None:
    values = torch.tensor([[[1.0], [3.0], [100.0]], [[5.0], [6.0], [7.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_mean(values, mask).tolist() == [[2.0], [0.0]]
    assert positions_before(torch.tensor([2, 0]), 3).tolist() == [[True, True, False], [False] * 3]


@pytest.mark.parametrize("encoder", [LastState(3, 4), StackedBiLstm(3, 4)])
def test_recurrent_summaries_are_those_of_each_sample_alone(encoder: nn.Module) -> None:
    torch.manual_seed(0)
    values = torch.randn(3, 6, 3)
    lengths = torch.tensor([6, 2, 1])
    together = encoder(values, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = encoder(values[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone)


def test_last_state_is_the_lstms_final_hidden_state() -> None:
    torch.manual_seed(0)
    encoder = LastState(3, 4)
    values = torch.randn(2, 5, 3)
    _, (final, _) = encoder.lstm(values)
    torch.testing.assert_close(encoder(values, torch.tensor([5, 5])), final[0])


def test_bert_reads_ids_and_padding_changes_nothing(bert: Path) -> None:
    encoder = TextEncoder(TextSettings(text="tokens", encoder=bert), 6).eval()
    batch = make_batch(4, outputs=1)
    assert encoder.size == 8
    first, mean = encoder(batch)
    for padded, plain in zip(encoder(lengthen(batch, 3)), (first, mean), strict=True):
        torch.testing.assert_close(padded, plain)
    assert batch.token_ids is not None
    other = replace(batch, features={m: v * 0 for m, v in batch.features.items()})
    assert torch.equal(encoder(other)[0], first), "with tokens the frozen features are not read"


def test_a_missing_text_tells_nothing_but_that_it_is_missing(bert: Path) -> None:
    encoder = TextEncoder(TextSettings(text="tokens", encoder=bert), 6).eval()
    hidden = hide(make_batch(4, outputs=1), [False, True, True])
    first, mean = encoder(hidden)
    torch.testing.assert_close(first, first[:1].expand(4, -1))
    torch.testing.assert_close(mean, mean[:1].expand(4, -1))
    batch = make_batch(4, outputs=1)
    gone = drop_frames(batch, {"text": torch.zeros(4, 7, dtype=torch.bool)})
    assert not torch.allclose(encoder(gone)[0], encoder(batch)[0])


def test_frozen_layers_have_no_gradient(bert: Path) -> None:
    free = TextEncoder(TextSettings(text="tokens", encoder=bert), 6)
    half = TextEncoder(TextSettings(text="tokens", encoder=bert, frozen_layers=1), 6)
    all_free = [n for n, p in free.named_parameters() if p.requires_grad]
    trained = [n for n, p in half.named_parameters() if p.requires_grad]
    assert all_free == [n for n, _ in free.named_parameters()]
    assert trained and all("encoder.layer.1" in name for name in trained)
    above = TextEncoder(TextSettings(text="tokens", encoder=bert, frozen_layers=1, train_embeddings=True), 6)
    trained = [n for n, p in above.named_parameters() if p.requires_grad]
    assert {"embeddings" if "embeddings" in n else n.partition("encoder.")[2][:7] for n in trained} == {
        "embeddings",
        "layer.1",
    }


def test_tokens_are_asked_for_in_words(bert: Path, tmp_path: Path) -> None:
    encoder = TextEncoder(TextSettings(text="tokens", encoder=bert), 6)
    with pytest.raises(ValueError, match="no token ids"):
        encoder(replace(make_batch(2, outputs=1), token_ids=None))
    with pytest.raises(FileNotFoundError, match="no config"):
        TextEncoder(TextSettings(text="tokens", encoder=tmp_path), 6)


def test_parameters_are_split_once_and_wholly() -> None:
    network = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2), "c": nn.Linear(2, 2)})
    network["b"].requires_grad_(False)
    groups = split_parameters(network, {"one": network["a"], "two": network["b"]})
    assert list(groups) == ["one", "rest"]
    assert [id(p) for p in groups["rest"]] == [id(p) for p in network["c"].parameters()]


def test_two_directions_are_those_of_the_packed_lstm() -> None:
    torch.manual_seed(0)
    ours = BiLstm(3, 4)
    torch.manual_seed(0)
    theirs = nn.LSTM(3, 4, batch_first=True, bidirectional=True)  # draws the same weights in the same order
    values, lengths = torch.randn(3, 6, 3), torch.tensor([6, 2, 1])
    packed = pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
    states, (final, _) = theirs(packed)
    expected, _ = pad_packed_sequence(states, batch_first=True)
    found, last = ours(values, lengths)
    inside = torch.arange(6) < lengths[:, None]
    torch.testing.assert_close(found[inside], expected[inside])
    torch.testing.assert_close(last, torch.cat([*final], dim=1))


def test_rows_are_turned_within_their_lengths() -> None:
    values = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]])[:, :, None]
    assert turned(values, torch.tensor([3, 2, 1]))[:, :, 0].tolist() == [[3, 2, 1], [5, 4, 6], [7, 8, 9]]
