"""Splits by chance, M3S's split, and what a description says of a leak."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.data.datasets.iemocap import SPEAKER_TURNS
from pipeline.data.manifest import Sample
from pipeline.errors import DataError
from pipeline.params import Folds
from pipeline.training.folds import Fold, make_folds


def videos(count: int = 20, clips: int = 10) -> list[Sample]:
    return [Sample(f"v{v}_{c}", text="x", dialogue=f"v{v}") for v in range(count) for c in range(clips)]


def names(samples: list[Sample], fold: Fold) -> list[set[str]]:
    return [{samples[i].id for i in part} for part in (fold.train, fold.valid, fold.test)]


def test_random_draws_samples_and_names_the_leak() -> None:
    samples = videos()
    (fold,) = make_folds(samples, Folds(scheme="random"))
    assert [len(part) for part in (fold.train, fold.valid, fold.test)] == [160, 20, 20]
    everything = np.concatenate([fold.train, fold.valid, fold.test])
    assert sorted(everything) == list(range(200))
    tested = {samples[i].dialogue for i in fold.test}
    trained = {samples[i].dialogue for i in fold.train}
    leak = len(tested & trained)
    assert leak > 0
    assert (
        fold.description
        == f"samples drawn by chance, seed 0; LEAK: {leak} of {len(tested)} test videos train too"
    )


def test_video_disjoint_keeps_videos_whole() -> None:
    samples = videos()
    for fold in make_folds(samples, Folds(scheme="video-disjoint", count=3, shares=(0.7, 0.1, 0.2))):
        assert [len(part) for part in (fold.train, fold.valid, fold.test)] == [140, 20, 40]
        parts = [{samples[i].dialogue for i in part} for part in (fold.train, fold.valid, fold.test)]
        assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
        assert fold.description == "whole videos drawn by chance, seed 0"


def test_seeds_and_folds_differ_and_repeat() -> None:
    samples = videos()
    one, two = make_folds(samples, Folds(scheme="random", count=2))
    again = make_folds(samples, Folds(scheme="random"))[0]
    other = make_folds(samples, Folds(scheme="random", seed=1))[0]
    assert names(samples, one) == names(samples, again)
    assert names(samples, one) != names(samples, two)
    assert names(samples, one) != names(samples, other)


def test_the_order_of_the_manifest_changes_nothing() -> None:
    samples = videos()
    for scheme in ("random", "video-disjoint"):
        (one,) = make_folds(samples, Folds(scheme=scheme))
        (other,) = make_folds(samples[::-1], Folds(scheme=scheme))
        assert names(samples, one) == names(samples[::-1], other)


def test_speakers_on_both_sides_are_counted() -> None:
    samples = [
        Sample(f"v{v}_{c}", text="x", dialogue=f"v{v}", speaker="ann") for v in range(9) for c in range(3)
    ]
    (fold,) = make_folds(samples, Folds(scheme="video-disjoint", shares=(0.6, 0.2, 0.2)))
    assert fold.description.endswith("; 1 of 1 test speakers train too")


def test_m3s_is_the_first_of_the_partner_folds() -> None:
    samples = [
        Sample(f"{speaker}_{turn}", text="x", speaker=speaker, session=speaker[:5])
        for speaker, turns in SPEAKER_TURNS.items()
        for turn in range(turns)
    ]
    (fold,) = make_folds(samples, Folds(scheme="speaker-partner", count=1))
    assert len(fold.train) == 4446
    assert (len(fold.valid) * 6, len(fold.test) * 6) == (3342, 3168)
    assert len(make_folds(samples, Folds(scheme="speaker-partner"))) == 10


def test_too_few_videos_and_none_at_all() -> None:
    with pytest.raises(DataError, match="no sample to"):
        make_folds(videos(2), Folds(scheme="video-disjoint"))
    with pytest.raises(DataError, match="needs the column dialogue"):
        make_folds([Sample("a", text="x")], Folds(scheme="video-disjoint"))


def test_shares_that_make_no_whole() -> None:
    with pytest.raises(ValidationError, match="the sum 1"):
        Folds(scheme="random", shares=(0.8, 0.1, 0.2))
    with pytest.raises(ValidationError, match="mean nothing to the scheme official"):
        Folds(shares=(0.6, 0.2, 0.2))


@pytest.mark.parametrize(
    ("scheme", "number", "valid", "test"),
    [
        ("random", 1, [3, 6], [1, 5]),
        ("random", 2, [3, 6], [4, 8]),
        ("video-disjoint", 1, [8, 9], [6, 7]),
        ("video-disjoint", 2, [0, 1], [6, 7]),
    ],
)
def test_a_seed_is_one_split_for_ever(scheme: str, number: int, valid: list[int], test: list[int]) -> None:
    """Not worked by hand: what this version draws, so that a later one tests on the same samples."""
    folds = Folds.model_validate({"scheme": scheme, "count": 2, "shares": (0.6, 0.2, 0.2)})
    fold = make_folds(videos(5, 2), folds)[number - 1]
    assert (fold.valid.tolist(), fold.test.tolist()) == (valid, test)
    assert fold.train.tolist() == sorted(set(range(10)) - {*valid, *test})
