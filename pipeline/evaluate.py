"""Evaluate one experiment under its missing-modality conditions: ``python -m pipeline.evaluate EXPERIMENT``.

Writes data/results/EXPERIMENT/; equal runs give equal bytes (no clock, no timings):

predictions.csv: experiment, fold, run, condition, id, label, predicted, then p_<class> for every class; one
row for each test sample, condition and (fold, run). Conditions are named by what is *there* and stand in the
paper's order: a, v, t, av, at, vt, avt (a audio, v video, t text). A mask that draws instead of enumerating
has one condition, named like the mask; with ``evaluate_conditions`` it lies over all seven, which keep their
names. An experiment trained on one condition alone has that one. Of a regression the columns are experiment,
fold, run, condition, id, score, predicted.

metrics.json, for ``dvc metrics show``: a nested dict of numbers::

    {"average": {metric: {"mean", "std", "pooled"}},             over the six missing conditions
     "conditions": {condition: {metric: {"mean", "std", "pooled"}}}}

metric is wa, ua, macro_f1 or weighted_f1, in [0, 1]; of a regression those of its scale
(``score_metrics`` of pipeline/training/metrics.py: mae, r, the accuracies and F1). mean and std (n - 1) are over
(fold, run); pooled is computed once a run from the predictions of all its folds (then the mean over runs).
"average" is the mean of the six missing conditions' values; with one condition it is that one's.

folds.csv: experiment, fold, run, condition, samples, then the metrics; condition "average"
stands for the mean over the six missing conditions. This is what the t-test pairs.

embeddings.npz: arrays by name, without pickle, of the first run's test samples that have all three modalities (N
over all folds), where the experiment sets keep_embeddings; else an archive of nothing. ids (N,) and folds (N,);
for each modality m of a, v, t: true_m (N, E) float32, the frozen encoders' embedding of m alone (MMIN's h with a
hat), and imagined_m (N, E), what the network imagines from the other two (h'). left_out: the ids of the test
samples that lack a modality in the recording; of what is not there no embedding is true.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.base import Network
from pipeline.data.manifest import read_manifest
from pipeline.data.masks import CONDITIONS, FULL_CONDITION, MISSING_CONDITIONS, Masks, read_masks
from pipeline.errors import DataError, ParamsError, StoreError
from pipeline.params import Compute, Dataset, Experiment, Params
from pipeline.stage import run_stage
from pipeline.train import resolve, target_of
from pipeline.training import metrics
from pipeline.training.folds import Fold, make_folds
from pipeline.training.loop import EVALUATION_BATCH, choose_device, deterministic
from pipeline.training.loop import predict as predict_logits
from pipeline.training.predictor import Predictor, load_run
from pipeline.training.samples import DeviceSamples, SampleSet, read_samples

_log = logging.getLogger("lacuna")


@dataclass(frozen=True)
class Result:
    """What one (fold, run) said.

    Attributes:
        fold, run: from 1.
        ids: of the n test samples.
        labels: (n,) int64.
        probabilities: condition -> (n, C) float64.
    """

    fold: int
    run: int
    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: Mapping[str, NDArray[np.float64]]

    def confusion(self, condition: str) -> NDArray[np.int64]:
        """Return (C, C) counts."""
        chances = self.probabilities[condition]
        return metrics.confusion_matrix(self.labels, chances.argmax(axis=1), chances.shape[1])

    @property
    def conditions(self) -> tuple[str, ...]:
        """What it was evaluated under."""
        return tuple(self.probabilities)

    @classmethod
    def measure(cls, results: Sequence[Result], condition: str) -> dict[str, float]:
        """Return the metrics of several folds' predictions together."""
        return metrics.of_classes(np.sum([result.confusion(condition) for result in results], axis=0))


