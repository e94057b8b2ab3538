"""The usual training: the gradient of the sum of the model's losses on one batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.base import Batch, Output
from pipeline.errors import TrainingError
from pipeline.training.regimes.base import BaseRegime, RegimeSettings, Step


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
        return descend(step, batches[0])


def total(output: Output) -> Tensor:
    """Return the sum of a model's losses.

    Raises:
        TrainingError: there is none.
    """
    if not output.losses:
        raise TrainingError("the model gave no loss: the batch has neither labels nor scores")
    return torch.stack(list(output.losses.values())).sum()


def descend(step: Step, batch: Batch) -> dict[str, Tensor]:
    """Leave the gradient of the losses' sum on one batch; return the losses, detached.

    Raises:
        TrainingError: the model gave no loss.
    """
    output = step.forward(batch)
    total(output).backward()
    return {name: loss.detach() for name, loss in output.losses.items()}
