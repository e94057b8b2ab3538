"""A 35-column vector in the layout of Facet's, as far as MediaPipe's blendshapes can stand in for it.

Facet (iMotions; Emotient) is closed software. CMU-MOSEI's visual features, which UMDF takes, are its 35
columns: ten expressions, twenty action units of FACS, two traits and three angles. Facet's own numbers come
by the importer of computational sequences; this extractor computes the same columns from what MediaPipe finds.
Facet gives evidence (log10 of odds, about -4 to 4); here action units and expressions are scores from 0 to 1.
Every column is a substitute: a model that was trained on Facet's numbers cannot be used with these.

========== =========================== ====================================================================
column     means                       stands in
========== =========================== ====================================================================
AU1        inner brow raiser           browInnerUp
AU2        outer brow raiser           browOuterUp, mean of left and right (as everywhere below)
AU4        brow lowerer                browDown
AU5        upper lid raiser            eyeWide
AU6        cheek raiser                cheekSquint; MediaPipe keeps it near 0, so a weak one
AU7        lid tightener               eyeSquint
AU9        nose wrinkler               noseSneer; MediaPipe keeps it near 0, so a weak one
AU10       upper lip raiser            mouthUpperUp
AU12       lip corner puller           mouthSmile
AU14       dimpler                     mouthDimple
AU15       lip corner depressor        mouthFrown
AU17       chin raiser                 mouthShrugLower
AU18       lip pucker                  mouthPucker
AU20       lip stretcher               mouthStretch
AU23       lip tightener               mean of mouthPress and mouthRollUpper: no blendshape is near to it
AU24       lip pressor                 mouthPress
AU25       lips part                   mouthLowerDown: it is not the parting itself
AU26       jaw drop                    jawOpen
AU28       lip suck                    mean of mouthRollLower and mouthRollUpper
AU43       eyes closed                 eyeBlink
joy ...    an expression, as Facet's   mean of the action units of its prototype (Ekman, Friesen & Hager 2002,
           table classifier sees it          10-1): joy 6 12; anger 4 5 7 23; disgust 9 10 15; fear 1 2 4 5
           20; sadness
                                       1 4 15; surprise 1 2 5 26; contempt 14, on both sides; confusion 4 7
                                       and frustration 1 2 14 after Craig et al. 2008
baseline   nothing is expressed        1 less the highest of the nine others
Has_Glasses, Is_Male                   nothing: always 0. Neither can be read from blendshapes
Pitch, Yaw, Roll                       the head's angles, in degrees, as facelandmarker's; Facet's signs are
                                       not known to be the same
========== =========================== ====================================================================
"""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.data.store import FeatureSequence, Status
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

ACTION_UNITS: dict[str, tuple[str, ...]] = {
    "AU1": ("browInnerUp",),
    "AU2": ("browOuterUpLeft", "browOuterUpRight"),
    "AU4": ("browDownLeft", "browDownRight"),
    "AU5": ("eyeWideLeft", "eyeWideRight"),
    "AU6": ("cheekSquintLeft", "cheekSquintRight"),
    "AU7": ("eyeSquintLeft", "eyeSquintRight"),
    "AU9": ("noseSneerLeft", "noseSneerRight"),
    "AU10": ("mouthUpperUpLeft", "mouthUpperUpRight"),
    "AU12": ("mouthSmileLeft", "mouthSmileRight"),
    "AU14": ("mouthDimpleLeft", "mouthDimpleRight"),
    "AU15": ("mouthFrownLeft", "mouthFrownRight"),
    "AU17": ("mouthShrugLower",),
    "AU18": ("mouthPucker",),
    "AU20": ("mouthStretchLeft", "mouthStretchRight"),
    "AU23": ("mouthPressLeft", "mouthPressRight", "mouthRollUpper", "mouthRollUpper"),
    "AU24": ("mouthPressLeft", "mouthPressRight"),
    "AU25": ("mouthLowerDownLeft", "mouthLowerDownRight"),
    "AU26": ("jawOpen",),
    "AU28": ("mouthRollLower", "mouthRollUpper"),
    "AU43": ("eyeBlinkLeft", "eyeBlinkRight"),
}
EXPRESSIONS: dict[str, tuple[str, ...]] = {  # in the order of CMU-MOSEI's columns; baseline comes sixth
    "Anger": ("AU4", "AU5", "AU7", "AU23"),
    "Contempt": ("AU14",),
    "Disgust": ("AU9", "AU10", "AU15"),
    "Joy": ("AU6", "AU12"),
    "Fear": ("AU1", "AU2", "AU4", "AU5", "AU20"),
    "Sadness": ("AU1", "AU4", "AU15"),
    "Surprise": ("AU1", "AU2", "AU5", "AU26"),
    "Confusion": ("AU4", "AU7"),
    "Frustration": ("AU1", "AU2", "AU14"),
}
BASELINE = 5
COLUMNS = (
    *list(EXPRESSIONS)[:BASELINE],
    "Baseline",
    *list(EXPRESSIONS)[BASELINE:],
    *ACTION_UNITS,
    *("Has_Glasses", "Is_Male", "Pitch", "Yaw", "Roll"),
)
_FOUND = (*BLENDSHAPES, *POSE)  # what a row of FaceLandmarker's is read for
_ANGLES = slice(_FOUND.index("pose_pitch"), _FOUND.index("pose_roll") + 1)


