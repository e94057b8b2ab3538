"""Small real media for tests: pictures that tell their number, tones, and ways to damage a file."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 64, 48
WHOLE_S, PIECE_S, PIECES_RATE = 9, 3.0, 24
FORMATS = {"mkv": "matroska", "ts": "mpegts"}


def level(number: int) -> int:
    """Return the grey that picture ``number`` of a clip is painted in."""
    return 20 + 3 * (number % 70)


def number(picture: NDArray[np.uint8]) -> int:
    """Return which picture of its clip this is, from the grey in its middle."""
    middle = picture[picture.shape[0] // 3 : -picture.shape[0] // 3].astype(float).mean()
    return round((middle - 20) / 3)


def write_clip(
    path: Path,
    *,
    seconds: float = 1.0,
    rate: int = 24,
    picture: bool = True,
    picture_times_s: Sequence[float] | None = None,
    pixels: NDArray[np.uint8] | None = None,
    sound: bool = True,
    sound_rate: int = 44_100,
    layout: str = "mono",
    picture_from_s: float = 0.0,
    sound_from_s: float = 0.0,
    pause_s: tuple[float, float] = (0.0, 0.0),
    tone_hz: float = 440.0,
    silent: bool = False,
    opposed: bool = False,
    index_first: bool = False,
    pixel: Fraction | None = None,
) -> Path:
    """Write a clip of numbered pictures and a tone of amplitude 0.3; the name's ending says which container.

    Args:
        path: where; .mp4, .mov and .ts (H.264, AAC), .mkv (H.264, PCM), .wav or .mp3 (sound alone).
        seconds: how long.
        rate: pictures a second.
        picture, sound: whether there is such a stream.
        picture_times_s: when each picture is shown, for a varying rate; instead of ``rate``.
        pixels: this (H, W, 3) picture throughout, or these (N, H, W, 3), instead of numbered ones.
        sound_rate, layout: of the sound, such as 48000 and "5.1".
        picture_from_s, sound_from_s: when the first picture is shown, and when the sound begins.
        pause_s: seconds of the sound that are left out; what follows keeps its time.
        tone_hz: its pitch.
        silent: zeros instead of a tone.
        opposed: every other channel is negated, so that their mean is silence.
        pixel: how many times as wide as high each pixel is shown.
        index_first: put an mp4's index before its data, so that a cut file still opens.
    """
    options = {"movflags": "faststart"} if index_first else {}
    kind = path.suffix[1:]
    with av.open(str(path), "w", format=FORMATS.get(kind, kind), options=options) as container:
        picture_stream = sound_stream = None
        if picture and kind not in ("wav", "mp3"):
            picture_stream = container.add_stream("libx264", rate=rate, options={"qp": "10", "bf": "2"})
            height, width = (HEIGHT, WIDTH) if pixels is None else pixels.shape[-3:-1]
            picture_stream.width, picture_stream.height, picture_stream.pix_fmt = width, height, "yuv420p"
            picture_stream.codec_context.time_base = Fraction(1, 1000)
            if pixel is not None:
                picture_stream.codec_context.sample_aspect_ratio = pixel
        if sound:
            codec = {"wav": "pcm_s16le", "mkv": "pcm_s16le", "mp3": "mp3"}.get(kind, "aac")
            sound_stream = container.add_stream(codec, rate=sound_rate, layout=layout)
        if picture_stream is not None:
            times = picture_times_s or [
                picture_from_s + index / rate for index in range(round((seconds - picture_from_s) * rate))
            ]
            for index, time_s in enumerate(times):
                if pixels is None:
                    image = np.full((HEIGHT, WIDTH, 3), level(index), np.uint8)
                else:
                    image = pixels if pixels.ndim == 3 else pixels[index]
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = round(time_s * 1000), Fraction(1, 1000)
                container.mux(picture_stream.encode(frame))
            container.mux(picture_stream.encode(None))
        if sound_stream is not None:
            samples = tone(seconds - sound_from_s, sound_rate, 0.0 if silent else tone_hz)
            channels = av.AudioLayout(layout).nb_channels
            signs = np.array([-1 if opposed and channel % 2 else 1 for channel in range(channels)])
            for start in range(0, len(samples), 1024):
                if pause_s[0] <= start / sound_rate < pause_s[1]:
                    continue
                part = np.round(samples[start : start + 1024] * 32767)[:, None] * signs
                frame = av.AudioFrame.from_ndarray(part.astype(np.int16).reshape(1, -1), "s16", layout)
                frame.sample_rate, frame.time_base = sound_rate, Fraction(1, sound_rate)
                frame.pts = start + round(sound_from_s * sound_rate)
                container.mux(sound_stream.encode(frame))
            container.mux(sound_stream.encode(None))
    return path


def write_whole(path: Path, picture: str | None, sound: str, kind: str | None = None) -> Path:
    """Write nine seconds of numbered pictures, a key picture each half second, and of a rising tone's levels."""
    with av.open(str(path), "w", format=kind) as container:
        pictures: Any = None
        if picture:
            options = {"q": "2"} if picture == "mpeg4" else {"qp": "10", "bf": "2"}
            pictures = container.add_stream(picture, rate=PIECES_RATE, options=options)
            pictures.width, pictures.height, pictures.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            pictures.gop_size = 12
        sounds = container.add_stream(sound, rate=48_000, layout="mono")
        samples = np.round(tone(WHOLE_S, 48_000) * 32767).astype(np.int16)
        place = 0
        for number in range(WHOLE_S * PIECES_RATE):
            if pictures:
                image = np.full((HEIGHT, WIDTH, 3), level(number), np.uint8)
                frame = av.VideoFrame.from_ndarray(image, "rgb24")
                frame.pts, frame.time_base = number, Fraction(1, PIECES_RATE)
                container.mux(pictures.encode(frame))
            while place < len(samples) * (number + 1) / (WHOLE_S * PIECES_RATE):
                frame = av.AudioFrame.from_ndarray(samples[None, place : place + 960], "s16", "mono")
                frame.sample_rate, frame.pts, frame.time_base = 48_000, place, Fraction(1, 48_000)
                container.mux(sounds.encode(frame))
                place += 960
        if pictures:
            container.mux(pictures.encode(None))
        container.mux(sounds.encode(None))
    return path


