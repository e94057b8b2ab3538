"""TransM (TransModality): Transformers that translate text into audio and video, and back.

Paper: Wang, Wan, Wan, "TransModality: An End2End Fusion Method with Transformer for Multimodal Sentiment Analysis", WWW
2020 (arXiv 2009.02902); no public code. A Transformer that can translate one modality into another has states that say
something of both: text is translated into audio and into video (forward), audio and video into text (backward), and
the states of the four encoders are the joint representation from which the label is read.

It is here as a row of EMMR's Table 1 (Zeng, Zhou, Liu, EMNLP 2022, who reproduced it), written from the paper's
abstract and EMMR's account of it, not from its full text. Sizes and weights are EMMR's
Table 7, as for all rows: 300, 4 heads, dropout 0.3, batches of 32, 20 epochs. What else is chosen here:

- One encoder and one decoder layer a translation (``layers``), with the Transformer's positions. The modalities'
  projections to 300 are shared by the translations.
- A decoder starts from positions alone, all frames at once, and attends to itself and to the encoder's states.
  So it meets the same in training as at test, and no target is needed there; the label needs no decoder at all.
- The targets are the frames of the whole sample as the network gets them (normalised features). A translation's
  loss is the mean squared error over the observed frames of its target, then over the samples that have both
  modalities: the source in what is shown, the target in the whole sample. 0.1 for each direction, each the sum of
  its two translations. Without the whole sample there are no such losses.
- The label: the mean over time of each encoder's states, side by side; 1200 -> 300 -> C with dropout 0.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.base import MODALITIES, Batch, ModelSettings, Network, Output, View
from models.layers import AttentionLayer, FeedForwardLayer, TransformerLayer, mlp, sinusoids, task_loss
from models.parts import Tokens, make_tokens, masked_mean

FORWARD = (("text", "audio"), ("text", "video"))
BACKWARD = (("audio", "text"), ("video", "text"))

Weight = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class TransMSettings(ModelSettings):
    """Choices of TransM.

    Attributes:
        size, heads, inner, layers: of each Transformer.
        dropout: of attention weights and hidden layers.
        forward_weight, backward_weight: of the two directions' losses.
    """

    size: Count = 300
    heads: Count = 4
    inner: Count = 1200
    layers: Count = 1
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    forward_weight: Weight = 0.1
    backward_weight: Weight = 0.1

    @model_validator(mode="after")
    def _heads_divide_the_size(self) -> TransMSettings:
        if self.size % self.heads:
            raise ValueError(
                f"found size {self.size} and {self.heads} heads, expected a multiple of the heads"
            )
        return self


class DecoderLayer(nn.Module):
    """Attention within the target, then to the source's states, then the FFN."""

    def __init__(self, settings: TransMSettings) -> None:
        super().__init__()
        self.own = AttentionLayer(settings.size, settings.heads, settings.dropout)
        self.source = AttentionLayer(settings.size, settings.heads, settings.dropout)
        self.feed_forward = FeedForwardLayer(settings.size, settings.inner, settings.dropout)

    def forward(self, values: Tensor, keep: Tensor, states: Tensor, states_keep: Tensor) -> Tensor:
        """Return (B, T, D) of the target's (B, T, D), where the source has the states (B, S, D)."""
        return self.feed_forward(self.source(self.own(values, keep), states_keep, states))


class Translation(nn.Module):
    """One modality into another.

    Args:
        settings: of the network.
        columns: of the target's frames.
    """

    def __init__(self, settings: TransMSettings, columns: int) -> None:
        super().__init__()
        sizes = (settings.size, settings.heads, settings.inner, settings.dropout)
        self.encoder = nn.ModuleList(TransformerLayer(*sizes) for _ in range(settings.layers))
        self.decoder = nn.ModuleList(DecoderLayer(settings) for _ in range(settings.layers))
        self.begin = nn.Parameter(torch.zeros(settings.size))
        self.output = nn.Linear(settings.size, columns)

    def encode(self, values: Tensor, keep: Tensor) -> Tensor:
        """Return the states (B, S, D) of a source (B, S, D), of which (B, S) count."""
        for layer in self.encoder:
            values = layer(values, keep)
        return values

    def decode(self, states: Tensor, states_keep: Tensor, keep: Tensor) -> Tensor:
        """Return the target's frames (B, T, columns) from the states (B, S, D); ``keep`` (B, T): its real frames."""
        size = states.shape[2]
        begin = self.begin + sinusoids(keep.shape[1], size, states.device)
        values = begin.expand(len(keep), -1, -1)
        for layer in self.decoder:
            values = layer(values, keep, states, states_keep)
        frames: Tensor = self.output(values)
        return frames


