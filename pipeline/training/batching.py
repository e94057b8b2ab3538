"""The samples of one fold on the device, and batches of them.

:class:`DeviceSamples` holds all sequences ragged and whole; its :meth:`~DeviceSamples.collate` makes a batch by one
gather a modality: padding, hidden frames, views, dialogues. pipeline/training/samples.py says in which order frames are
hidden, averaged, cut and normalised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.base import (
    MODALITIES,
    NO_LABEL,
    UNKNOWN_TOKEN,
    Batch,
    Dialogues,
    View,
    drop_columns,
    drop_modalities,
)
from pipeline.data.manifest import Sample
from pipeline.training.masking import Hiding
from pipeline.training.metrics import MOSI_SCALE, Scale
from pipeline.training.sequences import Floats, Indices, Normaliser, Recorded, Sequences, average_rows


@dataclass(frozen=True)
class Turns:
    """How the samples stand in their dialogues; a sample without one is a dialogue by itself.

    Attributes:
        members: the samples of each dialogue in the order of turns; dialogues in the manifest's order.
        dialogue: (N,) int64, the number of each sample's dialogue.
        speaker: (N,) int64, the speakers of each dialogue, numbered in the order in which they first speak.
        labelled: (N,) bool.
    """

    members: tuple[Indices, ...]
    dialogue: Indices
    speaker: Tensor
    labelled: NDArray[np.bool_]

    @classmethod
    def of(cls, samples: Sequence[Sample], labelled: NDArray[np.bool_]) -> Turns:
        """Group the samples by session and dialogue; turns without a number keep the manifest's order."""
        groups: dict[tuple[str, str] | int, list[int]] = {}
        for index, sample in enumerate(samples):
            groups.setdefault((sample.session, sample.dialogue) if sample.dialogue else index, []).append(
                index
            )
        dialogue, speaker = np.zeros(len(samples), np.int64), np.zeros(len(samples), np.int64)
        members = []
        for number, group in enumerate(groups.values()):
            if all(samples[i].turn is not None for i in group):
                group.sort(key=lambda i: (samples[i].turn, i))
            spoke: dict[str, int] = {}
            for index in group:
                dialogue[index] = number
                speaker[index] = spoke.setdefault(samples[index].speaker, len(spoke))
            members.append(np.array(group, np.int64))
        return cls(tuple(members), dialogue, torch.from_numpy(speaker), labelled)


@dataclass(frozen=True)
class FlatSequences:
    """One modality on the device; one more row of zeros stands at the end, for padding to point at.

    Attributes:
        values: (sum T + 1, D) float32.
        observed: (sum T + 1,) bool.
        starts, lengths: (N,) int64; lengths are at least 1.
        lengths_cpu: the lengths once more, on the CPU.
        token_ids: (sum T + 1,) int64, or None.
        uncut: (N,) int64, how many frames a mask counts: before averaging and cutting; at least 1.
        averaged: what the frames are averages of, where a mask may hide some of it; else None.
    """

    values: Tensor
    observed: Tensor
    starts: Tensor
    lengths: Tensor
    lengths_cpu: Tensor
    token_ids: Tensor | None
    uncut: Tensor
    averaged: Averaged | None

    @classmethod
    def on(
        cls, device: torch.device, values: Floats, sequences: Sequences, normaliser: Normaliser
    ) -> FlatSequences:
        """Put normalised values and the rest of the sequences on a device."""
        absent = sequences.lengths == 0
        starts = np.where(absent, len(values), sequences.starts)
        lengths = torch.from_numpy(np.where(absent, 1, sequences.lengths))
        tokens, recorded = sequences.token_ids, sequences.recorded
        _, uncut = sequences.as_recorded
        return cls(
            values=torch.from_numpy(
                np.concatenate([values, np.zeros_like(values[:1], shape=(1, values.shape[1]))])
            ).to(device),
            observed=torch.from_numpy(np.append(sequences.observed, False)).to(device),
            starts=torch.from_numpy(starts).to(device),
            lengths=lengths.to(device),
            lengths_cpu=lengths,
            token_ids=None
            if tokens is None
            else torch.from_numpy(np.append(tokens, UNKNOWN_TOKEN)).to(device),
            uncut=torch.from_numpy(np.maximum(uncut, 1)).to(device),
            averaged=None if recorded is None else Averaged.on(device, recorded, normaliser),
        )


