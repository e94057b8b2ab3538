"""Trained networks over their test samples: predictions under each condition and mask, hidden states, metrics.

Everything that shapes the numbers is read from the record of the trained run (run.json): labels, splits, frame rates,
settings. What params.yaml adds is only under which masks to evaluate and which hidden states to keep.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.base import Judgement, Network, View
from pipeline.data.manifest import read_manifest
from pipeline.data.masks import CONDITIONS, FULL_CONDITION, MISSING_CONDITIONS, read_masks
from pipeline.errors import ParamsError, StoreError
from pipeline.params import Compute, Dataset, Experiment
from pipeline.training import chance, metrics
from pipeline.training.batching import DeviceSamples
from pipeline.training.experiment import hides_frames
from pipeline.training.folds import Fold, make_folds
from pipeline.training.loop import choose_device, deterministic, predict, run_over
from pipeline.training.predictor import Predictor, load_run
from pipeline.training.samples import SampleSet, samples_of
from pipeline.training.training_set import Showing, showings

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
        scale: theirs.
    """

    fold: int
    run: int
    ids: tuple[str, ...]
    scores: NDArray[np.float64]
    predicted: Mapping[str, NDArray[np.float64]]
    scale: metrics.Scale = metrics.MOSI_SCALE

    @property
    def conditions(self) -> tuple[str, ...]:
        """What it was evaluated under."""
        return tuple(self.predicted)

    @classmethod
    def measure(cls, results: Sequence[ScoreResult], condition: str) -> dict[str, float]:
        """Return the metrics of several folds' predictions together."""
        truth = np.concatenate([result.scores for result in results])
        found = np.concatenate([result.predicted[condition] for result in results])
        return metrics.of_scores(truth, found, results[0].scale.metrics)


Results = Sequence[Result] | Sequence[ScoreResult]


@dataclass(frozen=True)
class Judged:
    """What one (fold, run) says of its test samples beside the prediction (``Network.judgements``).

    Attributes:
        fold, run: from 1.
        ids: of the n test samples.
        kinds: judgement -> what it is.
        values: condition -> judgement -> (n,) or (n, C) float32.
    """

    fold: int
    run: int
    ids: tuple[str, ...]
    kinds: Mapping[str, Judgement]
    values: Mapping[str, Mapping[str, NDArray[np.float32]]]


@dataclass(frozen=True)
class Evaluation:
    """What an experiment's networks said.

    Attributes:
        results: of every (fold, run).
        classes: the names of the classes; none of a regression.
        hidden: array name -> values, what hidden.npz holds; empty where nothing is to be kept.
        constant: what the constant predictor said in every fold.
        judgements: what the model says of each sample beside its prediction, of every (fold, run).
    """

    results: Results
    classes: tuple[str, ...]
    hidden: Mapping[str, NDArray[Any]]
    constant: Results
    judgements: Sequence[Judged] = ()


