"""Put everything side by side on one page: ``python -m pipeline.report``.

Reads what the other stages wrote under data/ and writes data/report/::

    index.html          the page: one file, no script, nothing fetched
    tables/<name>.csv   .md and .tex: the page's tables
    tables/results.csv  every number as data: dataset, experiment, condition, metric, mean, deviation, count
    figures/<name>.svg  the page's figures

Whatever is not there yet is said on the page and stops nothing: an experiment without results, a dataset without
experiments or features. Equal inputs give equal bytes.
"""

from __future__ import annotations

import csv
import importlib.metadata
import json
import logging
import math
import platform
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import figures, mask
from pipeline.comparison import (
    AVERAGE,
    CONDITIONS,
    FULL,
    LOWER_IS_BETTER,
    Key,
    PairedTest,
    Scores,
    chance,
    condition_words,
    paired_test,
)
from pipeline.errors import DataError
from pipeline.manifest import MODALITIES, Sample, read_manifest
from pipeline.params import Mask, Params
from pipeline.stage import run_stage
from pipeline.store import FeatureInfo, FeatureStore, Status
from pipeline.tables import Cell, Table

DATA = Path("data")
TEMPLATES = Path(__file__).parent / "templates"
METRIC_NAMES = {"wa": "WA", "ua": "UA", "macro_f1": "macro-F1", "weighted_f1": "weighted F1", "mae": "MAE"}
METRIC_WORDS = {
    "wa": "weighted accuracy: the share of samples that are right",
    "ua": "unweighted accuracy: the mean of the classes' recalls",
    "macro_f1": "the mean of the classes' F1",
    "weighted_f1": "the classes' F1, weighted by how often they occur",
}
LIBRARIES = ("torch", "numpy", "av", "opensmile", "librosa", "mediapipe", "transformers", "scikit-learn", "h5py", "dvc")

log = logging.getLogger("lacuna")


# --- what there is ------------------------------------------------------------------------------------------------


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


@dataclass(frozen=True)
class ExperimentFacts:
    """What the report says of an experiment.

    Attributes:
        name, dataset, model, regime, train_on: as in params.yaml.
        place: its place among the experiments of its dataset, which gives it its colour.
        classes: the labels.
        scores: by fold, run and condition; empty when it is not evaluated yet.
        curves: column of history.csv -> (fold, run) -> values, one an epoch.
        confusion: condition -> (label, predicted) -> count over all folds and runs.
        summary: what training says of it; empty when it is not trained yet.
        runs: (fold, run) -> what training says of that network.
    """

    name: str
    dataset: str
    model: str
    regime: str
    train_on: str
    place: int
    classes: Sequence[str]
    scores: Scores
    curves: Mapping[str, Mapping[Key, Sequence[float]]]
    confusion: Mapping[str, Mapping[tuple[str, str], int]]
    summary: Mapping[str, Any]
    runs: Mapping[Key, Mapping[str, Any]]

    @property
    def state(self) -> str:
        """What has been done with it: evaluated, trained or nothing yet."""
        return "evaluated" if self.scores.values else "trained" if self.runs else "not trained yet"


