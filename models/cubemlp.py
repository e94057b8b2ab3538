"""CubeMLP: a cube of time, modality and channel, mixed along one axis after the other by small MLPs.

Paper: Sun, Wang, Liu, Chen, Lin, "CubeMLP: An MLP-based Model for Multimodal Sentiment Analysis and Depression
Estimation", ACM MM 2022. Each modality becomes L steps of 128 channels; the three together are a cube L x 3 x 128.
A block mixes it along time, then along the modalities, then along the channels. What the last block gives is
flattened and read.

From the authors' code (kiva12138/CubeMLP), where the paper leaves it open, with the settings of its command for
CMU-MOSI: audio and video through two bidirectional GRUs of 128, directions summed, LayerNorm and ReLU; text through
one matrix without a bias; sequences filled with zeros up to L = 100; a LayerNorm along the mixed axis before each
MLP, a matrix without a bias as the residual way, biases in the MLPs, dropout 0.1 everywhere; with more than 128
numbers to read, a hidden layer of 128. BERT is trained along at a hundredth of the rate, its layers 0 to 8 frozen:
``text: tokens``, ``frozen_layers: 9``, and ``learning_rates: {text: 4.0e-5}`` of the experiment.

=============================== ============================== ==========================================
..                              paper                          code (``variant: code``), for CMU-MOSI
=============================== ============================== ==========================================
what is read                    the last cube, flattened       the mean over time, modalities side by side
=============================== ============================== ==========================================

Deviations:
- The code's sequences are aligned by words and cut at L. Here each modality has its own rate: one that is longer
  than L is averaged down to L, a shorter one is filled with zeros, as there.
- The code's LayerNorm turns the zeros behind a sequence into its bias; here they stay zeros.
- The rate falls to a tenth after epoch 60 of 70 there; here it goes down in equal steps over the last 10
  (``decay_epochs``).
- The network knows nothing of missing modalities: they are zero vectors, as in the comparisons that use it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from models.base import MODALITIES, Batch, Network, Output
from models.layers import resample, seen_lengths, task_loss
from models.parts import (
    BiRecurrent,
    TextEncoder,
    TextSettings,
    encoder_files,
    positions_before,
    split_parameters,
)

READ_DIRECTLY = 128  # so many numbers need no hidden layer before the prediction
AXES = (1, 2, 3)  # of (B, L, 3, channels): time, modality, channel

Size = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


class CubeMLPSettings(TextSettings):
    """CubeMLP's settings; the defaults are the authors' for CMU-MOSI.

    Attributes:
        steps: L, the cube's length.
        channels: of the cube, and of each direction of the GRUs.
        blocks: the sizes [time, modality, channel] that each block gives; its MLPs are as wide inside.
        dropout: in the MLPs, behind the encoders and before the last layer.
        norm: the LayerNorm stands ``first``, before each MLP, or ``last``, behind its sum with the residual way.
        variant: what is read in the end; see the module.
    """

    steps: Size = 100
    channels: Size = 128
    blocks: Annotated[tuple[tuple[Size, Size, Size], ...], Field(min_length=1)] = ((50, 3, 128), (10, 3, 32))
    dropout: Share = 0.1
    norm: Literal["first", "last"] = "first"
    variant: Literal["paper", "code"] = "paper"


class Mixer(nn.Module):
    """An MLP along one axis of the cube, beside a residual way, whose size may change there."""

    def __init__(self, axis: int, before: int, after: int, dropout: float, first: bool) -> None:
        super().__init__()
        self.axis, self.first = axis, first
        self.norm = nn.LayerNorm(before if first else after, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(before, after), nn.GELU(), nn.Linear(after, after))
        self.residual = nn.Linear(before, after, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, cube: Tensor) -> Tensor:
        """Return the cube (B, L, 3, channels) with another size along the axis."""
        values = cube.movedim(self.axis, -1)
        inside = self.norm(values) if self.first else values
        mixed = self.dropout(self.mlp(inside)) + self.residual(values)
        return (mixed if self.first else self.norm(mixed)).movedim(-1, self.axis)


class Frames(nn.Module):
    """Audio or video to the cube's channels: two bidirectional GRUs, their directions summed, LayerNorm, ReLU."""

    def __init__(self, columns: int, channels: int) -> None:
        super().__init__()
        self.first = BiRecurrent(columns, channels, nn.GRU)
        self.second = BiRecurrent(2 * channels, channels, nn.GRU)
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Return (B, T, channels) of (B, T, D)."""
        states, _ = self.second(self.first(values, lengths)[0], lengths)
        ahead, back = states.chunk(2, dim=2)
        return torch.relu(self.norm(ahead + back))


class Model(Network):
    """CubeMLP. ``outputs`` is the number of classes, or 1 for a regression."""

    Settings = CubeMLPSettings

    def __init__(self, settings: CubeMLPSettings, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__(settings, dims, outputs)
        self.settings = settings
        self.text = TextEncoder(settings, dims["text"])
        self.project = nn.Linear(self.text.size, settings.channels, bias=False)
        self.audio = Frames(dims["audio"], settings.channels)
        self.video = Frames(dims["video"], settings.channels)
        self.dropout = nn.Dropout(settings.dropout)
        size = (settings.steps, len(MODALITIES), settings.channels)
        mixers: list[nn.Module] = []
        for after in settings.blocks:
            mixers += [
                Mixer(axis, size[axis - 1], after[axis - 1], settings.dropout, settings.norm == "first")
                for axis in AXES
            ]
            size = after
        self.mixers = nn.Sequential(*mixers)
        time, modality, channel = size
        read = modality * channel * (time if settings.variant == "paper" else 1)
        self.head: nn.Module = nn.Linear(read, outputs)
        if read > READ_DIRECTLY:
            self.head = nn.Sequential(
                nn.Linear(read, READ_DIRECTLY),
                nn.ReLU(),
                nn.Dropout(settings.dropout),
                nn.Linear(READ_DIRECTLY, outputs),
            )

    @classmethod
    def recipe(cls, settings: CubeMLPSettings) -> dict[str, Any]:
        """Return the authors' training for CMU-MOSI."""
        return {
            "learning_rate": 4e-3,
            "batch_size": 128,
            "epochs": 70,
            "decay_epochs": 10,
            "clip_value": 1.0,
        }

    @classmethod
    def files(cls, settings: CubeMLPSettings) -> Sequence[Path]:
        """Return the text encoder's files, when it is trained along."""
        return encoder_files(settings)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the groups text (BERT, where it is trained along) and rest."""
        return split_parameters(self, {"text": self.text})

    def forward(self, batch: Batch) -> Output:
        """Return prediction, loss, and what is read, ``joint`` (B, numbers)."""
        mixed = self.mixers(self.cube(batch))
        joint = mixed.flatten(1) if self.settings.variant == "paper" else mixed.mean(dim=1).flatten(1)
        prediction = self.head(joint)
        return Output(prediction, task_loss(prediction, batch), {"joint": joint})

    def cube(self, batch: Batch) -> Tensor:
        """Return (B, L, 3, channels), zeros behind each sequence."""
        states, lengths = self.text.sequence(batch)
        if self.text.bert is None:
            lengths = seen_lengths(batch, "text")
        text, _, counted = self._shortened(states, lengths)
        sides = [self._filled(self.project(text), counted)]
        for modality, encoder in (("audio", self.audio), ("video", self.video)):
            lengths = seen_lengths(batch, modality)
            values, steps, counted = self._shortened(batch.features[modality], lengths)
            sides.append(self._filled(encoder(values, steps), counted))
        return torch.stack(sides, dim=2)

    def _shortened(self, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return at most L steps of each sequence (B, S, D), how many (B,), and (B, S) bool, where they are."""
        steps = lengths.clamp(max=self.settings.steps)
        longest = min(values.shape[1], self.settings.steps)
        every = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        short, _ = resample(values, every, lengths, steps, longest)
        return short, steps, positions_before(steps, longest)

    def _filled(self, values: Tensor, counted: Tensor) -> Tensor:
        """Return (B, L, channels), zeros where nothing counts."""
        clean = self.dropout(values) * counted[:, :, None].to(values.dtype)
        return functional.pad(clean, (0, 0, 0, self.settings.steps - values.shape[1]))
