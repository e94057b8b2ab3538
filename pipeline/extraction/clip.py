"""What decoding and the extractors get of a sample."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.data.manifest import Word


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
