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

from models.base import MODALITIES, NO_LABEL, Batch

KERNELS = (3, 4, 5)
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


def sinusoids(count: int, columns: int, device: torch.device) -> Tensor:
    """Return (count, columns) float32, the positions of Vaswani et al. (2017, section 3.5).

    Column 2 i of position p is sin(p / 10000^(2 i / columns)), the one behind it the cosine of the same.
    """
    position = torch.arange(count, device=device, dtype=torch.float32)[:, None]
    even = torch.arange(0, columns, 2, device=device, dtype=torch.float32)
    angles = position * torch.exp(even * (-math.log(10_000.0) / columns))
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :columns]


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
    with torch.autocast(both.device.type, enabled=False):
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
