"""Runs MediaPipe's FaceLandmarker over the pictures of a clip, for the extractors facelandmarker and facet35.

Every picture is analysed by itself: with tracking from one to the next, the result of a clip would depend on the
clip before it.

MediaPipe reports to Google that it is used if it can reach the network: pipeline/extraction/offline.py keeps it from
that, in every process that loads the model.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.data.store import FeatureSequence, Status
from pipeline.errors import AssetError
from pipeline.extraction.extractors.base import (
    BaseExtractor,
    Clip,
    ExtractorSettings,
    FrameRate,
    naming_system_libraries,
)
from pipeline.extraction.extractors.video._faces import Choice, Chooser
from pipeline.extraction.media import read_frames
from pipeline.extraction.offline import block_network

WEIGHTS = "face_landmarker.task"
MOST_FACES = 8  # at most so many faces are looked for in a picture

# fmt: off
BLENDSHAPES = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight",
    "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft",
    "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft", "eyeSquintRight",
    "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose",
    "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight",
    "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft",
    "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight",
)
# fmt: on
POSE = ("pose_x_cm", "pose_y_cm", "pose_z_cm", "pose_pitch", "pose_yaw", "pose_roll")

BLINKS = (  # counted by eye and by program on one film
    "blinks are lost at a low rate: of 27 at the film's own rate, 16 are seen at 8 Hz; frame_rate_hz: native (or null) "
    "is the film's own"
)
BLINKING_HZ = 20.0  # a blink lasts 0.1 to 0.4 s: a rate over this shows two pictures of the shortest

_NOISE = re.compile(
    r"^(?:[IW]\d{4} |INFO: Created TensorFlow|WARNING: (?:All log messages|Logging) before|\s*$)"
)


class FaceSettings(ExtractorSettings):
    """Which pictures are analysed, and which faces count.

    Attributes:
        frame_rate_hz: how many pictures a second are analysed; native or null: every picture of the file.
        min_confidence: faces with a lower score are ignored.
        face: which of several faces: the biggest; the one nearest to that of the last picture; or the mean over all.
    """

    frame_rate_hz: FrameRate = 8.0
    min_confidence: float = Field(0.5, gt=0, lt=1)
    face: Choice = "biggest"


S = TypeVar("S", bound=FaceSettings)


class FaceExtractor(BaseExtractor[S]):
    """Gives one row of numbers for each picture of a clip; :meth:`face_row` computes them from a face."""

    modality = "video"
    libraries: ClassVar[tuple[str, ...]] = ("mediapipe", "numpy")
    parts: ClassVar[tuple[str, ...]] = (
        "pipeline.extraction.extractors.video._face_landmarks",
        "pipeline.extraction.extractors.video._faces",
    )

    def __init__(self, settings: S, assets: Path) -> None:
        super().__init__(settings, assets)
        self._landmarker: Any = None
        self._chooser = Chooser(settings.face)

    @abstractmethod
    def face_row(self, result: Any, index: int, width: int, height: int) -> NDArray[np.float64]:
        """Return (D,) numbers of one face.

        Args:
            result: MediaPipe's FaceLandmarkerResult of a picture.
            index: of the face in it.
            width, height: of the picture, in pixels.
        """

    @property
    def frame_period_s(self) -> float | None:
        """One over the frame rate."""
        return None if self.settings.frame_rate_hz is None else 1 / self.settings.frame_rate_hz

    def face_rows(self, clip: Clip, dims: int) -> FeatureSequence:
        """Return one row (``dims``,) a picture; where there is no face, zeros with flag 0.

        A clip in which no picture has a face is *missing*.
        """
        rows: list[NDArray[np.float32]] = []
        times: list[float] = []
        flags: list[bool] = []
        nothing = np.zeros(dims, np.float32)
        last: NDArray[np.uint8] | None = None
        self._chooser.start()
        for time_s, picture in read_frames(clip, self.settings.frame_rate_hz):
            if picture is last:  # the same picture as before
                rows.append(rows[-1])
                flags.append(flags[-1])
            else:
                row = self._look(picture)
                rows.append(nothing if row is None else row)
                flags.append(row is not None)
            times.append(time_s)
            last = picture
        if not any(flags):
            return FeatureSequence.absent(
                len(nothing), Status.MISSING, f"no face in any of {len(flags)} pictures", len(flags)
            )
        return FeatureSequence(np.stack(rows), np.array(times, np.float32), np.array(flags, np.uint8))

    def close(self) -> None:
        """Release the model."""
        if self._landmarker is not None:
            self._landmarker.close()
            self._landmarker = None

    def find_faces(self, picture: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        """Return the points (N, 2) of each chosen face's mesh, x and y in pixels of one (H, W, 3) picture."""
        return self._chosen(picture, self._detect(picture))[1]

    def _look(self, picture: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Return the row of one (H, W, 3) picture, or None where there is no face."""
        result = self._detect(picture)
        height, width = picture.shape[:2]
        rows = [self.face_row(result, index, width, height) for index in self._chosen(picture, result)[0]]
        if not rows:
            return None
        row: NDArray[np.float32] = np.stack(rows).mean(axis=0).astype(np.float32)
        return row if np.isfinite(row).all() else None

    def _chosen(self, picture: NDArray[np.uint8], result: Any) -> tuple[list[int], list[NDArray[np.float64]]]:
        """Return the chosen faces of a picture: their indices in MediaPipe's result, and their meshes in pixels."""
        height, width = picture.shape[:2]
        meshes, boxes = [], []
        for mesh in result.face_landmarks:
            points = np.array([(point.x * width, point.y * height) for point in mesh], np.float64)
            (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
            meshes.append(points)
            boxes.append((left, top, right - left, bottom - top))
        chosen = self._chooser.choose(boxes)
        return chosen, [meshes[index] for index in chosen]

    def prepare(self) -> None:
        """Load MediaPipe's model, and let it look at a black picture."""
        with naming_system_libraries():
            import mediapipe

        if self._landmarker is None:
            block_network()
            with _quiet(), naming_system_libraries():
                self._landmarker = self._load()
                self._landmarker.detect(
                    mediapipe.Image(
                        image_format=mediapipe.ImageFormat.SRGB, data=np.zeros((64, 64, 3), np.uint8)
                    )
                )

    def _detect(self, picture: NDArray[np.uint8]) -> Any:
        import mediapipe

        self.prepare()
        return self._landmarker.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture))

    def _load(self) -> Any:
        from mediapipe.tasks.python import BaseOptions, vision

        from pipeline.data.assets import load_checked

        weights = load_checked(self.assets, WEIGHTS)
        confidence = self.settings.min_confidence
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(weights)),
            running_mode=vision.RunningMode.IMAGE,
            num_faces=MOST_FACES,
            min_face_detection_confidence=confidence,
            min_face_presence_confidence=confidence,
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
        )
        try:
            return vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            raise AssetError(f"{weights}: MediaPipe cannot load it: {error}") from error


