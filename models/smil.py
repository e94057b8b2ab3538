"""SMIL, severely missing modality: a missing modality is imagined as a mixture of what the training part holds.

Paper: Ma, Ren, Zhao, Tulyakov, Wu, Peng, "SMIL: Multimodal Learning with Severely Missing Modality", AAAI 2021.
The feature of a missing modality is a weighted sum of K centres, the result of K-means over the training part's
features of that modality; the weights are drawn from a distribution that a network reads off what is there
(Bayesian, reparameterised). Features so made are regularised: a second network gives a distribution of factors, by
whose softplus they are multiplied. All is trained by a meta-step: inner steps on samples that lack a modality, then
the gradient, at the weights so reached, on complete samples of which one modality is hidden, so that the truth of
it is known.

From the authors' code (mengmenm/SMIL: its training on missing sound is there, of images and sounds of digits alone):
weights by softplus, brought to a sum of 1; K = 10; K-means over the features of a network that was trained on
complete samples before; a joint layer of 64; dropout 0.5; Adam 1e-3 with weight decay 1e-4, batches of 128; features
and joint layer of both ways are drawn together by 0.01 times their mean squared distance each; a complete sample
goes neither through the weights nor the factors.

=============================== ============================== ==========================================
..                              paper                          code (``variant: code``)
=============================== ============================== ==========================================
regularisation                  h times softplus(r)            h plus softplus(r)
deviation of r                  from the network               1 (its own is computed and not used)
weights of the centres          drawn in training              never drawn: their mean
=============================== ============================== ==========================================

From two modalities to three, and to scores:
- Each modality has an encoder (LSTM, maximum over time), centres, and a network of weights, which reads the other
  two: their embeddings, zeros where one is missing, and which of them are there. So two may be missing, or all.
- Whatever lacks something goes through the regularisation; which modality it lacks makes no difference to it.
- The task's loss is cross-entropy or the absolute error; nothing else looks at classes.
- K-means runs before the first epoch over the pretrained network's embeddings (``pretrained: true``; a network of
  this very kind on complete samples) and the centres stay. There, too, the encoders go on learning meanwhile.

The meta-step is no part of the network but of a regime: ``m3s`` with ``order: second``. As it stands, its inner steps
see all losses and adapt all weights. The code's see the task's loss alone (``regime_settings: inner_views: false``),
leave the group ``inference`` as it is (``inner_groups: [text, audio, video, classifier]``), and what they minimise is
minimised by the outer step once more (``add_inner_loss: true``). Under ``regime: standard`` there are no inner steps.

In training the network sees what the batch hides (the view ``whole``). At test nothing is drawn: means alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from models.base import MODALITIES, Batch, ModelSettings, Network, Output, Pretraining, View
from models.layers import LSTMEncoder, observed_counts, seen_lengths, task_loss

WHOLE = "whole"

Size = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]


class SMILSettings(ModelSettings):
    """Choices of SMIL; the defaults are the authors', where they have one.

    Attributes:
        hidden: H, of the encoders.
        centres: K, of each modality.
        joint: of the layer before the prediction.
        dropout: before the prediction.
        feature_weight, joint_weight: of the distances between a sample and itself with nothing missing, of the three
            embeddings and of the joint layer.
        pretrained: start from the network that was trained on complete samples; the centres are those of its
            embeddings. Without, they are those of untrained encoders.
        variant: see the module.
    """

    hidden: Size = 128
    centres: Size = 10
    joint: Size = 64
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    feature_weight: Weight = 0.01
    joint_weight: Weight = 0.01
    pretrained: bool = True
    variant: Literal["paper", "code"] = "paper"


class Normal(nn.Module):
    """A normal distribution read off values: drawn from in training, its mean otherwise.

    Args:
        columns: of the values.
        size: of what is drawn.
        spread: ``learnt``, a deviation in (0, 1); ``one``; ``none``: the mean in training, too.
    """

    def __init__(self, columns: int, size: int, spread: Literal["learnt", "one", "none"]) -> None:
        super().__init__()
        self.mean = nn.Linear(columns, size)
        self.spread = nn.Linear(columns, size) if spread == "learnt" else None
        self.drawn = spread != "none"

    def forward(self, values: Tensor) -> Tensor:
        """Return (B, size) of (B, columns)."""
        mean = self.mean(values)
        if not (self.training and self.drawn):
            return mean
        noise = torch.randn_like(mean)
        return mean + (noise if self.spread is None else noise * torch.sigmoid(self.spread(values)))


class Regularisation(nn.Module):
    """h times softplus(r), or plus it, with r drawn from what is read off h."""

    def __init__(self, columns: int, code: bool) -> None:
        super().__init__()
        self.factors = Normal(columns, columns, "one" if code else "learnt")
        self.add = code

    def forward(self, values: Tensor, where: Tensor) -> Tensor:
        """Return (B, columns), regularised in the rows ``where`` (B,) bool, as they were in the others."""
        factors = functional.softplus(self.factors(values))
        changed = values + factors if self.add else values * factors
        return torch.where(where[:, None], changed, values)


class Model(Network):
    """SMIL. ``outputs`` is the number of classes, or 1 for a regression."""

    Settings = SMILSettings
    centres: Tensor

    def __init__(self, settings: SMILSettings, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__(settings, dims, outputs)
        self.settings = settings
        hidden, code, others = settings.hidden, settings.variant == "code", len(MODALITIES) - 1
        self.encoders = nn.ModuleDict({m: LSTMEncoder(dims[m], hidden) for m in MODALITIES})
        self.weights = nn.ModuleDict(
            {
                m: Normal(others * (hidden + 1), settings.centres, "none" if code else "learnt")
                for m in MODALITIES
            }
        )
        width = len(MODALITIES) * hidden
        self.feature_regularisation = Regularisation(width, code)
        self.joint = nn.Linear(width, settings.joint)
        self.joint_regularisation = Regularisation(settings.joint, code)
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear(settings.joint, outputs)
        # (3, K, H); until the training part was looked at, whatever the generator gives
        self.register_buffer("centres", torch.randn(len(MODALITIES), settings.centres, hidden))

    @classmethod
    def recipe(cls, settings: SMILSettings) -> dict[str, Any]:
        """Return the authors' training, on one drawn condition a sample."""
        return {
            "train_on": "random-condition",
            "learning_rate": 1e-3,
            "weight_decay": 1e-4,
            "batch_size": 128,
        }

    @classmethod
    def views(cls, settings: SMILSettings) -> Mapping[str, View]:
        """Return the whole sample, to which the imagined one is drawn."""
        return {WHOLE: View("whole")} if settings.feature_weight or settings.joint_weight else {}

    @classmethod
    def pretraining(cls, settings: SMILSettings) -> Pretraining | None:
        """Return the same network, trained on complete samples in the usual way; that one starts from nothing."""
        if not settings.pretrained:
            return None
        own = {**settings.model_dump(exclude_defaults=True), "pretrained": False}
        return Pretraining("smil", own, {"train_on": "full", "regime": "standard", "regime_settings": {}})

    def load_pretrained(self, network: nn.Module) -> None:
        """Take over what complete samples train: encoders, joint layer and prediction."""
        if not isinstance(network, Model):
            raise TypeError(f"SMIL starts from a network of its own kind, found {type(network).__name__}")
        self.encoders.load_state_dict(network.encoders.state_dict())
        self.joint.load_state_dict(network.joint.state_dict())
        self.head.load_state_dict(network.head.state_dict())

    def look_at_training(self, batches: Callable[[], Iterable[Batch]], seed: int) -> None:
        """Find the centres: K-means (k-means++, one thread, on the CPU) over the embeddings of each modality."""
        mode = self.training
        self.eval()
        kept: list[list[NDArray[np.float64]]] = [[] for _ in MODALITIES]
        with torch.no_grad():
            for batch in batches():
                embeddings, there = self._embed(batch)
                rows = there.cpu().numpy()
                for index, found in enumerate(kept):
                    found.append(embeddings[:, index].double().cpu().numpy()[rows[:, index]])
        self.train(mode)
        for index, found in enumerate(kept):
            points = np.concatenate(found)
            if len(points):
                means = find_centres(points, self.settings.centres, seed + index)
                self.centres[index] = torch.from_numpy(means).to(self.centres)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the groups text, audio, video (the encoders), classifier and inference (the weights of the centres,
        and the regularisation): what the inner steps of the meta-step leave alone."""
        parts: dict[str, list[nn.Module]] = {m: [encoder] for m, encoder in self.encoders.items()}
        parts["classifier"] = [self.joint, self.head]
        parts["inference"] = [self.weights, self.feature_regularisation, self.joint_regularisation]
        return {name: [p for part in group for p in part.parameters()] for name, group in parts.items()}

    def forward(self, batch: Batch) -> Output:
        """Return prediction, losses (the distances to the whole sample where that is there), and hidden states:
        ``joint`` (B, joint), ``embeddings`` (B, 3 H), imagined where missing, ``imagined`` (B, 3 H), all of them."""
        embeddings, there = self._embed(batch)
        imagined = self._imagine(embeddings, there)
        filled = torch.where(there[:, :, None], embeddings, imagined).flatten(1)
        lacking = ~there.all(dim=1)
        features = self.feature_regularisation(filled, lacking)
        joint = self.joint_regularisation(torch.relu(self.joint(features)), lacking)
        prediction = self.head(self.dropout(joint))
        losses = task_loss(prediction, batch)
        if losses and WHOLE in batch.views:
            losses |= self._distances(batch.views[WHOLE], features, joint, lacking)
        hidden = {"joint": joint, "embeddings": filled, "imagined": imagined.flatten(1)}
        return Output(prediction, losses, hidden)

    def _embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return (B, 3, H), and (B, 3) bool: which modalities show anything."""
        embeddings = [
            encoder(batch.features[m], seen_lengths(batch, m)) for m, encoder in self.encoders.items()
        ]
        return torch.stack(embeddings, dim=1), observed_counts(batch) > 0

    def _imagine(self, embeddings: Tensor, there: Tensor) -> Tensor:
        """Return (B, 3, H), every modality as the others have it."""
        flags = there.to(embeddings.dtype)
        told = torch.cat([embeddings * flags[:, :, None], flags[:, :, None]], dim=2)
        made = []
        for index, modality in enumerate(MODALITIES):
            others = [other for other in range(len(MODALITIES)) if other != index]
            weights = functional.softplus(self.weights[modality](told[:, others].flatten(1)).float())
            made.append(weights / weights.sum(dim=1, keepdim=True) @ self.centres[index])
        return torch.stack(made, dim=1).to(embeddings.dtype)

    def _distances(self, whole: Batch, features: Tensor, joint: Tensor, lacking: Tensor) -> dict[str, Tensor]:
        """Return the losses that draw samples which lack something to what they are in whole, as far as that is
        known: without regularisation and dropout."""
        embeddings, there = self._embed(whole)
        counted = lacking & there.all(dim=1)
        clean = embeddings.flatten(1)
        clean_joint = torch.relu(self.joint(clean))
        return {
            "features": self.settings.feature_weight * _distance(features, clean, counted),
            "joint": self.settings.joint_weight * _distance(joint, clean_joint, counted),
        }


def _distance(first: Tensor, second: Tensor, counted: Tensor) -> Tensor:
    """Return the mean squared difference over the rows that count, 0 where none does."""
    errors = (first.float() - second.float()).square().mean(dim=1)
    return (errors * counted).sum() / counted.sum().clamp(min=1)


def find_centres(points: NDArray[np.float64], count: int, seed: int) -> NDArray[np.float64]:
    """Return (K, D), the centres of K-means over (N, D); of fewer different points than K, these in turn.

    One thread: sums over parts of the points would differ in their last digits.
    """
    different = np.unique(points, axis=0)
    if len(different) <= count:
        return different[np.arange(count) % len(different)]
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        means: NDArray[np.float64] = (
            KMeans(count, n_init=1, random_state=seed % 2**32).fit(points).cluster_centers_
        )
    return means
