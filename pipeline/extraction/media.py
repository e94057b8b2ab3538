"""Decoding of a clip's picture and sound (PyAV). No other file decodes media; units are in the names.

Both functions decode only the clip's part of the file (``start_s``, ``end_s``; seconds from the beginning of the
file as a player shows it) and give times in seconds from the beginning of that part. They keep no state, use one
thread, and raise :class:`~pipeline.errors.MediaError` with the reason for every file that they cannot read.

A file that was cut short, or is damaged in the middle, counts as readable if at least ``LEAST_SHARE`` of the
requested part can be decoded; whatever decodes is then used. The share is taken of the part that was requested,
not of the part that the file contains. Below it the clip has failed: half an utterance with the label of the
whole would be a wrong sample. Streams without a length of their own (bare mp3, aac, h264; WAV files that were
written to a pipe) do not show that their end is missing; if no end was requested, they are used as they are. A gap
in the middle of the sound is filled with silence, so that what follows stays in time with the picture.

A failure for a temporary reason (no memory, too many open files) raises
:class:`~pipeline.errors.MomentaryError`: the next run tries again.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.wav_header import wav_length
from pipeline.errors import MediaError, MomentaryError, StreamMissing
from pipeline.extraction.clip import LEAST_SHARE, SLACK_S, Clip, is_enough

PREROLL_S = 0.5  # audio decoding starts this much earlier, because codecs and the resampler need a run-up
LONGEST_PAUSE_S = 3600.0  # a longer jump between two pictures is a damaged time stamp
LONGEST_SILENCE_S = 600.0  # time stamps that leave more seconds than this without sound are damaged
LOUDEST = 100.0  # of full scale, 40 dB over it: no recording, but whole numbers that were written as floats
LEAST_GAP_S = 0.1  # a smaller gap between two frames of sound comes from rounded time stamps
SQUARE = (
    0.01  # pixels whose sides differ by a smaller share count as square: sizes are rounded to whole pixels
)
LONGEST_PIXEL = 8  # a larger ratio of a pixel's sides means that the header is damaged

# Errors that the machine causes, not the file. EIO is not among them: ffmpeg also reports it for files that are
# cut short.
_MOMENTARY = frozenset(
    getattr(errno, name)
    for name in ("ENOMEM", "ENOSPC", "EDQUOT", "EMFILE", "ENFILE", "EACCES", "ESTALE", "ETIMEDOUT")
)

# ffmpeg's names of formats that consist of frames without an index: it guesses their length, and the place to seek
# to, from the bit rate or the last time stamps.
_BARE = {
    "mp3",
    "aac",
    "ac3",
    "eac3",
    "amr",
    "dts",
    "h264",
    "hevc",
    "m4v",
    "mpegvideo",
    "mjpeg",
    "mpeg",
    "mpegts",
}
# Formats whose header gives the last time stamp instead of the length, and formats whose header may give either,
# depending on the program that wrote the file. The two differ in a piece that was cut out of a longer file and keeps
# that file's time stamps.
_ENDS, _ENDS_OR_LENGTHS = {"ogg"}, {"matroska", "webm", "nut"}


def read_audio(clip: Clip, sample_rate_hz: int) -> NDArray[np.float32]:
    """Return a clip's sound, all channels averaged into one.

    Args:
        clip: ``clip.audio`` is decoded from ``audio_start_s`` to ``audio_end_s``, or from ``start_s`` to
            ``end_s`` when it is the same file as ``clip.video`` and has no times of its own.
        sample_rate_hz: what the sound is resampled to.

    Returns:
        (N,) float32, finite, 1.0 is full scale. Where the sound begins later than the part, or has a gap of
        :data:`LEAST_GAP_S` or more, it is filled with zeros. If the time stamps run backwards, or beyond the end that
        the file's header gives, they are ignored, and the pieces of sound are joined without gaps.

    Raises:
        StreamMissing: the clip has no audio file, or the file has no sound.
        MediaError: the file is absent, empty, damaged or cut short, of a kind that cannot be decoded here, has no
            sound for more than :data:`LONGEST_SILENCE_S`, or a sample over :data:`LOUDEST`.
        MomentaryError: reading failed for a temporary reason of the machine, such as too little memory.
    """
    if clip.audio is None:
        raise StreamMissing("no audio file")
    start_s, end_s = clip.audio_start_s, clip.audio_end_s
    if clip.audio == clip.video and start_s is None and end_s is None:
        start_s, end_s = clip.start_s, clip.end_s
    with _open(clip.audio) as container:
        part = _Part(container, clip.audio, "audio", start_s, end_s)
        samples = _joined(list(_stretches(part, sample_rate_hz)), part, sample_rate_hz)
    if end_s is not None:
        samples = samples[: max(1, round((end_s - (start_s or 0.0)) * sample_rate_hz))]
    if not len(samples):
        raise MediaError(f"{clip.audio}: no sound decodes from {_span(start_s, end_s)}")
    if not np.isfinite(samples).all():
        raise MediaError(f"{clip.audio}: holds samples that are no numbers")
    if (peak := float(max(samples.max(), -samples.min()))) > LOUDEST:
        raise MediaError(
            f"{clip.audio}: its samples reach {peak:.6g} times full scale, which is 1; expected at most {LOUDEST:g}. "
            "Were whole numbers written as floats? Divide them by 32768"
        )
    return samples


def read_frames(
    clip: Clip, frame_rate_hz: float | None, *, grey: bool = False
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield a clip's pictures at a given rate. Only these are converted to arrays, so that a low rate is fast.

    Time is divided into periods of ``1 / frame_rate_hz``; each gives the picture that a player shows at its
    middle, whatever the file's own rate is, which may vary. A part shorter than half a period gives one picture.
    Consecutive periods that show the same picture get the same array object. Periods that end before the file's first
    picture begins get a black one, as a player shows it: no extractor finds anything there, so that their rows are
    not observed. After the last picture there are none.

    Args:
        clip: ``clip.video`` is decoded from ``start_s`` to ``end_s``; with ``clip.picture`` only that half of the
            picture is returned.
        frame_rate_hz: pictures a second; None: every picture of the file, at its own time.
        grey: return luminance (H, W) instead of colours, in a tenth of the time.

    Yields:
        Seconds from the part's beginning (the middle of the period, not decreasing), and (H, W, 3) uint8 red,
        green, blue, as a player shows it: turned and mirrored as the file's display matrix says, with square
        pixels (the shorter side is stretched), and of an interlaced picture its first field, with the lines
        between them as means of their neighbours. What the codec crops (H.264, HEVC) is cropped; what the container
        alone says (Matroska's PixelCrop, QuickTime's clean aperture) is not, because PyAV does not give it: such
        edges are shown.

    Raises:
        StreamMissing: the clip has no video file, or the file has no moving picture (a cover image does not count).
        MediaError: the file is absent, empty, damaged or cut short, or of a kind that cannot be decoded here.
        MomentaryError: reading failed for a temporary reason of the machine, such as too little memory.
    """
    if clip.video is None:
        raise StreamMissing("no video file")
    if frame_rate_hz is not None and frame_rate_hz <= 0:
        raise ValueError(f"found a frame rate of {frame_rate_hz} Hz, expected more than 0")
    with _open(clip.video) as container:
        part = _Part(container, clip.video, "video", clip.start_s, clip.end_s)
        shown: Any = None
        picture = np.zeros(0, np.uint8)
        shape = _pixel_shape(part)
        black: NDArray[np.uint8] | None = None
        for time_s, frame, begun in _on_screen(part, frame_rate_hz):
            if frame is not shown:
                shown, picture = frame, _picture(frame, clip.picture, grey, clip.video, shape)
            if not begun and black is None:
                black = np.zeros_like(picture)
            yield time_s, picture if begun or black is None else black
        if shown is None:
            raise MediaError(f"{clip.video}: no picture decodes from {_span(clip.start_s, clip.end_s)}")


