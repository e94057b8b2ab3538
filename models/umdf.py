"""UMDF, the unified missing-modality self-distillation framework.

Paper: Li, Yang, Lei, Wang, Wang, Su, Yang, Wang, Sun, Zhang, "A Unified Self-Distillation Framework for
Multimodal Sentiment Analysis with Uncertain Missing Modalities", AAAI 2024. There is no public code: everything
here is from the paper.

Two versions of each sample, with different things missing, go through one network. Each becomes a joint sequence
H of T steps x 3 d columns: a convolution and positions, D layers of MCIM (every modality attends to all three,
Eq. 8, then to each pair that it belongs to, Eq. 9), and a transformer encoder. Self-distillation draws the last
steps h_a, h_b together (MMD, Eqs. 1 to 3), and what is read from each of them (Jensen-Shannon for classes, Eqs. 4
and 5; squared error for scores, Eq. 6). DFIM weights the frames of both, mixes them by a gate (Eqs. 10, 11), and a
second transformer encoder gives the step that the prediction is read from. In use the sample stands in both
streams, so that the gate has no say: mu H + (1 - mu) H = H.

The batch is the first version, the view ``second`` the other one. Both are what the experiment trains on, drawn
independently, so the versions are a mask of ``masks:`` named by ``train_on``. The paper says "randomly generate",
"including the modality-complete case", and no more. The presets draw with equal chances whole modalities (one of
the seven conditions, complete among them) or frames (a rate out of 0, 0.1, ... 0.9).

What else the paper leaves open, each a setting of :class:`UMDFSettings` (there is why):

=============================================== ==================================================
lambda 1, lambda 2                              ``feature_weight``, ``logits_weight``: 0.1 each
kernel, bandwidth and estimator of the MMD      ``kernel: gaussian``, ``estimator: biased``
which layer f_y is                              ``logits: shared`` with the prediction's
dropout                                         ``dropout: 0.1``
one length for the three modalities             ``steps: 50``
what attention does with missing frames         ``attend: observed``
what "matrix multiplication of M and H" is      ``enhance: frames``
width of the feed-forward layers                ``expansion: 4``
layers of the two transformer encoders          ``encoder_layers: 1``
activation and depth of "FC layers"             one hidden layer of 3 d with ReLU
weights of the two streams' frame scores        one layer for both: the network is one
=============================================== ==================================================

Missing frames are zero vectors at the network's entrance, as in the paper. A modality that is gone still has its
steps: they ask, and attention fills them from what is left. Where nothing is left at all, they keep their
positions, and the prediction is the same finite number for every sample.

Table 3: ``feature_weight: 0`` (no L_fea), ``logits_weight: 0`` (no L_logits), ``interaction: self`` (MCIM by
self-attention), ``fusion: concatenation`` (no DFIM).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from models.base import MODALITIES, Batch, ModelSettings, Network, Output, View
from models.layers import (
    CrossAttention,
    jensen_shannon,
    mlp,
    mmd,
    resample,
    seen_lengths,
    sinusoids,
    task_loss,
)
from models.parts import last_of, positions_before

KERNEL_SIZE = 3  # of both convolutions; the paper's "3x3" of a 1-D convolution
SECOND = "second"

Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class UMDFSettings(ModelSettings):
    """Choices of UMDF.

    Attributes:
        columns: d, the width of a modality (40 in the paper).
        layers: D, of MCIM (4 in the paper).
        heads: of every attention: 10 on CMU-MOSI and IEMOCAP, 8 on CMU-MOSEI; it divides d.
        steps: T, to which every sequence is brought: a longer one is averaged, a shorter one repeated. 50 is the
            length to which CMU-MOSI's aligned features are commonly cut. none: the longest of a sample's three
            sequences, which leaves features that are aligned already as they are.
        attend: ``observed``: in the first layer of MCIM, attention leaves missing frames out; later layers find
            there what the first one has put. The paper wants sources "neither of which is a zero vector", and a
            zero vector still gets its share of a softmax. ``all``: missing frames are attended to as well.
        interaction: ``crossmodal``, or ``self``: Table 3's "w/o MCIM", where every modality attends to itself alone.
        enhance: how M, T x 1, and H, T x 3 d, are multiplied. ``frames``: each frame by its own score, since what
            follows convolves over frames and reads the last one. ``sum``: M^T H, one weighted sum, repeated at
            every frame.
        fusion: ``dfim``, or ``concatenation``: Table 3's "w/o DFIM", the last steps of H_a and H_b side by side.
        encoder_layers: of each of the two transformer encoders.
        expansion: the feed-forward layers are so many times as wide (Vaswani et al. 2017 take 4).
        dropout: behind every attention, in feed-forward layers, encoders and before the last layer (Vaswani et
            al. take 0.1).
        feature_weight: lambda 1. Both weights keep the two terms, which only regularise, well below the task's.
        logits_weight: lambda 2.
        kernel: of the MMD: ``gaussian`` with the median bandwidth, the usual choice without tuning (Gretton et al.
            2012); ``sum`` of five bandwidths; ``linear``, Eq. 2 with phi the identity.
        estimator: ``biased`` is Eq. 2 as it stands (though the paper calls it unbiased): never negative, 0 for
            equal samples. ``unbiased`` is Gretton's Eq. 4.
        logits: f_y. ``shared``: the layers that give the prediction; a layer that nothing else trains makes both
            versions agree by saying the same of every sample. ``own``: such a layer, as a reader may take the paper.
    """

    columns: Annotated[int, Field(ge=2)] = 40
    layers: Count = 4
    heads: Count = 10
    steps: Count | None = 50
    attend: Literal["observed", "all"] = "observed"
    interaction: Literal["crossmodal", "self"] = "crossmodal"
    enhance: Literal["frames", "sum"] = "frames"
    fusion: Literal["dfim", "concatenation"] = "dfim"
    encoder_layers: Count = 1
    expansion: Count = 4
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    feature_weight: Weight = 0.1
    logits_weight: Weight = 0.1
    kernel: Literal["gaussian", "sum", "linear"] = "gaussian"
    estimator: Literal["biased", "unbiased"] = "biased"
    logits: Literal["shared", "own"] = "shared"

    @model_validator(mode="after")
    def _heads_divide(self) -> UMDFSettings:
        if self.columns % self.heads:
            raise ValueError(f"found {self.heads} heads, expected a divisor of columns ({self.columns})")
        return self


class Interaction(nn.Module):
    """One layer of MCIM for one target modality (Eqs. 8 and 9, and the feed-forward layer after them)."""

    def __init__(self, settings: UMDFSettings) -> None:
        super().__init__()
        d = settings.columns
        self.coarse = CrossAttention(d, settings.heads, settings.dropout)
        self.fine = nn.ModuleList(CrossAttention(d, settings.heads, settings.dropout) for _ in range(2))
        self.coarse_norm, self.last_norm = nn.LayerNorm(d), nn.LayerNorm(d)
        self.fine_norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(2))
        self.feed = mlp((d, settings.expansion * d, d), settings.dropout)

    def forward(
        self, target: Tensor, coarse: tuple[Tensor, Tensor], fine: tuple[tuple[Tensor, Tensor], ...]
    ) -> Tensor:
        """Return Z^h (B, T, d).

        Args:
            target: Z (B, T, d).
            coarse: the source of Eq. 8, (B, S, d), and (B, S) bool, which of its steps count.
            fine: the two of Eq. 9 likewise.
        """
        found = self.coarse_norm(self.coarse(target, *coarse) + target)
        parts = [
            norm(attention(found, *source) + found)
            for attention, norm, source in zip(self.fine, self.fine_norms, fine, strict=True)
        ]
        total = parts[0] + parts[1]
        return self.last_norm(self.feed(total) + total)


class Layer(nn.Module):
    """One layer of MCIM: each modality in turn is the target."""

    def __init__(self, settings: UMDFSettings) -> None:
        super().__init__()
        self.alone = settings.interaction == "self"
        self.targets = nn.ModuleDict({m: Interaction(settings) for m in MODALITIES})

    def forward(self, low: Mapping[str, Tensor], counted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return Z^h of every modality (B, T, d), from Z, and (B, T) bool, which steps may be attended to."""

        def joined(*names: str) -> tuple[Tensor, Tensor]:
            return torch.cat([low[m] for m in names], dim=1), torch.cat([counted[m] for m in names], dim=1)

        out = {}
        for modality, interaction in self.targets.items():
            sources = [(modality, other) for other in MODALITIES if other != modality]
            if self.alone:
                own = joined(modality)
                out[modality] = interaction(low[modality], own, (own, own))
            else:
                pairs = tuple(joined(*(m for m in MODALITIES if m in pair)) for pair in sources)
                out[modality] = interaction(low[modality], joined(*MODALITIES), pairs)
        return out


