"""What the stages wrote under data/, read for the report: manifests, features, masks, runs, results.

Of a feature store its description is read, not its values. What is not there yet stays empty; a damaged file is an
error. How an experiment was trained is read from what training recorded (summary.json, key ``trained``), not from
params.yaml: there the model's recipe is missing, and it may have changed since.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data import masks as mask
from pipeline.data.manifest import MODALITIES, Sample, read_manifest
from pipeline.data.shown import for_spreadsheet
from pipeline.data.store import FeatureInfo, FeatureStore, Status
from pipeline.errors import DataError
from pipeline.extraction.extractors.base import caution_line, cautions_for
from pipeline.params import Experiment, Mask, Params
from pipeline.reporting.embeddings import read_embeddings
from pipeline.reporting.joint_space import Joint, read_joint
from pipeline.reporting.judgements import Judged, read_judgements
from pipeline.reporting.predictions import Predictions, read_predictions
from pipeline.reporting.statistics import AVERAGE, Key, Scores
from pipeline.reporting.tables import Cell, Table
from pipeline.training.chance import Chance
from pipeline.training.metrics import MOSI_SCALE, Scale


@dataclass(frozen=True)
class Features:
    """One modality's feature store, without its values.

    Attributes:
        info: what the store says of itself.
        counts: the number of ok, missing and failed samples.
        frames: the number of rows.
        observed: rows that show something (a face was found, a word is known).
        skipped: (status, reason) -> ids of the samples that are not ok.
        checksum: sha256 of the values.
        lengths: the rows of the samples that have any, from the fewest to the most.
    """

    info: FeatureInfo
    counts: Mapping[Status, int]
    frames: int
    observed: int
    skipped: Mapping[tuple[Status, str], tuple[str, ...]]
    checksum: str
    lengths: Sequence[int] = ()


def _short(value: object) -> str:
    """Return a part of a mask's setting in a word: a number, a condition, or the protocol of a mixture's part."""
    if isinstance(value, dict):
        return str(value["protocol"])
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class MaskFacts:
    """One mask of a dataset.

    Attributes:
        name: its name in params.yaml.
        settings: its protocol and settings.
        seed: the root seed.
        checksum: sha256 of the (first) draw.
        modalities_gone: share of the samples' modalities that the draw removes; None for a mask over frames.
        frames_gone: share of the frames (or columns) that the draw removes; None for a mask over modalities.
    """

    name: str
    settings: Mask
    seed: int
    checksum: str
    modalities_gone: float | None
    frames_gone: float | None

    @property
    def said(self) -> dict[str, str]:
        """The protocol's settings other than the defaults."""
        kept = self.settings.model_dump(
            exclude={"protocol", "draw"}, exclude_none=True, exclude_defaults=True
        )
        return {
            key: "-".join(map(_short, value)) if isinstance(value, tuple) else str(value)
            for key, value in kept.items()
        }


@dataclass(frozen=True)
class DatasetFacts:
    """What the report says of a dataset.

    Attributes:
        name: its name in params.yaml.
        samples: the manifest's rows, or None when it is not prepared yet.
        said: the json beside the manifest: counts, notes, attribution.
        constructed: whether its samples are constructed, so that its numbers are no benchmark.
        features: modality -> its store, for the modalities that are extracted.
        masks: the masks of its file.
    """

    name: str
    samples: Sequence[Sample] | None
    said: Mapping[str, Any]
    constructed: bool
    features: Mapping[str, Features]
    masks: Sequence[MaskFacts]

    @property
    def words(self) -> str:
        """Its name in captions, which say whether it is constructed."""
        return f"the constructed corpus {self.name}" if self.constructed else f"the dataset {self.name}"


