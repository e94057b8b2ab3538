"""Words of one sample out of a whole video's, with times from the sample's start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.importers.csd import Sequences
from pipeline.manifest import Word

PAUSE = "sp"  # how the SDK's forced alignment writes a short pause


class TimedWords(Sequences):
    """The words of whole videos. The last video is remembered: its segments are asked for one after the
    other.

    Raises:
        StoreError: the file is absent, damaged, or has another layout.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._last: tuple[str, NDArray[np.float64], NDArray[Any]] | None = None

    def between(self, video: str, start_s: float, end_s: float) -> tuple[Word, ...]:
        """Return the words whose middle lies between start and end of the segment, cut to it; none when the
        video is absent.

        Raises:
            StoreError: the video's entry is damaged.
        """
        if video not in self:
            return ()
        if self._last is None or self._last[0] != video:
            self._last = (video, *self.read(video))
        _, times, tokens = self._last
        middles = times.mean(axis=1)
        found = []
        for row in ((middles >= start_s) & (middles < end_s)).nonzero()[0]:
            token = str(tokens[row, 0])
            if token and token != PAUSE:
                begin, stop = max(times[row, 0], start_s) - start_s, min(times[row, 1], end_s) - start_s
                found.append(Word(token, round(float(begin), 4), round(float(stop), 4)))
        return tuple(found)