@dataclass(frozen=True)
class Averaged:
    """A modality before its frames are averaged and normalised, on the device.

    Attributes:
        values: (sum T, D) float32 as extracted; observed: (sum T,) bool.
        starts: (N,) int64, the first of a sample's rows.
        begins, ends: (sum T' + 1,) int64: the rows of each averaged frame; none for the row of padding.
        mean, scale: (D,) float32 of the normalisation.
        most: rows of the widest frame.
    """

    values: Tensor
    observed: Tensor
    starts: Tensor
    begins: Tensor
    ends: Tensor
    mean: Tensor
    scale: Tensor
    most: int

    @classmethod
    def on(cls, device: torch.device, recorded: Recorded, normaliser: Normaliser) -> Averaged:
        """Put what was recorded on a device."""
        begins, ends = np.append(recorded.begins, 0), np.append(recorded.ends, 0)
        arrays = (recorded.values, recorded.observed, recorded.starts, begins, ends)
        placed = [torch.from_numpy(a).to(device) for a in (*arrays, normaliser.mean, normaliser.scale)]
        values, observed, starts, first, last, mean, scale = placed
        most = int((ends - begins).max(initial=0))
        return cls(values, observed, starts, first, last, mean, scale, most)

    def under(self, kept: Callable[[Tensor], Tensor], rows: Tensor) -> tuple[Tensor, Tensor]:
        """Average what is kept, and normalise.

        Args:
            kept: says of (B, T') recorded rows which stay.
            rows: (B, T') int64, which averaged frames.

        Returns:
            (B, T', D) values, zeros where nothing is left, and (B, T') bool.
        """
        values, observed = average_rows(
            self.values, self.observed, self.begins[rows], self.ends[rows], self.most, kept
        )
        normal = (values - self.mean) * self.scale
        return torch.where(observed[..., None], normal, torch.zeros_like(normal)), observed


