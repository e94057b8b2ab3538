"""What a regime is. To add one, write pipeline/training/regimes/<name>.py with a class ``Regime``.

A regime turns a model and batches into gradients; pipeline/training/loop.py owns everything else: devices, precision,
clipping, the optimiser's step, validation, early stop, checkpoints. So any regime works with any model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
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
        seed: of the run.
        generator: on the CPU, seeded for this epoch: for whatever else must be drawn.
        trained: parameter group -> the parameters that the optimiser of this phase will move.
        factor: on the experiment's learning rates in this epoch (``decay_epochs``, ``halve_after``).
    """

    network: Network
    forward: Callable[[Batch], Output]
    epoch: int
    seed: int
    generator: torch.Generator
    trained: Mapping[str, Sequence[nn.Parameter]]
    factor: float = 1.0


@dataclass(frozen=True)
class Stream:
    """One supply of batches of a regime, with a shuffle of its own.

    Attributes:
        name: of the stream. Its draws are seeded by it, and a regime's settings for the two below are called NAME_on
            and NAME_mask: an unknown mask in them is reported under these keys.
        train_on: what its training set is; None: the experiment's.
        train_mask: the mask over it; None: the experiment's.
        views: whether its batches carry the views that the model asks for.
    """

    name: str
    train_on: str | None = None
    train_mask: str | None = None
    views: bool = True


class BaseRegime(ABC):
    """One way to come from batches to gradients.

    Class attributes:
        Settings: the schema of ``experiments.<name>.regime_settings`` in params.yaml.
    """

    Settings: ClassVar[type[RegimeSettings]]

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The supplies of batches: a step takes one of each. The first one's length is the epoch's."""
        return (Stream("batches"),)

    @property
    def named_groups(self) -> Mapping[str, Collection[str]]:
        """Setting -> the model's parameter groups that it names: they are checked before anything is trained."""
        return {}

    @abstractmethod
    def gradients(self, step: Step, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Leave the gradients in the parameters' ``grad`` and the parameters themselves as they were.

        Args:
            step: the network and its surroundings.
            batches: one of each of :attr:`streams`.

        Returns:
            The losses by name, detached, for history.csv; their sum is what was minimised.
        """
