"""Decoding: which pictures and samples come out, and that every bad file ends in words."""

from __future__ import annotations

import errno
import os
import resource
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import MediaError, MomentaryError, StreamMissing
from pipeline.extraction import media
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.media import LEAST_SHARE, read_audio, read_frames
from tests import clips


def shown(clip: Clip, rate: float | None, **how: bool) -> tuple[list[float], list[int]]:
    pairs = list(read_frames(clip, rate, **how))
    return [time for time, _ in pairs], [clips.number(picture) for _, picture in pairs]


# --- pictures -------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [1, 5, 8, 12, 24, 60])
@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_each_period_gives_the_picture_on_the_screen_at_its_middle(
    tmp_path: Path, rate: int, kind: str
) -> None:
    path = clips.write_clip(tmp_path / f"a.{kind}", seconds=2)
    times, numbers = shown(Clip("a", video=path), rate)
    middles = [(index + 0.5) / rate for index in range(2 * rate)]
    assert times == pytest.approx(middles)
    # where a middle falls on the border of two pictures, time stamps in milliseconds may give either
    assert all(abs(found - middle * 24 + 0.5) <= 0.55 for found, middle in zip(numbers, middles, strict=True))


def test_without_a_rate_every_picture_comes_at_its_own_time(tmp_path: Path) -> None:
    path = clips.write_clip(tmp_path / "a.mp4", seconds=1)
    times, numbers = shown(Clip("a", video=path), None)
    assert numbers == list(range(24))
    assert times == pytest.approx([index / 24 for index in range(24)], abs=1e-3)


def test_a_varying_frame_rate_keeps_time(tmp_path: Path) -> None:
    starts = [0.0, 0.1, 0.9, 1.0, 1.05, 1.8]
    path = clips.write_clip(tmp_path / "a.mp4", picture_times_s=starts, sound=False)
    times, numbers = shown(Clip("a", video=path), 10)
    on_screen = [max(i for i, start in enumerate(starts) if start <= time) for time in times]
    assert numbers == on_screen
    assert times[:18] == pytest.approx([0.05 + 0.1 * index for index in range(18)])


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])
def test_before_the_first_picture_it_is_black(tmp_path: Path, kind: str) -> None:
    path = clips.write_clip(tmp_path / f"a.{kind}", seconds=1.5, rate=8, picture_from_s=0.5)
    clip = Clip("a", video=path, audio=path)
    assert len(read_audio(clip, 16_000)) == pytest.approx(1.5 * 16_000, abs=1_700)
    pairs = list(read_frames(clip, 8))
    assert [time_s for time_s, _ in pairs] == pytest.approx([(index + 0.5) / 8 for index in range(12)])
    pictures = [picture for _, picture in pairs]
    assert [bool(picture.any()) for picture in pictures] == [False] * 4 + [True] * 8
    assert pictures[0].shape == pictures[4].shape
    assert all(picture is pictures[0] for picture in pictures[:4])
    assert [clips.number(picture) for picture in pictures[4:]] == list(range(8))
    # In quarters of a second, the third shows the first picture; the period of 0.4 s to 0.6 s shows it in part.
    for rate, dark in ((4, 2), (5, 2), (1, 0)):
        assert sum(not picture.any() for _, picture in read_frames(clip, rate, grey=True)) == dark
    part = Clip("a", video=path, start_s=0.25, end_s=1.25)
    assert [bool(picture.any()) for _, picture in read_frames(part, 8)] == [False] * 2 + [True] * 6
    times, numbers = shown(clip, None)  # at the file's own rate there are rows where there are pictures
    # in .ts the sound, and with it the time, begins with 23 ms of the codec's run-up
    assert times == pytest.approx([0.5 + index / 8 for index in range(8)], abs=0.025)
    assert numbers == list(range(8))


def test_a_standing_picture_is_the_same_array(tmp_path: Path) -> None:
    path = clips.write_clip(tmp_path / "a.mp4", picture_times_s=[0.0, 1.0, 1.1], sound=False)
    pictures = [picture for _, picture in read_frames(Clip("a", video=path), 8)]
    assert all(picture is pictures[0] for picture in pictures[:8])
    assert pictures[8] is not pictures[0]


