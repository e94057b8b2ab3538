"""The layers that more than one model stands on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

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


def observed_deviation(batch: Batch, modality: str) -> Tensor:
    """Return (B, D), the standard deviation over a modality's observed frames; zeros where there are none.

    A tiny number under the root keeps its gradient finite where a column never changes.
    """
    weights = batch.observed[modality].to(batch.features[modality].dtype)[:, :, None]
    centred = (batch.features[modality] - observed_mean(batch, modality)[:, None]) * weights
    variance = centred.square().sum(dim=1) / weights.sum(dim=1).clamp(min=1)
    return (variance + 1e-12).sqrt() * (weights.sum(dim=1) > 0)


def mlp(sizes: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Return fully connected layers of these sizes, with ReLU (and dropout) between them and none after the
    last."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers[: -2 if dropout else -1])


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
