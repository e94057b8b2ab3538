"""MediaPipe's FaceLandmarker: blendshapes, head pose, gaze and 68 landmarks, with a name for every column.

The stand-in for OpenFace that pip can install. The 52 blendshapes are ARKit's, close to FACS action units.
Every frame is looked at alone: tracking from frame to frame would let one clip's result depend on the clip
before it.

MediaPipe reports to Google that it is used (no pictures; its issue 6291) where the network lets it, and has
no switch for that. Extraction's workers are kept from the network; a program that uses this class otherwise
is not.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.data.store import FeatureSequence, Status
from pipeline.errors import AssetError
from pipeline.extraction.extractors.base import (
    BaseExtractor,
    Clip,
    ExtractorSettings,
    naming_system_libraries,
)
from pipeline.extraction.extractors.video._faces import Choice, Chooser
from pipeline.extraction.media import read_frames

WEIGHTS = "face_landmarker.task"
MOST_FACES = 8  # that are looked for in a picture

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
# The points of the 478-point mesh that lie where the iBUG scheme (300 Faces in-the-Wild; dlib) has its 68.
IBUG_68 = (
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,  # 0-16 jaw
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,  # 17-26 brows
    168, 197, 5, 4, 75, 97, 2, 326, 305,  # 27-35 nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # 36-47 eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # 48-59 outer lips
    78, 82, 13, 312, 308, 317, 14, 87,  # 60-67 inner lips
)
# fmt: on
EYES = {
    "right": (33, 133, 468),
    "left": (362, 263, 473),
}  # the person's: corner on the picture's left, right; iris
_MESH = (*IBUG_68, *EYES["right"], *EYES["left"])
_OUTER_CORNERS = (_MESH.index(33), _MESH.index(263))

_NOISE = re.compile(
    r"^(?:[IW]\d{4} |INFO: Created TensorFlow|WARNING: (?:All log messages|Logging) before|\s*$)"
)


class FacelandmarkerSettings(ExtractorSettings):
    """How often and how sure.

    Attributes:
        frame_rate_hz: pictures a second that are looked at; null: every picture of the file.
        min_confidence: below this score a face is no face.
        face: of several, the biggest, or the nearest to the last picture's; or the mean over all.
    """

    frame_rate_hz: float | None = Field(8.0, gt=0, le=240)
    min_confidence: float = Field(0.5, gt=0, lt=1)
    face: Choice = "biggest"


class Extractor(BaseExtractor[FacelandmarkerSettings]):
    """FaceLandmarker: D = 52 blendshapes in [0, 1] + 6 pose + 4 gaze + 136 landmarks = 198.

    - pose: translation x, y, z of the head in centimetres before the camera, and its rotation about these
      axes in radians (pitch, yaw, roll), from MediaPipe's face transformation matrix.
    - gaze: where each iris is between its eye's corners: x along the line of the corners (0 is the middle,
      0.5 a corner, positive to the picture's right), y across it (positive down), both in eye widths.
    - landmarks: iBUG's 68 points in the picture's plane, normalised so that they do not depend on where the
      face is: their mean is subtracted, they are turned until the outer corners of the eyes are level, and
      divided by the root mean square of their distances from the mean. x is to the right, y down.

    A frame without a face is zeros with flag 0; a clip in which no frame has one is *missing*.
    """

    modality = "video"
    Settings = FacelandmarkerSettings
    libraries: ClassVar[tuple[str, ...]] = ("mediapipe", "numpy")
    parts: ClassVar[tuple[str, ...]] = ("pipeline.extraction.extractors.video._faces",)

    def __init__(self, settings: FacelandmarkerSettings, assets: Path) -> None:
        super().__init__(settings, assets)
        self._landmarker: Any = None
        self._chooser = Chooser(settings.face)

    @property
    def columns(self) -> tuple[str, ...]:
        """blendshape_*, pose_*, gaze_*, landmark_00_x .. landmark_67_y."""
        return (
            *(f"blendshape_{name}" for name in BLENDSHAPES),
            *("pose_x_cm", "pose_y_cm", "pose_z_cm", "pose_pitch", "pose_yaw", "pose_roll"),
            *("gaze_right_x", "gaze_right_y", "gaze_left_x", "gaze_left_y"),
            *(f"landmark_{point:02d}_{axis}" for point in range(68) for axis in "xy"),
        )

    @property
    def frame_period_s(self) -> float | None:
        """One over the frame rate."""
        return None if self.settings.frame_rate_hz is None else 1 / self.settings.frame_rate_hz

    def extract(self, clip: Clip) -> FeatureSequence:
        """Return one row a picture."""
        rows: list[NDArray[np.float32]] = []
        times: list[float] = []
        flags: list[bool] = []
        nothing = np.zeros(len(self.columns), np.float32)
        last: NDArray[np.uint8] | None = None
        self._chooser.start()
        for time_s, picture in read_frames(clip, self.settings.frame_rate_hz):
            if picture is last:  # the picture stands still
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
        """Give the model back."""
        if self._landmarker is not None:
            self._landmarker.close()
            self._landmarker = None

    def _look(self, picture: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Return the row of one (H, W, 3) picture, or None where there is no face."""
        result = self._detect(picture)
        height, width = picture.shape[:2]
        boxes = []
        for mesh in result.face_landmarks:
            (left, top), (right, bottom) = (
                (pick(point.x for point in mesh) * width, pick(point.y for point in mesh) * height)
                for pick in (min, max)
            )
            boxes.append((left, top, right - left, bottom - top))
        rows = [self._row(result, index, width, height) for index in self._chooser.choose(boxes)]
        if not rows:
            return None
        row: NDArray[np.float32] = np.stack(rows).mean(axis=0).astype(np.float32)
        return row if np.isfinite(row).all() else None

    def _row(self, result: Any, index: int, width: int, height: int) -> NDArray[np.float64]:
        """Return the row of one of the faces that were found."""
        mesh = result.face_landmarks[index]
        points = np.array([(mesh[i].x * width, mesh[i].y * height) for i in _MESH], np.float64)
        left, right = (points[index] for index in _OUTER_CORNERS)
        points = _turn_level(points, right - left)
        landmarks = points[:68] - points[:68].mean(axis=0)
        size = np.sqrt((landmarks**2).sum(axis=1).mean())
        scores = np.array([shape.score for shape in result.face_blendshapes[index]])
        return np.concatenate(
            [
                scores,
                _pose(result.facial_transformation_matrixes[index]),
                _gaze(points[68:]),
                (landmarks / size).ravel(),
            ]
        )

    def _detect(self, picture: NDArray[np.uint8]) -> Any:
        import mediapipe

        if self._landmarker is None:
            with _quiet(), naming_system_libraries():
                self._landmarker = self._load()
                self._landmarker.detect(
                    mediapipe.Image(
                        image_format=mediapipe.ImageFormat.SRGB, data=np.zeros((64, 64, 3), np.uint8)
                    )
                )
        return self._landmarker.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture))

    def _load(self) -> Any:
        from mediapipe.tasks.python import BaseOptions, vision

        from pipeline.assets import load_checked

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