class Model(Network):
    """Four translations; the label from their encoders."""

    Settings = TransMSettings

    def __init__(self, settings: TransMSettings, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__(settings, dims, outputs)
        self.settings = settings
        self.projections = nn.ModuleDict({m: nn.Linear(dims[m], settings.size) for m in MODALITIES})
        self.translations = nn.ModuleDict(
            {
                f"{source}_{target}": Translation(settings, dims[target])
                for source, target in FORWARD + BACKWARD
            }
        )
        width = len(self.translations) * settings.size
        self.head = mlp((width, settings.size, outputs), settings.dropout)

    @classmethod
    def recipe(cls, settings: TransMSettings) -> dict[str, Any]:
        """Return EMMR's Table 7; the missing rate is a mask of params.yaml, which ``train_on`` names."""
        return {"train_on": "random-condition", "learning_rate": 1e-3, "epochs": 20, "batch_size": 32}

    @classmethod
    def views(cls, settings: TransMSettings) -> Mapping[str, View]:
        """Return the whole samples: the targets of the translations."""
        return {"whole": View("whole")}

    def forward(self, batch: Batch) -> Output:
        """Return the prediction, the losses as far as the targets are there, and the joint representation."""
        tokens = make_tokens(batch, dict(self.projections.items()), positions=True)
        states = {}
        means = []
        for source, target in FORWARD + BACKWARD:
            keep = tokens.keep[source]
            encoded = self._translation(source, target).encode(tokens.values[source], keep)
            states[source, target] = encoded
            means.append(masked_mean(encoded, keep))
        joint = torch.cat(means, dim=1)
        prediction = self.head(joint)
        losses = task_loss(prediction, batch)
        if losses and "whole" in batch.views:
            losses |= self._translation_losses(batch.views["whole"], tokens, states)
        return Output(prediction, losses, {"joint": joint})

    def _translation(self, source: str, target: str) -> Translation:
        return cast(Translation, self.translations[f"{source}_{target}"])

    def _translation_losses(
        self, whole: Batch, tokens: Tokens, states: Mapping[tuple[str, str], Tensor]
    ) -> dict[str, Tensor]:
        losses = {}
        for name, weight, pairs in (
            ("forward", self.settings.forward_weight, FORWARD),
            ("backward", self.settings.backward_weight, BACKWARD),
        ):
            errors = []
            for source, target in pairs:
                keep, features = whole.observed[target], whole.features[target]
                seen = keep.any(dim=1)
                first = torch.arange(keep.shape[1], device=keep.device) == 0
                readable = keep | (first & ~seen[:, None])  # so that every row has something to attend to
                translation, encoded = self._translation(source, target), states[source, target]
                found = translation.decode(encoded, tokens.keep[source], readable)
                both = seen & tokens.there[:, MODALITIES.index(source)]
                errors.append(translation_error(found, features, keep, both))
            losses[name] = weight * torch.stack(errors).sum()
        return losses


def translation_error(found: Tensor, target: Tensor, keep: Tensor, counts: Tensor) -> Tensor:
    """Return the mean squared error over a sample's frames, then over the samples that count; 0 where none does.

    Args:
        found, target: (B, T, D).
        keep: (B, T) bool: the frames that were observed.
        counts: (B,) bool: the samples that have both modalities.
    """
    squares = (found.float() - target.float()).square().mean(dim=2).masked_fill(~keep, 0)
    each = squares.sum(dim=1) / keep.sum(dim=1).clamp(min=1)
    return (each * counts).sum() / counts.sum().clamp(min=1)