def evaluate_experiment(
    name: str,
    dataset: Dataset,
    asked: Experiment,
    evaluate_on: Sequence[str],
    compute: Compute,
    data: Path,
) -> Evaluation:
    """Run the best weights of every (fold, run) over its test samples.

    Args:
        name: the experiment's.
        dataset: its dataset's section of params.yaml.
        asked: the experiment as params.yaml has it: only what belongs to evaluation is used.
        evaluate_on: masks, by name.
        compute: the device.
        data: the folder of everything.

    Raises:
        StoreError: runs are absent or damaged, or were trained on other features, classes or folds.
        DataError: the samples cannot be split.
        ParamsError: the model has no hidden state of a name to keep.
    """
    device = choose_device(compute.device)
    folder = data / "runs" / name
    first = load_run(folder / "1-1")
    trained = first.experiment
    manifest = read_manifest(data / "manifests" / f"{trained.dataset}.csv")
    masks = read_masks(data / "masks" / f"{trained.dataset}.h5", [sample.id for sample in manifest])
    samples = samples_of(
        trained,
        dataset,
        data,
        hides_frames=hides_frames(masks, tuple(evaluate_on)),
        dialogues=first.network.dialogues,
        facts=first.network.facts(first.network.settings),
    )
    named = samples.named_masks(masks, evaluate_on)
    enumerated = list(CONDITIONS)
    if trained.train_on in CONDITIONS:
        enumerated = [trained.train_on]
    ways: list[Showing] = []
    for mask in evaluate_on:
        if mask not in named:  # it enumerates the conditions
            ways += showings(enumerated)
            continue
        hiding = named[mask].first(device)
        if asked.evaluate_conditions:
            ways += [
                way.under(way.name if len(evaluate_on) == 1 else f"{mask} {way.name}", hiding)
                for way in showings(enumerated)
            ]
        else:
            ways += [showings([FULL_CONDITION])[0].under(mask, hiding)]
    results: list[Result] = []
    regressions: list[ScoreResult] = []
    constant: list[Any] = []
    folds = make_folds(samples.samples, trained.folds or dataset.folds, samples.labelled)
    kept = _Hidden(asked.keep_hidden, samples)
    judged: list[Judged] = []
    for run in range(1, trained.runs + 1):
        for fold in folds:
            predictor = load_run(folder / f"{fold.number}-{run}")
            _check(predictor, samples, fold, folder)
            network = predictor.network.to(device)
            prepared = samples.prepare(predictor.normalisers, device)
            with deterministic(device, 0):
                logits = predict(network, network, prepared, fold.test, ways)
                if run == 1:
                    kept.take(predictor, prepared, fold, ways)
            tested = tuple(samples.samples[index].id for index in fold.test)
            if run == 1:
                constant.append(constant_result(samples, fold))
            if kinds := network.judgements(network.settings):
                said = {way.name: _hidden_of(network, prepared, fold, way, tuple(kinds)) for way in ways}
                if samples.scores is not None:  # networks count scores from the middle of their scale
                    offset = np.float32(samples.scale.centre)
                    for values in said.values():
                        values |= {
                            name: values[name] + offset for name in kinds if kinds[name] == "prediction"
                        }
                judged.append(Judged(fold.number, run, tested, kinds, said))
            if samples.scores is not None:
                middle = samples.scale.centre
                found = logits.double().numpy() + middle
                shown = {way.name: found[:, index, 0] for index, way in enumerate(ways)}
                truth = samples.scores[fold.test].astype(np.float64) + middle
                regressions.append(ScoreResult(fold.number, run, tested, truth, shown, samples.scale))
                continue
            chances = torch.softmax(logits.double(), dim=2).numpy()
            by_way = {way.name: chances[:, index] for index, way in enumerate(ways)}
            results.append(Result(fold.number, run, tested, samples.labels[fold.test], by_way))
    return Evaluation(regressions or results, samples.classes, kept.arrays(), constant, judged)


CONSTANT = "constant"  # the condition of what the constant predictor says: it looks at nothing


def constant_result(samples: SampleSet, fold: Fold) -> Result | ScoreResult:
    """Return what the predictor says that always gives the training part's most frequent class, or median score."""
    tested = tuple(samples.samples[index].id for index in fold.test)
    if samples.scores is None:
        counts = np.bincount(samples.labels[fold.train], minlength=len(samples.classes))
        chances = np.tile(np.eye(len(counts))[counts.argmax()], (len(tested), 1))
        return Result(fold.number, 1, tested, samples.labels[fold.test], {CONSTANT: chances})
    scores = samples.scores.astype(np.float64) + samples.scale.centre
    said = np.full(len(tested), np.median(scores[fold.train]))
    return ScoreResult(fold.number, 1, tested, scores[fold.test], {CONSTANT: said}, samples.scale)


def against_chance(results: Results, constant: Results) -> chance.Chance:
    """Compare what networks said with chance: pipeline/training/chance.py.

    Args:
        results: of every (fold, run); each run has the same folds.
        constant: of every fold, by :func:`constant_result`.
    """
    conditions = results[0].conditions
    averaged = MISSING_CONDITIONS if set(MISSING_CONDITIONS) <= set(conditions) else conditions
    first = [result for result in results if result.run == results[0].run]
    places = np.concatenate([np.full(len(one.ids), one.fold) for one in first])
    _, table = summarise(results)
    (guessed,) = summarise(constant)[1]["conditions"].values()  # type: ignore[attr-defined]
    if isinstance(first[0], Result):
        labels = np.concatenate([one.labels for one in first])  # type: ignore[union-attr]
        metric, credits = "ua", chance.class_credits(labels, first[0].probabilities[conditions[0]].shape[1])
        level = float(np.mean([chance.ua_level(one.labels) for one in first]))  # type: ignore[union-attr]
        pooled_level = chance.ua_level(labels)
    else:
        metric, credits = "mae", np.concatenate([one.scores for one in first])[:, None]  # type: ignore[union-attr]
        level, pooled_level = guessed["mae"]["mean"], guessed["mae"]["pooled"]
    said = np.stack([_answers(results, name) for name in conditions], axis=2)
    average = said[:, :, [conditions.index(name) for name in averaged]].mean(axis=2, keepdims=True)
    p = chance.permutation_p(credits, np.concatenate([said, average], axis=2), places)
    numbers = {**table["conditions"], chance.AVERAGE: table["average"]}  # type: ignore[dict-item]
    reached = {}
    for name, one in zip((*conditions, chance.AVERAGE), p, strict=True):
        alike = sum(_alike(result, name) for result in results) if name in conditions else 0
        found = numbers[name][metric]  # type: ignore[index]
        reached[name] = chance.Reached(found["mean"], found["pooled"], float(one), alike)
    return chance.Chance(metric, level, pooled_level, len(results), reached, guessed)