@dataclass(frozen=True)
class ScoreResult:
    """What one (fold, run) of a regression said.

    Attributes:
        fold, run: from 1.
        ids: of the n test samples.
        scores: (n,) float64, the truth.
        predicted: condition -> (n,) float64.
        limit: the largest score there can be.
    """

    fold: int
    run: int
    ids: tuple[str, ...]
    scores: NDArray[np.float64]
    predicted: Mapping[str, NDArray[np.float64]]
    limit: float

    @property
    def conditions(self) -> tuple[str, ...]:
        """What it was evaluated under."""
        return tuple(self.predicted)

    @classmethod
    def measure(cls, results: Sequence[ScoreResult], condition: str) -> dict[str, float]:
        """Return the metrics of several folds' predictions together."""
        truth = np.concatenate([result.scores for result in results])
        found = np.concatenate([result.predicted[condition] for result in results])
        return metrics.of_scores(truth, found, metrics.score_metrics(results[0].limit))


Results = Sequence[Result] | Sequence[ScoreResult]


def evaluate_experiment(
    name: str, experiment: Experiment, dataset: Dataset, masks: Masks, compute: Compute, data: Path
) -> list[Result] | list[ScoreResult]:
    """Run the best weights of every (fold, run) over its test samples.

    Raises:
        StoreError: runs are absent or damaged, or were trained on other features, classes or folds.
        DataError: the samples cannot be split.
    """
    device = choose_device(compute.device)
    mask = masks.mask(experiment.evaluate_on)
    resolved = resolve(experiment)
    rates = resolved.frame_rate_hz
    enumerates = mask.protocol == "conditions"
    draw = None if enumerates else masks.draw(experiment.evaluate_on)
    every = enumerates or experiment.evaluate_conditions
    patterns = CONDITIONS if every else {experiment.evaluate_on: CONDITIONS[FULL_CONDITION]}
    if every and resolved.train_on in CONDITIONS:
        patterns = {resolved.train_on: CONDITIONS[resolved.train_on]}
    samples = read_samples(experiment.dataset, dataset, rates, data, draw, target_of(experiment))
    folder = data / "runs" / name
    results: list[Result] = []
    regressions: list[ScoreResult] = []
    folds = make_folds(samples.samples, dataset.folds)
    for run in range(1, experiment.runs + 1):
        for fold in folds:
            predictor = load_run(folder / f"{fold.number}-{run}")
            _check(predictor, samples, fold, folder)
            network = predictor.network.to(device)
            with deterministic(device, 0):
                logits = predict_logits(
                    network,
                    network,
                    samples.prepare(predictor.normalisers, device),
                    fold.test,
                    np.array(list(patterns.values())),
                )
            ids = tuple(samples.samples[index].id for index in fold.test)
            if samples.scores is not None:
                found = logits.double().numpy()
                shown = {condition: found[:, index, 0] for index, condition in enumerate(patterns)}
                truth = samples.scores[fold.test].astype(np.float64)
                regressions.append(ScoreResult(fold.number, run, ids, truth, shown, samples.score_limit))
                continue
            chances = torch.softmax(logits.double(), dim=2).numpy()
            results.append(
                Result(
                    fold.number,
                    run,
                    ids,
                    samples.labels[fold.test],
                    {condition: chances[:, index] for index, condition in enumerate(patterns)},
                )
            )
    return regressions or results


