"""Training's cost: our loop beside a bare PyTorch loop, and one network at a time beside all folds together.

    python benchmarks/train.py [--data data] [--model mmin] [--epochs 5] [--device cpu] [--together]
    python benchmarks/train.py --made 30x8 --model umdf gcnet smil cubemlp tate [--only ours]

- ours: pipeline/training/loop.py's training part of an epoch: the epoch's pairs, their order, batches cut from
  the data, losses, step. Validation is left out on both sides.
- bare: zero_grad, forward, sum of the losses, backward, Adam's step, over the very batches, made beforehand. So
  all that the loop and the making of batches cost counts against ours. Aim: 1.1 or less of its time; 2 for the
  models of the UMDF paper, whose batches are dialogues, draws and second versions of each sample.
- --made DxU: instead of the demo corpus, D dialogues of U turns of noise (12 words of 768 columns, 4 s of 130 at
  10 frames/s, 4 s of 342 at 8).
- --only: one side alone, so that the process's peak of memory is that side's.
- --together: the full-modality baseline of all folds, one after the other, and as one batched computation
  (torch.func.stack_module_state and vmap, with an LSTM written out in steps, since vmap knows no fused one).
  Batches are the same, padded to one length; also said is how far the weights lie apart after the epoch.

Both sides compute in one process and one thread, each from the same seed, and take turns by epoch, so that a busy
machine slows both alike; on a GPU (``--device cuda``) the clock is read when the device is done. Times are of the
wall and of the processor, the median over epochs. Memory is the process's peak, of both sides together; on a GPU the
device's, side by side.
"""

from __future__ import annotations

import argparse
import copy
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional

from models.base import MODALITIES, Batch
from models.baseline import BaselineSettings
from models.baseline import Model as Baseline
from models.layers import KERNELS
from pipeline.data.manifest import Sample, manifest_checksum, write_manifest
from pipeline.data.store import FeatureInfo, FeatureSequence, FeatureWriter
from pipeline.params import Dataset, Experiment, Folds, load_params
from pipeline.training.experiment import pretraining, resolve
from pipeline.training.folds import make_folds
from pipeline.training.kept_runs import build
from pipeline.training.loop import Run, deterministic
from pipeline.training.regimes.standard import Regime
from pipeline.training.samples import SampleSet, derive_seed, read_samples

# modality -> frames on average, columns, seconds a frame
MADE: dict[str, tuple[int, int, float | None]] = {
    "text": (12, 768, None),
    "audio": (40, 130, 0.1),
    "video": (32, 342, 0.125),
}