class _Part:
    """The wanted part of one stream of an open file.

    Attributes:
        begin_s, end_s: of the part, in seconds of the file; end_s is None to its end.
        span_s: how long the part should be according to the file's header; None when that gives no length.
    """

    def __init__(
        self, container: Any, path: Path, kind: str, start_s: float | None, end_s: float | None
    ) -> None:
        self.container, self.path, self.kind = container, path, kind
        self.stream = _chosen(container, path, kind)
        self.stream.codec_context.thread_count = 1
        self.begin_s, self.end_s = start_s or 0.0, end_s
        self._bare = bool(_BARE & set(container.format.name.split(",")))
        self._origin_s = (container.start_time or 0) / 1e6
        self._hole_s = _hole_s(container)
        # where the stream ends by its header
        self._last_s = None if self._bare else self._end_by_header()
        ends = [s for s in (self._last_s, end_s) if s is not None]
        self.span_s = min(ends) - self.begin_s if ends else None
        self._wanted_s = self.span_s if end_s is None else end_s - self.begin_s
        if self.span_s is not None and self.span_s <= 0:
            raise MediaError(
                f"{path}: nothing lies in {_span(start_s, end_s)}"
                + ("" if self._last_s is None else f"; its {kind} ends at {self._last_s:.3f} s")
            )

    def _end_by_header(self) -> float | None:
        """Return where the stream ends, in seconds of the file; None when the header does not say."""
        names = set(self.container.format.name.split(","))
        if self.stream.duration:
            first_s = float((self.stream.start_time or 0) * self.stream.time_base)
            length_s = float(self.stream.duration * self.stream.time_base)
            if "wav" in names:  # ffmpeg gives the length of what is there
                length_s *= _declared(self.path)
            if "flac" in names and first_s > 0:
                return None  # a piece that kept the header of the longer file that it was cut out of
            if "avi" in names:
                return length_s - self._hole_s
        elif self.container.duration:
            first_s, length_s = self._origin_s, self.container.duration / 1e6
        else:
            return None
        ends = []
        if not _ENDS & names:
            ends.append(first_s + length_s - self._origin_s)
        if (_ENDS | _ENDS_OR_LENGTHS) & names:
            ends.append(length_s - self._origin_s)
        return min([end for end in ends if end > self.begin_s] or ends)

    def frames(self, preroll_s: float) -> Iterator[tuple[float, Any]]:
        """Yield (seconds from the part's beginning, frame), from ``preroll_s`` before the part or earlier.

        Raises:
            MediaError: after the last frame, when too little of the part could be decoded.
            StreamMissing: the file names such a stream, but holds nothing of it.
        """
        if (
            self.stream.duration and self._last_s is not None
        ):  # otherwise the other streams show how far the file goes
            from av.stream import Discard

            for other in self.container.streams:
                if other is not self.stream:
                    other.discard = Discard.all
        begin_s = self.begin_s - preroll_s
        if begin_s > 0 and not self._bare:
            found = False
            try:
                self._seek(begin_s)
                for time_s, frame in self._decode():
                    if not found and time_s > 0:
                        break  # the seek went beyond the beginning of the part
                    found = True
                    yield time_s, frame
                else:
                    return
            except (_ffmpeg_error(), MediaError):
                if found:
                    raise
            self._seek(0.0)  # seeking does not work in this file: decode from its beginning
        yield from self._decode()

    def _seek(self, to_s: float) -> None:
        hole_s = self._hole_s if to_s > 0 and self.kind == "video" else 0.0
        target = int((to_s + self._origin_s + hole_s) / self.stream.time_base)
        self.container.seek(target, stream=self.stream, backward=True)

    def _decode(self) -> Iterator[tuple[float, Any]]:
        packets = damaged = 0
        reached_s = others_s = self.begin_s
        first_packet_s: float | None = None
        lost_s = 0.0  # of the part's beginning, where there are packets, but none decodes
        problem = ""
        expected_s: float | None = None
        demuxer = self.container.demux()
        while True:
            try:
                packet = next(demuxer)
            except StopIteration:
                break
            except (_ffmpeg_error(), ValueError, OSError, MemoryError) as error:
                problem = self._problem(error)
                break
            if packet.stream is not self.stream:
                if packet.pts is not None and packet.time_base:
                    others_s = max(others_s, float(packet.pts * packet.time_base) - self._origin_s)
                continue
            if packet.size and packet.pts is not None:
                packet_s = self._time_s(float(packet.pts * self.stream.time_base))
                first_packet_s = packet_s if first_packet_s is None else min(first_packet_s, packet_s)
            try:
                packets += packet.size > 0
                frames = packet.decode()
            except (_ffmpeg_error(), ValueError, OSError, MemoryError) as error:
                damaged += 1
                problem = self._problem(error)
                continue
            for frame in frames:
                time_s = expected_s if frame.time is None else self._time_s(frame.time)
                time_s = 0.0 if time_s is None else time_s
                if expected_s is None and first_packet_s is not None:
                    lost_s = max(0.0, time_s - max(first_packet_s, self.begin_s))
                expected_s = time_s + self._length_s(frame)
                if self.end_s is not None and time_s >= self.end_s:
                    self._check(packets, damaged, self.end_s, lost_s, problem)
                    return
                reached_s = max(reached_s, expected_s)
                yield time_s - self.begin_s, frame
        if not packets and not problem and not self.begin_s and others_s > 0:
            what = "sound" if self.kind == "audio" else "picture"
            raise StreamMissing(f"{self.path}: has no {what}: it names a stream of it, which is empty")
        if self.end_s is None:  # a stream that ends before the others is not cut short
            reached_s = max(reached_s, others_s)
        self._check(packets, damaged, reached_s, lost_s, problem)

    def _time_s(self, stamp_s: float) -> float:
        """Return seconds of the file from a time stamp in seconds."""
        hole_s = self._hole_s if self.kind == "video" and stamp_s > self._hole_s / 2 else 0.0
        return stamp_s - self._origin_s - hole_s

    def _problem(self, error: Exception) -> str:
        """Return what is wrong with the file, from an error of decoding it.

        Raises:
            MomentaryError: the error is a temporary one of the machine.
        """
        if _is_momentary(error):
            raise MomentaryError(f"{self.path}: cannot be read now ({_reason(error)})") from error
        return _reason(error)

    def _length_s(self, frame: Any) -> float:
        if self.kind == "audio":
            return float(frame.samples / frame.sample_rate)
        if frame.duration and frame.time_base:
            return float(frame.duration * frame.time_base)
        return self.frame_length_s

    @property
    def frame_length_s(self) -> float:
        """Seconds that one picture is shown, by the stream's average rate."""
        return float(1 / self.stream.average_rate) if self.stream.average_rate else 0.04

    def _check(self, packets: int, damaged: int, reached_s: float, lost_s: float, problem: str) -> None:
        because = f" ({problem})" if problem else ""
        if packets and damaged > (1 - LEAST_SHARE) * packets:
            raise MediaError(
                f"{self.path}: {damaged} of {packets} {self.kind} packets cannot be decoded{because}"
            )
        reached_s = min(reached_s, self.end_s or np.inf)
        wanted_s = reached_s - self.begin_s if self._wanted_s is None else self._wanted_s
        decoded_s = max(0.0, reached_s - lost_s - self.begin_s)
        if not is_enough(decoded_s, wanted_s):
            what, end = "cut short or damaged", ""
            if self.end_s is not None:
                what = f"cut short or damaged, or {_span(self.begin_s, self.end_s)} are not its times"
                end = "" if self._last_s is None else f"; its {self.kind} ends at {self._last_s:.3f} s"
            raise MediaError(
                f"{self.path}: {what}: {decoded_s:.2f} s of {wanted_s:.2f} s of {self.kind} decode"
                f"{because}; at least {LEAST_SHARE:.0%} must{end}"
            )