@dataclass(frozen=True)
class DeviceSamples:
    """All samples of one fold's normalisation, on the device.

    Attributes:
        ids: of the N samples.
        labels: (N,) int64.
        present: (N, 3) bool.
        flat: modality -> its sequences.
        device: where they are.
        present_cpu: ``present`` once more, on the CPU.
        turns: how they stand in dialogues.
        scores: (N,) float32, or None for a classification.
        scale: of the scores, which are counted from its middle.
        facts: name -> (N, ...).
    """

    ids: tuple[str, ...]
    labels: Tensor
    present: Tensor
    flat: Mapping[str, FlatSequences]
    device: torch.device
    present_cpu: Tensor
    turns: Turns
    scores: Tensor | None = None
    scale: Scale = MOSI_SCALE
    facts: Mapping[str, Tensor] = field(default_factory=dict)

    def collate(
        self,
        indices: Tensor,
        present: Tensor | None = None,
        hiding: Hiding | None = None,
        views: Mapping[str, View] | None = None,
        redrawn: tuple[Tensor, Hiding | None] | None = None,
        turns: tuple[Tensor, NDArray[np.bool_]] | None = None,
    ) -> Batch:
        """Make a batch.

        Args:
            indices: (B,) int64 on the CPU: which samples; one may occur more than once.
            present: (B, 3) bool on the CPU, which modalities to leave; None leaves all.
            hiding: which frames or columns go besides.
            views: the versions of the same samples to add, by name.
            redrawn: ``present`` and ``hiding`` of the view "redrawn"; None: those of the batch.
            turns: of whole dialogues: (D,) int64 how many rows each has, and (N,) bool which samples of all count.
        """
        batch, base = self._shown(indices, present, hiding)
        if turns is not None:
            batch = self._as_dialogues(batch, indices, *turns)
        if not views:
            return batch
        made: dict[str, Batch] = {}
        for name, view in views.items():
            if view.kind == "complement":
                pattern = torch.zeros(len(indices), 3, dtype=torch.bool) if present is None else ~present
                made[name] = self._leave(base, pattern, indices)
            elif view.kind == "whole":
                made[name] = base if hiding is None else self._gather(indices, None)
            else:
                made[name] = self._shown(indices, *(redrawn or (present, hiding)))[0]
            made[name] = replace(
                made[name], labels=batch.labels, scores=batch.scores, dialogues=batch.dialogues
            )
        return replace(batch, views=made)

    def _shown(self, indices: Tensor, present: Tensor | None, hiding: Hiding | None) -> tuple[Batch, Batch]:
        base = self._gather(indices, hiding)
        return (base if present is None else self._leave(base, present, indices)), base

    def _leave(self, batch: Batch, pattern: Tensor, indices: Tensor) -> Batch:
        left = pattern & self.present_cpu[indices]
        lengths = {
            m: torch.where(left[:, index], self.flat[m].lengths_cpu[indices], torch.ones_like(indices))
            for index, m in enumerate(MODALITIES)
        }
        return drop_modalities(batch, pattern.to(self.device, non_blocking=True), lengths, left)

    def _gather(self, indices: Tensor, hiding: Hiding | None) -> Batch:
        where = indices.to(self.device, non_blocking=True)
        features, lengths, observed = {}, {}, {}
        on_cpu = {modality: self.flat[modality].lengths_cpu[indices] for modality in MODALITIES}
        tokens: Tensor | None = None
        for modality in MODALITIES:
            flat = self.flat[modality]
            length = flat.lengths[where]
            longest = int(on_cpu[modality].max()) if len(indices) else 0
            steps = torch.arange(longest, device=self.device)
            valid = steps < length[:, None]
            rows = torch.where(valid, flat.starts[where][:, None] + steps, len(flat.values) - 1)
            if hiding is not None and hiding.over_frames:
                features[modality], observed[modality], kept = self._hidden(
                    hiding, modality, where, rows, steps
                )
            else:
                features[modality], observed[modality] = flat.values[rows], flat.observed[rows]
                kept = None
            lengths[modality] = length
            if modality == "text" and flat.token_ids is not None:
                tokens = torch.where(valid, flat.token_ids[rows], 0)
                if kept is not None:
                    tokens = torch.where(kept | ~valid, tokens, UNKNOWN_TOKEN)
        batch = Batch(
            features=features,
            lengths=lengths,
            present=self.present[where],
            observed=observed,
            labels=self.labels[where] if self.scores is None else None,
            scores=None if self.scores is None else self.scores[where],
            ids=tuple(self.ids[index] for index in indices.tolist()),
            token_ids=tokens,
            rows=where,
            lengths_cpu=on_cpu,
            present_cpu=self.present_cpu[indices],
            facts={name: values[where] for name, values in self.facts.items()},
        )
        if hiding is not None and hiding.over_columns:
            batch = drop_columns(batch, {m: hiding.columns(m, where) for m in MODALITIES})
        return batch

    def _hidden(
        self, hiding: Hiding, modality: str, where: Tensor, rows: Tensor, steps: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return a modality's values and what was observed of them, under a mask, and which frames it leaves."""
        flat = self.flat[modality]
        uncut = flat.uncut[where][:, None]
        if flat.averaged is None:
            kept = hiding.frames(modality, where, rows.clamp(max=max(len(flat.values) - 2, 0)), steps, uncut)
            values = flat.values[rows]
            return (
                torch.where(kept[:, :, None], values, torch.zeros_like(values)),
                flat.observed[rows] & kept,
                kept,
            )
        starts = flat.averaged.starts[where][:, None]
        values, observed = flat.averaged.under(
            lambda found: hiding.frames(modality, where, found, found - starts, uncut), rows
        )
        return values, observed, observed

    def _as_dialogues(self, batch: Batch, indices: Tensor, sizes: Tensor, counts: NDArray[np.bool_]) -> Batch:
        dialogue = torch.arange(len(sizes)).repeat_interleave(sizes)
        turn = torch.arange(len(indices)) - (sizes.cumsum(0) - sizes)[dialogue]
        labelled = torch.from_numpy(counts)[indices]
        parts = [
            p.to(self.device, non_blocking=True)
            for p in (dialogue, turn, self.turns.speaker[indices], labelled)
        ]
        longest = int(sizes.max()) if len(sizes) else 0
        dialogues = Dialogues(parts[0], parts[1], parts[2], parts[3], len(sizes), longest)
        counted = dialogues.labelled
        return replace(
            batch,
            dialogues=dialogues,
            labels=None if batch.labels is None else torch.where(counted, batch.labels, NO_LABEL),
            scores=None if batch.scores is None else torch.where(counted, batch.scores, 0.0),
        )
