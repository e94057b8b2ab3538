"""What is measured, in numpy. To add a metric, write its function here and name it in one of the registries
below.

A metric of classes takes a confusion matrix (C, C), rows truth, columns prediction; a metric of scores takes
truth (N,) and prediction (N,). Both give one number. params.yaml's ``select_by`` takes any name of
:data:`METRICS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def confusion_matrix(truth: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Count pairs of (truth, prediction).

    Args:
        truth: (N,) integers in [0, classes).
        predicted: (N,) integers in [0, classes).
        classes: C.

    Returns:
        (C, C) int64, rows truth, columns prediction.
    """
    pairs = np.asarray(truth, np.int64) * classes + np.asarray(predicted, np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def weighted_accuracy(confusion: NDArray[np.int64]) -> float:
    """Return WA, the share of samples that are right (MMIN section 4.5: weighted by the classes' sizes)."""
    total = int(confusion.sum())
    return float(np.trace(confusion)) / total if total else 0.0


def unweighted_accuracy(confusion: NDArray[np.int64]) -> float:
    """Return UA, the mean recall over the classes that occur in the truth."""
    support = confusion.sum(axis=1)
    there = support > 0
    return float((np.diag(confusion)[there] / support[there]).mean()) if there.any() else 0.0


def class_f1(confusion: NDArray[np.int64]) -> Floats:
    """Return (C,) F1 of each class: 2 TP / (2 TP + FP + FN), and 0 where that is 0 / 0."""
    twice = 2.0 * np.diag(confusion)
    all_of_it = (confusion.sum(axis=0) + confusion.sum(axis=1)).astype(float)
    return np.divide(twice, all_of_it, out=np.zeros_like(twice), where=all_of_it > 0)


def macro_f1(confusion: NDArray[np.int64]) -> float:
    """Return the mean F1 over the classes that occur in truth or prediction."""
    there = (confusion.sum(axis=0) + confusion.sum(axis=1)) > 0
    return float(class_f1(confusion)[there].mean()) if there.any() else 0.0


def weighted_f1(confusion: NDArray[np.int64]) -> float:
    """Return the mean F1 over classes, weighted by the *truth's* support."""
    support = confusion.sum(axis=1)
    total = int(support.sum())
    return float((class_f1(confusion) * support).sum() / total) if total else 0.0


def mae(truth: Floats, predicted: Floats) -> float:
    """Return the mean absolute error."""
    return float(np.abs(truth - predicted).mean())


def pearson(truth: Floats, predicted: Floats) -> float:
    """Return Pearson's r; 0 where either side is constant."""
    if np.ptp(truth) == 0 or np.ptp(predicted) == 0:  # a mean of equal numbers need not be that number
        return 0.0
    a, b = truth - truth.mean(), predicted - predicted.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size > 0 else 0.0


def concordance(truth: Floats, predicted: Floats) -> float:
    """Return Lin's concordance correlation coefficient, 2 cov / (var + var + (difference of the means)^2).

    Variances and covariance are divided by n, as Lin has it (Biometrics 45, 1989, p. 258). 1: the same numbers; unlike
    Pearson's r it falls when the predictions are shifted or stretched. 0 where a side is constant, as ``pearson``.
    """
    if np.ptp(truth) == 0 or np.ptp(predicted) == 0:
        return 0.0
    a, b = truth - truth.mean(), predicted - predicted.mean()
    apart = float(truth.mean() - predicted.mean())
    return 2 * float((a * b).mean()) / (float((a * a).mean()) + float((b * b).mean()) + apart * apart)


def _equal_after(bins: Callable[[Floats], NDArray[np.int64]]) -> Callable[[Floats, Floats], float]:
    def accuracy(truth: Floats, predicted: Floats) -> float:
        return float((bins(truth) == bins(predicted)).mean())

    return accuracy


def _rounded(limit: float) -> Callable[[Floats], NDArray[np.int64]]:
    """Round half to even after clipping, as all published Acc-7 and Acc-5 of MOSI do."""
    return lambda scores: np.rint(np.clip(scores, -limit, limit)).astype(np.int64)


def _clipped(metric: Callable[[Floats, Floats], float]) -> Callable[[Floats, Floats], float]:
    """Return a metric of scores that clips both sides to [-1, 1] before anything else (CH-SIMS)."""
    return lambda truth, predicted: metric(np.clip(truth, -1, 1), np.clip(predicted, -1, 1))


def _cut(*edges: float) -> Callable[[Floats], NDArray[np.int64]]:
    """Clip to [-1, 1] and number the intervals (., e1], (e1, e2], ... (CH-SIMS).

    In float32, which networks and stores speak: there 0.1 and -0.7 are no edges' neighbours but the edges.
    """
    limits = np.array(edges, np.float32)
    return lambda scores: np.digitize(np.clip(scores, -1, 1).astype(np.float32), limits, right=True)


def _buckets(scores: Floats) -> NDArray[np.int64]:
    """Number the buckets < -2, [-2, -1), [-1, 0), 0, (0, 1], (1, 2], > 2 of some MOSEI papers."""
    below, above = np.digitize(scores, (-2.0, -1.0, 0.0)), np.digitize(scores, (0.0, 1.0, 2.0), right=True)
    return below + above


def _two_way(keep_zero: bool, f1: bool) -> Callable[[Floats, Floats], float]:
    def score(truth: Floats, predicted: Floats) -> float:
        if not keep_zero:
            predicted, truth = predicted[truth != 0], truth[truth != 0]
        at = np.greater_equal if keep_zero else np.greater
        matrix = confusion_matrix(at(truth, 0), at(predicted, 0), 2)
        return weighted_f1(matrix) if f1 else weighted_accuracy(matrix)

    return score


def _sims_f1(truth: Floats, predicted: Floats) -> float:
    return weighted_f1(confusion_matrix(np.clip(truth, -1, 1) > 0, np.clip(predicted, -1, 1) > 0, 2))


# Of classes: (C, C) confusion -> number.
CLASS_METRICS: dict[str, Callable[[NDArray[np.int64]], float]] = {
    "wa": weighted_accuracy,
    "ua": unweighted_accuracy,
    "macro_f1": macro_f1,
    "weighted_f1": weighted_f1,
}

# Of scores: truth (N,), prediction (N,) -> number. MOSI and MOSEI first, then CH-SIMS.
ScoreMetric = Callable[[Floats, Floats], float]
SCORE_METRICS: dict[str, ScoreMetric] = {
    "mae": mae,
    "r": pearson,
    "ccc": concordance,
    "acc2_has0": _two_way(keep_zero=True, f1=False),
    "acc2_non0": _two_way(keep_zero=False, f1=False),
    "f1_has0": _two_way(keep_zero=True, f1=True),
    "f1_non0": _two_way(keep_zero=False, f1=True),
    "acc3": _equal_after(_rounded(1)),
    "acc5": _equal_after(_rounded(2)),
    "acc7": _equal_after(_rounded(3)),
    "acc7_buckets": _equal_after(_buckets),
    "sims_acc2": _equal_after(_cut(0.0)),
    "sims_acc3": _equal_after(_cut(-0.1, 0.1)),
    "sims_acc5": _equal_after(_cut(-0.7, -0.1, 0.1, 0.7)),
    "sims_f1": _sims_f1,
}

METRICS = (*CLASS_METRICS, *SCORE_METRICS)
SMALLER_IS_BETTER = frozenset({"mae", "loss"})

# What a regression is measured by, by the scale of its scores. CH-SIMS's own evaluation (MMSA, Self-MM) clips to
# [-1, 1] before everything, MAE and r among it.
MOSI_METRICS: dict[str, ScoreMetric] = {
    name: SCORE_METRICS[name]
    for name in ("mae", "r", "ccc", "acc2_has0", "acc2_non0", "f1_has0", "f1_non0", "acc3", "acc5", "acc7")
}
SIMS_METRICS: dict[str, ScoreMetric] = {
    "mae": _clipped(mae),
    "r": _clipped(pearson),
    "ccc": _clipped(concordance),
    **{name: SCORE_METRICS[name] for name in ("sims_acc2", "sims_acc3", "sims_acc5", "sims_f1")},
}
# Of a column that is no sentiment about 0, such as valence from 1 to 5: it has no sign and no classes.
RANGE_METRICS: dict[str, ScoreMetric] = {name: SCORE_METRICS[name] for name in ("mae", "r", "ccc")}
# What select_by may name, by the task.
SELECTORS = {
    "classification": (*CLASS_METRICS, "loss"),
    "regression": ("mae", "loss", *(n for n in SCORE_METRICS if n != "mae")),
}


@dataclass(frozen=True)
class Scale:
    """The scale of what a regression learns. Networks see it about its middle, where it reaches from -limit to limit.

    Attributes:
        low, high: its ends.
        sentiment: whether it is one of negative and positive, about 0, which has accuracies besides.
    """

    low: float
    high: float
    sentiment: bool = True

    @property
    def centre(self) -> float:
        """What networks take for 0; of a sentiment that is 0 itself."""
        return (self.low + self.high) / 2

    @property
    def limit(self) -> float:
        """How far the ends are from the middle."""
        return (self.high - self.low) / 2

    @property
    def metrics(self) -> Mapping[str, ScoreMetric]:
        """What it is measured by: a sentiment by CH-SIMS's metrics up to 1, else by CMU-MOSI's (Acc-7 clips at 3).

        The same name may be another function: ``mae``, ``r`` and ``ccc`` of CH-SIMS are those of clipped scores. Those
        of :data:`RANGE_METRICS` do not change when truth and prediction move together.
        """
        if not self.sentiment:
            return RANGE_METRICS
        return SIMS_METRICS if self.limit <= 1 else MOSI_METRICS

    @classmethod
    def of(
        cls, target: str, ranges: Mapping[str, Sequence[float]], score_limit: float | None
    ) -> Scale | None:
        """Return the scale of a column of the manifest, None where its dataset does not say.

        Args:
            target: the column.
            ranges: column -> low, high, as the dataset gives them.
            score_limit: the largest sentiment score, of either sign; None: the dataset has none.
        """
        if target in ranges:
            low, high = ranges[target]
            return cls(low, high, sentiment=False)
        if score_limit is None or not target.startswith("score"):
            return None
        return cls(-score_limit, score_limit)


MOSI_SCALE = Scale(-3.0, 3.0)


def of_classes(confusion: NDArray[np.int64]) -> dict[str, float]:
    """Return every metric of a confusion matrix by name."""
    return {name: metric(confusion) for name, metric in CLASS_METRICS.items()}


def of_scores(
    truth: ArrayLike, predicted: ArrayLike, wanted: Mapping[str, ScoreMetric] = SCORE_METRICS
) -> dict[str, float]:
    """Return metrics of scores by name.

    Args:
        truth, predicted: (N,).
        wanted: those of a scale (:attr:`Scale.metrics`); all, if none are named.
    """
    a, b = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    return {name: metric(a, b) for name, metric in wanted.items()}


SAME = 0.01  # of half a scale: scores that lie closer together are the same answer


def all_alike(answers: ArrayLike, limit: float | None = None) -> bool:
    """Return whether a network gives several samples one answer.

    Args:
        answers: (N,) classes or scores.
        limit: of scores half the width of their scale; None for classes.
    """
    given = np.asarray(answers)
    return given.size > 1 and bool(np.ptp(given) <= (0 if limit is None else SAME * limit))


def mean_and_deviation(values: ArrayLike) -> tuple[float, float | None]:
    """Return mean and sample standard deviation (n - 1); a single value has no deviation: None.

    The project has no other: metrics.json, the report and its t-tests take theirs from here.
    """
    numbers = np.asarray(values, np.float64)
    return float(numbers.mean()), float(numbers.std(ddof=1)) if numbers.size > 1 else None


def average(rows: Mapping[str, Mapping[str, float]], conditions: tuple[str, ...]) -> dict[str, float]:
    """Return the mean of each metric over the named conditions (MMIN Table 5, column "Average").

    Args:
        rows: condition -> metric -> value.
        conditions: one or more of the conditions; each has the metrics of the first.
    """
    names = rows[conditions[0]].keys()
    return {name: float(np.mean([rows[condition][name] for condition in conditions])) for name in names}
