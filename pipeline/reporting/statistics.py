"""Numbers that compare experiments: mean, deviation and interval over folds and runs, the average of the six missing
conditions, paired t-tests and what corrects them, areas under curves, Shapley shares of the modalities.

An experiment has one score for each (fold, run); a run is one seed. Everything here works on these scores. Two
experiments are paired by (fold, run), as in MMIN's Table 5 and M3S's Table 5.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, TypeVar

from pipeline.data import masks as mask
from pipeline.data.manifest import MODALITIES
from pipeline.training.metrics import SMALLER_IS_BETTER, average, mean_and_deviation

# MMIN Table 5, in its order: the modalities that are left.
CONDITIONS: dict[str, tuple[str, ...]] = {
    name: tuple(modality for modality, there in zip(MODALITIES, present, strict=True) if there)
    for name, present in mask.CONDITIONS.items()
}
FULL = mask.FULL_CONDITION
AVERAGE = "average"
POOLED = "pooled"  # the metric of the six missing conditions' predictions, taken together
ALPHA = 0.05

Key = tuple[int, int]  # fold, run
Named = TypeVar("Named", bound=Hashable)


@dataclass(frozen=True)
class Scores:
    """What one experiment reached.

    Attributes:
        values: (fold, run) -> condition -> metric -> value.
        pooled: (fold, run) -> metric -> its value over the predictions under all six missing conditions together;
            empty where they are not known.
    """

    values: Mapping[Key, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    pooled: Mapping[Key, Mapping[str, float]] = field(default_factory=dict)
    _known: dict[tuple[str, str], dict[Key, float]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    _numbers: dict[tuple[str, str], Number | None] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    @property
    def conditions(self) -> tuple[str, ...]:
        """The conditions that were evaluated: first those of MMIN's Table 5 in its order, then the others in the
        order of the file."""
        found = list(dict.fromkeys(condition for scores in self.values.values() for condition in scores))
        return (*(c for c in CONDITIONS if c in found), *(c for c in found if c not in CONDITIONS))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that were computed, in the order of the file."""
        every = (metric for scores in self.values.values() for one in scores.values() for metric in one)
        return tuple(dict.fromkeys(every))

    @classmethod
    def merged(cls, parts: Sequence[Scores]) -> Scores:
        """Return the conditions of several experiments as those of one, joined by (fold, run).

        Args:
            parts: their scores. Where two have the same condition, the later one counts.
        """
        values: dict[Key, dict[str, Mapping[str, float]]] = {}
        for part in parts:
            for key, scores in part.values.items():
                values.setdefault(key, {}).update(scores)
        return cls(dict(sorted(values.items())))

    def only(self, conditions: Collection[str]) -> Scores:
        """Return the scores under some of the conditions."""
        return Scores(
            {
                key: {condition: one for condition, one in scores.items() if condition in conditions}
                for key, scores in self.values.items()
            }
        )

    def of(self, condition: str, metric: str) -> dict[Key, float]:
        """Return (fold, run) -> value of one metric under one condition.

        Args:
            condition: its name, or :data:`AVERAGE` for the mean over the six missing conditions, or :data:`POOLED`
                for the metric of their predictions together.
            metric: its name.

        Returns:
            A (fold, run) without the condition, or without one of the six, is left out. Not to be changed: it is kept.
        """
        if (condition, metric) not in self._known:
            self._known[condition, metric] = self._of(condition, metric)
        return self._known[condition, metric]

    def _of(self, condition: str, metric: str) -> dict[Key, float]:
        if condition == POOLED:
            every = {key: values.get(metric, math.nan) for key, values in self.pooled.items()}
            return {key: value for key, value in every.items() if math.isfinite(value)}
        names = mask.MISSING_CONDITIONS if condition == AVERAGE else (condition,)
        found = {}
        for key, scores in self.values.items():
            values = {c: {metric: scores[c][metric]} for c in names if c in scores and metric in scores[c]}
            if len(values) == len(names) and all(math.isfinite(one[metric]) for one in values.values()):
                found[key] = average(values, names)[metric]
        return found

    def number(self, condition: str, metric: str) -> Number | None:
        """Return the mean and deviation of one metric under one condition, or None without any value."""
        if (condition, metric) not in self._numbers:
            self._numbers[condition, metric] = Number.over(list(self.of(condition, metric).values()))
        return self._numbers[condition, metric]