@pytest.mark.parametrize("start_s", [0.25, 1.0, 2.5])
@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])  # the last one cannot be sought in
def test_a_part_gives_what_the_whole_gives_there(tmp_path: Path, start_s: float, kind: str) -> None:
    path = clips.write_clip(tmp_path / f"a.{kind}", seconds=4, rate=20)
    whole = dict(zip(*shown(Clip("a", video=path), 8), strict=True))
    times, numbers = shown(Clip("a", video=path, start_s=start_s, end_s=start_s + 1), 8)
    assert times == pytest.approx([(index + 0.5) / 8 for index in range(8)])
    assert numbers == [whole[start_s + time] for time in times]


@pytest.mark.parametrize("end_s", [0.01, 0.05])
def test_a_part_shorter_than_a_period_gives_one_picture(tmp_path: Path, end_s: float) -> None:
    path = clips.write_clip(tmp_path / "a.mp4")
    assert shown(Clip("a", video=path, start_s=0.0, end_s=end_s), 2) == ([pytest.approx(end_s / 2)], [0])
    short = clips.write_clip(tmp_path / "b.mp4", seconds=0.05, rate=20)
    times, numbers = shown(Clip("b", video=short), 8)
    assert (numbers, len(times)) == ([0], 1)
    assert 0 < times[0] < 0.05


def test_half_of_the_picture(tmp_path: Path) -> None:
    pixels = np.full((48, 64, 3), 40, np.uint8)
    pixels[:, 32:] = 200
    path = clips.write_clip(tmp_path / "a.mp4", pixels=pixels)
    for half, value in (("left", 40), ("right", 200)):
        _, picture = next(read_frames(Clip("a", video=path, picture=half), 8))
        assert picture.shape == (48, 32, 3)
        assert picture.flags.c_contiguous
        assert abs(float(picture[:, 4:-4].mean()) - value) < 3


