"""Self-MM: self-supervised multi-task learning of unimodal labels (Yu, Xu, Yuan, Wu 2021, AAAI).

One network for the multimodal task and three for the unimodal ones, on the same encoders. There are no
unimodal labels: from the second epoch on they are made from the multimodal ones, by how much nearer a
sample's unimodal representation is to the centre of the positive samples than to that of the negative ones,
against the same of its fusion (section 3.3).

Taken from the authors' code where the paper leaves it open: ReLU layers, a Linear behind the LSTMs, labels
clamped to the label's range, and sizes, dropouts and training. These differ between the authors' two
repositories; for CMU-MOSI:

======================= ============================= ==============================
..                      ``variant: authors``          ``variant: mmsa``
                        (thuiar/Self-MM)              (thuiar/MMSA 2.2.1)
======================= ============================= ==============================
LSTMs, audio and video  32 and 64                     16 and 32
what they give          16 and 32                     16 and 32
text, audio, video      64, 16, 32                    32, 16, 32
fusion                  128                           128
dropout before these    fusion, audio, video 0.1      text, audio 0.1
rates                   1e-3; BERT 5e-5, video 1e-4   1e-3; BERT 5e-5, audio and video 5e-3
weight decay            0.001; audio 0.01             0.001
batches                 32, steps on 4 of them        16, steps on 4 of them
early stop              8                             8
======================= ============================= ==============================

State over epochs, one row a sample (:attr:`Batch.rows`): the labels, the epoch in which they were last moved,
and the latest representations, from which the centres are computed at each use. They are buffers, so they are
saved with the weights and survive a resume.

Deviations:
- A label moves once an epoch, when its sample is first met. Where a sample is met more often (under its six
  missing conditions), its later representations count for the centres alone. In the code a sample is met once.
- Both have no weight decay for BERT's biases and norms; here it is 0.001 for all of BERT. They step on the sum of
  four batches' gradients, which against a weight decay is worth four times their mean, and drop what is left at
  an epoch's end; here a step is on the mean, and the left ones make the last step.
- thuiar/Self-MM, in the version that we have read, counts a score of 0 to the positive centre; here, as in the
  paper and MMSA, to neither.
- Distances, centres and the unimodal losses are computed in float32, whatever the experiment's precision.
- Distances are squared, as in the paper (Eq. 9); ``distance: norm`` is the code's.
- A label stays as it is while a centre has no sample. A ratio alpha_s / alpha_m at alpha_m = 0 is cut by the
  clamp instead of becoming NaN. A last batch of one sample works.
- Classification, which neither knows: each class is a polarity of its own (+1 the sample's class, -1
  another), so that every class has its positive and negative centre; labels are clamped to [-1, 1]; the
  unimodal heads learn (label + 1) / 2 by binary cross-entropy, with the same weights tanh |y_s - y_m|; the
  multimodal head learns the class by cross-entropy.
- With frozen text features there is no [CLS]: their mean over time stands for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from models.base import MODALITIES, Batch, Network, Output
from models.layers import full_precision, task_loss
from models.parts import LastState, TextEncoder, TextSettings, encoder_files, split_parameters

VIEWS = ("fusion", *MODALITIES)
EPSILON = 1e-8


@dataclass(frozen=True)
class Variant:
    """What the authors' two repositories have for CMU-MOSI.

    Attributes:
        audio_hidden, video_hidden: of the LSTMs.
        text_width: of the text's representation.
        dropouts: before each representation, by its name.
        rates: of the encoders, by their group.
        decays: weight decays of groups that have one of their own.
        batch_size: of the four batches that make a step.
    """

    audio_hidden: int
    video_hidden: int
    text_width: int
    dropouts: Mapping[str, float]
    rates: Mapping[str, float]
    decays: Mapping[str, float]
    batch_size: int


VARIANTS = {
    "authors": Variant(
        audio_hidden=32,
        video_hidden=64,
        text_width=64,
        dropouts={"fusion": 0.1, "text": 0.0, "audio": 0.1, "video": 0.1},
        rates={"text": 5e-5, "audio": 1e-3, "video": 1e-4},
        decays={"audio": 1e-2},
        batch_size=32,
    ),
    "mmsa": Variant(
        audio_hidden=16,
        video_hidden=32,
        text_width=32,
        dropouts={"fusion": 0.0, "text": 0.1, "audio": 0.1, "video": 0.0},
        rates={"text": 5e-5, "audio": 5e-3, "video": 5e-3},
        decays={},
        batch_size=16,
    ),
}


class SelfMMSettings(TextSettings):
    """Self-MM's settings; none takes what the variant has.

    Attributes:
        variant: whose choices for CMU-MOSI; see the module.
        audio_hidden, video_hidden: the LSTMs' hidden size; what they give has the sizes 16 and 32.
        text_width: the width of the text's representation.
        fusion: the width of the fusion.
        dropout: before each of the four representations.
        label_limit: labels of a regression stay in [-limit, limit]; none: the dataset's own, which is 3 for MOSI
            and MOSEI, 1 for SIMS.
        distance: ``squared``, the paper's, or ``norm``, the code's.
    """

    variant: Literal["authors", "mmsa"] = "authors"
    audio_hidden: Annotated[int, Field(ge=1)] | None = None
    video_hidden: Annotated[int, Field(ge=1)] | None = None
    text_width: Annotated[int, Field(ge=1)] | None = None
    fusion: Annotated[int, Field(ge=1)] = 128
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    label_limit: Annotated[float, Field(gt=0)] | None = None
    distance: Literal["squared", "norm"] = "squared"


class Model(Network):
    """Self-MM. ``outputs`` is the number of classes, or 1 for a regression."""

    Settings = SelfMMSettings
    seen: Tensor
    moved: Tensor

    def __init__(self, settings: SelfMMSettings, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__(settings, dims, outputs)
        self.outputs = outputs
        self.epoch = 1
        self.room = 0
        self.limit = (settings.label_limit or 3.0) if outputs == 1 else 1.0
        usual = VARIANTS[settings.variant]
        self.text = TextEncoder(settings, dims["text"])
        self.audio = Summary(dims["audio"], settings.audio_hidden or usual.audio_hidden, 16)
        self.video = Summary(dims["video"], settings.video_hidden or usual.video_hidden, 32)
        sizes = {"text": self.text.size, "audio": 16, "video": 32}
        sizes["fusion"] = sum(sizes.values())
        text_width = settings.text_width or usual.text_width
        self.widths = {"fusion": settings.fusion, "text": text_width, "audio": 16, "video": 32}
        drop = {v: usual.dropouts[v] if settings.dropout is None else settings.dropout for v in VIEWS}
        self.represent = nn.ModuleDict(
            {
                v: nn.Sequential(nn.Dropout(drop[v]), nn.Linear(sizes[v], self.widths[v]), nn.ReLU())
                for v in VIEWS
            }
        )
        self.read_out = nn.ModuleDict(
            {
                v: nn.Sequential(
                    nn.Linear(self.widths[v], self.widths[v]), nn.ReLU(), nn.Linear(self.widths[v], outputs)
                )
                for v in VIEWS
            }
        )
        self.register_buffer("seen", torch.zeros(0, dtype=torch.bool))
        self.register_buffer("moved", torch.zeros(0, dtype=torch.int64))  # in which epoch last; 0: in none
        for v in VIEWS:  # the labels of "fusion" are the multimodal ones
            self.register_buffer(f"labels_{v}", torch.zeros(0, outputs))
            self.register_buffer(f"latest_{v}", torch.zeros(0, self.widths[v]))

    @classmethod
    def recipe(cls, settings: SelfMMSettings) -> dict[str, Any]:
        """Return the variant's training for CMU-MOSI."""
        usual = VARIANTS[settings.variant]
        rates = {m: rate for m, rate in usual.rates.items() if m != "text" or settings.text == "tokens"}
        steps = {"batch_size": usual.batch_size, "accumulate": 4, "patience": 8, "weight_decay": 1e-3}
        return {
            "learning_rate": 1e-3,
            "learning_rates": rates,
            "weight_decays": dict(usual.decays),
            **steps,
        }

    @classmethod
    def files(cls, settings: SelfMMSettings) -> Sequence[Path]:
        """Return the text encoder's files, when it is trained along."""
        return encoder_files(settings)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the groups text, audio, video (the encoders) and rest; an empty one is left out."""
        return split_parameters(self, {"text": self.text, "audio": self.audio, "video": self.video})

    def samples_known(self, count: int, score_limit: float) -> None:
        """Make room for all samples at once, so that no batch has to be asked for its largest row; take the
        limit of the labels from the dataset, where the settings have none."""
        if self.outputs == 1 and self.settings.label_limit is None:
            self.limit = score_limit
        if count > len(self.seen):
            self._resize(count)
        self.room = count

    def epoch_start(self, epoch: int) -> None:
        """Note the epoch: labels are generated from the second on, ever more slowly."""
        self.epoch = epoch

    def forward(self, batch: Batch) -> Output:
        """Return prediction, losses and the four representations; in training, move the labels after use."""
        summary = {
            "text": self.text(batch)[0],
            "audio": self.audio(batch.features["audio"], batch.lengths["audio"]),
            "video": self.video(batch.features["video"], batch.lengths["video"]),
        }
        summary["fusion"] = torch.cat([summary[m] for m in MODALITIES], dim=1)
        hidden = {v: self.represent[v](summary[v]) for v in VIEWS}
        prediction = self.read_out["fusion"](hidden["fusion"])
        losses = task_loss(prediction, batch)
        if losses and self.training:
            target, rows = self._target(batch), self._rows(batch)
            with torch.no_grad():
                self._enter(rows, target)
            for m in MODALITIES:
                label = getattr(self, f"labels_{m}")[rows]
                weight = torch.tanh((label - target).abs())
                losses[m] = (weight * self._unimodal_error(self.read_out[m](hidden[m]), label)).mean()
            with torch.no_grad():
                self._move_labels(rows, target, {v: hidden[v].detach().float() for v in VIEWS})
        return Output(prediction, losses, hidden)

    def _target(self, batch: Batch) -> Tensor:
        """Return (B, C) multimodal labels: scores, or +1 for the class and -1 for every other."""
        known = batch.scores if self.outputs == 1 else batch.labels
        if known is None:
            raise ValueError(
                "found neither labels nor scores, expected them: they are what the labels start at"
            )
        if self.outputs == 1:
            return known[:, None]
        here = known[:, None] == torch.arange(self.outputs, device=known.device)
        return 2.0 * here - 1.0

    @staticmethod
    def _rows(batch: Batch) -> Tensor:
        if batch.rows is None:
            raise ValueError(
                "found a batch without rows, expected them: Self-MM keeps labels for every sample"
            )
        return batch.rows

    def _unimodal_error(self, prediction: Tensor, label: Tensor) -> Tensor:
        if self.outputs == 1:
            return (prediction.float() - label).abs()
        truth = (label + 1) / 2
        return functional.binary_cross_entropy_with_logits(prediction.float(), truth, reduction="none")

    def _enter(self, rows: Tensor, target: Tensor) -> None:
        """Make room for the rows, and start the labels of new samples at the multimodal ones."""
        if not self.room:  # nobody said how many there are
            longest = int(rows.max()) + 1
            if longest > len(self.seen):
                self._resize(longest)
        new = ~self.seen[rows]
        for v in VIEWS:
            labels = getattr(self, f"labels_{v}")
            labels[rows] = torch.where(new[:, None], target, labels[rows])
        self.seen[rows] = True

    def _move_labels(self, rows: Tensor, target: Tensor, hidden: Mapping[str, Tensor]) -> None:
        """Generate the batch's unimodal labels anew (from epoch 2 on), then take in its representations.

        A sample that stands in the batch more than once is moved by the first of its rows and remembered by the
        last.
        """
        same = rows[:, None] == rows[None, :]
        place = torch.arange(len(rows), device=rows.device)
        first = torch.where(same, place, len(rows)).amin(dim=1)
        last = torch.where(same, place, -1).amax(dim=1)
        if self.epoch >= 2:
            due = (self.moved[rows] < self.epoch)[:, None]
            ratio = {}
            known = {}
            for v in VIEWS:
                labels, latest = getattr(self, f"labels_{v}"), getattr(self, f"latest_{v}")
                positive, has_positive = centres(latest, labels > 0)
                negative, has_negative = centres(latest, labels < 0)
                known[v] = has_positive & has_negative
                ratio[v] = relative_distance(hidden[v], positive, negative, self.settings.distance)
            for m in MODALITIES:
                labels = getattr(self, f"labels_{m}")
                moved = move(labels[rows], target, ratio[m], ratio["fusion"], self.limit, self.epoch)
                labels[rows] = torch.where(due & known[m] & known["fusion"], moved[first], labels[rows])
            self.moved[rows] = self.epoch
        for v in VIEWS:
            getattr(self, f"latest_{v}")[rows] = hidden[v][last]

    def _resize(self, count: int) -> None:
        for name in self._state_names():
            old = getattr(self, name)
            grown = old.new_zeros((count, *old.shape[1:]))
            kept = min(count, len(old))
            grown[:kept] = old[:kept]
            setattr(self, name, grown)

    @staticmethod
    def _state_names() -> list[str]:
        return ["seen", "moved", *(f"{kind}_{v}" for v in VIEWS for kind in ("labels", "latest"))]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take the state's number of samples from what is loaded."""
        if f"{prefix}seen" in state_dict:
            self._resize(len(state_dict[f"{prefix}seen"]))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class Summary(nn.Module):
    """Audio or video to one vector: an LSTM's last state, Linear."""

    def __init__(self, columns: int, hidden: int, size: int) -> None:
        super().__init__()
        self.last = LastState(columns, hidden)
        self.linear = nn.Linear(hidden, size)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) values and (B,) lengths -> (B, size)."""
        out: Tensor = self.linear(self.last(values, lengths))
        return out


def centres(values: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of each group of samples (Eqs. 7 and 8).

    Args:
        values: (N, D) representations.
        members: (N, C) bool, who belongs to the group of polarity c.

    Returns:
        (C, D) means, zeros for an empty group, and (C,) bool, whether it has a member.
    """
    with full_precision(values):
        weights = members.to(values.dtype)
        sizes = weights.sum(dim=0)
        return weights.T @ values / sizes.clamp(min=1)[:, None], sizes > 0


