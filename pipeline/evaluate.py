"""Evaluate one experiment under its missing-modality conditions: ``python -m pipeline.evaluate EXPERIMENT``.

Writes data/results/EXPERIMENT/; equal runs give equal bytes (no clock, no timings):

predictions.csv: experiment, fold, run, condition, id, label, predicted, then p_<class> for every class; one
row for each test sample, condition and (fold, run). Conditions are named by what is *there* and stand in the
paper's order: a, v, t, av, at, vt, avt (a audio, v video, t text). A mask that draws instead of enumerating
has one condition, named like the mask; with ``evaluate_conditions`` it lies over all seven, which keep their
names (with more than one mask: "<mask> <condition>"). An experiment trained on one condition alone has that one. Of a
regression the columns are experiment, fold, run, condition, id, score, predicted.

metrics.json, for ``dvc metrics show``: a nested dict of numbers::

    {"average": {metric: {"mean", "std", "pooled"}},             over the six missing conditions
     "conditions": {condition: {metric: {"mean", "std", "pooled"}}}}

metric is wa, ua, macro_f1 or weighted_f1, in [0, 1]; of a regression those of its scale
(``Scale.metrics`` of pipeline/training/metrics.py: mae, r, ccc; of a sentiment accuracies and F1 besides). mean and
std (n - 1) are over (fold, run); pooled is computed once a run from the predictions of all its folds (then the mean
over runs).
"average" is the mean of the six missing conditions' values; with one condition it is that one's.

folds.csv: experiment, fold, run, condition, samples, then the metrics; condition "average"
stands for the mean over the six missing conditions. This is what the t-test pairs.

hidden.npz: arrays by name, without pickle, of the first run's test samples (N over all folds), where the experiment
sets keep_hidden; else an archive of nothing. ids (N,), folds (N,), labels (N,), present (N, 3) bool: what was recorded;
for each condition or mask and each name, "<condition>/<name>" (N, ...) float32. The network gets the versions of the
samples that it has in training: MMIN's "vt/target" is the embedding of the audio that "vt/imagined" imagines.

chance.json: what guessing reaches, whether the predictions are above it and by what p, what the constant predictor
reaches, and how many networks give every test sample one answer: ``Chance`` of pipeline/training/chance.py.

judgements.csv: what a model says of each sample beside its prediction (``Network.judgements``; EMMR: whether the absent
modality is key, which one that is, and what the backbone and the ensemble predict): experiment, fold, run, condition,
id, then a column a judgement. A flag is 0 or 1, a modality its name or empty for none, a prediction the class's name
or the score. A header alone where the model judges nothing.

confusion.csv: experiment, condition, label, predicted, count; all folds and runs together, every pair of
classes; no rows of a regression.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import MODALITIES
from models.base import Judgement
from pipeline.data.files import together, whole_or_nothing, write_whole
from pipeline.data.shown import for_spreadsheet
from pipeline.params import Params
from pipeline.stage import run_stage
from pipeline.training.evaluation import (
    Judged,
    Result,
    Results,
    ScoreResult,
    against_chance,
    evaluate_experiment,
    summarise,
)

_log = logging.getLogger("lacuna")


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write hidden.npz; equal arrays give equal bytes (numpy's own writer notes the time)."""
    with whole_or_nothing(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as archive:
        for name, values in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(values), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())


def write_results(folder: Path, name: str, classes: Sequence[str], results: Results) -> None:
    """Write predictions.csv, folds.csv, confusion.csv and metrics.json."""
    folder.mkdir(parents=True, exist_ok=True)
    header = ["experiment", "fold", "run", "condition", "id"]
    classed = [result for result in results if isinstance(result, Result)]
    if classed:
        header += ["label", "predicted", *(f"p_{c}" for c in classes)]
        predictions = _prediction_rows(name, classes, classed)
    else:
        header += ["score", "predicted"]
        predictions = _score_rows(name, [result for result in results if isinstance(result, ScoreResult)])
    _write_csv(folder / "predictions.csv", header, predictions)
    rows, table = summarise(results)
    columns = list(rows[0])
    fold_rows = ([name, *(_text(row[column]) for column in columns)] for row in rows)
    _write_csv(folder / "folds.csv", ["experiment", *columns], fold_rows)
    header = ["experiment", "condition", "label", "predicted", "count"]
    _write_csv(folder / "confusion.csv", header, _confusion_rows(name, classes, classed))
    text = json.dumps(table, indent=2) + "\n"
    write_whole(folder / "metrics.json", text)