def segments(whole: Path, folder: Path, kind: str) -> list[Path]:
    """Cut a file as ``ffmpeg -c copy -f segment -segment_time 3`` does: time stamps stay."""
    options = {"segment_time": str(PIECE_S), "segment_format": kind}
    with (
        av.open(str(whole)) as source,
        av.open(str(folder / "piece%d"), "w", format="segment", options=options) as target,
    ):
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return sorted(folder.glob("piece*"))


def tone(seconds: float, rate: int, hz: float = 440.0) -> NDArray[np.float64]:
    """Return a sine of amplitude 0.3."""
    return 0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def cut(source: Path, target: Path, share: float) -> Path:
    """Write the first ``share`` of a file's bytes."""
    data = source.read_bytes()
    target.write_bytes(data[: round(len(data) * share)])
    return target


def turn(path: Path, degrees: int) -> Path:
    """Say in an mp4's track header that players must turn the picture clockwise by 90, 180 or 270 degrees."""
    a, b = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    return _show_by(path, (a, b, -b, a))


def mirror(path: Path) -> Path:
    """Say in an mp4's track header that players must mirror the picture, as phones' front cameras do."""
    return _show_by(path, (-1, 0, 0, 1))


def _show_by(path: Path, turned: tuple[int, int, int, int]) -> Path:
    a, b, c, d = turned
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40  # version and flags, times, id, duration, layer, volume: version 0
    matrix = [a, b, 0, c, d, 0, 0, 0]
    data[start : start + 36] = struct.pack(">8i", *(value << 16 for value in matrix)) + struct.pack(
        ">i", 1 << 30
    )
    path.write_bytes(data)
    return path


def with_cover(path: Path, picture: NDArray[np.uint8]) -> Path:
    """Write an mp3 whose only picture is its cover."""
    bare = write_clip(path.with_name("bare.mp3"), picture=False)
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = picture.shape[1], picture.shape[0], "rgb24"
    encoder.time_base = Fraction(1, 1)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    image = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
    body = b"\0image/png\0\x03\0" + image
    tag = b"APIC" + struct.pack(">I", len(body)) + b"\0\0" + body
    size = bytes((len(tag) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\x03\0\0" + size + tag + bare.read_bytes())
    return path
