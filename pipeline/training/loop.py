"""fit(): the one training loop. Every model and every regime is trained by it.

It owns the device, the precision, the optimiser and its rates, clipping, validation, the choice of the best
epoch, early stop and the saved state. One seed gives one result, on a CPU bit for bit, whether or not the run
was interrupted: each epoch draws from generators of its own, derived from (seed, purpose, epoch), and
PyTorch's global generator is seeded only within a scope that gives it back. On a CPU a run computes in one
thread; several runs go in parallel (pipeline/training/all_runs.py).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.base import Batch, Network, Output, View
from pipeline.data.files import whole_or_nothing
from pipeline.errors import TrainingError, nearest
from pipeline.params import Experiment
from pipeline.training import metrics
from pipeline.training.batching import DeviceSamples
from pipeline.training.folds import Fold
from pipeline.training.masking import NamedMask
from pipeline.training.regimes.base import BaseRegime, Step
from pipeline.training.samples import derive_seed
from pipeline.training.training_set import (
    Pairs,
    Showing,
    TrainingSet,
    relative_lengths,
    shown_pairs,
    validation_showings,
)

EVALUATION_BATCH = 256
WINDOW = 16  # batches by length are sorted within so many neighbours of the shuffled order

_log = logging.getLogger("lacuna")


@dataclass(frozen=True)
class Fit:
    """What a training gave.

    Attributes:
        history: one row an epoch, as history.csv has them.
        best_epoch: the epoch whose weights the network now has.
        best_score: its validation score.
        one_answer: whether it gives all validation samples the same class, or nearly the same score.
    """

    history: tuple[dict[str, float], ...]
    best_epoch: int
    best_score: float
    one_answer: bool


def choose_device(name: str) -> torch.device:
    """Return the device of ``compute.device``: ``auto`` is CUDA when there is one, else the CPU.

    Raises:
        TrainingError: a CUDA device is asked for by name and is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda"):
        index = int(name.partition(":")[2] or 0)
        if not torch.cuda.is_available() or index >= torch.cuda.device_count():
            raise TrainingError(f"compute.device is {name}, but there is no such device. Take auto or cpu")
    return torch.device(name)


@contextlib.contextmanager
def deterministic(device: torch.device, seed: int) -> Iterator[None]:
    """Seed PyTorch, ask for deterministic algorithms and one CPU thread; put everything back afterwards."""
    before, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    threads = torch.get_num_threads()
    memory: Any = torch.utils.deterministic
    filling = memory.fill_uninitialized_memory
    os.environ.setdefault(
        "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
    )  # without it cuBLAS refuses to be deterministic
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            torch.use_deterministic_algorithms(True)
            # PyTorch would fill all new memory with NaN: a tenth of a step, for operations that read what none wrote.
            memory.fill_uninitialized_memory = False
            if device.type == "cpu":
                torch.set_num_threads(1)
            torch.manual_seed(seed)
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warn_only)
            memory.fill_uninitialized_memory = filling
            torch.set_num_threads(threads)


def fit(
    network: Network,
    regime: BaseRegime,
    samples: DeviceSamples,
    fold: Fold,
    experiment: Experiment,
    seed: int,
    classes: int,
    masks: Mapping[str, NamedMask] | None = None,
    state: Path | None = None,
    save_every_s: float = 20.0,
    after_epoch: Callable[[int], None] | None = None,
    watch: Callable[[Run], None] | None = None,
) -> Fit:
    """Train a network and leave it with the weights of its best epoch.

    The best epoch is the one with the best ``select_by`` on the validation part; where two are equal, the one
    with the lower validation loss (cross-entropy; of scores the mean absolute error, whatever the model trains
    on), and then the earlier. Validation shows samples as training does
    (:func:`pipeline.training.training_set.validation_showings`), several conditions pooled. The test part chooses
    nothing, unless ``selection: test-paper`` asks for it, as some public codes do.

    Args:
        network: built and on the device of ``samples``.
        regime: how batches become gradients.
        samples: normalised by the training part of the fold.
        fold: who trains and validates.
        experiment: epochs, rates and all the rest.
        seed: of this run.
        classes: C; 1 for a regression.
        masks: those that the experiment and its regime name, by name.
        state: a file to go on from, and to save to about every ``save_every_s`` seconds; removed at the end.
        save_every_s: when to save; the result does not depend on it.
        after_epoch: called with the epoch's number when its state is saved or need not be.
        watch: called with the training after each epoch, to show how far it is.

    Raises:
        TrainingError: a loss is no number.
    """
    run = Run(network, regime, samples, fold, experiment, seed, classes, masks or {})
    if state is None or not state.is_file() or not run.load(state):
        with deterministic(samples.device, derive_seed(seed, "look")):
            run.look()
    saved = time.monotonic()
    while not run.finished:
        with deterministic(samples.device, derive_seed(seed, "epoch", run.epoch + 1)):
            run.train_epoch()
        if state is not None and time.monotonic() - saved >= save_every_s and not run.finished:
            run.save(state)
            saved = time.monotonic()
        if watch is not None:
            watch(run)
        if after_epoch is not None:
            after_epoch(run.epoch)
    network.load_state_dict(run.best)
    if state is not None:
        state.unlink(missing_ok=True)
    return Fit(tuple(run.history), run.best_epoch, run.best_score, run.one_answer)