class Encoder(nn.Module):
    """A transformer encoder over joint sequences of 3 d columns; padding is not attended to."""

    def __init__(self, settings: UMDFSettings) -> None:
        super().__init__()
        width = 3 * settings.columns
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, settings.heads, settings.expansion * width, settings.dropout, batch_first=True
            )
            for _ in range(settings.encoder_layers)
        )

    def forward(self, joint: Tensor, counted: Tensor) -> Tensor:
        """Return (B, T, 3 d); ``counted`` (B, T) bool is False at padding."""
        for layer in self.layers:
            joint = layer(joint, src_key_padding_mask=~counted)
        return joint


class Dfim(nn.Module):
    """The dynamic feature integration module, up to H_e (Eqs. 10 and 11)."""

    def __init__(self, columns: int, enhance: str) -> None:
        super().__init__()
        self.enhance = enhance
        self.score = nn.Linear(columns, 1, bias=False)  # a softmax follows: a bias changes nothing
        self.gate = nn.Conv1d(2 * columns, columns, KERNEL_SIZE, padding=KERNEL_SIZE // 2)

    def forward(self, first: Tensor, second: Tensor, counted: Tensor) -> Tensor:
        """Return H_e (B, T, 3 d) of H_a and H_b, and of (B, T) bool, False at padding."""
        a, b = self.enhanced(first, counted), self.enhanced(second, counted)
        mu = torch.sigmoid(self.gate(torch.cat([a, b], dim=2).transpose(1, 2))).transpose(1, 2)
        return mu * a + (1 - mu) * b

    def enhanced(self, joint: Tensor, counted: Tensor) -> Tensor:
        """Return the frames by the softmax over frames of their scores; zeros at padding."""
        scores = self.score(joint).masked_fill(~counted[:, :, None], float("-inf"))
        weighted = torch.softmax(scores, dim=1) * joint
        if self.enhance == "frames":
            return weighted
        return weighted.sum(dim=1, keepdim=True) * counted[:, :, None].to(weighted.dtype)


class Model(Network):
    """UMDF. ``outputs`` is the number of classes, or 1 for a regression."""

    Settings = UMDFSettings

    def __init__(self, settings: UMDFSettings, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__(settings, dims, outputs)
        self.settings = settings
        width = 3 * settings.columns
        self.project = nn.ModuleDict(
            {
                m: nn.Conv1d(dims[m], settings.columns, KERNEL_SIZE, padding=KERNEL_SIZE // 2)
                for m in MODALITIES
            }
        )
        self.layers = nn.ModuleList(Layer(settings) for _ in range(settings.layers))
        self.encoder = Encoder(settings)
        self.dfim: Dfim | None = None
        self.last_encoder: Encoder | None = None
        read = 2 * width
        if settings.fusion == "dfim":
            self.dfim, self.last_encoder = Dfim(width, settings.enhance), Encoder(settings)
            read = width
        self.head = mlp((read, width, outputs), settings.dropout)
        own = settings.logits == "own" and settings.logits_weight > 0
        self.own_logits = (
            nn.Linear(width, outputs, bias=outputs > 1) if own else None
        )  # in Eq. 6 it cancels out

    @classmethod
    def recipe(cls, settings: UMDFSettings) -> dict[str, Any]:
        """Return the paper's training on CMU-MOSI, on versions that lack whole modalities.

        To train on missing frames as well, ``train_on`` names a mask.
        """
        return {"train_on": "random-condition", "learning_rate": 1e-3, "batch_size": 128, "epochs": 100}

    @classmethod
    def views(cls, settings: UMDFSettings) -> Mapping[str, View]:
        """Return the second version of each sample, S_b."""
        return {SECOND: View("redrawn")}

    def forward(self, batch: Batch) -> Output:
        """Return the prediction, the losses (the distillation's where the second version is there), and hidden
        states: ``joint``, what the prediction is read from, and ``first``, ``second``: h_a, h_b (B, 3 d)."""
        versions = [batch, *([batch.views[SECOND]] if SECOND in batch.views else [])]
        joints, counted, lengths = self._joints(versions)
        first, second = joints[0], joints[-1]
        h_a, h_b = last_of(first, lengths), last_of(second, lengths)
        joint = self._fused(first, second, h_a, h_b, counted, lengths)
        prediction = self.head(joint)
        losses = task_loss(prediction, batch, squared=True)
        if losses and len(versions) == 2:
            losses |= self._distillation(h_a, h_b, classes=batch.labels is not None)
        return Output(prediction, losses, {"joint": joint, "first": h_a, "second": h_b})

    def _joints(self, versions: list[Batch]) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return H (B, T, 3 d) of each version, (B, T) bool, False at padding, and T of each sample (B,)."""
        steps, longest = self._grid(versions)
        parts = [self._on_grid(version, steps, longest) for version in versions]
        values = {m: torch.cat([part[m][0] for part in parts]) for m in MODALITIES}
        seen = {m: torch.cat([part[m][1] for part in parts]) for m in MODALITIES}
        counted = positions_before(steps, longest)
        every = counted.repeat(len(versions), 1)
        low = {m: self._low(m, values[m], every) for m in MODALITIES}
        observed = seen if self.settings.attend == "observed" else dict.fromkeys(MODALITIES, every)
        for number, layer in enumerate(self.layers):
            low = layer(low, observed if number == 0 else dict.fromkeys(MODALITIES, every))
        joint = self.encoder(torch.cat([low[m] for m in MODALITIES], dim=2), every)
        return list(joint.chunk(len(versions))), counted, steps

    def _grid(self, versions: list[Batch]) -> tuple[Tensor, int]:
        """Return how many steps each sample has (B,), the same in both versions, and the most that there are."""
        lengths = [seen_lengths(version, m) for version in versions for m in MODALITIES]
        if self.settings.steps is not None:
            return torch.full_like(lengths[0], self.settings.steps), self.settings.steps
        longest = max(version.features[m].shape[1] for version in versions for m in MODALITIES)
        return torch.stack(lengths).amax(dim=0), longest

    @staticmethod
    def _on_grid(batch: Batch, steps: Tensor, longest: int) -> dict[str, tuple[Tensor, Tensor]]:
        return {
            m: resample(batch.features[m], batch.observed[m], seen_lengths(batch, m), steps, longest)
            for m in MODALITIES
        }

    def _low(self, modality: str, values: Tensor, counted: Tensor) -> Tensor:
        """Return Z (B, T, d), the convolved frames at their positions, zeros at padding."""
        projected = self.project[modality](values.transpose(1, 2)).transpose(1, 2)
        placed = projected + sinusoids(values.shape[1], self.settings.columns, values.device)
        return placed * counted[:, :, None].to(placed.dtype)

    def _fused(
        self, first: Tensor, second: Tensor, h_a: Tensor, h_b: Tensor, counted: Tensor, lengths: Tensor
    ) -> Tensor:
        """Return the step that the prediction is read from, (B, 3 d), or (B, 6 d) of a concatenation."""
        if self.dfim is None or self.last_encoder is None:
            return torch.cat([h_a, h_b], dim=1)
        return last_of(self.last_encoder(self.dfim(first, second, counted), counted), lengths)

    def _distillation(self, h_a: Tensor, h_b: Tensor, classes: bool) -> dict[str, Tensor]:
        settings, losses = self.settings, {}
        if settings.feature_weight:
            apart = mmd(h_a, h_b, settings.kernel, settings.estimator == "unbiased")
            losses["features"] = settings.feature_weight * apart  # L_fea, Eq. 3
        if settings.logits_weight:
            a, b = self._logits(h_a), self._logits(h_b)
            apart = jensen_shannon(a, b) if classes else functional.mse_loss(a.float(), b.float())
            losses["logits"] = settings.logits_weight * apart  # L_logits, Eqs. 5 and 6
        return losses

    def _logits(self, last: Tensor) -> Tensor:
        """Return f_y(h), (B, C)."""
        if self.own_logits is not None:
            return self.own_logits(last)
        return self.head(last if self.dfim is not None else torch.cat([last, last], dim=1))
