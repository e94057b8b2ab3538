"""What a regime is. To add one, write pipeline/training/regimes/<name>.py with a class ``Regime``.

A regime turns a model and batches into gradients; pipeline/training/loop.py owns everything else: devices, precision,
clipping, the optimiser's step, validation, early stop, checkpoints. So any regime works with any model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from models.base import Batch, Network, Output


class RegimeSettings(BaseModel):
    """The root of every regime's settings: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Step:
    """What a regime works with in one step.

    Attributes:
        network: the model; its gradients are None when the step begins, or those of the batches before, to be
            added to.
        forward: calls the network at the experiment's precision, compiled if it asks for that. Use this one.
        epoch: from 1.
        seed: of the run; draw masks with it, the epoch and the samples' ids (pipeline/data/masks.py).
        generator: on the CPU, seeded for this epoch: for whatever else must be drawn.
        trained: parameter group -> the parameters that the optimiser of this stage will move.
    """

    network: Network
    forward: Callable[[Batch], Output]
    epoch: int
    seed: int
    generator: torch.Generator
    trained: Mapping[str, Sequence[nn.Parameter]]


class BaseRegime(ABC):
    """One way to come from batches to gradients.

    Class attributes:
        Settings: the schema of ``experiments.<name>.regime_settings`` in params.yaml.
        batches: how many batches a step takes; each comes from its own shuffle of the training set.
    """

    Settings: ClassVar[type[RegimeSettings]]
    batches: ClassVar[int] = 1

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @abstractmethod
    def gradients(self, step: Step, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Leave the gradients in the parameters' ``grad`` and the parameters themselves as they were.

        Args:
            step: the network and its surroundings.
            batches: as many as :attr:`batches` says.

        Returns:
            The losses by name, detached, for history.csv; their sum is what was minimised.
        """

    def validation(self, batch: Batch, seed: int) -> Batch:
        """Return a validation batch as the epochs are judged by it: as it is, unless a regime knows better.

        What it draws must stay the same in all epochs.

        Args:
            batch: under a condition of the experiment.
            seed: of the run.
        """
        return batch
