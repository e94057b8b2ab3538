"""Bring text, audio and video to one length: average rows over words, or resample. Each modality has its own setting.

``align: words`` gives one row for each word of the manifest's forced alignment, as the CMU SDK does: the rows
within a word's interval are averaged; of text, the rows of the word's pieces and of what follows them up to the
next aligned word (pipeline/extraction/extractors/base.py, ``token_times``). ``align: 50`` gives fifty rows. UMDF and
MISA's aligned edition need the same length in all three modalities. The cache holds the results before they
are aligned, so that a change of this setting does not extract anything again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.data.manifest import Word
from pipeline.data.store import FeatureSequence, Status

Align = Literal["none", "words"] | int


def aligned(sequence: FeatureSequence, words: Sequence[Word], align: Align) -> FeatureSequence:
    """Return the sequence with one row for each word, or with a given number of rows.

    Only observed rows are averaged; a word or stretch without any is a row of zeros with flag 0. Token ids are
    dropped, because a row no longer belongs to one token.

    Args:
        sequence: as extracted; one whose status is not OK is returned unchanged.
        words: the sample's words, with times from its start.
        align: "none", "words" or the number of rows.

    Returns:
        The new sequence. With "words", it is *missing* when the sample has no words with times.
    """
    if align == "none" or sequence.status is not Status.OK:
        return sequence
    if align == "words":
        if not words:
            return FeatureSequence.absent(
                sequence.values.shape[1], Status.MISSING, "no times of words to align with"
            )
        spans = np.array([(word.start_s, word.end_s) for word in words])
        within = _spoken if sequence.tokens else _within
        members = [within(sequence.times, start, end) for start, end in spans]
        times = np.maximum.accumulate(spans.mean(axis=1))
        return _averaged(sequence, members, times, tuple(word.text for word in words))
    edges = np.linspace(0, len(sequence.times), int(align) + 1)
    members = [np.arange(int(low), max(int(low) + 1, int(np.ceil(high)))) for low, high in pairwise(edges)]
    times = np.array([sequence.times[rows].mean(dtype=np.float64) for rows in members])
    return _averaged(sequence, members, times, ())


def _within(times: NDArray[np.float32], start_s: float, end_s: float) -> NDArray[np.int64]:
    """Return the indices of the frames within a word; for a word between two frames, that of the nearest one."""
    inside = np.flatnonzero((times >= start_s) & (times < end_s))
    if not len(inside) and len(times):
        middle = (start_s + end_s) / 2
        nearest = int(np.argmin(np.abs(times - middle)))
        step = float(np.median(np.diff(times))) if len(times) > 1 else end_s - start_s
        if abs(float(times[nearest]) - middle) <= step:
            inside = np.array([nearest])
    return inside


def _spoken(times: NDArray[np.float32], start_s: float, end_s: float) -> NDArray[np.int64]:
    """Return the indices of a word's tokens: those whose time is within it; unlike frames, never a neighbour's."""
    middle = np.float32(
        (start_s + end_s) / 2
    )  # if start and end are equal, the time of the word's own tokens
    return np.flatnonzero(((times >= start_s) & (times < end_s)) | (times == middle))


def _averaged(
    sequence: FeatureSequence,
    members: Sequence[NDArray[np.int64]],
    times: NDArray[np.float64],
    tokens: tuple[str, ...],
) -> FeatureSequence:
    values = np.zeros((len(members), sequence.values.shape[1]), np.float32)
    flags = np.zeros(len(members), np.uint8)
    for row, inside in enumerate(members):
        seen = inside[sequence.flags[inside] != 0]
        if len(seen):
            values[row], flags[row] = sequence.values[seen].mean(axis=0, dtype=np.float64), 1
    return FeatureSequence(values, times.astype(np.float32), flags, tokens=tokens)
