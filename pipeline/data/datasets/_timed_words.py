"""The words of a sample, taken from those of the whole video, with times from the sample's start."""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path

import numpy as np

from pipeline.data.csd import Sequences
from pipeline.data.manifest import Word

PAUSE = "sp"  # how the SDK's forced alignment writes a short pause


class TimedWords(Sequences):
    """The words of whole videos. The last video is kept in memory, because its segments are read one after the
    other.

    Raises:
        StoreError: the file is absent, damaged, or has another layout.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._video = ""
        self._middles: list[float] = []  # of all words except pauses, in increasing order
        self._words: list[tuple[str, float, float]] = []

    def between(self, video: str, start_s: float, end_s: float) -> tuple[Word, ...]:
        """Return the words whose middle lies between start and end of the segment, cut to it and in the order of
        their middles; none when the video is absent.

        Raises:
            StoreError: the video's entry is damaged.
        """
        if video not in self:
            return ()
        if self._video != video:
            self._remember(video)
        first, last = bisect_left(self._middles, start_s), bisect_left(self._middles, end_s)
        return tuple(
            [
                Word(token, round(max(begin, start_s) - start_s, 4), round(min(stop, end_s) - start_s, 4))
                for token, begin, stop in self._words[first:last]
            ]
        )

    def _remember(self, video: str) -> None:
        times, tokens = self.read(video)
        middles = times.mean(axis=1)
        order = np.argsort(middles, kind="stable")
        rows = zip(middles[order].tolist(), tokens[order, 0].tolist(), times[order].tolist(), strict=True)
        spoken = [
            (middle, (str(token), *span)) for middle, token, span in rows if token and str(token) != PAUSE
        ]
        self._video = video
        self._middles, self._words = [middle for middle, _ in spoken], [word for _, word in spoken]
