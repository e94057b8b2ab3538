"""Classes of scores, at their edges."""

from __future__ import annotations

import pytest

from pipeline.data.datasets._score_classes import finite, mosi_class, sims_class


@pytest.mark.parametrize(
    ("score", "three", "seven"),
    [(-3.0, "negative", "-3"), (-0.2, "negative", "0"), (0.0, "neutral", "0"), (0.5, "positive", "0"),
     (1.5, "positive", "2"), (2.5, "positive", "2"), (2.6, "positive", "3"), (-0.6, "negative", "-1")],
)  # fmt: skip
def test_mosi(score: float, three: str, seven: str) -> None:
    assert (mosi_class(score, 3), mosi_class(score, 7)) == (three, seven)


@pytest.mark.parametrize(
    ("score", "two", "three", "five"),
    [
        (-0.7, "negative", "negative", "negative"),
        (-0.6, "negative", "negative", "weakly negative"),
        (-0.1, "negative", "negative", "weakly negative"),
        (0.0, "negative", "neutral", "neutral"),
        (0.1, "positive", "neutral", "neutral"),
        (0.7, "positive", "positive", "weakly positive"),
        (0.8, "positive", "positive", "positive"),
    ],
)
def test_sims(score: float, two: str, three: str, five: str) -> None:
    assert [sims_class(score, classes) for classes in (2, 3, 5)] == [two, three, five]


def test_finite() -> None:
    assert finite(" 1.5 ") == 1.5
    assert [finite(text) for text in ("", "x", "nan", "inf", "1,5")] == [None] * 5
