"""word2vec's three file formats, with hand-made vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.data.fetching import fetch
from pipeline.data.manifest import Word
from pipeline.data.store import Status
from pipeline.errors import AssetError, StreamMissing
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.extractors.text import word2vec
from pipeline.params import Asset

WORDS = ("good", "Obama", "obama", "do", "n't", "####", "naïve", "'s")
VECTORS = np.arange(24, dtype=np.float32).reshape(8, 3) / 7 - 1


def write_binary(path: Path, line_breaks: bool = True) -> Path:
    with path.open("wb") as file:
        file.write(f"{len(WORDS)} 3\n".encode())
        for word, vector in zip(WORDS, VECTORS, strict=True):
            file.write(
                word.encode() + b" " + vector.astype("<f4").tobytes() + (b"\n" if line_breaks else b"")
            )
    return path


def write_text(path: Path, header: bool = True) -> Path:
    lines = [f"{len(WORDS)} 3"] * header
    lines += [
        f"{word} {' '.join(repr(float(v)) for v in vector)}"
        for word, vector in zip(WORDS, VECTORS, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def build(path: Path | None, assets: Path, words: Path | None = None) -> word2vec.Extractor:
    return word2vec.Extractor(word2vec.Word2vecSettings(path=path, words=words), assets)


@pytest.fixture(params=["bin", "bin without line breaks", "txt", "vec without header", "npy"])
def extractor(request: pytest.FixtureRequest, tmp_path: Path) -> word2vec.Extractor:
    kind = request.param
    if kind.startswith("bin"):
        return build(write_binary(tmp_path / "v.bin", line_breaks=kind == "bin"), tmp_path)
    if kind == "npy":
        np.save(tmp_path / "v.npy", VECTORS)
        (tmp_path / "words.txt").write_text("\n".join(WORDS), encoding="utf-8")
        return build(tmp_path / "v.npy", tmp_path, tmp_path / "words.txt")
    return build(write_text(tmp_path / f"v.{kind[:3]}", header=kind == "txt"), tmp_path)


def test_every_format_gives_the_same_rows(extractor: word2vec.Extractor) -> None:
    sequence = extractor.extract(Clip("a", text="Good naïve Obama, OBAMA's 2012: I don't!"))
    sequence.check(3, "test")
    assert extractor.columns == ("vector_0", "vector_1", "vector_2")
    assert sequence.tokens == ("good", "naïve", "Obama", "obama", "'s", "####", "I", "do", "n't")
    rows = [0, 6, 1, 2, 7, 5, None, 3, 4]
    expected = np.stack([np.zeros(3) if row is None else VECTORS[row] for row in rows]).astype(np.float32)
    np.testing.assert_array_equal(sequence.values, expected)
    assert sequence.flags.tolist() == [1, 1, 1, 1, 1, 1, 0, 1, 1]
    assert sequence.token_ids is None


def test_words_take_their_times_from_the_alignment(tmp_path: Path) -> None:
    words = (Word("good", 0.0, 0.4), Word("naïve", 0.5, 0.9))
    sequence = build(write_binary(tmp_path / "v.bin"), tmp_path).extract(
        Clip("a", text="good naïve", words=words)
    )
    np.testing.assert_allclose(sequence.times, [0.2, 0.7], atol=1e-6)


def test_nothing_known_is_missing_and_nothing_said_too(tmp_path: Path) -> None:
    extractor = build(write_text(tmp_path / "v.txt"), tmp_path)
    nothing = extractor.extract(Clip("a", text="zyx wvu"))
    assert nothing.status is Status.MISSING
    assert "none of the 2 words" in nothing.reason
    with pytest.raises(StreamMissing):
        extractor.extract(Clip("a", text=" ... "))


def test_of_a_word_that_occurs_twice_the_first_counts(tmp_path: Path) -> None:
    path = tmp_path / "v.bin"
    entries = (b"a " + np.float32([1, 2]).tobytes(), b"b " + np.float32([3, 4]).tobytes())
    path.write_bytes(b"3 2\n" + entries[0] + entries[1] + b"a " + np.float32([5, 6]).tobytes())
    assert build(path, tmp_path).extract(Clip("x", text="a b a")).values.tolist() == [[1, 2], [3, 4], [1, 2]]


@pytest.mark.parametrize("keep", [10, 40, 100])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, keep: int) -> None:
    path = write_binary(tmp_path / "v.bin")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(AssetError, match="cut short"):
        _ = build(path, tmp_path).columns


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.bin"
    path.write_bytes(b"\x89PNG\r\n" + bytes(200))
    with pytest.raises(AssetError, match="first line"):
        _ = build(path, tmp_path).columns
    path.write_bytes(b"2 2\n" + b"x" * 9000)
    with pytest.raises(AssetError, match="does not end"):
        _ = build(path, tmp_path).columns
    with pytest.raises(AssetError, match="no table"):
        _ = build(tmp_path / "absent.bin", tmp_path).columns


def test_settings_say_what_they_expect(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="ends in"):
        word2vec.Word2vecSettings(path=Path("vectors.pkl"))
    with pytest.raises(ValidationError, match="words goes with"):
        word2vec.Word2vecSettings(path=Path("vectors.npy"))
    with pytest.raises(AssetError, match=r"extractors\.text\.word2vec\.path"):
        _ = build(None, tmp_path).columns


def test_the_asset_folder_serves(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    path = write_binary(tmp_path / "mine" / "v.bin")
    assets = fetch("word2vec", Asset(path=tmp_path / "mine"), tmp_path / "word2vec")
    clip = Clip("a", text="Good do")
    np.testing.assert_array_equal(
        build(None, assets).extract(clip).values, build(path, tmp_path).extract(clip).values
    )
    assert build(None, assets).files == ()
    assert build(path, tmp_path).files == (path,)
