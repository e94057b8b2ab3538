"""A dataset's samples, from its manifest and feature stores.

:func:`read_samples` reads a dataset once; :meth:`SampleSet.prepare` normalises it for one fold and puts it on
the device, from where pipeline/training/batching.py makes batches. A modality whose status is not ok is absent.
Samples that cannot take part are counted in :attr:`SampleSet.left_out`.

The order of things is the same in training, validation and test: frames are hidden by a mask first, then
averaged down (``frame_rate_hz``) or resampled, then cut (``lengths``), then normalised. A mask says what is missing
of the recording, so that it must come before anything that a model's reading of the recording does: models that
average differently miss the same frames, and an average is taken over what is left. Statistics of normalisation
come from the complete training part.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.base import MODALITIES, NO_LABEL
from pipeline.data.manifest import Sample, read_manifest
from pipeline.data.masks import Masks
from pipeline.data.store import FeatureStore, Status
from pipeline.errors import DataError, ParamsError, StoreError
from pipeline.params import Dataset, Experiment, Length
from pipeline.training.batching import DeviceSamples, FlatSequences, Turns
from pipeline.training.classes import ClassRules, answer_of
from pipeline.training.masking import NamedMask, masks_of
from pipeline.training.metrics import MOSI_SCALE, Scale
from pipeline.training.sequences import Floats, Indices, Normaliser, Sequences, read_frames


@dataclass(frozen=True)
class SampleSet:
    """The samples of a dataset that take part, in the manifest's order.

    Attributes:
        samples: their rows of the manifest.
        classes: the names of the C classes.
        labels: (N,) int64 classes; of a regression 0 throughout; :data:`models.base.NO_LABEL` for context.
        modalities: modality -> its sequences.
        left_out: reason -> how many samples of the manifest do not take part, or only as context.
        scores: (N,) float32, what a regression learns, from the middle of its scale on; None for a classification.
        scale: of what it learns.
        manifest_rows: (N,) int64, where each sample stands in the manifest; None: where it stands here.
        context: (N,) bool, the turns that have no label and are there for their dialogue only; None: none are.
        facts: name -> (N, ...) bool or float32, what the manifest knows of the samples and the model asked for.
    """

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    labels: Indices
    modalities: Mapping[str, Sequences]
    left_out: Mapping[str, int]
    scores: Floats | None = None
    scale: Scale = MOSI_SCALE
    manifest_rows: Indices | None = None
    context: NDArray[np.bool_] | None = None
    facts: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def rows(self) -> Indices:
        """(N,) int64: where each sample stands in the manifest."""
        return np.arange(len(self)) if self.manifest_rows is None else self.manifest_rows

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """(N,) bool: the samples that are no mere context."""
        return np.ones(len(self), bool) if self.context is None else ~self.context

    @property
    def outputs(self) -> int:
        """What a network gives for each sample: C logits, or one score."""
        return len(self.classes) if self.scores is None else 1

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def dims(self) -> dict[str, int]:
        """Columns of text, audio and video."""
        return {modality: self.modalities[modality].values.shape[1] for modality in MODALITIES}

    @property
    def present(self) -> NDArray[np.bool_]:
        """(N, 3) bool: which modalities a sample has."""
        return np.stack([self.modalities[modality].lengths > 0 for modality in MODALITIES], axis=1)

    def named_masks(self, masks: Masks | None, names: Sequence[str]) -> Mapping[str, NamedMask]:
        """Return masks of the dataset's file by name, for these samples (:func:`masks_of`).

        Raises:
            StoreError: the file has no mask of a name, or one over frames was drawn for other frames than there are.
        """
        found = masks_of(masks, names, [s.id for s in self.samples], self.present, self.rows)
        over_frames = [name for name, mask in found.items() if mask.kept.frames]
        if masks is not None and over_frames:
            self._check_frames(masks, over_frames[0])
        return found

    def _check_frames(self, masks: Masks, name: str) -> None:
        """Check that the file counts the frames of the stores, sample by sample and row by row."""
        begins = np.cumsum(masks.lengths, axis=0) - masks.lengths
        for index, modality in enumerate(MODALITIES):
            starts, lengths = self.modalities[modality].as_recorded
            counted, begin = masks.lengths[self.rows, index], begins[self.rows, index]
            wrong = np.flatnonzero((counted != lengths) | ((lengths > 0) & (begin != starts)))
            if len(wrong):
                at = wrong[0]
                raise StoreError(
                    f'{masks.path}: the mask "{name}" counts {counted[at]} frames of {modality} of the sample '
                    f'"{self.samples[at].id}" from row {begin[at]}, the features have {lengths[at]} from row '
                    f"{starts[at]}. Run: dvc repro mask@{masks.dataset}"
                )

    def fit_normalisers(self, train: Indices) -> dict[str, Normaliser]:
        """Take the statistics of the observed frames of the samples ``train``."""
        result = {}
        for modality in MODALITIES:
            sequences = self.modalities[modality]
            rows = sequences.rows(train)
            result[modality] = Normaliser.fit(sequences.values[rows[sequences.observed[rows]]])
        return result

    def prepare(self, normalisers: Mapping[str, Normaliser], device: torch.device) -> DeviceSamples:
        """Normalise and put on the device."""
        flat = {}
        for modality in MODALITIES:
            sequences = self.modalities[modality]
            values = normalisers[modality].apply(sequences.values, sequences.observed)
            flat[modality] = FlatSequences.on(device, values, sequences, normalisers[modality])
        present = torch.from_numpy(self.present)
        return DeviceSamples(
            ids=tuple(sample.id for sample in self.samples),
            labels=torch.from_numpy(self.labels).to(device),
            present=present.to(device),
            flat=flat,
            device=device,
            present_cpu=present,
            turns=Turns.of(self.samples, self.labelled),
            scores=None if self.scores is None else torch.from_numpy(self.scores).to(device),
            scale=self.scale,
            facts={name: torch.from_numpy(values).to(device) for name, values in self.facts.items()},
        )


def samples_of(
    experiment: Experiment,
    dataset: Dataset,
    data: Path = Path("data"),
    *,
    hides_frames: bool,
    dialogues: bool,
    facts: Sequence[str] = (),
) -> SampleSet:
    """Read a dataset as an experiment, resolved, wants it.

    Args:
        experiment: its labels, target, frame_rate_hz, lengths and folds are used.
        dataset: its section of params.yaml.
        data: the folder of manifests/ and features/.
        hides_frames: whether a mask over frames will be used.
        dialogues: whether turns without a label stay, as context.
        facts: what the model must be told of each sample, by name.

    Raises:
        DataError, ParamsError, StoreError: as :func:`read_samples`.
    """
    return read_samples(
        experiment.dataset,
        dataset if experiment.folds is None else dataset.model_copy(update={"folds": experiment.folds}),
        experiment.frame_rate_hz,
        data,
        target=experiment.target if experiment.task == "regression" else None,
        rules=ClassRules.parse(experiment.labels, dataset.labels),
        score=experiment.target,
        lengths=experiment.lengths,
        hides_frames=hides_frames,
        dialogues=dialogues,
        facts=facts,
    )


def read_samples(
    dataset: str,
    settings: Dataset,
    frame_rate_hz: Mapping[Any, float] | None = None,
    data: Path = Path("data"),
    *,
    target: str | None = None,
    rules: ClassRules | None = None,
    score: str = "score",
    lengths: Mapping[Any, Length] | None = None,
    hides_frames: bool = False,
    dialogues: bool = False,
    facts: Sequence[str] = (),
) -> SampleSet:
    """Read a dataset's manifest and feature stores.

    Args:
        dataset: its name.
        settings: its section of params.yaml; labels and folds are used.
        frame_rate_hz: modality -> the rate to average neighbouring frames down to; others stay as they are.
        data: the folder of manifests/ and features/.
        target: the column of the manifest that a regression learns (score, score_text, ...); None for a
            classification.
        rules: which class a sample belongs to; None: by the dataset's labels.
        score: the column by which ``rules`` may tell classes.
        lengths: modality -> how its frames are cut or resampled.
        hides_frames: whether to keep the frames before they are averaged, for masks over frames.
        dialogues: keep turns without a label as context, and count them in ``left_out`` as such.
        facts: what the manifest must know of each sample, by name (:attr:`Sample.facts`).

    Raises:
        DataError: the manifest cannot be used or lacks a fact, no sample is left, or the dataset has no classes (no
            scores).
        ParamsError: a frame rate is asked of features that have none.
        StoreError: a feature store cannot be used.
    """
    rules = rules or ClassRules.parse({}, settings.labels)
    if target is None and not rules.names:
        raise DataError(f"datasets.{dataset}.labels is empty: name the classes that experiments tell apart")
    path = data / "manifests" / f"{dataset}.csv"
    manifest = read_manifest(path)
    ids = [sample.id for sample in manifest]
    for name in facts:
        if manifest and name not in manifest[0].facts:
            raise DataError(
                f'{path}: found no fact "{name}" of the samples, which the model\'s settings ask for; found '
                f"{', '.join(manifest[0].facts) or 'none'}. Few datasets can know it (the constructed demo knows key). "
                "Change these settings, or let the dataset's loader give it (Sample.facts)"
            )
    modalities = {}
    has = np.zeros(len(ids), bool)
    for modality in MODALITIES:
        modalities[modality] = _read_modality(
            data / "features" / dataset / f"{modality}.h5",
            ids,
            (frame_rate_hz or {}).get(modality),
            (lengths or {}).get(modality),
            hides_frames,
        )
        has |= modalities[modality].lengths > 0
    left_out: Counter[str] = Counter()
    kept, labels, context = [], [], []
    for row, sample in enumerate(manifest):
        reason = answer_of(sample, target, rules, score, settings.folds.scheme)
        if isinstance(reason, int) and not has[row]:
            reason = "no modality"
        if isinstance(reason, str):
            as_context = dialogues and bool(sample.dialogue)
            left_out[reason + " (context only)" * as_context] += 1
            if not as_context:
                continue
        kept.append(row)
        labels.append(NO_LABEL if isinstance(reason, str) else reason)
        context.append(isinstance(reason, str))
    if all(context):
        way_out = f"Are datasets.{dataset}.labels right?"
        if target is not None:
            way_out = f"Does its owner give a {target}? Else set task: classification"
        raise DataError(f"{dataset}: no sample is left; left out: {dict(left_out)}. {way_out}")
    rows = np.array(kept)
    scores, scale = None, MOSI_SCALE
    if target is not None:
        scale = _scale(path.with_suffix(".json"), target)
        found = [
            0.0 if c else getattr(manifest[row], target) - scale.centre
            for row, c in zip(kept, context, strict=True)
        ]
        scores = np.array(found, np.float32)
    return SampleSet(
        samples=tuple(manifest[row] for row in kept),
        classes=rules.names if target is None else (),
        labels=np.array(labels, np.int64),
        modalities={name: _of_rows(s, rows) for name, s in modalities.items()},
        left_out=dict(sorted(left_out.items())),
        scores=scores,
        scale=scale,
        manifest_rows=rows,
        context=np.array(context) if any(context) else None,
        facts={name: _fact([manifest[row].facts[name] for row in kept]) for name in facts},
    )


def _fact(values: Sequence[Sequence[float]]) -> NDArray[Any]:
    found = np.array(values)
    return found if found.dtype == bool else found.astype(np.float32)


def _of_rows(sequences: Sequences, rows: Indices) -> Sequences:
    recorded = sequences.recorded
    if recorded is not None:
        recorded = replace(recorded, starts=recorded.starts[rows], lengths=recorded.lengths[rows])
    return replace(
        sequences,
        starts=sequences.starts[rows],
        lengths=sequences.lengths[rows],
        uncut=None if sequences.uncut is None else sequences.uncut[rows],
        recorded=recorded,
    )


def _scale(path: Path, target: str) -> Scale:
    """Return the scale of a column, by what stands beside the dataset's manifest."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        scale = Scale.of(target, said.get("ranges", {}), said.get("score_limit"))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: does not say how large the {target} can be ({error}). Run: dvc repro -f -s prepare"
        ) from error
    if scale is None:
        raise DataError(f"{path}: does not say how large the {target} can be. Run: dvc repro -f -s prepare")
    return scale


def _read_modality(
    path: Path, ids: Sequence[str], rate_hz: float | None, length: Length | None, hides_frames: bool
) -> Sequences:
    with FeatureStore(path, ids) as store:
        values, flags = store.read_all()
        factor = 1
        if rate_hz is not None:
            period = store.info.frame_period_s
            if period is None:
                raise ParamsError(
                    f"{path}: frame_rate_hz needs frames of equal length; {store.info.extractor} has none"
                )
            factor = max(1, round(1 / (period * rate_hz)))
        observed = flags > 0
        lengths = np.where(store.status == Status.OK, store.lengths, 0).astype(np.int64)
        starts = store.offsets[:-1].astype(np.int64)
        tokens = store.read_token_ids()
        if tokens is not None and (tokens < 0).any():
            tokens = None
        values = np.where(observed[:, None], values, np.float32(0))
        info, checksum = store.info, store.values_sha256
    return read_frames(
        values, observed, starts, lengths, info, checksum, tokens, factor, length, hides_frames=hides_frames
    )


def derive_seed(seed: int, *purpose: object) -> int:
    """Return a 63-bit seed for one purpose: sha256 of everything named."""
    digest = hashlib.sha256("\n".join(map(str, (seed, *purpose))).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