def _prediction_rows(name: str, classes: Sequence[str], results: Sequence[Result]) -> Iterable[list[object]]:
    for result in results:
        for condition, chances in result.probabilities.items():
            best = chances.argmax(axis=1)
            for index, sample in enumerate(result.ids):
                label, predicted = classes[result.labels[index]], classes[best[index]]
                numbers = [f"{chance:.6f}" for chance in chances[index]]
                texts = map(for_spreadsheet, (sample, label, predicted))
                yield [name, result.fold, result.run, condition, *texts, *numbers]


def _judgement_rows(name: str, classes: Sequence[str], judged: Sequence[Judged]) -> Iterable[list[object]]:
    for one in judged:
        for condition, values in one.values.items():
            columns = [_judgements(values[what], kind, classes) for what, kind in one.kinds.items()]
            for sample, *said in zip(one.ids, *columns, strict=True):
                yield [name, one.fold, one.run, condition, *map(for_spreadsheet, (sample, *said))]


def _judgements(values: NDArray[np.float32], kind: Judgement, classes: Sequence[str]) -> list[str]:
    """Return what judgements.csv says of each sample."""
    if kind == "flag":
        return [str(int(value)) for value in values]
    if kind == "modality":
        return [MODALITIES[int(value)] if value >= 0 else "" for value in values]
    if not classes:
        return [f"{value:.6f}" for value in values[:, 0]]
    return [classes[place] for place in values.argmax(axis=1)]


def _score_rows(name: str, results: Sequence[ScoreResult]) -> Iterable[list[object]]:
    for result in results:
        for condition, found in result.predicted.items():
            for sample, truth, predicted in zip(result.ids, result.scores, found, strict=True):
                numbers = f"{truth:.6f}", f"{predicted:.6f}"
                yield [name, result.fold, result.run, condition, for_spreadsheet(sample), *numbers]


def _confusion_rows(name: str, classes: Sequence[str], results: Sequence[Result]) -> Iterable[list[object]]:
    for condition in results[0].conditions if results else ():
        total = np.sum([result.confusion(condition) for result in results], axis=0)
        for row, label in enumerate(classes):
            for column, predicted in enumerate(classes):
                written = map(for_spreadsheet, (label, predicted))
                yield [name, condition, *written, int(total[row, column])]


def _text(value: float | int | str) -> str:
    return f"{value:.6f}" if isinstance(value, float) else for_spreadsheet(str(value))


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with whole_or_nothing(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def main(params: Params, name: str) -> None:
    """Evaluate one experiment.

    Raises:
        ParamsError: there is no such experiment.
        StoreError, DataError: its runs, features or masks cannot be used.
    """
    experiment = params.experiment(name)
    dataset = params.dataset(experiment.dataset)
    data = Path("data")
    evaluate_on = params.evaluation_masks(experiment)
    found = evaluate_experiment(name, dataset, experiment, evaluate_on, params.compute, data)
    compared = against_chance(found.results, found.constant)
    with together(data / "results" / name) as beside:
        write_results(beside, name, found.classes, found.results)
        write_arrays(beside / "hidden.npz", found.hidden)
        write_whole(beside / "chance.json", compared.to_json())
        kinds = list(found.judgements[0].kinds) if found.judgements else []
        header = ["experiment", "fold", "run", "condition", "id", *kinds]
        _write_csv(beside / "judgements.csv", header, _judgement_rows(name, found.classes, found.judgements))
    _, table = summarise(found.results)
    _log.info("%s: average over missing conditions %s", name, table["average"])
    for line in compared.findings():
        _log.warning("%s: %s", name, line)


if __name__ == "__main__":
    run_stage(main, models=True)
