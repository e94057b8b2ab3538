"""Small random batches for the tests of models and regimes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from models.base import MODALITIES, Batch, Dialogues, Network, drop_modalities

DIMS = {"text": 6, "audio": 5, "video": 4}
LONGEST = {"text": 7, "audio": 9, "video": 5}
PATTERNS = [[bool(n & 4), bool(n & 2), bool(n & 1)] for n in range(1, 8)]  # text, audio, video


def make_batch(size: int, outputs: int, seed: int = 0, first_row: int = 0) -> Batch:
    """Return a batch with all modalities; for one output it has scores, else labels."""
    generator = torch.Generator().manual_seed(seed)
    features, lengths, observed = {}, {}, {}
    for modality in MODALITIES:
        longest = LONGEST[modality]
        lengths[modality] = torch.randint(1, longest + 1, (size,), generator=generator)
        lengths[modality][0] = longest
        observed[modality] = torch.arange(longest) < lengths[modality][:, None]
        values = torch.randn(size, longest, DIMS[modality], generator=generator)
        features[modality] = values * observed[modality][:, :, None]
    tokens = torch.randint(1000, 1100, (size, LONGEST["text"]), generator=generator) * observed["text"]
    labels = torch.randint(0, outputs, (size,), generator=generator)
    rows = torch.arange(first_row, first_row + size)
    return Batch(
        features=features,
        lengths=lengths,
        present=torch.ones(size, 3, dtype=torch.bool),
        observed=observed,
        labels=labels if outputs > 1 else None,
        scores=torch.randn(size, generator=generator) if outputs == 1 else None,
        ids=tuple(f"s{row}" for row in rows.tolist()),
        token_ids=tokens,
        rows=rows,
    )


def hide(batch: Batch, pattern: list[bool], complement: bool = False, whole: bool = False) -> Batch:
    """Return the batch with one pattern of modalities for all, with the views that are asked for."""
    return hide_each(batch, [pattern] * len(batch), complement, whole)


def hide_each(
    batch: Batch, patterns: list[list[bool]], complement: bool = False, whole: bool = False
) -> Batch:
    """Return the batch with a pattern of modalities for each sample, with the views that are asked for."""
    leave = torch.tensor(patterns)
    views = {"complement": drop_modalities(batch, ~leave)} if complement else {}
    return replace(drop_modalities(batch, leave), views=views | ({"whole": batch} if whole else {}))


def converse(batch: Batch, sizes: list[int], speakers: int = 2) -> Batch:
    """Return the batch as dialogues of so many turns, in the order of its rows, the speakers taking turns."""
    turn = torch.cat([torch.arange(size) for size in sizes])
    talk = Dialogues(
        dialogue=torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)),
        turn=turn,
        speaker=turn % speakers,
        labelled=torch.ones(len(batch), dtype=torch.bool),
        count=len(sizes),
        longest=max(sizes),
    )
    views = {name: replace(view, dialogues=talk) for name, view in batch.views.items()}
    return replace(batch, dialogues=talk, views=views)


def lengthen(batch: Batch, frames: int) -> Batch:
    """Return the batch with so many more frames of padding; the features there are not even zeros."""

    def pad(values: Tensor, fill: float) -> Tensor:
        return functional.pad(values, (0, 0, 0, frames), value=fill)

    return replace(
        batch,
        features={m: pad(v, 9.0) for m, v in batch.features.items()},
        observed={m: functional.pad(v, (0, frames)) for m, v in batch.observed.items()},
        token_ids=None if batch.token_ids is None else functional.pad(batch.token_ids, (0, frames)),
    )


def reorder(batch: Batch, order: Tensor) -> Batch:
    """Return the batch in another order."""

    def take(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {m: v[order] for m, v in values.items()}

    return replace(
        batch,
        features=take(batch.features),
        lengths=take(batch.lengths),
        present=batch.present[order],
        observed=take(batch.observed),
        labels=None if batch.labels is None else batch.labels[order],
        scores=None if batch.scores is None else batch.scores[order],
        ids=tuple(batch.ids[int(i)] for i in order),
        token_ids=None if batch.token_ids is None else batch.token_ids[order],
        rows=None if batch.rows is None else batch.rows[order],
        views={name: reorder(view, order) for name, view in batch.views.items()},
        facts=take(batch.facts),
    )


def one_of(batch: Batch, row: int) -> Batch:
    """Return a batch of one sample."""
    return reorder(batch, torch.tensor([row]))


def train(network: Network, batch: Batch, steps: int, rate: float = 2e-3) -> list[dict[str, float]]:
    """Train on one batch, each step one epoch of all stages; return the last stage's losses of each."""
    groups = network.parameter_groups()
    optimizers = {
        stage: torch.optim.Adam(
            [p for name, group in groups.items() if not wanted or name in wanted for p in group], rate
        )
        for stage, wanted in network.stages.items()
    }
    history = []
    network.train()
    for epoch in range(1, steps + 1):
        network.epoch_start(epoch)
        for stage in network.stages:
            network.stage_start(stage)
            network.zero_grad(set_to_none=True)
            losses = network(batch).losses
            torch.stack(list(losses.values())).sum().backward()
            optimizers[stage].step()
        history.append({name: loss.item() for name, loss in losses.items()})
    return history
