"""The parts that MISA, MMIM and Self-MM share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.base import MODALITIES, drop_frames
from models.parts import (
    BiLstm,
    CommonSpace,
    LastState,
    StackedBiLstm,
    TextEncoder,
    TextSettings,
    Tokens,
    add_specials,
    aligned,
    make_tokens,
    masked_mean,
    positions_before,
    split_parameters,
    turned,
)
from tests.batches import DIMS, hide, lengthen, make_batch


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


def test_tokens_are_what_was_observed_and_zeros_for_a_modality_that_is_missing() -> None:
    batch = make_batch(3, outputs=1)
    whole = {m: torch.ones_like(batch.observed[m]) for m in MODALITIES}
    whole["audio"][1] = False  # no frame of the second sample's audio
    whole["video"][0, 1] = False
    lost = drop_frames(batch, whole)
    dirty = {m: v.masked_fill(~lost.observed[m][:, :, None], 7.0) for m, v in lost.features.items()}
    plain = {m: nn.Linear(DIMS[m], 2) for m in MODALITIES}
    tokens = make_tokens(replace(lost, features=dirty), plain)
    assert tokens.there.tolist() == [[True] * 3, [True, False, True], [True] * 3]
    assert tokens.keep["audio"][1].tolist() == [True] + [False] * 8
    assert tokens.keep["video"][0].tolist() == [True, False, True, True, True]
    torch.testing.assert_close(tokens.values["audio"][1, 0], plain["audio"].bias)
    gone = make_tokens(hide(batch, [True, True, False]), plain, frames=4)
    assert gone.values["video"].shape == (3, 4, 2) and gone.keep["video"].all()
    moved = (
        make_tokens(batch, plain, positions=True).values["text"] - make_tokens(batch, plain).values["text"]
    )
    torch.testing.assert_close(moved[0, :2], torch.tensor([[0.0, 1.0], [0.8414710, 0.5403023]]))
    joined, keep = tokens.joined()
    assert joined.shape == (3, 7 + 9 + 5, 2) and keep.sum() == sum(k.sum() for k in tokens.keep.values())
    torch.testing.assert_close(tokens.split(joined), dict(tokens.values))


def test_whole_samples_brought_to_the_positions_of_shown_ones() -> None:
    def tokens(values: list[list[float]], keep: list[list[bool]], there: list[list[bool]]) -> Tokens:
        numbers = torch.tensor(values)[:, :, None]
        return Tokens({"text": numbers}, {"text": torch.tensor(keep)}, torch.tensor(there))

    whole = tokens(
        [[1.0, 2.0, 6.0], [3.0, 5.0, 99.0], [0.0, 0.0, 0.0]],
        [[True] * 3, [True, True, False], [True, False, False]],
        [[True], [True], [False]],  # the third sample's text was never recorded
    )
    shown = tokens([[0.0] * 2] * 3, [[True, True], [True, False], [True, False]], [[True], [False], [False]])
    target, counts = aligned(whole, {"text": whole.values["text"] * 10}, shown)
    assert target[0, :, 0].tolist() == [10.0, 20.0] and target[1, 0, 0].item() == 40.0
    assert counts.tolist() == [[True, True], [True, False], [False, False]]
    long = tokens([[0.0] * 5] * 3, [[True] * 5] * 3, [[False]] * 3)  # more frames stand for a missing one
    assert aligned(whole, whole.values, long)[0][0, :, 0].tolist() == [3.0] * 5


def test_the_common_space_has_one_matrix_for_each_pair_of_modalities() -> None:
    space = CommonSpace(2)
    with torch.no_grad():
        for factor, layer in zip((1.0, 10.0, 100.0), space.pairs.values(), strict=True):
            layer.weight.fill_(factor)  # text and audio, text and video, audio and video
    found = space({m: torch.ones(1, 1, 2) for m in MODALITIES})
    assert {m: v[0, 0].tolist() for m, v in found.items()} == {
        "text": [2.0, 20.0],
        "audio": [2.0, 200.0],
        "video": [20.0, 200.0],
    }
