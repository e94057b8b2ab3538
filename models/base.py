"""What a model sees and gives. To add one, write models/<name>.py with a class ``Model``; this one works::

    import torch
    from torch import nn

    from models.base import MODALITIES, Batch, ModelSettings, Network, Output
    from models.layers import observed_mean, task_loss


    class Model(Network):
        Settings = ModelSettings

        def __init__(self, settings, dims, outputs):
            super().__init__(settings, dims, outputs)
            self.joint = nn.Linear(sum(dims.values()), 32)
            self.head = nn.Linear(32, outputs)

        def forward(self, batch: Batch) -> Output:
            means = [observed_mean(batch, modality) for modality in MODALITIES]
            joint = torch.relu(self.joint(torch.cat(means, dim=1)))
            prediction = self.head(joint)
            return Output(prediction, task_loss(prediction, batch), {"joint": joint})

Missing modalities become zeros here, in :func:`drop_modalities`, for every model and in no other place;
models never draw masks. What a model may ask for besides: other versions of each sample (:meth:`Network.views`),
whole dialogues (:attr:`Network.dialogues`), a network to start from (:meth:`Network.pretraining`), a look at the
training part before the first epoch (:meth:`Network.look_at_training`), several passes an epoch
(:attr:`Network.phases`).

B is the batch size, T_m the longest sequence of modality m in the batch, D_m its columns, C the outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

import models

MODALITIES: tuple[str, ...] = models.MODALITIES
UNKNOWN_TOKEN = 100  # BERT's [UNK]: what a missing word piece becomes
Judgement = Literal["flag", "modality", "prediction"]
HIDDEN_TRUTH = "the hidden truth"  # of Network.needs: in training, what its batches hide
MODEL_A_CONDITION = "a model a condition"  # and: one network for each of the missing conditions
NO_LABEL = -100  # of a turn that is context only; what cross_entropy leaves out


@dataclass(frozen=True)
class Dialogues:
    """Which dialogue each row of a batch belongs to; rows stand dialogue by dialogue, in the order of turns.

    Attributes:
        dialogue: (B,) int64 in 0 ... count - 1, rising.
        turn: (B,) int64, the place within the dialogue, from 0.
        speaker: (B,) int64, the speakers of a dialogue numbered from 0 in the order in which they first speak.
        labelled: (B,) bool: turns that count in loss and metrics; the others are context.
        count: D, how many dialogues.
        longest: U, the turns of the longest.
    """

    dialogue: Tensor
    turn: Tensor
    speaker: Tensor
    labelled: Tensor
    count: int
    longest: int

    @property
    def turns(self) -> Tensor:
        """(D, U) bool: True where :meth:`padded` holds a turn."""
        return self.padded(torch.ones_like(self.labelled))

    def padded(self, values: Tensor) -> Tensor:
        """Return (D, U, ...): the rows (B, ...) by dialogue and turn, zeros behind a dialogue's last turn."""
        out = values.new_zeros((self.count * self.longest, *values.shape[1:]))
        return out.index_copy(0, self._places, values).view(self.count, self.longest, *values.shape[1:])

    def flat(self, padded: Tensor) -> Tensor:
        """Return the rows (B, ...) of what stands by dialogue and turn, (D, U', ...) with U' >= U."""
        return padded[:, : self.longest].flatten(0, 1)[self._places]

    @property
    def _places(self) -> Tensor:
        return self.dialogue * self.longest + self.turn


@dataclass(frozen=True)
class Batch:
    """Samples as a model gets them.

    Attributes:
        features: modality -> (B, T_m, D_m) float32; zeros at padding and wherever nothing is available.
        lengths: modality -> (B,) int64, at least 1.
        present: (B, 3) bool in the order text, audio, video: which modalities are available.
        observed: modality -> (B, T_m) bool: frames that carry something (neither padding, nor dropped, nor
            faceless).
        labels: (B,) int64 classes, :data:`NO_LABEL` for context; or None.
        scores: (B,) float32, 0 for context; or None.
        ids: the samples' ids.
        token_ids: (B, T_text) int64 ids of the text encoder's vocabulary without [CLS] and [SEP], 0 at
            padding, or None: for models that fine-tune the encoder.
        rows: (B,) int64, each sample's number among all samples of the dataset: for models that keep a state
            a sample.
        lengths_cpu: the lengths once more, on the CPU, so that nobody waits for the device to learn the longest
            sequence; None when the batch was made without them.
        present_cpu: ``present`` once more, on the CPU, for the same reason.
        views: the same samples in the versions that the model asked for by :meth:`Network.views`, by name; empty
            outside training.
        dialogues: which dialogue each row belongs to, when the model asked for whole dialogues; else None.
        facts: what the dataset says of each sample beside its label, by the names that the model asked for by
            :meth:`Network.facts`: name -> (B, ...).
    """

    features: Mapping[str, Tensor]
    lengths: Mapping[str, Tensor]
    present: Tensor
    observed: Mapping[str, Tensor]
    labels: Tensor | None = None
    scores: Tensor | None = None
    ids: tuple[str, ...] = ()
    token_ids: Tensor | None = None
    rows: Tensor | None = None
    lengths_cpu: Mapping[str, Tensor] | None = None
    present_cpu: Tensor | None = None
    views: Mapping[str, Batch] = field(default_factory=dict)
    dialogues: Dialogues | None = None
    facts: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.present.shape[0])


