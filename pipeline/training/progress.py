"""Live progress of an experiment's trainings: one line for all folds and seeds on a terminal, plain lines without one.

Networks train in this process or in others; each tells after an epoch where it is (:class:`Told`), and the main process
shows it. Nothing of it goes into an output.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

PLAIN_S = 30.0  # without a terminal a line comes at most so often
REDRAW_S = 0.2


@dataclass(frozen=True)
class Told:
    """Where one training is.

    Attributes:
        fold, seed: which one.
        epoch, epochs: the one that has just ended, and how many there are at most.
        metric: what validation chooses by.
        value, best: of this epoch, and so far.
        finished: whether it trains no further.
    """

    fold: int
    seed: int
    epoch: int
    epochs: int
    metric: str
    value: float
    best: float
    finished: bool = False


class Progress:
    """What the main process knows of the trainings of one experiment."""

    def __init__(
        self,
        name: str,
        runs: int,
        out: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        also: Callable[[Told], None] | None = None,
    ) -> None:
        """Start the clock.

        Args:
            name: the experiment's.
            runs: how many trainings there are to do.
            out: where to show it; stderr if None.
            clock: gives seconds.
            also: told of every epoch, too.
        """
        self._name, self._runs, self._clock, self._also = name, runs, clock, also
        self._out = sys.stderr if out is None else out
        self._live = self._out.isatty()
        self._started, self._shown = clock(), -PLAIN_S
        self._at: dict[tuple[int, int], Told] = {}

    def tell(self, told: Told) -> None:
        """Take note of an epoch, and show it when the last showing is long enough ago."""
        self._at[told.fold, told.seed] = told
        if self._also is not None:
            self._also(told)
        now = self._clock()
        if now - self._shown >= (REDRAW_S if self._live else PLAIN_S) or (self._live and told.finished):
            self._shown = now
            self._out.write(f"\r\x1b[K{self.line(told)}" if self._live else f"{self.line(told)}\n")
            self._out.flush()

    def close(self) -> None:
        """Leave the line on the terminal as it is."""
        if self._live and self._at:
            self._out.write("\n")
            self._out.flush()

    def line(self, told: Told) -> str:
        """Return all that is known, with the epoch that was told last."""
        done = sum(one.finished for one in self._at.values())
        left = self.left_s()
        return (
            f"{self._name}: {done} of {self._runs} runs done; fold {told.fold}, seed {told.seed}: epoch {told.epoch} "
            f"of {told.epochs}, {told.metric} {told.value:.3f}, best {told.best:.3f}"
            f"{'' if left is None else f'; at most {duration(left)} left'}"
        )

    def left_s(self) -> float | None:
        """Return the seconds that are left if no training stops early, by the epochs so far; None before the first."""
        shares = [1.0 if one.finished else one.epoch / one.epochs for one in self._at.values()]
        done = sum(shares) / self._runs
        return None if done <= 0 else (self._clock() - self._started) * (1 - done) / done


def duration(seconds: float) -> str:
    """Return a time in words: ``40 s``, ``3 min``, ``2 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
