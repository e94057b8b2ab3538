"""M3S's transform T (section 3.2), which its three regimes share: a block of every modality goes missing.

Of T frames of a modality k = floor(T * r) neighbouring ones become zeros ([UNK] in token ids), from a start
uniform in {0, ..., T - k}; r is uniform in the modality's range. It is the protocol ``block`` of
pipeline/data/masks.py, on the same
random numbers: a draw depends on (seed, name, epoch, sample id, modality) alone, never on the order of
samples, the batch, a worker or the device. Only two numbers a sample and modality travel to the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from models.base import Batch, drop_columns, drop_frames
from pipeline.data.masks import hash_words, uniforms
from pipeline.params import MODALITIES, Modality
from pipeline.training.regimes.base import BaseRegime, RegimeSettings

SAMPLED = "sampled"  # the name of the draws that are made anew in each epoch

Share = Annotated[float, Field(ge=0, le=1)]
Range = tuple[Share, Share]


class BlockRegime(BaseRegime):
    """What the three regimes share: validation under blocks that stay in all epochs."""

    def validation(self, batch: Batch, seed: int) -> Batch:
        """Return the batch with missing blocks out of the same ranges as in training."""
        return hide_blocks(batch, self.settings, "validation", seed, epoch=0)


class BlockSettings(RegimeSettings):
    """How much goes missing in training; what is missing in the test says ``evaluate_on``.

    Attributes:
        range: the share of a modality's frames, [lowest, highest].
        ranges: modality -> its own range instead.
        axis: ``time`` takes frames; ``feature`` takes columns, in all frames of the sample (the paper speaks
            of the "dimension of the encoded feature"; models with ``text: tokens`` have no such columns).
    """

    range: Range = (0.4, 0.6)
    ranges: dict[Modality, Range] = Field(default={})
    axis: Literal["time", "feature"] = "time"

    @model_validator(mode="after")
    def _lower_end_first(self) -> BlockSettings:
        for found in (self.range, *self.ranges.values()):
            if found[0] > found[1]:
                raise ValueError(f"found the range {list(found)}, expected the lower end first")
        return self


def hide_blocks(batch: Batch, settings: BlockSettings, name: str, seed: int, epoch: int) -> Batch:
    """Return the batch with a block of every modality missing; its complement, if there is one, loses the
    same way.

    Args:
        batch: the samples; ``ids`` must be theirs.
        settings: how much, and of what.
        name: what the draw is for: two names are drawn independently.
        seed: of the run.
        epoch: counts the redraws; 0 for a draw that stays.
    """
    keep = {}
    for index, modality in enumerate(MODALITIES):
        starts = hash_words(seed, f"mask/{name}", epoch, batch.ids, index)
        numbers = torch.from_numpy(np.stack([uniforms(starts, 0), uniforms(starts, 1)]))
        device = batch.lengths[modality].device
        share, place = numbers.to(device, non_blocking=True)
        low, high = settings.ranges.get(modality, settings.range)
        keep[modality] = (low + (high - low) * share, place)
    hidden = _hide(batch, settings, keep)
    if hidden.complement is not None:
        hidden = replace(hidden, complement=_hide(hidden.complement, settings, keep))
    return hidden


def _hide(batch: Batch, settings: BlockSettings, draws: Mapping[Modality, tuple[Tensor, Tensor]]) -> Batch:
    keep: dict[str, Tensor] = {}
    for modality, (share, place) in draws.items():
        _, frames, columns = batch.features[modality].shape
        if settings.axis == "time":
            keep[modality] = kept(share, place, batch.lengths[modality], frames)
        else:
            lengths = torch.full_like(batch.lengths[modality], columns)
            keep[modality] = kept(share, place, lengths, columns)
    return drop_frames(batch, keep) if settings.axis == "time" else drop_columns(batch, keep)


def kept(share: Tensor, place: Tensor, lengths: Tensor, longest: int) -> Tensor:
    """Return (B, longest) bool, False inside each row's block.

    Args:
        share: (B,) float64, r.
        place: (B,) float64 in [0, 1): where between the first and the last possible start.
        lengths: (B,) int64, T.
        longest: the padded length.
    """
    size = torch.floor(lengths * share + 1e-9)  # 100 * 0.29 is 28.999999999999996
    first = torch.floor(place * (lengths - size + 1))
    position = torch.arange(longest, device=lengths.device)
    return (position < first[:, None]) | (position >= (first + size)[:, None])
