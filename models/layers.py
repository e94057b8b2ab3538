"""The layers that more than one model stands on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.base import NO_LABEL, Batch

KERNELS = (3, 4, 5)


class LSTMEncoder(nn.Module):
    """One-layer LSTM, then the maximum over time (MMIN section 4.3, EncA and EncV).

    Args:
        columns: D of the frames.
        hidden: H of the result.
    """

    def __init__(self, columns: int, hidden: int = 128) -> None:
        super().__init__()
        self.lstm = nn.LSTM(columns, hidden, batch_first=True)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Encode (B, T, D) frames, of which the first ``lengths`` (B,) count, as (B, H)."""
        states, _ = self.lstm(values)
        return masked_max(states, lengths)


class TextCNN(nn.Module):
    """Convolutions over 3, 4 and 5 words, each with its maximum over time, then one layer (Kim 2014; MMIN,
    EncT).

    Args:
        columns: D of the words.
        hidden: H of the result, and the channels of each convolution.
    """

    def __init__(self, columns: int, hidden: int = 128) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv1d(columns, hidden, size) for size in KERNELS)
        self.output = nn.Sequential(nn.Linear(len(KERNELS) * hidden, hidden), nn.ReLU())

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Encode (B, T, D) words, of which the first ``lengths`` (B,) count, as (B, H).

        A text shorter than a kernel is filled with zero words up to the kernel's size and gives one position;
        a longer one gives only the positions that lie within it.
        """
        short = max(0, max(KERNELS) - values.shape[1])
        beyond = torch.arange(values.shape[1], device=values.device) >= lengths[:, None]
        words = functional.pad(values.masked_fill(beyond[:, :, None], 0), (0, 0, 0, short)).transpose(1, 2)
        pooled = []
        for size, convolution in zip(KERNELS, self.convolutions, strict=True):
            positions = (lengths - size + 1).clamp(min=1)
            pooled.append(masked_max(convolution(words).transpose(1, 2), positions))
        return self.output(torch.relu(torch.cat(pooled, dim=1)))


def masked_max(values: Tensor, lengths: Tensor) -> Tensor:
    """Return (B, H), the maximum of (B, T, H) over the first ``lengths`` (B,) steps: padding never wins."""
    padding = torch.arange(values.shape[1], device=values.device) >= lengths[:, None]
    return values.masked_fill(padding[:, :, None], float("-inf")).amax(dim=1)


def encode_present(
    encoder: Callable[[Tensor, Tensor], Tensor],
    values: Tensor,
    lengths: Tensor,
    present: Tensor,
    present_cpu: Tensor | None = None,
) -> Tensor:
    """Encode a modality, running the encoder once for all samples that lack it.

    A missing modality is one zero frame for every sample (:func:`models.base.drop_modalities`), so its
    embedding is computed once and shared; the result is the same as that of encoding every row.

    Args:
        encoder: (B, T, D), (B,) -> (B, H).
        values: (B, T, D).
        lengths: (B,).
        present: (B,) bool.
        present_cpu: the same on the CPU; without it the device is asked, and waited for.

    Returns:
        (B, H).
    """
    rows = _rows_of(present if present_cpu is None else present_cpu).to(values.device, non_blocking=True)
    if len(rows) == len(present):
        return encoder(values, lengths)
    nothing = encoder(values.new_zeros(1, 1, values.shape[2]), lengths.new_ones(1))
    if not len(rows):
        return nothing.expand(len(present), -1)
    encoded = torch.cat([nothing, encoder(values[rows], lengths[rows])])
    return encoded[torch.cumsum(present, dim=0) * present]  # 0, the missing one, or the sample's own


@torch.compiler.disable
def _rows_of(present: Tensor) -> Tensor:
    return torch.from_numpy(np.flatnonzero(present.cpu().numpy()))


def observed_mean(batch: Batch, modality: str) -> Tensor:
    """Return (B, D), the mean of a modality's observed frames; zeros where there are none."""
    weights = batch.observed[modality].to(batch.features[modality].dtype)[:, :, None]
    total = (batch.features[modality] * weights).sum(dim=1)
    return total / weights.sum(dim=1).clamp(min=1)


