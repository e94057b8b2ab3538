"""DenseNet-BC (Huang et al., CVPR 2017, section 3) for small faces: growth 12, depth 100, reduction 0.5.

Three dense blocks of (100 - 4) / 6 = 16 layers; each layer is batch normalisation, ReLU, a 1 x 1 convolution
to 48 channels, batch normalisation, ReLU and a 3 x 3 convolution to 12, which are added to the layer's input
channels. Channels: 24 at first, 24 + 16 * 12 = 216, halved to 108, 300, halved to 150, 342. The last are
normalised, cut at 0 and averaged over the picture: the 342 features of "Denseface" (MMIN, section 4.2).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import AssetError

GROWTH, DEPTH, BLOCKS = 12, 100, 3
FEATURES = 342
SIDE = 64  # pixels of the grey square that the network sees
MEAN, DEVIATION = 131.0754, 47.858177  # of grey levels 0 to 255, as in the original normalisation
CLASSES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")


class DenseNet(nn.Module):
    """(N, 1, 64, 64) normalised faces -> (N, 342) features and (N, 8) logits of :data:`CLASSES`.

    Args:
        growth: channels that a layer adds.
        depth: 6 n + 4 layers with weights, n in each of three blocks.
        dropout: share of a layer's new channels' values that training drops.
    """

    def __init__(self, growth: int = GROWTH, depth: int = DEPTH, dropout: float = 0.0) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"found the depth {depth}, expected 6 n + 4")
        channels = 2 * growth
        self.stem = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        blocks: list[nn.Module] = []
        for block in range(BLOCKS):
            for _ in range((depth - 4) // 6):
                blocks.append(_Layer(channels, growth, dropout))
                channels += growth
            if block < BLOCKS - 1:
                blocks.append(_Transition(channels, channels // 2))
                channels //= 2
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, len(CLASSES))

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and logits."""
        features = F.relu(self.norm(self.blocks(self.stem(faces)))).mean(dim=(2, 3))
        return features, self.head(features)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw all weights anew: He et al. 2015 for convolutions, as the paper does (section 4.2)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, generator=generator)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)


class _Layer(nn.Module):
    def __init__(self, channels: int, growth: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv1(F.relu(self.norm1(x)))
        new = self.dropout(self.conv2(F.relu(self.norm2(new))))
        return torch.cat([x, new], dim=1)


class _Transition(nn.Module):
    def __init__(self, channels: int, fewer: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, fewer, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(F.relu(self.norm(x))), 2)


def load(path: Path) -> DenseNet:
    """Return the network with the weights of a safetensors file of the stage train-denseface.

    Raises:
        AssetError: the file is absent, is no safetensors file, or holds other arrays than the network's.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    network = DenseNet()
    try:
        weights = load_file(path)
        network.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise AssetError(
            f"{path}: not the weights of DenseNet-BC-100-12 in safetensors ({str(error)[:300]}). Train them: "
            "pipeline/train_denseface.py says how"
        ) from error
    return network.eval()