class Run:
    """The state of one training and its epochs."""

    def __init__(
        self,
        network: Network,
        regime: BaseRegime,
        samples: DeviceSamples,
        fold: Fold,
        experiment: Experiment,
        seed: int,
        classes: int,
        masks: Mapping[str, NamedMask],
    ) -> None:
        """Take what :func:`fit` takes."""
        self.network, self.regime, self.samples = network, regime, samples
        self.fold, self.experiment, self.seed, self.classes = fold, experiment, seed, classes
        network.samples_known(len(samples.ids), samples.scale.limit)
        self.groups = network.parameter_groups()
        for key in ("learning_rates", "weight_decays"):
            for name in getattr(experiment, key):
                if name not in self.groups:
                    raise TrainingError(
                        f'{key}: there is no parameter group "{name}"; {experiment.model} has '
                        f"{', '.join(self.groups)}.{nearest(name, self.groups)}"
                    )
        self.optimizers = {name: self._optimizer(wanted) for name, wanted in network.phases.items()}
        self.forward = autocast(
            torch.compile(network) if experiment.compile else network, experiment, samples.device
        )
        self.views = network.views(network.settings)
        redraws = any(view.kind == "redrawn" for view in self.views.values())
        self.sets = [
            TrainingSet(
                stream.train_on or experiment.train_on,
                stream.train_mask or experiment.train_mask,
                masks,
                samples,
                fold.train,
                seed,
                stream="" if number == 0 else stream.name,
                dialogues=network.dialogues,
                redraws=redraws,
            )
            for number, stream in enumerate(regime.streams)
        ]
        self.ways = validation_showings(
            experiment.train_on, experiment.train_mask, masks, samples.device, seed
        )
        self.judged = "test" if experiment.selection == "test-paper" else "valid"
        self.sign = -1.0 if experiment.select_by in metrics.SMALLER_IS_BETTER else 1.0
        self.epoch = 0
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}
        self.best_epoch, self.best_score, self.best_loss = 0, -math.inf, math.inf
        self.one_answer = False

    def _optimizer(self, wanted: Sequence[str]) -> torch.optim.Optimizer:
        experiment = self.experiment
        groups: list[dict[str, Any]] = []
        for name, parameters in self._trained(wanted).items():
            rate = experiment.learning_rates.get(name, experiment.learning_rate)
            towards_zero = experiment.weight_decays.get(name, experiment.weight_decay)
            groups.append({"params": parameters, "lr": rate, "base": rate, "weight_decay": towards_zero})
        return torch.optim.Adam(groups, betas=(experiment.beta1, 0.999), foreach=True)

    def _trained(self, wanted: Sequence[str]) -> dict[str, list[nn.Parameter]]:
        """Return the parameter groups of a phase, all when it names none."""
        return {name: list(group) for name, group in self.groups.items() if not wanted or name in wanted}

    @property
    def finished(self) -> bool:
        experiment = self.experiment
        if self.epoch >= experiment.epochs:
            return True
        return (
            experiment.patience is not None
            and self.epoch - self.best_epoch >= experiment.patience
            and self.epoch > 0
        )

    def train_epoch(self) -> None:
        self.epoch += 1
        self.network.train()
        self.network.epoch_start(self.epoch)
        factor = decay(self.epoch, self.experiment)
        if self.experiment.halve_after is not None:
            before = [row["valid_loss"] for row in self.history]
            factor *= 0.5 ** halvings(before, self.experiment.halve_after)
        row: dict[str, float] = {"epoch": self.epoch, "learning_rate": self.experiment.learning_rate * factor}
        losses: dict[str, float] = {}
        for phase in self.network.phases:
            self.network.phase_start(phase)
            for group in self.optimizers[phase].param_groups:
                group["lr"] = group["base"] * factor
            for name, value in self._train_phase(phase, factor).items():
                losses[name] = losses.get(name, 0.0) + value
        if not all(map(math.isfinite, losses.values())):
            raise TrainingError(
                f"epoch {self.epoch}, fold {self.fold.number}: the losses are {losses}, not finite numbers. "
                "Lower learning_rate, set clip_norm, or look at the features for extreme values"
            )
        row["train_loss"] = sum(losses.values())
        row.update({f"train_{name}": value for name, value in losses.items()})
        judged, alike = self._judge(self.fold.valid)
        row.update({f"valid_{name}": value for name, value in judged.items()})
        if self.experiment.watch_test or self.judged == "test":
            row.update({f"test_{name}": value for name, value in self._judge(self.fold.test)[0].items()})
        score, loss = (
            self.sign * row[f"{self.judged}_{self.experiment.select_by}"],
            row[f"{self.judged}_loss"],
        )
        better = not self.best or (score, -loss) > (self.sign * self.best_score, -self.best_loss)
        if better:
            self.best_epoch, self.best_loss = self.epoch, loss
            self.best_score, self.one_answer = self.sign * score, alike
            self.best = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        row["best"] = int(better)
        self.history.append(row)

    def look(self) -> None:
        """Show the network the training part, whole, before the first epoch."""
        whole = TrainingSet(
            "full", None, {}, self.samples, self.fold.train, self.seed, dialogues=self.network.dialogues
        )
        pairs = whole.epoch(0)

        def batches() -> Iterator[Batch]:
            size = self.experiment.batch_size if self.network.dialogues else EVALUATION_BATCH
            for _, batch in pairs.batches(self.samples, torch.arange(len(pairs)).split(size)):
                yield batch

        self.network.look_at_training(batches, derive_seed(self.seed, "look"))

    def _train_phase(self, phase: str, factor: float = 1.0) -> dict[str, float]:
        experiment, optimizer = self.experiment, self.optimizers[phase]
        streams = [one.epoch(self.epoch) for one in self.sets]
        cut = [self._cut(pairs, phase, number) for number, pairs in enumerate(streams)]
        steps = len(cut[0])
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "regime", phase, self.epoch))
        trained = self._trained(self.network.phases[phase])
        step = Step(self.network, self.forward, self.epoch, self.seed, generator, trained, factor)
        totals: dict[str, Tensor] = {}
        labelled = streams[0].labelled()
        given = [
            pairs.batches(
                self.samples, itertools.islice(itertools.cycle(parts), steps), self.views if one.views else {}
            )
            for one, pairs, parts in zip(self.regime.streams, streams, cut, strict=True)
        ]
        for number in range(steps):
            found = [next(batches) for batches in given]
            if number % experiment.accumulate == 0:
                self.network.zero_grad(set_to_none=True)  # another phase's parameters may have gradients too
            weight = self._counted(streams[0], found[0][0]) / labelled
            for name, loss in self.regime.gradients(step, [batch for _, batch in found]).items():
                share = loss.detach().double() * weight
                totals[name] = totals[name] + share if name in totals else share
            gathered = number % experiment.accumulate + 1
            if gathered == experiment.accumulate or number + 1 == steps:
                self._finish(trained, gathered)
                optimizer.step()
            del found  # so that its memory is free while the next batch is made
        return {name: float(total) for name, total in totals.items()}

    def _cut(self, pairs: Pairs, phase: str, stream: int) -> tuple[Tensor, ...]:
        """Return the units of each batch of an epoch; a stream that is shorter than the first begins again."""
        cost = relative_lengths(self.samples, pairs) if self.experiment.batches == "by-length" else None
        return self._order(len(pairs), phase, stream, cost).split(self.experiment.batch_size)

    @staticmethod
    def _counted(pairs: Pairs, found: Tensor) -> int:
        return len(found) if pairs.counts is None else int(pairs.counts[pairs.indices[found].numpy()].sum())

    def _order(self, count: int, phase: str, stream: int, cost: Tensor | None = None) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", phase, stream, self.epoch))
        order = torch.randperm(count, generator=generator)
        return order if cost is None else by_length(order, cost, self.experiment.batch_size, generator)

    def _finish(self, trained: Mapping[str, list[nn.Parameter]], gathered: int) -> None:
        """Bring the gradients of so many batches to their mean, and clip them."""
        limit, groups = self.experiment.clip_norm, list(trained.values())
        every = [parameter for group in groups for parameter in group if parameter.grad is not None]
        if gathered > 1:
            torch._foreach_div_([p.grad for p in every if p.grad is not None], float(gathered))
        if self.experiment.clip_value is not None:
            nn.utils.clip_grad_value_(every, self.experiment.clip_value)
        if limit is None:
            return
        if not self.experiment.clip_groups:
            groups = [[parameter for group in groups for parameter in group]]
        for group in groups:
            nn.utils.clip_grad_norm_(group, limit)

    def _judge(self, indices: NDArray[np.int64]) -> tuple[dict[str, float], bool]:
        """Return loss and metrics on some samples, several ways to show them pooled, and whether all get one answer."""
        logits = predict(self.network, self.forward, self.samples, indices, self.ways)
        known = self.samples.labels if self.samples.scores is None else self.samples.scores
        labels = known.cpu()[torch.from_numpy(indices)].repeat_interleave(len(self.ways))
        if self.samples.scores is None:
            loss = float(functional.cross_entropy(logits.flatten(0, 1), labels))
        else:
            loss = float(functional.l1_loss(logits.flatten(), labels))
        if not math.isfinite(loss):
            raise TrainingError(
                f"epoch {self.epoch}, fold {self.fold.number}: the validation loss is {loss}, not finite. "
                "Lower learning_rate, set clip_norm, or look at the features for extreme values"
            )
        if self.samples.scores is not None:
            scale, said = self.samples.scale, logits.flatten().numpy()
            found = metrics.of_scores(labels.numpy(), said, scale.metrics)
            return {"loss": loss, **found}, metrics.all_alike(said, scale.limit)
        predicted = logits.argmax(dim=2).flatten().numpy()
        confusion = metrics.confusion_matrix(labels.numpy(), predicted, self.classes)
        return {"loss": loss, **metrics.of_classes(confusion)}, metrics.all_alike(predicted)

    def save(self, path: Path) -> None:
        """Write everything that the next epoch needs; the file takes its place when whole."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors.update({f"best.{name}": value for name, value in self.best.items()})
        for phase, optimizer in self.optimizers.items():
            for index, entries in optimizer.state_dict()["state"].items():
                for key, value in entries.items():
                    tensors[f"optimizer.{phase}.{index}.{key}"] = value
        facts = {
            "epoch": self.epoch,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_score": self.best_score,
            "best_loss": self.best_loss,
            "one_answer": self.one_answer,
        }
        save_tensors(path, tensors, {"facts": json.dumps(facts)})

    def load(self, path: Path) -> bool:
        """Go on from a saved state; return False for one that cannot be read: training starts anew."""
        try:
            with safetensors.safe_open(path, framework="pt", device=str(self.samples.device)) as file:
                facts = json.loads(file.metadata()["facts"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
            _log.warning("%s: cannot be read (%s); training starts from the beginning", path, error)
            return False
        self.network.load_state_dict(_part(tensors, "network."))
        for phase, optimizer in self.optimizers.items():
            entries: dict[int, dict[str, Tensor]] = {}
            for name, value in _part(tensors, f"optimizer.{phase}.").items():
                index, _, key = name.partition(".")
                entries.setdefault(int(index), {})[key] = value.cpu() if key == "step" else value
            optimizer.load_state_dict(
                {"state": entries, "param_groups": optimizer.state_dict()["param_groups"]}
            )
        self.best = _part(tensors, "best.")
        self.epoch, self.history = facts["epoch"], facts["history"]
        self.best_epoch, self.best_score = facts["best_epoch"], facts["best_score"]
        self.best_loss, self.one_answer = facts["best_loss"], facts["one_answer"]
        _log.info("going on after epoch %d", self.epoch)
        return True


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, str] | None = None) -> None:
    """Write a safetensors file beside its place, under this process's own name, and rename it when whole."""
    with whole_or_nothing(path) as beside:
        safetensors.torch.save_file(
            {n: v.detach().cpu().contiguous() for n, v in tensors.items()}, beside, facts
        )


