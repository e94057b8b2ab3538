"""Averages over words and resampling, on numbers worked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.data.manifest import Sample, Word, write_manifest
from pipeline.data.store import FeatureSequence, FeatureStore, Status
from pipeline.extraction.alignment import Align, aligned
from pipeline.extraction.dataset import extract
from pipeline.extraction.extractors import base
from pipeline.extraction.extractors.base import Clip, place_words, token_times
from pipeline.extraction.extractors.text import bert
from tests.encoders import write_bert


def sequence(rows: int = 6, flags: list[int] | None = None) -> FeatureSequence:
    """Frames at 0.05, 0.15, ... whose first column counts."""
    seen = np.ones(rows, np.uint8) if flags is None else np.array(flags, np.uint8)
    values = np.stack([np.arange(rows), np.full(rows, 10)], axis=1).astype(np.float32) * seen[:, None]
    return FeatureSequence(values, (np.arange(rows) * 0.1 + 0.05).astype(np.float32), seen)


def test_rows_are_averaged_over_words() -> None:
    words = [Word("a", 0.0, 0.2), Word("b", 0.2, 0.5), Word("c", 0.5, 0.6)]
    made = aligned(sequence(), words, "words")
    made.check(2, "test")
    assert made.values.tolist() == [[0.5, 10], [3, 10], [5, 10]]
    assert made.times.tolist() == pytest.approx([0.1, 0.35, 0.55])
    assert made.tokens == ("a", "b", "c")


def test_unobserved_rows_do_not_count() -> None:
    words = [Word("a", 0.0, 0.2), Word("b", 0.2, 0.4)]
    made = aligned(sequence(4, [1, 0, 0, 0]), words, "words")
    assert made.values.tolist() == [[0, 10], [0, 0]]
    assert made.flags.tolist() == [1, 0]


def test_a_word_between_two_frames_takes_the_nearest_and_one_after_the_end_takes_none() -> None:
    made = aligned(sequence(3), [Word("a", 0.06, 0.09), Word("late", 2.0, 2.1)], "words")
    assert made.values.tolist() == [[0, 10], [0, 0]]
    assert made.flags.tolist() == [1, 0]


def test_a_long_word_behind_the_end_takes_nothing() -> None:
    made = aligned(sequence(), [Word("a", 0.0, 0.3), Word("late", 0.7, 1.5)], "words")
    assert made.flags.tolist() == [1, 0]
    assert not made.values[1].any()


def test_word_pieces_are_averaged_over_the_words_of_the_alignment(tmp_path: Path) -> None:
    """Pieces by hand: "unbelievable" has three, "i" is in no word of the text, "!" goes with what it follows."""
    pieces = ("we", "went", "to", "this", "un", "##believ", "##able", "film", "!")
    folder = write_bert(tmp_path / "bert", pieces)
    extractor = bert.Extractor(bert.BertSettings(model=str(folder)), tmp_path)
    spoken = ("We", "went", "i", "to", "this", "unbelievable", "film")
    times = ((0, 0.4), (0.5, 0.7), (0.7, 0.8), (1.5, 1.9), (2.0, 2.4), (2.5, 2.9), (3.0, 3.4))
    words = [Word(word, *time) for word, time in zip(spoken, times, strict=True)]
    found = extractor.extract(Clip("a", text="We went to this unbelievable film!", words=tuple(words)))
    assert found.tokens == pieces
    assert found.times.tolist() == pytest.approx([0.2, 0.6, 1.7, 2.2, 2.7, 2.7, 2.7, 3.2, 3.2])
    made = aligned(found, words, "words")
    made.check(8, "test")
    rows = found.values.astype(np.float64)
    expected = [
        rows[0], rows[1], np.zeros(8), rows[2], rows[3], (rows[4] + rows[5] + rows[6]) / 3, (rows[7] + rows[8]) / 2
    ]  # fmt: skip
    np.testing.assert_allclose(made.values, np.array(expected), atol=1e-7)
    assert made.flags.tolist() == [1, 1, 0, 1, 1, 1, 1]
    assert made.tokens == spoken
    assert made.token_ids is None


def test_words_of_no_length_keep_their_own_pieces() -> None:
    words = (Word("a", 0.3, 0.3), Word("b", 0.4, 0.6))
    times = token_times("a b", [(0, 1), (2, 3)], words)
    tokens = FeatureSequence(np.eye(2, dtype=np.float32), times, np.ones(2, np.uint8), tokens=("a", "b"))
    assert aligned(tokens, words, "words").values.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("text", "words", "places"),
    [
        ("we went to this", ["we", "went", "i", "to", "this"], ["we", "went", None, "to", "this"]),
        ("This is it.", ["this", "is", "it"], ["This", "is", "it"]),
        ("I don't know", ["i", "do", "n't", "know"], ["I", "do", "n't", "know"]),
        ("He'll go", ["he", "'ll", "go"], ["He", "'ll", "go"]),
        ("well-known", ["well", "known"], ["well", "known"]),
        ("a cat, concatenated", ["cat", "cat"], ["cat", None]),
        ("room 12 or 2", ["2"], ["2"]),
        ("我很喜欢这个电影", ["我", "喜欢", "电影"], ["我", "喜欢", "电影"]),
        ("我看了3个iPhone广告", ["3", "个", "iphone", "广告"], ["3", "个", "iPhone", "广告"]),
        ("とても好き", ["とても", "好き"], ["とても", "好き"]),
        ("İstanbul da", ["da"], ["da"]),  # whose lower case is longer
        ("", ["a"], [None]),
        ("a b", ["", "b"], [None, "b"]),
    ],
)
def test_words_are_found_whole(text: str, words: list[str], places: list[str | None]) -> None:
    found = place_words(text, words)
    assert [None if place is None else text[slice(*place)] for place in found] == places
    ends = [place for place in found if place is not None]
    assert ends == sorted(ends)


def test_of_two_places_the_whole_word_counts() -> None:
    assert place_words("room 12 or 2", ["2"]) == [(11, 12)]
    assert place_words("this is", ["is"]) == [(5, 7)]


def test_without_words_the_modality_is_missing() -> None:
    made = aligned(sequence(), (), "words")
    assert (made.status, len(made.times)) == (Status.MISSING, 0)
    assert "no times of words" in made.reason


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (1, [2.5]),
        (2, [1, 4]),
        (3, [0.5, 2.5, 4.5]),
        (4, [0.5, 1.5, 3.5, 4.5]),  # the stretches 0-1.5, 1.5-3, 3-4.5, 4.5-6, by the frames that they touch
        (6, [0, 1, 2, 3, 4, 5]),
        (12, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]),
    ],
)
def test_resampling(rows: int, expected: list[float]) -> None:
    made = aligned(sequence(), (), rows)
    made.check(2, "test")
    assert made.values[:, 0].tolist() == expected


def test_what_is_not_there_stays_as_it_is() -> None:
    absent = FeatureSequence.absent(2, Status.FAILED, "broken")
    for align in ("none", "words", 5):
        assert aligned(absent, [Word("a", 0, 1)], align) is absent
    whole = sequence()
    assert aligned(whole, (), "none") is whole


@pytest.mark.parametrize(("align", "lengths"), [("none", [8, 8]), ("words", [2, 0]), (5, [5, 5])])
def test_the_stage_aligns_without_extracting_anew(tmp_path: Path, align: Align, lengths: list[int]) -> None:
    np.savez(
        tmp_path / "f.npz",
        ids=np.array(["a", "b"]),
        offsets=np.array([0, 8, 16]),
        values=np.random.default_rng(0).normal(size=(16, 3)),
        times=np.tile(np.arange(8) * 0.1, 2),
    )
    words = (Word("x", 0.0, 0.3), Word("y", 0.3, 0.8))
    write_manifest(tmp_path / "m.csv", [Sample("a", text="x y", words=words), Sample("b", text="z")])
    owner = base.find("audio", "import")
    computed = []
    for chosen in ("none", align):
        summary = extract(
            dataset="d",
            modality="audio",
            manifest=tmp_path / "m.csv",
            root=tmp_path,
            extractor="import",
            settings=owner.Settings(file=tmp_path / "f.npz"),
            assets=tmp_path / "none",
            store=tmp_path / "audio.h5",
            cache=tmp_path / "cache",
            workers=1,
            align=chosen,
            progress=False,
        )
        computed.append(summary.computed)
    assert computed == [2, 0]
    with FeatureStore(tmp_path / "audio.h5") as store:
        assert store.lengths.tolist() == lengths
        assert store.info.settings.get("align", "none") == align
        assert store.info.frame_period_s == (pytest.approx(0.1) if align == "none" else None)
