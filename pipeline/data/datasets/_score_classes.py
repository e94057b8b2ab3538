"""Class names from scores: the meaning of "3-class" and "7-class" on each scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

SIGNS = ("negative", "neutral", "positive")
SIMS_CUTS = {2: (0.0,), 3: (-0.1, 0.1), 5: (-0.7, -0.1, 0.1, 0.7)}
SIMS_NAMES = {
    2: ("negative", "positive"),
    3: SIGNS,
    5: ("negative", "weakly negative", "neutral", "weakly positive", "positive"),
}


def mosi_class(score: float, classes: int) -> str:
    """Return the class of a score in [-3, 3] (CMU-MOSI, CMU-MOSEI).

    Args:
        score: the mean of the annotators.
        classes: 3 (negative [-3, 0), neutral 0, positive (0, 3]; EMMR section 4) or 7 (round half to even;
            "-3".."3").
    """
    if classes == 3:
        return SIGNS[(score > 0) - (score < 0) + 1]
    return str(round(min(3.0, max(-3.0, score))))


def sims_class(score: float, classes: int) -> str:
    """Return the class of a score in [-1, 1] (CH-SIMS). A score on a boundary belongs to the lower class; so with two
    classes 0 is negative.
    """
    return SIMS_NAMES[classes][_interval(score, SIMS_CUTS[classes])]


def _interval(score: float, cuts: Sequence[float]) -> int:
    return sum(score > cut for cut in cuts)


def finite(text: str) -> float | None:
    """Return the finite number that a text stands for, or None when it is not one.

    Python's own form 1_000 is not one: in a table it is a slip, most often for 1.000 or for two fields.
    """
    try:
        number = math.nan if "_" in text else float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