def embed_experiment(
    name: str, experiment: Experiment, dataset: Dataset, compute: Compute, data: Path
) -> dict[str, NDArray[Any]]:
    """Return what embeddings.npz holds: true and imagined embeddings of the first run's test samples.

    Raises:
        ParamsError: the model imagines nothing.
        DataError: no test sample has all three modalities.
        StoreError, DataError: as :func:`evaluate_experiment`.
    """
    device = choose_device(compute.device)
    rates, target = resolve(experiment).frame_rate_hz, target_of(experiment)
    samples = read_samples(experiment.dataset, dataset, rates, data, target=target)
    folder = data / "runs" / name
    found: dict[str, list[NDArray[Any]]] = {}
    whole: NDArray[np.bool_] = np.all(samples.present, axis=1)
    left_out: list[str] = []
    for fold in make_folds(samples.samples, dataset.folds):
        left_out += [samples.samples[i].id for i in fold.test if not whole[i]]
        tested = fold.test[whole[fold.test]]
        if not len(tested):
            continue
        predictor = load_run(folder / f"{fold.number}-1")
        _check(predictor, samples, fold, folder)
        network, prepared = predictor.network.to(device), samples.prepare(predictor.normalisers, device)
        found.setdefault("ids", []).append(np.array([samples.samples[i].id for i in tested]))
        found.setdefault("folds", []).append(np.full(len(tested), fold.number))
        for modality, given in (("a", "vt"), ("v", "at"), ("t", "av")):
            for kind, values in _embed(network, prepared, tested, CONDITIONS[given]).items():
                found.setdefault(f"{kind}_{modality}", []).append(values)
    if not found:
        raise DataError(
            f"{name}: keep_embeddings is set, but none of the {len(left_out)} test samples has text, audio and "
            "video. Leave it out, or look at the report's table of what is missing"
        )
    if left_out:
        _log.info("%s: no embeddings of %d test samples that lack a modality", name, len(left_out))
    kept = {key: np.concatenate(parts) for key, parts in found.items()}
    return {**kept, "left_out": np.array(left_out, np.str_)}


def _embed(
    network: Network, samples: DeviceSamples, indices: NDArray[np.int64], pattern: tuple[bool, bool, bool]
) -> dict[str, NDArray[np.float32]]:
    """Return (n, E) true and imagined embeddings of what the pattern lacks."""
    network.eval()
    kept: dict[str, list[torch.Tensor]] = {"true": [], "imagined": []}
    with deterministic(samples.device, 0), torch.no_grad():
        for begin in range(0, len(indices), EVALUATION_BATCH):
            part = torch.from_numpy(indices[begin : begin + EVALUATION_BATCH])
            shown = torch.tensor([pattern]).expand(len(part), -1)
            hidden = network(samples.collate(part, shown, complement=True)).hidden
            if not {"target", "imagined"} <= hidden.keys():
                raise ParamsError(
                    "keep_embeddings is set, but this model imagines no embeddings (mmin does). Leave it out"
                )
            kept["true"].append(hidden["target"].float().cpu())
            kept["imagined"].append(hidden["imagined"].float().cpu())
    return {kind: torch.cat(parts).numpy() for kind, parts in kept.items()}


