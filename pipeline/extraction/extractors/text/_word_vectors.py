"""Splits a transcript into words and looks them up in a table of vectors; for the extractors glove and word2vec."""

from __future__ import annotations

import re
from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from pipeline.data.store import FeatureSequence, Status
from pipeline.errors import AssetError, StreamMissing
from pipeline.extraction.extractors.base import (
    APOSTROPHES,
    BaseExtractor,
    Clip,
    ExtractorSettings,
    compose,
    is_mark,
    is_spaceless,
    token_times,
)

_HYPHENS = "-\u2010\u2011\u200c"  # and the joiner that divides the parts of a Persian word
_WITHIN = f"{APOSTROPHES}{_HYPHENS}.\u00b7\u05f3\u05f4"  # stands within a word, between two letters
_CONTRACTION = re.compile(rf"(n[{APOSTROPHES}]t|[{APOSTROPHES}](?:s|m|d|re|ll|ve))$", re.IGNORECASE)
LONGEST_UNSPACED = 16  # characters of a word in a script without spaces


class WordVectorSettings(ExtractorSettings):
    """Which vectors are used.

    Attributes:
        path: the vectors' file, or null.
        words: the words of a .npy file in its order: .txt, one a line, or .parquet with one column of
            strings.
    """

    path: Path | None = None
    words: Path | None = None

    @model_validator(mode="after")
    def _words_go_with_npy(self) -> WordVectorSettings:
        if (self.words is not None) != (self.path is not None and self.path.suffix == ".npy"):
            raise ValueError("words goes with a path that ends in .npy, and is needed by it")
        return self


S = TypeVar("S", bound=WordVectorSettings)


class WordVectors(BaseExtractor[S]):
    """The vectors (T, D) of the T words of a transcript, without punctuation.

    An unknown word is zeros with flag 0; a transcript without any known word is *missing*. Contractions that
    are no words of the table are split as GloVe's tokenizer does (don't: do, n't), and so are words that a
    hyphen or an apostrophe joins (l'homme: l', homme) where the table has the parts. In scripts without spaces
    between words the longest words of the table are taken one after another. Accents may be characters of their
    own, in the text and in the table. There are no token ids: rows of the table are no vocabulary of any encoder.
    """

    modality = "text"
    libraries: ClassVar[tuple[str, ...]] = ("numpy",)
    parts: ClassVar[tuple[str, ...]] = ("pipeline.extraction.extractors.text._word_vectors",)

    @cached_property
    @abstractmethod
    def _table(self) -> tuple[dict[str, int], Any]:
        """Return word -> row, and the vectors: (words, D) float32, or what is indexed like them by a list."""

    @abstractmethod
    def _spelling(self, word: str) -> str:
        """Return a word as these vectors spell it."""

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """vector_0 .. vector_<D-1>."""
        return column_names(self._table[1].shape[1])

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of the settings."""
        return tuple(path for path in (self.settings.path, self.settings.words) if path is not None)

    def prepare(self) -> None:
        """Read the table."""
        self._table  # noqa: B018 - it is read when it is first asked for

    def extract(self, clip: Clip) -> FeatureSequence:
        """Return one row a word."""
        rows, vectors = self._table
        pieces = [
            piece for start, end in words_of(clip.text) for piece in self._pieces(clip.text[start:end], start)
        ]
        if not pieces:
            raise StreamMissing("empty transcript")
        flags = np.array([word in rows for word, _ in pieces], np.uint8)
        if not flags.any():
            reason = f"none of the {len(pieces)} words has a vector"
            return FeatureSequence.absent(vectors.shape[1], Status.MISSING, reason, len(pieces))
        values = np.zeros((len(pieces), vectors.shape[1]), np.float32)
        known = np.flatnonzero(flags)
        values[known] = vectors[[rows[pieces[index][0]] for index in known]]
        return FeatureSequence(
            values=values,
            times=token_times(clip.text, [span for _, span in pieces], clip.words),
            flags=flags,
            tokens=tuple(word for word, _ in pieces),
        )

    def _pieces(self, word: str, start: int) -> list[tuple[str, tuple[int, int]]]:
        """Return a word as the file has it: whole, with its contraction apart, or cut at hyphens."""
        span = start, start + len(word)
        if (known := self._known(word)) is not None:
            return [(known, span)]
        if found := _CONTRACTION.search(word):
            cut = found.start()
            right = self._known(word[cut:]) or self._spelling(_plain(word[cut:]))
            return [*self._pieces(word[:cut], start), (right, (start + cut, span[1]))] if cut else []
        cut = next((place for place, letter in enumerate(word) if letter in _HYPHENS), 0)
        if cut:
            return [*self._pieces(word[:cut], start), *self._pieces(word[cut + 1 :], start + cut + 1)]
        cut = next((place for place, letter in enumerate(word) if letter in APOSTROPHES), 0)
        if cut and self._known(word[cut + 1 :]) is not None:
            left = self._known(word[: cut + 1]) or self._known(word[:cut])
            if left is not None:
                return [(left, (start, start + cut + 1)), *self._pieces(word[cut + 1 :], start + cut + 1)]
        if len(word) > 1 and any(map(is_spaceless, word)):
            return self._longest_first(word, start)
        return [(self._spelling(_plain(word)), span)]

    def _known(self, word: str) -> str | None:
        """Return the table's spelling of a word, or None where it has none."""
        rows, _ = self._table
        tried = [_plain(word)]
        if not word.isascii():
            tried += [tried[0].replace("'", other) for other in APOSTROPHES[1:3] if "'" in tried[0]]
            tried += [compose(word), "".join(c for c in tried[0] if c not in "\u200c\u200d")]
        elif "'" in word:
            tried += [word.replace("'", other) for other in APOSTROPHES[1:3]]
        return next((spelling for each in tried if (spelling := self._spelling(each)) in rows), None)

    def _longest_first(self, word: str, start: int) -> list[tuple[str, tuple[int, int]]]:
        """Cut letters of a script without spaces into the longest words of the table, from left to right; what
        lies between them, and letters of other scripts, are words of their own.
        """
        pieces: list[tuple[str, tuple[int, int]]] = []
        at = open_from = 0

        def close(end: int) -> None:
            if end > open_from:
                part = word[open_from:end]
                spelling = self._known(part) or self._spelling(_plain(part))
                pieces.append((spelling, (start + open_from, start + end)))

        while at < len(word):
            ends = range(min(len(word), at + LONGEST_UNSPACED), at, -1)
            whole = (end for end in ends if end == len(word) or not is_mark(word[end]))
            found = None
            if is_spaceless(word[at]) and not is_mark(word[at]):
                found = next(((known, end) for end in whole if (known := self._known(word[at:end]))), None)
            if found is not None:
                close(at)
                pieces.append((found[0], (start + at, start + found[1])))
                at = open_from = found[1]
                continue
            if (
                at > open_from
                and is_spaceless(word[at]) != is_spaceless(word[at - 1])
                and not is_mark(word[at])
            ):
                close(at)
                open_from = at
            at += 1
        close(len(word))
        return pieces