@dataclass(frozen=True)
class ExperimentFacts:
    """What the report says of an experiment.

    Attributes:
        name: its name in params.yaml.
        trained: the whole experiment as it was trained: with the model's recipe, and with all settings of the model
            and the regime. Its key ``pretraining`` holds the same of the network that it started from, or None. Of an
            experiment that is not trained yet: as it would be trained.
        classes: the labels.
        scores: by fold, run and condition; empty when it is not evaluated yet.
        curves: column of history.csv -> (fold, run) -> values, one an epoch.
        confusion: condition -> (label, predicted) -> count over all folds and runs.
        summary: summary.json; empty when it is not trained yet.
        runs: (fold, run) -> run.json.
        embeddings: true and imagined embeddings that evaluate kept; empty unless the experiment asked for them.
        place: its place among the experiments that it is compared with, which gives it its colour.
        chance: what guessing reaches on its test samples, and whether it is above; None when it was evaluated before
            that was written down.
        needs: what its method takes for granted (models/base.py, ``Network.needs``); None when training did not
            write it down.
        judgements: EMMR's, of the test samples that lack one modality.
        joint: joint representations that evaluate kept; None unless the experiment asked for them.
        predictions: what it said of each test sample; None when it is not evaluated yet, or was not asked for.
        failure: why its last training stopped, where it did; empty else.
    """

    name: str
    trained: Mapping[str, Any]
    classes: Sequence[str]
    scores: Scores
    curves: Mapping[str, Mapping[Key, Sequence[float]]]
    confusion: Mapping[str, Mapping[tuple[str, str], int]]
    summary: Mapping[str, Any]
    runs: Mapping[Key, Mapping[str, Any]]
    embeddings: Mapping[str, NDArray[Any]]
    place: int = 0
    needs: Sequence[str] | None = None
    predictions: Predictions | None = None
    failure: str = ""
    chance: Chance | None = None
    judgements: Sequence[Judged] = ()
    joint: Joint | None = None

    @property
    def dataset(self) -> str:
        """The dataset that it was trained on."""
        return str(self.trained["dataset"])

    @property
    def model(self) -> str:
        """Its model."""
        return str(self.trained["model"])

    @property
    def regime(self) -> str:
        """Its regime."""
        return str(self.trained["regime"])

    @property
    def task(self) -> str:
        """classification or regression."""
        return str(self.trained["task"])

    @property
    def scale(self) -> Scale:
        """The scale of a regression's scores; CMU-MOSI's where training did not write it down."""
        return _scale(self.summary)

    @property
    def train_on(self) -> str:
        """What it was trained on; with the mask that was put over that, if there was one."""
        mask = self.trained.get("train_mask")
        return f"{self.trained['train_on']}{f' under {mask}' if mask else ''}"

    @property
    def flag(self) -> str:
        """What every table says in red beside its name: that the test part chose its epochs; else nothing."""
        return "chosen by test" if self.trained.get("selection") == "test-paper" else ""

    def masks(self, dataset: DatasetFacts) -> tuple[str, ...]:
        """Return the dataset's masks that it was trained under."""
        wanted = (self.trained["train_on"], self.trained.get("train_mask"))
        return tuple(mask.name for mask in dataset.masks if mask.name in wanted)

    @property
    def state(self) -> str:
        """How far it is: evaluated, trained or not trained yet."""
        if self.failure and not self.scores.values:
            return "failed"
        return "evaluated" if self.scores.values else "trained" if self.summary else "not trained yet"


def gather(
    params: Params, data: Path, predictions: bool = True
) -> tuple[list[DatasetFacts], list[ExperimentFacts]]:
    """Read what the stages wrote for the datasets and experiments of params.yaml.

    Args:
        params: which datasets and experiments to read. How an experiment was trained is read from its runs.
        data: the folder data/. What params.yaml does not name is not read.
        predictions: whether to read the experiments' predictions, which are most of what there is to read.

    Raises:
        DataError, StoreError: a file is damaged.
    """
    datasets = [_read_dataset(params, name, data) for name in params.datasets]
    experiments = [read_experiment(params, name, data, predictions) for name in params.experiments]
    if predictions and params.predictions:
        from pipeline.reporting.foreign import read_foreign  # it gives facts, too

        trained = {one.name: one for one in experiments}
        experiments += [
            read_foreign(name, given, trained[given.like], data) for name, given in params.predictions.items()
        ]
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
    constructed = bool(said.get("constructed", False))
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
        lengths=sorted(length for length in np.diff(store.offsets).tolist() if length),
    )


def _read_masks(path: Path, ids: Sequence[str] | None) -> list[MaskFacts]:
    if not path.is_file():
        return []
    masks = mask.read_masks(path, ids)
    return [describe_mask(masks, name) for name in masks.settings]


def describe_mask(masks: mask.Masks, name: str) -> MaskFacts:
    """Return the settings of one mask of a file, and the shares that its draw removes."""
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


def read_experiment(params: Params, name: str, data: Path, predictions: bool = True) -> ExperimentFacts:
    """Read what there is of one experiment; :func:`gather` says what and when it is an error."""
    runs_folder, results = data / "runs" / name, data / "results" / name
    summary = _read_json(runs_folder / "summary.json")
    if summary and "trained" not in summary:
        raise DataError(
            f"{runs_folder}/summary.json: found no key trained, which says how {name} was trained; an earlier version "
            f"wrote it. Run: dvc repro train@{name}"
        )
    trained: Mapping[str, Any] = summary["trained"] if summary else would_be(params.experiments[name])
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
        if row["condition"] != AVERAGE:  # Scores computes it from the six conditions
            numbers = {m: _to_number(v) for m, v in row.items() if m not in _NO_METRIC}
            values.setdefault((int(row["fold"]), int(row["run"])), {})[row["condition"]] = numbers
    guessed = _read_json(results / "chance.json")
    owner = params.datasets.get(str(trained["dataset"]))
    classes = summary.get("classes", owner.labels if owner is not None else ())
    written = {for_spreadsheet(one): one for one in classes}
    confusion: dict[str, dict[tuple[str, str], int]] = {}
    for row in _read_csv(results / "confusion.csv"):
        label, predicted = (written.get(row[column], row[column]) for column in ("label", "predicted"))
        confusion.setdefault(row["condition"], {})[label, predicted] = int(row["count"])
    labels = classes if trained["task"] == "classification" else ()
    said = read_predictions(results / "predictions.csv", labels, _scale(summary)) if predictions else None
    return ExperimentFacts(
        name=name,
        trained=trained,
        classes=classes,
        scores=Scores(values, said.pooled if said is not None else {}),
        curves=curves,
        confusion=confusion,
        summary=summary,
        runs=dict(sorted(runs.items())),
        embeddings=read_embeddings(results / "hidden.npz"),
        needs=summary.get("needs"),
        predictions=said,
        failure="" if summary else read_failure(data, name),
        chance=Chance.from_json(guessed, str(results / "chance.json")) if guessed else None,
        judgements=read_judgements(results),
        joint=read_joint(results / "hidden.npz"),
    )


