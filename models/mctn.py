"""MCTN, the Multimodal Cyclic Translation Network: one network for each missing condition.

Paper: Pham, Liang, Manzini, Morency, Poczos, "Found in Translation: Learning Robust Joint Representations by
Cyclic Translations Between Modalities", AAAI 2019. A sequence-to-sequence network with attention translates
the *source* into the first target and back (the cycle); the encoder's states on the way are the joint
representation. It is translated on into the second target, without a cycle, and the second encoder's states are
what the label is read from. Only the source is needed at test. The table of MMIN (Table 5) has one such network
for each of its six conditions.

20 steps. Loss: task + 0.1 * each translation's mean squared error. Adam 1e-4, batches of 32, patience 20. What
the paper leaves open is chosen here (``variant: paper``) as usual for such networks; with ``variant: code`` each
of these is the choice of the authors' code (hainow/MCTN):

=================== ================================== ==========================================
..                  paper                              code
=================== ================================== ==========================================
encoders            biLSTM of 32, directions side by   biLSTM of 32, directions summed: 32
                    side: 64
decoders            LSTM of 32 that reads its own      LSTM of 32 that reads no output; starts from
                    last output; starts from the       zeros; scores by one layer of state and cell;
                    last state; additive attention     tanh closes the output
way back            an encoder and decoder of its own  the same encoder and decoder; all modalities
                                                       are filled with zeros to one width
read from           the last state of an LSTM of 32    all states of an LSTM of 32, by attention
penalty             none                               0.01 * the squared weights of the last layer
=================== ================================== ==========================================

The losses of the translations need the targets: they come from the batch's complement, or from the batch itself
where it shows more than the source.

Deviations:
- Every sequence is averaged down (or repeated) to 20 steps, where the paper cuts and pads word-aligned ones:
  here modalities have rates of their own. So padding has no place in the network.
- A decoder is fed its own outputs in training as at test: what it meets is the same, and no target is needed.
  (One public port feeds it the targets at test as well.)
- Two source modalities, which the paper does not have but MMIN's table needs, stand side by side in each
  of the 20 steps. There is one target then, and no second translation.
- The reference code splits by sorted ids, and the forget gate of its decoder reuses another gate's sum: neither
  is in any variant. Its gates are the hard sigmoids of the Keras of its time, here they are sigmoids; its weights
  at the start are Keras's, here PyTorch's; and it divides the video by its largest value, where here every
  modality is normalised, so that a tanh reaches less of a target than there.
- The reference stops by the sum of all losses on its validation part, here by ``select_by``.
- Classification by cross-entropy beside the paper's regression (L1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from models import layers
from models.base import MODALITIES, MODEL_A_CONDITION, Batch, ModelSettings, Network, Output, View
from models.layers import task_loss

LETTERS = {"t": "text", "a": "audio", "v": "video"}
Weight = Annotated[float, Field(ge=0)]


class MCTNSettings(ModelSettings):
    """Choices of MCTN.

    Attributes:
        source: the modalities that are there at test: a audio, v video, t text.
        targets: what it is translated into, the first one with a cycle; empty: the others, in the order text,
            audio, video.
        steps: into how many every sequence is averaged.
        hidden: of the LSTMs, a direction.
        forward_weight, backward_weight, second_weight: of the translations' losses.
        variant: the network; see the module.
        penalty: of the squared weights of the last layer; none: as the variant has it.
    """

    source: Literal["a", "v", "t", "av", "at", "vt"] = "t"
    targets: tuple[Literal["text", "audio", "video"], ...] = ()
    steps: Annotated[int, Field(ge=1)] = 20
    hidden: Annotated[int, Field(ge=1)] = 32
    forward_weight: Weight = 0.1
    backward_weight: Weight = 0.1
    second_weight: Weight = 0.1
    variant: Literal["paper", "code"] = "paper"
    penalty: Weight | None = None

    @model_validator(mode="after")
    def _targets_are_others(self) -> MCTNSettings:
        given = {LETTERS[letter] for letter in self.source}
        if len(set(self.targets)) < len(self.targets) or given & set(self.targets):
            raise ValueError(
                f"found the targets {list(self.targets)}, expected different ones that are not the source "
                f"({self.source})"
            )
        return self


class Encoder(nn.Module):
    """A sequence to its states.

    Args:
        columns: D of the sequence.
        hidden: H of a direction.
        summed: whether the states of both directions are added up.
    """

    def __init__(self, columns: int, hidden: int, summed: bool = False) -> None:
        super().__init__()
        self.lstm = nn.LSTM(columns, hidden, batch_first=True, bidirectional=True)
        self.summed = summed

    def forward(self, values: Tensor) -> Tensor:
        """Return the states of (B, S, D): (B, S, 2 H), or (B, S, H) when they are summed."""
        states: Tensor
        states, _ = self.lstm(values)
        return states.unflatten(2, (2, -1)).sum(dim=2) if self.summed else states


class Decoder(nn.Module):
    """States to another modality's sequence, attending to them at every step."""

    def __init__(self, columns: int, hidden: int) -> None:
        super().__init__()
        self.keys = nn.Linear(2 * hidden, hidden)
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.cell = nn.LSTMCell(columns + 2 * hidden, hidden)
        self.start = nn.Linear(2 * hidden, hidden)
        self.output = nn.Linear(3 * hidden, columns)

    def forward(self, states: Tensor) -> Tensor:
        """Return (B, S, D) of the states (B, S, 2 H), fed with nothing but its own outputs."""
        keys = self.keys(states)
        hidden = torch.tanh(self.start(states[:, -1]))
        cell = torch.zeros_like(hidden)
        value = states.new_zeros(len(states), self.output.out_features)
        outputs = []
        for _ in range(states.shape[1]):
            weights = torch.softmax(self.score(torch.tanh(keys + self.query(hidden)[:, None])), dim=1)
            context = (weights * states).sum(dim=1)
            hidden, cell = self.cell(torch.cat([value, context], dim=1), (hidden, cell))
            value = self.output(torch.cat([hidden, context], dim=1))
            outputs.append(value)
        return torch.stack(outputs, dim=1)