def gather(params: Params, data: Path) -> tuple[list[DatasetFacts], list[ExperimentFacts]]:
    """Read what the stages wrote for the datasets and experiments of params.yaml.

    Args:
        params: what was asked for; anything else under ``data`` (of an experiment since removed) is left alone.
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
    constructed = bool(said.get("constructed", params.datasets[name].loader == "demo"))
    return DatasetFacts(name, samples, said, constructed, features, _read_masks(data / "masks" / f"{name}.h5", ids))


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
    return [_describe_mask(masks, name) for name in masks.settings]


def _describe_mask(masks: mask.Masks, name: str) -> MaskFacts:
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
        train_on=chosen.train_on,
        place=place,
        classes=summary.get("classes", params.datasets[chosen.dataset].labels),
        scores=Scores(values),
        curves=curves,
        confusion=confusion,
        summary=summary,
        runs=dict(sorted(runs.items())),
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
        raise DataError(f"{path}: found {type(found).__name__}, expected an object. Remove it and run: dvc repro")
    return found


def _read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a csv file, or none when there is no such file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise DataError(f"{path}, line {number}: not as many fields as the header. Run: dvc repro -f -s evaluate")
    return rows


# --- what it says -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """Whether one experiment beats the baseline on the average over the six missing conditions.

    Attributes:
        name, baseline: the two experiments.
        sentence: the answer in words.
        detail: the numbers behind it.
        outcome: "better", "ahead" (better, but not significantly) or "not better".
    """

    name: str
    baseline: str
    sentence: str
    detail: str
    outcome: str


@dataclass(frozen=True)
class Comparison:
    """The experiments of one dataset side by side.

    Attributes:
        dataset: its facts.
        experiments: all of them, in the order of params.yaml.
        evaluated: those with results.
        baseline: the experiment that the others are tested against; None when it is not among those evaluated.
        augmented: the baseline's model trained on the augmented set (MMIN section 4.4), tested against as well.
        metric: the one in the headline.
    """

    dataset: DatasetFacts
    experiments: Sequence[ExperimentFacts]
    evaluated: Sequence[ExperimentFacts]
    baseline: ExperimentFacts | None
    augmented: ExperimentFacts | None
    metric: str

    @property
    def conditions(self) -> tuple[str, ...]:
        """The columns of the result table: the missing conditions, their average, the full one, then others."""
        found = list(dict.fromkeys(c for one in self.evaluated for c in one.scores.conditions))
        missing = [c for c in CONDITIONS if c in found and c != FULL]
        average = [AVERAGE] if len(missing) == len(CONDITIONS) - 1 else []
        full = [FULL] if FULL in found else []
        return (*missing, *average, *full, *(c for c in found if c not in CONDITIONS))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics, the headline's first."""
        found = dict.fromkeys(m for one in self.evaluated for m in one.scores.metrics)
        return (*([self.metric] if self.metric in found else []), *(m for m in found if m != self.metric))

    @property
    def tested(self) -> tuple[str, ...]:
        """The conditions that t-tests are made on, as in MMIN's Table 5: the average and the full one."""
        return tuple(c for c in self.conditions if c in (AVERAGE, FULL) or c not in CONDITIONS)

    @property
    def unit(self) -> str:
        """What was paired: "5 folds", or "5 folds × 3 runs"."""
        keys = {key for one in self.evaluated for key in one.scores.values}
        folds, runs = len({fold for fold, _ in keys}), len({run for _, run in keys})
        words = f"{folds} fold{'s' * (folds != 1)}"
        return words if runs <= 1 else f"{words} × {runs} runs"


def compare(params: Params, dataset: DatasetFacts, experiments: Sequence[ExperimentFacts]) -> Comparison | None:
    """Return the comparison of one dataset's experiments, or None when it has none."""
    own = [one for one in experiments if one.dataset == dataset.name]
    if not own:
        return None
    evaluated = [one for one in own if one.scores.values]
    baseline = next((one for one in evaluated if one.name == params.report.baseline), None)
    augmented = None
    if baseline is not None:
        same = [one for one in evaluated if one.model == baseline.model and one.train_on == "augmented"]
        augmented = next((one for one in same if one is not baseline), None)
    computed = [metric for one in evaluated for metric in one.scores.metrics]
    asked = params.experiments[own[0].name].select_by
    metric = asked if asked in computed else next(iter(computed), asked)
    return Comparison(dataset, own, evaluated, baseline, augmented, metric)


def verdicts(comparison: Comparison) -> list[Verdict]:
    """Return, for every other experiment, whether it beats the baseline when modalities are missing; MMIN first."""
    baseline, metric = comparison.baseline, comparison.metric
    if baseline is None:
        return []
    condition = AVERAGE if AVERAGE in comparison.conditions else comparison.conditions[-1]
    found = []
    others = [one for one in comparison.evaluated if one is not baseline]
    for one in sorted(others, key=lambda other: other.model != "mmin"):
        test = paired_test(one.scores, baseline.scores, condition, metric)
        mine, theirs = one.scores.number(condition, metric), baseline.scores.number(condition, metric)
        if test is None or mine is None or theirs is None:
            continue
        pairs = one.scores.of(condition, metric), baseline.scores.of(condition, metric)
        sign = -1 if metric in LOWER_IS_BETTER else 1
        wins = sum(sign * pairs[0][key] > sign * pairs[1][key] for key in pairs[0].keys() & pairs[1].keys())
        if not test.better:
            outcome, sentence = "not better", f"{one.name} does not beat {baseline.name}"
        elif test.significant:
            outcome, sentence = "better", f"{one.name} beats {baseline.name}"
        else:
            outcome, sentence = "ahead", f"{one.name} is ahead of {baseline.name}, but not significantly"
        where = "when modalities are missing" if condition == AVERAGE else f"under {condition_words(condition)}"
        detail = (
            f"{_metric(metric)} {'averaged over the six missing conditions' if condition == AVERAGE else where} is "
            f"{mine.mean:.3f} against {theirs.mean:.3f} ({_signed(test.difference)}); better in {wins} of "
            f"{comparison.unit}; {_p_words(test)}."
        )
        augmented = comparison.augmented
        if augmented is not None and one is not augmented:
            other = paired_test(one.scores, augmented.scores, condition, metric)
            if other is not None:
                detail += f" Against {augmented.name}: {_signed(other.difference)}; {_p_words(other)}."
        found.append(Verdict(one.name, baseline.name, f"{sentence} {where}.", detail, outcome))
    return found