@dataclass(frozen=True)
class Output:
    """What a model gives.

    Attributes:
        prediction: (B, C) logits of a classification, or (B, 1) of a regression.
        losses: name -> scalar; already weighted, their sum is minimised. Empty when there is nothing to train
            on.
        hidden: name -> (B, ...) whatever an analysis may want to see (joint and imagined embeddings): an
            experiment's ``keep_hidden`` takes these names.
    """

    prediction: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)
    hidden: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """One more version of each sample, beside the one that the batch shows (:meth:`Network.views`).

    Attributes:
        kind: ``complement``: just the modalities that the batch does not show (MMIN Eq. 1), all of their frames;
            ``whole``: all that was recorded;
            ``redrawn``: what the experiment trains on, drawn once more and independently (UMDF's second
            version); where it draws nothing, the same as the batch.
    """

    kind: Literal["complement", "whole", "redrawn"]

    @property
    def shows_hidden(self) -> bool:
        """Whether training sees what the batch hides."""
        return self.kind != "redrawn"


@dataclass(frozen=True)
class Pretraining:
    """The network that a model starts from (:meth:`Network.pretraining`).

    Attributes:
        model: its file's name; the model's own is allowed.
        settings: of that model.
        fields: fields of the experiment that trains it, over those that it takes from the experiment that
            wants it.
    """

    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)


class ModelSettings(BaseModel):
    """The root of every model's settings: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Network(nn.Module, ABC):
    """One network. It has no trainer of its own: pipeline/training/loop.py trains all of them.

    Class attributes:
        Settings: the schema of ``experiments.<name>.settings`` in params.yaml.
        dialogues: whether batches hold whole dialogues, with :attr:`Batch.dialogues`; ``batch_size`` then counts
            dialogues.
        phases: the passes over the training samples that make one epoch, in order: name -> the parameter
            groups that it trains with an optimiser of its own (empty: all of them). Nearly every model has
            just one.
    """

    Settings: ClassVar[type[ModelSettings]]
    dialogues: ClassVar[bool] = False
    phases: ClassVar[Mapping[str, tuple[str, ...]]] = {"all": ()}

    def __init__(self, settings: Any, dims: Mapping[str, int], outputs: int) -> None:
        """Build the network; every model takes just these three.

        Args:
            settings: an instance of the model's own :attr:`Settings`.
            dims: columns D_m of text, audio and video.
            outputs: C classes, or 1 for a regression.
        """
        super().__init__()
        self.settings = settings

    @classmethod
    def recipe(cls, settings: Any) -> dict[str, Any]:
        """Return how these settings want to be trained: fields of an experiment and their values.

        They hold wherever ``experiments.<name>`` does not give the field itself. Empty: the usual defaults.
        """
        return {}

    @classmethod
    def files(cls, settings: Any) -> Sequence[Path]:
        """Return the files that the weights start from, beside PyTorch's generator: a run's key covers them."""
        return ()

    @classmethod
    def views(cls, settings: Any) -> Mapping[str, View]:
        """Return the versions of each sample that training batches carry in :attr:`Batch.views`, by name."""
        return {}

    @classmethod
    def facts(cls, settings: Any) -> tuple[str, ...]:
        """Return what the model must be told of each sample beside its modalities, in training and at test.

        ``key``: (B, 3) bool in the order text, audio, video, whether the sample means something else without that
        modality. Only datasets that know (the constructed demo) have it.
        """
        return ()

    @classmethod
    def judgements(cls, settings: Any) -> Mapping[str, Judgement]:
        """Return the hidden states, one of each sample, that evaluation writes down for every fold and seed.

        Name -> what it is: ``flag`` (B,) bool; ``modality`` (B,), a place in text, audio, video, or -1 for none;
        ``prediction`` (B, C), logits or a score. They come into judgements.csv (pipeline/evaluate.py).
        """
        return {}

    @classmethod
    def pretraining(cls, settings: Any) -> Pretraining | None:
        """Return the network that this one starts from, or None.

        It is trained once for a dataset, fold and seed, and handed to :meth:`load_pretrained`.
        """
        return None

    @classmethod
    def needs(cls, settings: Any) -> tuple[str, ...]:
        """Return what the method takes for granted that others do not, as the report's columns name it.

        :data:`HIDDEN_TRUTH`: in training it sees what its batches hide, by a view or by a network that was trained on
        complete samples before. :data:`MODEL_A_CONDITION` is said by the model that is so (MCTN).
        """
        before = cls.pretraining(settings)
        complete = before is not None and before.fields.get("train_on", "full") in ("full", "augmented")
        seen = complete or any(view.shows_hidden for view in cls.views(settings).values())
        return (HIDDEN_TRUTH,) if seen else ()

    @abstractmethod
    def forward(self, batch: Batch) -> Output:
        """Return prediction, losses (when the batch has labels or scores) and hidden states."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the trainable parameters by name, each in one group: an experiment can give each its own rate."""
        return {"all": [parameter for parameter in self.parameters() if parameter.requires_grad]}

    def load_pretrained(self, network: nn.Module) -> None:
        """Take over the trained network that :meth:`pretraining` names."""

    def samples_known(self, count: int, score_limit: float) -> None:
        """Make room for a state a sample, before the first epoch and before a saved state is loaded.

        Args:
            count: :attr:`Batch.rows` are below it.
            score_limit: scores lie in [-score_limit, score_limit].
        """

    def look_at_training(self, batches: Callable[[], Iterable[Batch]], seed: int) -> None:
        """See the training part once, before the first epoch; a resumed run does not see it again.

        What is learnt must be kept in buffers of a size that the settings give: they are saved with the weights.

        Args:
            batches: gives the samples of the training part, whole, in the manifest's order; each call begins anew.
            seed: for whatever must be drawn.
        """

    def epoch_start(self, epoch: int) -> None:
        """Prepare for epoch 1, 2, ... (for the few models that keep state over epochs)."""

    def phase_start(self, phase: str) -> None:
        """Prepare for one of :attr:`phases`: the losses of the following batches are that phase's."""


