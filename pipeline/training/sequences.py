"""One modality of all samples as frames: normalised, averaged down, resampled, cut.

What is done to frames, and in which order, is said at the top of pipeline/training/samples.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.data.store import FeatureInfo
from pipeline.params import Length

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Normaliser:
    """z-score statistics of one modality: (value - mean) * scale.

    Attributes:
        mean: (D,) float32.
        scale: (D,) float32, one over the standard deviation; 0 for a column that never changes.
    """

    mean: Floats
    scale: Floats

    def apply(self, values: Floats, observed: NDArray[np.bool_]) -> Floats:
        """Return (T, D) float32, with zeros in the frames that were not observed (T,)."""
        normal: Floats = (values - self.mean) * self.scale
        normal[~observed] = 0
        return normal

    @classmethod
    def fit(cls, values: Floats) -> Normaliser:
        """Take the statistics of (T, D) frames, in float64; a constant column becomes zeros."""
        if not len(values):
            return cls(np.zeros(values.shape[1], np.float32), np.zeros(values.shape[1], np.float32))
        mean = values.mean(axis=0, dtype=np.float64)
        deviation = values.std(axis=0, dtype=np.float64)
        constant = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-6)
        scale = np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, deviation))
        return cls(mean.astype(np.float32), scale.astype(np.float32))


@dataclass(frozen=True)
class Recorded:
    """One modality as extracted, kept where frames can be hidden before they are averaged.

    Attributes:
        values: (sum T, D) float32.
        observed: (sum T,) bool.
        starts: (N,) int64 first row of each sample.
        lengths: (N,) int64 rows of each sample; 0 where it lacks the modality.
        begins, ends: (sum T',) int64: the rows that each averaged frame is made of.
    """

    values: Floats
    observed: NDArray[np.bool_]
    starts: Indices
    lengths: Indices
    begins: Indices
    ends: Indices


@dataclass(frozen=True)
class Sequences:
    """One modality of all samples, ragged.

    Attributes:
        values: (sum T, D) float32, averaged down where the experiment asks for it.
        observed: (sum T,) bool: frames that carry something.
        starts: (N,) int64 first row of each sample.
        lengths: (N,) int64 rows of each sample; 0 where it lacks the modality.
        info: what the store says of itself.
        values_sha256: the store's checksum.
        pool: how many neighbouring frames were averaged into one.
        token_ids: (sum T,) int64, or None.
        length: how the frames were cut or resampled, or None.
        recorded: the frames before they were averaged; None where nothing was averaged, or nobody asked.
        uncut: (N,) int64, the lengths before they were cut.
    """

    values: Floats
    observed: NDArray[np.bool_]
    starts: Indices
    lengths: Indices
    info: FeatureInfo
    values_sha256: str
    pool: int = 1
    token_ids: Indices | None = None
    length: Length | None = None
    recorded: Recorded | None = None
    uncut: Indices | None = None

    @property
    def as_recorded(self) -> tuple[Indices, Indices]:
        """(N,) first rows and (N,) lengths of the frames that a mask counts: before averaging and cutting."""
        if self.recorded is not None:
            return self.recorded.starts, self.recorded.lengths
        return self.starts, self.lengths if self.uncut is None else self.uncut

    def cut_off(self) -> dict[str, float]:
        """Return how many samples were longer than ``lengths`` takes, and what share of all frames was cut off.

        Empty where nothing was.
        """
        if self.uncut is None or not (cut := self.uncut - self.lengths).any():
            return {}
        return {"samples": int((cut > 0).sum()), "frames": round(float(cut.sum() / self.uncut.sum()), 6)}

    def rows(self, samples: Indices) -> Indices:
        """Return the row numbers of these samples, one after the other."""
        lengths = self.lengths[samples]
        begins = np.cumsum(lengths) - lengths
        return np.arange(int(lengths.sum())) + np.repeat(self.starts[samples] - begins, lengths)

    def describe(self) -> dict[str, Any]:
        """Return what a run keeps of where its features came from."""
        return {
            "extractor": self.info.extractor,
            "settings": dict(self.info.settings),
            "columns": list(self.info.columns),
            "frame_period_s": self.info.frame_period_s,
            "pool": self.pool,
            "length": None if self.length is None else self.length.model_dump(mode="json"),
            "values_sha256": self.values_sha256,
        }


def read_frames(
    values: Floats,
    observed: NDArray[np.bool_],
    starts: Indices,
    lengths: Indices,
    info: FeatureInfo,
    checksum: str,
    tokens: Indices | None,
    factor: int,
    length: Length | None,
    *,
    hides_frames: bool = False,
) -> Sequences:
    """Average, resample and cut a modality as extracted.

    Args:
        values: (sum T, D) float32, zeros where nothing was observed.
        observed: (sum T,) bool.
        starts, lengths: (N,) int64 rows of each sample.
        info, checksum: of the store.
        tokens: (sum T,) int64, or None.
        factor: how many neighbouring frames become one.
        length: how to cut or resample, or None.
        hides_frames: whether to keep the frames before they are averaged.
    """
    recorded = None
    resampled = length is not None and length.by == "resample"
    if factor > 1 or resampled:
        tokens = None  # the mean of several tokens is no token
        fewer = -(-lengths // factor)
        if length is not None and resampled:
            fewer = np.where(lengths > 0, length.frames, 0)
        begins, ends = spans(starts, lengths, fewer, None if resampled else factor)
        whole = Recorded(values, observed, starts, lengths, begins, ends)
        recorded = whole if hides_frames else None
        values, observed = pool_rows(whole)
        lengths = fewer
        starts = np.cumsum(fewer) - fewer
    uncut = lengths
    if length is not None:
        lengths = np.minimum(lengths, length.frames)
    return Sequences(
        values, observed, starts, lengths, info, checksum, factor, tokens, length, recorded, uncut
    )


def spans(starts: Indices, lengths: Indices, fewer: Indices, factor: int | None) -> tuple[Indices, Indices]:
    """Return the rows [begin, end) that each averaged frame is made of.

    Args:
        starts: (N,) first rows.
        lengths: (N,) rows T.
        fewer: (N,) how many frames T' they become.
        factor: so many neighbouring rows become one frame, the last of a sample what is left; None: frame i
            is made of the rows from floor(i T / T') to ceil((i + 1) T / T'), so that few rows are repeated.
    """
    step = np.arange(int(fewer.sum())) - np.repeat(np.cumsum(fewer) - fewer, fewer)
    first, count = np.repeat(starts, fewer), np.repeat(lengths, fewer)
    if factor is not None:
        begins = first + step * factor
        return begins, np.minimum(begins + factor, first + count)
    parts = np.repeat(np.maximum(fewer, 1), fewer)
    return first + step * count // parts, first - (-(step + 1) * count // parts)


def pool_rows(recorded: Recorded) -> tuple[Floats, NDArray[np.bool_]]:
    """Return (sum T', D) float32 means over the observed rows of each frame, and whether there was one."""
    begins, ends = torch.from_numpy(recorded.begins), torch.from_numpy(recorded.ends)
    most = int((recorded.ends - recorded.begins).max(initial=0))
    values, observed = average_rows(
        torch.from_numpy(recorded.values), torch.from_numpy(recorded.observed), begins, ends, most
    )
    return values.numpy(), observed.numpy()


def average_rows(
    values: Tensor,
    observed: Tensor,
    begins: Tensor,
    ends: Tensor,
    most: int,
    kept: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Average rows into frames, over those that were observed and, where a mask hides some, are kept.

    Args:
        values: (sum T, D) float32.
        observed: (sum T,) bool.
        begins, ends: (...) int64, the rows of each frame.
        most: rows of the widest frame.
        kept: says of (...) rows which stay; None: all.

    Returns:
        (..., D) means, zeros where there was nothing, and (...) bool.
    """
    total = values.new_zeros((*begins.shape, values.shape[1]))
    count = values.new_zeros(begins.shape)
    for offset in range(most):
        at = begins + offset
        inside = at < ends
        at = torch.where(inside, at, begins.clamp(max=max(len(values) - 1, 0)))
        seen = inside & observed[at]
        if kept is not None:
            seen = seen & kept(at)
        total += torch.where(seen[..., None], values[at], torch.zeros_like(total))
        count += seen
    return total / count.clamp(min=1)[..., None], count > 0