def misses_blinks(settings: Mapping[str, Any]) -> bool:
    """Whether pictures are so far apart that blinks fall between them; the file's own rate counts as quick enough."""
    rate_hz = settings.get("frame_rate_hz")
    return rate_hz is not None and rate_hz < BLINKING_HZ


def blendshapes(result: Any, index: int) -> NDArray[np.float64]:
    """Return the scores (52,) of a face's :data:`BLENDSHAPES`, each in [0, 1].

    Raises:
        AssetError: the model gives others, or none.
    """
    shapes = result.face_blendshapes[index] if result.face_blendshapes else []
    if (names := tuple(shape.category_name for shape in shapes)) != BLENDSHAPES:
        raise AssetError(
            f"{WEIGHTS}: gives {len(names)} blendshapes ({', '.join(names[:3]) or 'none'} ...), expected MediaPipe's "
            f"{len(BLENDSHAPES)} from {BLENDSHAPES[0]} to {BLENDSHAPES[-1]}. Take its face_landmarker.task"
        )
    return np.array([shape.score for shape in shapes])


def pose(result: Any, index: int) -> NDArray[np.float64]:
    """Return a face's :data:`POSE`, (6,), from its 4 x 4 matrix: R = Rz Ry Rx beside a translation."""
    matrix = result.facial_transformation_matrixes[index]
    pitch = np.arctan2(matrix[2, 1], matrix[2, 2])
    yaw = np.arcsin(np.clip(-matrix[2, 0], -1, 1))
    roll = np.arctan2(matrix[1, 0], matrix[0, 0])
    return np.array([*matrix[:3, 3], pitch, yaw, roll], np.float64)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide MediaPipe's start-up notes; show what else it writes, and everything after an error."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as caught:
        screen = os.dup(2)
        os.dup2(caught.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(screen, 2)
            os.close(screen)
            caught.seek(0)
            lines = caught.read().decode("utf-8", "replace").splitlines()
            for line in lines:
                if failed or not _NOISE.match(line):
                    print(line, file=sys.stderr)  # noqa: T201 - lines that the library wrote
