"""Small models, each with one thing that a model may ask for, and how they take a place in models/ for a test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.base import MODALITIES, Batch, ModelSettings, Network, Output, Pretraining, View
from models.layers import observed_mean, task_loss


def register(monkeypatch: pytest.MonkeyPatch, name: str, model: type[Network]) -> None:
    """Let models/<name>.py be a file with this model, for one test."""
    module = ModuleType(f"models.{name}")
    module.Model = model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"models.{name}", module)


def means(batch: Batch) -> Tensor:
    """Return (B, sum of D_m): all modalities' means over their observed frames."""
    return torch.cat([observed_mean(batch, modality) for modality in MODALITIES], dim=1)


class Talk(Network):
    """Reads a dialogue turn by turn: each turn knows those before it."""

    Settings = ModelSettings
    dialogues = True

    def __init__(self, settings: Any, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__(settings, dims, outputs)
        self.read = nn.Linear(sum(dims.values()), 16)
        self.turns = nn.GRU(16, 16, batch_first=True)
        self.head = nn.Linear(32, outputs)

    def forward(self, batch: Batch) -> Output:
        """Return the prediction of every turn, the loss of the labelled ones, and the states."""
        if batch.dialogues is None:
            raise ValueError("found a batch without dialogues")
        read = torch.relu(self.read(means(batch)))
        states, _ = self.turns(batch.dialogues.padded(read))
        joint = torch.cat([read, batch.dialogues.flat(states)], dim=1)
        prediction = self.head(joint)
        return Output(prediction, task_loss(prediction, batch), {"joint": joint})


class Twin(Network):
    """Wants the same of two draws of one sample, and of all that was recorded."""

    Settings = ModelSettings

    def __init__(self, settings: Any, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__(settings, dims, outputs)
        self.joint = nn.Linear(sum(dims.values()), 16)
        self.head = nn.Linear(16, outputs)

    @classmethod
    def views(cls, settings: Any) -> Mapping[str, View]:
        """Return a second draw, and the whole."""
        return {"other": View("redrawn"), "whole": View("whole")}

    def forward(self, batch: Batch) -> Output:
        """Return prediction, losses, and the joint embedding."""
        joint = torch.relu(self.joint(means(batch)))
        prediction = self.head(joint)
        losses = task_loss(prediction, batch)
        if losses:
            for name, view in batch.views.items():
                losses[name] = functional.mse_loss(torch.relu(self.joint(means(view))), joint)
        return Output(prediction, losses, {"joint": joint})


class Centred(Network):
    """Sees how far a sample is from the mean of each class of the training part."""

    Settings = ModelSettings
    centres: Tensor

    def __init__(self, settings: Any, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__(settings, dims, outputs)
        self.register_buffer("centres", torch.zeros(outputs, sum(dims.values())))
        self.head = nn.Linear(outputs, outputs)

    def look_at_training(self, batches: Callable[[], Iterable[Batch]], seed: int) -> None:
        """Keep the classes' means (of a regression, the mean of all)."""
        seen = list(batches())
        values = torch.cat([means(batch) for batch in seen])
        labels = torch.cat(
            [torch.zeros(len(b), dtype=torch.int64) if b.labels is None else b.labels for b in seen]
        )
        for label in range(len(self.centres)):
            self.centres[label] = values[labels == label].mean(dim=0)

    def forward(self, batch: Batch) -> Output:
        """Return prediction, loss, and the distances."""
        near = -(means(batch)[:, None] - self.centres).square().mean(dim=2)
        prediction = self.head(near)
        return Output(prediction, task_loss(prediction, batch), {"joint": near})


class LadderSettings(ModelSettings):
    """How many networks of its own kind come before it."""

    steps: int = 0
    endless: bool = False


class Ladder(Network):
    """Starts from a network of its own kind, one step lower."""

    Settings = LadderSettings
    climbed: Tensor

    def __init__(self, settings: Any, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__(settings, dims, outputs)
        self.head = nn.Linear(sum(dims.values()), outputs)
        self.register_buffer("climbed", torch.zeros(()))

    @classmethod
    def pretraining(cls, settings: LadderSettings) -> Pretraining | None:
        """Return the network below."""
        if not settings.steps and not settings.endless:
            return None
        below = {"steps": settings.steps - (not settings.endless), "endless": settings.endless}
        return Pretraining("ladder", below, {"train_on": "missing", "learning_rate": 0.01 * settings.steps})

    def load_pretrained(self, network: nn.Module) -> None:
        """Take its weights, and one step more."""
        self.load_state_dict(network.state_dict())
        self.climbed += 1

    def forward(self, batch: Batch) -> Output:
        """Return the prediction and its loss."""
        prediction = self.head(means(batch))
        return Output(prediction, task_loss(prediction, batch))