def write_embeddings(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write embeddings.npz; equal arrays give equal bytes (numpy's own writer notes the time)."""
    beside = path.with_name(path.name + ".part")
    with zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as archive:
        for name, values in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(values), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())
    beside.replace(path)


def _check(predictor: Predictor, samples: SampleSet, fold: Fold, folder: Path) -> None:
    facts = predictor.facts
    features = {name: sequences.values_sha256 for name, sequences in samples.modalities.items()}
    parts = {"train": len(fold.train), "valid": len(fold.valid), "test": len(fold.test)}
    for what, found, expected in (
        ("features", {name: about["values_sha256"] for name, about in facts["features"].items()}, features),
        ("classes", facts["classes"], list(samples.classes)),
        ("task", predictor.regression, samples.scores is not None),
        ("fold", (facts["description"], facts["samples"]), (fold.description, parts)),
    ):
        if found != expected:
            raise StoreError(
                f"{folder}/{fold.number}-{facts['run']}: trained with other {what} ({found}) than "
                f"there are now ({expected}). Run: dvc repro train"
            )


def summarise(results: Results) -> tuple[list[dict[str, float | int | str]], dict[str, object]]:
    """Return the rows of folds.csv (without the experiment's name) and the content of metrics.json."""
    conditions, measure = results[0].conditions, results[0].measure
    averaged = MISSING_CONDITIONS if set(MISSING_CONDITIONS) <= set(conditions) else conditions
    rows: list[dict[str, float | int | str]] = []
    each: dict[str, dict[str, list[float]]] = {}
    for result in results:
        scores = {name: measure([result], name) for name in conditions}  # type: ignore[list-item]
        scores["average"] = metrics.average(scores, averaged)
        for condition, values in scores.items():
            row: dict[str, float | int | str] = {"fold": result.fold, "run": result.run}
            row["condition"], row["samples"] = condition, len(result.ids)
            row.update(values)
            rows.append(row)
            for name, value in values.items():
                each.setdefault(condition, {}).setdefault(name, []).append(value)
    pooled: dict[str, dict[str, list[float]]] = {}
    for run in sorted({result.run for result in results}):
        same = [result for result in results if result.run == run]
        scores = {name: measure(same, name) for name in conditions}  # type: ignore[arg-type]
        scores["average"] = metrics.average(scores, averaged)
        for condition, values in scores.items():
            for name, value in values.items():
                pooled.setdefault(condition, {}).setdefault(name, []).append(value)

    def numbers(condition: str) -> dict[str, dict[str, float]]:
        table = {}
        for name, values in each[condition].items():
            mean, deviation = metrics.mean_and_deviation(values)
            together = float(np.mean(pooled[condition][name]))
            table[name] = {
                key: round(v, 6) for key, v in (("mean", mean), ("std", deviation), ("pooled", together))
            }
        return table

    return rows, {"average": numbers("average"), "conditions": {name: numbers(name) for name in conditions}}


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
    (folder / "metrics.json").write_text(text, encoding="utf-8")


def _prediction_rows(name: str, classes: Sequence[str], results: Sequence[Result]) -> Iterable[list[object]]:
    for result in results:
        for condition, chances in result.probabilities.items():
            best = chances.argmax(axis=1)
            for index, sample in enumerate(result.ids):
                label, predicted = classes[result.labels[index]], classes[best[index]]
                numbers = [f"{chance:.6f}" for chance in chances[index]]
                yield [name, result.fold, result.run, condition, sample, label, predicted, *numbers]


def _score_rows(name: str, results: Sequence[ScoreResult]) -> Iterable[list[object]]:
    for result in results:
        for condition, found in result.predicted.items():
            for sample, truth, predicted in zip(result.ids, result.scores, found, strict=True):
                numbers = f"{truth:.6f}", f"{predicted:.6f}"
                yield [name, result.fold, result.run, condition, sample, *numbers]


def _confusion_rows(name: str, classes: Sequence[str], results: Sequence[Result]) -> Iterable[list[object]]:
    for condition in results[0].conditions if results else ():
        total = np.sum([result.confusion(condition) for result in results], axis=0)
        for row, label in enumerate(classes):
            for column, predicted in enumerate(classes):
                yield [name, condition, label, predicted, int(total[row, column])]


def _text(value: float | int | str) -> str:
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    beside = path.with_name(path.name + ".part")
    with beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    beside.replace(path)


def main(params: Params, name: str) -> None:
    """Evaluate one experiment.

    Raises:
        ParamsError: there is no such experiment.
        StoreError, DataError: its runs, features or masks cannot be used.
    """
    experiment = params.experiment(name)
    dataset = params.dataset(experiment.dataset)
    data = Path("data")
    manifest = read_manifest(data / "manifests" / f"{experiment.dataset}.csv")
    keeps = experiment.keep_embeddings
    masks = read_masks(data / "masks" / f"{experiment.dataset}.h5", [sample.id for sample in manifest])
    results = evaluate_experiment(name, experiment, dataset, masks, params.compute, data)
    write_results(data / "results" / name, name, dataset.labels, results)
    kept = embed_experiment(name, experiment, dataset, params.compute, data) if keeps else {}
    write_embeddings(data / "results" / name / "embeddings.npz", kept)
    _, table = summarise(results)
    _log.info("%s: average over missing conditions %s", name, table["average"])


if __name__ == "__main__":
    run_stage(main)
