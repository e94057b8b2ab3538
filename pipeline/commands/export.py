"""Features for other toolkits (``lacuna features export``): the stores of a dataset become one MMSA pickle, or
one HDF5 file per modality with an array per utterance (MMIN's format), or one csv file or Parquet table per modality.

``extractor: import`` reads both back. Beside MMSA's own fields the pickle has a field ``lacuna`` for what MMSA's
format cannot hold (times, flags, statuses, tokens, names of columns). MMSA's loader ignores it; with it, the
imported stores equal the exported ones bit for bit.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.feature_tables import writing
from pipeline.data.manifest import MODALITIES, Sample, read_manifest
from pipeline.data.store import FeatureStore, write_utterances
from pipeline.errors import DataError, StoreError
from pipeline.params import Params
from pipeline.training.folds import make_folds

DATA = Path("data")
FIELDS = {"text": "text", "audio": "audio", "video": "vision"}
LENGTHS = {"text": "text_lengths", "audio": "audio_lengths", "video": "vision_lengths"}
BERT_FIRST, BERT_LAST = 101, 102  # [CLS] and [SEP] of BERT's vocabularies


def mmsa_id(sample: Sample) -> str:
    """Return ``video$_$clip``, the form that MMSA's tools split, or the id itself when it does not begin with the
    name of its dialogue.
    """
    prefix = f"{sample.dialogue}_"
    if sample.dialogue and sample.id.startswith(prefix) and len(sample.id) > len(prefix):
        return f"{sample.dialogue}$_${sample.id[len(prefix) :]}"
    return sample.id


def export_mmsa(
    samples: Sequence[Sample],
    stores: Mapping[str, FeatureStore],
    parts: Mapping[str, NDArray[np.int64]],
    path: Path,
    classes: Sequence[str] = (),
) -> None:
    """Write an MMSA pickle (protocol 4, numpy arrays and plain containers only).

    Args:
        samples: the N rows of the manifest, in its order.
        stores: modality -> store of the same samples in the same order.
        parts: "train", "valid", "test" -> (n,) indices into the samples (a fold of pipeline/training/folds.py).
        path: the file; it is written under another name and renamed when complete.
        classes: the order of the labels for classification_labels; empty: sorted by name.

    Raises:
        DataError: a part is empty, or a store has other samples than the manifest.
        StoreError: a store is damaged, or the disk is full.
    """
    ids = tuple(sample.id for sample in samples)
    for modality, store in stores.items():
        if store.ids != ids:
            raise DataError(
                f"{store.path}: has other samples than the manifest. Run: dvc repro extract-{modality}"
            )
    if not all(len(parts.get(part, ())) for part in ("train", "valid", "test")):
        found = {part: len(indices) for part, indices in parts.items()}
        raise DataError(
            f"found {found} samples; MMSA needs at least one in each of train, valid and test. Choose another fold, "
            "or another scheme of folds for the dataset in params.yaml"
        )
    names = list(classes) or sorted({sample.label for sample in samples} - {""})
    # MMSA builds its networks for the length of train: all three parts are padded to one length.
    every = np.concatenate([parts[part] for part in ("train", "valid", "test")])
    longest = {modality: max(1, int(store.lengths[every].max())) for modality, store in stores.items()}
    content = {
        part: _part(samples, stores, parts[part], names, longest) for part in ("train", "valid", "test")
    }
    texts = [fields["lacuna"]["text"] for fields in content.values() if "text" in stores]
    if any((own["token_ids"] >= 0).any() for own in texts):  # then all parts get it, even one without text
        for fields, own in zip(content.values(), texts, strict=True):
            fields["text_bert"] = _bert(own["token_ids"], own["lengths"])
    beside = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            pickle.dump(content, file, protocol=4)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise StoreError(f"{path}: writing failed: {error}. Is the disk full?") from error


def export_utterances(store: FeatureStore, path: Path) -> int:
    """Write one (T, D) float32 array per utterance id, as MMIN's code reads them; return their number.

    A missing modality is one frame of zeros, as in MMIN's code.

    Raises:
        StoreError: the store is damaged, or the disk is full.
    """
    dims = len(store.info.columns)
    arrays = (
        (name, sequence.values if len(sequence.values) else np.zeros((1, dims), np.float32))
        for name, sequence in zip(store.ids, store, strict=True)
    )
    return write_utterances(path, arrays)


def export_table(store: FeatureStore, path: Path) -> None:
    """Write a store as csv or Parquet, by the path's ending: a row for each frame.

    Raises:
        DataError: a feature has the name of another column of such a table.
        StoreError: the store is damaged, or the disk is full.
    """
    with writing(path, store.info) as append:
        for name, sequence in zip(store.ids, store, strict=True):
            append(name, sequence)


def _part(
    samples: Sequence[Sample],
    stores: Mapping[str, FeatureStore],
    indices: NDArray[np.int64],
    names: list[str],
    longest: Mapping[str, int],
) -> dict[str, Any]:
    chosen = [samples[i] for i in indices]
    fields: dict[str, Any] = {
        "id": [mmsa_id(sample) for sample in chosen],
        "raw_text": [sample.text for sample in chosen],
        "annotations": [sample.label for sample in chosen],
        "classification_labels": np.array(
            [names.index(sample.label) if sample.label in names else -1 for sample in chosen], np.float32
        ),
    }
    for suffix, attribute in (
        ("", "score"),
        ("_T", "score_text"),
        ("_A", "score_audio"),
        ("_V", "score_video"),
    ):
        scores = [getattr(sample, attribute) for sample in chosen]
        if suffix == "" or any(score is not None for score in scores):
            fields[f"regression_labels{suffix}"] = np.array(
                [np.nan if score is None else score for score in scores], np.float32
            )
    own: dict[str, Any] = {"columns": {}}
    for modality, store in stores.items():
        own["columns"][modality] = list(store.info.columns)
        own[modality] = _modality(fields, modality, store, indices, longest[modality])
    fields["lacuna"] = own
    return fields


def _modality(
    fields: dict[str, Any],
    modality: str,
    store: FeatureStore,
    indices: NDArray[np.int64],
    longest: int,
) -> dict[str, Any]:
    """Add one modality's arrays to MMSA's fields; return what MMSA's format cannot hold."""
    sequences = [store.read(int(index)) for index in indices]
    lengths = [len(sequence.times) for sequence in sequences]
    values = np.zeros((len(sequences), longest, len(store.info.columns)), np.float32)
    times, flags = np.zeros(values.shape[:2], np.float32), np.zeros(values.shape[:2], np.uint8)
    token_ids = np.full(values.shape[:2], -1, np.int64)
    for row, sequence in enumerate(sequences):
        length = lengths[row]
        values[row, :length], times[row, :length] = sequence.values, sequence.times
        flags[row, :length] = sequence.flags
        if sequence.token_ids is not None:
            token_ids[row, :length] = sequence.token_ids
    fields[FIELDS[modality]] = values
    # MMSA's networks need at least one frame.
    fields[LENGTHS[modality]] = [max(1, length) for length in lengths]
    own: dict[str, Any] = {
        "lengths": np.array(lengths, np.int64),
        "times": times,
        "flags": flags,
        "status": np.array([int(sequence.status) for sequence in sequences], np.uint8),
        "reasons": [sequence.reason for sequence in sequences],
    }
    if modality == "text":
        own["tokens"] = [list(map(str, sequence.tokens)) for sequence in sequences]
        own["token_ids"] = token_ids
    return own


