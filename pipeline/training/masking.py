"""Masks in training and evaluation: the draws of pipeline/data/masks.py, on the device, batch by batch.

A :class:`NamedMask` is one mask of a dataset, for the samples that take part. :meth:`NamedMask.hide` gives one draw
of it: the very draw of data/masks for a fixed mask and for evaluation, another one in each epoch for a sampled mask.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import MODALITIES
from pipeline.data.masks import Draw, Masks, Rules, frames_kept, rules
from pipeline.params import Mask


class Hiding(ABC):
    """One draw of a mask over N samples.

    Attributes:
        present: (N, 3) bool on the CPU: which modalities it leaves.
        over_frames: whether it hides frames.
        over_columns: whether it hides columns.
    """

    present: Tensor
    over_frames: bool
    over_columns: bool

    @property
    def over_anything(self) -> bool:
        """Whether it hides anything but whole modalities."""
        return self.over_frames or self.over_columns

    @abstractmethod
    def frames(
        self, modality: str, samples: Tensor, rows: Tensor, positions: Tensor, lengths: Tensor
    ) -> Tensor:
        """Return (B, T) bool, which frames stay.

        Args:
            modality: text, audio or video.
            samples: (B,) int64.
            rows: (B, T) int64, the frames' rows in the store.
            positions: (B, T) or (T,) int64, their places in the sample.
            lengths: (B, 1) int64, all frames of each sample.
        """

    @abstractmethod
    def columns(self, modality: str, samples: Tensor) -> Tensor:
        """Return (B, D) bool, which columns stay."""


class KeptDraw(Hiding):
    """A draw that lies in a file: it is looked up."""

    def __init__(self, draw: Draw, device: torch.device) -> None:
        """Put it on a device.

        Args:
            draw: ``present`` and columns of the N samples; frames by the store's rows.
            device: where batches are made.
        """
        self.present = torch.from_numpy(draw.present)
        self.over_frames, self.over_columns = bool(draw.frames), bool(draw.columns)
        self._frames = {m: torch.from_numpy(kept).to(device) for m, kept in draw.frames.items()}
        self._columns = {m: torch.from_numpy(kept).to(device) for m, kept in draw.columns.items()}

    def frames(
        self, modality: str, samples: Tensor, rows: Tensor, positions: Tensor, lengths: Tensor
    ) -> Tensor:
        """Look the rows up; of an absent modality, whose rows are nobody's, nothing matters."""
        kept = self._frames[modality]
        if not len(kept):
            return torch.ones_like(rows, dtype=torch.bool)
        return kept[rows.clamp(max=len(kept) - 1)]

    def columns(self, modality: str, samples: Tensor) -> Tensor:
        """Look the samples up."""
        return self._columns[modality][samples]


class FreshDraw(Hiding):
    """A draw of which only a few numbers a sample are made; the frames follow from them on the device."""

    def __init__(self, made: Rules, device: torch.device, dims: Sequence[int] | None) -> None:
        """Put its numbers on a device.

        Args:
            made: of the N samples.
            device: where batches are made.
            dims: columns of text, audio and video where columns go instead of frames, else None.
        """
        self.present = torch.from_numpy(made.present)
        self.over_frames = made.over_frames and dims is None
        self.over_columns = made.over_frames and dims is not None
        self._dims = tuple(dims or ())
        self._blocks = {m: _placed(pair, device) for m, pair in made.blocks.items()}
        self._drops = {m: _placed(pair, device) for m, pair in made.drops.items()}

    def frames(
        self, modality: str, samples: Tensor, rows: Tensor, positions: Tensor, lengths: Tensor
    ) -> Tensor:
        """Work out the frames by :func:`pipeline.data.masks.frames_kept`."""
        block, drop = (_of(pairs.get(modality), samples) for pairs in (self._blocks, self._drops))
        return frames_kept(block, drop, lengths, positions.expand_as(rows))

    def columns(self, modality: str, samples: Tensor) -> Tensor:
        """Work out the columns by the same formula."""
        names: tuple[str, ...] = MODALITIES
        width = self._dims[names.index(modality)]
        position = torch.arange(width, device=samples.device).expand(len(samples), -1)
        return frames_kept(_of(self._blocks.get(modality), samples), None, width, position)


def _placed(pair: tuple[NDArray[Any], NDArray[Any]], device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(pair[0]).to(device), torch.from_numpy(pair[1]).to(device)


def _of(pair: tuple[Tensor, Tensor] | None, samples: Tensor) -> tuple[Tensor, Tensor] | None:
    return None if pair is None else (pair[0][samples][:, None], pair[1][samples][:, None])


@dataclass(frozen=True)
class NamedMask:
    """One mask of a dataset, for the samples that take part.

    Attributes:
        name: in params.yaml.
        settings: its protocol.
        checksum: of its draw in data/masks.
        kept: that draw: ``present`` and columns of the N samples, frames by the store's rows.
        ids: of the N samples.
        have: (N, 3) bool, which modalities they have.
        dims: columns of text, audio and video, of a mask over columns.
    """

    name: str
    settings: Mask
    checksum: str
    kept: Draw
    ids: tuple[str, ...]
    have: NDArray[np.bool_]
    dims: tuple[int, ...]

    def facts(self) -> dict[str, Any]:
        """Return what a run's key must know of it."""
        return {"settings": self.settings.model_dump(mode="json"), "checksum": self.checksum}

    def first(self, device: torch.device) -> Hiding:
        """Return the draw of data/masks."""
        return KeptDraw(self.kept, device)

    def hide(self, device: torch.device, seed: int, epoch: int, purpose: str = "") -> Hiding:
        """Return the draw of an epoch: that of data/masks for a fixed mask, a new one for a sampled mask.

        Args:
            device: where batches are made.
            seed: of the run.
            epoch: from 1; 0 for validation, which stays the same.
            purpose: tells draws of one epoch apart, such as those of two streams.
        """
        if self.settings.draw == "fixed":
            return self.first(device)
        name = f"{self.settings.family or self.name}{purpose}"
        settings = self.settings.model_copy(update={"family": None})
        made = rules(settings, name, seed, epoch, self.ids, self.have)
        return FreshDraw(made, device, self.dims if self.settings.axis == "feature" else None)


def masks_of(
    masks: Masks | None,
    names: Sequence[str],
    ids: Sequence[str],
    have: NDArray[np.bool_],
    rows: NDArray[np.int64],
) -> Mapping[str, NamedMask]:
    """Return masks of a file by name, for the samples that take part.

    Args:
        masks: the file; may be None where no name is given.
        names: which masks; one that enumerates (``conditions``) has no draw and is left out.
        ids: of the N samples.
        have: (N, 3) bool.
        rows: (N,) where they stand in the manifest.

    Raises:
        StoreError: the file has no mask of a name.
    """
    found: dict[str, NamedMask] = {}
    for name in names if masks is not None else ():
        settings = masks.mask(name)  # type: ignore[union-attr]
        if settings.protocol == "conditions":
            continue
        drawn = masks.draw(name)  # type: ignore[union-attr]
        kept = Draw(
            drawn.present[rows], drawn.frames, {m: c[rows] for m, c in drawn.columns.items()}, drawn.both
        )
        dims = masks.dims(name)  # type: ignore[union-attr]
        found[name] = NamedMask(name, settings, masks.checksums[name], kept, tuple(ids), have, dims)  # type: ignore[union-attr]
    return found