def relative_distance(values: Tensor, positive: Tensor, negative: Tensor, distance: str) -> Tensor:
    """Return (B, C) alpha = (D_n - D_p) / (D_p + eps) (Eqs. 9 to 11): > 0 where the positive centre is
    nearer.

    Args:
        values: (B, D).
        positive, negative: (C, D) centres.
        distance: ``squared``, || . ||^2 / sqrt(D), or ``norm``, || . ||.
    """

    def to(centre: Tensor) -> Tensor:
        squares = (values[:, None] - centre[None]).square().sum(dim=2)
        return squares / math.sqrt(values.shape[1]) if distance == "squared" else squares.sqrt()

    near_positive, near_negative = to(positive), to(negative)
    return (near_negative - near_positive) / (near_positive + EPSILON)


def move(
    previous: Tensor, target: Tensor, alpha: Tensor, alpha_joint: Tensor, limit: float, epoch: int
) -> Tensor:
    """Return the labels after one update (Eqs. 14 to 16).

    The new label is half y_m * alpha_s / alpha_m and half y_m + alpha_s - alpha_m, clamped; it is taken with
    the weight 2 / (n + 1), the label before with (n - 1) / (n + 1), in epoch n.

    Args:
        previous: (B, C) unimodal labels before.
        target: (B, C) multimodal labels y_m.
        alpha, alpha_joint: (B, C) relative distances of the modality and of the fusion.
        limit: the largest label.
        epoch: n, 2 or more.
    """
    safe = torch.where(alpha_joint.abs() < EPSILON, torch.full_like(alpha_joint, EPSILON), alpha_joint)
    generated = 0.5 * target * alpha / safe + 0.5 * (target + alpha - alpha_joint)
    generated = generated.clamp(-limit, limit)
    return (epoch - 1) / (epoch + 1) * previous + 2 / (epoch + 1) * generated
