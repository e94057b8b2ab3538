"""What the stages left under data/, read for the report: manifests, features, masks, runs, results.

Values of features are not read, only what a store says of them. Whatever is not there yet is left empty and
stops nothing; a damaged file is an error.
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pipeline.data import masks as mask
from pipeline.data.datasets import base as loaders
from pipeline.data.manifest import MODALITIES, Sample, read_manifest
from pipeline.data.store import FeatureInfo, FeatureStore, Status
from pipeline.errors import DataError
from pipeline.params import Mask, Params
from pipeline.reporting.embeddings import read_embeddings
from pipeline.reporting.statistics import AVERAGE, Key, Scores
from pipeline.reporting.tables import Cell, Table


@dataclass(frozen=True)
class Features:
    """One modality's feature store, without its values.

    Attributes:
        info: what the store says of itself.
        counts: ok, missing and failed samples.
        frames: rows in all.
        observed: rows that carry something (a face was found, a word is known).
        skipped: (status, reason) -> ids; every sample that is not ok.
        checksum: sha256 of the values.
    """

    info: FeatureInfo
    counts: Mapping[Status, int]
    frames: int
    observed: int
    skipped: Mapping[tuple[Status, str], tuple[str, ...]]
    checksum: str


@dataclass(frozen=True)
class MaskFacts:
    """One mask of a dataset.

    Attributes:
        name: its name in params.yaml.
        settings: its protocol and settings.
        seed: the root seed.
        checksum: sha256 of the (first) draw.
        modalities_gone: share of the modalities there are that the draw takes; None when it takes frames.
        frames_gone: share of the frames (or columns) that the draw takes; None when it takes modalities.
    """

    name: str
    settings: Mask
    seed: int
    checksum: str
    modalities_gone: float | None
    frames_gone: float | None

    @property
    def said(self) -> dict[str, str]:
        """The settings of the protocol that are not left at their defaults."""
        kept = self.settings.model_dump(
            exclude={"protocol", "draw"}, exclude_none=True, exclude_defaults=True
        )
        return {
            key: "-".join(f"{v:g}" for v in value) if isinstance(value, tuple) else str(value)
            for key, value in kept.items()
        }


@dataclass(frozen=True)
class DatasetFacts:
    """What the report says of a dataset.

    Attributes:
        name: its name in params.yaml.
        samples: the manifest's rows, or None when it is not prepared yet.
        said: what prepare says beside the manifest: counts, notes, attribution.
        constructed: whether its samples are constructed and thus no benchmark.
        features: modality -> its store; a modality that is not extracted yet is absent.
        masks: what its mask file holds.
    """

    name: str
    samples: Sequence[Sample] | None
    said: Mapping[str, Any]
    constructed: bool
    features: Mapping[str, Features]
    masks: Sequence[MaskFacts]

    @property
    def words(self) -> str:
        """What captions call it: the word "constructed" belongs to a corpus that is."""
        return f"the constructed corpus {self.name}" if self.constructed else f"the dataset {self.name}"


@dataclass(frozen=True)
class ExperimentFacts:
    """What the report says of an experiment.

    Attributes:
        name, dataset, model, regime, task, train_on: as in params.yaml.
        place: its place among the experiments of its dataset, which gives it its colour.
        classes: the labels.
        scores: by fold, run and condition; empty when it is not evaluated yet.
        curves: column of history.csv -> (fold, run) -> values, one an epoch.
        confusion: condition -> (label, predicted) -> count over all folds and runs.
        summary: what training says of it; empty when it is not trained yet.
        runs: (fold, run) -> what training says of that network.
        embeddings: what evaluate kept of them; empty unless the experiment asked for it.
    """

    name: str
    dataset: str
    model: str
    regime: str
    task: str
    train_on: str
    place: int
    classes: Sequence[str]
    scores: Scores
    curves: Mapping[str, Mapping[Key, Sequence[float]]]
    confusion: Mapping[str, Mapping[tuple[str, str], int]]
    summary: Mapping[str, Any]
    runs: Mapping[Key, Mapping[str, Any]]
    embeddings: Mapping[str, NDArray[Any]]

    @property
    def state(self) -> str:
        """What has been done with it: evaluated, trained or nothing yet."""
        return "evaluated" if self.scores.values else "trained" if self.runs else "not trained yet"


def gather(params: Params, data: Path) -> tuple[list[DatasetFacts], list[ExperimentFacts]]:
    """Read what the stages wrote for the datasets and experiments of params.yaml.

    Args:
        params: what was asked for; anything else under ``data`` (of an experiment since removed) is left
            alone.
        data: the folder data/.

    Raises:
        DataError, StoreError: a file is damaged.
    """
    datasets = [_read_dataset(params, name, data) for name in params.datasets]
    seen: Counter[str] = Counter()
    experiments = []
    for name, chosen in params.experiments.items():
        experiments.append(_read_experiment(params, name, seen[chosen.dataset], data))
        seen[chosen.dataset] += 1
    return datasets, experiments


def _read_dataset(params: Params, name: str, data: Path) -> DatasetFacts:
    manifest = data / "manifests" / f"{name}.csv"
    samples = read_manifest(manifest) if manifest.is_file() else None
    said = _read_json(data / "manifests" / f"{name}.json")
    ids = None if samples is None else [sample.id for sample in samples]
    features = {}
    for modality in MODALITIES:
        path = data / "features" / name / f"{modality}.h5"
        if path.is_file():
            with FeatureStore(path, ids) as store:
                features[modality] = _describe(store)
    constructed = loaders.find(params.datasets[name].loader).constructed
    return DatasetFacts(
        name, samples, said, constructed, features, _read_masks(data / "masks" / f"{name}.h5", ids)
    )


def _describe(store: FeatureStore) -> Features:
    skipped: dict[tuple[Status, str], list[str]] = {}
    for sample_id, status, reason in zip(store.ids, store.status, store.reasons, strict=True):
        if status != Status.OK:
            skipped.setdefault((Status(int(status)), reason), []).append(sample_id)
    return Features(
        info=store.info,
        counts={status: int((store.status == status).sum()) for status in Status},
        frames=int(store.offsets[-1]),
        observed=int(store.read_flags().sum()),
        skipped={key: tuple(ids) for key, ids in skipped.items()},
        checksum=store.values_sha256,
    )


def _read_masks(path: Path, ids: Sequence[str] | None) -> list[MaskFacts]:
    if not path.is_file():
        return []
    masks = mask.read_masks(path, ids)
    return [describe_mask(masks, name) for name in masks.settings]


def describe_mask(masks: mask.Masks, name: str) -> MaskFacts:
    """Return what one mask of a file is, and what it really takes away."""
    settings = masks.mask(name)
    had = masks.lengths > 0
    gone = frames_gone = None
    if settings.protocol != "conditions":
        drawn = masks.draw(name)
        if drawn.frames or drawn.columns:
            kept = [*drawn.frames.values(), *drawn.columns.values()]
            total = sum(one.size for one in kept)
            frames_gone = 1 - sum(int(one.sum()) for one in kept) / total if total else 0.0
        else:
            gone = 1 - int((drawn.present & had).sum()) / max(int(had.sum()), 1)
    return MaskFacts(name, settings, masks.seed, masks.checksums[name], gone, frames_gone)


def _read_experiment(params: Params, name: str, place: int, data: Path) -> ExperimentFacts:
    chosen = params.experiments[name]
    runs_folder, results = data / "runs" / name, data / "results" / name
    summary = _read_json(runs_folder / "summary.json")
    runs: dict[Key, dict[str, Any]] = {}
    curves: dict[str, dict[Key, list[float]]] = {}
    for path in sorted(runs_folder.glob("*-*/run.json")):
        run = _read_json(path)
        key = (int(run["fold"]), int(run["run"]))
        runs[key] = run
        for row in _read_csv(path.with_name("history.csv")):
            for column, value in row.items():
                curves.setdefault(column, {}).setdefault(key, []).append(_to_number(value))
    values: dict[Key, dict[str, dict[str, float]]] = {}
    for row in _read_csv(results / "folds.csv"):
        if row["condition"] != AVERAGE:  # it is computed here from the six, so that both cannot differ
            numbers = {m: _to_number(v) for m, v in row.items() if m not in _NO_METRIC}
            values.setdefault((int(row["fold"]), int(row["run"])), {})[row["condition"]] = numbers
    confusion: dict[str, dict[tuple[str, str], int]] = {}
    for row in _read_csv(results / "confusion.csv"):
        confusion.setdefault(row["condition"], {})[row["label"], row["predicted"]] = int(row["count"])
    return ExperimentFacts(
        name=name,
        dataset=chosen.dataset,
        model=chosen.model,
        regime=chosen.regime,
        task=chosen.task,
        train_on=chosen.train_on,
        place=place,
        classes=summary.get("classes", params.datasets[chosen.dataset].labels),
        scores=Scores(values),
        curves=curves,
        confusion=confusion,
        summary=summary,
        runs=dict(sorted(runs.items())),
        embeddings=read_embeddings(results / "hidden.npz") if chosen.keep_hidden else {},
    )


_NO_METRIC = {"experiment", "fold", "run", "condition", "samples"}


def _to_number(text: str) -> float:
    return float(text) if text else math.nan


def _read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object, or an empty one when there is no such file."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error}). Remove it and run: dvc repro") from error
    if not isinstance(found, dict):
        raise DataError(
            f"{path}: found {type(found).__name__}, expected an object. Remove it and run: dvc repro"
        )
    return found


def _read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a csv file, or none when there is no such file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise DataError(
                f"{path}, line {number}: not as many fields as the header. Run: dvc repro -f -s evaluate"
            )
    return rows


# --- a dataset's tables ---


def modality_table(dataset: DatasetFacts) -> Table:
    """Return which extractor made each modality and what became of the samples."""
    rows = []
    for modality in MODALITIES:
        if modality not in dataset.features:
            rows.append([Cell(modality), Cell("not extracted yet"), *[Cell("–", number=True)] * 7])
            continue
        features = dataset.features[modality]
        info, period = features.info, features.info.frame_period_s
        rows.append(
            [
                Cell(modality),
                Cell(info.extractor),
                _count(len(info.columns)),
                _count(features.frames),
                Cell("uneven" if period is None else f"{1 / period:.4g}", number=True),
                Cell(f"{features.observed / features.frames:.1%}" if features.frames else "–", number=True),
                *(_count(features.counts[status]) for status in Status),
            ]
        )
    head = ["modality", "extractor", "columns", "frames", "frames/s", "observed", "ok", "missing", "failed"]
    return Table(
        name=f"{dataset.name}-modalities",
        caption=f"Features of {dataset.words}: samples by what became of each modality. "
        "Observed: the share of frames that show something (a face, a word).",
        head=head,
        rows=rows,
    )


def skipped_table(dataset: DatasetFacts, most: int | None = None) -> Table | None:
    """Return why modalities are missing or failed, or None when none is.

    Args:
        dataset: its facts.
        most: how many samples are named for each reason; None: all of them.
    """
    rows = [
        [
            Cell(modality),
            Cell(status.name.lower()),
            Cell(reason or "no reason given"),
            _count(len(ids)),
            Cell(", ".join(ids[:most]) + (", ..." if most is not None and len(ids) > most else "")),
        ]
        for modality, features in dataset.features.items()
        for (status, reason), ids in features.skipped.items()
    ]
    if not rows:
        return None
    return Table(
        name=f"{dataset.name}-skipped",
        caption=f"What {dataset.words} lacks, and why.",
        head=["modality", "status", "reason", "samples", "ids"],
        rows=rows,
    )


def mask_table(dataset: DatasetFacts) -> Table | None:
    """Return what each mask is, or None when there are none."""
    rows = []
    for one in dataset.masks:
        rows.append(
            [
                Cell(one.name),
                Cell(one.settings.protocol),
                Cell(", ".join(f"{key} {value}" for key, value in one.said.items()) or "–"),
                Cell("drawn anew at each use" if one.settings.draw == "sampled" else "fixed"),
                Cell("–" if one.modalities_gone is None else f"{one.modalities_gone:.1%}", number=True),
                Cell("–" if one.frames_gone is None else f"{one.frames_gone:.1%}", number=True),
                _count(one.seed),
                Cell(one.checksum[:12]),
            ]
        )
    if not rows:
        return None
    return Table(
        name=f"{dataset.name}-masks",
        caption=f"Missing-modality masks of {dataset.words}. Gone: what the draw really takes "
        "from what the samples have (of a mask drawn anew, the first draw).",
        head=["mask", "protocol", "settings", "draw", "modalities gone", "frames gone", "seed", "checksum"],
        rows=rows,
    )


def _count(value: int) -> Cell:
    return Cell(str(value), number=True)
