"""Static word vectors (GloVe, Pennington et al., 2014): one row for each word, looked up in a file.

The default is the asset ``glove``: 400,000 words, 50 dimensions. The file of vectors is mapped into memory, so that
only the rows that are used are read.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from pipeline.errors import AssetError
from pipeline.extraction.extractors.text._word_vectors import (
    WordVectors,
    WordVectorSettings,
    column_names,
    map_array,
    read_array,
    read_text,
)

VECTORS, WORDS = "glove_6B_50d_emb.npy", "glove_6B_index.parquet"


class GloveSettings(WordVectorSettings):
    """Which vectors are used.

    Attributes:
        path: a .txt or .vec file (a word and its numbers a line; a first line of two numbers, as word2vec writes
            it, is skipped) or a .npy file of (words, dims); null: the asset ``glove``. word2vec's .bin files are
            read by the extractor ``word2vec``.
        words: the words of a .npy file in its order: .txt, one a line, or .parquet with one column of
            strings.
    """

    @model_validator(mode="after")
    def _known_ending(self) -> GloveSettings:
        if self.path is not None and self.path.suffix not in (".npy", ".txt", ".vec"):
            way_out = "; the extractor word2vec reads it" if self.path.suffix == ".bin" else ""
            raise ValueError(f"found the path {self.path}, expected a .npy, .txt or .vec file{way_out}")
        return self


class Extractor(WordVectors[GloveSettings]):
    """The vectors (T, D) of the T words of a transcript, in lower case and without punctuation.

    pipeline/extraction/extractors/text/_word_vectors.py says how a transcript is split into words.
    """

    Settings = GloveSettings

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """vector_0 .. vector_<D-1>."""
        path = self.settings.path or self.assets / VECTORS
        if path.suffix == ".npy" and path.is_file():  # quicker: the words are not read
            return column_names(map_array(path).shape[1])
        return column_names(self._table[1].shape[1])

    def _spelling(self, word: str) -> str:
        """Return a word as these vectors spell it: in lower case."""
        return word.lower()

    @cached_property
    def _table(self) -> tuple[dict[str, int], NDArray[np.float32]]:
        """Return word -> row, and the vectors (words, D) float32."""
        from pipeline.data.assets import load_checked

        path, words = self.settings.path, self.settings.words
        try:
            if path is not None and path.suffix != ".npy":
                return read_text(path)
            if path is None or words is None:
                path, words = load_checked(self.assets, VECTORS), load_checked(self.assets, WORDS)
            return read_array(path, words)
        except (OSError, ValueError) as error:
            raise AssetError(f"{path}: no table of word vectors: {error}") from error
