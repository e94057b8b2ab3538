"""What a look at features finds out by numbers: of each column its range, its zeros, whether it ever moves; of pitch,
whether a voice can have it.

Everything is over the rows that were observed (``flags`` 1), and in one pass over the clips.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.data.store import FeatureSequence

# Columns that claim to be the pitch, and the unit that they have it in.
_HERTZ = re.compile(r"F0|F0_sma|F0env_sma|F0final_sma|F0finEnv_sma")
_SEMITONES = re.compile(r"F0semitoneFrom27\.5Hz_sma3nz(_amean)?")  # 0 where there is no voice
VOICING = "VUV"  # COVAREP gives F0 in unvoiced rows too, where it means little
SLOWEST_HZ, FASTEST_HZ = 50.0, 600.0  # from a creaking man to a child that cries out
STILL = 0.03  # of the median deviation of a group of scores: a column that moves less is as good as constant
LEAST_GROUP = 8  # scores, to say what is usual among them
JUMP_SEMITONES = 9.0  # no voice moves so far from one row to the next; octave errors are 12


@dataclass(frozen=True)
class ColumnStatistics:
    """One column over the observed rows of some clips.

    Attributes:
        name: the column's name.
        rows: how many rows were observed.
        minimum, maximum, mean, deviation: of its values; all 0 without rows. The deviation is that of the population.
        zeros: the share of rows in which it is exactly 0.
    """

    name: str
    rows: int
    minimum: float
    maximum: float
    mean: float
    deviation: float
    zeros: float

    @property
    def constant(self) -> bool:
        """Whether it has one value in all rows; only two rows or more can say so."""
        return self.rows > 1 and self.minimum == self.maximum


@dataclass(frozen=True)
class PitchStatistics:
    """A column that claims to be the pitch, over the observed rows of some clips.

    Attributes:
        name: the column's name.
        voiced: the share of rows that have a pitch.
        median_hz, low_hz, high_hz: the median, the 5th and the 95th percentile of voiced rows; 0 without any.
        outside: the share of voiced rows below :data:`SLOWEST_HZ` or above :data:`FASTEST_HZ`.
        jumps: the share of steps between voiced neighbours by more than :data:`JUMP_SEMITONES`.
    """

    name: str
    voiced: float
    median_hz: float
    low_hz: float
    high_hz: float
    outside: float
    jumps: float

    @property
    def doubts(self) -> str:
        """Why it is no voice's pitch, or nothing."""
        found = []
        if not self.voiced:
            found.append("no row is voiced")
        if self.outside > 0.05:
            found.append(f"{self.outside:.0%} of voiced rows outside {SLOWEST_HZ:g} to {FASTEST_HZ:g} Hz")
        if self.jumps > 0.05:
            found.append(f"{self.jumps:.0%} of steps are jumps of more than {JUMP_SEMITONES:g} semitones")
        return "; ".join(found)


def column_statistics(clips: Iterable[FeatureSequence], columns: Sequence[str]) -> list[ColumnStatistics]:
    """Return the statistics of every column, in their order.

    Args:
        clips: features with values (T, D); clips without features count for nothing.
        columns: the names of the D columns.
    """
    count, dims = 0, len(columns)
    low, high = np.full(dims, np.inf), np.full(dims, -np.inf)
    mean, squares, zeros = np.zeros(dims), np.zeros(dims), np.zeros(dims, np.int64)
    for clip in clips:
        rows = clip.values[clip.flags == 1].astype(np.float64)
        if not len(rows):
            continue
        low, high = np.minimum(low, rows.min(0)), np.maximum(high, rows.max(0))
        zeros += (rows == 0).sum(0)
        # Two groups joined as Chan, Golub and LeVeque (1983) do: no difference of large sums.
        centre, added = rows.mean(0), len(rows)
        squares += ((rows - centre) ** 2).sum(0) + (centre - mean) ** 2 * count * added / (count + added)
        mean += (centre - mean) * added / (count + added)
        count += added
    if not count:
        return [ColumnStatistics(name, 0, 0.0, 0.0, 0.0, 0.0, 0.0) for name in columns]
    deviation = np.sqrt(squares / count)
    numbers = np.stack([low, high, mean, deviation, zeros / count]).T.tolist()
    return [ColumnStatistics(name, count, *row) for name, row in zip(columns, numbers, strict=True)]


def barely_moving(columns: Sequence[ColumnStatistics]) -> list[ColumnStatistics]:
    """Return the columns that are not constant and yet tell nothing: scores that move far less than their like.

    MediaPipe's face model gives 52 scores from 0 to 1, of which it never really moves some (noseSneer, cheekSquint). A
    group is columns with one name up to the first ``_``, :data:`LEAST_GROUP` at least, all within 0 and 1; of other
    columns no two need have one unit.
    """
    groups: dict[str, list[ColumnStatistics]] = {}
    for one in columns:
        groups.setdefault(one.name.partition("_")[0], []).append(one)
    found = set()
    for group in groups.values():
        scores = all(one.minimum >= 0 and one.maximum <= 1 for one in group)
        if len(group) >= LEAST_GROUP and scores:
            usual = float(np.median([one.deviation for one in group]))
            found |= {one.name for one in group if not one.constant and one.deviation < STILL * usual}
    return [one for one in columns if one.name in found]


def pitch_columns(columns: Sequence[str]) -> list[str]:
    """Return the columns that claim to be the pitch: openSMILE's sets and COVAREP have some."""
    return [name for name in columns if _HERTZ.fullmatch(name) or _SEMITONES.fullmatch(name)]


def pitch_hz(clip: FeatureSequence, columns: Sequence[str], name: str) -> NDArray[np.float64]:
    """Return the pitch (T,) of a clip in Hz; 0 where a row is unvoiced or was not observed.

    Args:
        clip: its features.
        columns: the names of its columns.
        name: one of :func:`pitch_columns`.
    """
    values = clip.values[:, list(columns).index(name)].astype(np.float64)
    voiced = (values > 0) & (clip.flags == 1)
    if VOICING in columns:
        voiced &= clip.values[:, list(columns).index(VOICING)] > 0.5
    hertz = 27.5 * 2 ** (values / 12) if _SEMITONES.fullmatch(name) else values
    return np.where(voiced, hertz, 0.0)


def pitch_statistics(clips: Iterable[FeatureSequence], columns: Sequence[str], name: str) -> PitchStatistics:
    """Return what a voice cannot do, of a column that claims to be its pitch.

    Args:
        clips: features with values (T, D).
        columns: the names of the D columns.
        name: one of :func:`pitch_columns`.
    """
    rows = steps = jumps = 0
    parts = []
    for clip in clips:
        hertz = pitch_hz(clip, columns, name)
        rows += int((clip.flags == 1).sum())
        both = (hertz[1:] > 0) & (hertz[:-1] > 0)
        moved = np.abs(12 * np.log2(hertz[1:][both] / hertz[:-1][both]))
        steps, jumps = steps + len(moved), jumps + int((moved > JUMP_SEMITONES).sum())
        parts.append(hertz[hertz > 0])
    voiced = np.concatenate(parts) if parts else np.zeros(0)
    if not len(voiced):
        return PitchStatistics(name, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    low, median, high = np.percentile(voiced, (5, 50, 95)).tolist()
    outside = float(((voiced < SLOWEST_HZ) | (voiced > FASTEST_HZ)).mean())
    return PitchStatistics(name, len(voiced) / rows, median, low, high, outside, jumps / max(1, steps))
