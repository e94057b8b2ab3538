"""What is wrong with a split that can be trained on: classes that a part lacks, folds of very unequal size.

``lacuna dataset check`` and prepare say it before anything is extracted (:func:`dataset_findings`). Train says it of
the samples that take part (:func:`fold_findings`) and writes it into summary.json, whence the report has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.data.manifest import Sample
from pipeline.errors import DataError
from pipeline.params import Params
from pipeline.training.classes import ClassRules, answer_of
from pipeline.training.folds import Fold, make_folds

UNEVEN = 3.0  # times as many samples in a fold's part as in another's
PARTS = {  # field of a fold -> its name, and what follows where it lacks a class
    "train": ("training", "its network cannot learn it"),
    "valid": ("validation", "the choice of the epoch does not see it"),
    "test": ("test", "UA is over the other classes there, and chance is higher"),
}


def fold_findings(
    folds: Sequence[Fold], answers: NDArray[np.int64] | NDArray[np.floating], classes: Sequence[str]
) -> list[str]:
    """Return what a reader must know of the folds, in sentences.

    Args:
        folds: all folds of one split.
        answers: (N,) the samples' classes, or the scores of a regression.
        classes: names of the C classes; none of a regression.
    """
    found = []
    for part, (word, meaning) in PARTS.items():
        for index, name in enumerate(classes):
            lacking = [fold.number for fold in folds if index not in answers[getattr(fold, part)]]
            if lacking:
                found.append(f'{_which(lacking, folds)}: no "{name}" in the {word} part: {meaning}')
    for part, (word, _) in PARTS.items():
        sizes = {fold.number: len(getattr(fold, part)) for fold in folds}
        least, most = min(sizes, key=lambda k: sizes[k]), max(sizes, key=lambda k: sizes[k])
        if sizes[most] > UNEVEN * sizes[least]:
            found.append(
                f"uneven folds: the {word} part of fold {least} has {sizes[least]} samples, that of fold {most} has "
                f"{sizes[most]}; a mean over folds counts both alike"
            )
    if not classes:
        same = [fold.number for fold in folds if np.ptp(answers[fold.test]) == 0]
        if same:
            found.append(f"{_which(same, folds)}: all test samples have one score: r and CCC are 0 there")
    return found


def _which(numbers: Sequence[int], folds: Sequence[Fold]) -> str:
    """Return ``folds 2, 4 of 5``."""
    of = f" of {len(folds)}" if len(folds) > 1 else ""
    return f"fold{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}{of}"


def dataset_findings(params: Params, name: str, samples: Sequence[Sample]) -> list[str]:
    """Return the findings of every split that params.yaml asks for on a dataset, before there are features.

    Args:
        params: its experiments on the dataset, or without any the dataset itself, say labels and folds.
        name: the dataset's.
        samples: its manifest.
    """
    dataset = params.dataset(name)
    users: dict[tuple[str, ...], list[str]] = {}
    found: dict[tuple[str, ...], list[str]] = {}
    asked = {key: one for key, one in params.experiments.items() if one.dataset == name}
    plans = [
        (
            key,
            one.folds or dataset.folds,
            one.labels,
            one.target if one.task == "regression" else None,
            one.target,
        )
        for key, one in asked.items()
    ]
    if not asked and dataset.labels and dataset.folds.scheme != "none":
        plans = [("", dataset.folds, {}, None, "score")]
    for key, folds, labels, target, score in plans:
        plan = (folds.model_dump_json(), repr(labels), repr(target), score)
        users.setdefault(plan, []).append(key)
        if plan in found:
            continue
        rules = ClassRules.parse(labels, dataset.labels)
        answers = [answer_of(sample, target, rules, score, folds.scheme) for sample in samples]
        kept = [place for place, answer in enumerate(answers) if not isinstance(answer, str)]
        taken = [samples[place] for place in kept]
        try:
            made = make_folds(taken, folds)
        except DataError as error:
            found[plan] = [f"cannot be trained on: {error}"]
            continue
        numbers = [answers[place] if target is None else getattr(samples[place], target) for place in kept]
        found[plan] = fold_findings(made, np.array(numbers), rules.names if target is None else ())
    return [f"{_named(users[plan])}{sentence}" for plan, sentences in found.items() for sentence in sentences]


def _named(users: Sequence[str]) -> str:
    """Return whom a finding concerns."""
    if users == [""]:
        return ""
    more = f" and {len(users) - 3} more" if len(users) > 3 else ""
    return f"{', '.join(users[:3])}{more}: "
