"""Folds: who trains, validates and tests; nobody on two sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.data.manifest import Sample
from pipeline.errors import DataError
from pipeline.params import Folds
from pipeline.training.folds import Fold, check_fold, make_folds
from tests import small_world

SAMPLES = small_world.samples(60)


def names(samples: list[Sample], indices: np.ndarray, field: str) -> set[str]:
    return {getattr(samples[index], field) for index in indices}


def test_sessions_test_once_validate_once_and_train_the_rest() -> None:
    folds = make_folds(SAMPLES, Folds(scheme="session", count=5))
    assert [fold.number for fold in folds] == [1, 2, 3, 4, 5]
    tested = [names(SAMPLES, fold.test, "session") for fold in folds]
    assert tested == [{"Ses01"}, {"Ses02"}, {"Ses03"}, {"Ses04"}, {"Ses05"}]
    assert [names(SAMPLES, fold.valid, "session") for fold in folds] == [*tested[1:], tested[0]]
    for fold in folds:
        everyone = np.concatenate([fold.train, fold.valid, fold.test])
        assert sorted(everyone) == list(range(60))
        assert len(names(SAMPLES, fold.train, "session")) == 3
    assert folds[4].description == "test Ses05; validate Ses01; train Ses02, Ses03, Ses04"


def test_count_runs_only_the_first_folds() -> None:
    assert [fold.number for fold in make_folds(SAMPLES, Folds(scheme="session", count=2))] == [1, 2]
    with pytest.raises(DataError, match=r"count is 6.*gives 5 folds"):
        make_folds(SAMPLES, Folds(scheme="session", count=6))


def test_speakers_test_and_their_partners_validate() -> None:
    folds = make_folds(SAMPLES, Folds(scheme="speaker-partner"))
    assert len(folds) == 10
    for fold in folds:
        tested, held = names(SAMPLES, fold.test, "speaker"), names(SAMPLES, fold.valid, "speaker")
        assert len(tested) == len(held) == 1 and tested != held
        assert names(SAMPLES, fold.test, "session") == names(SAMPLES, fold.valid, "session")
        assert len(names(SAMPLES, fold.train, "session")) == 4
        assert sorted(np.concatenate([fold.train, fold.valid, fold.test])) == list(range(60))
    assert {min(names(SAMPLES, fold.test, "speaker")) for fold in folds} == {s.speaker for s in SAMPLES}


def test_msp_improv_has_twelve_folds() -> None:
    """Six sessions of an actress and an actor each (MMIN section 4.5); not as many samples of each."""
    sizes = [
        (session, gender, 3 + 2 * session - (gender == "M")) for session in range(1, 7) for gender in "FM"
    ]
    samples = [
        Sample(id=f"{gender}{session:02d}-{i}", speaker=f"{gender}{session:02d}", session=str(session),
               dialogue=f"S{session}-{i % 3}")
        for session, gender, count in sizes for i in range(count)
    ]  # fmt: skip
    folds = make_folds(samples, Folds(scheme="speaker-partner"))
    assert [fold.number for fold in folds] == list(range(1, 13))
    assert sum(len(fold.test) for fold in folds) == len(samples) == 114
    for fold, (session, gender, count) in zip(folds, sizes, strict=True):
        partner = f"{'M' if gender == 'F' else 'F'}{session:02d}"
        assert names(samples, fold.test, "speaker") == {f"{gender}{session:02d}"} and len(fold.test) == count
        assert names(samples, fold.valid, "speaker") == {partner}
        assert len(names(samples, fold.train, "speaker")) == 10
        assert names(samples, fold.train, "session") == {str(s) for s in range(1, 7)} - {str(session)}
    assert folds[3].description == "test M02; validate F02; train all sessions but 2"


def test_the_owners_split() -> None:
    parts = ["train", "train", "valid", "test", ""]
    samples = [Sample(id=str(i), split=part, dialogue=f"d{i}", speaker="one") for i, part in enumerate(parts)]
    (fold,) = make_folds(samples, Folds(scheme="official"))
    assert (fold.train.tolist(), fold.valid.tolist(), fold.test.tolist()) == ([0, 1], [2], [3])
    assert fold.description == "the owner's split; 1 speakers both train and test"


def test_a_dialogue_on_two_sides_of_the_owners_split_is_refused() -> None:
    samples = [Sample(id=part, split=part, dialogue="d1") for part in ("train", "valid", "test")]
    with pytest.raises(DataError, match='the dialogue "d1" stands in train and in valid'):
        make_folds(samples, Folds(scheme="official"))


def test_a_speaker_of_two_sessions_is_refused() -> None:
    samples = [replace(s, speaker="1F") if s.id == "s001" else s for s in SAMPLES]
    with pytest.raises(DataError, match='the speaker "1F" stands in'):
        make_folds(samples, Folds(scheme="session"))


def test_partners_may_share_dialogues_but_not_with_training() -> None:
    samples = [replace(s, dialogue="d2") if s.id == "s000" else s for s in SAMPLES]
    with pytest.raises(DataError, match='the dialogue "d2" stands in train and in'):
        make_folds(samples, Folds(scheme="speaker-partner"))


def test_an_empty_part_is_refused() -> None:
    samples = [Sample(id="a", split="train"), Sample(id="b", split="test")]
    with pytest.raises(DataError, match=r"no sample to validate on$"):
        make_folds(samples, Folds(scheme="official"))
    with pytest.raises(DataError, match=r"validate on; 1 of 3 samples have no split\. Give.*split_file"):
        make_folds([*samples, Sample(id="c")], Folds(scheme="official"))


def test_two_sessions_are_too_few() -> None:
    two = [s for s in SAMPLES if s.session in ("Ses01", "Ses02")]
    with pytest.raises(DataError, match="at least 3 sessions, found 2"):
        make_folds(two, Folds(scheme="session"))


def test_a_session_of_three_speakers_has_no_partners() -> None:
    samples = [replace(s, speaker="1X") if s.id == "s010" else s for s in SAMPLES]
    with pytest.raises(DataError, match=r"2 speakers a session; Ses01 has \['1F', '1M', '1X'\]"):
        make_folds(samples, Folds(scheme="speaker-partner"))


def test_a_sample_without_a_session_is_named() -> None:
    samples = [replace(s, session="") if s.id == "s007" else s for s in SAMPLES]
    with pytest.raises(DataError, match='needs the column session; the sample "s007" has none'):
        make_folds(samples, Folds(scheme="session"))


def test_a_dataset_that_is_not_split_cannot_train() -> None:
    with pytest.raises(DataError, match='scheme is "none"'):
        make_folds(SAMPLES, Folds(scheme="none"))
    with pytest.raises(DataError, match="no samples"):
        make_folds([], Folds(scheme="session"))


def test_check_fold_finds_the_same_sample_twice() -> None:
    same = Fold(1, "by hand", np.array([0, 1]), np.array([2]), np.array([1]))
    with pytest.raises(DataError, match="stands in train and in test"):
        check_fold(SAMPLES, same, "session")


def test_whole_speakers_are_dealt_into_parts() -> None:
    samples = [Sample(id=f"{name}-{turn}", speaker=name) for name in "abcdef" for turn in range(2)]
    folds = make_folds(samples, Folds(scheme="speaker", count=3))

    def speakers(indices: np.ndarray) -> str:
        return "".join(sorted({samples[index].speaker for index in indices}))

    parts = [tuple(map(speakers, (fold.train, fold.valid, fold.test))) for fold in folds]
    assert parts == [("cf", "be", "ad"), ("ad", "cf", "be"), ("be", "ad", "cf")]
    with pytest.raises(DataError, match="count 7 and 6 speakers"):
        make_folds(samples, Folds(scheme="speaker", count=7))


def test_the_least_that_a_scheme_needs() -> None:
    three = [Sample(id=f"{name}-{turn}", session=name, speaker=name) for name in "abc" for turn in range(2)]
    folds = make_folds(three, Folds(scheme="session"))
    assert [fold.test.tolist() for fold in folds] == [[0, 1], [2, 3], [4, 5]]
    assert len(make_folds(three, Folds(scheme="speaker", count=3))) == 3
    five = [Sample(id=name, speaker=name) for name in "edcba"]
    assert [fold.test.tolist() for fold in make_folds(five, Folds(scheme="speaker"))] == [
        [4],
        [3],
        [2],
        [1],
        [0],
    ]
    with pytest.raises(DataError, match="count 2 and 5 speakers"):
        make_folds(five, Folds(scheme="speaker", count=2))
    with pytest.raises(DataError, match="count 5 and 3 speakers"):
        make_folds(three, Folds(scheme="speaker"))
