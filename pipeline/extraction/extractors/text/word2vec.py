"""Static word vectors in word2vec's formats (Mikolov et al., 2013), looked up in a file that you provide.

No Python package contains them: name a file in ``extractors.text.word2vec.path``, or a folder with one in
``assets.word2vec.path``. _word_vectors.py splits a transcript into words, as for glove; the spelling differs:
these vectors have capital letters, so that a word is looked up as it is written, else in lower case, else with
# for each digit, as the GoogleNews vectors write numbers.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from pipeline.errors import AssetError
from pipeline.extraction.extractors.text._word_vectors import (
    WordVectors,
    WordVectorSettings,
    read_array,
    read_text,
    with_composed,
)

_SUFFIXES = (".bin", ".txt", ".vec", ".npy")
LONGEST_WORD = 4096  # bytes; more without a space is no word2vec file
WIDEST = 16384  # dimensions


class Word2vecSettings(WordVectorSettings):
    """Which vectors are used.

    Attributes:
        path: a .bin file of word2vec, a .txt or .vec file (a word and its numbers a line, with or without the
            line of counts), or a .npy file of (words, dims); null: the one in the folder that
            ``assets.word2vec.path`` names.
        words: the words of a .npy file in its order: .txt, one a line, or .parquet with one column of
            strings.
    """

    @model_validator(mode="after")
    def _known_ending(self) -> Word2vecSettings:
        if self.path is not None and self.path.suffix not in _SUFFIXES:
            raise ValueError(
                f"found the path {self.path}, expected a file that ends in {', '.join(_SUFFIXES)}"
            )
        return self


class Extractor(WordVectors[Word2vecSettings]):
    """The vectors (T, D) of the T words of a transcript.

    An unknown word is zeros with flag 0; a transcript without any known word is *missing*. The vectors of a
    .bin or .npy file stay on the disk; of a .bin file only the words and where they lie are kept in memory.
    """

    Settings = Word2vecSettings

    def _spelling(self, word: str) -> str:
        """Return a word as these vectors spell it; one that they do not know, as it is written."""
        rows, _ = self._table
        tried = (word, word.lower(), re.sub(r"\d", "#", word))
        return next((spelling for spelling in tried if spelling in rows), word)

    @cached_property
    def _table(self) -> tuple[dict[str, int], Any]:
        """Return word -> row, and the vectors: (words, D) float32, or what is indexed like them by a list."""
        path, words = self._paths()
        try:
            if path.suffix == ".npy":
                return read_array(path, words)
            return read_binary(path) if path.suffix == ".bin" else read_text(path)
        except (OSError, ValueError) as error:
            raise AssetError(f"{path}: no table of word vectors: {error}") from error

    def _paths(self) -> tuple[Path, Path]:
        """Return the vectors' file and, if it is a .npy file, that of its words."""
        from pipeline.data.assets import load_checked, read_record

        if self.settings.path is not None:
            return self.settings.path, self.settings.words or Path()
        files = sorted(read_record(self.assets)["files"]) if (self.assets / "asset.json").is_file() else []
        found = [file for file in files if file.endswith((".bin", ".vec", ".npy"))]
        beside = [file for file in files if file.endswith((".txt", ".parquet"))]
        if not found:
            found = [file for file in beside if file.endswith(".txt")]
        if len(found) != 1 or (found[0].endswith(".npy") and len(beside) != 1):
            raise AssetError(
                f"word2vec: no vectors are given ({self.assets} holds {', '.join(files) or 'none'}). Write "
                "extractors.text.word2vec.path: /your/vectors.bin in params.yaml, or assets.word2vec: "
                "{path: /a/folder} with one .bin, .vec or .txt file, or one .npy file and its words"
            )
        words = load_checked(self.assets, beside[0]) if found[0].endswith(".npy") else Path()
        return load_checked(self.assets, found[0]), words


class BinaryVectors:
    """The vectors of a word2vec .bin file, read when they are asked for.

    Attributes:
        shape: (words, dims).
    """

    def __init__(self, mapped: mmap.mmap, offsets: NDArray[np.int64], dims: int) -> None:
        self._mapped, self._offsets = mapped, offsets
        self.shape = (len(offsets), dims)

    def __getitem__(self, rows: Sequence[int]) -> NDArray[np.float32]:
        """Return (len(rows), dims) float32."""
        dims = self.shape[1]
        found = [np.frombuffer(self._mapped, "<f4", dims, int(self._offsets[row])) for row in rows]
        return np.array(found, np.float32).reshape(len(found), dims)


def read_binary(path: Path) -> tuple[dict[str, int], BinaryVectors]:
    """Return word -> row, and the vectors of a word2vec .bin file.

    The file is a line with the counts of words and dimensions, then each word, a space, its numbers as
    little-endian float32 and, from some writers, a line break. Of words that occur twice the first counts.

    Raises:
        ValueError: the file is another, or is cut short.
    """
    with path.open("rb") as file:
        header = file.readline(100).split()
        if len(header) != 2 or not all(part.isdigit() for part in header):
            raise ValueError("the first line is not the counts of words and dimensions of word2vec's .bin")
        count, dims = (int(part) for part in header)
        if not (count and 0 < dims <= WIDEST):
            raise ValueError(f"found {count} words of {dims} dimensions")
        position = file.tell()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if len(mapped) - position < count * (4 * dims + 1):
        raise ValueError(f"cut short: {len(mapped)} bytes cannot hold {count} words of {dims} dimensions")
    rows: dict[str, int] = {}
    offsets = np.zeros(count, np.int64)
    for row in range(count):
        while mapped[position : position + 1] == b"\n":
            position += 1
        space = mapped.find(b" ", position, position + LONGEST_WORD)
        if space < 0 or space + 1 + 4 * dims > len(mapped):
            raise ValueError(f"cut short, or another kind of file: word {row + 1} of {count} does not end")
        rows.setdefault(mapped[position:space].decode("utf-8", "replace"), row)
        offsets[row] = space + 1
        position = space + 1 + 4 * dims
    return with_composed(rows), BinaryVectors(mapped, offsets, dims)
