"""The layers that more than one model stands on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.base import NO_LABEL, Batch

KERNELS = (3, 4, 5)
NO_LENGTH = 1e-5  # a row that is shorter has no direction: rounding errors would give it one
NO_DISTANCE = 1e-12  # a distance below it is 0


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