class Facet35Settings(FaceSettings):
    """The same settings as those of facelandmarker."""


class Extractor(FaceExtractor[Facet35Settings]):
    """The 35 columns, a row a picture; zeros with flag 0 where there is no face."""

    Settings = Facet35Settings
    cautions: ClassVar[tuple[Caution, ...]] = (
        Caution(
            r"AU6|AU9",
            "nearly constant: MediaPipe's model barely moves cheekSquint and noseSneer, which stand in for them",
        ),
        Caution(
            r"AU15",
            "mouthFrown, which stands in for it, barely moved on the demo's faces; look at yours by --statistics",
        ),
        Caution(r"Joy|Disgust", "damped: AU6 and AU9, of which they are means among others, barely move"),
        Caution(r"AU43", BLINKS, misses_blinks),
        Caution(r"Has_Glasses|Is_Male", "always 0: neither can be read from blendshapes"),
        Caution(
            r"Pitch|Yaw|Roll", "in degrees, with MediaPipe's signs, which are not known to be those of Facet"
        ),
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the 35 columns, in CMU-MOSEI's order."""
        return COLUMNS

    def extract(self, clip: Clip) -> FeatureSequence:
        """Return one row a picture."""
        found = self.face_rows(clip, len(_FOUND))
        if found.status is not Status.OK:
            return FeatureSequence.absent(len(COLUMNS), found.status, found.reason, found.unseen)
        return FeatureSequence(derive(found.values, found.flags), found.times, found.flags)

    def face_row(self, result: Any, index: int, width: int, height: int) -> NDArray[np.float64]:
        """Return the blendshapes and the pose of one of the faces of a picture."""
        return np.concatenate([blendshapes(result, index), pose(result, index)])


def derive(values: NDArray[np.float32], flags: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (T, 35) float32 from (T, 58) blendshapes and pose, and the flags (T,)."""
    shapes = values[:, : len(BLENDSHAPES)].astype(np.float64)
    units = shapes @ _units()
    expressions = units @ _prototypes()
    baseline = 1 - expressions.max(axis=1, keepdims=True, initial=0.0)
    angles = np.degrees(values[:, _ANGLES].astype(np.float64))
    traits = np.zeros((len(values), 2))
    rows = np.concatenate(
        [expressions[:, :BASELINE], baseline, expressions[:, BASELINE:], units, traits, angles], axis=1
    )
    rows[flags == 0] = 0.0
    return rows.astype(np.float32)


@cache
def _units() -> NDArray[np.float64]:
    """(52, 20): the share of each blendshape in each action unit; columns sum to 1."""
    shares = np.zeros((len(BLENDSHAPES), len(ACTION_UNITS)))
    for column, shapes in enumerate(ACTION_UNITS.values()):
        for shape in shapes:
            shares[BLENDSHAPES.index(shape), column] += 1 / len(shapes)
    return shares


@cache
def _prototypes() -> NDArray[np.float64]:
    """(20, 9): the share of each action unit in each expression; columns sum to 1."""
    names = list(ACTION_UNITS)
    shares = np.zeros((len(names), len(EXPRESSIONS)))
    for column, units in enumerate(EXPRESSIONS.values()):
        for unit in units:
            shares[names.index(unit), column] = 1 / len(units)
    return shares
