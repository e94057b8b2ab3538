"""Static word vectors (GloVe, Pennington et al., 2014): one row a word, looked up in a file.

The default is the asset ``glove``: 400,000 words, 50 dimensions. Vectors stay on the disk and are mapped into
memory.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from pipeline.data.store import FeatureSequence, Status
from pipeline.errors import AssetError, StreamMissing
from pipeline.extraction.extractors.base import BaseExtractor, Clip, ExtractorSettings, token_times

VECTORS, WORDS = "glove_6B_50d_emb.npy", "glove_6B_index.parquet"
_WORD = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*")
_CONTRACTION = re.compile(r"(n['’]t|['’](?:s|m|d|re|ll|ve))$")


class GloveSettings(ExtractorSettings):
    """Which vectors.

    Attributes:
        path: a .txt or .vec file (a word and its numbers a line; word2vec's first line is passed over) or a
            .npy file of (words, dims); null: the asset ``glove``. word2vec's .bin files are read by the
            extractor ``word2vec``.
        words: the words of a .npy file in its order: .txt, one a line, or .parquet with one column of
            strings.
    """

    path: Path | None = None
    words: Path | None = None

    @model_validator(mode="after")
    def _go_together(self) -> GloveSettings:
        if self.path is not None and self.path.suffix not in (".npy", ".txt", ".vec"):
            way_out = "; the extractor word2vec reads it" if self.path.suffix == ".bin" else ""
            raise ValueError(f"found the path {self.path}, expected a .npy, .txt or .vec file{way_out}")
        if (self.words is not None) != (self.path is not None and self.path.suffix == ".npy"):
            raise ValueError("words goes with a path that ends in .npy, and is needed by it")
        return self


class Extractor(BaseExtractor[GloveSettings]):
    """The vectors (T, D) of the T words of a transcript, in lower case and without punctuation.

    An unknown word is zeros with flag 0; a transcript without any known word is *missing*. Contractions that
    are no words of the file are split as its authors' tokenizer does (don't: do, n't). There are no token ids:
    rows of the file are no vocabulary of any encoder.
    """

    modality = "text"
    Settings = GloveSettings
    libraries: ClassVar[tuple[str, ...]] = ("numpy",)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """vector_0 .. vector_<D-1>."""
        path = self.settings.path or self.assets / VECTORS
        quick = path.suffix == ".npy" and path.is_file()  # without reading the words
        width = self._load(path).shape[-1] if quick else self._table[1].shape[1]
        return tuple(f"vector_{index}" for index in range(width))

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of the settings."""
        return tuple(path for path in (self.settings.path, self.settings.words) if path is not None)

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

    def _spelling(self, word: str) -> str:
        """Return a word as these vectors spell it: in lower case."""
        return word.lower()

    @cached_property
    def _table(self) -> tuple[dict[str, int], NDArray[np.float32]]:
        """Return word -> row, and the vectors (words, D) float32."""
        from pipeline.assets import load_checked

        path, words = self.settings.path, self.settings.words
        try:
            if path is not None and path.suffix != ".npy":
                return _read_text(path)
            if path is None or words is None:
                path, words = load_checked(self.assets, VECTORS), load_checked(self.assets, WORDS)
            vectors = self._load(path)
            listed = _read_words(words)
        except (OSError, ValueError) as error:
            raise AssetError(f"{path}: no table of word vectors: {error}") from error
        if len(vectors) != len(listed):
            raise AssetError(f"{path}: holds {len(vectors)} vectors, but {words} {len(listed)} words")
        return {word: row for row, word in reversed(list(enumerate(listed)))}, vectors

    def _load(self, path: Path) -> NDArray[np.float32]:
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


def _read_text(path: Path) -> tuple[dict[str, int], NDArray[np.float32]]:
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
