"""What MISA, MMIM and Self-MM share: BERT or frozen text features, recurrent summaries, parameter groups."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from models.base import UNKNOWN_TOKEN, Batch, ModelSettings

CLS, SEP = 101, 102
VOCABULARY = "vocab.txt"
SPECIALS = {
    0: "[PAD]",
    UNKNOWN_TOKEN: "[UNK]",
    CLS: "[CLS]",
    SEP: "[SEP]",
}  # of Google's BERTs, Chinese ones too


class TextSettings(ModelSettings):
    """How a model reads its text.

    Attributes:
        text: ``features``, the extractor's frozen ones, or ``tokens``: a BERT inside the model, trained with
            it.
        encoder: the folder of that BERT (Hugging Face: config.json, model.safetensors).
        frozen_layers: how many of its first layers are not trained; where there are any, nor are its
            embeddings.
    """

    text: Literal["tokens", "features"] = "features"
    encoder: Path = Path("data/assets/bert")
    frozen_layers: Annotated[int, Field(ge=0)] = 0


class TextEncoder(nn.Module):
    """One vector a sample from its text.

    Attributes:
        size: H, the columns of what :meth:`forward` returns.
    """

    def __init__(self, settings: TextSettings, columns: int) -> None:
        """Build it.

        Args:
            settings: which text, and from where.
            columns: D of the text features; H when those are used.
        """
        super().__init__()
        self.bert: nn.Module | None = None
        self.size = columns
        if settings.text == "tokens":
            self.bert, self.size, self._longest = _load_bert(settings.encoder, settings.frozen_layers)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Summarise the text of each sample.

        Returns:
            (first, mean), both (B, H) float32: with tokens the last hidden state at [CLS], and its mean over
            all that is not padding, [CLS] and [SEP] included. Frozen features have no [CLS]: both are their
            mean over the sample's frames, where missing frames count as the zeros they are.
        """
        if self.bert is None:
            values, lengths = batch.features["text"], batch.lengths["text"]
            mean = masked_mean(values, positions_before(lengths, values.shape[1]))
            return mean, mean
        if batch.token_ids is None:
            raise ValueError(
                "found no token ids, expected them: text: tokens needs a text extractor that stores ids "
                "(bert), and masks over frames, not columns. Set text: features in the settings otherwise"
            )
        ids = add_specials(batch.token_ids[:, : self._longest - 2])
        mask = ids != 0
        states: Tensor = self.bert(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return states[:, 0], masked_mean(states, mask)


def _load_bert(folder: Path, frozen_layers: int) -> tuple[nn.Module, int, int]:
    """Return the encoder, its hidden size and its longest input.

    Raises:
        FileNotFoundError: there is no encoder.
        ValueError: it is no BERT, or its files are cut short or do not belong together.
    """
    from safetensors import SafetensorError
    from transformers import AutoModel

    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder}: found no config.json, expected the folder of a Hugging Face encoder. "
            f"Run: dvc repro assets, or set settings.encoder"
        )
    check_vocabulary(folder)
    try:
        bert, found = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except SafetensorError as error:
        raise ValueError(
            f"{folder}: its *.safetensors cannot be read ({error}). Was a download broken off? Fetch it again"
        ) from error
    lacking = sorted(name for name in found["missing_keys"] if not name.startswith("pooler."))
    others = sorted(name for name in found["unexpected_keys"] if "encoder.layer." in name)
    if lacking or others:
        raise ValueError(
            f"{folder}: its weights and its config.json do not belong together; lacking: "
            f"{', '.join(lacking[:3]) or 'none'}; beyond its layers: {', '.join(others[:3]) or 'none'}"
        )
    bert = bert.float()
    bert.pooler = None  # feeds nothing here
    if frozen_layers:
        for part in (bert.embeddings, *bert.encoder.layer[:frozen_layers]):
            part.requires_grad_(False)
    return bert, int(bert.config.hidden_size), int(bert.config.max_position_embeddings)