def mlp(sizes: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Return fully connected layers of these sizes, with ReLU (and dropout) between them and none after the
    last."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers[: -2 if dropout else -1])


class ResidualAutoencoder(nn.Module):
    """An autoencoder whose output is added to its input by whoever calls it (Tran et al. 2017; MMIN Eq. 2).

    Args:
        sizes: from the input to the latent vector; ReLU stands behind every one but the first.
        back: from the latent vector to the output; none: the same sizes turned around.
        positive: whether ReLU stands behind the output, too.
    """

    def __init__(
        self, sizes: Sequence[int], back: Sequence[int] | None = None, positive: bool = False
    ) -> None:
        super().__init__()
        self.encoder = nn.Sequential(mlp(sizes), nn.ReLU())
        decoder = mlp(tuple(back or tuple(sizes)[::-1]))
        self.decoder = nn.Sequential(decoder, nn.ReLU()) if positive else decoder

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output (..., D) and the latent vector (..., L) of (..., D)."""
        latent = self.encoder(values)
        return self.decoder(latent), latent


class CascadeResidualAutoencoder(nn.Module):
    """Every block sees the input plus the outputs of all blocks before it (Tran et al. 2017; MMIN Eqs. 2, 3).

    Args:
        blocks: B, how many residual autoencoders.
        sizes, back, positive: of each, as in :class:`ResidualAutoencoder`.
        transition: MMIN's reference code has Linear-ReLU-Linear after the cascade.
    """

    def __init__(
        self,
        blocks: int,
        sizes: Sequence[int],
        back: Sequence[int] | None = None,
        positive: bool = False,
        transition: bool = False,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualAutoencoder(sizes, back, positive) for _ in range(blocks))
        self.transition = mlp((sizes[0],) * 3) if transition else nn.Identity()

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Return input + all outputs, (..., D), and the latent vectors side by side, (..., B * L)."""
        total, latents = embedding, []
        for block in self.blocks:
            output, latent = block(total)
            total = total + output
            latents.append(latent)
        return self.transition(total), torch.cat(latents, dim=-1)


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2), with dropout on its weights.

    Written out, for PyTorch's fused kernels have no second derivative (M3S with ``order: second``).

    Args:
        size: D of queries, keys and the result.
        heads: H; D is a multiple of it.
        dropout: of the attention weights.
    """

    def __init__(self, size: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size, bias=False)  # which would add the same to all scores of a query
        self.value, self.output = nn.Linear(size, size), nn.Linear(size, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, memory: Tensor, keep: Tensor) -> Tensor:
        """Return (B, Q, D): what each query reads from the memory.

        Args:
            queries: (B, Q, D).
            memory: (B, T, D).
            keep: (B, T) bool, which of the memory may be read; one of each sample at least.
        """
        weights = self.dropout(self.weights(queries, memory, keep))
        read = weights @ self.split(self.value(memory))
        return self.output(read.transpose(1, 2).flatten(2))

    def weights(self, queries: Tensor, memory: Tensor, keep: Tensor) -> Tensor:
        """Return (B, H, Q, T): how much of each query's attention goes where; 0 where nothing may be read."""
        scores = self.split(self.query(queries)) @ self.split(self.key(memory)).transpose(2, 3)
        scores = scores / math.sqrt(queries.shape[2] / self.heads)
        return scores.masked_fill(~keep[:, None, None], float("-inf")).softmax(dim=3)

    def split(self, values: Tensor) -> Tensor:
        """Return (B, H, T, D / H) of (B, T, D)."""
        return values.unflatten(2, (self.heads, -1)).transpose(1, 2)


class AttentionLayer(nn.Module):
    """Multi-head attention as a layer of the Transformer: LayerNorm(x + MHA(x, memory)), or MHA alone.

    Args:
        size, heads, dropout: of :class:`Attention`.
        residual: whether the input is added and the sum normalised.
    """

    def __init__(self, size: int, heads: int, dropout: float = 0.0, residual: bool = True) -> None:
        super().__init__()
        self.attention = Attention(size, heads, dropout)
        self.norm = nn.LayerNorm(size) if residual else None

    def forward(self, values: Tensor, keep: Tensor, memory: Tensor | None = None) -> Tensor:
        """Return (B, Q, D); the memory, (B, T, D) with keep (B, T), is the input itself unless given."""
        read = self.attention(values, values if memory is None else memory, keep)
        return read if self.norm is None else self.norm(values + read)


class FeedForwardLayer(nn.Module):
    """A Transformer's two layers at each position: LayerNorm(x + FFN(x)), or FFN alone.

    Args:
        size: D.
        inner: of the hidden layer.
        dropout: behind the hidden layer.
        residual: whether the input is added and the sum normalised.
    """

    def __init__(self, size: int, inner: int, dropout: float = 0.0, residual: bool = True) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(size, inner), nn.ReLU(), nn.Dropout(dropout), nn.Linear(inner, size)
        )
        self.norm = nn.LayerNorm(size) if residual else None

    def forward(self, values: Tensor) -> Tensor:
        """Return (..., D) of (..., D)."""
        read: Tensor = self.layers(values)
        return read if self.norm is None else self.norm(values + read)


