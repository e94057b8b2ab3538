"""What a player shows: the shape of pixels, mirrored and turned pictures, fields, colours, the default stream."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import MediaError
from pipeline.extraction import media
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.media import read_audio, read_frames
from tests import clips


def write(path: Path, pictures: NDArray[np.uint8], **how: Any) -> Path:
    """Write (N, H, W, 3) pictures in H.264 with attributes of its codec context, or a display matrix."""
    with av.open(str(path), "w") as container:
        options = {"qp": "4"} | how.pop("options", {})
        stream: Any = container.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = "yuv420p"
        if "matrix" in how:
            stream.set_display_matrix(how.pop("matrix"))
        for name, value in how.items():
            setattr(stream.codec_context, name, value)
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def first(path: Path, *, grey: bool = False, **part: Any) -> NDArray[np.uint8]:
    return next(read_frames(Clip("a", video=path, **part), None, grey=grey))[1]


def square_on(height: int, width: int, high: int, wide: int) -> NDArray[np.uint8]:
    """Return five pictures with a bright rectangle in the middle of a dark one."""
    picture = np.full((height, width, 3), 30, np.uint8)
    top, left = (height - high) // 2, (width - wide) // 2
    picture[top : top + high, left : left + wide] = 220
    return np.repeat(picture[None], 5, axis=0)


def bright(picture: NDArray[np.uint8]) -> tuple[int, int]:
    """Return height and width of what is bright."""
    mask = (picture if picture.ndim == 2 else picture[..., 1]) > 125
    return int(mask.any(axis=1).sum()), int(mask.any(axis=0).sum())


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize(
    ("size", "pixel", "shown"),
    [
        ((360, 720), Fraction(2, 3), (540, 720)),  # 720 x 360 that is shown as 4:3
        ((288, 352), Fraction(12, 11), (288, 384)),
        ((48, 64), Fraction(1), (48, 64)),
        ((48, 64), Fraction(1280, 1279), (48, 64)),  # rounded to whole pixels by whoever wrote it
    ],
)
def test_pixels_are_square(
    tmp_path: Path, size: tuple[int, int], pixel: Fraction, shown: tuple[int, int], grey: bool
) -> None:
    # in the scene: a square; as stored: squeezed by the pixels' shape
    high, wide = round(24 * max(1, pixel)), round(24 * max(1, 1 / pixel))
    stored = (high if pixel >= 1 else 24), (24 if pixel >= 1 else wide)
    path = write(tmp_path / "a.mkv", square_on(*size, *stored), sample_aspect_ratio=pixel)
    picture = first(path, grey=grey)
    assert picture.shape[:2] == shown
    height, width = bright(picture)
    assert abs(height - width) <= 2
    half = first(path, picture="left")
    assert half.shape[:2] == (shown[0], shown[1] // 2)


def test_a_pixel_of_no_shape_is_damage(tmp_path: Path) -> None:
    context = SimpleNamespace(sample_aspect_ratio=None, field_order=0)
    stream = SimpleNamespace(sample_aspect_ratio=Fraction(1, 200), codec_context=context)
    part: Any = SimpleNamespace(path=tmp_path / "a.mp4", stream=stream)
    with pytest.raises(MediaError, match=r"a\.mp4: damaged: it says that its pixels are 1/200 times as wide"):
        media._pixel_shape(part)


ONE = 1 << 16


@pytest.mark.parametrize(
    ("matrix", "place"),
    [  # a stored (x, y) is shown at (a x + c y, b x + d y); the bright corner is stored at the top left
        ((-1, 0, 0, 1), (0, 1)),  # mirrored, as a phone's front camera writes it
        ((1, 0, 0, -1), (1, 0)),  # upside down
        ((0, 1, 1, 0), (0, 0)),  # transposed
        ((0, -1, -1, 0), (1, 1)),  # transposed about the other diagonal
        ((0, 1, -1, 0), (0, 1)),  # a quarter clockwise
        ((-1, 0, 0, -1), (1, 1)),
    ],
)
def test_turned_and_mirrored(
    tmp_path: Path, matrix: tuple[int, int, int, int], place: tuple[int, int]
) -> None:
    picture = np.full((48, 64, 3), 30, np.uint8)
    picture[:16, :20] = 220
    a, b, c, d = matrix
    full = [a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30]
    found = first(write(tmp_path / "a.mp4", np.repeat(picture[None], 3, axis=0), matrix=full))
    assert found.shape == ((48, 64, 3) if a else (64, 48, 3))
    corners = {(y, x): found[-y, -x, 1] > 125 for y in (0, 1) for x in (0, 1)}
    assert [corner for corner, is_bright in corners.items() if is_bright] == [place]


@pytest.mark.parametrize(("order", "kept"), [("tff=1", 0), ("bff=1", 1)])
def test_of_an_interlaced_picture_one_field_is_taken(tmp_path: Path, order: str, kept: int) -> None:
    pictures = np.full((5, 64, 64, 3), 30, np.uint8)
    for line in range(64):  # a bar that moves by 20 pixels between the two fields
        left = 10 if line % 2 == kept else 30
        pictures[:, line, left : left + 10] = 220
    path = write(
        tmp_path / "a.mkv", pictures, options={"qp": "0", "x264-params": order, "flags": "+ildct+ilme"}
    )
    for grey in (False, True):
        picture = first(path, grey=grey)
        level = picture if grey else picture[..., 1]
        assert (level[4:-4, 12:18] > 150).all()  # the first field's bar, without teeth
        assert (level[4:-4, 32:38] < 60).all()


def test_one_field_by_hand() -> None:
    picture = np.array([[10], [90], [20], [90], [40]], np.uint8)
    assert media._one_field(picture, 0).ravel().tolist() == [10, 15, 20, 30, 40]
    assert media._one_field(picture, 1).ravel().tolist() == [90, 90, 90, 90, 90]


@pytest.mark.parametrize(("full", "expected"), [(False, 121), (True, 120)])
def test_the_range_of_the_colours_is_honoured(tmp_path: Path, full: bool, expected: int) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.color_range = 2 if full else 1
        for index in range(3):
            frame = av.VideoFrame(64, 48, "yuv420p")
            for plane, value in zip(frame.planes, (120, 128, 128), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            frame.color_range = 2 if full else 1
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    # (120 - 16) * 255 / 219 = 121.1 in the narrow range; 120 in the full one
    assert abs(int(first(path, grey=True)[24, 32]) - expected) <= 0.5
    assert np.abs(first(path)[24, 32].astype(int) - expected).max() <= 1


def test_the_default_stream_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        sounds: list[Any] = [container.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(2)]
        pictures: list[Any] = [
            container.add_stream("libx264", rate=25, options={"qp": "4"}) for _ in range(2)
        ]
        for stream in pictures:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for stream in (sounds[1], pictures[1]):
            stream.disposition = av.stream.Disposition.default
        for stream in (sounds[0], pictures[0]):
            stream.disposition = av.stream.Disposition.comment
        for stream, level in zip(pictures, (40, 200), strict=True):
            for index in range(25):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), "rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        for stream, hz in zip(sounds, (200.0, 1000.0), strict=True):
            samples = np.round(clips.tone(1, 16_000, hz) * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 16_000, 0, Fraction(1, 16_000)
            container.mux([*stream.encode(frame), *stream.encode(None)])
    clip = Clip("a", video=path, audio=path)
    assert abs(float(next(read_frames(clip, 8))[1].mean()) - 200) < 3
    spectrum = np.abs(np.fft.rfft(read_audio(clip, 16_000)))
    assert int(np.argmax(spectrum)) == pytest.approx(1000, abs=2)
