"""Words of many scripts: where they begin and end, and that a table's word is found however it is written."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.manifest import Word
from pipeline.errors import AssetError
from pipeline.extraction.extractors.base import Clip, place_words, token_times
from pipeline.extraction.extractors.text import glove, word2vec
from pipeline.extraction.extractors.text._word_vectors import words_of


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize(
    "words",
    [
        ["नमस्ते", "दुनिया", "मैं", "ठीक", "हूँ"],
        ["வணக்கம்", "தமிழ்", "நாடு"],
        [decomposed(word) for word in ("Tiếng", "Việt", "rất", "đẹp")],
        ["می\u200cخواهم", "کتاب"],  # one Persian word with a joiner
        ["שָׁלוֹם", "צה״ל"],
        [decomposed("한국어"), decomposed("문장")],
        ["l’homme", "qu'il", "пʼять", "co-op", "3.5"],
    ],
)
def test_words_are_whole(words: list[str]) -> None:
    text = f"«{words[0]}, " + " ".join(words[1:]) + "!»"
    assert [text[start:end] for start, end in words_of(text)] == words


TABLE = {
    "दुनिया": 1.0,
    "द": 2.0,
    "தமிழ்": 3.0,
    "த": 4.0,
    "việt": 5.0,
    "vi": 6.0,
    "喜欢": 7.0,
    "喜": 8.0,
    "我": 9.0,
    "你": 10.0,
    "l'": 11.0,
    "homme": 12.0,
    "п’ять": 13.0,
    "don't": 14.0,
    "ไทย": 15.0,
    "café": 16.0,
}


@pytest.fixture(params=["glove", "glove decomposed", "word2vec", "word2vec decomposed", "npy"])
def extractor(request: pytest.FixtureRequest, tmp_path: Path) -> glove.Extractor | word2vec.Extractor:
    form = decomposed if "decomposed" in request.param else str
    words = [form(word) for word in TABLE]
    vectors = np.array([[value, -value] for value in TABLE.values()], np.float32)
    if request.param == "npy":
        np.save(tmp_path / "v.npy", vectors)
        (tmp_path / "words.txt").write_text("\n".join(words), encoding="utf-8")
        settings = glove.GloveSettings(path=tmp_path / "v.npy", words=tmp_path / "words.txt")
        return glove.Extractor(settings, tmp_path)
    if request.param.startswith("glove"):
        lines = [f"{word} {x} {y}" for word, (x, y) in zip(words, vectors, strict=True)]
        (tmp_path / "v.txt").write_text("\n".join(lines), encoding="utf-8")
        return glove.Extractor(glove.GloveSettings(path=tmp_path / "v.txt"), tmp_path)
    data = b"".join(w.encode() + b" " + v.tobytes() for w, v in zip(words, vectors, strict=True))
    (tmp_path / "v.bin").write_bytes(f"{len(words)} 2\n".encode() + data)
    return word2vec.Extractor(word2vec.Word2vecSettings(path=tmp_path / "v.bin"), tmp_path)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("दुनिया द", [1, 2]),
        ("தமிழ், த", [3, 4]),
        ("Việt", [5]),
        (decomposed("Việt vi"), [5, 6]),
        (decomposed("CAFÉ"), [16]),
        ("我喜欢你。", [9, 7, 10]),  # the longest first, and not 喜 alone
        ("我AI喜欢", [9, 0, 7]),
        ("ไทย", [15]),
        ("L’homme l'homme", [11, 12, 11, 12]),
        ("п'ять пʼять п’ять", [13, 13, 13]),
        ("don’t DONʼT", [14, 14]),
        ("hom\u00adme caf\u2060e\u0301", [12, 16]),  # a soft hyphen; an accent behind a joiner of words
        ("\u202eVie\u0302\u0323t\u202c \u200fदुनिया\ufeff", [5, 1]),  # the direction of writing; a lost BOM
        ("喜\u200b欢 homme\u200bcafé", [8, 0, 12, 16]),  # a space of no width divides
    ],
)
def test_a_word_is_found_however_it_is_written(
    extractor: glove.Extractor | word2vec.Extractor, text: str, values: list[float]
) -> None:
    found = extractor.extract(Clip("a", text=text))
    assert found.values[:, 0].tolist() == values
    assert found.flags.tolist() == [int(value != 0) for value in values]
    found.check(2, "test")


def test_a_table_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.vec").write_text("3 2\na 1 2\nb 3 4\n", encoding="utf-8")
    settings = glove.GloveSettings(path=tmp_path / "v.vec")
    with pytest.raises(AssetError, match="cut short: its first line says 3 words, found 2"):
        glove.Extractor(settings, tmp_path).prepare()
    (tmp_path / "v.vec").write_text("3 2\na 1 2\na 3 4\nb 5 6\n", encoding="utf-8")  # one twice
    assert glove.Extractor(settings, tmp_path).extract(Clip("a", text="a b")).values[:, 0].tolist() == [1, 5]


@pytest.mark.parametrize(
    ("text", "words", "places"),
    [
        ("किताब क", ["क"], [(6, 7)]),  # not the beginning of another word
        ("כלב לא שלא", ["לא", "לא"], [(4, 6), None]),  # Hebrew has spaces
        ("我喜欢你", ["我", "喜欢", "你"], [(0, 1), (1, 3), (3, 4)]),
        ("กินข้าว", ["กิน", "ข้าว"], [(0, 3), (3, 7)]),
        ("กิน", ["ก"], [None]),  # a letter without its vowel
        ("I don’t", ["i", "don't"], [(0, 1), (2, 7)]),
        ("I don't", ["do", "nʼt"], [(2, 4), (4, 7)]),
        ("\u202esala\u00admander\u202c salamander", ["salamander", "sala\u2060mander"], [(1, 13), (14, 24)]),
    ],
)
def test_words_are_placed(text: str, words: list[str], places: list[tuple[int, int] | None]) -> None:
    assert place_words(text, words) == places


@pytest.mark.parametrize(
    ("there", "sought"), [(decomposed, str), (str, decomposed), (decomposed, decomposed)]
)
def test_accents_may_be_characters_of_their_own(there: object, sought: object) -> None:
    words = ["Tiếng", "Việt", "한국", "đẹp"]
    pieces = [there(word) for word in words]  # type: ignore[operator]
    text = " ".join(pieces)
    places = place_words(text, [sought(word.upper()) for word in words])  # type: ignore[operator]
    assert [text[slice(*place)] for place in places if place] == pieces


def test_tokens_of_decomposed_words_have_their_times() -> None:
    text = decomposed("rất đẹp")
    words = (Word("rất", 0.0, 1.0), Word("đẹp", 2.0, 3.0))
    assert token_times(text, words_of(text), words).tolist() == [0.5, 2.5]
