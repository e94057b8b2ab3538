"""One sample as decoding and the extractors see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.data.manifest import Word

LEAST_SHARE = 0.8  # share of the requested seconds, and of a stream's packets, that must decode
SLACK_S = 0.25  # this much may be missing in any case, because lengths in file headers are rounded


def is_enough(found_s: float, wanted_s: float) -> bool:
    """Say whether enough of a requested part was found for it to count as whole."""
    return found_s >= LEAST_SHARE * wanted_s or wanted_s - SLACK_S <= found_s > 0


@dataclass(frozen=True)
class Clip:
    """One sample as an extractor gets it: its files, the sample's part of them, and its transcript.

    pipeline/extraction/media.py decodes it (``media.read_audio(clip, ...)``, ``media.read_frames(clip, ...)``).
    """

    id: str
    video: Path | None = None
    audio: Path | None = None
    start_s: float | None = None  # of the video file
    end_s: float | None = None
    audio_start_s: float | None = None
    audio_end_s: float | None = None
    picture: str = ""  # "left" or "right": only this half of the picture; empty: all of it
    text: str = ""
    words: tuple[Word, ...] = ()
