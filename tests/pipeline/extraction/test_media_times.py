"""Whose time counts: pieces that were cut out of a longer file, and parts that reach beyond a file's end."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.errors import MediaError
from pipeline.extraction.clip import LEAST_SHARE, SLACK_S
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.media import read_audio, read_frames
from tests import clips

PIECE_S, RATE = clips.PIECE_S, clips.PIECES_RATE


@pytest.mark.parametrize(
    ("kind", "picture", "sound"),
    [
        ("matroska", "libx264", "aac"),
        ("nut", "libx264", "aac"),
        ("avi", "mpeg4", "libmp3lame"),
        ("mp4", "libx264", "aac"),
        ("mpegts", "libx264", "aac"),
        ("flv", "libx264", "aac"),
        ("webm", None, "libopus"),
        ("ogg", None, "libopus"),
        ("flac", None, "flac"),
    ],
)
def test_pieces_of_a_longer_file_are_whole(
    tmp_path: Path, kind: str, picture: str | None, sound: str
) -> None:
    whole = clips.write_whole(tmp_path / "whole", picture, sound, "mp4" if picture else kind)
    pieces = clips.segments(whole, tmp_path, kind)[:3]  # what the codec's delay leaves may come as a fourth
    if kind == "flac":  # the first one is, by its header, the whole file cut short
        pieces = [*pieces[1:], pieces[1]]
    lengths = []
    seen: list[int] = []
    for path in pieces:
        clip = Clip("a", video=path, audio=path)
        lengths.append(len(read_audio(clip, 16_000)) / 16_000)
        if picture:
            frames = list(read_frames(clip, None))
            times = np.array([time_s for time_s, _ in frames])
            assert 0 <= times[0] < 0.1
            assert np.abs(np.diff(times) - 1 / RATE).max() < 0.002 or kind == "avi"
            assert times[-1] < PIECE_S + 0.7
            seen += [clips.number(image) for _, image in frames]
            assert len(list(read_frames(clip, 8))) == pytest.approx(8 * len(frames) / RATE, abs=1.01)
    assert all(PIECE_S - 0.8 < length < PIECE_S + 0.7 for length in lengths)
    assert sum(lengths) == pytest.approx(clips.WHOLE_S, abs=0.2)
    if picture:
        assert len(seen) == pytest.approx(clips.WHOLE_S * RATE, abs=1)
        assert max(abs(a - b % 70) for a, b in zip(seen, range(len(seen)), strict=True)) <= 2 or kind == "avi"
    # a part of the second piece is counted from that piece's beginning
    part = Clip("a", audio=pieces[1], audio_start_s=1.0, audio_end_s=2.0)
    assert len(read_audio(part, 16_000)) == 16_000


def test_a_part_of_an_avi_piece_is_found_behind_its_hole(tmp_path: Path) -> None:
    whole = clips.write_whole(tmp_path / "whole", "mpeg4", "libmp3lame", "mp4")
    piece = clips.segments(whole, tmp_path, "avi")[1]
    every = [(time_s, clips.number(image)) for time_s, image in read_frames(Clip("a", video=piece), None)]
    part = Clip("a", video=piece, start_s=1.0, end_s=2.0)
    found = [clips.number(image) for _, image in read_frames(part, None)]
    assert found == [number for time_s, number in every if 1.0 - 1e-6 <= time_s < 2.0 - 1e-6]
    assert len(found) == RATE


def test_a_piece_of_a_piece_that_was_cut_short_still_fails(tmp_path: Path) -> None:
    whole = clips.write_whole(tmp_path / "whole", "libx264", "aac", "matroska")
    piece = clips.segments(whole, tmp_path, "matroska")[1]
    short = clips.cut(piece, tmp_path / "short", 0.4)
    for read in (lambda clip: read_audio(clip, 16_000), lambda clip: list(read_frames(clip, 8))):
        with pytest.raises(MediaError, match="cut short or damaged"):
            read(Clip("a", video=short, audio=short))


@pytest.mark.parametrize("kind", ["mp4", "mkv", "wav", "mp3", "ts"])
def test_a_part_is_measured_against_what_was_asked(tmp_path: Path, kind: str) -> None:
    path = clips.write_clip(tmp_path / f"a.{kind}", seconds=1.9)
    readers = [lambda clip: len(read_audio(clip, 16_000))]
    if kind not in ("wav", "mp3"):
        readers.append(lambda clip: len(list(read_frames(clip, 8))))
    for read in readers:
        with pytest.raises(MediaError, match=r"0\.\d\d s of 98\.20 s of \w+ decode.*at least 80% must"):
            read(Clip("a", video=path, audio=path, start_s=1.8, end_s=100.0))
        with pytest.raises(MediaError, match=r"1\.800 s to 100\.000 s are not its times"):
            read(Clip("a", video=path, audio=path, start_s=1.8, end_s=100.0))
        with pytest.raises(MediaError, match=r"of 1\.00 s"):  # half of it is there
            read(Clip("a", video=path, audio=path, start_s=1.4, end_s=2.4))
        for end_s in (1.9, 2.1):  # the end, and a small overshoot
            assert read(Clip("a", video=path, audio=path, start_s=0.9, end_s=end_s))
    assert (LEAST_SHARE, SLACK_S) == (0.8, 0.25)


def test_sound_that_ends_before_the_picture_does_not_stand_for_a_part(tmp_path: Path) -> None:
    path = clips.write_clip(tmp_path / "a.mkv", seconds=6, pause_s=(1.0, 9.0))
    assert len(read_audio(Clip("a", video=path, audio=path), 16_000)) == pytest.approx(16_000, abs=800)
    with pytest.raises(MediaError, match=r"s of 4\.00 s of audio decode"):
        read_audio(Clip("a", video=path, audio=path, start_s=0.5, end_s=4.5), 16_000)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])
def test_a_beginning_that_does_not_decode_counts_as_lost(tmp_path: Path, kind: str) -> None:
    source = clips.write_clip(tmp_path / "source.mp4", seconds=4, sound=False)  # one key picture
    path = tmp_path / f"a.{kind}"
    with (
        av.open(str(source)) as given,
        av.open(str(path), "w", format=clips.FORMATS.get(kind, kind)) as target,
    ):
        stream = target.add_stream_from_template(given.streams[0])
        for packet in given.demux():
            if packet.dts is not None and packet.pts * packet.time_base >= 1:  # cut off with the beginning
                packet.stream = stream
                target.mux(packet)
    with pytest.raises(MediaError, match=r"picture decodes|of video decode|video packets cannot"):
        list(read_frames(Clip("a", video=path), 8))
