"""The demo corpus's pictures: a face's clip re-timed, cropped, mirrored and relit, and encoded with the sound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.demo_corpus.plan import Utterance, generator_of
from pipeline.demo_corpus.processes import fresh_processes
from pipeline.demo_corpus.speech import FRAME_RATE_HZ, SAMPLE_RATE_HZ
from pipeline.errors import DataError, SystemLibraryError

FACES = {"happy": "HAP", "neutral": "NEU", "sad": "SAD", "angry": "ANG"}
SHARED_FACES = {"happy": "FEA", "neutral": "FEA", "sad": "DIS", "angry": "DIS"}
WIDTH, HEIGHT = 320, 240


def face_codes() -> list[str]:
    """Return the codes of the faces' clips in CREMA-D's file names, sorted."""
    return sorted({*FACES.values(), *SHARED_FACES.values()})


@dataclass(frozen=True)
class Shot:
    """How a face's clip is shown: which part of it, at what speed, from which view, in which light."""

    clip: str
    start: float  # frames of the clip
    span: float
    phase: float  # where the shot begins, in frames: the part is played forwards and backwards in turn
    speed: float  # frames of the clip for each frame of the shot
    mirrored: bool
    zoom: float
    turn_deg: float
    shift: tuple[float, float]  # pixels of the shot
    sway: tuple[float, float, float]  # pixels to the side, pixels up, and cycles a second
    gamma: float
    gains: tuple[float, float, float]  # red, green, blue

    @classmethod
    def draw(
        cls, emotion: str, shared_faces: float, lengths: dict[str, int], generator: np.random.Generator
    ) -> Shot:
        """Draw a shot of an emotion; ``lengths`` are the clips' numbers of frames.

        ``shared_faces`` is the share of shots whose face fits another emotion as well.
        """
        shared = generator.random() < shared_faces
        clip = (SHARED_FACES if shared else FACES)[emotion]
        last = lengths[clip] - 1
        span = last * generator.uniform(0.55, 1.0)
        gain = generator.uniform(0.85, 1.12)
        return cls(
            clip=clip,
            start=generator.uniform(0, last - span),
            span=span,
            phase=generator.uniform(0, 2 * span),
            speed=30 / FRAME_RATE_HZ * generator.uniform(0.75, 1.25),
            mirrored=bool(generator.random() < 0.5),
            zoom=generator.uniform(1.05, 1.45),
            turn_deg=generator.normal(0, 2.5),
            shift=(generator.normal(0, 8), generator.normal(0, 5)),
            sway=(generator.uniform(0.5, 2.5), generator.uniform(0.5, 2.0), generator.uniform(0.2, 0.5)),
            gamma=generator.uniform(0.75, 1.3),
            gains=tuple(gain * generator.uniform(0.94, 1.06, 3)),
        )

    def pictures(self, frames: Sequence[NDArray[np.uint8]], count: int) -> Iterator[NDArray[np.uint8]]:
        """Yield ``count`` pictures, (240, 320, 3) uint8 red, green, blue, from the clip's frames."""
        import cv2

        height, width = frames[0].shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), self.turn_deg, WIDTH / width * self.zoom)
        if self.mirrored:
            matrix = matrix @ np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]])
        levels = np.linspace(0, 1, 256)[:, None] ** self.gamma * np.array(self.gains)
        light = np.clip(np.rint(levels * 255), 0, 255).astype(np.uint8)[None]
        for index in range(count):
            there_and_back = (self.phase + index * self.speed) % (2 * self.span)
            position = self.start + min(there_and_back, 2 * self.span - there_and_back)
            angle = 2 * np.pi * self.sway[2] * index / FRAME_RATE_HZ
            moved = matrix.copy()
            moved[0, 2] += (WIDTH - width) / 2 + self.shift[0] + self.sway[0] * np.sin(angle)
            moved[1, 2] += (HEIGHT - height) / 2 + self.shift[1] + self.sway[1] * np.cos(angle)
            picture = cv2.warpAffine(
                frames[round(position)],
                moved,
                (WIDTH, HEIGHT),
                flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REFLECT_101,
            )
            yield cv2.LUT(picture, light)


@cache
def _open_faces(clips: tuple[tuple[str, str], ...]) -> dict[str, list[NDArray[np.uint8]]]:
    """Decode the faces' clips, once a process: {code: pictures (360, 480, 3) uint8 red, green, blue}."""
    from pipeline.extraction.clip import Clip
    from pipeline.extraction.media import read_frames

    try:
        import cv2
    except ImportError as error:
        raise SystemLibraryError(
            f"OpenCV cannot be loaded ({error}). On Debian and Ubuntu: apt-get install libgl1 libglib2.0-0"
        ) from error
    cv2.setNumThreads(1)
    return {
        code: [picture for _, picture in read_frames(Clip(code, video=Path(path)), None)]
        for code, path in clips
    }


def film_all(
    seed: int,
    shared_faces: float,
    utterances: Sequence[Utterance],
    clips: dict[str, str],
    folder: Path,
    workers: int,
) -> None:
    """Make every clip, divided among ``workers`` processes, from the sounds that ``speak_all`` left.

    ``shared_faces`` is the share of clips whose face fits another emotion as well.
    """
    from tqdm import tqdm

    with fresh_processes(workers) as pool:
        jobs = [
            pool.submit(_film, seed, shared_faces, utterance, tuple(clips.items()), folder)
            for utterance in utterances
        ]
        try:
            for job in tqdm(jobs, "demo corpus", unit="clip"):
                job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _film(
    seed: int, shared_faces: float, utterance: Utterance, clips: tuple[tuple[str, str], ...], folder: Path
) -> None:
    """Make one clip: pictures for as long as its sound lasts, both into clips/<id>.mp4."""
    sound_file = folder / f"{utterance.id}.npy"
    sound = np.load(sound_file, allow_pickle=False)
    generator = generator_of(seed, "pictures", utterance.number)
    faces = _open_faces(clips)
    lengths = {code: len(frames) for code, frames in faces.items()}
    shot = Shot.draw(utterance.shown["video"], shared_faces, lengths, generator)
    count = len(sound) * FRAME_RATE_HZ // SAMPLE_RATE_HZ
    path = folder / "clips" / f"{utterance.id}.mp4"
    try:
        _encode(path, shot.pictures(faces[shot.clip], count), sound)
    except OSError as error:  # PyAV's errors are OSErrors too, but cannot be sent to another process
        raise DataError(f"{path}: cannot be written: {error}") from None
    sound_file.unlink()


def _encode(path: Path, pictures: Iterator[NDArray[np.uint8]], sound: NDArray[np.int16]) -> None:
    """Write H.264 and AAC into an mp4, on one thread and without the time of day: equal input, equal bytes."""
    import av

    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        # ultrafast: the demo is made while its reader waits. Nothing slower than superfast in any case: the look-ahead
        # of slower presets (x264's mbtree) differs a bit from run to run.
        options = {"preset": "ultrafast", "crf": "24", "threads": "1", "flags": "+bitexact"}
        video = container.add_stream("libx264", rate=FRAME_RATE_HZ, options=options)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        options = {"b": "64000", "flags": "+bitexact"}
        audio = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono", options=options)
        for picture in pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
        frame = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        container.mux(audio.encode(frame))
        container.mux(audio.encode())