def _bert(token_ids: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return (N, 3, L + 2): token ids between [CLS] and [SEP], their mask, segments (all 0)."""
    count, longest = token_ids.shape
    bert = np.zeros((count, 3, longest + 2), np.float32)
    for row, length in enumerate(lengths):
        bert[row, 0, 0], bert[row, 0, length + 1] = BERT_FIRST, BERT_LAST
        bert[row, 0, 1 : length + 1] = np.maximum(token_ids[row, :length], 0)
        bert[row, 1, : length + 2] = 1
    return bert


def export_dataset(params: Params, name: str, target: Path, form: str, fold: int = 1) -> list[Path]:
    """Export a dataset's extracted features; return the files written.

    Args:
        params: the whole of params.yaml.
        name: a dataset of params.yaml.
        target: the pickle, or the folder for the other forms' files, one a modality.
        form: "mmsa", "utterances", "csv" or "parquet" (pipeline/data/feature_tables.py).
        fold: the fold, from 1, whose train, valid and test parts an MMSA pickle holds.

    Raises:
        DataError: there is no such fold, or the samples cannot be split.
        StoreError: a store is absent or damaged.
    """
    dataset = params.dataset(name)
    samples = read_manifest(DATA / "manifests" / f"{name}.csv")
    ids = [sample.id for sample in samples]
    with ExitStack() as stack:
        stores = {
            modality: stack.enter_context(FeatureStore(DATA / "features" / name / f"{modality}.h5", ids))
            for modality in MODALITIES
        }
        if form == "utterances":
            files = [target / f"{modality}.h5" for modality in MODALITIES]
            for modality, file in zip(MODALITIES, files, strict=True):
                export_utterances(stores[modality], file)
            return files
        if form in ("csv", "parquet"):
            files = [target / f"{modality}.{form}" for modality in MODALITIES]
            for modality, file in zip(MODALITIES, files, strict=True):
                export_table(stores[modality], file)
            return files
        chosen = np.array(
            [i for i, s in enumerate(samples) if not dataset.labels or s.label in dataset.labels]
        )
        folds = make_folds([samples[i] for i in chosen], dataset.folds)
        if not 1 <= fold <= len(folds):
            raise DataError(f"there is no fold {fold}; {name} has the folds 1 to {len(folds)}")
        parts = {part: chosen[getattr(folds[fold - 1], part)] for part in ("train", "valid", "test")}
        export_mmsa(samples, stores, parts, target, dataset.labels)
        return [target]