class CodeDecoder(nn.Module):
    """The decoder of the authors' code: it sees the states alone, through the weights that its cell gives them."""

    def __init__(self, columns: int, hidden: int) -> None:
        super().__init__()
        self.score = nn.Linear(2 * hidden, 1)
        self.cell = nn.LSTMCell(hidden, hidden)
        self.output = nn.Linear(hidden, columns)

    def forward(self, states: Tensor) -> Tensor:
        """Return (B, S, D) in [-1, 1] of the states (B, S, H)."""
        hidden = cell = torch.zeros_like(states[:, 0])
        outputs = []
        for _ in range(states.shape[1]):
            seen = torch.cat([states, cell[:, None].expand_as(states)], dim=2)
            context = (torch.softmax(self.score(seen), dim=1) * states).sum(dim=1)
            hidden, cell = self.cell(context, (hidden, cell))
            outputs.append(torch.tanh(self.output(hidden)))
        return torch.stack(outputs, dim=1)


class Reader(nn.Module):
    """The joint representation to one vector: the last state of an LSTM, or all of them by attention.

    Args:
        columns: of the joint representation.
        hidden: H.
        attends: whether every state counts, weighted by the softmax over the steps of tanh(w h + b).
    """

    def __init__(self, columns: int, hidden: int, attends: bool = False) -> None:
        super().__init__()
        self.lstm = nn.LSTM(columns, hidden, batch_first=True)
        self.score = nn.Linear(hidden, 1) if attends else None

    def forward(self, joint: Tensor) -> Tensor:
        """Return (B, H) of (B, S, D)."""
        states: Tensor
        states, _ = self.lstm(joint)
        if self.score is None:
            return states[:, -1]
        return (torch.softmax(torch.tanh(self.score(states)), dim=1) * states).sum(dim=1)


