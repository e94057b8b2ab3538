"""Are predictions better than chance? What guessing reaches, an exact permutation test, the constant predictor.

The log of ``evaluate`` and the report both take their words from here; data/results/EXPERIMENT/chance.json holds the
numbers (:class:`Chance`).

**The level.** UA is the mean recall over the C classes that occur. Predictions that do not look at the sample reach
1 / C of it, whichever of these classes they prefer: a class that is said of the share q of the samples has the recall
q. Where a fold's test part lacks a class, its C is smaller and its level higher, so that a mean over folds has the mean
of the folds' levels, not 1 / (number of classes). A regression's level is what the constant predictor reaches that says
the median of the training part, which has the least mean absolute error there of all constants.

**The test.** Null hypothesis: within a fold, predictions and labels have nothing to do with each other. Then every
order of a fold's labels is as likely as the one that there is. The labels are shuffled ``DRAWS`` times within each
fold, for all runs and conditions alike, and p = (1 + shuffles that reach what was reached) / (1 + DRAWS). It is exact
(Phipson and Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9, article 39): under the null
hypothesis p is at most alpha with a probability of at most alpha. The statistic is the UA of all folds' predictions
together, the mean over runs; of a regression the covariance of scores and predictions, which orders shuffles as
Pearson's r and the squared error do. Folds are kept apart since the labels of the training part say something about
those of the test part: over all folds together, a network that learnt nothing but how often each class occurs would
stand below chance. The test takes the samples of a fold for independent. Turns of one dialogue are not quite, nor are
samples that several folds drawn by chance test; p is somewhat too small there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StoreError
from pipeline.training.metrics import SMALLER_IS_BETTER

ALPHA = 0.05
DRAWS = 9999
AVERAGE = "average"  # over the missing conditions, as metrics.json has it
_CHUNK = 1 << 22  # numbers that are held at once

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Reached:
    """What an experiment reached under one condition.

    Attributes:
        mean: of the metric over (fold, run).
        pooled: the metric of all folds' predictions together, the mean over runs.
        p: of the permutation test.
        alike: how many networks give all their test samples the same answer; 0 of :data:`AVERAGE`.
    """

    mean: float
    pooled: float
    p: float
    alike: int


@dataclass(frozen=True)
class Chance:
    """What chance would reach, and whether an experiment is above it.

    Attributes:
        metric: ``ua``, or ``mae`` of a regression.
        level: what guessing reaches in the mean over folds.
        pooled_level: the same in all folds' predictions together.
        networks: how many (fold, run) there are.
        conditions: condition, or :data:`AVERAGE` -> what was reached.
        constant: metric -> {"mean", "std", "pooled"} of the constant predictor, as metrics.json has them: it says the
            most frequent class, or the median score, of the training part.
    """

    metric: str
    level: float
    pooled_level: float
    networks: int
    conditions: Mapping[str, Reached]
    constant: Mapping[str, Mapping[str, float | None]]

    def above(self, condition: str, tests: int = 1) -> bool:
        """Return whether the predictions of all folds together are better than chance, and p is below 0.05.

        Args:
            condition: its name, or :data:`AVERAGE`.
            tests: how many experiments this one was chosen from as the best: p is multiplied by it (Bonferroni).
        """
        one = self.conditions[condition]
        sign = -1 if self.metric in SMALLER_IS_BETTER else 1
        return sign * one.pooled > sign * self.pooled_level and one.p * tests < ALPHA

    def words(self, condition: str, tests: int = 1) -> str:
        """Return the numbers of a condition: ``UA 0.347, of all folds together 0.296 (chance: ...)``.

        Args:
            condition: its name, or :data:`AVERAGE`.
            tests: as :meth:`above` takes it.
        """
        one = self.conditions[condition]
        name, p = self.metric.upper(), min(1.0, one.p * tests)
        guess = "chance" if self.metric == "ua" else "a constant"
        mean, pooled, level, pooled_level = (
            f"{number:.3f}" for number in (one.mean, one.pooled, self.level, self.pooled_level)
        )
        if (mean, level) == (pooled, pooled_level):
            return f"{name} {mean} ({guess}: {level}; {p_value(p)})"
        return f"{name} {mean}, of all folds together {pooled} ({guess}: {level} and {pooled_level}; {p_value(p)})"

    @property
    def not_above(self) -> tuple[str, ...]:
        """The conditions under which the predictions are not above chance."""
        return tuple(name for name in self.conditions if not self.above(name))

    @property
    def alike(self) -> str:
        """Where networks give all their test samples the same answer, in words; empty where none does."""
        found = {name: one.alike for name, one in self.conditions.items() if one.alike}
        if not found:
            return ""
        what = "class" if self.metric == "ua" else "score"
        where = ", ".join(f"{name} ({count} of {self.networks} networks)" for name, count in found.items())
        return f"every test sample of a fold gets the same {what} under {where}"

    def findings(self) -> list[str]:
        """Return what a reader must know: where it is not above chance, and which networks always answer the same."""
        found = [f"not above chance under {name}: {self.words(name)}" for name in self.not_above]
        return [*found, self.alike] if self.alike else found

    def to_json(self) -> str:
        """Return the content of chance.json."""
        return json.dumps(_rounded(asdict(self)), indent=2) + "\n"

    @classmethod
    def from_json(cls, given: Mapping[str, Any], where: str) -> Chance:
        """Return what :meth:`to_json` wrote.

        Args:
            given: the parsed file.
            where: its path, for the message.

        Raises:
            StoreError: something is not as it was written.
        """
        try:
            conditions = {name: Reached(**one) for name, one in given["conditions"].items()}
            return cls(**{**given, "conditions": conditions})
        except (KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"{where}: not as evaluate writes it ({error}). Run: dvc repro -f -s evaluate"
            ) from error


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return round(value, 6) if isinstance(value, float) else value


def p_value(value: float) -> str:
    """Return ``p = 0.012``."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def ua_level(labels: Indices) -> float:
    """Return the UA of a guess: 1 / number of classes among the labels (n,)."""
    return 1 / len(np.unique(labels))


