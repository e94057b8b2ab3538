"""Words of a segment out of a whole video's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.data.datasets._timed_words import TimedWords
from pipeline.data.manifest import Word
from pipeline.errors import StoreError
from tests.replicas.mosei import write_csd


def words(path: Path, times: list[tuple[float, float]], tokens: list[bytes]) -> TimedWords:
    array = np.array([[token] for token in tokens])
    write_csd(path, "words", {"v": (np.array(times), array), "w": (np.array(times) + 10, array)})
    return TimedWords(path)


def test_the_middle_decides_and_the_segment_cuts(tmp_path: Path) -> None:
    times = [(0.0, 0.4), (0.9, 1.3), (1.3, 1.9), (1.9, 2.5), (2.5, 2.9)]
    found = words(tmp_path / "w.csd", times, [b"one", b"two", b"sp", b"three", b"four"])
    with found:
        assert found.between("v", 1.0, 2.2) == (Word("two", 0.0, 0.3),)  # three's middle is 2.2
        assert found.between("v", 1.0, 2.3) == (Word("two", 0.0, 0.3), Word("three", 0.9, 1.3))
        assert found.between("w", 10.0, 11.0) == (Word("one", 0.0, 0.4),)
        assert found.between("v", 0.2, 0.3) == (Word("one", 0.0, 0.1),)
        assert found.between("v", 7.0, 8.0) == found.between("absent", 0.0, 9.0) == ()


def test_words_in_no_order_come_in_the_order_of_time(tmp_path: Path) -> None:
    with words(tmp_path / "w.csd", [(2.0, 2.2), (0.0, 0.2), (1.0, 1.2)], [b"c", b"a", b"b"]) as found:
        assert [word.text for word in found.between("v", 0.0, 3.0)] == ["a", "b", "c"]
        assert [word.text for word in found.between("v", 0.5, 2.05)] == ["b"]


def test_a_damaged_video_is_named(tmp_path: Path) -> None:
    path = write_csd(tmp_path / "w.csd", "words", {"v": (np.array([[0.0, np.nan]]), np.array([[b"a"]]))})
    with TimedWords(path) as found, pytest.raises(StoreError, match=r'w\.csd, id "v", intervals: row 0'):
        found.between("v", 0.0, 1.0)