def _on_screen(part: _Part, frame_rate_hz: float | None) -> Iterator[tuple[float, Any, bool]]:
    """Yield (seconds, the frame that is shown then, True) for the middle of each period, or for every frame.

    False: the period ends before the first frame, which is given with it.
    """
    end_s = float("inf") if part.end_s is None else part.end_s - part.begin_s
    shown: Any = None
    shown_s = 0.0
    count = 0
    middle_s = 0.0 if frame_rate_hz is None else 0.5 / frame_rate_hz
    if part.span_s is not None and middle_s >= part.span_s:
        middle_s = part.span_s / 2
    for time_s, frame in part.frames(0.0):
        if frame_rate_hz is None:
            if -1e-6 <= time_s < end_s - 1e-6:  # the beginning of a file is given in whole microseconds
                count += 1
                yield max(time_s, 0.0), frame, True
        elif shown is None:
            if time_s > LONGEST_PAUSE_S:
                raise MediaError(f"{part.path}: the time stamps begin at {time_s:.1f} s")
            while (count + 1) / frame_rate_hz <= min(time_s, end_s):
                yield middle_s, frame, False
                count += 1
                middle_s = (count + 0.5) / frame_rate_hz
        else:
            if time_s - max(shown_s, 0.0) > LONGEST_PAUSE_S:
                raise MediaError(f"{part.path}: the time stamps jump from {shown_s:.1f} s to {time_s:.1f} s")
            while middle_s < min(time_s, end_s):
                yield middle_s, shown, True
                count += 1
                middle_s = (count + 0.5) / frame_rate_hz
        shown, shown_s = frame, time_s
    if shown is None:
        return
    end_s = min(end_s, max(shown_s, 0.0) + part.frame_length_s)
    if frame_rate_hz is not None:
        while middle_s < end_s:
            yield middle_s, shown, True
            count += 1
            middle_s = (count + 0.5) / frame_rate_hz
    if not count:
        yield end_s / 2, shown, True