@dataclass(frozen=True)
class Number:
    """A mean over ``count`` folds and runs, and their sample standard deviation (None if ``count`` is 1)."""

    mean: float
    deviation: float | None
    count: int

    @property
    def half_width(self) -> float | None:
        """Half of the mean's 95 % interval by the t-distribution; None of a single value."""
        if self.deviation is None:
            return None
        from scipy.special import stdtrit

        return float(stdtrit(self.count - 1, 1 - ALPHA / 2)) * self.deviation / math.sqrt(self.count)

    @classmethod
    def over(cls, values: Sequence[float]) -> Number | None:
        """Return the number over some values, or None over nothing."""
        return cls(*mean_and_deviation(values), len(values)) if values else None


@dataclass(frozen=True)
class PairedTest:
    """A two-tailed paired t-test of one experiment against another.

    Attributes:
        difference: mean of (this - other) over the (fold, run) that both have.
        t: the statistic; None when fewer than two pairs or no spread at all.
        p: the two-tailed p-value; None when there is none to give.
        pairs: how many (fold, run) both have.
        better: whether the difference favours this experiment.
        resampled_t, resampled_p: of the corrected resampled t-test (Nadeau and Bengio 2003), which allows for folds
            that share training data; None where the sizes of the folds are not known.
        holm: the p-value that decides, corrected by Holm (1979) for the other tests of its family (:func:`corrected`);
            None where no family was named.
    """

    difference: float
    t: float | None
    p: float | None
    pairs: int
    better: bool
    resampled_t: float | None = None
    resampled_p: float | None = None
    holm: float | None = None

    @property
    def significant(self) -> bool:
        """Whether the p-value is below 0.05, in either direction: Holm's, where there is one."""
        decides = self.p if self.holm is None else self.holm
        return decides is not None and decides < ALPHA


def paired_test(
    scores: Scores, against: Scores, condition: str, metric: str, test_share: float | None = None
) -> PairedTest | None:
    """Test one experiment against another on one metric under one condition.

    Two-tailed paired t-test, t = mean(d) / (sd(d) sqrt(1 / n)) with n - 1 degrees of freedom. The folds of a
    cross-validation share training data, so p is somewhat too small. The papers report this test all the same. The
    corrected resampled t-test puts sqrt(1 / n + n_test / n_train) in the place of sqrt(1 / n) (Nadeau and Bengio,
    Inference for the generalization error, Machine Learning 52, 2003; over several seeds of a cross-validation as in
    Bouckaert and Frank, PAKDD 2004).

    Args:
        scores, against: of the two.
        condition, metric: on what.
        test_share: n_test / n_train, the samples that test over those that train; None where it is not known.

    Returns:
        The test; None when the two have no (fold, run) in common.
    """
    these, others = scores.of(condition, metric), against.of(condition, metric)
    keys = sorted(these.keys() & others.keys())
    number = Number.over([these[key] - others[key] for key in keys])
    if number is None:
        return None
    better = number.mean < 0 if metric in SMALLER_IS_BETTER else number.mean > 0
    spread = number.deviation
    # Where all differences are equal, the deviation is rounding noise and t would mean nothing.
    if spread is None or spread <= 1e-12:
        return PairedTest(number.mean, None, None, number.count, better)
    t, p = _student(number.mean, spread * math.sqrt(1 / number.count), number.count - 1)
    resampled: tuple[float | None, float | None] = (None, None)
    if test_share is not None:
        resampled = _student(number.mean, spread * math.sqrt(1 / number.count + test_share), number.count - 1)
    return PairedTest(number.mean, t, p, number.count, better, *resampled)


def share_tested(runs: Iterable[Mapping[str, Any]]) -> float | None:
    """Return n_test / n_train, the mean over the run.json of an experiment; None where they do not say it."""
    shares = [
        sizes["test"] / sizes["train"]
        for run in runs
        if (sizes := run.get("samples", {})).get("train") and "test" in sizes
    ]
    return math.fsum(shares) / len(shares) if shares else None