def _answers(results: Results, condition: str) -> NDArray[np.float64]:
    """Return (n, D): of all folds' test samples the share of runs that say a class; or the mean score, D is 1."""
    runs: dict[int, list[NDArray[np.float64]]] = {}
    for one in results:
        if isinstance(one, Result):
            chances = one.probabilities[condition]
            given = np.eye(chances.shape[1])[chances.argmax(axis=1)]
        else:
            given = one.predicted[condition][:, None]
        runs.setdefault(one.run, []).append(given)
    return np.mean([np.concatenate(parts) for parts in runs.values()], axis=0)


def _alike(one: Result | ScoreResult, condition: str) -> bool:
    """Return whether a network gives all its test samples the same answer."""
    if isinstance(one, Result):
        return metrics.all_alike(one.probabilities[condition].argmax(axis=1))
    return metrics.all_alike(one.predicted[condition], one.scale.limit)


def _hidden_of(
    network: Network,
    samples: DeviceSamples,
    fold: Fold,
    way: Showing,
    names: Sequence[str],
    views: Mapping[str, View] | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Return hidden states by name, (n, ...) for a fold's n test samples shown in one way.

    Raises:
        ParamsError: the network has no hidden state of a name.
    """
    found: dict[str, NDArray[np.float32]] = {}
    for output, place, _ in run_over(network, network, samples, fold.test, [way], views):
        counted = place >= 0
        for name in names:
            if name not in output.hidden:
                raise ParamsError(
                    f'keep_hidden: {type(network).__module__.removeprefix("models.")} has no hidden state "{name}" '
                    f"here; it has {', '.join(output.hidden) or 'none'}"
                )
            values = output.hidden[name].float().cpu()[counted].numpy()
            whole = found.setdefault(name, np.zeros((len(fold.test), *values.shape[1:]), np.float32))
            whole[place[counted].numpy()] = values
    return found


class _Hidden:
    """Gathers the hidden states of the first run's test samples."""

    def __init__(self, names: Sequence[str], samples: SampleSet) -> None:
        self._names, self._samples = names, samples
        self._parts: dict[str, list[NDArray[Any]]] = {}

    def take(
        self, predictor: Predictor, prepared: DeviceSamples, fold: Fold, ways: Sequence[Showing]
    ) -> None:
        """Run a fold's network once more, with the versions of the samples that it has in training."""
        if not self._names:
            return
        tested = [self._samples.samples[i] for i in fold.test]
        self._add("ids", np.array([sample.id for sample in tested]))
        self._add("folds", np.full(len(tested), fold.number))
        self._add("labels", self._samples.labels[fold.test])
        self._add("present", self._samples.present[fold.test])
        network = predictor.network
        views: Mapping[str, View] = network.views(network.settings)
        for way in ways:
            found = _hidden_of(network, prepared, fold, way, self._names, views)
            for name, values in found.items():
                self._add(f"{way.name}/{name}", values)

    def _add(self, name: str, values: NDArray[Any]) -> None:
        self._parts.setdefault(name, []).append(values)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what was gathered, all folds one after the other."""
        return {name: np.concatenate(parts) for name, parts in self._parts.items()}


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

    def numbers(condition: str) -> dict[str, dict[str, float | None]]:
        table: dict[str, dict[str, float | None]] = {}
        for name, values in each[condition].items():
            mean, deviation = metrics.mean_and_deviation(values)
            together = float(np.mean(pooled[condition][name]))
            table[name] = {
                "mean": round(mean, 6),
                "std": None if deviation is None else round(deviation, 6),
                "pooled": round(together, 6),
            }
        return table

    return rows, {"average": numbers("average"), "conditions": {name: numbers(name) for name in conditions}}
