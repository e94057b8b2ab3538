"""MediaPipe's FaceLandmarker: blendshapes, head pose, gaze and 68 landmarks, with a name for every column.

It replaces OpenFace where only pip can be used. The 52 blendshapes are ARKit's, similar to the action units of
FACS. _face_landmarks.py runs MediaPipe; this file computes the columns.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.data.store import FeatureSequence
from pipeline.extraction.extractors.base import Caution, Clip
from pipeline.extraction.extractors.video._face_landmarks import (
    BLENDSHAPES,
    BLINKS,
    POSE,
    FaceExtractor,
    FaceSettings,
    blendshapes,
    misses_blinks,
    pose,
)

# fmt: off
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


class FacelandmarkerSettings(FaceSettings):
    """Which pictures are analysed, and which faces count.

    Attributes:
        frame_rate_hz: how many pictures a second are analysed; native or null: every picture of the file.
        min_confidence: faces with a lower score are ignored.
        face: which of several faces: the biggest; the one nearest to that of the last picture; or the mean over all.
    """


class Extractor(FaceExtractor[FacelandmarkerSettings]):
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

    Settings = FacelandmarkerSettings
    cautions: ClassVar[tuple[Caution, ...]] = (
        Caution(
            r"blendshape_(_neutral|cheekPuff|cheekSquint(Left|Right)|jawForward|noseSneer(Left|Right))",
            "MediaPipe's model barely moves these (at most 0.005 of 1 on the demo's faces)",
        ),
        Caution(
            r"blendshape_mouthFrown(Left|Right)",
            "barely moved on the demo's faces (at most 0.0004 of 1); look at yours by --statistics",
        ),
        Caution(r"blendshape_eyeBlink(Left|Right)", BLINKS, misses_blinks),
        Caution(
            r"pose_(pitch|yaw|roll)",
            "in radians, with MediaPipe's signs (a head that is tilted clockwise in the picture has a negative roll); "
            "OpenFace and Facet do not agree with it in all of them",
        ),
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """blendshape_*, pose_*, gaze_*, landmark_00_x .. landmark_67_y."""
        return (
            *(f"blendshape_{name}" for name in BLENDSHAPES),
            *POSE,
            *("gaze_right_x", "gaze_right_y", "gaze_left_x", "gaze_left_y"),
            *(f"landmark_{point:02d}_{axis}" for point in range(68) for axis in "xy"),
        )

    def extract(self, clip: Clip) -> FeatureSequence:
        """Return one row a picture."""
        return self.face_rows(clip, len(self.columns))

    def face_row(self, result: Any, index: int, width: int, height: int) -> NDArray[np.float64]:
        """Return the row of one of the faces of a picture."""
        mesh = result.face_landmarks[index]
        points = np.array([(mesh[i].x * width, mesh[i].y * height) for i in _MESH], np.float64)
        left, right = (points[index] for index in _OUTER_CORNERS)
        points = _turn_level(points, right - left)
        landmarks = points[:68] - points[:68].mean(axis=0)
        size = np.sqrt((landmarks**2).sum(axis=1).mean())
        return np.concatenate(
            [
                blendshapes(result, index),
                pose(result, index),
                _gaze(points[68:]),
                (landmarks / size).ravel(),
            ]
        )


def _turn_level(points: NDArray[np.float64], axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn (N, 2) points in the plane so that ``axis`` points to the right."""
    cos, sin = axis / max(float(np.hypot(*axis)), 1e-9)
    turned: NDArray[np.float64] = points @ np.array([[cos, -sin], [sin, cos]])
    return turned


def _gaze(eyes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return x, y of each iris between its corners, from (6, 2): right eye, left eye."""
    result = []
    for first, second, iris in eyes.reshape(2, 3, 2):
        axis = second - first
        width = max(float(np.hypot(*axis)), 1e-9)
        result.append(_turn_level((iris - (first + second) / 2)[None], axis)[0] / width)
    return np.concatenate(result)
