"""Numbers that compare experiments: mean and deviation over folds and runs, the average of the six missing
conditions, paired t-tests.

An experiment has one score for each (fold, run); a run is one seed. Everything here works on these scores. Two
experiments are paired by (fold, run), as in MMIN's Table 5 and M3S's Table 5.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

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
ALPHA = 0.05

Key = tuple[int, int]  # fold, run


@dataclass(frozen=True)
class Scores:
    """What one experiment reached.

    Attributes:
        values: (fold, run) -> condition -> metric -> value.
    """

    values: Mapping[Key, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)

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
            condition: its name, or :data:`AVERAGE` for the mean over the six missing conditions.
            metric: its name.

        Returns:
            A (fold, run) without the condition, or without one of the six, is left out.
        """
        names = mask.MISSING_CONDITIONS if condition == AVERAGE else (condition,)
        found = {}
        for key, scores in self.values.items():
            values = {c: {metric: scores[c][metric]} for c in names if c in scores and metric in scores[c]}
            if len(values) == len(names) and all(math.isfinite(one[metric]) for one in values.values()):
                found[key] = average(values, names)[metric]
        return found

    def number(self, condition: str, metric: str) -> Number | None:
        """Return the mean and deviation of one metric under one condition, or None without any value."""
        return Number.over(list(self.of(condition, metric).values()))


@dataclass(frozen=True)
class Number:
    """A mean over ``count`` folds and runs, and their sample standard deviation (None if ``count`` is 1)."""

    mean: float
    deviation: float | None
    count: int

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
    """

    difference: float
    t: float | None
    p: float | None
    pairs: int
    better: bool

    @property
    def significant(self) -> bool:
        """Whether p is below 0.05, in either direction."""
        return self.p is not None and self.p < ALPHA


def paired_test(scores: Scores, against: Scores, condition: str, metric: str) -> PairedTest | None:
    """Test one experiment against another on one metric under one condition.

    Two-tailed paired t-test, t = mean(d) / (sd(d) / sqrt(n)) with n - 1 degrees of freedom. The folds of a
    cross-validation share training data, so p is somewhat too small. The papers report this test all the same.

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
    from scipy.special import stdtr

    t = number.mean / (spread / math.sqrt(number.count))
    p = float(2 * stdtr(number.count - 1, -abs(t)))
    return PairedTest(number.mean, t, p, number.count, better)


def condition_words(condition: str) -> str:
    """Return what a condition means in words: ``audio and video``."""
    if condition == AVERAGE:
        return "average over the six missing conditions"
    modalities = CONDITIONS.get(condition)
    if modalities is None:
        return condition
    return "nothing missing" if len(modalities) == len(MODALITIES) else " and ".join(modalities) + " only"
