"""The layers that more than one model stands on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.base import MODALITIES, NO_LABEL, Batch

KERNELS = (3, 4, 5)
NO_LENGTH = 1e-5  # a row that is shorter has no direction: rounding errors would give it one
NO_DISTANCE = 1e-12  # a distance below it is 0
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # factors on the median, of the kernel ``sum``


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
        dropout: between the maxima and the layer.
    """

    def __init__(self, columns: int, hidden: int = 128, dropout: float = 0.0) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv1d(columns, hidden, size) for size in KERNELS)
        self.dropout = nn.Dropout(dropout)
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
        return self.output(self.dropout(torch.relu(torch.cat(pooled, dim=1))))


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
    embedding is computed once and shared; the result is the same as that of encoding every row. With dropout
    in the encoder it is not, since then the samples would share one draw: leave this out while it is on.

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


@torch._disable_dynamo  # torch.compiler.disable, but torch's compiler loads when it is first called: 1.3 s of CPU
def _rows_of(present: Tensor) -> Tensor:
    return torch.from_numpy(np.flatnonzero(present.cpu().numpy()))


def observed_mean(batch: Batch, modality: str) -> Tensor:
    """Return (B, D), the mean of a modality's observed frames; zeros where there are none."""
    weights = batch.observed[modality].to(batch.features[modality].dtype)[:, :, None]
    total = (batch.features[modality] * weights).sum(dim=1)
    return total / weights.sum(dim=1).clamp(min=1)


def observed_deviation(batch: Batch, modality: str) -> Tensor:
    """Return (B, D), the standard deviation over a modality's observed frames; zeros where there are none.

    A tiny number under the root keeps its gradient finite where a column never changes.
    """
    weights = batch.observed[modality].to(batch.features[modality].dtype)[:, :, None]
    centred = (batch.features[modality] - observed_mean(batch, modality)[:, None]) * weights
    variance = centred.square().sum(dim=1) / weights.sum(dim=1).clamp(min=1)
    return (variance + 1e-12).sqrt() * (weights.sum(dim=1) > 0)


def mlp(
    sizes: Sequence[int], dropout: float = 0.0, activation: Callable[[], nn.Module] = nn.ReLU
) -> nn.Sequential:
    """Return fully connected layers of these sizes, with ReLU (and dropout) between them and none after the
    last.

    Args:
        sizes: of the input, of each hidden layer, of the result.
        dropout: behind each activation.
        activation: makes another one than ReLU.
    """
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), activation()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers[: -2 if dropout else -1])


class ResidualAutoencoder(nn.Module):
    """An autoencoder whose output is added to its input by whoever calls it (Tran et al. 2017; MMIN Eq. 2).

    Args:
        sizes: from the input to the latent vector; ReLU stands behind every one but the first.
        back: from the latent vector to the output; none: the same sizes turned around.
        positive: whether ReLU stands behind the output, too.
        leaky: as MMIN's reference code has it: LeakyReLU in the encoder, and nothing behind the latent vector.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        back: Sequence[int] | None = None,
        positive: bool = False,
        leaky: bool = False,
    ) -> None:
        super().__init__()
        encoder = (mlp(sizes, activation=nn.LeakyReLU),) if leaky else (mlp(sizes), nn.ReLU())
        self.encoder = nn.Sequential(*encoder)
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
        sizes, back, positive, leaky: of each, as in :class:`ResidualAutoencoder`.
        transition: MMIN's reference code has Linear-ReLU-Linear after the cascade.
    """

    def __init__(
        self,
        blocks: int,
        sizes: Sequence[int],
        back: Sequence[int] | None = None,
        positive: bool = False,
        leaky: bool = False,
        transition: bool = False,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualAutoencoder(sizes, back, positive, leaky) for _ in range(blocks))
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


