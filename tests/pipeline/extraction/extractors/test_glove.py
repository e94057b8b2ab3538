"""Words looked up in files of vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.data.manifest import Word
from pipeline.data.store import Status
from pipeline.errors import AssetError
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.extractors.text import glove


@pytest.fixture(scope="module")
def extractor(assets: Callable[[str], Path]) -> glove.Extractor:
    return glove.Extractor(glove.GloveSettings(), assets("glove"))


def test_rows_are_the_files(extractor: glove.Extractor, assets: Callable[[str], Path]) -> None:
    result = extractor.extract(Clip("a", text="The, OF."))
    vectors = np.load(assets("glove") / glove.VECTORS, mmap_mode="r")
    assert result.tokens == ("the", "of")
    assert result.token_ids is None  # rows of a file are no encoder's vocabulary
    assert np.array_equal(result.values, vectors[[0, 3]])
    assert len(extractor.columns) == 50


def test_unknown_words_are_zeros_with_flag_0(extractor: glove.Extractor) -> None:
    result = extractor.extract(Clip("a", text="a qzxwvq film"))
    assert result.flags.tolist() == [1, 0, 1]
    assert not result.values[1].any()
    result.check(50, "test")


def test_only_unknown_words_are_missing(extractor: glove.Extractor) -> None:
    result = extractor.extract(Clip("a", text="qzxwvq wvqzx"))
    assert result.status is Status.MISSING
    assert result.reason == "none of the 2 words has a vector"
    assert result.unseen == 2


def test_contractions_and_hyphens(extractor: glove.Extractor) -> None:
    words = extractor.extract(
        Clip("a", text="I don't, can’t: he'll -- well-known qzx-film! 3.5 (U.S.)")
    ).tokens
    assert words == ("i", "do", "n't", "ca", "n't", "he", "'ll", "well-known", "qzx", "film", "3.5", "u.s")


def test_times_are_the_words(extractor: glove.Extractor) -> None:
    clip = Clip("a", text="Don't go", words=(Word("don't", 0.0, 0.4), Word("go", 0.5, 0.7)))
    assert extractor.extract(clip).times.tolist() == pytest.approx([0.2, 0.2, 0.6])


def test_text_and_npy_files(tmp_path: Path) -> None:
    numbers = np.array([[1, 2, 3], [4, 5, 6.5]], np.float32)
    (tmp_path / "v.txt").write_text("2 3\ngood 1 2 3\nbad 4 5 6.5\ngood 9 9 9\n", encoding="utf-8")
    np.save(tmp_path / "v.npy", numbers)
    (tmp_path / "words.txt").write_text("good\nbad\n", encoding="utf-8")
    for settings in (
        glove.GloveSettings(path=tmp_path / "v.txt"),
        glove.GloveSettings(path=tmp_path / "v.npy", words=tmp_path / "words.txt"),
    ):
        extractor = glove.Extractor(settings, tmp_path)
        assert np.array_equal(extractor.extract(Clip("a", text="Bad good")).values, numbers[::-1])
        assert len(extractor.columns) == 3
        assert [path.name for path in extractor.files] in (["v.txt"], ["v.npy", "words.txt"])


@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
def test_words_that_hold_odd_characters(tmp_path: Path, line_break: str) -> None:
    """A line ends at a line feed, and not at what else Unicode or Python take for an end of a line."""
    words = ["good", "a\u2028b", "c\x85d", "e\x0bf", "bad"]
    numbers = np.arange(10, dtype=np.float32).reshape(5, 2)
    np.save(tmp_path / "v.npy", numbers)
    (tmp_path / "words.txt").write_bytes((line_break.join(words) + line_break).encode())
    lines = (f"{word} {a:g} {b:g}" for word, (a, b) in zip(words, numbers, strict=True))
    (tmp_path / "v.vec").write_bytes((line_break.join(lines) + line_break).encode())
    for settings in (
        glove.GloveSettings(path=tmp_path / "v.npy", words=tmp_path / "words.txt"),
        glove.GloveSettings(path=tmp_path / "v.vec"),
    ):
        rows, vectors = glove.Extractor(settings, tmp_path)._table
        assert sorted(rows, key=rows.get) == words  # type: ignore[arg-type]
        assert np.array_equal(vectors, numbers)


def test_files_that_do_not_fit(tmp_path: Path, assets: Callable[[str], Path]) -> None:
    np.save(tmp_path / "v.npy", np.zeros((3, 2), np.float32))
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "words.txt").write_text("one\n", encoding="utf-8")
    (tmp_path / "v.txt").write_text("good 1 2\nbad 1 x\n", encoding="utf-8")
    words = tmp_path / "words.txt"
    for settings, reason in (
        ({"path": tmp_path / "v.npy", "words": words}, "3 vectors, but .* 1 words"),
        ({"path": tmp_path / "pickled.npy", "words": words}, "not an array"),
        ({"path": tmp_path / "v.txt"}, "could not convert|line 2"),
        ({"path": tmp_path / "absent.txt"}, "absent"),
        ({}, "not fetched"),
    ):
        with pytest.raises(AssetError, match=reason):
            glove.Extractor(glove.GloveSettings(**settings), tmp_path).extract(Clip("a", text="good"))
    damaged = tmp_path / "glove"
    damaged.mkdir()
    for file in assets("glove").iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    with (damaged / glove.VECTORS).open("r+b") as file:
        file.seek(5_000)
        file.write(b"\x01")
    with pytest.raises(AssetError, match="refused: its sha256"):
        glove.Extractor(glove.GloveSettings(), damaged).extract(Clip("a", text="good"))


def test_settings_that_do_not_go_together() -> None:
    with pytest.raises(
        ValidationError, match=r"expected a \.npy, \.txt or \.vec file; the extractor word2vec"
    ):
        glove.GloveSettings(path="vectors.bin")
    with pytest.raises(ValidationError, match=r"expected a \.npy, \.txt or \.vec file \["):
        glove.GloveSettings(path="vectors.pkl")
    for settings in ({"path": "v.npy"}, {"words": "w.txt"}, {"path": "v.txt", "words": "w.txt"}):
        with pytest.raises(ValidationError, match=r"words goes with a path that ends in \.npy"):
            glove.GloveSettings(**settings)
