"""What some models share: BERT or frozen text features, recurrent summaries and parameter groups (MISA, MMIM,
Self-MM); modalities as sequences of vectors of one size (EMMR, TATE, AE, CRA, TransM)."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from models.base import MODALITIES, UNKNOWN_TOKEN, Batch, ModelSettings, Network, Output, View
from models.layers import AttentionLayer, sinusoids, task_loss

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
            embeddings,
        train_embeddings: unless this says so (MISA's code).
    """

    text: Literal["tokens", "features"] = "features"
    encoder: Path = Path("data/assets/bert")
    frozen_layers: Annotated[int, Field(ge=0)] = 0
    train_embeddings: bool = False


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
            self.bert, self.size, self._longest = _load_bert(settings)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Summarise the text of each sample.

        Returns:
            (first, mean), both (B, H) float32: with tokens the last hidden state at [CLS], and its mean over
            all that is not padding, [CLS] and [SEP] included. Frozen features have no [CLS]: both are their
            mean over the sample's frames, where missing frames count as the zeros they are.
        """
        states, lengths = self.sequence(batch)
        mean = masked_mean(states, positions_before(lengths, states.shape[1]))
        return (mean if self.bert is None else states[:, 0]), mean

    def sequence(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the text's states (B, T, H), and how many of each sample count, (B,).

        With tokens these are the last hidden states, [CLS] and [SEP] included; else the frozen features.
        """
        if self.bert is None:
            return batch.features["text"], batch.lengths["text"]
        if batch.token_ids is None:
            raise ValueError(
                "found no token ids, expected them: text: tokens needs a text extractor that stores ids "
                "(bert), and masks over frames, not columns. Set text: features in the settings otherwise"
            )
        ids = add_specials(batch.token_ids[:, : self._longest - 2])
        mask = ids != 0
        states: Tensor = self.bert(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return states, mask.sum(dim=1)


def _load_bert(settings: TextSettings) -> tuple[nn.Module, int, int]:
    """Return the encoder, its hidden size and its longest input.

    Raises:
        FileNotFoundError: there is no encoder.
        ValueError: it is no BERT, or its files are cut short or do not belong together.
    """
    from safetensors import SafetensorError
    from transformers import AutoModel

    folder = settings.encoder
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
    for layer in bert.encoder.layer[: settings.frozen_layers]:
        layer.requires_grad_(False)
    if settings.frozen_layers and not settings.train_embeddings:
        bert.embeddings.requires_grad_(False)
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


class BiRecurrent(nn.Module):
    """A one-layer bidirectional recurrent network over sequences of their own lengths, (B, T, D) -> (B, T, 2 H).

    Each direction runs over padded values; the backward one reads every sequence turned around within its
    length. So nothing is packed: PyTorch's kernels for padded values are ten times as fast on a CPU, and no
    length has to be known there. What is computed is that of ``bidirectional=True`` on packed values.

    Args:
        columns: D.
        hidden: H of each direction.
        cell: the network of one direction, ``nn.LSTM`` or ``nn.GRU``.
    """

    def __init__(self, columns: int, hidden: int, cell: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.forwards = cell(columns, hidden, batch_first=True)
        self.backwards = cell(columns, hidden, batch_first=True)

    def forward(self, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states (B, T, 2 H), and the last one of each direction side by side, (B, 2 H).

        What stands behind ``lengths`` (B,) changes nothing before them.
        """
        ahead, _ = self.forwards(values)
        back, _ = self.backwards(turned(values, lengths))
        final = torch.cat([last_of(ahead, lengths), last_of(back, lengths)], dim=1)
        return torch.cat([ahead, turned(back, lengths)], dim=2), final


class BiLstm(BiRecurrent):
    """A one-layer bidirectional LSTM over sequences of their own lengths, (B, T, D) -> (B, T, 2 H)."""

    def __init__(self, columns: int, hidden: int) -> None:
        super().__init__(columns, hidden, nn.LSTM)


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


@dataclass(frozen=True)
class Tokens:
    """Each modality as a sequence of vectors of one size D.

    A modality that a sample lacks (no frame of it was observed) has zeros in its first frame or frames, which
    count, so that every modality of every sample has something to attend to, and to be recovered.

    Attributes:
        values: modality -> (B, T_m, D).
        keep: modality -> (B, T_m) bool: the positions that count.
        there: (B, M) bool: which modalities were observed, in the order of ``values``.
    """

    values: Mapping[str, Tensor]
    keep: Mapping[str, Tensor]
    there: Tensor

    def joined(self) -> tuple[Tensor, Tensor]:
        """Return all modalities behind each other in time: (B, T, D), and (B, T) bool of what counts."""
        return torch.cat(list(self.values.values()), dim=1), torch.cat(list(self.keep.values()), dim=1)

    def split(self, joined: Tensor) -> dict[str, Tensor]:
        """Return modality -> (N, T_m, D) of (N, T, D)."""
        lengths = [values.shape[1] for values in self.values.values()]
        return dict(zip(self.values, joined.split(lengths, dim=1), strict=True))

    def means(self, values: Mapping[str, Tensor]) -> list[Tensor]:
        """Return (B, D) a modality: the mean of what counts of modality -> (B, T_m, D)."""
        return [masked_mean(values[m], self.keep[m]) for m in self.values]


def make_tokens(
    batch: Batch,
    projections: Mapping[str, nn.Module],
    frames: int = 1,
    positions: bool = False,
) -> Tokens:
    """Return the frames of a batch, projected to one size.

    Args:
        batch: the samples. Frames that were not observed are zeros to the projection, whatever stands there.
        projections: modality -> a layer from its columns to D; only these modalities are looked at.
        frames: how many zero frames stand for a modality that is missing.
        positions: whether the Transformer's sinusoids are added.
    """
    values, keep, there = {}, {}, []
    for modality, projection in projections.items():
        observed, features = batch.observed[modality], batch.features[modality]
        if (short := frames - observed.shape[1]) > 0:
            observed = functional.pad(observed, (0, short))
            features = functional.pad(features, (0, 0, 0, short))
        any_seen = observed.any(dim=1)
        slots = torch.arange(observed.shape[1], device=observed.device) < frames
        keep[modality] = observed | (slots & ~any_seen[:, None])
        projected = projection(features.masked_fill(~observed[:, :, None], 0))
        if positions:
            projected = projected + sinusoids(projected.shape[1], projected.shape[2], projected.device)
        values[modality] = projected
        there.append(any_seen)
    return Tokens(values, keep, torch.stack(there, dim=1))


class ModalityAttention(nn.Module):
    """Frames to one size, then attention within each modality: E_m = MHA(X_m, X_m, X_m) (EMMR Eq. 1).

    Args:
        dims: columns of the modalities.
        modalities: those that are looked at.
        size: D.
        heads, dropout, residual: of the attention.
        frames, positions: as in :func:`make_tokens`.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        modalities: Sequence[str] = MODALITIES,
        size: int = 300,
        heads: int = 4,
        dropout: float = 0.0,
        residual: bool = True,
        frames: int = 1,
        positions: bool = False,
    ) -> None:
        super().__init__()
        self.frames, self.positions = frames, positions
        self.projections = nn.ModuleDict({m: nn.Linear(dims[m], size) for m in modalities})
        self.layers = nn.ModuleDict({m: AttentionLayer(size, heads, dropout, residual) for m in modalities})

    def forward(self, batch: Batch) -> Tokens:
        """Return E_m of every modality."""
        tokens = make_tokens(batch, dict(self.projections.items()), self.frames, self.positions)
        values = {m: self.layers[m](values, tokens.keep[m]) for m, values in tokens.values.items()}
        return Tokens(values, tokens.keep, tokens.there)


class CommonSpace(nn.Module):
    """TATE's two-by-two projection: one matrix for each pair of modalities, which both go through.

    A modality is in two pairs; its two results stand side by side, in the order of the other modality.

    Args:
        size: D, an even number: what goes in and comes out.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.pairs = nn.ModuleDict(
            {
                f"{a}_{b}": nn.Linear(size, size // 2, bias=False)
                for i, a in enumerate(MODALITIES)
                for b in MODALITIES[i + 1 :]
            }
        )

    def forward(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return modality -> (B, T_m, D) of the same."""
        return {
            m: torch.cat([layer(v) for name, layer in self.pairs.items() if m in name.split("_")], dim=2)
            for m, v in values.items()
        }


def aligned(whole: Tokens, values: Mapping[str, Tensor], shown: Tokens) -> tuple[Tensor, Tensor]:
    """Bring what was computed of whole samples to the positions of the same samples with something missing.

    A modality that is there stands frame against frame; what stands for one that is missing is compared with
    the mean over the frames that it would have had.

    Args:
        whole: the whole samples.
        values: modality -> (B, T_m, D), computed of them.
        shown: the samples with something missing.

    Returns:
        (B, T, D), modalities behind each other as in ``shown``, and (B, T) bool: the positions that can be
        compared, those of modalities that were recorded.
    """
    targets, counts = [], []
    for index, modality in enumerate(shown.values):
        length = shown.values[modality].shape[1]
        frames, mean = values[modality], masked_mean(values[modality], whole.keep[modality])
        if (short := length - frames.shape[1]) > 0:
            frames = functional.pad(frames, (0, 0, 0, short))
        seen = shown.there[:, index, None, None]
        targets.append(torch.where(seen, frames[:, :length], mean[:, None]))
        counts.append(shown.keep[modality] & whole.there[:, index, None])
    return torch.cat(targets, dim=1), torch.cat(counts, dim=1)


class ImputerSettings(ModelSettings):
    """Choices of AE and CRA.

    Attributes:
        size: of each modality's embedding; three of them side by side are what is reconstructed.
        heads: of the attention within a modality.
        dropout: of the attention weights, and before the label's layer.
        reconstruction_weight: of the mean squared error.
    """

    size: Annotated[int, Field(ge=1)] = 100
    heads: Annotated[int, Field(ge=1)] = 4
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    reconstruction_weight: Annotated[float, Field(gt=0)] = 0.1

    @model_validator(mode="after")
    def _heads_divide_the_size(self) -> ImputerSettings:
        if self.size % self.heads:
            raise ValueError(
                f"found size {self.size} and {self.heads} heads, expected a multiple of the heads"
            )
        return self


class Imputer(Network):
    """Embeddings of the modalities, an autoencoder that makes them whole, the label from its latent vector."""

    Settings: ClassVar[type[ModelSettings]] = ImputerSettings

    def __init__(self, settings: ImputerSettings, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__(settings, dims, outputs)
        self.settings = settings
        self.encoder = ModalityAttention(dims, MODALITIES, settings.size, settings.heads, settings.dropout)
        self.autoencoder, latent = self._build(settings.size * len(MODALITIES))
        self.head = nn.Sequential(nn.Dropout(settings.dropout), nn.Linear(latent, outputs))

    @abstractmethod
    def _build(self, size: int) -> tuple[nn.Module, int]:
        """Return what gives (whole embedding, latent vector) of an embedding (B, size), and the latent size."""

    @classmethod
    def recipe(cls, settings: ImputerSettings) -> dict[str, Any]:
        """Return EMMR's Table 7; the missing rate is a mask of params.yaml, which ``train_on`` names."""
        return {"train_on": "random-condition", "learning_rate": 1e-3, "epochs": 20, "batch_size": 32}

    @classmethod
    def views(cls, settings: ImputerSettings) -> Mapping[str, View]:
        """Return the whole samples, which the reconstruction is compared with."""
        return {"whole": View("whole")}

    def embed(self, batch: Batch) -> Tensor:
        """Return (B, 3 D): the mean of each modality's frames after attention."""
        tokens: Tokens = self.encoder(batch)
        return torch.cat(tokens.means(tokens.values), dim=1)

    def forward(self, batch: Batch) -> Output:
        """Return the prediction, the losses, and the embedding, its reconstruction and the latent vector."""
        embedding = self.embed(batch)
        imagined, joint = self.autoencoder(embedding)
        prediction = self.head(joint)
        losses = task_loss(prediction, batch)
        if losses and "whole" in batch.views:
            with torch.no_grad():
                target = self.embed(batch.views["whole"])
            error = (imagined.float() - target.float()).square().mean()
            losses["reconstruction"] = self.settings.reconstruction_weight * error
        return Output(prediction, losses, {"joint": joint, "embedding": embedding, "imagined": imagined})
