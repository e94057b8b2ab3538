"""predictions.csv of an experiment, read once and reduced: what it said of single samples, how sure it was.

pipeline/evaluate.py says what the file holds. A row is one sample under one condition, by one (fold, run).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.masks import MISSING_CONDITIONS
from pipeline.data.shown import for_spreadsheet
from pipeline.errors import DataError
from pipeline.reporting.statistics import Key
from pipeline.training import metrics

BINS = 15  # of the reliability curve, of equal width (Guo et al., On Calibration of Modern Neural Networks, ICML 2017)
LEAST = 1e-6  # probabilities are written with six digits: a loss never needs the logarithm of less


@dataclass(frozen=True)
class Predictions:
    """What an experiment said of its N test samples under K conditions.

    Attributes:
        ids: of the samples, in the order of the file.
        conditions: their names.
        classes: the C labels; none of a regression.
        folds: (N,) int64, the fold that tests each; -1 of a sample that several folds test.
        truth: (N,) int64 classes, or float64 scores.
        said: (N, K, C) mean probabilities over the runs; of a regression (N, K, 1) mean scores. NaN where the file says
            nothing.
        right: (N, K) share of the runs that were right; of a regression the mean absolute error.
        pooled: (fold, run) -> metric over the predictions under all six missing conditions together; empty when one of
            the six is not there.
        bins: (K, BINS, 3): predictions, the sum of their confidences, how many were right, by confidence; all folds and
            runs together. Zeros of a regression.
    """

    ids: tuple[str, ...]
    conditions: tuple[str, ...]
    classes: tuple[str, ...]
    folds: NDArray[np.int64]
    truth: NDArray[Any]
    said: NDArray[np.float64]
    right: NDArray[np.float64]
    pooled: Mapping[Key, Mapping[str, float]]
    bins: NDArray[np.float64]

    def losses(self) -> NDArray[np.float64]:
        """Return (N, K): -ln of the mean probability of the true class; of a regression the absolute error."""
        if not self.classes:
            return np.abs(self.said[:, :, 0] - self.truth[:, None])
        true = np.take_along_axis(self.said, self.truth[:, None, None], axis=2)[:, :, 0]
        return -np.log(np.maximum(true, LEAST))

    def only(self, conditions: Sequence[str]) -> Predictions:
        """Return what it said under some of the conditions."""
        kept = [place for place, name in enumerate(self.conditions) if name in conditions]
        return Predictions(
            self.ids,
            tuple(self.conditions[place] for place in kept),
            self.classes,
            self.folds,
            self.truth,
            self.said[:, kept],
            self.right[:, kept],
            {},
            self.bins[kept],
        )

    @classmethod
    def merged(cls, parts: Sequence[Predictions]) -> Predictions | None:
        """Return several experiments' conditions as those of one; None when they are not of the same samples."""
        first = parts[0]
        if any((part.ids, part.classes) != (first.ids, first.classes) for part in parts):
            return None
        return cls(
            first.ids,
            tuple(name for part in parts for name in part.conditions),
            first.classes,
            first.folds,
            first.truth,
            np.concatenate([part.said for part in parts], axis=1),
            np.concatenate([part.right for part in parts], axis=1),
            {},
            np.concatenate([part.bins for part in parts]),
        )


def calibration_error(bins: NDArray[np.float64]) -> float | None:
    """Return the expected calibration error: sum over bins of n_b / n |right_b / n_b - confidence_b / n_b|.

    Args:
        bins: (BINS, 3) of one condition, or a sum over several.
    """
    total = bins[:, 0].sum()
    return float(np.abs(bins[:, 2] - bins[:, 1]).sum() / total) if total else None


