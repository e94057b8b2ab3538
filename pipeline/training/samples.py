"""From a dataset's manifest, feature stores and masks to batches.

:func:`read_samples` reads a dataset once; :meth:`SampleSet.prepare` normalises it for one fold and puts it on
the device, ragged and whole; :meth:`DeviceSamples.collate` makes a batch by one gather a modality. A modality
whose status is not ok is absent. Samples that cannot take part are counted in :attr:`SampleSet.left_out`.

What a training set consists of is decided here too: :func:`training_pairs`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.base import UNKNOWN_TOKEN, Batch, drop_modalities
from pipeline.data.datasets import base as loaders
from pipeline.data.manifest import MODALITIES, Sample, read_manifest
from pipeline.data.masks import CONDITIONS, MISSING_CONDITIONS, Draw, hash_words, uniforms
from pipeline.data.store import FeatureInfo, FeatureStore, Status
from pipeline.errors import DataError, ParamsError
from pipeline.params import Dataset

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
TrainOn = Literal["full", "missing", "augmented", "sampled", "a", "v", "t", "av", "at", "vt"]


@dataclass(frozen=True)
class Normaliser:
    """z-score statistics of one modality: (value - mean) * scale.

    Attributes:
        mean: (D,) float32.
        scale: (D,) float32, one over the standard deviation; 0 for a column that never changes.
    """

    mean: Floats
    scale: Floats

    def apply(self, values: Floats, observed: NDArray[np.bool_]) -> Floats:
        """Return (T, D) float32, with zeros in the frames that were not observed (T,)."""
        normal: Floats = (values - self.mean) * self.scale
        normal[~observed] = 0
        return normal

    @classmethod
    def fit(cls, values: Floats) -> Normaliser:
        """Take the statistics of (T, D) frames, in float64; a constant column becomes zeros."""
        if not len(values):
            return cls(np.zeros(values.shape[1], np.float32), np.zeros(values.shape[1], np.float32))
        mean = values.mean(axis=0, dtype=np.float64)
        deviation = values.std(axis=0, dtype=np.float64)
        constant = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-6)
        scale = np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, deviation))
        return cls(mean.astype(np.float32), scale.astype(np.float32))


@dataclass(frozen=True)
class Sequences:
    """One modality of all samples, ragged.

    Attributes:
        values: (sum T, D) float32 as extracted, after pooling.
        observed: (sum T,) bool: frames that carry something.
        starts: (N,) int64 first row of each sample.
        lengths: (N,) int64 rows of each sample; 0 where it lacks the modality.
        info: what the store says of itself.
        values_sha256: the store's checksum.
        pool: how many neighbouring frames were averaged into one.
        token_ids: (sum T,) int64, or None.
    """

    values: Floats
    observed: NDArray[np.bool_]
    starts: Indices
    lengths: Indices
    info: FeatureInfo
    values_sha256: str
    pool: int = 1
    token_ids: Indices | None = None

    def rows(self, samples: Indices) -> Indices:
        """Return the row numbers of these samples, one after the other."""
        lengths = self.lengths[samples]
        begins = np.cumsum(lengths) - lengths
        return np.arange(int(lengths.sum())) + np.repeat(self.starts[samples] - begins, lengths)

    def describe(self) -> dict[str, Any]:
        """Return what a run keeps of where its features came from."""
        return {
            "extractor": self.info.extractor,
            "settings": dict(self.info.settings),
            "columns": list(self.info.columns),
            "frame_period_s": self.info.frame_period_s,
            "pool": self.pool,
            "values_sha256": self.values_sha256,
        }


@dataclass(frozen=True)
class SampleSet:
    """The samples of a dataset that take part, in the manifest's order.

    Attributes:
        samples: their rows of the manifest.
        classes: the names of the C classes.
        labels: (N,) int64 classes; of a regression 0 throughout.
        modalities: modality -> its sequences.
        left_out: reason -> how many samples of the manifest do not take part.
        columns_kept: modality -> (N, D) bool, when a mask takes columns away; else empty.
        scores: (N,) float32, what a regression learns; None for a classification.
        score_limit: the largest score there can be, of either sign.
    """

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    labels: Indices
    modalities: Mapping[str, Sequences]
    left_out: Mapping[str, int]
    columns_kept: Mapping[str, NDArray[np.bool_]]
    scores: Floats | None = None
    score_limit: float = 3.0

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
            if modality in self.columns_kept:
                kept = self.columns_kept[modality]
                for index in np.flatnonzero(sequences.lengths):
                    start = sequences.starts[index]
                    values[start : start + sequences.lengths[index]] *= kept[index]
            flat[modality] = FlatSequences.on(device, values, sequences)
        return DeviceSamples(
            ids=tuple(sample.id for sample in self.samples),
            labels=torch.from_numpy(self.labels).to(device),
            present=torch.from_numpy(self.present).to(device),
            flat=flat,
            device=device,
            has=torch.from_numpy(self.present),
            scores=None if self.scores is None else torch.from_numpy(self.scores).to(device),
            score_limit=self.score_limit,
        )


@dataclass(frozen=True)
class FlatSequences:
    """One modality on the device; one more row of zeros stands at the end, for padding to point at.

    Attributes:
        values: (sum T + 1, D) float32.
        observed: (sum T + 1,) bool.
        starts, lengths: (N,) int64; lengths are at least 1.
        sizes: the lengths once more, on the CPU.
        token_ids: (sum T + 1,) int64, or None.
    """

    values: Tensor
    observed: Tensor
    starts: Tensor
    lengths: Tensor
    sizes: Tensor
    token_ids: Tensor | None

    @classmethod
    def on(cls, device: torch.device, values: Floats, sequences: Sequences) -> FlatSequences:
        """Put normalised values and the rest of the sequences on a device."""
        absent = sequences.lengths == 0
        starts = np.where(absent, len(values), sequences.starts)
        sizes = torch.from_numpy(np.where(absent, 1, sequences.lengths))
        tokens = sequences.token_ids
        return cls(
            values=torch.from_numpy(
                np.concatenate([values, np.zeros_like(values[:1], shape=(1, values.shape[1]))])
            ).to(device),
            observed=torch.from_numpy(np.append(sequences.observed, False)).to(device),
            starts=torch.from_numpy(starts).to(device),
            lengths=sizes.to(device),
            sizes=sizes,
            token_ids=None
            if tokens is None
            else torch.from_numpy(np.append(tokens, UNKNOWN_TOKEN)).to(device),
        )


@dataclass(frozen=True)
class DeviceSamples:
    """All samples of one fold's normalisation, on the device.

    Attributes:
        ids: of the N samples.
        labels: (N,) int64.
        present: (N, 3) bool.
        flat: modality -> its sequences.
        device: where they are.
        has: ``present`` once more, on the CPU.
        scores: (N,) float32, or None for a classification.
        score_limit: the largest score there can be.
    """

    ids: tuple[str, ...]
    labels: Tensor
    present: Tensor
    flat: Mapping[str, FlatSequences]
    device: torch.device
    has: Tensor
    scores: Tensor | None = None
    score_limit: float = 3.0

    def collate(self, indices: Tensor, present: Tensor | None = None, complement: bool = False) -> Batch:
        """Make a batch.

        Args:
            indices: (B,) int64 on the CPU: which samples; one may occur more than once.
            present: (B, 3) bool on the CPU, which modalities to leave; None leaves all.
            complement: whether to add the same samples with just the other modalities (MMIN Eq. 1).
        """
        where = indices.to(self.device, non_blocking=True)
        features, lengths, observed = {}, {}, {}
        sizes = {modality: self.flat[modality].sizes[indices] for modality in MODALITIES}
        tokens: Tensor | None = None
        for modality in MODALITIES:
            flat = self.flat[modality]
            length = flat.lengths[where]
            longest = int(sizes[modality].max()) if len(indices) else 0
            steps = torch.arange(longest, device=self.device)
            valid = steps < length[:, None]
            rows = torch.where(valid, flat.starts[where][:, None] + steps, len(flat.values) - 1)
            features[modality], lengths[modality] = flat.values[rows], length
            observed[modality] = flat.observed[rows]
            if modality == "text" and flat.token_ids is not None:
                tokens = torch.where(valid, flat.token_ids[rows], 0)
        whole = Batch(
            features=features,
            lengths=lengths,
            present=self.present[where],
            observed=observed,
            labels=self.labels[where] if self.scores is None else None,
            scores=None if self.scores is None else self.scores[where],
            ids=tuple(self.ids[index] for index in indices.tolist()),
            token_ids=tokens,
            rows=where,
            sizes=sizes,
            here=(has := self.has[indices]),
        )
        if present is None:
            return whole

        def show(pattern: Tensor) -> Batch:
            here = pattern & has
            left = {
                m: torch.where(here[:, index], sizes[m], torch.ones_like(sizes[m]))
                for index, m in enumerate(MODALITIES)
            }
            return drop_modalities(whole, pattern.to(self.device, non_blocking=True), left, here)

        batch = show(present)
        return replace(batch, complement=show(~present)) if complement else batch


def read_samples(
    dataset: str,
    settings: Dataset,
    frame_rate_hz: Mapping[Any, float] | None = None,
    data: Path = Path("data"),
    draw: Draw | None = None,
    target: str | None = None,
) -> SampleSet:
    """Read a dataset's manifest and feature stores.

    Args:
        dataset: its name.
        settings: its section of params.yaml; labels, folds, and the loader for the scores' range are used.
        frame_rate_hz: modality -> the rate to average neighbouring frames down to; others stay as they are.
        data: the folder of manifests/ and features/.
        draw: a mask over all samples of the manifest, applied before frames are averaged.
        target: the column of the manifest that a regression learns (score, score_text, ...); None for a
            classification.

    Raises:
        DataError: the manifest cannot be used, no sample is left, or the dataset has no classes (no scores).
        ParamsError: a frame rate is asked of features that have none.
        StoreError: a feature store cannot be used.
    """
    if target is None and not settings.labels:
        raise DataError(f"datasets.{dataset}.labels is empty: name the classes that experiments tell apart")
    manifest = read_manifest(data / "manifests" / f"{dataset}.csv")
    ids = [sample.id for sample in manifest]
    modalities = {}
    has = np.zeros(len(ids), bool)  # before any mask
    for index, modality in enumerate(MODALITIES):
        rate = (frame_rate_hz or {}).get(modality)
        path = data / "features" / dataset / f"{modality}.h5"
        gone = None if draw is None else ~draw.present[:, index]
        frames = None if draw is None else draw.frames.get(modality)
        modalities[modality], recorded = _read_modality(path, ids, rate, gone, frames)
        has |= recorded
    labels = {name: number for number, name in enumerate(settings.labels)}
    left_out: Counter[str] = Counter()
    kept = []
    for row, sample in enumerate(manifest):
        if target is not None and getattr(sample, target) is None:
            left_out[f"no {target}"] += 1
        elif target is None and sample.label not in labels:
            left_out[f"label {sample.label}" if sample.label else "no label"] += 1
        elif settings.folds.scheme == "official" and not sample.split:
            left_out["no split"] += 1
        elif not has[row]:
            left_out["no modality"] += 1
        else:
            kept.append(row)
    if not kept:
        way_out = f"Are datasets.{dataset}.labels right?"
        if target is not None:
            way_out = f"Does its owner give a {target}? Else set task: classification"
        raise DataError(f"{dataset}: no sample is left; left out: {dict(left_out)}. {way_out}")
    rows = np.array(kept)
    columns = {} if draw is None else {name: array[rows] for name, array in draw.columns.items()}
    if "text" in columns:  # token ids have no columns: without them nothing leaks
        modalities["text"] = replace(modalities["text"], token_ids=None)
    return SampleSet(
        samples=tuple(manifest[row] for row in kept),
        classes=settings.labels if target is None else (),
        labels=np.array([0 if target else labels[manifest[row].label] for row in kept], np.int64),
        modalities={
            name: replace(s, starts=s.starts[rows], lengths=s.lengths[rows]) for name, s in modalities.items()
        },
        left_out=dict(sorted(left_out.items())),
        columns_kept=columns,
        scores=np.array([getattr(manifest[row], target) for row in kept], np.float32) if target else None,
        score_limit=_score_limit(settings) if target else 3.0,
    )


def _score_limit(settings: Dataset) -> float:
    owner = loaders.find(settings.loader)
    return owner(owner.Settings(**settings.options), settings.root).score_limit


def _read_modality(
    path: Path,
    ids: Sequence[str],
    rate_hz: float | None,
    gone: NDArray[np.bool_] | None,
    frames: NDArray[np.bool_] | None,
) -> tuple[Sequences, NDArray[np.bool_]]:
    """Return a modality's sequences, and (N,) bool which samples had any before the mask."""
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
        if frames is not None:
            if frames.shape != observed.shape:
                raise DataError(
                    f"{path}: {len(observed)} frames, but the mask has {len(frames)}. Run: dvc repro mask"
                )
            observed = observed & frames
        lengths = np.where(store.status == Status.OK, store.lengths, 0)
        recorded = lengths > 0
        if gone is not None:
            lengths = np.where(gone, 0, lengths)
        tokens = store.read_token_ids()
        if tokens is not None and (factor > 1 or (tokens < 0).any()):
            tokens = None
        if tokens is not None and frames is not None:
            tokens = np.where(frames, tokens, UNKNOWN_TOKEN)
        values = np.where(observed[:, None], values, np.float32(0))
        values, observed, starts, lengths = pool_frames(values, observed, store.offsets[:-1], lengths, factor)
        info, checksum = store.info, store.values_sha256
    return Sequences(values, observed, starts, lengths, info, checksum, factor, tokens), recorded