def single_modalities(comparison: Comparison) -> str:
    """Return a sentence on whether each single modality alone is above chance, by the best experiment under each."""
    level = _chance(comparison)
    singles = [c for c in CONDITIONS if len(CONDITIONS[c]) == 1 and c in comparison.conditions]
    if level is None or not singles:
        return ""
    reached: dict[str, tuple[float, str]] = {}
    for condition in singles:
        numbers = [(one.scores.number(condition, comparison.metric), one.name) for one in comparison.evaluated]
        known = [(number.mean, name) for number, name in numbers if number is not None]
        if known:
            reached[CONDITIONS[condition][0]] = max(known)
    below = [modality for modality, (value, _) in reached.items() if value <= level]
    values = "; ".join(f"{modality} {value:.3f} ({name})" for modality, (value, name) in reached.items())
    lead = f"Not above chance: {' and '.join(below)}." if below else "Each single modality is above chance."
    return f"{lead} Best {_metric(comparison.metric)} from one modality alone, where chance is {level:.3f}: {values}."


def _chance(comparison: Comparison) -> float | None:
    return chance(comparison.metric, comparison.evaluated[0].classes) if comparison.evaluated else None


def _metric(name: str) -> str:
    return METRIC_NAMES.get(name, name)


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else '−'}{abs(value):.3f}"


def _p_words(test: PairedTest) -> str:
    if test.p is None:
        return "no t-test: " + ("a single pair" if test.pairs < 2 else "the difference is the same in every pair")
    return f"{_p(test.p)}, two-tailed paired t-test, {test.pairs} pairs"


def _p(value: float) -> str:
    return "p\u00a0<\u00a00.001" if value < 0.001 else f"p\u00a0=\u00a0{value:.3f}"


# --- tables -------------------------------------------------------------------------------------------------------


def result_table(comparison: Comparison) -> Table:
    """Return conditions x experiments, as MMIN's Table 5: mean ± deviation, marks of the t-tests, the best in bold."""
    rows = []
    for metric in comparison.metrics:
        for one in comparison.evaluated:
            cells = [result_cell(comparison, one, condition, metric) for condition in comparison.conditions]
            rows.append([Cell(_metric(metric)), Cell(one.name), *cells])
    heads = [c if c == AVERAGE or c not in CONDITIONS else f"{{{','.join(c)}}}" for c in comparison.conditions]
    return Table(
        name=f"{comparison.dataset.name}-conditions",
        caption=f"Results on {_corpus_words(comparison.dataset)} by what is available (a audio, v video, t text): "
        f"mean ± standard deviation over {comparison.unit}; average over the six missing conditions.",
        head=["metric", "experiment", *heads],
        rows=rows,
        notes=_mark_notes(comparison),
    )


def result_cell(comparison: Comparison, one: ExperimentFacts, condition: str, metric: str) -> Cell:
    """Return one number of the result table."""
    number = one.scores.number(condition, metric)
    if number is None:
        return Cell("–", number=True)
    every = [other.scores.number(condition, metric) for other in comparison.evaluated]
    means = [round(other.mean, 3) for other in every if other is not None]
    top = min(means) if metric in LOWER_IS_BETTER else max(means)
    mark = ""
    if condition in comparison.tested:
        for sign, other in (("*", comparison.baseline), ("▲", comparison.augmented)):
            test = paired_test(one.scores, other.scores, condition, metric) if other and other is not one else None
            if test is not None and test.significant and test.better:
                mark += sign
    return Cell(
        text=f"{number.mean:.3f}",
        spread="" if number.deviation is None else f"{number.deviation:.3f}",
        mark=mark,
        best=len(means) > 1 and round(number.mean, 3) == top,
        number=True,
    )