def _student(mean: float, error: float, freedom: int) -> tuple[float, float]:
    """Return t and the two-tailed p of a mean with a standard error."""
    from scipy.special import stdtr

    return mean / error, float(2 * stdtr(freedom, -abs(mean / error)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's step-down (Holm 1979).

    The k-th smallest of m (from 0) becomes the largest of (m - j) p_j over j <= k, at most 1: it is below a level
    exactly where Holm's procedure rejects, which keeps the chance of any false rejection below that level, whatever
    the tests have in common.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    found, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        found[index] = largest
    return found


def corrected(tests: Mapping[Named, PairedTest], resampled: bool = False) -> dict[Named, PairedTest]:
    """Return the tests of one family with Holm's p-values.

    Args:
        tests: all of the family, by any name. One without a p-value is in it, but counts for nothing.
        resampled: let the corrected resampled t-test decide, where there is one, instead of the plain one.
    """
    own = {
        name: p
        for name, test in tests.items()
        if (p := test.resampled_p if resampled and test.resampled_p is not None else test.p) is not None
    }
    found = dict(zip(own, holm(list(own.values())), strict=True))
    return {name: replace(test, holm=found.get(name)) for name, test in tests.items()}


def area(points: Mapping[float, float]) -> float | None:
    """Return the area under a curve by trapezoids, over the width: the mean height. None of fewer than two points.

    Args:
        points: x -> y, in any order.
    """
    if len(points) < 2:
        return None
    xs = sorted(points)
    total = math.fsum((right - left) * (points[left] + points[right]) / 2 for left, right in pairwise(xs))
    return total / (xs[-1] - xs[0])


@dataclass(frozen=True)
class Shares:
    """What each modality contributes to a metric: Shapley values over the seven conditions. Ours, no paper's.

    Attributes:
        values: modality -> its Shapley value, in units of the metric; their sum is what all three reach above a guess.
        shares: modality -> its share of the sum, a value below 0 taken as 0; empty where no value is above 0.
        entropy: of the shares, over ln 3: 1 where each gives a third, 0 where one gives all; None without shares.
    """

    values: Mapping[str, float]
    shares: Mapping[str, float]
    entropy: float | None


def shapley(reached: Mapping[str, float], guess: float, sign: int = 1) -> Shares | None:
    """Return the modalities' Shapley values (Shapley 1953) of what is reached under each condition.

    The value of modality m is the mean, over the orders in which the three may come, of what m adds to those before it:
    1/3 (v(m) - v()) + 1/6 (v(m, i) - v(i)) + 1/6 (v(m, j) - v(j)) + 1/3 (v(m, i, j) - v(i, j)).

    Args:
        reached: condition -> metric; all of the seven, else there is nothing to share: None.
        guess: the metric of what is known without any modality, v().
        sign: -1 where less is better.
    """
    if not CONDITIONS.keys() <= reached.keys():
        return None
    known = {frozenset(there): sign * reached[name] for name, there in CONDITIONS.items()}
    known[frozenset()] = sign * guess
    values = {}
    for modality in MODALITIES:
        total = 0.0
        for others in known:
            if modality not in others:
                weight = (1 / 3, 1 / 6, 1 / 3)[len(others)]
                total += weight * (known[others | {modality}] - known[others])
        values[modality] = total
    whole = math.fsum(max(value, 0.0) for value in values.values())
    if whole <= 0:
        return Shares(values, {}, None)
    shares = {modality: max(value, 0.0) / whole for modality, value in values.items()}
    spread = -math.fsum(share * math.log(share) for share in shares.values() if share > 0)
    return Shares(values, shares, spread / math.log(len(MODALITIES)))


def condition_words(condition: str) -> str:
    """Return what a condition means in words: ``audio and video``."""
    if condition == AVERAGE:
        return "average over the six missing conditions"
    if condition == POOLED:
        return "predictions under the six missing conditions together"
    modalities = CONDITIONS.get(condition)
    if modalities is None:
        return condition
    return "nothing missing" if len(modalities) == len(MODALITIES) else " and ".join(modalities) + " only"