def pool_frames(
    values: Floats, observed: NDArray[np.bool_], starts: Indices, lengths: Indices, factor: int
) -> tuple[Floats, NDArray[np.bool_], Indices, Indices]:
    """Average every ``factor`` neighbouring frames of a sample into one, over those that were observed.

    Args:
        values: (sum T, D) float32.
        observed: (sum T,) bool.
        starts: (N,) first rows.
        lengths: (N,) rows.
        factor: 1 changes nothing. The last frame of a sample averages what is left.

    Returns:
        The same four; a frame of which nothing was observed is zeros.
    """
    if factor == 1:
        return values, observed, starts.astype(np.int64), lengths.astype(np.int64)
    fewer = -(-lengths // factor)
    begins = np.cumsum(fewer) - fewer
    step = np.arange(int(fewer.sum())) - np.repeat(begins, fewer)
    rows = np.repeat(starts, fewer) + step * factor
    ends = np.minimum(rows + factor, np.repeat(starts + lengths, fewer))
    total = np.zeros((len(rows), values.shape[1]), np.float32)
    count = np.zeros(len(rows), np.float32)
    for offset in range(factor):
        inside = rows + offset < ends
        at = (rows + offset)[inside]
        seen = observed[at]
        total[inside] += values[at] * seen[:, None]
        count[inside] += seen
    total /= np.maximum(count, 1)[:, None]
    return total, count > 0, begins.astype(np.int64), fewer.astype(np.int64)


def training_pairs(
    train_on: TrainOn, train: Indices, present: NDArray[np.bool_], ids: Sequence[str], seed: int, epoch: int
) -> tuple[Tensor, Tensor]:
    """Return the training set of an epoch: which samples, and which modalities each shows.

    Args:
        train_on: full: every sample once, whole; missing: under all six missing conditions (MMIN section
            4.1.1);
            augmented: both; sampled: once, under one of the six, drawn anew every epoch; a condition's name
            (a, vt, ...): once, under this one.
        train: (n,) the samples of the training part.
        present: (N, 3) bool, what all samples have.
        ids: of all N samples.
        seed: of the run.
        epoch: from 1; matters to sampled only.

    Returns:
        (P,) int64 samples and (P, 3) bool patterns, on the CPU. A pair without any modality is not among
        them.
    """
    full = np.ones((1, 3), bool)
    six = np.array([CONDITIONS[name] for name in MISSING_CONDITIONS])
    if train_on == "sampled":
        chance = uniforms(hash_words(seed, "train/condition", epoch, [ids[i] for i in train], 0), 0)
        indices, patterns = train, six[(chance * len(six)).astype(np.int64)]
    else:
        table = {"full": full, "missing": six, "augmented": np.concatenate([full, six])}.get(train_on)
        table = np.array([CONDITIONS[train_on]]) if table is None else table
        indices, patterns = np.repeat(train, len(table)), np.tile(table, (len(train), 1))
    useful = (patterns & present[indices]).any(axis=1)
    return torch.from_numpy(indices[useful].astype(np.int64)), torch.from_numpy(patterns[useful])


def derive_seed(seed: int, *purpose: object) -> int:
    """Return a 63-bit seed for one purpose: sha256 of everything named."""
    digest = hashlib.sha256("\n".join(map(str, (seed, *purpose))).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