def _scale(summary: Mapping[str, Any]) -> Scale:
    return Scale(**summary["scale"]) if "scale" in summary else MOSI_SCALE


def read_failure(data: Path, name: str) -> str:
    """Return the message of the error that stopped an experiment's last training, as pipeline/train.py notes it."""
    path = data / "cache" / "failed" / f"{name}.txt"
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def would_be(experiment: Experiment) -> dict[str, Any]:
    """Return what params.yaml asks for, in the form of what training records: for an experiment that was not trained
    yet. What its model's recipe will fill in is not known here.
    """
    return {**experiment.model_dump(mode="json"), "pretraining": None}


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
    """Return each modality's extractor, columns, frames, and the status of its samples."""
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
        caption=f"Features of {dataset.words}, and the number of samples by status. "
        "Observed: the share of frames that show something (a face, a word).",
        head=head,
        rows=rows,
    )


def cautions(dataset: DatasetFacts) -> list[str]:
    """Return what the extractors say that readers of their columns must know, a line for each."""
    found = []
    for modality, features in dataset.features.items():
        info = features.info
        for columns, says in cautions_for(modality, info.extractor, info.settings, info.columns):
            found.append(f"{modality} by {info.extractor}, {caution_line(columns, says)}")
    return found


def length_table(dataset: DatasetFacts) -> Table | None:
    """Return how long the samples are, in rows and, where rows come at a fixed rate, in seconds; None without any."""
    rows = []
    for modality, features in dataset.features.items():
        if not features.lengths:
            continue
        count, period = len(features.lengths), features.info.frame_period_s
        places = (0, count // 20, count // 2, count - 1 - count // 20, count - 1)
        quantiles = [features.lengths[place] for place in places]
        seconds = [
            Cell("–" if period is None else f"{period * value:.1f}", number=True) for value in quantiles
        ]
        total = "–" if period is None else f"{period * features.frames / 60:.1f}"
        unobserved = f"{1 - features.observed / features.frames:.1%}"
        rows.append(
            [
                Cell(modality),
                *map(_count, quantiles),
                *(seconds[place] for place in (0, 2, 4)),
                Cell(total, number=True),
                Cell(unobserved, number=True),
            ]
        )
    if not rows:
        return None
    return Table(
        name=f"{dataset.name}-lengths",
        caption=f"How long the samples of {dataset.words} are: rows of features (words, word pieces, frames), and "
        "seconds where rows come at a fixed rate. Nothing seen: rows that show no face, or are of a word that "
        "is not known.",
        head=[
            "modality",
            "fewest",
            "5 %",
            "median",
            "95 %",
            "most",
            "shortest, s",
            "median, s",
            "longest, s",
            "in all, min",
            "nothing seen",
        ],
        rows=rows,
    )


def skipped_table(dataset: DatasetFacts, most: int | None = None) -> Table | None:
    """Return the reasons why modalities are missing or failed; None when none is.

    Args:
        dataset: its facts.
        most: how many samples to name for each reason; None: all of them.
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
    """Return the masks with their settings; None when there are none."""
    rows = []
    for one in dataset.masks:
        rows.append(
            [
                Cell(one.name),
                Cell(one.settings.protocol),
                Cell(", ".join(f"{key} {value}" for key, value in one.said.items()) or "–"),
                Cell("sampled: drawn anew in each epoch" if one.settings.draw == "sampled" else "fixed"),
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
        caption=f"Missing-modality masks of {dataset.words}. Gone: the share that the draw removes "
        "of what the samples have (of a sampled mask, in the first draw).",
        head=["mask", "protocol", "settings", "draw", "modalities gone", "frames gone", "seed", "checksum"],
        rows=rows,
    )


def _count(value: int) -> Cell:
    return Cell(str(value), number=True)