def _turn_level(points: NDArray[np.float64], axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn (N, 2) points in the plane so that ``axis`` points to the right."""
    cos, sin = axis / max(float(np.hypot(*axis)), 1e-9)
    turned: NDArray[np.float64] = points @ np.array([[cos, -sin], [sin, cos]])
    return turned


def _pose(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return x, y, z and the angles about them of a 4 x 4 matrix R = Rz Ry Rx beside a translation."""
    pitch = np.arctan2(matrix[2, 1], matrix[2, 2])
    yaw = np.arcsin(np.clip(-matrix[2, 0], -1, 1))
    roll = np.arctan2(matrix[1, 0], matrix[0, 0])
    return np.array([*matrix[:3, 3], pitch, yaw, roll], np.float64)


def _gaze(eyes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return x, y of each iris between its corners, from (6, 2): right eye, left eye."""
    result = []
    for first, second, iris in eyes.reshape(2, 3, 2):
        axis = second - first
        width = max(float(np.hypot(*axis)), 1e-9)
        result.append(_turn_level((iris - (first + second) / 2)[None], axis)[0] / width)
    return np.concatenate(result)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep MediaPipe's start-up notes from the screen; the rest, and after an error all, is shown."""
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
                    print(line, file=sys.stderr)  # noqa: T201 - these are the library's own lines
