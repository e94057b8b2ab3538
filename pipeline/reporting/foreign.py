"""Other people's predictions (``predictions:`` in params.yaml) as one more experiment: read, checked, measured.

The csv has the columns id, condition and seed, and one of: score (of a regression); predicted (a class); or p_<class>
for every class. It is measured on the very samples, labels, folds and conditions of the experiment that it is
``like``, so that the two are paired as any two experiments are. Seeds become runs in the order of their numbers.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.masks import MISSING_CONDITIONS
from pipeline.data.shown import for_spreadsheet
from pipeline.errors import DataError, nearest
from pipeline.params import ForeignPredictions
from pipeline.reporting.facts import ExperimentFacts
from pipeline.reporting.statistics import Key, Scores
from pipeline.training import metrics


def read_foreign(name: str, given: ForeignPredictions, like: ExperimentFacts, data: Path) -> ExperimentFacts:
    """Return a file of predictions as an experiment.

    A condition that lacks a sample for some seed is not measured, and said to lack it (``failure``).

    Args:
        name: its name in params.yaml.
        given: where the file is.
        like: the experiment on whose test samples it is measured.
        data: the folder data/.

    Raises:
        DataError: the file is absent or damaged, or names an id, a condition or a class that the experiment has not.
    """
    trained = {**like.trained, "model": f"predictions in {given.file}", "selection": "validation"}
    empty = replace(
        like, name=name, trained=trained, scores=Scores(), curves={}, confusion={}, summary={}, runs={},
        embeddings={}, needs=None, predictions=None, chance=None, judgements=(),
    )  # fmt: skip
    said = like.predictions
    if said is None:
        return replace(empty, failure=f"waits for {like.name}, on whose test samples it is measured")
    if (said.folds < 0).any():
        return replace(empty, failure=f"{like.name} tests samples in several folds; expected each in one")
    where = dict(zip(said.ids, said.folds.tolist(), strict=True))
    path = data / "predictions" / given.file
    truth = dict(zip(said.ids, said.truth.tolist(), strict=True))
    rows = _read(path, said.conditions, {for_spreadsheet(one): one for one in said.ids}, said.classes)
    values: dict[Key, dict[str, dict[str, float]]] = {}
    pooled: dict[Key, dict[str, float]] = {}
    confusion: dict[str, dict[tuple[str, str], int]] = {}
    lacking = []
    seeds = sorted({seed for _, seed in rows})
    for (condition, seed), found in sorted(rows.items(), key=lambda item: said.conditions.index(item[0][0])):
        if missing := len(truth.keys() - found.keys()):
            lacking.append(f"{condition} of seed {seed} lacks {missing} of {len(truth)} samples")
            continue
        for fold in sorted(set(where.values())):
            key, own = (fold, seeds.index(seed) + 1), [one for one in said.ids if where[one] == fold]
            pairs = [truth[one] for one in own], [found[one] for one in own]
            values.setdefault(key, {})[condition] = _measure(pairs, said.classes, like.scale)
        for one in said.ids if said.classes else ():
            pair = said.classes[truth[one]], said.classes[int(found[one])]
            counts = confusion.setdefault(condition, {})
            counts[pair] = counts.get(pair, 0) + 1
    for key in values:
        six = [rows.get((condition, seeds[key[1] - 1]), {}) for condition in MISSING_CONDITIONS]
        if set(MISSING_CONDITIONS) <= values[key].keys():
            own = [one for one in said.ids if where[one] == key[0]]
            both = [truth[one] for _ in six for one in own], [part[one] for part in six for one in own]
            pooled[key] = _measure(both, said.classes, like.scale)
    return replace(
        empty,
        scores=Scores(dict(sorted(values.items())), pooled),
        confusion=confusion,
        failure="; ".join(lacking),
    )


def _measure(
    pairs: tuple[list[Any], list[Any]], classes: Sequence[str], scale: metrics.Scale
) -> dict[str, float]:
    if classes:
        return metrics.of_classes(metrics.confusion_matrix(*pairs, len(classes)))
    return metrics.of_scores(*pairs, scale.metrics)


def _read(
    path: Path, conditions: Sequence[str], ids: Mapping[str, str], classes: Sequence[str]
) -> dict[tuple[str, int], dict[str, float]]:
    """Return (condition, seed) -> id -> class or score."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    chances = [f"p_{name}" for name in classes]
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            kinds = [["score"]] if not classes else [chances, ["predicted"]]
            kind = next((one for one in kinds if set(one) <= set(columns)), None)
            if kind is None or not {"id", "condition", "seed"} <= set(columns):
                wanted = " or ".join(", ".join(one) for one in kinds)
                raise DataError(
                    f"{path}: found the columns {', '.join(columns) or 'none'}, expected id, condition, seed and "
                    f"{wanted}"
                )
            for line, row in enumerate(reader, start=2):
                where = f"{path}, line {line}"
                if None in row or None in row.values():
                    raise DataError(f"{where}: found another number of fields than the header has")
                sample = ids.get(row["id"]) or ids.get(for_spreadsheet(row["id"]))
                if sample is None:
                    raise DataError(
                        f'{where}: found the id "{row["id"]}", which is no test sample.{nearest(row["id"], ids)}'
                    )
                if row["condition"] not in conditions:
                    raise DataError(
                        f'{where}: found the condition "{row["condition"]}", expected one of {", ".join(conditions)}'
                    )
                own = found.setdefault((row["condition"], _seed(row["seed"], where)), {})
                if sample in own:
                    raise DataError(
                        f"{where}: {sample} comes twice under {row['condition']} of seed {row['seed']}"
                    )
                own[sample] = _answer([row[name] for name in kind], classes, where)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); predictions.NAME.file names it") from error
    return found


def _seed(text: str, where: str) -> int:
    if not text.strip().isdecimal():
        raise DataError(f'{where}: found the seed "{text}", expected a whole number of 0 or more')
    return int(text)


def _answer(texts: Sequence[str], classes: Sequence[str], where: str) -> float:
    """Return the place of the predicted class, or the score."""
    if classes and len(texts) == 1 and texts[0] in classes:
        return classes.index(texts[0])
    if classes and len(texts) == 1 and len(classes) > 1:
        raise DataError(
            f'{where}: found the class "{texts[0]}", expected one of {", ".join(classes)}.{nearest(texts[0], classes)}'
        )
    try:
        numbers = [float(text) for text in texts]
    except ValueError as error:
        raise DataError(f"{where}: found {', '.join(texts)}, expected numbers") from error
    if not all(map(math.isfinite, numbers)):
        raise DataError(f"{where}: found {', '.join(texts)}, expected finite numbers")
    return int(np.argmax(numbers)) if classes else numbers[0]