@pytest.mark.parametrize(("degrees", "corner"), [(90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_the_picture_stands_upright(tmp_path: Path, degrees: int, corner: tuple[int, int]) -> None:
    pixels = np.full((48, 64, 3), 40, np.uint8)
    pixels[:16, :16] = 220  # top left as stored; clockwise by 90 degrees that is top right
    path = clips.turn(clips.write_clip(tmp_path / "a.mp4", pixels=pixels, sound=False), degrees)
    _, picture = next(read_frames(Clip("a", video=path), 8))
    assert picture.shape == ((48, 64, 3) if degrees == 180 else (64, 48, 3))
    bright = {at: float(picture[at][0]) > 128 for at in ((0, 0), (0, -1), (-1, 0), (-1, -1))}
    assert [at for at, is_bright in bright.items() if is_bright] == [corner]


def test_colours_are_red_green_blue_and_grey_is_their_luminance(tmp_path: Path) -> None:
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[..., 0] = 250
    path = clips.write_clip(tmp_path / "a.mp4", pixels=pixels)
    _, picture = next(read_frames(Clip("a", video=path), 8))
    assert np.abs(picture.reshape(-1, 3).mean(axis=0) - [250, 0, 0]).max() < 6
    _, grey = next(read_frames(Clip("a", video=path), 8, grey=True))
    assert grey.shape == (48, 64)
    assert abs(grey.mean() - 0.299 * 250) < 6


def test_a_rate_of_nothing_is_refused(tmp_path: Path) -> None:
    path = clips.write_clip(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="frame rate of 0"):
        next(read_frames(Clip("a", video=path), 0))


# --- sound ----------------------------------------------------------------------------


def pitch_hz(samples: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * rate / len(samples)


@pytest.mark.parametrize("target_hz", [8_000, 16_000, 22_050, 48_000])
@pytest.mark.parametrize(
    ("rate", "layout"), [(16_000, "mono"), (44_100, "stereo"), (48_000, "5.1"), (8_000, "mono")]
)
def test_any_rate_and_layout_becomes_one_channel(
    tmp_path: Path, rate: int, layout: str, target_hz: int
) -> None:
    path = clips.write_clip(tmp_path / "a.mkv", picture=False, sound_rate=rate, layout=layout)
    samples = read_audio(Clip("a", audio=path), target_hz)
    assert (samples.dtype, samples.ndim) == (np.float32, 1)
    assert abs(len(samples) - target_hz) <= target_hz * 0.003
    assert pitch_hz(samples, target_hz) == pytest.approx(440, abs=2)
    inner = samples[target_hz // 10 : -target_hz // 10]
    assert float(np.abs(inner).max()) == pytest.approx(0.3, abs=0.01)


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = clips.write_clip(tmp_path / "a.wav", layout="stereo", opposed=True)
    assert float(np.abs(read_audio(Clip("a", audio=path), 16_000)).max()) < 1e-3


def test_samples_of_a_wav_are_its_own(tmp_path: Path) -> None:
    path = clips.write_clip(tmp_path / "a.wav", sound_rate=16_000)
    assert np.allclose(read_audio(Clip("a", audio=path), 16_000), clips.tone(1, 16_000), atol=1 / 32000)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "wav"])
def test_a_part_of_the_sound_is_that_part(tmp_path: Path, kind: str) -> None:
    path = clips.write_clip(tmp_path / f"a.{kind}", seconds=4, tone_hz=37.0)
    whole = read_audio(Clip("a", audio=path), 16_000)
    part = read_audio(Clip("a", audio=path, audio_start_s=2.125, audio_end_s=2.625), 16_000)
    assert len(part) == 8_000
    tolerance = 0.04 if kind == "mkv" else 2e-3  # Matroska rounds its time stamps to milliseconds
    assert np.allclose(part, whole[34_000:42_000], atol=tolerance)


def test_whose_times_cut_the_sound(tmp_path: Path) -> None:
    path = clips.write_clip(tmp_path / "a.mp4", seconds=2)
    other = clips.write_clip(tmp_path / "b.wav", seconds=2)
    same_file = Clip("a", video=path, audio=path, start_s=0.5, end_s=1.0)
    assert len(read_audio(same_file, 16_000)) == 8_000
    own_times = Clip("a", video=path, audio=path, start_s=0.5, end_s=1.0, audio_start_s=0.0, audio_end_s=0.25)
    assert len(read_audio(own_times, 16_000)) == 4_000
    assert len(read_audio(Clip("a", video=path, audio=other, start_s=0.5, end_s=1.0), 16_000)) == 32_000


def test_sound_that_begins_late_stays_in_time(tmp_path: Path) -> None:
    path = clips.write_clip(tmp_path / "a.mkv", seconds=2, sound_from_s=0.5)
    samples = read_audio(Clip("a", video=path, audio=path), 16_000)
    assert abs(len(samples) - 32_000) < 100
    assert float(np.abs(samples[:7_800]).max()) == 0
    assert float(np.abs(samples[8_200:12_000]).max()) > 0.25


@pytest.mark.parametrize("kind", ["mkv", "mp4"])
def test_a_gap_in_the_sound_is_filled_up(tmp_path: Path, kind: str) -> None:
    whole = clips.write_clip(tmp_path / f"whole.{kind}", seconds=3, tone_hz=37.0)
    path = clips.write_clip(tmp_path / f"a.{kind}", seconds=3, tone_hz=37.0, pause_s=(1.0, 1.8))
    expected = read_audio(Clip("a", audio=whole), 16_000)
    samples = read_audio(Clip("a", video=path, audio=path), 16_000)
    assert abs(len(samples) - len(expected)) < 1100  # a frame of the sound more or less at its end
    # the tone's phase is that of the whole sound, before the gap and behind it
    assert np.abs(samples[1_000:15_000] - expected[1_000:15_000]).max() < 0.02
    assert np.abs(samples[31_000:45_000] - expected[31_000:45_000]).max() < 0.03
    assert not samples[17_800:27_000].any()
    part = read_audio(Clip("a", audio=path, audio_start_s=0.5, audio_end_s=2.5), 16_000)
    assert len(part) == 32_000
    assert np.abs(part[24_000:31_000] - expected[32_000:39_000]).max() < 0.04
    assert not part[10_000:18_000].any()


def test_time_stamps_that_run_backwards_or_too_far_are_not_followed(tmp_path: Path) -> None:
    late = [(0.0, 0.5), (5.0, 5.5), (1.0, 1.5)]
    part = SimpleNamespace(path=tmp_path / "a.mkv", span_s=None)
    stretches = [(begin, np.full(8_000, index + 1, np.float32)) for index, (begin, _) in enumerate(late)]
    joined = media._joined(stretches, part, 16_000)  # type: ignore[arg-type]
    assert joined.tolist() == [1.0] * 8_000 + [2.0] * 8_000 + [3.0] * 8_000
    forwards = media._joined(stretches[:2], part, 16_000)  # type: ignore[arg-type]
    assert len(forwards) == round(5.5 * 16_000)
    assert forwards[79_999] == 0 and forwards[80_000] == 2
    short = SimpleNamespace(path=part.path, span_s=1.0)  # by its header the file ends at 1 s
    assert len(media._joined(stretches[:2], short, 16_000)) == 16_000  # type: ignore[arg-type]


def test_a_wild_time_stamp_is_no_silence(tmp_path: Path) -> None:
    path = clips.write_clip(
        tmp_path / "a.mkv", seconds=701, picture=False, sound_rate=8_000, pause_s=(0.5, 700.0)
    )
    with pytest.raises(MediaError, match=r"leave 699\.\d s without sound; expected at most 600 s"):
        read_audio(Clip("a", audio=path), 16_000)
    sound = [(95_443.7, np.ones(16_000, np.float32))]  # 2 ** 33 ticks of MPEG's clock
    with pytest.raises(MediaError, match=r"leave 95443\.7 s without sound"):
        media._joined(sound, SimpleNamespace(path=path, span_s=None), 16_000)  # type: ignore[arg-type]
    known = SimpleNamespace(path=path, span_s=2.0)  # the file says how long it is
    assert len(media._joined(sound, known, 16_000)) == 48_000  # type: ignore[arg-type]


def test_what_lacks_for_the_moment_is_no_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clips.write_clip(tmp_path / "a.mp4")
    clip = Clip("a", video=path, audio=path)

    def fail(error: Exception) -> Callable[..., Any]:
        def raise_it(*_: Any, **__: Any) -> Any:
            raise error

        return raise_it

    for error, kind in (
        (OSError(errno.ENOMEM, "Cannot allocate memory"), MomentaryError),
        (MemoryError(), MomentaryError),
        (av.error.OSError(errno.EMFILE, "Too many open files"), MomentaryError),
        (OSError(errno.EIO, "Input/output error"), MediaError),
    ):
        with monkeypatch.context() as patched, pytest.raises(MediaError) as caught:
            patched.setattr(av, "open", fail(error))
            read_audio(clip, 16_000)
        assert type(caught.value) is kind
        with monkeypatch.context() as patched, pytest.raises(MediaError) as caught:
            patched.setattr(media, "_resampler", lambda _, error=error: SimpleNamespace(resample=fail(error)))
            read_audio(clip, 16_000)
        assert type(caught.value) is kind
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limit[1]))
    try:
        with pytest.raises(MomentaryError, match="Too many open files"):
            read_audio(clip, 16_000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert len(read_audio(clip, 16_000))


def test_silence_is_zeros(tmp_path: Path) -> None:
    path = clips.write_clip(tmp_path / "a.wav", silent=True)
    assert not read_audio(Clip("a", audio=path), 16_000).any()


# --- what lacks -----------------------------------------------------------------------


def test_a_lacking_stream_is_missing_not_failed(tmp_path: Path) -> None:
    mute = clips.write_clip(tmp_path / "mute.mp4", sound=False)
    blind = clips.write_clip(tmp_path / "blind.mp4", picture=False)
    cover = clips.with_cover(tmp_path / "cover.mp3", np.full((48, 64, 3), 90, np.uint8))
    with pytest.raises(StreamMissing, match="no sound"):
        read_audio(Clip("a", audio=mute), 16_000)
    for path in (blind, cover):
        with pytest.raises(StreamMissing, match="no picture"):
            next(read_frames(Clip("a", video=path), 8))
    assert len(read_audio(Clip("a", audio=cover), 16_000)) > 15_000
    with pytest.raises(StreamMissing, match="no audio file"):
        read_audio(Clip("a"), 16_000)
    with pytest.raises(StreamMissing, match="no video file"):
        next(read_frames(Clip("a"), 8))


# --- what is broken -------------------------------------------------------------------


def read_both(path: Path, **part: float) -> tuple[int, int]:
    clip = Clip("a", video=path, audio=path, **part)
    return len(list(read_frames(clip, None))), len(read_audio(clip, 16_000))


def test_absent_empty_or_no_file(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    os.mkfifo(tmp_path / "pipe.mp4")
    for name, reason in {
        "absent.mp4": "there is no such file",
        "empty.mp4": r"empty \(0 bytes\)",
        "pipe.mp4": "not a file",
        ".": "not a file",
    }.items():
        for read in (read_audio, lambda clip, rate: next(read_frames(clip, rate))):
            with pytest.raises(MediaError, match=reason):
                read(Clip("a", video=tmp_path / name, audio=tmp_path / name), 8_000)


def test_bytes_that_are_no_media(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(50_000)
    for name, data in {
        "noise.mp4": noise,
        "text.mp4": b"not a film\n" * 100,
        "zeros.wav": bytes(4096),
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(MediaError, match=name):
            read_both(tmp_path / name)


def test_a_cut_mp4_without_its_index_fails(tmp_path: Path) -> None:
    whole = clips.write_clip(tmp_path / "whole.mp4", seconds=2)
    with pytest.raises(MediaError, match=r"cut\.mp4: not a readable"):
        read_both(clips.cut(whole, tmp_path / "cut.mp4", 0.9))


@pytest.mark.parametrize("kind", ["mp4", "mkv", "wav"])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99])
def test_of_a_cut_file_most_must_decode(tmp_path: Path, kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    whole = clips.write_clip(tmp_path / f"whole.{kind}", seconds=4, index_first=kind == "mp4", pixels=noise)
    part = clips.cut(whole, tmp_path / f"cut.{kind}", share)
    lengths = {"sound": 64_000.0} if kind == "wav" else {"sound": 64_000.0, "pictures": 96.0}
    for stream, expected in lengths.items():
        clip = Clip("a", video=part, audio=part)
        try:
            found = len(read_audio(clip, 16_000) if stream == "sound" else list(read_frames(clip, None)))
        except MediaError as error:
            assert "cut." in str(error)
            assert share < 0.99
        else:
            assert found >= (LEAST_SHARE - 0.01) * expected
            assert share > 0.5


def wav(path: Path, samples: NDArray[Any], declared: int | None = None, *, rate: int = 16_000) -> Path:
    """Write samples of any kind as a mono WAV file that declares so many bytes of them."""
    size, kind = samples.dtype.itemsize, 3 if samples.dtype.kind == "f" else 1
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, kind, 1, rate, rate * size, size, 8 * size)
    data = samples.tobytes()
    declared = len(data) if declared is None else declared
    body = b"WAVE" + head + struct.pack("<4sI", b"data", declared) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", min(len(body), 2**32 - 1)) + body)
    return path


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (64_000, None),  # 1 s of 2 s is there: an incomplete copy
        (41_000, None),  # 78 %
        (36_000, 16_000),  # 89 %
        (16_000, 8_000),  # something else follows the samples
        *((size, 16_000) for size in (0, 0x7FFFF000, 0x80000000, 0xFFFFFFFF)),  # written to a pipe: not known
    ],
)
def test_a_wav_that_declares_more_than_it_has(tmp_path: Path, declared: int, expected: int | None) -> None:
    samples = np.round(clips.tone(1, 16_000) * 32767).astype("<i2")  # 32,000 bytes
    clip = Clip("a", audio=wav(tmp_path / "a.wav", samples, declared))
    if expected is None:
        with pytest.raises(MediaError, match=rf"cut short .* 1\.00 s of {declared / 32_000:.2f} s of audio"):
            read_audio(clip, 16_000)
        clip = Clip("a", audio=clip.audio, audio_start_s=0.5, audio_end_s=1.0)  # this part is there
        expected = 8_000
    assert len(read_audio(clip, 16_000)) == expected


@pytest.mark.parametrize(
    ("kind", "scale"), [("u1", 127), ("<i2", 32767), ("<i4", 2**31 - 1), ("<f4", 1), ("<f8", 1)]
)
def test_every_kind_of_sample_has_the_same_full_scale(tmp_path: Path, kind: str, scale: int) -> None:
    samples = clips.tone(1, 8_000) * scale + 128 * (kind == "u1")
    found = read_audio(Clip("a", audio=wav(tmp_path / "a.wav", samples.astype(kind), rate=8_000)), 8_000)
    assert len(found) == 8_000
    assert np.abs(found - clips.tone(1, 8_000)).max() < 0.01


def test_whole_numbers_written_as_floats_are_an_error(tmp_path: Path) -> None:
    loud = (clips.tone(1, 16_000) * 32768).astype("<f4")
    with pytest.raises(MediaError, match=r"samples reach 9830\.\d* times full scale.*Divide them by 32768"):
        read_audio(Clip("a", audio=wav(tmp_path / "a.wav", loud)), 16_000)
    over = (clips.tone(1, 16_000) * 10).astype("<f4")  # 3: clipped nowhere, as editors save it
    assert np.abs(read_audio(Clip("a", audio=wav(tmp_path / "b.wav", over)), 16_000)).max() > 2.9


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_an_error(tmp_path: Path, number: float) -> None:
    samples = clips.tone(1, 16_000).astype("<f4")
    samples[100] = number
    with pytest.raises(MediaError, match="no numbers"):
        read_audio(Clip("a", audio=wav(tmp_path / "a.wav", samples)), 16_000)


def test_too_few_samples_for_one_are_an_error(tmp_path: Path) -> None:
    for rate, count in ((1, 3), (16_000, 0)):
        path = wav(tmp_path / f"{rate}.wav", np.zeros(count, "<i2"), rate=rate)
        with pytest.raises(MediaError, match="no sound decodes"):
            read_audio(Clip("a", audio=path), 16_000)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])
