"""The floor that every table should show: a linear model on each modality's mean over its observed frames.

No paper's: what a network reaches is worth its price only above this. A modality that is missing, or whose frames are
all missing, has a mean of zeros, the training part's own mean after normalisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.base import MODALITIES, Batch, ModelSettings, Network, Output
from models.layers import observed_deviation, observed_mean, task_loss


class LinearSettings(ModelSettings):
    """What the model reads of each modality.

    Attributes:
        deviation: whether the columns' standard deviations over the observed frames stand beside their means.
    """

    deviation: bool = False


class Model(Network):
    """Means (B, sum of D_m), with deviations twice as many, -> one linear layer."""

    Settings = LinearSettings

    def __init__(self, settings: LinearSettings, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__(settings, dims, outputs)
        self.head = nn.Linear(sum(dims.values()) * (2 if settings.deviation else 1), outputs)

    @classmethod
    def recipe(cls, settings: LinearSettings) -> dict[str, Any]:
        """Return a higher rate than a network's, for one layer moves slowly, and a little weight decay.

        There are more columns than a small corpus has samples.
        """
        return {"learning_rate": 3e-3, "weight_decay": 1e-2}

    def forward(self, batch: Batch) -> Output:
        """Return the prediction (B, C), the task's loss, and what the layer reads as "joint"."""
        read: list[Tensor] = [observed_mean(batch, modality) for modality in MODALITIES]
        if self.settings.deviation:
            read += [observed_deviation(batch, modality) for modality in MODALITIES]
        joint = torch.cat(read, dim=1)
        prediction = self.head(joint)
        return Output(prediction, task_loss(prediction, batch), {"joint": joint})
