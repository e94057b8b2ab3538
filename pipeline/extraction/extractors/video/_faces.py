"""Finds faces in pictures with OpenCV's Haar cascade (Viola & Jones, 2001), cuts them out, and chooses among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import AssetError
from pipeline.extraction.extractors.base import naming_system_libraries

CASCADE = "haarcascade_frontalface_default.xml"
Choice = Literal["biggest", "nearest", "all"]
Box = tuple[float, float, float, float]  # left, top, width, height


class FaceFinder:
    """Finds the chosen face, or all faces, in one picture after another.

    Args:
        cascade: OpenCV's cascade as xml.
        smallest: the side of the smallest face that is looked for, in pixels.
        choice: which of several faces: the biggest; the one nearest to that of the last picture (at first the
            biggest), so that a passer-by close to the camera is not taken for the speaker; or all.

    Raises:
        AssetError: OpenCV cannot load the cascade.
    """

    def __init__(self, cascade: Path, smallest: int, choice: Choice) -> None:
        with naming_system_libraries():
            import cv2
        cv2.setNumThreads(1)  # with several threads the order of the faces changes from run to run
        self._smallest, self._choice = smallest, choice
        self._cascade: Any = cv2.CascadeClassifier(str(cascade))
        if self._cascade.empty():
            raise AssetError(f"{cascade}: OpenCV cannot load it as a cascade")
        self._chooser = Chooser(choice)

    def start(self) -> None:
        """Forget the last picture: another clip begins."""
        self._chooser.start()

    def find(self, picture: NDArray[np.uint8]) -> list[tuple[int, int, int, int]]:
        """Return left, top, width and height of the chosen face, or of all faces, in an (H, W) grey picture."""
        found = self._cascade.detectMultiScale(
            picture, scaleFactor=1.1, minNeighbors=5, minSize=(self._smallest,) * 2
        )
        boxes = [(int(x), int(y), int(width), int(height)) for x, y, width, height in found]
        return [boxes[index] for index in self._chooser.choose(boxes)]

    def corners(self, picture: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        """Return the corners (4, 2) of the boxes of :meth:`find`, in pixels of a coloured (H, W, 3) picture."""
        import cv2

        boxes = self.find(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
        return [
            np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], np.float64)
            for x, y, width, height in boxes
        ]

    def cut(self, picture: NDArray[np.uint8], side: int, margin: int) -> list[NDArray[np.uint8]]:
        """Return the faces of :meth:`find` with ``margin`` pixels around them, scaled to (side, side)."""
        import cv2

        faces = []
        for x, y, width, height in self.find(picture):
            top, left = max(0, y - margin), max(0, x - margin)
            face = picture[top : y + height + margin, left : x + width + margin]
            faces.append(cv2.resize(face, (side, side)))
        return faces


class Chooser:
    """Chooses among several faces in a picture.

    Args:
        choice: as for :class:`FaceFinder`.
    """

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        self._last: tuple[float, float] | None = None

    def start(self) -> None:
        """Forget the last picture: another clip begins."""
        self._last = None

    def choose(self, boxes: Sequence[Box]) -> list[int]:
        """Return the indices of the chosen boxes: one of them, or all; none when there are no boxes."""
        ranked = sorted(range(len(boxes)), key=lambda index: self._rank(boxes[index]))
        if not ranked:
            return []
        self._last = _middle(boxes[ranked[0]])
        return ranked if self._choice == "all" else ranked[:1]

    def _rank(self, box: Box) -> tuple[float, float]:
        if self._choice == "nearest" and self._last is not None:
            x, y = _middle(box)
            return (x - self._last[0]) ** 2 + (y - self._last[1]) ** 2, box[0]
        return -box[2] * box[3], box[0]


def describe_faces(
    pictures: Iterable[tuple[float, NDArray[np.uint8]]],
    faces_of: Callable[[NDArray[np.uint8]], list[NDArray[Any]]],
    describe: Callable[[NDArray[Any]], NDArray[np.float32]],
    at_once: int,
) -> tuple[NDArray[np.float32], list[float], list[int]]:
    """Describe the faces of a clip as its pictures come, so that a long clip's faces are not all in memory.

    Args:
        pictures: time and picture; a picture that stands still is the same array again.
        faces_of: returns the faces of a picture, all of one shape.
        describe: returns (N, D) float32 of N faces.
        at_once: how many faces it gets; the last time perhaps fewer.

    Returns:
        The rows of all faces (sum of counts, D), or (0, 0) where there is none; and of each picture its time and
        how many faces it has.
    """
    rows: list[NDArray[np.float32]] = []
    times: list[float] = []
    counts: list[int] = []
    waiting: list[NDArray[Any]] = []
    faces: list[NDArray[Any]] = []
    last: NDArray[np.uint8] | None = None
    for time_s, picture in pictures:
        if picture is not last:
            faces, last = faces_of(picture), picture
        times.append(time_s)
        counts.append(len(faces))
        waiting += faces
        while len(waiting) >= at_once:
            rows.append(describe(np.stack(waiting[:at_once])))
            del waiting[:at_once]
    if waiting:
        rows.append(describe(np.stack(waiting)))
    return np.concatenate(rows) if rows else np.zeros((0, 0), np.float32), times, counts


def averaged(rows: NDArray[np.float32], counts: Sequence[int]) -> NDArray[np.float32]:
    """Return (N, D): for each picture the mean over the rows of its faces; zeros for a picture without a face.

    Args:
        rows: (sum of counts, D) float32, one row for each face.
        counts: how many faces each of the N pictures has.
    """
    result = np.zeros((len(counts), rows.shape[1]), np.float32)
    for index, part in enumerate(np.split(rows, np.cumsum(counts)[:-1])):
        if len(part):
            result[index] = part.mean(axis=0)
    return result


def _middle(box: Box) -> tuple[float, float]:
    x, y, width, height = box
    return x + width / 2, y + height / 2