class TransformerLayer(nn.Module):
    """FFN(MHA(x, x, x)), with what stands around them in the Transformer, or without (EMMR Eq. 7).

    Args:
        size, heads, dropout, residual: of :class:`AttentionLayer`.
        inner: of the FFN's hidden layer.
        hidden_dropout: behind that; none: the same dropout.
    """

    def __init__(
        self,
        size: int,
        heads: int,
        inner: int,
        dropout: float = 0.0,
        residual: bool = True,
        hidden_dropout: float | None = None,
    ) -> None:
        super().__init__()
        self.attention = AttentionLayer(size, heads, dropout, residual)
        behind = dropout if hidden_dropout is None else hidden_dropout
        self.feed_forward = FeedForwardLayer(size, inner, behind, residual)

    def forward(self, values: Tensor, keep: Tensor) -> Tensor:
        """Return (B, T, D) of (B, T, D), of which the (B, T) that are True may be read."""
        return self.feed_forward(self.attention(values, keep))


def sinusoids(length: int, size: int, device: torch.device | None = None) -> Tensor:
    """Return (T, D): the Transformer's positions, sin and cos in turn (Vaswani et al. 2017, section 3.5)."""
    columns = torch.arange(size, device=device)
    rates = torch.exp((columns - columns % 2) * (-math.log(10_000.0) / size))
    angles = torch.arange(length, device=device)[:, None] * rates
    return torch.where(columns % 2 == 0, angles.sin(), angles.cos())


class GatedPooling(nn.Module):
    """One vector of many: their mean, weighted by softmax(w (U x * sigmoid(V x))) (EMMR's and TATE's code)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.content = nn.Linear(size, size, bias=False)
        self.gate = nn.Linear(size, size, bias=False)
        self.score = nn.Linear(size, 1, bias=False)

    def forward(self, values: Tensor, keep: Tensor) -> Tensor:
        """Return (B, D) of (B, T, D); keep (B, T) bool has one True in each row at least."""
        scores = self.score(self.content(values) * torch.sigmoid(self.gate(values))).squeeze(2)
        weights = scores.masked_fill(~keep, float("-inf")).softmax(dim=1)
        return (weights[:, None] @ values).squeeze(1)


def sequence_distance(
    first: Tensor,
    second: Tensor,
    keep: Tensor,
    kind: Literal["kl", "mae", "cosine"] = "kl",
    over: Literal["features", "time"] = "features",
) -> Tensor:
    """Return how far two sequences of vectors are apart: the mean over positions, then over samples.

    ``kl``: both become distributions by a softmax; half the divergence each way, (KL(p|q) + KL(q|p)) / 2 =
    sum (p - q)(log p - log q) / 2 (EMMR Eqs. 15 and 16). ``mae``: the mean absolute difference. ``cosine``: 1 - the
    cosine.

    Args:
        first, second: (B, T, D).
        keep: (B, T) bool: the positions that count. A sample without any has the distance 0.
        kind: which distance.
        over: what the softmax of ``kl`` runs over: the D features of each position, or the T positions of each
            feature.
    """
    first, second = first.float(), second.float()
    if kind == "kl" and over == "time":
        hidden = ~keep[:, :, None]
        p = first.masked_fill(hidden, -1e9).log_softmax(dim=1)
        q = second.masked_fill(hidden, -1e9).log_softmax(dim=1)
        apart = ((p.exp() - q.exp()) * (p - q)).masked_fill(hidden, 0.0)
        return apart.sum(dim=1).mean() / 2
    if kind == "kl":
        p, q = first.log_softmax(dim=2), second.log_softmax(dim=2)
        each = ((p.exp() - q.exp()) * (p - q)).sum(dim=2) / 2
    elif kind == "mae":
        each = (first - second).abs().mean(dim=2)
    else:
        squares = first.square().sum(dim=2) * second.square().sum(dim=2)
        each = 1 - (first * second).sum(dim=2) * (squares + 1e-12).rsqrt()
    return ((each * keep).sum(dim=1) / keep.sum(dim=1).clamp(min=1)).mean()


def task_loss(prediction: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Return the loss of the task itself by its name: cross-entropy of classes, L1 of scores, or nothing to
    train on. Turns of a dialogue that are context only do not count.

    Args:
        prediction: (B, C) logits, or (B, 1) scores.
        batch: with labels, or with scores, or without either.
    """
    counted = None if batch.dialogues is None else batch.dialogues.labelled
    if batch.labels is not None:
        logits = prediction.float()
        if counted is None:
            return {"classification": functional.cross_entropy(logits, batch.labels)}
        total = functional.cross_entropy(logits, batch.labels, reduction="sum", ignore_index=NO_LABEL)
        return {"classification": total / counted.sum().clamp(min=1)}
    if batch.scores is not None:
        scores = prediction.float().squeeze(1)
        if counted is None:
            return {"regression": functional.l1_loss(scores, batch.scores)}
        return {"regression": ((scores - batch.scores).abs() * counted).sum() / counted.sum().clamp(min=1)}
    return {}