def words_of(text: str) -> list[tuple[int, int]]:
    """Return where the words of a text begin and end: letters and digits with their accents and vowel signs, and
    single apostrophes, hyphens and points between two of these.
    """
    words: list[tuple[int, int]] = []
    begin: int | None = None
    for place, letter in enumerate(text):
        if letter.isalnum():
            begin = place if begin is None else begin
            continue
        if begin is None:
            continue
        following = text[place + 1 : place + 2]
        goes_on = is_mark(letter) and letter != "\u200c"
        if not goes_on and letter in _WITHIN and following.isalnum():
            goes_on = text[place - 1].isalnum() or is_mark(text[place - 1])
        if not goes_on:
            words.append((begin, place))
            begin = None
    return words if begin is None else [*words, (begin, len(text))]


def _plain(word: str) -> str:
    """Return a word composed, with plain apostrophes."""
    for other in APOSTROPHES[1:]:
        word = word.replace(other, "'")
    return compose(word)


def with_composed(rows: dict[str, int]) -> dict[str, int]:
    """Add the composed form of words whose accents are characters of their own, and return the rows."""
    others = [(compose(word), row) for word, row in rows.items() if compose(word) != word]
    for word, row in others:
        rows.setdefault(word, row)
    return rows


def column_names(dims: int) -> tuple[str, ...]:
    """Return vector_0 .. vector_<dims - 1>."""
    return tuple(f"vector_{index}" for index in range(dims))


def read_array(path: Path, words: Path) -> tuple[dict[str, int], NDArray[np.float32]]:
    """Return word -> row, and the vectors (words, D) float32 of a .npy file, which stay on the disk.

    Args:
        path: the .npy file.
        words: its words in its order, .txt or .parquet; of words that occur twice the first counts.

    Raises:
        AssetError: the array cannot be read, or has another length than the list of words.
        OSError, ValueError: the words cannot be read.
    """
    vectors = map_array(path)
    listed = _read_words(words)
    if len(vectors) != len(listed):
        raise AssetError(f"{path}: holds {len(vectors)} vectors, but {words} {len(listed)} words")
    return with_composed({word: row for row, word in reversed(list(enumerate(listed)))}), vectors


def map_array(path: Path) -> NDArray[np.float32]:
    """Map a .npy file of (words, D) into memory.

    Raises:
        AssetError: it cannot be read, or has another shape.
    """
    try:
        vectors: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise AssetError(f"{path}: not an array that can be read: {error}") from error
    if vectors.ndim != 2:
        raise AssetError(f"{path}: found the shape {vectors.shape}, expected (words, dims)")
    return vectors


def _read_words(path: Path) -> list[str]:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        words: list[str] = pyarrow.parquet.read_table(path).column(0).to_pylist()
        return words
    lines = path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    return [line.removesuffix("\r") for line in lines]


def read_text(path: Path) -> tuple[dict[str, int], NDArray[np.float32]]:
    """Return word -> row, and the vectors (words, D) float32 of a file with a word and its numbers a line.

    A first line of two numbers, as word2vec writes it, is passed over; of words that occur twice the first
    counts.

    Raises:
        ValueError: a line is something else, or there is none, or there are fewer than the first line says.
    """
    rows: dict[str, int] = {}
    vectors: list[NDArray[np.float32]] = []
    count, lines = None, 0
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            parts = line.rstrip().split(" ")
            if number == 1 and len(parts) == 2:
                count = int(parts[0]) if all(part.isdecimal() for part in parts) else None
                continue
            lines += 1
            width = len(vectors[0]) if vectors else len(parts) - 1
            word, vector = " ".join(parts[:-width]), np.array(parts[-width:], np.float32)
            if not word or not np.isfinite(vector).all():
                raise ValueError(f"line {number}: expected a word and {width} numbers")
            if word not in rows:
                rows[word] = len(vectors)
                vectors.append(vector)
    if not vectors:
        raise ValueError("there is no line with a word and its numbers")
    if count is not None and lines < count:
        raise ValueError(f"cut short: its first line says {count} words, found {lines}")
    return with_composed(rows), np.stack(vectors)