class Model(Network):
    """Source -> target 1 -> source, then the joint representation -> target 2; the label from the last states."""

    Settings = MCTNSettings

    def __init__(self, settings: MCTNSettings, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__(settings, dims, outputs)
        given = {LETTERS[letter] for letter in settings.source}
        self.source = tuple(m for m in MODALITIES if m in given)
        self.targets: tuple[str, ...] = settings.targets
        if not self.targets:
            self.targets = tuple(m for m in MODALITIES if m not in given)
        self.steps = settings.steps
        self.weights = (settings.forward_weight, settings.backward_weight, settings.second_weight)
        code, hidden = settings.variant == "code", settings.hidden
        self.penalty = (0.01 if code else 0.0) if settings.penalty is None else settings.penalty
        decoder = CodeDecoder if code else Decoder
        columns, targets = sum(dims[m] for m in self.source), [dims[m] for m in self.targets]
        self.width = max(columns, *targets) if code else 0  # what every sequence is filled to; 0: nothing
        columns, targets = max(columns, self.width), [max(d, self.width) for d in targets]
        joint = hidden if code else 2 * hidden
        self.encoder, self.decoder = Encoder(columns, hidden, code), decoder(targets[0], hidden)
        self.back_encoder: Encoder | None = None  # the way back by the same two
        self.back_decoder: nn.Module | None = None
        if not code:
            self.back_encoder, self.back_decoder = Encoder(targets[0], hidden), Decoder(columns, hidden)
        self.second_encoder: Encoder | None = None
        self.second_decoder: nn.Module | None = None
        if len(self.targets) > 1:
            self.second_encoder = Encoder(joint, hidden, code)
            self.second_decoder = decoder(targets[1], hidden)
        self.reader = Reader(joint, hidden, code)
        self.head = nn.Linear(hidden, outputs)

    @classmethod
    def views(cls, settings: MCTNSettings) -> Mapping[str, View]:
        """Return the complement: the targets of the translations are what the batch hides."""
        return {"complement": View("complement")}

    @classmethod
    def needs(cls, settings: MCTNSettings) -> tuple[str, ...]:
        """Return that it needs what is hidden, as targets, and that a network is for one source alone."""
        return (*super().needs(settings), MODEL_A_CONDITION)

    @classmethod
    def recipe(cls, settings: MCTNSettings) -> dict[str, Any]:
        """Return the paper's training, on the one condition that the source is."""
        return {"train_on": settings.source, "learning_rate": 1e-4, "batch_size": 32, "patience": 20}

    def forward(self, batch: Batch) -> Output:
        """Return the prediction, from the source alone, and the losses as far as the targets are there."""
        source = self._filled(torch.cat([resample(batch, m, self.steps) for m in self.source], dim=2))
        joint = self.encoder(source)
        first = joint
        if self.second_encoder is not None:
            joint = self.second_encoder(joint)
        read = self.reader(joint)
        prediction = self.head(read)
        losses = task_loss(prediction, batch)
        if losses and (self.training or "complement" in batch.views):
            losses |= self._translations(batch, source, first, joint)
            if self.penalty:
                losses["penalty"] = self.penalty * self.head.weight.square().sum()
        return Output(prediction, losses, {"joint": read})

    def _filled(self, values: Tensor) -> Tensor:
        """Return (B, S, D) with columns of zeros up to the one width, where there is one."""
        return functional.pad(values, (0, max(0, self.width - values.shape[2])))

    def _translations(self, batch: Batch, source: Tensor, first: Tensor, joint: Tensor) -> dict[str, Tensor]:
        there = self._shown(batch, *self.source)
        imagined = self.decoder(first)
        target, known = self._target(batch, self.targets[0])
        again = (self.back_decoder or self.decoder)((self.back_encoder or self.encoder)(imagined))
        losses = {
            "forward": self.weights[0] * _error(imagined, target, there & known),
            "backward": self.weights[1] * _error(again, source, there),
        }
        if self.second_decoder is not None:
            target, known = self._target(batch, self.targets[1])
            losses["second"] = self.weights[2] * _error(self.second_decoder(joint), target, there & known)
        return losses

    @staticmethod
    def _shown(batch: Batch, *modalities: str) -> Tensor:
        """Return (B,) bool: which samples have all of these modalities."""
        columns = [batch.present[:, MODALITIES.index(m)] for m in modalities]
        return torch.stack(columns).all(dim=0)

    def _target(self, batch: Batch, modality: str) -> tuple[Tensor, Tensor]:
        """Return a target (B, S, D), and (B,) bool where it is known."""
        target, known = resample(batch, modality, self.steps), self._shown(batch, modality)
        if "complement" in batch.views:
            complement = batch.views["complement"]
            other = self._shown(complement, modality)
            hidden = resample(complement, modality, self.steps)
            target = torch.where((other & ~known)[:, None, None], hidden, target)
            known = known | other
        return self._filled(target), known


def _error(found: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    """Return the mean squared error over the samples that count (B,) bool; 0 where none does."""
    errors = (found.float() - target.float()).square().mean(dim=(1, 2))
    return (errors * counts).sum() / counts.sum().clamp(min=1)


def resample(batch: Batch, modality: str, steps: int) -> Tensor:
    """Return (B, S, D): step s is the mean of the frames floor(s T / S) to ceil((s + 1) T / S).

    A sequence longer than S is averaged, a shorter one repeated; every frame counts, and padding never.
    """
    values, lengths = batch.features[modality], batch.lengths[modality]
    every = torch.ones_like(batch.observed[modality])
    return layers.resample(values, every, lengths, torch.full_like(lengths, steps), steps)[0]