def _mark_notes(comparison: Comparison) -> list[str]:
    notes = []
    for sign, other in (("*", comparison.baseline), ("▲", comparison.augmented)):
        if other is not None:
            notes.append(f"{sign} better than {other.name}, p < 0.05 (two-tailed paired t-test over folds and runs).")
    return notes


def test_table(comparison: Comparison) -> Table | None:
    """Return every experiment's t-test against the baseline; None when there is no baseline or nobody to test."""
    baseline = comparison.baseline
    if baseline is None:
        return None
    rows = []
    for one in comparison.evaluated:
        if one is baseline:
            continue
        for condition in comparison.tested:
            for metric in comparison.metrics:
                test = paired_test(one.scores, baseline.scores, condition, metric)
                if test is not None:
                    rows.append(
                        [
                            Cell(one.name),
                            Cell("average of six" if condition == AVERAGE else condition_words(condition)),
                            Cell(_metric(metric)),
                            Cell(_signed(test.difference), number=True),
                            Cell("–" if test.t is None else f"{test.t:.2f}".replace("-", "−"), number=True),
                            Cell("–" if test.p is None else f"{test.p:.4f}", best=test.significant, number=True),
                            Cell(str(test.pairs), number=True),
                        ]
                    )
    if not rows:
        return None
    return Table(
        name=f"{comparison.dataset.name}-tests",
        caption=f"Each experiment against {baseline.name} on {_corpus_words(comparison.dataset)}: "
        "difference of the means and two-tailed paired t-test.",
        head=["experiment", "condition", "metric", "difference", "t", "p", "pairs"],
        rows=rows,
        notes=[
            "Bold: p < 0.05, in either direction. Folds share training data, so p is somewhat too small; "
            "it is not corrected for the number of tests."
        ],
    )


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
        caption=f"Features of {_corpus_words(dataset)}: samples by what became of each modality. Observed: the share "
        "of frames that show something (a face, a word).",
        head=head,
        rows=rows,
    )


def skipped_table(dataset: DatasetFacts) -> Table | None:
    """Return why modalities are missing or failed, or None when none is."""
    rows = [
        [Cell(modality), Cell(status.name.lower()), Cell(reason or "no reason given"), _count(len(ids)), Cell(", ".join(ids))]
        for modality, features in dataset.features.items()
        for (status, reason), ids in features.skipped.items()
    ]
    if not rows:
        return None
    return Table(
        name=f"{dataset.name}-skipped",
        caption=f"What {_corpus_words(dataset)} lacks, and why.",
        head=["modality", "status", "reason", "samples", "ids"],
        rows=rows,
    )


