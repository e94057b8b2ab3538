"""Ten Adam steps of every model on awkward samples: numbers stay finite, or the loop has something to say.

Every model file is met here without a line of its own: both tasks, both precisions, the usual training and M3S of
both orders, on samples that are one, alike, empty, short, long or huge. Each model meets each case in the usual
training, and in one of the five other combinations of regime and precision, another one for each case (``-m sweep``).
``LACUNA_EVERY_STEP=1 pytest -m sweep tests/pipeline/training/test_ten_steps.py`` tries all six, and the
variants of each model: more than an hour.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.base import MODALITIES, Batch, Dialogues, Network, Output, View, drop_modalities
from pipeline.params import module_names
from pipeline.training.loop import without_onednn
from pipeline.training.regimes.base import Step
from tests.batches import DIMS, SMALL, make_batch, reorder

STEPS = 10
CLASSES = 4
SIZE = 4
EVERY_STEP = os.environ.get("LACUNA_EVERY_STEP") == "1"


def one_sample(batch: Batch) -> Batch:
    return reorder(batch, torch.tensor([0]))


def nothing_available(batch: Batch) -> Batch:
    return drop_modalities(batch, torch.zeros(len(batch), 3, dtype=torch.bool))


def one_frame(batch: Batch) -> Batch:
    return replace(
        batch,
        features={m: v[:, :1] for m, v in batch.features.items()},
        observed={m: v[:, :1] for m, v in batch.observed.items()},
        lengths={m: torch.ones_like(v) for m, v in batch.lengths.items()},
        token_ids=None if batch.token_ids is None else batch.token_ids[:, :1],
    )


def constant_features(batch: Batch) -> Batch:
    return replace(
        batch, features={m: batch.observed[m][:, :, None] * torch.ones(DIMS[m]) for m in MODALITIES}
    )


def one_class(batch: Batch) -> Batch:
    return labelled(batch, torch.full((len(batch),), 2), torch.full((len(batch),), 1.5))


def an_absent_class(batch: Batch) -> Batch:
    places = torch.arange(len(batch))
    return labelled(batch, places % 2, (places % 3 - 2).float())  # of four two; of the scores none above 0


def many_frames(batch: Batch) -> Batch:
    batch = reorder(batch, torch.tensor([0, 1]))

    def long(values: Tensor) -> Tensor:
        return functional.pad(values, (0, 0, 0, 500 - values.shape[1]), value=0.5)

    return replace(
        batch,
        features={m: long(v) for m, v in batch.features.items()},
        observed={m: torch.ones(len(batch), 500, dtype=torch.bool) for m in MODALITIES},
        lengths={m: torch.full((len(batch),), 500) for m in MODALITIES},
        token_ids=torch.full((len(batch), 500), 1000),
    )


def huge_values(batch: Batch) -> Batch:
    return replace(batch, features={m: 1e6 * v for m, v in batch.features.items()})


def repeated_rows(batch: Batch) -> Batch:
    return reorder(batch, torch.zeros(len(batch), dtype=torch.int64))


CASES: list[Callable[[Batch], Batch]] = [
    one_sample,
    nothing_available,
    one_frame,
    constant_features,
    one_class,
    an_absent_class,
    many_frames,
    huge_values,
    repeated_rows,
]
MAY_GIVE_UP = {huge_values}  # a loss may be too large for a number; then the loop says so
REGIMES = {"standard": {}, "m3s": {"order": "first"}, "m3s-second": {"order": "second"}}


def labelled(batch: Batch, labels: Tensor, scores: Tensor) -> Batch:
    return replace(
        batch,
        labels=None if batch.labels is None else labels,
        scores=None if batch.scores is None else scores,
    )


def models() -> list[tuple[str, dict[str, str]]]:
    """Return every model, and each with every variant that it names."""
    found: list[tuple[str, dict[str, str]]] = []
    for name in module_names("models"):
        settings = import_module(f"models.{name}").Model.Settings
        field = settings.model_fields.get("variant")
        names = () if field is None else get_args(field.annotation)
        found.append((name, {}))
        found += [(name, {"variant": variant}) for variant in names if variant != field.default]
    return found


def build(model: str, settings: Mapping[str, str], outputs: int) -> tuple[Network, dict[str, View]]:
    """Return a network, and the views that it trains on."""
    owner = import_module(f"models.{model}").Model
    chosen = owner.Settings.model_validate({**SMALL.get(model, {}), **settings})
    return owner(chosen, DIMS, outputs), dict(owner.views(chosen))


def as_trained(batch: Batch, views: Mapping[str, View], dialogues: bool, number: int) -> Batch:
    """Return the batch as the loop would show it: one condition or another, with the views that the model asks for."""
    patterns = torch.tensor(
        [[True, True, False], [True, False, True], [False, True, True], [True, True, True]]
    )
    shown = patterns[(torch.arange(len(batch)) + number) % len(patterns)]
    if dialogues:
        batch = replace(batch, dialogues=two_dialogues(len(batch)))
    made = {
        "complement": lambda: drop_modalities(batch, ~shown),
        "whole": lambda: batch,
        "redrawn": lambda: drop_modalities(batch, shown.flip(0)),
    }
    return replace(
        drop_modalities(batch, shown), views={name: made[view.kind]() for name, view in views.items()}
    )


def two_dialogues(size: int) -> Dialogues:
    """Return the rows as the turns of two dialogues of two speakers; of one row as one."""
    first = (size + 1) // 2
    turns = torch.cat([torch.arange(first), torch.arange(size - first)])
    count = 2 if size > 1 else 1
    dialogue = (torch.arange(size) >= first).long()
    return Dialogues(dialogue, turns, turns % 2, torch.ones(size, dtype=torch.bool), count, first)


def gradients(regime: str, step: Step, batch: Batch) -> dict[str, Tensor]:
    """Leave one step's gradients; a regime of several streams gets the same samples in each."""
    owner = import_module(f"pipeline.training.regimes.{regime.partition('-')[0]}").Regime
    method = owner(owner.Settings.model_validate(REGIMES[regime]))
    streams = getattr(method, "streams", None)
    count = len(streams) if streams is not None else method.batches
    losses: dict[str, Tensor] = method.gradients(step, [batch] * count)
    return losses