def read_predictions(path: Path, classes: Sequence[str], scale: metrics.Scale) -> Predictions | None:
    """Read and reduce predictions.csv; None when there is no such file.

    Args:
        path: what evaluate wrote.
        classes: the experiment's labels; none of a regression.
        scale: of a regression's scores, which says by what it is measured.

    Raises:
        DataError: it is damaged.
    """
    if not path.is_file():
        return None
    rows = _read(path, classes)
    key, sample, condition = rows["key"], rows["id"], rows["condition"]
    ids, conditions = rows["ids"], rows["conditions"]
    count = (len(ids), len(conditions))
    cell = sample.astype(np.int64) * count[1] + condition
    times = np.bincount(cell, minlength=count[0] * count[1]).reshape(count).astype(float)
    truth = np.zeros(count[0], rows["truth"].dtype)
    truth[sample] = rows["truth"]
    if (truth[sample] != rows["truth"]).any():
        raise DataError(f"{path}: a sample has two labels. Run: dvc repro -f -s evaluate")

    def mean(values: NDArray[Any]) -> NDArray[np.float64]:
        total = np.bincount(cell, values, minlength=count[0] * count[1]).reshape(count)
        return np.divide(total, times, out=np.full(count, np.nan), where=times > 0)

    bins = np.zeros((count[1], BINS, 3))
    if classes:
        hit = rows["predicted"] == rows["truth"]
        confidence = rows["said"].max(axis=1)
        known = np.isfinite(confidence)
        inside = np.clip(np.ceil(np.where(known, confidence, 0) * BINS) - 1, 0, BINS - 1).astype(np.int64)
        place = (condition * BINS + inside)[known]
        for column, weights in enumerate((known, confidence, hit)):
            counted = np.bincount(place, weights[known], minlength=count[1] * BINS)
            bins[:, :, column] = counted.reshape(-1, BINS)
        right = mean(hit)
    else:
        right = mean(np.abs(rows["said"][:, 0] - rows["truth"]))
    said = np.stack([mean(column) for column in rows["said"].T], axis=2)
    pooled = {}
    if set(MISSING_CONDITIONS) <= set(conditions):
        six = np.isin(condition, [conditions.index(name) for name in MISSING_CONDITIONS])
        pooled = _pooled(rows, key, six, len(classes), scale)
    folds = np.zeros(count[0], np.int64)
    own = np.array([fold for fold, _ in rows["keys"]])[key]
    folds[sample] = own
    folds[sample[folds[sample] != own]] = -1
    return Predictions(tuple(ids), tuple(conditions), tuple(classes), folds, truth, said, right, pooled, bins)


def _pooled(
    rows: Mapping[str, Any],
    key: NDArray[np.int64],
    six: NDArray[np.bool_],
    classes: int,
    scale: metrics.Scale,
) -> dict[Key, dict[str, float]]:
    """Return (fold, run) -> the metrics of all predictions under the six missing conditions."""
    found: dict[Key, dict[str, float]] = {}
    if classes:
        pairs = (key * classes + rows["truth"]) * classes + rows["predicted"]
        counts = np.bincount(pairs[six], minlength=len(rows["keys"]) * classes * classes)
        for name, matrix in zip(rows["keys"], counts.reshape(-1, classes, classes), strict=True):
            found[name] = metrics.of_classes(matrix)
        return found
    order = np.argsort(key[six], kind="stable")
    truth, said = rows["truth"][six][order], rows["said"][six, 0][order]
    ends = np.cumsum(np.bincount(key[six], minlength=len(rows["keys"])))
    for name, start, end in zip(rows["keys"], [0, *ends[:-1]], ends, strict=True):
        if end > start:
            found[name] = metrics.of_scores(truth[start:end], said[start:end], scale.metrics)
    return found


def _read(path: Path, classes: Sequence[str]) -> dict[str, Any]:
    """Return the columns as arrays of R rows, texts as places in a list."""
    import pyarrow
    from pyarrow import csv

    texts = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    chances = [f"p_{name}" for name in classes]
    words = ["condition", "id", *(("label", "predicted") if classes else ())]
    numbers = chances or ["score", "predicted"]
    types = (
        dict.fromkeys(words, texts)
        | dict.fromkeys(numbers, pyarrow.float64())
        | dict.fromkeys(("fold", "run"), pyarrow.int64())
    )
    try:
        table = csv.read_csv(
            path,
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(column_types=types, include_columns=list(types)),
        )
        table = table.unify_dictionaries().combine_chunks()
        found: dict[str, Any] = {}
        for name in words:
            column = table.column(name).combine_chunks()
            column = column.chunk(0) if isinstance(column, pyarrow.ChunkedArray) else column
            found[name] = column.indices.to_numpy(zero_copy_only=False).astype(np.int64)
            found[f"{name}s"] = column.dictionary.to_pylist()
        numbered = {name: table.column(name).to_numpy() for name in (*dict.fromkeys(numbers), "fold", "run")}
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Run: dvc repro -f -s evaluate") from error
    pairs = numbered["fold"] * (1 << 20) + numbered["run"]
    keys, found["key"] = np.unique(pairs, return_inverse=True)
    found["keys"] = [(int(key >> 20), int(key % (1 << 20))) for key in keys]
    if classes:
        places = {for_spreadsheet(name): place for place, name in enumerate(classes)}
        for name, column_name in (("truth", "label"), ("predicted", "predicted")):
            known = [places.get(text, -1) for text in found[f"{column_name}s"]]
            if -1 in known:
                unknown = found[f"{column_name}s"][known.index(-1)]
                raise DataError(
                    f"{path}: found the {column_name} {unknown!r}, expected one of {', '.join(classes)}. "
                    "Run: dvc repro -f -s evaluate"
                )
            found[name] = np.array(known, np.int64)[found[column_name]]
        found["said"] = np.stack([numbered[name] for name in chances], axis=1)
    else:
        found["truth"] = numbered["score"]
        found["said"] = numbered["predicted"][:, None]
    if len(found["truth"]) == 0:
        raise DataError(f"{path}: holds no rows. Run: dvc repro -f -s evaluate")
    return found
