"""What a model sees and gives. To add one, write models/<name>.py with a class ``Model``.

Missing modalities become zeros here, in :func:`drop_modalities`, for every model and in no other place;
models never draw masks. B is the batch size, T_m the longest sequence of modality m in the batch, D_m its
columns, C the outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

MODALITIES = ("text", "audio", "video")
UNKNOWN_TOKEN = 100  # BERT's [UNK]: what a missing word piece becomes


@dataclass(frozen=True)
class Batch:
    """Samples as a model gets them.

    Attributes:
        features: modality -> (B, T_m, D_m) float32; zeros at padding and wherever nothing is available.
        lengths: modality -> (B,) int64, at least 1.
        present: (B, 3) bool in the order text, audio, video: which modalities are available.
        observed: modality -> (B, T_m) bool: frames that carry something (neither padding, nor dropped, nor
            faceless).
        labels: (B,) int64 classes, or None.
        scores: (B,) float32, or None.
        ids: the samples' ids.
        token_ids: (B, T_text) int64 ids of the text encoder's vocabulary without [CLS] and [SEP], 0 at
            padding, or None: for models that fine-tune the encoder.
        rows: (B,) int64, each sample's number among all samples of the dataset: for models that keep a state
            a sample.
        sizes: the lengths once more, on the CPU, or None where nobody knows: who has them need not ask the
            device for the longest sequence.
        here: ``present`` once more, on the CPU, or None, in the same way.
        complement: the same samples with just the *other* modalities available (MMIN Eq. 1), when the model
            asked for it by ``needs_complement`` and is being trained; else None.
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
    sizes: Mapping[str, Tensor] | None = None
    here: Tensor | None = None
    complement: Batch | None = None

    def __len__(self) -> int:
        return int(self.present.shape[0])


@dataclass(frozen=True)
class Output:
    """What a model gives.

    Attributes:
        prediction: (B, C) logits of a classification, or (B, 1) of a regression.
        losses: name -> scalar; already weighted, their sum is minimised. Empty when there is nothing to train
            on.
        hidden: name -> (B, ...) whatever an analysis may want to see (joint and imagined embeddings).
    """

    prediction: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)
    hidden: dict[str, Tensor] = field(default_factory=dict)


class ModelSettings(BaseModel):
    """The root of every model's settings: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Network(nn.Module, ABC):
    """One network. It has no trainer of its own: pipeline/training/loop.py trains all of them.

    Class attributes:
        Settings: the schema of ``experiments.<name>.settings`` in params.yaml.
        needs_complement: whether training batches carry :attr:`Batch.complement`.
        pretrained: the model (a file's name) whose trained weights this one starts from, or None. It is
            trained once for a dataset, fold and seed, and handed to :meth:`load_pretrained`.
        stages: the passes over the training samples that make one epoch, in order: name -> the parameter
            groups that it trains with an optimiser of its own (empty: all of them). Nearly every model has
            just one.
    """

    Settings: ClassVar[type[ModelSettings]]
    needs_complement: ClassVar[bool] = False
    pretrained: ClassVar[str | None] = None
    stages: ClassVar[Mapping[str, tuple[str, ...]]] = {"all": ()}

    def __init__(self, settings: Any, dims: Mapping[str, int], outputs: int) -> None:
        """Build the network; every model takes just these three.

        Args:
            settings: an instance of the model's own :attr:`Settings`.
            dims: columns D_m of text, audio and video.
            outputs: C classes, or 1 for a regression.
        """
        super().__init__()

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
    def pretrained_settings(cls, settings: Any) -> dict[str, Any]:
        """Return the settings of the network that :attr:`pretrained` names."""
        return {}

    @abstractmethod
    def forward(self, batch: Batch) -> Output:
        """Return prediction, losses (when the batch has labels or scores) and hidden states."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the trainable parameters by name: an experiment can give each its own rate."""
        return {"all": [parameter for parameter in self.parameters() if parameter.requires_grad]}

    def load_pretrained(self, network: nn.Module) -> None:
        """Take over the trained network that :attr:`pretrained` names."""

    def samples_known(self, count: int, score_limit: float) -> None:
        """Make room for a state a sample, before the first epoch.

        Args:
            count: :attr:`Batch.rows` are below it.
            score_limit: scores lie in [-score_limit, score_limit].
        """

    def epoch_start(self, epoch: int) -> None:
        """Prepare for epoch 1, 2, ... (for the few models that keep state over epochs)."""

    def stage_start(self, stage: str) -> None:
        """Prepare for one of :attr:`stages`: the losses of the following batches are that stage's."""


def drop_modalities(
    batch: Batch, present: Tensor, sizes: Mapping[str, Tensor] | None = None, here: Tensor | None = None
) -> Batch:
    """Make modalities missing: the one place where they become zeros.

    A missing modality is one all-zero frame, so that neither its content nor its length tells anything; the
    papers say "zero vectors" and leave the length open (MMIN section 3.1.2). Token ids become one [UNK].

    Args:
        batch: samples with all that was recorded.
        present: (B, 3) bool, what to leave. What was not there in the first place stays missing.
        sizes: modality -> (B,) int64 on the CPU, the lengths of what is left, where the caller knows them.
        here: (B, 3) bool on the CPU, what is left, where the caller knows it.

    Returns:
        A batch that shares nothing with what was dropped; sequences are cut to the longest that is left.
    """
    present = present & batch.present
    features, lengths, observed = {}, {}, {}
    for index, modality in enumerate(MODALITIES):
        keep = present[:, index]
        length = torch.where(keep, batch.lengths[modality], torch.ones_like(batch.lengths[modality]))
        longest = int((length if sizes is None else sizes[modality]).max()) if len(batch) else 0
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
        sizes=sizes,
        here=here,
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