def class_credits(labels: Indices, classes: int) -> Floats:
    """Return (n, C): what it adds to UA when a class is said of a sample; nothing if it is not the sample's.

    Args:
        labels: (n,) in [0, C).
        classes: C.
    """
    counts = np.bincount(labels, minlength=classes)
    credit = 1 / (np.maximum(counts, 1) * np.count_nonzero(counts))
    return np.eye(classes)[labels] * credit


def permutation_p(truth: Floats, said: Floats, folds: Sequence[int] | Indices, draws: int = DRAWS) -> Floats:
    """Return the p of each of K statistics T = sum over samples i and entries d of truth[i, d] * said[i, d, k].

    The rows of ``truth`` are shuffled within folds, the same way for all K. One-sided: large T is better.

    Args:
        truth: (n, D): of classes :func:`class_credits`, of a regression the scores.
        said: (n, D, K): 1 where a class is said (a mean over runs may lie between), or the predicted score.
        folds: (n,): samples with the same number are shuffled among each other.
        draws: how many shuffles.

    Returns:
        (K,) in [1 / (1 + draws), 1].
    """
    order = np.argsort(np.asarray(folds), kind="stable")
    truth, said = truth[order], said[order]
    sizes = np.unique(np.asarray(folds), return_counts=True)[1]
    flat = said.reshape(-1, said.shape[2])
    reached = truth.reshape(-1) @ flat
    # What two orders of summation make of equal numbers must count as equal: it is the null hypothesis' side.
    enough = reached - 1e-9 * (np.abs(truth).reshape(-1) @ np.abs(flat) + 1e-300)
    generator = np.random.default_rng(0)
    count = np.zeros(said.shape[2], np.int64)
    per_chunk = max(1, _CHUNK // truth.size)
    for begin in range(0, draws, per_chunk):
        rows = min(per_chunk, draws - begin)
        places, start = [], 0
        for size in sizes:
            places.append(generator.permuted(np.tile(np.arange(start, start + size), (rows, 1)), axis=1))
            start += size
        shuffled = truth[np.concatenate(places, axis=1)].reshape(rows, -1)
        count += (shuffled @ flat >= enough).sum(axis=0)
    found: Floats = (1 + count) / (1 + draws)
    return found
