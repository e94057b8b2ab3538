"""Tiny real media: a few 64x48 pictures and a tone, encoded once for each kind and then copied."""

from __future__ import annotations

import functools
import io
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE_HZ = 16_000
FRAMES_A_SECOND = 10
VIDEO_CODECS = {"mp4": "libx264", "avi": "mpeg4", "flv": "flv"}
AUDIO_CODECS = {"mp4": "aac", "avi": "pcm_s16le", "flv": "aac", "mp3": "libmp3lame"}


def write_clip(
    path: Path, seconds: float = 0.6, *, audio: bool = True, video: bool = True, width: int = 64
) -> Path:
    """Write an mp4, avi, flv or (sound alone) mp3: left half dark, right half bright, a tone of 440 Hz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(path.suffix[1:], seconds, audio, video, width))
    return path


def write_wav(
    path: Path, seconds: float = 0.6, *, odd_chunk: bool = False, claimed: float | None = None
) -> Path:
    """Write 16-bit mono PCM.

    Args:
        path: the file.
        seconds: its length.
        odd_chunk: put a LIST chunk of odd length (and its pad byte) before the samples, as editors do.
        claimed: let the header promise this many seconds instead, as in a file that was cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)
    samples = (tone * 32767).astype("<i2").tobytes()
    size = len(samples) if claimed is None else round(claimed * RATE_HZ) * 2
    chunks = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE_HZ, RATE_HZ * 2, 2, 16)
    if odd_chunk:
        chunks += b"LIST" + struct.pack("<I", 5) + b"INFO1" + b"\0"
    chunks += b"data" + struct.pack("<I", size) + samples
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    return path


def picture(number: int, width: int) -> np.ndarray:
    """Return frame ``number``, (48, width, 3) uint8; a test that needs faces puts another in its place, and
    clears :func:`encoded` before and after.
    """
    pixels = np.full((48, width, 3), 40 + number, np.uint8)
    pixels[:, width // 2 :] = 200
    return pixels


@functools.cache
def encoded(kind: str, seconds: float, audio: bool, video: bool, width: int) -> bytes:
    """Return a file's bytes."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        if video:
            pictures = container.add_stream(VIDEO_CODECS[kind], rate=FRAMES_A_SECOND)
            height, wide, _ = picture(0, width).shape
            pictures.width, pictures.height, pictures.pix_fmt = wide, height, "yuv420p"
        if audio:
            sound = container.add_stream(AUDIO_CODECS[kind], rate=RATE_HZ, layout="mono")
        if video:
            for number in range(round(seconds * FRAMES_A_SECOND)):
                frame = av.VideoFrame.from_ndarray(picture(number, width), format="rgb24")
                container.mux(pictures.encode(frame))
            container.mux(pictures.encode(None))
        if audio:
            tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)
            for start in range(0, len(tone), 1024):
                part = (tone[start : start + 1024] * 32767).astype(np.int16)[None]
                heard = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
                heard.sample_rate, heard.pts, heard.time_base = RATE_HZ, start, Fraction(1, RATE_HZ)
                container.mux(sound.encode(heard))
            container.mux(sound.encode(None))
    return buffer.getvalue()
