"""AE: an autoencoder over the modalities' embeddings, the first row of EMMR's Table 1.

Baldi, "Autoencoders, Unsupervised Learning, and Deep Architectures", 2012, as EMMR's paper uses it (Zeng, Zhou,
Liu, EMNLP 2022; its rows are reproductions of their own, without public code). Sizes of EMMR's appendix:
300-256-128-64-128-256-300.

From what is available the autoencoder reconstructs the embedding of the whole sample; the label is read from the
latent vector. What the paper leaves open, and is chosen here:

- The embedding: attention within each modality as in all rows of the table (EMMR Eq. 1), the mean over the frames
  that were observed, 100 numbers a modality side by side. A missing modality has the embedding of a zero frame.
  (Position by position, as EMMR has it inside, an autoencoder cannot reconstruct one modality from another.)
- The target: the same encoders' embedding of the whole sample, without a gradient; mean squared error over all
  of it, weight 0.1 as EMMR's losses. Without the whole sample (at test) there is no such loss.
- The label: one layer on the latent vector, with dropout 0.3.
"""

from __future__ import annotations

from models.layers import ResidualAutoencoder
from models.parts import Imputer, ImputerSettings

SIZES = (256, 128, 64)


class AESettings(ImputerSettings):
    """Choices of AE."""


class Model(Imputer):
    """Attention, mean over time, autoencoder; the label from the latent vector."""

    Settings = AESettings

    def _build(self, size: int) -> tuple[ResidualAutoencoder, int]:
        return ResidualAutoencoder((size, *SIZES)), SIZES[-1]
