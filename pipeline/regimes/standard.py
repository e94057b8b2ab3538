"""The usual training: the gradient of the sum of the model's losses on one batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.base import Batch
from pipeline.errors import TrainingError
from pipeline.regimes.base import BaseRegime, RegimeSettings, Step


class StandardSettings(RegimeSettings):
    """There is nothing to set."""


class Regime(BaseRegime):
    """One batch, one backward pass."""

    Settings = StandardSettings

    def gradients(self, step: Step, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Leave the gradient of the losses' sum.

        Raises:
            TrainingError: the model gave no loss.
        """
        losses = step.forward(batches[0]).losses
        if not losses:
            raise TrainingError("the model gave no loss: the batch has neither labels nor scores")
        torch.stack(list(losses.values())).sum().backward()
        return {name: loss.detach() for name, loss in losses.items()}