def drop_modalities(
    batch: Batch,
    present: Tensor,
    lengths_cpu: Mapping[str, Tensor] | None = None,
    present_cpu: Tensor | None = None,
) -> Batch:
    """Make modalities missing: the one place where they become zeros.

    A missing modality is one all-zero frame, so that neither its content nor its length tells anything; the
    papers say "zero vectors" and leave the length open (MMIN section 3.1.2). Token ids become one [UNK].

    Args:
        batch: samples with all that was recorded.
        present: (B, 3) bool, what to leave. What was not there in the first place stays missing.
        lengths_cpu: modality -> (B,) int64 on the CPU, the lengths of what is left, where the caller knows them.
        present_cpu: (B, 3) bool on the CPU, what is left, where the caller knows it.

    Returns:
        A batch that shares nothing with what was dropped; sequences are cut to the longest that is left.
    """
    present = present & batch.present
    features, lengths, observed = {}, {}, {}
    for index, modality in enumerate(MODALITIES):
        keep = present[:, index]
        length = torch.where(keep, batch.lengths[modality], torch.ones_like(batch.lengths[modality]))
        longest = int((length if lengths_cpu is None else lengths_cpu[modality]).max()) if len(batch) else 0
        values = batch.features[modality][:, :longest]
        features[modality] = torch.where(keep[:, None, None], values, torch.zeros_like(values))
        observed[modality] = batch.observed[modality][:, :longest] & keep[:, None]
        lengths[modality] = length
    tokens = batch.token_ids
    if tokens is not None:
        tokens = tokens[:, : features["text"].shape[1]]
        unknown = torch.zeros_like(tokens)
        unknown[:, :1] = UNKNOWN_TOKEN
        tokens = torch.where(present[:, :1], tokens, unknown)
    return replace(
        batch,
        features=features,
        lengths=lengths,
        observed=observed,
        present=present,
        token_ids=tokens,
        lengths_cpu=lengths_cpu,
        present_cpu=present_cpu,
    )


def drop_frames(batch: Batch, keep: Mapping[str, Tensor]) -> Batch:
    """Make single frames missing: zero vectors, and [UNK] in the token ids; lengths stay as they are.

    Args:
        batch: the samples.
        keep: modality -> (B, T_m) bool, False where a frame goes; a modality that is not named stays whole.
    """
    features, observed, tokens = dict(batch.features), dict(batch.observed), batch.token_ids
    for modality, frames in keep.items():
        values = features[modality]
        features[modality] = torch.where(frames[:, :, None], values, torch.zeros_like(values))
        observed[modality] = observed[modality] & frames
        if modality == "text" and tokens is not None:
            tokens = torch.where(frames | (tokens == 0), tokens, torch.full_like(tokens, UNKNOWN_TOKEN))
    return replace(batch, features=features, observed=observed, token_ids=tokens)


def drop_columns(batch: Batch, keep: Mapping[str, Tensor]) -> Batch:
    """Make columns of the features missing, in all frames of a sample (M3S with ``axis: feature``).

    Token ids have no columns: where text loses some, the batch goes on without ids, so that nothing leaks.

    Args:
        batch: the samples.
        keep: modality -> (B, D_m) bool, False where a column goes; a modality that is not named stays whole.
    """
    features = dict(batch.features)
    for modality, columns in keep.items():
        values = features[modality]
        features[modality] = torch.where(columns[:, None, :], values, torch.zeros_like(values))
    return replace(batch, features=features, token_ids=None if "text" in keep else batch.token_ids)
