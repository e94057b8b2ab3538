"""What a network is trained on in an epoch, and what it is judged on: samples, conditions and masks.

:class:`TrainingSet` makes the pairs (sample, pattern of modalities) of each epoch; :func:`showings` lists the ways in
which every sample is shown in validation or evaluation. Both speak of whole dialogues where a model asks for them.
:meth:`Pairs.batches` cuts either into batches: there is no other batcher.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import MODALITIES
from models.base import Batch, View
from pipeline.data.masks import CONDITIONS, FULL_CONDITION, MISSING_CONDITIONS, hash_words, uniforms
from pipeline.params import TRAINING_SETS
from pipeline.training.batching import DeviceSamples
from pipeline.training.masking import Hiding, NamedMask

Indices = NDArray[np.int64]


class _Together(Hiding):
    """Two draws over one another: what either hides is gone."""

    def __init__(self, first: Hiding, second: Hiding) -> None:
        self._both = (first, second)
        self.present = first.present & second.present
        self.over_frames = first.over_frames or second.over_frames
        self.over_columns = first.over_columns or second.over_columns

    def frames(
        self, modality: str, samples: Tensor, rows: Tensor, positions: Tensor, lengths: Tensor
    ) -> Tensor:
        """Keep what both keep."""
        kept = [h.frames(modality, samples, rows, positions, lengths) for h in self._both if h.over_frames]
        return reduce(torch.logical_and, kept)

    def columns(self, modality: str, samples: Tensor) -> Tensor:
        """Keep what both keep."""
        return reduce(torch.logical_and, [h.columns(modality, samples) for h in self._both if h.over_columns])


@dataclass(frozen=True)
class Pairs:
    """Samples and how each is shown, in units that stay together: single pairs, or whole dialogues.

    Attributes:
        indices: (P,) int64 samples, on the CPU.
        patterns: (P, 3) bool, which modalities each pair shows.
        hiding: which frames go besides, or None.
        sizes: (U,) int64, how many pairs each dialogue has; None: each pair is a unit.
        counts: (N,) bool, the samples whose labels count, where there are dialogues.
        redrawn: patterns and frames of a second, independent draw, where a model asks for one.
    """

    indices: Tensor
    patterns: Tensor
    hiding: Hiding | None = None
    sizes: Tensor | None = None
    counts: NDArray[np.bool_] | None = None
    redrawn: tuple[Tensor, Hiding | None] | None = None

    def __len__(self) -> int:
        """Return how many units there are."""
        return len(self.indices) if self.sizes is None else len(self.sizes)

    def batches(
        self,
        samples: DeviceSamples,
        parts: Iterable[Tensor],
        views: Mapping[str, View] | None = None,
    ) -> Iterator[tuple[Tensor, Batch]]:
        """Yield for each part the pairs that it holds, (B,) int64, and their batch.

        Args:
            samples: all samples.
            parts: (u,) int64 each, the units of a batch.
            views: the versions to add.
        """
        for part in parts:
            pairs = self.pairs(part)
            again = None if self.redrawn is None else (self.redrawn[0][pairs], self.redrawn[1])
            turns = None
            if self.sizes is not None and self.counts is not None:
                turns = (self.sizes[part], self.counts)
            yield (
                pairs,
                samples.collate(self.indices[pairs], self.patterns[pairs], self.hiding, views, again, turns),
            )

    def pairs(self, units: Tensor) -> Tensor:
        """Return the pairs of some units, (B,) int64, unit by unit."""
        if self.sizes is None:
            return units
        begins = self.sizes.cumsum(0) - self.sizes
        sizes = self.sizes[units]
        within = torch.arange(int(sizes.sum())) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
        return begins[units].repeat_interleave(sizes) + within

    def labelled(self) -> int:
        """Return how many pairs count in the loss."""
        return len(self.indices) if self.counts is None else int(self.counts[self.indices.numpy()].sum())


class TrainingSet:
    """The training set of one stream of a run, epoch by epoch."""

    def __init__(
        self,
        train_on: str,
        train_mask: str | None,
        masks: Mapping[str, NamedMask],
        samples: DeviceSamples,
        train: Indices,
        seed: int,
        *,
        stream: str = "",
        dialogues: bool = False,
        redraws: bool = False,
    ) -> None:
        """Take what does not change with the epoch.

        Args:
            train_on: a set of conditions (:func:`conditions_of`) or the name of a mask.
            train_mask: a mask over all of it, or None.
            masks: those masks, by name.
            samples: all samples.
            train: (n,) the samples of the training part.
            seed: of the run.
            stream: tells the draws of several streams apart; the first has none.
            dialogues: whether units are whole dialogues.
            redraws: whether a second draw is wanted.
        """
        self._train_on = train_on if train_on in TRAINING_SETS else "full"
        self._masks = [masks[n] for n in (train_on, train_mask) if n is not None and n in masks]
        self._samples, self._train, self._seed, self._redraws = samples, train, seed, redraws
        self._purpose = f"/{stream}" if stream else ""
        self._dialogues = dialogues
        fixed = [mask for mask in self._masks if mask.settings.draw == "fixed"]
        self._fixed = {mask.name: mask.first(samples.device) for mask in fixed}

    def epoch(self, epoch: int) -> Pairs:
        """Return the pairs of an epoch, from 1.

        A pair without any modality is not among them, unless it is a turn of a dialogue.
        """
        present = self._samples.present_cpu.numpy()
        if self._dialogues:
            return self._dialogue_pairs(epoch)
        indices, patterns = training_pairs(
            self._train_on, self._train, self._samples.ids, self._seed, epoch, self._purpose
        )
        shown, hiding = self._drawn(indices, patterns, epoch, self._purpose)
        useful = (shown & present[indices]).any(axis=1)
        indices, shown, patterns = indices[useful], shown[useful], patterns[useful]
        redrawn = self._redrawn(indices, patterns, epoch)
        return Pairs(torch.from_numpy(indices), torch.from_numpy(shown), hiding, redrawn=redrawn)

    def _drawn(
        self, indices: Indices, patterns: NDArray[np.bool_], epoch: int, purpose: str
    ) -> tuple[NDArray[np.bool_], Hiding | None]:
        hidings = [
            self._fixed.get(mask.name) or mask.hide(self._samples.device, self._seed, epoch, purpose)
            for mask in self._masks
        ]
        if not hidings:
            return patterns, None
        hiding = reduce(_Together, hidings)
        return patterns & hiding.present.numpy()[indices], hiding if hiding.over_anything else None

    def _redrawn(
        self, indices: Indices, patterns: NDArray[np.bool_], epoch: int
    ) -> tuple[Tensor, Hiding | None] | None:
        if not self._redraws:
            return None
        purpose = f"{self._purpose}/redrawn"
        if self._train_on == "random-condition":
            patterns = random_conditions(indices, self._samples.ids, self._seed, epoch, purpose)
        shown, hiding = self._drawn(indices, patterns, epoch, purpose)
        return torch.from_numpy(shown), hiding

    def _dialogue_pairs(self, epoch: int) -> Pairs:
        turns = self._samples.turns
        counts = np.zeros(len(self._samples.ids), bool)
        counts[self._train] = True
        counts &= turns.labelled
        wanted = np.unique(turns.dialogue[np.flatnonzero(counts)])
        members = [turns.members[number] for number in wanted]
        if self._train_on == "random-condition":
            indices = np.concatenate(members)
            patterns = random_conditions(indices, self._samples.ids, self._seed, epoch, self._purpose)
            sizes = [len(one) for one in members]
        else:
            table = conditions_of(self._train_on)
            indices = np.concatenate([one for one in members for _ in table])
            patterns = np.concatenate([np.repeat(row[None], len(one), 0) for one in members for row in table])
            sizes = [len(one) for one in members for _ in table]
        shown, hiding = self._drawn(indices, patterns, epoch, self._purpose)
        return Pairs(
            torch.from_numpy(indices),
            torch.from_numpy(shown),
            hiding,
            torch.tensor(sizes),
            counts,
            self._redrawn(indices, patterns, epoch),
        )


def conditions_of(train_on: str) -> NDArray[np.bool_]:
    """Return (K, 3) bool, the patterns that a set enumerates for each sample.

    full: whole; missing: the six missing conditions (MMIN section 4.1.1); augmented: both; a condition's name: this
    one.
    """
    names = {
        "full": (FULL_CONDITION,),
        "missing": MISSING_CONDITIONS,
        "augmented": (FULL_CONDITION, *MISSING_CONDITIONS),
    }.get(train_on, (train_on,))
    return np.array([CONDITIONS[name] for name in names])


def training_pairs(
    train_on: str, train: Indices, ids: Sequence[str], seed: int, epoch: int, purpose: str = ""
) -> tuple[Indices, NDArray[np.bool_]]:
    """Return which samples an epoch has, and which modalities each is to show.

    Args:
        train_on: what :func:`conditions_of` knows, or random-condition: each sample once, under one of the six
            missing conditions, drawn anew every epoch.
        train: (n,) the samples of the training part.
        ids: of all N samples.
        seed: of the run.
        epoch: from 1; matters to random-condition only.
        purpose: tells the draws of several streams apart.

    Returns:
        (P,) int64 samples and (P, 3) bool patterns.
    """
    if train_on == "random-condition":
        return train.astype(np.int64), random_conditions(train, ids, seed, epoch, purpose)
    table = conditions_of(train_on)
    return np.repeat(train, len(table)).astype(np.int64), np.tile(table, (len(train), 1))


def random_conditions(
    indices: Indices, ids: Sequence[str], seed: int, epoch: int, purpose: str = ""
) -> NDArray[np.bool_]:
    """Return (P, 3) bool: one of the six missing conditions for each sample, each as likely."""
    starts = hash_words(seed, f"train/condition{purpose}", epoch, [ids[i] for i in indices], 0)
    six = conditions_of("missing")
    chosen: NDArray[np.bool_] = six[(uniforms(starts, 0) * len(six)).astype(np.int64)]
    return chosen


@dataclass(frozen=True)
class Showing:
    """One way to show every sample.

    Attributes:
        name: a condition's or a mask's.
        patterns: (N, 3) bool, or (1, 3) for all alike.
        hiding: which frames go besides, or None.
    """

    name: str
    patterns: Tensor
    hiding: Hiding | None = None

    def under(self, mask: str, hiding: Hiding) -> Showing:
        """Return this with a mask over it."""
        return Showing(mask, self.patterns & hiding.present, hiding if hiding.over_anything else None)


def showings(names: Sequence[str]) -> list[Showing]:
    """Return how samples are shown under some conditions."""
    return [Showing(name, torch.tensor([CONDITIONS[name]])) for name in names]


def validation_showings(
    train_on: str, train_mask: str | None, masks: Mapping[str, NamedMask], device: torch.device, seed: int
) -> list[Showing]:
    """Return how the samples of the validation part are shown: as in training, and the same in all epochs.

    Full where training is full, the condition it names, else the six missing ones; a fixed mask as data/masks has it,
    a sampled one by a draw of its own that stays.
    """
    if train_on in CONDITIONS:
        found = showings([train_on])
    elif train_on == "full" or train_on not in TRAINING_SETS:
        found = showings([FULL_CONDITION])
    else:
        found = showings(MISSING_CONDITIONS)
    named = [masks[name] for name in (train_on, train_mask) if name is not None and name in masks]
    drawn = [mask.hide(device, seed, 0, "/validation") for mask in named]
    if drawn:
        hiding = reduce(_Together, drawn)
        found = [one.under(one.name, hiding) for one in found]
    return found


def shown_pairs(
    samples: DeviceSamples, indices: Indices, ways: Sequence[Showing], dialogues: bool
) -> Iterator[tuple[Pairs, Tensor, Tensor]]:
    """Yield the pairs (sample, way to show it), those under one draw of a mask together.

    Args:
        samples: all samples.
        indices: (n,) the samples to judge.
        ways: K of them.
        dialogues: whether units are whole dialogues.

    Yields:
        Pairs, and for each pair its place among ``indices`` (-1 for context) and among ``ways``.
    """
    groups: dict[int, list[int]] = {}
    for number, way in enumerate(ways):
        groups.setdefault(id(way.hiding), []).append(number)
    counts = np.zeros(len(samples.ids), bool)
    counts[indices] = True
    place = torch.full((len(samples.ids),), -1, dtype=torch.int64)
    place[torch.from_numpy(indices)] = torch.arange(len(indices))
    members = None
    if dialogues:
        members = [
            torch.from_numpy(samples.turns.members[n]) for n in np.unique(samples.turns.dialogue[indices])
        ]
    for numbers in groups.values():
        table = torch.stack(
            [ways[n].patterns.expand(len(samples.ids), 3) for n in numbers], dim=1
        )  # (N, k, 3)
        which = torch.tensor(numbers)
        hiding = ways[numbers[0]].hiding
        if members is None:
            rows = torch.from_numpy(indices).repeat_interleave(len(numbers))
            of_way = torch.arange(len(numbers)).repeat(len(indices))
            yield Pairs(rows, table[rows, of_way], hiding), place[rows], which[of_way]
            continue
        rows = torch.cat([one for one in members for _ in numbers])
        of_way = torch.cat([torch.full((len(one),), k) for one in members for k in range(len(numbers))])
        sizes = torch.tensor([len(one) for one in members for _ in numbers])
        yield Pairs(rows, table[rows, of_way], hiding, sizes, counts), place[rows], which[of_way]


def relative_lengths(samples: DeviceSamples, pairs: Pairs) -> Tensor:
    """Return (U,) how long each unit is: the sum over modalities of length / mean length.

    Args:
        samples: all samples.
        pairs: of a training set; a modality that a pair does not show is one frame.
    """
    total = torch.zeros(len(pairs.indices), dtype=torch.float64)
    for index, modality in enumerate(MODALITIES):
        lengths = samples.flat[modality].lengths_cpu[pairs.indices]
        shown = pairs.patterns[:, index] & samples.present_cpu[pairs.indices, index]
        lengths = torch.where(shown, lengths, torch.ones_like(lengths)).double()
        total += lengths / lengths.mean()
    if pairs.sizes is None:
        return total
    unit = torch.arange(len(pairs.sizes)).repeat_interleave(pairs.sizes)
    return torch.zeros(len(pairs.sizes), dtype=torch.float64).index_add_(0, unit, total)
