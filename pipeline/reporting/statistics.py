"""Numbers to compare experiments by: mean and deviation over folds and runs, the six-condition average,
paired t-tests.

An experiment is scored once for each (fold, run): a run is one seed. Everything here works on those scores,
paired by (fold, run), as MMIN's Table 5 and M3S's Table 5 do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.data import masks as mask
from pipeline.data.manifest import MODALITIES

# MMIN Table 5, in its order: the modalities that are left.
CONDITIONS: dict[str, tuple[str, ...]] = {
    name: tuple(modality for modality, there in zip(MODALITIES, present, strict=True) if there)
    for name, present in mask.CONDITIONS.items()
}
FULL = mask.FULL_CONDITION
AVERAGE = "average"
ALPHA = 0.05
LOWER_IS_BETTER = frozenset({"mae"})

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
        """The conditions that were evaluated: the paper's first and in its order, then others as they
        come."""
        found = list(dict.fromkeys(condition for scores in self.values.values() for condition in scores))
        return (*(c for c in CONDITIONS if c in found), *(c for c in found if c not in CONDITIONS))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that were computed, in their order."""
        every = (metric for scores in self.values.values() for one in scores.values() for metric in one)
        return tuple(dict.fromkeys(every))

    @classmethod
    def merged(cls, parts: Sequence[Scores]) -> Scores:
        """Return the conditions of several experiments as those of one, joined by (fold, run).

        Args:
            parts: their scores; of a condition that two have, the later's are taken.
        """
        values: dict[Key, dict[str, Mapping[str, float]]] = {}
        for part in parts:
            for key, scores in part.values.items():
                values.setdefault(key, {}).update(scores)
        return cls(dict(sorted(values.items())))

    def of(self, condition: str, metric: str) -> dict[Key, float]:
        """Return (fold, run) -> value of one metric under one condition, or :data:`AVERAGE` over the six
        missing ones.

        A (fold, run) that lacks the condition, or one of the six, is left out.
        """
        found = {}
        for key, scores in self.values.items():
            names = [c for c in CONDITIONS if c != FULL] if condition == AVERAGE else [condition]
            values = [scores[name][metric] for name in names if name in scores and metric in scores[name]]
            if len(values) == len(names) and all(math.isfinite(value) for value in values):
                found[key] = math.fsum(values) / len(values)
        return found

    def number(self, condition: str, metric: str) -> Number | None:
        """Return the mean and deviation of one metric under one condition, or None where there is no
        value."""
        return Number.over(list(self.of(condition, metric).values()))


@dataclass(frozen=True)
class Number:
    """A mean over ``count`` folds and runs, and their sample standard deviation (n - 1); None for a single
    one."""

    mean: float
    deviation: float | None
    count: int

    @classmethod
    def over(cls, values: Sequence[float]) -> Number | None:
        """Return the number over some values, or None over nothing."""
        if not values:
            return None
        mean = math.fsum(values) / len(values)
        if len(values) == 1:
            return cls(mean, None, 1)
        return cls(
            mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)), len(values)
        )


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
    """Test one experiment against another on one metric under one condition; None when they share no (fold,
    run).

    Two-tailed paired t-test, t = mean(d) / (sd(d) / sqrt(n)) with n - 1 degrees of freedom. The folds of a
    cross-validation share training data, so that p is somewhat too small; it is what the papers report.
    """
    these, others = scores.of(condition, metric), against.of(condition, metric)
    keys = sorted(these.keys() & others.keys())
    number = Number.over([these[key] - others[key] for key in keys])
    if number is None:
        return None
    better = number.mean < 0 if metric in LOWER_IS_BETTER else number.mean > 0
    spread = number.deviation
    # Equal differences in every fold leave rounding noise, whose t would mean nothing.
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