def _picture(frame: Any, half: str, grey: bool, path: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return a frame as it is shown; ``shape`` is what :func:`_pixel_shape` gives."""
    wide, high, first_line = shape
    size = {}
    if wide != high:
        size["width"] = max(frame.width, round(frame.width * wide / high))
        size["height"] = max(frame.height, round(frame.height * high / wide))
    try:
        picture: NDArray[np.uint8]
        if not frame.interlaced_frame:
            picture = frame.to_ndarray(format="gray" if grey else "rgb24", threads=1, **size)
        else:
            whole = frame.to_ndarray(format="gray" if grey else "rgb24", threads=1)
            picture = _one_field(whole, first_line)
            if size:
                again = type(frame).from_ndarray(picture, format="gray" if grey else "rgb24")
                picture = again.to_ndarray(threads=1, **size)
    except (_ffmpeg_error(), ValueError, OSError, MemoryError) as error:
        raise _failure(f"{path}: a picture cannot be converted", error) from error
    picture = _upright(picture, frame)
    if half:
        middle = picture.shape[1] // 2
        picture = picture[:, :middle] if half == "left" else picture[:, middle:]
    return np.ascontiguousarray(picture)


def _pixel_shape(part: _Part) -> tuple[int, int, int]:
    """Return how wide and how high a pixel of the stream is shown, and the first line of its first field.

    Raises:
        MediaError: no pixel is of that shape.
    """
    ratio = part.stream.sample_aspect_ratio or part.stream.codec_context.sample_aspect_ratio or Fraction(1)
    if not 1 / LONGEST_PIXEL <= ratio <= LONGEST_PIXEL:
        raise MediaError(f"{part.path}: damaged: it says that its pixels are {ratio} times as wide as high")
    wide, high = ratio.numerator, ratio.denominator
    if abs(wide / high - 1) < SQUARE:
        wide = high = 1
    # ffmpeg's AV_FIELD_BB and AV_FIELD_BT: the lower field is shown first
    return wide, high, int(part.stream.codec_context.field_order in (3, 5))


def _one_field(picture: NDArray[np.uint8], first_line: int) -> NDArray[np.uint8]:
    """Return an interlaced (H, W) or (H, W, 3) picture of one of its two fields, the one that begins in line 0 or 1.

    The fields were recorded one after the other, so that moving edges look like a comb where both are shown.
    """
    kept = np.arange(first_line, len(picture), 2)
    between = np.arange(1 - first_line, len(picture), 2)
    if not len(kept):
        return picture
    above, below = np.clip(between - 1, kept[0], kept[-1]), np.clip(between + 1, kept[0], kept[-1])
    result = picture.copy()
    result[between] = (picture[above].astype(np.uint16) + picture[below] + 1) // 2
    return result


def _upright(picture: NDArray[np.uint8], frame: Any) -> NDArray[np.uint8]:
    """Turn and mirror a picture as the frame's display matrix says, to the nearest quarter of a turn.

    The matrix takes a stored place (x, y), y down, to the shown one (a x + c y, b x + d y).
    """
    from av.sidedata.sidedata import Type

    matrix = next((data for data in frame.side_data if data.type == Type.DISPLAYMATRIX), None)
    if matrix is None or len(values := np.frombuffer(bytes(matrix), "<i4")) != 9:
        return picture
    a, b, c, d = (float(values[place]) for place in (0, 1, 3, 4))
    if abs(a) + abs(d) >= abs(b) + abs(c):
        flip_x, flip_y = a < 0, d < 0
    else:
        picture = picture.swapaxes(0, 1)
        flip_x, flip_y = c < 0, b < 0
    return picture[:: -1 if flip_y else 1, :: -1 if flip_x else 1]


def _chosen(container: Any, path: Path, kind: str) -> Any:
    """Return the stream that a player takes: the first that the file calls its default, else the first.

    Raises:
        StreamMissing: there is none of the kind.
        MediaError: this build of ffmpeg cannot decode it.
    """
    from av.stream import Disposition

    stills = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [s for s in getattr(container.streams, kind) if not s.disposition & stills]
    if not streams:
        raise StreamMissing(f"{path}: has no {'sound' if kind == 'audio' else 'picture'}")
    stream = next((s for s in streams if s.disposition & Disposition.default), streams[0])
    if not stream.codec_context:
        raise MediaError(f"{path}: its {kind} is of a kind that the installed PyAV cannot decode")
    return stream


def _declared(path: Path) -> float:
    """Return how many times as much sound as there is the header of a WAV file declares; 1 where it does not say."""
    try:
        length = wav_length(path)
    except MediaError:
        return 1.0  # of another kind, which ffmpeg calls wav, too
    cut = length.declared_s is not None and length.declared_s > length.there_s > 0
    return length.declared_s / length.there_s if cut and length.declared_s else 1.0


def _hole_s(container: Any) -> float:
    """Return the length of the false gap after the first picture of an AVI file that was cut out of a longer one.

    It is 0 for other formats and for whole files. AVI has no time stamps. ffmpeg writes such a piece with its first
    picture at 0, then a gap as long as the part that was cut off, and no gap in the sound; the lengths of both streams
    include the gap. A picture that stands still looks the same, but only in a cut piece is the index of the sound
    shorter than the sound's length by exactly the gap of the pictures.
    """
    if container.format.name != "avi" or not container.streams.audio:
        return 0.0
    sound = container.streams.audio[0]
    entries = sound.index_entries
    if not sound.duration or len(entries) < 2:
        return 0.0
    last, before = entries[len(entries) - 1].timestamp, entries[len(entries) - 2].timestamp
    hole_s = float((sound.duration - (2 * last - before)) * sound.time_base)
    if hole_s < SLACK_S:
        return 0.0
    for pictures in container.streams.video[:1]:
        entries = pictures.index_entries
        if len(entries) < 3:
            return 0.0
        first, second, third = (entries[index].timestamp for index in range(3))
        seen_s = float((2 * second - first - third) * pictures.time_base)
        if abs(seen_s - hole_s) > SLACK_S:
            return 0.0
        hole_s = seen_s
    return hole_s


def _stretches(part: _Part, sample_rate_hz: int) -> Iterator[tuple[float, NDArray[np.float32]]]:
    """Yield the stretches of sound between gaps: seconds from the part's beginning, and (N,) samples."""
    resampler: Any = None
    pieces: list[NDArray[np.float32]] = []
    begin_s = length_s = 0.0
    for time_s, frame in part.frames(PREROLL_S):
        if resampler is not None and abs(time_s - (begin_s + length_s)) >= LEAST_GAP_S:
            yield begin_s, _concatenated([*pieces, *_resample(resampler, None, part.path)])
            resampler = None
        if resampler is None:
            resampler, pieces, begin_s, length_s = _resampler(sample_rate_hz), [], time_s, 0.0
        length_s += frame.samples / frame.sample_rate
        frame.pts = None
        pieces += _resample(resampler, frame, part.path)
    if resampler is not None:
        yield begin_s, _concatenated([*pieces, *_resample(resampler, None, part.path)])


def _concatenated(pieces: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return (N,); a few samples at a very low rate resample to none."""
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


def _joined(
    stretches: list[tuple[float, NDArray[np.float32]]], part: _Part, sample_rate_hz: int
) -> NDArray[np.float32]:
    """Return the sound from the part's beginning on, with zeros where there is none.

    Raises:
        MediaError: there are more than :data:`LONGEST_SILENCE_S` without sound.
    """
    if not stretches:
        return np.zeros(0, np.float32)
    first_s = stretches[0][0]
    ends = [begin_s + len(samples) / sample_rate_hz for begin_s, samples in stretches]
    trusted = all(begin_s >= end_s for end_s, (begin_s, _) in zip(ends[:-1], stretches[1:], strict=True))
    trusted = trusted and (part.span_s is None or stretches[-1][0] <= part.span_s + SLACK_S)
    lead_s = first_s if part.span_s is None else min(first_s, part.span_s)
    gaps_s = [b - end_s for end_s, (b, _) in zip(ends[:-1], stretches[1:], strict=True)] if trusted else []
    if (silence_s := max(0.0, lead_s) + sum(gaps_s)) > LONGEST_SILENCE_S:
        raise MediaError(
            f"{part.path}: the time stamps leave {silence_s:.1f} s without sound; expected at most "
            f"{LONGEST_SILENCE_S:g} s, so they are damaged"
        )
    pieces: list[NDArray[np.float32]] = []
    reached = 0
    for begin_s, samples in stretches:
        if trusted:
            if (gap := max(0, round((begin_s - first_s) * sample_rate_hz) - reached)) > 0:
                pieces.append(np.zeros(gap, np.float32))
            reached += gap
        pieces.append(samples)
        reached += len(samples)
    joined = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    lead = round(lead_s * sample_rate_hz)
    return np.pad(joined, (lead, 0)) if lead > 0 else joined[-lead:]


def _resampler(sample_rate_hz: int) -> Any:
    import av

    return av.AudioResampler(format="fltp", layout=None, rate=sample_rate_hz)


def _resample(resampler: Any, frame: Any, path: Path) -> list[NDArray[np.float32]]:
    """Resample all channels, then average them: ffmpeg's own mixing to one channel overshoots full scale."""
    try:
        return [out.to_ndarray().mean(axis=0, dtype=np.float32) for out in resampler.resample(frame)]
    except (_ffmpeg_error(), ValueError, OSError, MemoryError) as error:
        raise _failure(f"{path}: the sound cannot be resampled", error) from error


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    import av

    if not path.exists():
        raise MediaError(f"{path}: there is no such file")
    if not path.is_file():
        raise MediaError(f"{path}: not a file")
    if not path.stat().st_size:
        raise MediaError(f"{path}: the file is empty (0 bytes)")
    try:  # an absolute path cannot be mistaken for a URL; a playlist in the file cannot open network addresses
        container = av.open(
            str(path.absolute()), metadata_errors="replace", container_options={"protocol_whitelist": "file"}
        )
    except (av.FFmpegError, ValueError, OSError, MemoryError) as error:
        raise _failure(f"{path}: not a readable audio or video file", error) from error
    try:
        yield container
    finally:
        container.close()


def _ffmpeg_error() -> type[Exception]:
    import av

    error: type[Exception] = av.FFmpegError
    return error


def _is_momentary(error: Exception) -> bool:
    return isinstance(error, MemoryError) or getattr(error, "errno", None) in _MOMENTARY


def _failure(what: str, error: Exception) -> MediaError:
    kind = MomentaryError if _is_momentary(error) else MediaError
    return kind(f"{what} ({_reason(error)})")


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def _span(start_s: float | None, end_s: float | None) -> str:
    return f"{start_s or 0.0:.3f} s to {'its end' if end_s is None else f'{end_s:.3f} s'}"
