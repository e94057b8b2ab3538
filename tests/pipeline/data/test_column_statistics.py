"""Columns in numbers, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.data.column_statistics import (
    ColumnStatistics,
    barely_moving,
    column_statistics,
    pitch_columns,
    pitch_hz,
    pitch_statistics,
)
from pipeline.data.store import FeatureSequence, Status


def clip(*rows: list[float], flags: list[int] | None = None) -> FeatureSequence:
    values = np.array(rows, np.float32)
    times = np.arange(len(rows), dtype=np.float32)
    return FeatureSequence(values, times, np.array(flags or [1] * len(rows), np.uint8))


def test_columns_over_observed_rows_of_several_clips() -> None:
    clips = [
        clip([1, 0, 5], [3, 0, 5]),
        FeatureSequence.absent(3, Status.MISSING, "no face"),
        clip([5, 2, 5], [99, 99, 99], flags=[1, 0]),
    ]
    assert column_statistics(clips, "abc") == [
        # 1, 3, 5: the squares of -2, 0, 2 have the mean 8/3
        ColumnStatistics("a", 3, 1, 5, 3, pytest.approx(np.sqrt(8 / 3)), 0),
        # 0, 0, 2: mean 2/3, variance 4/3 - 4/9 = 8/9
        ColumnStatistics(
            "b", 3, 0, 2, pytest.approx(2 / 3), pytest.approx(np.sqrt(8 / 9)), pytest.approx(2 / 3)
        ),
        ColumnStatistics("c", 3, 5, 5, 5, 0, 0),
    ]
    assert [one.constant for one in column_statistics(clips, "abc")] == [False, False, True]


def test_a_large_mean_costs_no_digits() -> None:
    values = np.float32(1e7) + np.arange(4, dtype=np.float32)
    (found,) = column_statistics([clip([float(one)]) for one in values], "a")
    assert found.deviation == pytest.approx(np.sqrt(1.25))  # of 0, 1, 2, 3


def test_without_rows_nothing_is_constant() -> None:
    (nothing,) = column_statistics([], "a")
    (one,) = column_statistics([clip([2.0])], "a")
    assert (nothing.rows, nothing.constant, one.rows, one.constant) == (0, False, 1, False)


def test_scores_that_barely_move() -> None:
    def moving(names: list[str], deviations: list[float], high: float = 1.0) -> list[ColumnStatistics]:
        pairs = zip(names, deviations, strict=True)
        return [ColumnStatistics(name, 9, 0.0, high * (one > 0), 0.1, one, 0.0) for name, one in pairs]

    names = [f"face_{number}" for number in range(8)]
    deviations = [0.1, 0.2, 0.3, 0.2, 0.1, 0.004, 0.007, 0.0]  # the median is 0.1; the last one is constant
    assert barely_moving(moving(names, deviations, 0.5)) == []  # all are above 0.003
    deviations[5] = 0.001
    assert [one.name for one in barely_moving(moving(names, deviations))] == ["face_5"]
    assert barely_moving(moving(names, deviations, high=1.5)) == []  # these are no scores
    assert barely_moving(moving(names, deviations)[1:]) == []  # too few to say what is usual


def test_which_columns_claim_to_be_the_pitch() -> None:
    names = ["F0", "F0final_sma", "F0semitoneFrom27.5Hz_sma3nz", "F0_sma", "F0env_sma", "F0finEnv_sma"]
    others = ["F0final_sma_de", "logRelF0-H1-H2_sma3nz", "F1frequency_sma3nz", "voicingFinalUnclipped_sma"]
    assert pitch_columns([*names, *others]) == names


def test_pitch_in_hertz() -> None:
    one = clip([100, 24, 1], [0, 0, 1], [300, 12, 0], [120, 36, 1], flags=[1, 1, 1, 0])
    names = ["F0_sma", "F0semitoneFrom27.5Hz_sma3nz", "x"]
    assert pitch_hz(one, names, "F0_sma").tolist() == [100, 0, 300, 0]
    assert pitch_hz(one, names, names[1]).tolist() == pytest.approx([110, 0, 55, 0])
    names[2] = "VUV"  # COVAREP's: the third row is unvoiced
    assert pitch_hz(one, names, "F0_sma").tolist() == [100, 0, 0, 0]


def test_what_no_voice_does() -> None:
    found = pitch_statistics([clip([100], [200], [0], [210]), clip([40], [41])], ["F0"], "F0")
    # five of six rows are voiced; 40 and 41 are too low; the steps are 100-200 (an octave) and 40-41
    assert (found.voiced, found.median_hz) == (pytest.approx(5 / 6), 100)
    assert (found.outside, found.jumps) == (pytest.approx(0.4), pytest.approx(0.5))
    assert (found.low_hz, found.high_hz) == (pytest.approx(40.2), pytest.approx(208))
    assert found.doubts == (
        "40% of voiced rows outside 50 to 600 Hz; 50% of steps are jumps of more than 9 semitones"
    )
    assert pitch_statistics([clip([0])], ["F0"], "F0").doubts == "no row is voiced"
    assert pitch_statistics([clip([100], [101])], ["F0"], "F0").doubts == ""