def timed(work: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Return seconds of the wall and of the processor."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    wall, processor = time.perf_counter(), time.process_time()
    work()
    wait()
    return time.perf_counter() - wall, time.process_time() - processor


def epoch_batches(run: Run, epoch: int) -> list[Batch]:
    """Return the batches that our loop trains on in one epoch."""
    pairs = run.sets[0].epoch(epoch)
    return [batch for _, batch in pairs.batches(run.samples, run._cut(pairs, "all", 0), run.views)]


def make(folder: Path, count: int, turns: int) -> tuple[SampleSet, Folds]:
    """Write a corpus of so many dialogues of noise by the pipeline's own writers; return its samples and folds."""
    labels = ("happy", "neutral", "sad", "angry")
    rows = [
        Sample(
            id=f"d{dialogue:04d}-{turn:03d}",
            speaker=f"{dialogue % 5}{'FM'[turn % 2]}",
            session=str(dialogue % 5),
            dialogue=f"d{dialogue:04d}",
            turn=turn,
            label=labels[(dialogue + turn) % 4],
        )
        for dialogue in range(count)
        for turn in range(turns)
    ]
    manifest = folder / "manifests" / "made.csv"
    write_manifest(manifest, rows)
    rng = np.random.default_rng(0)
    for modality, (frames, columns, period) in MADE.items():
        names = tuple(f"{modality[0]}{i}" for i in range(columns))
        info = FeatureInfo("made", modality, "made", {}, names, period, manifest_checksum(manifest))
        with FeatureWriter(folder / "features" / "made" / f"{modality}.h5", info) as writer:
            for row in rows:
                length = int(rng.integers(frames // 2, frames * 3 // 2))
                values = rng.standard_normal((length, columns), dtype=np.float32)
                times = np.arange(length, dtype=np.float32) * np.float32(period or 0.3)
                tokens = ("w",) * length if modality == "text" else ()
                writer.append(
                    row.id, FeatureSequence(values, times, np.ones(length, np.uint8), tokens=tokens)
                )
    folds = Folds(scheme="session", count=5)
    given = {
        "loader": "demo",
        "root": "nowhere",
        "options": {},
        "labels": labels,
        "folds": folds.model_dump(),
    }
    settings = Dataset.model_validate({**given, **{m: {"extractor": "made"} for m in MADE}})
    return read_samples("made", settings, data=folder, dialogues=True), folds


def compare_loops(
    data: SampleSet, folds: Folds, model: str, epochs: int, device: torch.device, only: str | None = None
) -> None:
    """Print our loop beside the bare one, or one of them alone."""
    asked = {"mmin": "missing", "mctn": "full", "baseline": "augmented"}.get(model, "random-condition")
    experiment = resolve(Experiment(dataset="demo", model=model, train_on=asked))
    fold = make_folds(data.samples, folds)[0]
    samples = data.prepare(data.fit_normalisers(fold.train), device)
    with deterministic(device, 0):
        network = build(experiment, data.dims, len(data.classes)).to(device)
        before = pretraining(experiment)
        if before is not None:  # untrained: it costs the same
            network.load_pretrained(build(before, data.dims, len(data.classes)).to(device))
    run = Run(network, Regime(Regime.Settings()), samples, fold, experiment, 0, len(data.classes), {})
    with deterministic(device, 0):
        run.look()
    twin = copy.deepcopy(network)
    groups = twin.parameter_groups()
    parameters = [parameter for group in groups.values() for parameter in group]
    optimizer = torch.optim.Adam(
        parameters, experiment.learning_rate, weight_decay=experiment.weight_decay, foreach=True
    )
    times: dict[str, list[tuple[float, float]]] = {"ours": [], "bare": []}
    peaks = {"ours": 0, "bare": 0}
    count = 0
    for epoch in range(1, epochs + 2):
        run.epoch = epoch
        batches = epoch_batches(run, epoch) if only != "ours" else []
        count = sum(len(batch) for batch in batches) or len(fold.train)

        def bare(batches: list[Batch] = batches) -> None:
            for batch in batches:
                optimizer.zero_grad(set_to_none=True)
                torch.stack(list(twin(batch).losses.values())).sum().backward()
                if experiment.clip_value is not None:
                    torch.nn.utils.clip_grad_value_(parameters, experiment.clip_value)
                optimizer.step()

        with deterministic(device, 0):
            network.train()
            twin.train()
            for one in (network, twin):
                one.epoch_start(epoch)
            sides: list[tuple[str, Callable[[], object]]] = [
                ("ours", lambda: run._train_phase("all")),
                ("bare", bare),
            ]
            for name, work in sides if epoch % 2 else sides[::-1]:
                if only not in (None, name):
                    continue
                torch.manual_seed(derive_seed(0, "epoch", epoch))
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(device)
                spent = timed(work, device)
                if device.type == "cuda":
                    peaks[name] = max(peaks[name], torch.cuda.max_memory_allocated(device))
                if epoch > 1:  # the first one warms up
                    times[name].append(spent)
    if only is not None:
        wall = statistics.median(spent[0] for spent in times[only])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{model}: {only} alone, {count / wall:.0f} samples/s, {wall:.2f} s an epoch, peak memory {peak:.0f} MiB"
        )
        return
    apart = max(
        float((a - b).detach().abs().max())
        for a, b in zip(network.parameters(), twin.parameters(), strict=True)
    )
    for kind, place in (("wall", 0), ("processor", 1)):
        ours, bare_time = (statistics.median(t[place] for t in times[name]) for name in ("ours", "bare"))
        ratio = statistics.median(
            o[place] / b[place] for o, b in zip(times["ours"], times["bare"], strict=True)
        )
        print(
            f"{model} {kind}: ours {count / ours:.0f} samples/s, bare {count / bare_time:.0f} samples/s, "
            f"time of ours over bare {ratio:.3f}"
        )
    memory = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"
    if device.type == "cuda":
        memory = ", ".join(f"{name} {peak / 2**20:.0f} MiB" for name, peak in peaks.items())
    print(f"{model}: {count} samples an epoch; weights apart {apart:.1e}; peak memory {memory}")


def lstm(weights: dict[str, Tensor], prefix: str, values: Tensor, lengths: Tensor) -> Tensor:
    """Return (B, H), the maximum over time of an LSTM in steps, with the weights of models/layers.py's."""
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    w_in, w_hidden, b_in, b_hidden = (weights[f"{prefix}.lstm.{name}"] for name in names)
    given = functional.linear(values, w_in, b_in + b_hidden)
    hidden = values.new_zeros(values.shape[0], w_hidden.shape[1])
    cell, best = hidden, torch.full_like(hidden, float("-inf"))
    for step in range(values.shape[1]):
        gates = given[:, step] + functional.linear(hidden, w_hidden)
        i, f, g, o = gates.chunk(4, dim=1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(cell)
        best = torch.where((step < lengths)[:, None], torch.maximum(best, hidden), best)
    return best


def functional_loss(
    weights: dict[str, Tensor], network: Baseline, features: dict[str, Tensor], lengths: dict[str, Tensor],
    labels: Tensor,
) -> Tensor:  # fmt: skip
    """Return the baseline's loss on complete samples, in operations that vmap knows."""
    text = {
        name.removeprefix("encoders.text."): w
        for name, w in weights.items()
        if name.startswith("encoders.text.")
    }
    values = features["text"].transpose(1, 2)
    pooled = []
    for place, size in enumerate(KERNELS):
        found = functional.conv1d(
            values, text[f"convolutions.{place}.weight"], text[f"convolutions.{place}.bias"]
        )
        beyond = (
            torch.arange(found.shape[2], device=found.device)
            >= (lengths["text"] - size + 1).clamp(min=1)[:, None]
        )
        pooled.append(torch.where(beyond[:, None], float("-inf"), found).amax(dim=2))
    hidden = torch.relu(torch.cat(pooled, dim=1))
    embeddings = [torch.relu(functional.linear(hidden, text["output.0.weight"], text["output.0.bias"]))]
    for m in MODALITIES[1:]:
        embeddings.append(lstm(weights, f"encoders.{m}", features[m], lengths[m]))
    own = {n.removeprefix("classifier."): w for n, w in weights.items() if n.startswith("classifier.")}
    logits = functional_call(network.classifier, own, (torch.cat(embeddings, dim=1),))
    return functional.cross_entropy(logits, labels)


def compare_together(data: SampleSet, folds: Folds, epochs: int, device: torch.device) -> None:
    """Print all folds one after the other beside all folds together."""
    experiment = Experiment(dataset="demo", model="baseline", train_on="full", batch_size=32)
    splits = make_folds(data.samples, folds)
    size = min(len(fold.train) for fold in splits)
    splits = [replace(fold, train=fold.train[:size]) for fold in splits]
    alone, batches = [], []
    for fold in splits:
        samples = data.prepare(data.fit_normalisers(fold.train), device)
        with deterministic(device, fold.number):
            network = Baseline(BaselineSettings(), data.dims, len(data.classes)).to(device)
        run = Run(network, Regime(Regime.Settings()), samples, fold, experiment, 0, len(data.classes), {})
        alone.append(network)
        batches.append(epoch_batches(run, 1))
    longest = {
        m: max(b.features[m].shape[1] for own in batches for b in own) + (max(KERNELS) if m == "text" else 0)
        for m in MODALITIES
    }

    def padded(values: Tensor, m: str) -> Tensor:
        return functional.pad(values, (0, 0, 0, longest[m] - values.shape[1]))

    stacked = [
        (
            {m: torch.stack([padded(b.features[m], m) for b in step]) for m in MODALITIES},
            {m: torch.stack([b.lengths[m] for b in step]) for m in MODALITIES},
            torch.stack([b.labels for b in step if b.labels is not None]),
        )
        for step in zip(*batches, strict=True)
    ]
    weights, _ = stack_module_state(alone)  # type: ignore[arg-type]
    together = {name: value.detach().clone().requires_grad_() for name, value in weights.items()}
    optimizers = [torch.optim.Adam(network.parameters(), 1e-3, foreach=True) for network in alone]
    optimizer = torch.optim.Adam(together.values(), 1e-3, foreach=True)
    gradients = vmap(grad(lambda w, f, n, y: functional_loss(w, alone[0], f, n, y)), in_dims=(0, 0, 0, 0))

    def one_by_one() -> None:
        for network, own, stepper in zip(alone, batches, optimizers, strict=True):
            for batch in own:
                stepper.zero_grad(set_to_none=True)
                torch.stack(list(network(batch).losses.values())).sum().backward()
                stepper.step()

    def at_once() -> None:
        for features, lengths, labels in stacked:
            found = gradients({n: w.detach() for n, w in together.items()}, features, lengths, labels)
            for name, value in together.items():
                value.grad = found[name]
            optimizer.step()

    first_step = gradients({n: w.detach() for n, w in together.items()}, *stacked[0])
    off = 0.0
    for place, (network, own) in enumerate(zip(alone, batches, strict=True)):
        network.zero_grad(set_to_none=True)
        torch.stack(list(network(own[0]).losses.values())).sum().backward()
        for name, parameter in network.named_parameters():
            if parameter.grad is not None:
                off = max(off, float((parameter.grad - first_step[name][place]).abs().max()))
    times: dict[str, list[tuple[float, float]]] = {"one by one": [], "together": []}
    apart = 0.0
    with deterministic(device, 0):
        for epoch in range(epochs + 1):
            spent = {"one by one": timed(one_by_one, device), "together": timed(at_once, device)}
            if epoch == 0:
                state, _ = stack_module_state(alone)  # type: ignore[arg-type]
                apart = max(float((state[n] - together[n]).detach().abs().max()) for n in together)
            else:
                for name, value in spent.items():
                    times[name].append(value)
    for kind, place in (("wall", 0), ("processor", 1)):
        first, second = (statistics.median(t[place] for t in times[name]) for name in times)
        count = sum(len(batch) for own in batches for batch in own)
        print(
            f"{len(splits)} folds, {kind}: one by one {first:.3f} s an epoch ({count / first:.0f} samples/s), "
            f"together {second:.3f} s ({count / second:.0f} samples/s): {second / first:.2f} of the time"
        )
    print(f"gradients of the first batch lie at most {off:.1e} apart, weights after one epoch {apart:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--model", nargs="+", default=["mmin"])
    parser.add_argument("--made", metavar="DxU", help="dialogues and their turns")
    parser.add_argument("--only", choices=["ours", "bare"])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--together", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.made:
        count, _, turns = options.made.partition("x")
        with tempfile.TemporaryDirectory() as folder:
            made, folds = make(Path(folder), int(count), int(turns))
        for model in options.model:
            compare_loops(made, folds, model, options.epochs, options.device, options.only)
        return
    settings = load_params().dataset("demo")
    data = read_samples("demo", settings, {"audio": 10.0}, options.data)
    if options.together:
        compare_together(data, settings.folds, options.epochs, options.device)
    else:
        for model in options.model:
            compare_loops(data, settings.folds, model, options.epochs, options.device, options.only)


if __name__ == "__main__":
    main()
