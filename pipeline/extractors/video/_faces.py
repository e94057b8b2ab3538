"""Finding one face a picture with OpenCV's Haar cascade (Viola & Jones, 2001), and cutting it out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import AssetError
from pipeline.extractors.base import naming_system_libraries

CASCADE = "haarcascade_frontalface_default.xml"
Choice = Literal["biggest", "nearest"]


class FaceFinder:
    """Finds the face that is meant in one picture after another.

    Args:
        cascade: OpenCV's cascade as xml.
        smallest: pixels of a face's side; smaller ones are not looked for.
        choice: of several faces, the biggest, or the nearest to the last picture's (the biggest at first):
            a passer-by who comes closer to the camera is not taken for the speaker.

    Raises:
        AssetError: OpenCV cannot load the cascade.
    """

    def __init__(self, cascade: Path, smallest: int, choice: Choice) -> None:
        with naming_system_libraries():
            import cv2
        cv2.setNumThreads(1)  # several give the faces in an order that changes from run to run
        self._smallest, self._choice = smallest, choice
        self._cascade: Any = cv2.CascadeClassifier(str(cascade))
        if self._cascade.empty():
            raise AssetError(f"{cascade}: OpenCV cannot load it as a cascade")
        self._last: tuple[float, float] | None = None

    def start(self) -> None:
        """Forget the last picture: another clip begins."""
        self._last = None

    def find(self, picture: NDArray[np.uint8]) -> tuple[int, int, int, int] | None:
        """Return left, top, width and height of the face in an (H, W) grey picture, or None."""
        found = self._cascade.detectMultiScale(
            picture, scaleFactor=1.1, minNeighbors=5, minSize=(self._smallest,) * 2
        )
        boxes = [(int(x), int(y), int(width), int(height)) for x, y, width, height in found]
        if not boxes:
            return None
        box = min(boxes, key=self._rank)
        self._last = _middle(box)
        return box

    def cut(self, picture: NDArray[np.uint8], side: int, margin: int) -> NDArray[np.uint8] | None:
        """Return the face with ``margin`` pixels around it, scaled to (side, side), or None."""
        import cv2

        box = self.find(picture)
        if box is None:
            return None
        x, y, width, height = box
        top, left = max(0, y - margin), max(0, x - margin)
        face: NDArray[np.uint8] = cv2.resize(
            picture[top : y + height + margin, left : x + width + margin], (side, side)
        )
        return face

    def _rank(self, box: tuple[int, int, int, int]) -> tuple[float, int]:
        if self._choice == "nearest" and self._last is not None:
            x, y = _middle(box)
            return (x - self._last[0]) ** 2 + (y - self._last[1]) ** 2, box[0]
        return -box[2] * box[3], box[0]


def _middle(box: tuple[int, int, int, int]) -> tuple[float, float]:
    x, y, width, height = box
    return x + width / 2, y + height / 2