def decay(epoch: int, experiment: Experiment) -> float:
    """Return the factor on the learning rate: 1, then down by equal steps over the last epochs.

    There are fewer ``decay_epochs`` than ``epochs`` (pipeline/params.py), so that the first epoch has the whole rate.
    """
    over = epoch - (experiment.epochs - experiment.decay_epochs)
    return 1.0 - max(0, over) / (experiment.decay_epochs + 1)


def halvings(losses: Sequence[float], patience: int) -> int:
    """Return how often the rates have been halved: each time more than ``patience`` epochs in a row brought no
    lower loss, as PyTorch's ReduceLROnPlateau counts, to which a loss is lower by a ten-thousandth at least."""
    best, waited, count = math.inf, 0, 0
    for loss in losses:
        best, waited = (loss, 0) if loss < best * (1 - 1e-4) else (best, waited + 1)
        if waited > patience:
            waited, count = 0, count + 1
    return count


def by_length(order: Tensor, cost: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
    """Return an order whose batches hold samples of like length, the batches in a shuffled order.

    Samples are sorted within windows of :data:`WINDOW` batches of a shuffled order, so that the company of a
    sample differs from epoch to epoch; a last batch that is not full stays the last.

    Args:
        order: (P,) int64, shuffled.
        cost: (P,) what is like in a batch.
        batch_size: B.
        generator: shuffles the batches.
    """
    windows = order.split(WINDOW * batch_size)
    ordered = torch.cat([window[cost[window].argsort(stable=True)] for window in windows])
    full = len(order) // batch_size
    head, tail = ordered[: full * batch_size], ordered[full * batch_size :]
    shuffled = head.view(full, batch_size)[torch.randperm(full, generator=generator)]
    return torch.cat([shuffled.flatten(), tail])


def autocast(
    network: Callable[[Batch], Output], experiment: Experiment, device: torch.device
) -> Callable[[Batch], Output]:
    """Return the network's call at the experiment's precision.

    A CPU whose oneDNN has no LSTM in bfloat16 computes with PyTorch's own kernels instead: more slowly.
    """
    if experiment.precision == "float32":
        return network
    own_kernels = device.type == "cpu" and not onednn_has_lstm()
    if own_kernels:
        _log.warning(
            "oneDNN has no LSTM in bfloat16 for this processor: PyTorch's own kernels compute, more slowly. "
            "precision: float32 is likely to be faster here"
        )

    def forward(batch: Batch) -> Output:
        kernels = without_onednn() if own_kernels else contextlib.nullcontext()
        with torch.autocast(device.type, torch.bfloat16), kernels:
            return network(batch)

    return forward


def onednn_has_lstm() -> bool:
    """Return whether an LSTM trains and predicts in bfloat16 on this CPU, by trying: nothing but an error tells."""
    with torch.random.fork_rng(devices=[]):
        lstm, values = nn.LSTM(2, 2, batch_first=True), torch.zeros(1, 2, 2)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            trained = lstm(values)[0]
            with torch.no_grad():
                lstm(values)
        trained.float().sum().backward()
    except RuntimeError as error:
        _log.debug("an LSTM in bfloat16: %s", error)
        return False
    return True


@contextlib.contextmanager
def without_onednn() -> Iterator[None]:
    """Leave oneDNN's kernels out; ``torch.backends.mkldnn.flags`` would warn of another switch on the way."""
    before = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = before


def predict(
    network: Network,
    forward: Callable[[Batch], Output],
    samples: DeviceSamples,
    indices: NDArray[np.int64],
    ways: Sequence[Showing],
) -> Tensor:
    """Return (n, K, C) logits, or (n, K, 1) scores, on the CPU: every sample in every way to show it.

    Without gradients, in evaluation mode.

    Args:
        network: what is called, to set its mode.
        forward: how it is called.
        samples: all samples.
        indices: (n,) which of them.
        ways: K of them.
    """
    found: list[Tensor] = []
    places: list[tuple[Tensor, Tensor]] = []
    for output, place, way in run_over(network, forward, samples, indices, ways):
        found.append(output.prediction.float().cpu())
        places.append((place, way))
    everything = torch.cat(found)
    place, way = (torch.cat(parts) for parts in zip(*places, strict=True))
    counted = place >= 0
    result = everything.new_empty((len(indices), len(ways), everything.shape[1]))
    result[place[counted], way[counted]] = everything[counted]
    return result


def run_over(
    network: Network,
    forward: Callable[[Batch], Output],
    samples: DeviceSamples,
    indices: NDArray[np.int64],
    ways: Sequence[Showing],
    views: Mapping[str, View] | None = None,
) -> Iterator[tuple[Output, Tensor, Tensor]]:
    """Yield outputs, and for each of their rows the place among ``indices`` (-1: context) and among ``ways``.

    Args:
        network, forward, samples, indices, ways: as :func:`predict` takes them.
        views: versions of the samples that the network is to see besides.
    """
    network.eval()
    with torch.no_grad():
        for pairs, place, way in shown_pairs(samples, indices, ways, network.dialogues):
            size = EVALUATION_BATCH
            if pairs.sizes is not None:
                size = max(1, EVALUATION_BATCH // int(pairs.sizes.max()))
            for rows, batch in pairs.batches(samples, torch.arange(len(pairs)).split(size), views):
                yield forward(batch), place[rows], way[rows]
