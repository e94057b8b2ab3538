"""Denseface: the network's shape and numbers, the cutting of faces, the settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch.nn import functional as F

from pipeline.errors import AssetError
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.extractors.video import _densenet, denseface
from pipeline.extraction.extractors.video._densenet import DenseNet
from pipeline.extraction.extractors.video._faces import FaceFinder
from pipeline.extraction.media import read_frames


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, with running statistics and affine parts that are not 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    network = DenseNet()
    network.initialise(generator)
    for name, value in network.state_dict().items():
        if "norm" in name and value.ndim == 1:
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_file(network.state_dict(), path)
    return path


def test_the_network_is_densenet_bc_100_12() -> None:
    network = DenseNet()
    assert _densenet.FEATURES == denseface.FEATURES == network.head.in_features == 342
    convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(convolutions) == 99  # and the head: 100 layers with weights
    # The paper's table 2 has 0.8 million parameters for colour pictures and ten classes.
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == 769_162 - (3 - 1) * 24 * 9 - (10 - 8) * 343
    with pytest.raises(ValueError, match="6 n"):
        DenseNet(depth=99)


def test_features_are_what_the_head_sees(weights: Path) -> None:
    network = _densenet.load(weights)
    faces = torch.randn(3, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        features, logits = network(faces)
        assert (features.shape, logits.shape) == ((3, 342), (3, 8))
        torch.testing.assert_close(logits, F.linear(features, network.head.weight, network.head.bias))
        # the first layer by hand
        x = F.conv2d(faces, network.stem.weight, padding=1)
        layer = network.blocks[0]
        norms = [(n.running_mean, n.running_var, n.weight, n.bias) for n in (layer.norm1, layer.norm2)]
        new = F.conv2d(F.relu(F.batch_norm(x, *norms[0])), layer.conv1.weight)
        new = F.conv2d(F.relu(F.batch_norm(new, *norms[1])), layer.conv2.weight, padding=1)
        torch.testing.assert_close(layer(x), torch.cat([x, new], dim=1))
    assert (features >= 0).all()


def test_faces_are_normalised_as_the_reference_does(weights: Path, tmp_path: Path) -> None:
    faces = np.random.default_rng(0).integers(0, 256, (20, 64, 64), dtype=np.uint8)
    extractor = denseface.Extractor(denseface.DensefaceSettings(weights=weights), tmp_path)
    found = extractor.describe(faces)
    normalised = (torch.from_numpy(faces).float() - 131.0754) / 47.858177
    with torch.inference_mode():
        expected = _densenet.load(weights)(normalised[:, None])[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_real_face(weights: Path, assets: Callable[[str], Path]) -> None:
    clip = Clip("a", video=assets("cremad") / "1001_DFA_HAP_XX.flv")
    settings = denseface.DensefaceSettings(weights=weights, frame_rate_hz=4)
    extractor = denseface.Extractor(settings, assets("fer"))
    sequence = extractor.extract(clip)
    sequence.check(342, "test")
    assert sequence.flags.all()
    finder = FaceFinder(assets("fer") / denseface.CASCADE, 50, "biggest")
    _, picture = next(iter(read_frames(clip, 4, grey=True)))
    ((x, y, width, height),) = finder.find(picture)
    face = cv2.resize(picture[y : y + height, x : x + width], (64, 64))
    np.testing.assert_allclose(sequence.values[:1], extractor.describe(face[None]), rtol=1e-4, atol=1e-5)


def test_of_two_faces_the_biggest_or_the_nearest_to_the_last(assets: Callable[[str], Path]) -> None:
    _, picture = next(
        iter(read_frames(Clip("a", video=assets("cremad") / "1001_DFA_HAP_XX.flv"), 4, grey=True))
    )
    height, width = picture.shape
    smaller = cv2.resize(picture, (width // 2, height // 2))
    beside = np.full((height, width // 2), picture[0, 0], np.uint8)
    beside[: height // 2] = smaller
    cascade = assets("fer") / denseface.CASCADE
    for choice, expected in (("biggest", True), ("nearest", False)):
        finder = FaceFinder(cascade, 40, choice)  # type: ignore[arg-type]
        blank = np.full_like(picture, picture[0, 0])
        (first,) = finder.find(np.hstack([blank, beside]))  # the small one alone
        assert first[0] >= width
        (both,) = finder.find(np.hstack([picture, beside]))
        assert (both[0] < width) is expected
        finder.start()  # another clip: the biggest again
        (again,) = finder.find(np.hstack([picture, beside]))
        assert again[0] < width
    everyone = FaceFinder(cascade, 40, "all").find(np.hstack([picture, beside]))
    assert [face[0] < width for face in everyone] == [True, False]


def test_weights_must_be_given_and_safe(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="no public weights"):
        _ = denseface.Extractor(denseface.DensefaceSettings(), tmp_path).files
    absent = denseface.DensefaceSettings(weights=tmp_path / "absent.safetensors")
    with pytest.raises(AssetError, match="there is no file"):
        _ = denseface.Extractor(absent, tmp_path).files
    with pytest.raises(ValidationError, match=r"\.safetensors"):
        denseface.DensefaceSettings(weights=Path("model.pth"))


def test_the_weights_are_part_of_a_results_key(weights: Path, tmp_path: Path) -> None:
    extractor = denseface.Extractor(denseface.DensefaceSettings(weights=weights), tmp_path)
    assert extractor.files == (weights,)