def task_loss(prediction: Tensor, batch: Batch, squared: bool = False) -> dict[str, Tensor]:
    """Return the loss of the task itself by its name: cross-entropy of classes, L1 of scores, or nothing to
    train on. Turns of a dialogue that are context only do not count.

    Args:
        prediction: (B, C) logits, or (B, 1) scores.
        batch: with labels, or with scores, or without either.
        squared: take the squared error of scores, not the absolute one.
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
            measure = functional.mse_loss if squared else functional.l1_loss
            return {"regression": measure(scores, batch.scores)}
        apart = scores - batch.scores
        errors = apart.square() if squared else apart.abs()
        return {"regression": (errors * counted).sum() / counted.sum().clamp(min=1)}
    return {}


def full_precision(values: Tensor) -> AbstractContextManager[None]:
    """Return a context without autocast, for what needs all of float32: determinants, logarithms, divisions by
    small numbers. Operands must be made float32 by hand (``.float()``)."""
    return torch.autocast(values.device.type, enabled=False)


def unit_rows(values: Tensor) -> Tensor:
    """Return (B, D) rows brought to length 1, in float32; a row shorter than :data:`NO_LENGTH` becomes zeros.

    The gradient of such a row is 0, and so is every further one: dividing by a length that is a rounding error
    would make it 1e12.
    """
    rows = values.float()
    squares = rows.square().sum(dim=1, keepdim=True)
    there = squares > NO_LENGTH**2
    return torch.where(there, rows, 0) / torch.where(there, squares, 1).sqrt()


def distance(gap: Tensor) -> Tensor:
    """Return the length of a vector (D,), in float32, as a scalar with gradients of any order.

    Below :data:`NO_DISTANCE` it is 0 with a gradient of 0: that of a square root at 0 is infinite.
    """
    gap = gap.float()
    largest = gap.detach().abs().amax()  # so that no square is too small for float32
    there = largest > NO_DISTANCE
    scale = torch.where(there, largest, 1)
    squares = (gap / scale).square().sum()
    return torch.where(there, torch.where(there, squares, 1).sqrt() * scale, 0)


def initialise(network: nn.Module, draw: Callable[[Tensor], object]) -> None:
    """Draw the weights of all convolutions and fully connected layers anew, and set their biases to 0.

    Recurrent layers stay as they are.

    Args:
        network: whose layers.
        draw: fills a weight in place.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d):
            draw(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def observed_counts(batch: Batch) -> Tensor:
    """Return (B, 3) int64: how many frames of text, audio and video were observed."""
    return torch.stack([batch.observed[modality].sum(dim=1) for modality in MODALITIES], dim=1)


def seen_lengths(batch: Batch, modality: str) -> Tensor:
    """Return (B,) int64, a modality's lengths, and 1 where no frame was observed.

    So a modality whose frames are all dropped is the same as one that is missing (one zero frame).
    """
    lengths = batch.lengths[modality]
    return torch.where(batch.observed[modality].any(dim=1), lengths, torch.ones_like(lengths))


def resample(
    values: Tensor, counted: Tensor, lengths: Tensor, steps: Tensor, longest: int
) -> tuple[Tensor, Tensor]:
    """Bring sequences of T_b frames to S_b steps: step s is the mean of the frames floor(s T_b / S_b) to
    ceil((s + 1) T_b / S_b), as far as they count.

    A sequence longer than S_b is averaged, a shorter one repeated, one of S_b frames stays as it is.

    Args:
        values: (B, T, D); what stands behind ``lengths`` is not read.
        counted: (B, T) bool, which frames count; the others leave no trace.
        lengths: (B,) int64, T_b.
        steps: (B,) int64, S_b, at least 1.
        longest: S, at least the largest of them.

    Returns:
        (B, S, D), zeros where nothing counts and behind S_b; and (B, S) bool, where something does.
    """
    index = torch.arange(longest, device=values.device)
    begins = (index * lengths[:, None]) // steps[:, None]
    ends = -(-((index + 1) * lengths[:, None]) // steps[:, None])
    frames = torch.arange(values.shape[1], device=values.device)
    counted = counted & (frames < lengths[:, None])
    inside = (frames >= begins[:, :, None]) & (frames < ends[:, :, None]) & counted[:, None, :]
    inside = inside & (index < steps[:, None])[:, :, None]
    clean = values.masked_fill(~counted[:, :, None], 0)
    sizes = inside.sum(dim=2, keepdim=True)
    return torch.bmm(inside.to(values.dtype), clean) / sizes.clamp(min=1), sizes.squeeze(2) > 0


class CrossAttention(nn.Module):
    """Attention of one sequence to another, with several heads (Vaswani et al. 2017, sections 3.2.1 and 3.2.2).

    Without biases, so that a row with nothing to attend to gives exactly zeros.

    Args:
        columns: d of both sequences and of the result.
        heads: of which d is a multiple.
        dropout: of the result (section 5.4). The weights have none, so that no kernel has to write them down.
    """

    def __init__(self, columns: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = nn.Dropout(dropout)
        self.query = nn.Linear(columns, columns, bias=False)
        self.key_value = nn.Linear(columns, 2 * columns, bias=False)
        self.output = nn.Linear(columns, columns, bias=False)

    def forward(self, target: Tensor, source: Tensor, counted: Tensor) -> Tensor:
        """Return (B, T, d): what each step of the target finds in the source.

        Args:
            target: (B, T, d), asks.
            source: (B, S, d), is asked.
            counted: (B, S) bool, which of its steps may be attended to; where none may, the result is zeros.
        """
        some = counted.any(dim=1)
        allowed = (counted | ~some[:, None])[:, None, None, :]  # a softmax over nothing would not be a number
        keys, values = (self._split(part) for part in self.key_value(source).chunk(2, dim=2))
        asked = self._split(self.query(target))
        found = functional.scaled_dot_product_attention(asked, keys, values, attn_mask=allowed)
        found = found * some[:, None, None, None].to(found.dtype)
        return self.dropout(self.output(found.transpose(1, 2).flatten(2)))

    def _split(self, values: Tensor) -> Tensor:
        """Return (B, heads, T, d / heads)."""
        return values.unflatten(2, (self.heads, -1)).transpose(1, 2)


def mmd(
    first: Tensor,
    second: Tensor,
    kernel: Literal["gaussian", "sum", "linear"] = "gaussian",
    unbiased: bool = False,
) -> Tensor:
    """Return the squared maximum mean discrepancy of two samples (Gretton et al. 2012), a scalar in float32.

    Args:
        first, second: (B, D), as many of each.
        kernel: ``gaussian``: exp(-|x - y|^2 / m), with m the median squared distance between two different
            members of both samples together, taken as a constant; ``sum``: the mean of five such kernels with
            m times 0.25, 0.5, 1, 2, 4 (Long et al. 2015 take several); ``linear``: x y.
        unbiased: Gretton's Eq. 4, which leaves i = j out of all sums, may be negative, and is 0 for a single
            pair; else Eq. 5, the distance of the means in the kernel's space.
    """
    count = len(first)
    both = torch.cat([first, second]).float()
    with full_precision(both):
        products = both @ both.T
        if kernel == "linear":
            similar = products
        else:
            squares = products.diagonal()
            distances = (squares[:, None] + squares[None, :] - 2 * products).clamp(min=0)
            factors = BANDWIDTHS if kernel == "sum" else (1.0,)
            width = _median_apart(distances.detach())
            similar = torch.stack([torch.exp(-distances / (width * factor)) for factor in factors]).mean(
                dim=0
            )
        same = similar[:count, :count] + similar[count:, count:]
        across = similar[:count, count:] + similar[count:, :count]
        terms = same - across
        if unbiased:
            return (terms.sum() - terms.diagonal().sum()) / max(count * (count - 1), 1)
        return terms.mean()


def _median_apart(distances: Tensor) -> Tensor:
    """Return the median of what stands above the diagonal of (N, N); 1 where that is 0."""
    size = len(distances)
    rows, columns = torch.triu_indices(size, size, offset=1, device=distances.device)
    median = distances[rows, columns].median()
    return torch.where(median > 0, median, torch.ones_like(median))


def jensen_shannon(first: Tensor, second: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of two distributions each, the mean over samples: in [0, log 2].

    Args:
        first, second: (B, C) logits.
    """
    a, b = first.float().log_softmax(dim=1), second.float().log_softmax(dim=1)
    middle = torch.logaddexp(a, b) - math.log(2)
    return 0.5 * (a.exp() * (a - middle) + b.exp() * (b - middle)).sum(dim=1).mean()