def mask_table(dataset: DatasetFacts) -> Table | None:
    """Return what each mask is, or None when there are none."""
    rows = []
    for one in dataset.masks:
        said = one.settings.model_dump(exclude={"protocol", "draw"}, exclude_none=True, exclude_defaults=True)
        rows.append(
            [
                Cell(one.name),
                Cell(one.settings.protocol),
                Cell(", ".join(f"{key} {_value(value)}" for key, value in said.items()) or "–"),
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
        caption=f"Missing-modality masks of {_corpus_words(dataset)}. Realised: what the draw really takes from "
        "what the samples have (of a mask drawn anew, the first draw).",
        head=["mask", "protocol", "settings", "draw", "modalities gone", "frames gone", "seed", "checksum"],
        rows=rows,
    )


def confusion_table(comparison: Comparison) -> Table:
    """Return every confusion matrix, one row for each label under each condition."""
    classes = list(dict.fromkeys(c for one in comparison.evaluated for c in one.classes))
    rows = []
    for one in comparison.evaluated:
        for condition, counts in one.confusion.items():
            for label in one.classes:
                row = [_count(counts.get((label, predicted), 0)) for predicted in classes]
                rows.append([Cell(one.name), Cell(condition), Cell(label), *row])
    return Table(
        name=f"{comparison.dataset.name}-confusion",
        caption=f"Confusion matrices on {_corpus_words(comparison.dataset)}, all folds and runs together: "
        "rows are labels, columns predictions.",
        head=["experiment", "condition", "label", *classes],
        rows=rows,
    )


def _count(value: int) -> Cell:
    return Cell(str(value), number=True)


def _corpus_words(dataset: DatasetFacts) -> str:
    return f"the constructed corpus {dataset.name}" if dataset.constructed else f"the dataset {dataset.name}"


def _value(value: object) -> str:
    return "–".join(f"{v:g}" for v in value) if isinstance(value, (tuple, list)) else str(value)


# --- the page -----------------------------------------------------------------------------------------------------


def main(params: Params) -> None:
    """Write data/report/."""
    datasets, experiments = gather(params, DATA)
    write(params, datasets, experiments, DATA / "report")
    log.info("%s: %d dataset(s), %d experiment(s)", DATA / "report/index.html", len(datasets), len(experiments))


def write(
    params: Params, datasets: Sequence[DatasetFacts], experiments: Sequence[ExperimentFacts], folder: Path
) -> None:
    """Write the page, its tables and its figures into ``folder``, which is emptied first."""
    comparisons = [one for one in (compare(params, dataset, experiments) for dataset in datasets) if one]
    tables = [table for one in comparisons if one.evaluated for table in (result_table(one), test_table(one))]
    tables += [confusion_table(one) for one in comparisons if any(e.confusion for e in one.evaluated)]
    for dataset in datasets:
        tables += [modality_table(dataset), skipped_table(dataset), mask_table(dataset)]
    drawn: dict[str, str] = {}
    page = render(params, datasets, experiments, comparisons, drawn)
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("tables", "figures"):
        (folder / part).mkdir(parents=True)
    for table in tables:
        if table is not None:
            for suffix, text in (("csv", table.to_csv()), ("md", table.to_md()), ("tex", table.to_tex())):
                (folder / "tables" / f"{table.name}.{suffix}").write_text(text, encoding="utf-8")
    (folder / "tables" / "results.csv").write_text(results_csv(comparisons), encoding="utf-8")
    for name, svg in drawn.items():
        (folder / "figures" / f"{name}.svg").write_text(figures.standalone(svg), encoding="utf-8")
    (folder / "index.html").write_text(page, encoding="utf-8")


def results_csv(comparisons: Sequence[Comparison]) -> str:
    """Return every number as data: one row for each dataset, experiment, condition and metric."""
    lines = ["dataset,experiment,condition,metric,mean,deviation,count"]
    for comparison in comparisons:
        for one in comparison.evaluated:
            for condition in comparison.conditions:
                for metric in comparison.metrics:
                    number = one.scores.number(condition, metric)
                    if number is not None:
                        spread = "" if number.deviation is None else repr(number.deviation)
                        where = f"{comparison.dataset.name},{one.name},{condition},{metric}"
                        lines.append(f"{where},{number.mean!r},{spread},{number.count}")
    return "\n".join(lines) + "\n"


def render(
    params: Params,
    datasets: Sequence[DatasetFacts],
    experiments: Sequence[ExperimentFacts],
    comparisons: Sequence[Comparison],
    drawn: dict[str, str],
) -> str:
    """Return the page; the figures that it shows are put into ``drawn``, name -> SVG."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(
        condition_words=condition_words, modalities=CONDITIONS, metric_name=_metric, colours=figures.page_colours()
    )
    return environment.get_template("report.html.j2").render(
        title=params.report.title,
        sections=[_section(one, drawn) for one in comparisons],
        datasets=[_dataset_part(dataset) for dataset in datasets],
        experiments=[_experiment_part(params, one) for one in experiments],
        constructed=[dataset.name for dataset in datasets if dataset.constructed],
        seed=params.seed,
        versions=_versions(),
    )


@dataclass(frozen=True)
class Headline:
    """A big number on top of the page: what it is, and what stands below it."""

    value: str
    spread: str
    label: str
    note: str


def _headlines(comparison: Comparison) -> list[Headline]:
    """Return the numbers on top: of the experiment that the first verdict is about."""
    judged = verdicts(comparison)
    name = judged[0].name if judged else (comparison.evaluated[0].name if comparison.evaluated else "")
    hero = next((one for one in comparison.evaluated if one.name == name), None)
    found = []
    if hero is not None:
        metric = _metric(comparison.metric)
        for condition, words in ((AVERAGE, "six missing conditions"), (FULL, "nothing missing")):
            number = hero.scores.number(condition, comparison.metric)
            if number is not None:
                spread = "" if number.deviation is None else f"{number.deviation:.3f}"
                found.append(Headline(f"{number.mean:.3f}", spread, f"{metric}, {words}", hero.name))
        if comparison.baseline is not None and comparison.baseline is not hero:
            test = paired_test(hero.scores, comparison.baseline.scores, AVERAGE, comparison.metric)
            if test is not None:
                note = "no t-test" if test.p is None else _p(test.p)
                label = f"against {comparison.baseline.name}"
                found.insert(1, Headline(_signed(test.difference), "", label, f"six missing conditions, {note}"))
    if comparison.dataset.samples is not None:
        kind = "constructed utterances" if comparison.dataset.constructed else "utterances"
        note = f"{comparison.unit}" if comparison.evaluated else "not evaluated yet"
        found.append(Headline(f"{len(comparison.dataset.samples):,}".replace(",", "\u202f"), "", kind, note))
    return found


def _section(comparison: Comparison, drawn: dict[str, str]) -> dict[str, Any]:
    """Return what the template shows of one dataset's experiments."""
    return {
        "comparison": comparison,
        "name": comparison.dataset.name,
        "headlines": _headlines(comparison),
        "verdicts": verdicts(comparison),
        "singles": single_modalities(comparison),
        "groups": [
            (metric, [(one, [result_cell(comparison, one, c, metric) for c in comparison.conditions]) for one in comparison.evaluated])
            for metric in comparison.metrics
        ],
        "table": result_table(comparison),
        "metric_words": [(_metric(m), METRIC_WORDS[m]) for m in comparison.metrics if m in METRIC_WORDS],
        "tests": test_table(comparison),
        "by_condition": _result_figure(comparison, drawn) if comparison.evaluated else None,
        "curves": [part for one in comparison.experiments if (part := _curves_part(comparison, one, drawn))],
        "confusions": [(one, _confusions(one, comparison)) for one in comparison.evaluated if one.confusion],
        "pending": [(one.name, one.state) for one in comparison.experiments if not one.scores.values],
    }


def _result_figure(comparison: Comparison, drawn: dict[str, str]) -> dict[str, Any]:
    """Draw results by condition, for a desk and for a phone."""
    from markupsafe import Markup

    metric, name = comparison.metric, f"{comparison.dataset.name}-{comparison.metric}-by-condition"
    series = []
    for one in comparison.evaluated:
        numbers = {c: number for c in comparison.conditions if (number := one.scores.number(c, metric)) is not None}
        series.append(
            figures.Series(
                one.name,
                one.place,
                {c: number.mean for c, number in numbers.items()},
                {c: number.deviation for c, number in numbers.items() if number.deviation is not None},
            )
        )
    words = {c: "average of the six" if c == AVERAGE else condition_words(c) for c in comparison.conditions}
    short = {c: "average" if c == AVERAGE else " ".join(c) if c in CONDITIONS else c for c in comparison.conditions}
    described = "; ".join(
        f"{words[c]}: " + ", ".join(f"{one.name} {one.means[c]:.3f}" for one in series if c in one.means) for c in words
    )
    title = f"{_metric(metric)} by condition on {_corpus_words(comparison.dataset)}"
    parts = {}
    for kind, labels, width in (("wide", words, 820), ("narrow", short, 330)):
        svg = figures.by_condition(series, labels, _metric(metric), _chance(comparison), width, AVERAGE)
        parts[kind] = Markup(figures.inline(svg, f"{comparison.dataset.name}-{kind}", title, described))  # noqa: S704
        if kind == "wide":
            drawn[name] = svg
    return {**parts, "series": comparison.evaluated}


def _curves_part(comparison: Comparison, one: ExperimentFacts, drawn: dict[str, str]) -> dict[str, Any] | None:
    """Draw one experiment's learning curves; None when it is not trained yet."""
    from markupsafe import Markup

    metric = f"valid_{comparison.metric}"
    wanted = (("train_loss", "training loss"), (metric, f"validation {_metric(comparison.metric)}"))
    panels = [(label, {str(k): v for k, v in one.curves[column].items()}) for column, label in wanted if column in one.curves]
    if not panels:
        return None
    svg = figures.curves(panels, one.place)
    drawn[f"{one.name}-learning-curves"] = svg
    kept = [int(run["best_epoch"]) for run in one.runs.values() if "best_epoch" in run]
    lengths = [len(line) for line in one.curves[wanted[0][0]].values()] if wanted[0][0] in one.curves else []
    words = f"{len(one.runs)} networks, trained for {_span(lengths)} epochs; the kept ones are from epoch {_span(kept)}."
    title = f"Learning curves of {one.name}"
    return {
        "experiment": one,
        "svg": Markup(figures.inline(svg, f"curves-{one.name}", title, words)),  # noqa: S704
        "words": words,
    }


def _span(values: Sequence[int]) -> str:
    if not values:
        return "–"
    return str(min(values)) if min(values) == max(values) else f"{min(values)} to {max(values)}"


def _confusions(one: ExperimentFacts, comparison: Comparison) -> list[dict[str, Any]]:
    """Return, for each condition, rows of (label, support, shares of what was predicted)."""
    found = []
    for condition in [c for c in comparison.conditions if c in one.confusion]:
        counts, rows = one.confusion[condition], []
        for label in one.classes:
            row = [counts.get((label, predicted), 0) for predicted in one.classes]
            total = sum(row)
            rows.append((label, total, [value / total if total else 0.0 for value in row]))
        found.append({"condition": condition, "rows": rows})
    return found


def _dataset_part(dataset: DatasetFacts) -> dict[str, Any]:
    """Return what the template shows of a dataset."""
    said = dataset.said
    return {
        "facts": dataset,
        "corpus": _corpus_facts(dataset),
        "attribution": str(said.get("attribution", "")),
        "labels": Counter(sample.label or "(no label)" for sample in dataset.samples or ()).most_common(),
        "modalities": modality_table(dataset),
        "bars": [(m, [f.counts[s] for s in Status]) for m, f in dataset.features.items()],
        "skipped": skipped_table(dataset),
        "masks": mask_table(dataset),
        "findings": {
            "Left out by the loader": [_finding(one) for one in said.get("skipped", [])],
            "Files that are not there": [_finding(one) for one in said.get("missing_files", [])],
            "Noted by the loader": [_finding(one) for one in said.get("notes", [])],
            "Counts that differ from the published ones": [_finding(one) for one in said.get("differences", [])],
        },
    }


def _finding(one: Mapping[str, Any]) -> str:
    return "; ".join(f"{key} {value}" for key, value in one.items() if value not in (None, ""))


def _corpus_facts(dataset: DatasetFacts) -> list[tuple[str, str]]:
    """Return (what, how much) of the manifest."""
    if dataset.samples is None:
        return [("state", "not prepared yet")]
    samples = dataset.samples
    facts = [("samples", str(len(samples)))]
    for name in ("speaker", "session", "dialogue"):
        values = {getattr(sample, name) for sample in samples} - {""}
        if values:
            facts.append((f"{name}s", str(len(values))))
    for name, word in (("text", "with a transcript"), ("audio_path", "with a sound file"), ("video_path", "with a picture file")):
        facts.append((word, str(sum(bool(getattr(sample, name)) for sample in samples))))
    scores = [sample.score for sample in samples if sample.score is not None]
    if scores:
        facts.append(("scores", f"{min(scores):.2f} to {max(scores):.2f}".replace("-", "−")))
    return facts


def _experiment_part(params: Params, one: ExperimentFacts) -> dict[str, Any]:
    """Return what the template shows of how an experiment was made."""
    runs = list(one.runs.values())
    first = runs[0] if runs else {}
    chosen = params.experiments[one.name]
    kept = [int(run["best_epoch"]) for run in runs if "best_epoch" in run]
    return {
        "facts": one,
        "parameters": f"{first['parameters']:,}".replace(",", "\u202f") if "parameters" in first else "–",
        "seeds": ", ".join(map(str, sorted({int(run["seed"]) for run in runs}))) or "–",
        "epochs": _span([int(run["epochs"]) for run in runs if "epochs" in run]),
        "kept": _span(kept),
        "folds": [(run["fold"], run["description"], run["samples"]) for run in runs if run.get("run") == 1],
        "left_out": dict(one.summary.get("left_out", {})),
        "settings": json.dumps(chosen.model_dump(mode="json"), indent=2, ensure_ascii=False),
    }


def _versions() -> list[tuple[str, str]]:
    """Return (library, version) of what wrote the page."""
    found = [("Lacuna", _version("lacuna")), ("Python", platform.python_version())]
    return found + [(name, _version(name)) for name in LIBRARIES]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    run_stage(main)
