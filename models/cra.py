"""CRA, the Cascaded Residual Autoencoder.

Paper: Tran, Liu, Zhou, Jin, "Missing Modalities Imputation via Cascaded Residual Autoencoder", CVPR 2017: a chain of
autoencoders, each of which learns what is still lacking between the sum so far and the complete data. It is a row of
EMMR's Table 1 (Zeng, Zhou, Liu, EMNLP 2022), a reproduction of their own without public code; five blocks with the
sizes of EMMR's appendix, 300-256-128-64-128-256-300.

Everything else is as in models/ae.py, which says what was open: the same embeddings, target, loss and label, here
from the five latent vectors side by side (320), as MMIN reads them. Tran et al. train block after block and then all
together; here all are trained together from the start.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from models.layers import CascadeResidualAutoencoder
from models.parts import Imputer, ImputerSettings

SIZES = (256, 128, 64)


class CRASettings(ImputerSettings):
    """Choices of CRA.

    Attributes:
        blocks: how many residual autoencoders.
    """

    blocks: Annotated[int, Field(ge=1)] = 5


class Model(Imputer):
    """Attention, mean over time, cascade of residual autoencoders; the label from the latent vectors."""

    Settings = CRASettings
    settings: CRASettings

    def _build(self, size: int) -> tuple[CascadeResidualAutoencoder, int]:
        blocks = self.settings.blocks
        return CascadeResidualAutoencoder(blocks, (size, *SIZES)), blocks * SIZES[-1]
