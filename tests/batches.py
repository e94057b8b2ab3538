"""Small random batches for the tests of models and regimes, and networks as the loop would use them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from models.base import MODALITIES, NO_LABEL, Batch, Dialogues, Network, drop_frames, drop_modalities
from pipeline.training.regimes.base import BaseRegime, Step

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


def in_dialogues(batch: Batch, sizes: Sequence[int] | None = None, context: Sequence[int] = ()) -> Batch:
    """Return the batch as dialogues: its rows in their order, cut into so many turns each.

    Args:
        batch: with or without views.
        sizes: turns of each dialogue; None: 3, 2, 1, 3, 2, 1, ... until the rows are used up.
        context: rows without a label.
    """
    if sizes is None:
        found, left = [], len(batch)
        for size in itertools.cycle((3, 2, 1)):
            if not left:
                break
            found.append(min(size, left))
            left -= found[-1]
        sizes = found
    dialogue = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    turn = torch.cat([torch.arange(size) for size in sizes])
    labelled = torch.ones(len(batch), dtype=torch.bool)
    labelled[list(context)] = False
    dialogues = Dialogues(dialogue, turn, turn % 2, labelled, len(sizes), max(sizes))
    return as_dialogues(batch, dialogues)


def as_dialogues(batch: Batch, dialogues: Dialogues) -> Batch:
    """Return the batch, and its views, with their rows in these dialogues."""
    counted = dialogues.labelled
    return replace(
        batch,
        dialogues=dialogues,
        labels=None if batch.labels is None else torch.where(counted, batch.labels, NO_LABEL),
        scores=None if batch.scores is None else torch.where(counted, batch.scores, 0.0),
        views={name: as_dialogues(view, dialogues) for name, view in batch.views.items()},
    )


def shown(network: Network, batch: Batch, pattern: list[bool], seed: int = 0) -> Batch:
    """Return a whole batch as the loop gives it to this network in training: some modalities hidden, with the
    views and dialogues that the network asks for. A redrawn view lacks other modalities, and frames.
    """
    left = hide(batch, pattern)
    generator = torch.Generator().manual_seed(seed)
    views: dict[str, Batch] = {}
    for name, view in network.views(network.settings).items():
        if view.kind == "complement":
            views[name] = hide(batch, [not there for there in pattern])
        elif view.kind == "whole":
            views[name] = batch
        else:
            chosen = torch.randint(0, len(PATTERNS), (len(batch),), generator=generator).tolist()
            other = hide_each(batch, [PATTERNS[one] for one in chosen])
            keep = {m: torch.rand(other.observed[m].shape, generator=generator) < 0.8 for m in other.observed}
            views[name] = drop_frames(other, keep)
    left = replace(left, views=views)
    return in_dialogues(left) if network.dialogues else left


# Networks as small as the tests need them: at the papers' sizes, a step of these takes seconds.
SMALL: dict[str, dict[str, Any]] = {
    "emmr": {"size": 24, "inner": 48, "heads": 2},
    "tate": {"size": 24, "inner": 48, "heads": 2},
    "transm": {"size": 24, "inner": 48, "heads": 2},
    "cubemlp": {"steps": 12, "channels": 16, "blocks": [[6, 3, 16], [3, 3, 8]]},
    "umdf": {"layers": 1, "steps": 10},
    "gcnet": {"hidden": 24},
}


def build(model: str, outputs: int, dims: Mapping[str, int] = DIMS, **settings: Any) -> Network:
    """Return a network of :data:`SMALL` size with the same weights at each call."""
    owner = import_module(f"models.{model}").Model
    settings = {**SMALL.get(model, {}), **settings}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: Network = owner(owner.Settings.model_validate(settings), dims, outputs)
    return network


def ready(network: Network, outputs: int, size: int = 24) -> Network:
    """Return the network after what the loop does before the first epoch: it knows how many samples there are,
    and has seen the training part.
    """
    network.samples_known(size, 3.0)

    def batches() -> Iterator[Batch]:
        for start in range(0, size, 12):
            batch = make_batch(12, outputs, seed=start, first_row=start)
            yield in_dialogues(batch) if network.dialogues else batch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network.look_at_training(batches, 0)
    return network


def run_epoch(
    network: Network,
    regime: BaseRegime,
    batches: Sequence[Batch],
    epoch: int,
    optimizers: Mapping[str, torch.optim.Optimizer] | None = None,
) -> tuple[set[str], float]:
    """Do one step of every phase; return the parameters that got a gradient, and the sum of the losses."""
    network.train()
    network.epoch_start(epoch)
    reached: set[str] = set()
    groups, total = network.parameter_groups(), 0.0
    for phase, wanted in network.phases.items():
        network.phase_start(phase)
        network.zero_grad(set_to_none=True)
        trained = {name: group for name, group in groups.items() if not wanted or name in wanted}
        step = Step(network, network, epoch, 0, torch.Generator().manual_seed(0), trained)
        losses = regime.gradients(step, batches)
        total = sum(float(loss) for loss in losses.values())
        ids = {id(p) for group in trained.values() for p in group}
        reached |= {
            name
            for name, p in network.named_parameters()
            if id(p) in ids and p.grad is not None and p.grad.abs().sum() > 0
        }
        if optimizers is not None:
            optimizers[phase].step()
    return reached, total


def lengthen(batch: Batch, frames: int) -> Batch:
    """Return the batch with so many more frames of padding; the features there are not even zeros."""

    def pad(values: Tensor, fill: float) -> Tensor:
        return functional.pad(values, (0, 0, 0, frames), value=fill)

    return replace(
        batch,
        features={m: pad(v, 9.0) for m, v in batch.features.items()},
        observed={m: functional.pad(v, (0, frames)) for m, v in batch.observed.items()},
        token_ids=None if batch.token_ids is None else functional.pad(batch.token_ids, (0, frames)),
        views={name: lengthen(view, frames + 1) for name, view in batch.views.items()},
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
    )


def one_of(batch: Batch, row: int) -> Batch:
    """Return a batch of one sample."""
    return reorder(batch, torch.tensor([row]))


def reorder_dialogues(batch: Batch, order: Sequence[int]) -> tuple[Batch, Tensor]:
    """Return some of a batch's dialogues in another order, and which of its rows they are."""
    dialogues = batch.dialogues
    assert dialogues is not None
    parts = [torch.nonzero(dialogues.dialogue == number)[:, 0] for number in order]
    rows = torch.cat(parts)
    sizes = [len(part) for part in parts]
    found = Dialogues(
        torch.repeat_interleave(torch.arange(len(order)), torch.tensor(sizes)),
        dialogues.turn[rows],
        dialogues.speaker[rows],
        dialogues.labelled[rows],
        len(order),
        max(sizes),
    )
    return as_dialogues(reorder(batch, rows), found), rows


def train(network: Network, batch: Batch, steps: int, rate: float = 2e-3) -> list[dict[str, float]]:
    """Train on one batch, each step one epoch of all phases; return the last phase's losses of each."""
    groups = network.parameter_groups()
    optimizers = {
        phase: torch.optim.Adam(
            [p for name, group in groups.items() if not wanted or name in wanted for p in group], rate
        )
        for phase, wanted in network.phases.items()
    }
    history = []
    network.train()
    for epoch in range(1, steps + 1):
        network.epoch_start(epoch)
        for phase in network.phases:
            network.phase_start(phase)
            network.zero_grad(set_to_none=True)
            losses = network(batch).losses
            torch.stack(list(losses.values())).sum().backward()
            optimizers[phase].step()
        history.append({name: loss.item() for name, loss in losses.items()})
    return history
