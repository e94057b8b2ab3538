"""SPL-TRN of M3S (section 4.4): the missing block of every sample is drawn anew in each epoch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from models.base import Batch
from pipeline.training.regimes import standard
from pipeline.training.regimes.base import Step
from pipeline.training.regimes.blocks import SAMPLED, BlockRegime, BlockSettings, hide_blocks


class Regime(BlockRegime):
    """One batch with freshly drawn blocks, one backward pass."""

    Settings = BlockSettings

    def gradients(self, step: Step, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Leave the gradient of the losses' sum.

        Raises:
            TrainingError: the model gave no loss.
        """
        return standard.descend(step, hide_blocks(batches[0], self.settings, SAMPLED, step.seed, step.epoch))