def test_an_empty_stream_is_no_stream(tmp_path: Path, kind: str) -> None:
    path = clips.write_clip(
        tmp_path / f"a.{kind}", pause_s=(0.0, 9.0)
    )  # a stream of sound, all of it left out
    with pytest.raises(StreamMissing, match="has no sound"):
        read_audio(Clip("a", video=path, audio=path), 16_000)
    assert len(list(read_frames(Clip("a", video=path), None))) == 24


def test_links_in_a_circle_and_pipes_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "circle.wav").symlink_to(tmp_path / "circle.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    for name, words in (("circle.wav", "there is no such file"), ("pipe.wav", "not a file")):
        with pytest.raises(MediaError, match=words):
            read_audio(Clip("a", audio=tmp_path / name), 16_000)


def test_a_cut_real_recording_fails(assets: Callable[[str], Path], tmp_path: Path) -> None:
    whole = assets("cremad") / "1001_DFA_HAP_XX.flv"
    pictures, samples = read_both(whole)
    assert (pictures, samples) == (56, 30_511)
    with pytest.raises(MediaError, match="cut short or damaged"):
        read_both(clips.cut(whole, tmp_path / "half.flv", 0.5))
    most = read_both(clips.cut(whole, tmp_path / "most.flv", 0.9))
    assert 0.8 * pictures < most[0] < pictures


@pytest.mark.parametrize("kind", ["mp4", "mkv", "wav"])
def test_damaged_bytes_never_end_in_anything_but_words(tmp_path: Path, kind: str) -> None:
    whole = clips.write_clip(tmp_path / f"whole.{kind}", seconds=1, index_first=True).read_bytes()
    generator = np.random.default_rng(1)
    failed = 0
    for trial in range(40):
        data = bytearray(whole)
        for at in generator.integers(0, len(data), 1 + 2 ** (trial % 10)):
            data[at] = generator.integers(0, 256)
        path = tmp_path / f"damaged.{kind}"
        path.write_bytes(data)
        for read in (
            lambda clip: read_audio(clip, 16_000),
            lambda clip: sum(1 for _ in read_frames(clip, 8)),
        ):
            try:
                read(Clip("a", video=path, audio=path))
            except MediaError as error:
                failed += 1
                assert str(error)
    assert failed


def test_a_part_that_is_not_in_the_file(tmp_path: Path) -> None:
    path = clips.write_clip(tmp_path / "a.mp4", seconds=1)
    with pytest.raises(MediaError, match=r"nothing lies in 5\.000 s to 6\.000 s; its video ends at 1\.0"):
        list(read_frames(Clip("a", video=path, start_s=5, end_s=6), 8))
    with pytest.raises(MediaError, match=r"nothing lies in 5\.000 s to its end; its audio ends at 1\."):
        read_audio(Clip("a", audio=path, audio_start_s=5), 16_000)
    with pytest.raises(MediaError, match=r"nothing lies in 0\.500 s to 0\.500 s"):
        list(read_frames(Clip("a", video=path, start_s=0.5, end_s=0.5), 8))


@pytest.mark.parametrize(
    "name",
    [
        "two words.mp4",
        "клип 片段 مقطع.mp4",
        "concat:a.mp4",
        "100% [x] {y} 'z'.mp4",
        "-i.mp4",
        "a\u0301ö😀.mp4",
    ],
)
def test_names_in_any_script(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clips.write_clip(tmp_path / "plain.mp4").rename(tmp_path / name)
    assert read_both(tmp_path / name)[0] == 24
    monkeypatch.chdir(tmp_path)
    assert read_both(Path(name))[0] == 24


def test_a_playlist_reaches_no_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/part.ts"
        (tmp_path / "list.mp4").write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}\n#EXT-X-ENDLIST\n"
        )
        with pytest.raises(MediaError):
            read_both(tmp_path / "list.mp4")
        with pytest.raises(TimeoutError):
            server.accept()