def check_vocabulary(folder: Path) -> int:
    """Return how many ids an encoder knows.

    Raises:
        ValueError: it is no BERT, or its special ids are others than :data:`SPECIALS`; the stored ids would be
            read as other words without a sound.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if (kind := config.get("model_type")) != "bert":
        raise ValueError(f'{folder}: found an encoder of the type "{kind}", expected "bert" for text: tokens')
    if (words := read_vocabulary(folder)) is not None:
        found = {number: words[number] if number < len(words) else "nothing" for number in SPECIALS}
        if found != SPECIALS:
            raise ValueError(f"{folder / VOCABULARY}: found the special ids {found}, expected {SPECIALS}")
        if len(words) > config["vocab_size"]:
            raise ValueError(
                f"{folder}: lists {len(words)} word pieces, but its config.json says {config['vocab_size']}"
            )
    return int(config["vocab_size"])


def read_vocabulary(folder: Path) -> list[str] | None:
    """Return the word pieces of an encoder by id; None where the folder does not list them."""
    path = folder / VOCABULARY
    if path.is_file():
        return path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    listed = json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]
    if not isinstance(listed, dict):
        return None  # of another kind than BERT's
    words = [""] * (max(listed.values(), default=-1) + 1)
    for word, number in listed.items():
        words[number] = word
    return words


def encoder_files(settings: TextSettings) -> list[Path]:
    """Return the files of the encoder that is trained along; none where the text is frozen features."""
    if settings.text != "tokens":
        return []
    return sorted(
        p for p in settings.encoder.glob("*") if p.name == "config.json" or p.suffix == ".safetensors"
    )


def add_specials(token_ids: Tensor) -> Tensor:
    """Put [CLS] before and [SEP] behind each row of ids: (B, T) with 0 at padding -> (B, T + 2)."""
    count = (token_ids != 0).sum(dim=1)
    ids = functional.pad(token_ids, (1, 1))
    ids[:, 0] = CLS
    return ids.scatter(1, count[:, None] + 1, SEP)


def positions_before(lengths: Tensor, longest: int) -> Tensor:
    """Return (B, longest) bool, True at the first ``lengths[b]`` positions of row b."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over time of (B, T, D) values where the (B, T) mask is True; else zeros."""
    weights = mask.to(values.dtype)[:, :, None]
    return (values * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


class LastState(nn.Module):
    """A one-layer LSTM's state at each sample's last frame: (B, T, D) -> (B, H)."""

    def __init__(self, columns: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(columns, hidden, batch_first=True)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Run over padded (B, T, D) values; what stands behind ``lengths`` (B,) changes nothing."""
        states, _ = self.lstm(values)
        return last_of(states, lengths)


class BiLstm(nn.Module):
    """A one-layer bidirectional LSTM over sequences of their own lengths, (B, T, D) -> (B, T, 2 H).

    Each direction is an LSTM over padded values; the backward one reads every sequence turned around within its
    length. So nothing is packed: PyTorch's kernels for padded values are ten times as fast on a CPU, and no
    length has to be known there. What is computed is that of ``nn.LSTM(bidirectional=True)`` on packed values.
    """

    def __init__(self, columns: int, hidden: int) -> None:
        super().__init__()
        self.forwards = nn.LSTM(columns, hidden, batch_first=True)
        self.backwards = nn.LSTM(columns, hidden, batch_first=True)

    def forward(self, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states (B, T, 2 H), and the last one of each direction side by side, (B, 2 H).

        What stands behind ``lengths`` (B,) changes nothing before them.
        """
        ahead, _ = self.forwards(values)
        back, _ = self.backwards(turned(values, lengths))
        final = torch.cat([last_of(ahead, lengths), last_of(back, lengths)], dim=1)
        return torch.cat([ahead, turned(back, lengths)], dim=2), final


def last_of(states: Tensor, lengths: Tensor) -> Tensor:
    """Return (B, H), the state (B, T, H) at each sample's last frame."""
    last = (lengths - 1)[:, None, None].expand(-1, 1, states.shape[2])
    return states.gather(1, last).squeeze(1)


def turned(values: Tensor, lengths: Tensor) -> Tensor:
    """Return (B, T, D) with the first ``lengths`` (B,) frames of each row in the opposite order."""
    steps = torch.arange(values.shape[1], device=values.device)
    back = lengths[:, None] - 1 - steps
    return values.gather(1, torch.where(back >= 0, back, steps)[:, :, None].expand_as(values))


class StackedBiLstm(nn.Module):
    """MISA's recurrent encoder: two bidirectional LSTMs with a LayerNorm between, final states of all four
    joined.

    (B, T, D) -> (B, 4 H).
    """

    def __init__(self, columns: int, hidden: int) -> None:
        super().__init__()
        self.first = BiLstm(columns, hidden)
        self.norm = nn.LayerNorm(2 * hidden)
        self.second = BiLstm(2 * hidden, hidden)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Run over padded (B, T, D) values; what stands behind ``lengths`` (B,) changes nothing."""
        states, first = self.first(values, lengths)
        _, second = self.second(self.norm(states), lengths)
        return torch.cat([first, second], dim=1)


def split_parameters(network: nn.Module, parts: Mapping[str, nn.Module]) -> dict[str, list[nn.Parameter]]:
    """Return the trainable parameters of the named parts, and the others as ``rest``, but no empty group."""
    groups = {name: [p for p in part.parameters() if p.requires_grad] for name, part in parts.items()}
    taken = {id(p) for group in groups.values() for p in group}
    groups["rest"] = [p for p in network.parameters() if p.requires_grad and id(p) not in taken]
    return {name: group for name, group in groups.items() if group}
