"""What the extractors of static word vectors share: a transcript in words, looked up in a table."""

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
from pipeline.extraction.extractors.base import BaseExtractor, Clip, ExtractorSettings, token_times

_WORD = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*")
_CONTRACTION = re.compile(r"(n['’]t|['’](?:s|m|d|re|ll|ve))$")


class WordVectorSettings(ExtractorSettings):
    """Which vectors.

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
    are no words of the table are split as GloVe's tokenizer does (don't: do, n't). There are no token ids:
    rows of the table are no vocabulary of any encoder.
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
            piece for found in _WORD.finditer(clip.text) for piece in self._pieces(found[0], found.start())
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
        rows, _ = self._table
        plain = self._spelling(word.replace("’", "'"))
        if plain in rows:
            return [(plain, (start, start + len(word)))]
        if found := _CONTRACTION.search(plain):
            cut = found.start()
            return (
                [*self._pieces(plain[:cut], start), (plain[cut:], (start + cut, start + len(word)))]
                if cut
                else []
            )
        if "-" in plain:
            cut = plain.index("-")
            return [*self._pieces(plain[:cut], start), *self._pieces(plain[cut + 1 :], start + cut + 1)]
        return [(plain, (start, start + len(word)))]


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
    return {word: row for row, word in reversed(list(enumerate(listed)))}, vectors


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
        ValueError: a line is something else, or there is none.
    """
    rows: dict[str, int] = {}
    vectors: list[NDArray[np.float32]] = []
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            parts = line.rstrip().split(" ")
            if number == 1 and len(parts) == 2:
                continue
            width = len(vectors[0]) if vectors else len(parts) - 1
            word, vector = " ".join(parts[:-width]), np.array(parts[-width:], np.float32)
            if not word or not np.isfinite(vector).all():
                raise ValueError(f"line {number}: expected a word and {width} numbers")
            if word not in rows:
                rows[word] = len(vectors)
                vectors.append(vector)
    if not vectors:
        raise ValueError("there is no line with a word and its numbers")
    return rows, np.stack(vectors)