def ten_steps(
    network: Network, batches: Callable[[int], Batch], regime: str, forward: Callable[[Batch], Output]
) -> bool:
    """Train so long; return whether every loss was a number, which is what the loop looks at."""
    groups = network.parameter_groups()
    trained = {
        phase: {name: group for name, group in groups.items() if not wanted or name in wanted}
        for phase, wanted in network.phases.items()
    }
    optimizers = {
        phase: torch.optim.Adam([p for group in names.values() for p in group], 1e-3, foreach=True)
        for phase, names in trained.items()
    }
    for epoch in range(1, STEPS + 1):
        network.train()
        network.epoch_start(epoch)
        for phase, names in trained.items():
            network.phase_start(phase)
            network.zero_grad(set_to_none=True)
            step = Step(network, forward, epoch, 0, torch.Generator().manual_seed(epoch), names)
            losses = gradients(regime, step, batches(epoch))
            if not all(math.isfinite(float(loss)) for loss in losses.values()):
                return False
            optimizers[phase].step()
    return True


def all_arguments() -> list[Any]:
    """Return the combinations that are tried; those that are not the usual training, or long, are the sweep."""
    found = []
    ways = [(regime, precision) for regime in REGIMES for precision in ("float32", "bfloat16")]
    for model, settings in models():
        for outputs in (1, CLASSES):
            for index, case in enumerate(CASES):
                other = ways[1 + (index + outputs) % (len(ways) - 1)]
                tried = ways if EVERY_STEP else [] if settings else [ways[0], other]
                for regime, precision in tried:
                    slow = (regime, precision) != ways[0] or case is many_frames or settings
                    name = "-".join(
                        [model, *settings.values(), str(outputs), regime, precision, case.__name__]
                    )
                    marks = (pytest.mark.sweep,) if slow else ()
                    given = (model, settings, outputs, regime, precision, case)
                    found.append(pytest.param(*given, id=name, marks=marks))
    return found


@pytest.mark.parametrize(("model", "settings", "outputs", "regime", "precision", "case"), all_arguments())
def test_ten_steps_stay_finite(
    model: str,
    settings: dict[str, str],
    outputs: int,
    regime: str,
    precision: str,
    case: Callable[[Batch], Batch],
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, views = build(model, settings, outputs)
        whole = case(make_batch(SIZE, outputs))
        network.samples_known(SIZE, 3.0)
        network.look_at_training(lambda: [as_trained(whole, {}, network.dialogues, 3)], 0)

        def forward(batch: Batch) -> Output:
            if precision == "float32":
                return network(batch)
            with torch.autocast("cpu", torch.bfloat16), without_onednn():
                return network(batch)

        numbers = ten_steps(
            network, lambda n: as_trained(whole, views, network.dialogues, n), regime, forward
        )
        assert numbers or case in MAY_GIVE_UP
        if numbers:
            network.eval()
            with torch.no_grad():
                prediction = forward(as_trained(whole, {}, network.dialogues, 3)).prediction
            assert torch.isfinite(prediction).all()
            for name, parameter in network.named_parameters():
                assert torch.isfinite(parameter).all(), name
