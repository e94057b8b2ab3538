"""The interface of readers of imported features, and the checks that all of them make.

To add a format, write pipeline/extraction/importers/<name>.py with a class ``Reader`` and name it in
pipeline/extraction/extractors/_foreign.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.data.store import FeatureSequence, ForeignArrays
from pipeline.errors import MediaError, StoreError
from pipeline.extraction.clip import LEAST_SHARE, Clip, is_enough

LIMIT_BYTES = 32 * 2**30  # a larger file is refused before it is read


@dataclass(frozen=True)
class Request:
    """What is to be read from a file.

    Attributes:
        file: the file, or the folder of one file a sample.
        modality: text, audio or video.
        field: which of the file's arrays; empty: the usual one of the modality.
        frame_rate_hz: frames a second, where the file does not give it.
        non_finite: what to do with NaN and infinity: raise an error, or make the frame zeros and unobserved.
    """

    file: Path
    modality: str
    field: str = ""
    frame_rate_hz: float | None = None
    non_finite: Literal["refuse", "zero"] = "refuse"


class Reader(ABC):
    """An open file of imported features.

    Raises:
        StoreError: the file is absent, damaged, or not of this format.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.opened: ForeignArrays | None = None  # an HDF5 file that must be closed in the end

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The names of the D columns."""

    @property
    def frame_period_s(self) -> float | None:
        """Seconds from one frame to the next; None when they are not known or not regular."""
        rate = self.request.frame_rate_hz
        return 1 / rate if rate else None

    @abstractmethod
    def read(self, clip: Clip) -> FeatureSequence | None:
        """Return the clip's features, or None when the file does not have it.

        Raises:
            MediaError, StoreError: they are of another shape, or not numbers.
        """

    def close(self) -> None:
        """Close the file."""
        if self.opened is not None:
            self.opened.close()

    def numbered(self, dims: int) -> tuple[str, ...]:
        """Return numbered names, for columns that have no names."""
        return tuple(f"{self.request.modality}_{number}" for number in range(dims))

    def sequence(
        self,
        values: NDArray[Any],
        where: str,
        *,
        times: NDArray[Any] | None = None,
        flags: NDArray[Any] | None = None,
        tokens: Sequence[str] = (),
        token_ids: NDArray[Any] | None = None,
    ) -> FeatureSequence:
        """Make a sequence of (T, D) numbers, checked against :attr:`columns`.

        Args:
            values: the features; a single row may come as (D,).
            where: file, field and id, for messages.
            times: (T,) seconds from the clip's start; None: by the frame rate, or zeros (not known).
            flags: (T,) 1 where a frame was observed, else 0; None: all were.
            tokens: T words.
            token_ids: (T,) whole numbers.

        Raises:
            MediaError: the shape or dtype is wrong, or there is a NaN or infinity and these are refused.
        """
        if values.ndim == 1:
            values = values[None]
        dims = len(self.columns)
        if values.ndim != 2 or values.shape[1] != dims or values.dtype.kind not in "fiub":
            raise MediaError(
                f"{where}: found {values.dtype} {values.shape}, expected numbers (T, {dims}) like the others"
            )
        numbers = np.ascontiguousarray(values, np.float32)
        seen = np.ones(len(numbers), np.uint8)
        if flags is not None:
            seen = (np.asarray(flags) != 0).astype(np.uint8)
        bad = ~np.isfinite(numbers)
        if bad.any():
            row, column = (int(n) for n in np.argwhere(bad)[0])
            if self.request.non_finite == "refuse":
                raise MediaError(
                    f'{where}: row {row}, column {column} ("{self.columns[column]}") is '
                    f"{numbers[row, column]}; expected a number (or set non_finite: zero)"
                )
            numbers, seen = numbers.copy(), seen.copy()
            seen[bad.any(axis=1)] = 0
        if not seen.all():
            numbers = np.where(seen[:, None] != 0, numbers, np.float32(0))
        if times is None:
            rate = self.request.frame_rate_hz
            times = (np.arange(len(numbers)) + 0.5) / rate if rate else np.zeros(len(numbers))
        return FeatureSequence(
            values=numbers,
            times=np.ascontiguousarray(times, np.float32),
            flags=seen,
            tokens=tuple(tokens),
            token_ids=None if token_ids is None else np.ascontiguousarray(token_ids, np.int64),
        )


def plain_file(path: Path, limit: int | None = None) -> Path:
    """Return the path after checking that it is a file of at most ``limit`` bytes.

    Raises:
        StoreError: it is not there, or too large.
    """
    if not path.is_file():
        raise StoreError(f"{path}: there is no such file")
    most = LIMIT_BYTES if limit is None else limit
    if (size := path.stat().st_size) > most:
        raise StoreError(f"{path}: found {size} bytes, at most {most} are read")
    return path


def file_of(folder: Path, clip: Clip, suffix: str) -> tuple[Path, bool] | None:
    """Return the file of a clip in a folder: its own, or that of its whole video; None when there is neither.

    Returns:
        The path, and whether the clip is a part of it that must be cut out.
    """
    names = [(clip.id, False)]
    names += [(path.stem, True) for path in (clip.video, clip.audio) if path and path.stem != clip.id]
    for name, is_whole in names:
        path = folder / f"{name}{suffix}"
        if "/" not in name and "\\" not in name and path.is_file():
            return path, is_whole and clip.start_s is not None
    return None


def check_covered(times_s: NDArray[Any], clip: Clip, where: str) -> None:
    """Check that a whole video's rows go on to the clip's end, or nearly so.

    Args:
        times_s: (T,) seconds of the video, not decreasing.
        clip: the part.
        where: file and id, for the message.

    Raises:
        MediaError: less of the clip than is enough is there.
    """
    if clip.end_s is None or not len(times_s):
        return
    step_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0
    wanted_s = clip.end_s - (clip.start_s or 0.0)
    last_s = float(times_s[-1]) + step_s
    found_s = max(0.0, min(clip.end_s, last_s) - (clip.start_s or 0.0))
    if not is_enough(found_s, wanted_s):
        raise MediaError(
            f"{where}: its rows end at {last_s:.3f} s, so that {found_s:.2f} s of {wanted_s:.2f} s are there "
            f"({clip.start_s or 0.0:.3f} s to {clip.end_s:.3f} s); at least {LEAST_SHARE:.0%} must"
        )


def cut(sequence: FeatureSequence, clip: Clip, where: str, *, sparse: bool = False) -> FeatureSequence:
    """Return the frames of a whole video that lie in the clip, with times from its start.

    Args:
        sequence: of the whole video.
        clip: the part.
        where: file and id, for messages.
        sparse: rows are words, so that the last one may end before the clip does.

    Raises:
        MediaError: the video's rows end within the part, too early. (Where it has none of the part, that is for
            the caller to say.)
    """
    begin, end = clip.start_s or 0.0, np.inf if clip.end_s is None else clip.end_s
    inside = (sequence.times >= begin) & (sequence.times < end)
    if inside.any() and not sparse:
        check_covered(sequence.times, clip, where)
    return replace(
        sequence,
        values=sequence.values[inside],
        times=(sequence.times[inside] - begin).astype(np.float32),
        flags=sequence.flags[inside],
        tokens=tuple(np.array(sequence.tokens, dtype=object)[inside]) if sequence.tokens else (),
        token_ids=None if sequence.token_ids is None else sequence.token_ids[inside],
    )


def same_id(name: str) -> str:
    """Return an id in this project's form: ``video_clip`` for MMSA's ``video$_$clip``, ``video_3`` for the SDK's
    ``video[3]``.
    """
    if name.endswith("]") and "[" in name:
        name = name[:-1].replace("[", "_")
    return name.replace("$_$", "_")
