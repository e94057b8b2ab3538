"""Training's cost beside that of an earlier checkout: ``python benchmarks/train_before.py CHECKOUT [--epochs 15]``.

    git worktree add --detach ../before b4fffc2 && python benchmarks/train_before.py ../before

Two processes of one thread each, one over either checkout's code, take turns epoch by epoch, and change who begins, so
that a busy machine slows both alike. An epoch is training's and validation's, as ``Run.train_epoch`` has it. Features
are drawn at random in the shapes of the demo corpus (144 training samples), with labels that they follow; times are of
the processor and of the wall, the median over epochs but the first, the ratio that of the pairs of epochs. A checksum
of the weights at the end says whether both checkouts compute the same numbers.

The checkout may be b4fffc2 (before training was a package of its own), or a later one.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MODELS = {"baseline": "augmented", "mmin": "missing"}  # and what they train on
SHAPES = {
    "text": (768, 5, 20),
    "audio": (88, 20, 40),
    "video": (52, 16, 32),
}  # columns, least and most frames
PARTS = {"train": 144, "valid": 48, "test": 48}
CLASSES = ("happy", "neutral", "sad", "angry")


def work(model: str) -> None:
    """Train an epoch for each line read, and answer with its seconds: the main function of a process."""
    import numpy as np
    import torch

    if Path("pipeline/training").is_dir():
        from pipeline.data.manifest import Sample
        from pipeline.data.store import FeatureInfo
        from pipeline.params import Experiment
        from pipeline.training.experiment import resolve
        from pipeline.training.folds import Fold
        from pipeline.training.kept_runs import build
        from pipeline.training.loop import Run, deterministic
        from pipeline.training.regimes.standard import Regime
        from pipeline.training.samples import SampleSet, derive_seed
        from pipeline.training.sequences import Sequences

        more: tuple[Any, ...] = ({},)  # no masks
        extra: dict[str, Any] = {}
    else:  # b4fffc2
        from pipeline.folds import Fold  # type: ignore[no-redef,import-not-found]
        from pipeline.loop import _Run as Run  # type: ignore[no-redef,import-not-found]
        from pipeline.loop import deterministic  # type: ignore[no-redef]
        from pipeline.manifest import Sample  # type: ignore[no-redef,import-not-found]
        from pipeline.regimes.standard import Regime  # type: ignore[no-redef,import-not-found]
        from pipeline.samples import (  # type: ignore[no-redef,import-not-found]
            SampleSet,
            Sequences,
            derive_seed,
        )
        from pipeline.store import FeatureInfo  # type: ignore[no-redef,import-not-found]

        from pipeline.params import Experiment
        from pipeline.train import build, resolve  # type: ignore[no-redef,attr-defined]

        more = ()
        extra = {"columns_kept": {}}
    torch.set_num_threads(1)
    if not Path(sys.modules[Run.__module__].__file__ or "").is_relative_to(Path.cwd()):
        raise SystemExit(f"{sys.modules[Run.__module__].__file__}: imported from another checkout")
    draw = np.random.default_rng(0)
    size = sum(PARTS.values())
    labels = np.arange(size) % len(CLASSES)
    modalities = {}
    for name, (columns, least, most) in SHAPES.items():
        lengths = draw.integers(least, most + 1, size)
        rows = int(lengths.sum())
        centres = draw.normal(size=(len(CLASSES), columns))
        values = (draw.normal(size=(rows, columns)) + np.repeat(centres[labels], lengths, axis=0)).astype(
            "f4"
        )
        info = FeatureInfo("demo", name, "drawn", {}, tuple(map(str, range(columns))), 0.1, "")
        modalities[name] = Sequences(
            values, np.ones(rows, bool), np.cumsum(lengths) - lengths, lengths, info, ""
        )
    given = [Sample(id=f"s{i:03d}", label=CLASSES[label]) for i, label in enumerate(labels)]
    data = SampleSet(tuple(given), CLASSES, labels, modalities, {}, **extra)
    edges = np.cumsum(list(PARTS.values()))
    train, valid, test = np.split(np.arange(size), edges[:-1])
    fold = Fold(1, "", train, valid, test)
    device = torch.device("cpu")
    experiment = resolve(Experiment(dataset="demo", model=model, train_on=MODELS[model]))
    with deterministic(device, 0):
        network = build(experiment, data.dims, len(CLASSES))
    samples = data.prepare(data.fit_normalisers(train), device)
    run = Run(network, Regime(Regime.Settings()), samples, fold, experiment, 0, len(CLASSES), *more)
    for _ in sys.stdin:
        wall, processor = time.perf_counter(), time.process_time()
        with deterministic(device, derive_seed(0, "epoch", run.epoch + 1)):
            run.train_epoch()
        digest = hashlib.sha256(b"".join(t.numpy().tobytes() for t in network.state_dict().values()))
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        print(wall, processor, digest.hexdigest()[:16], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, nargs="?")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--work", choices=MODELS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return
    if options.checkout is None:
        parser.error("name the earlier checkout's folder")
    here = Path(__file__).resolve().parents[1]
    for model in MODELS:
        started = {}
        for name, folder in (("before", options.checkout.resolve()), ("now", here)):
            environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
            command = [sys.executable, __file__, "--work", model]
            started[name] = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        times: dict[str, list[tuple[float, float]]] = {"before": [], "now": []}
        weights = {}
        for epoch in range(options.epochs + 1):
            for name in ("before", "now") if epoch % 2 else ("now", "before"):
                asked, answered = started[name].stdin, started[name].stdout
                assert asked is not None and answered is not None
                print(file=asked, flush=True)
                wall, processor, weights[name] = answered.readline().split()
                if epoch:  # the first one warms up
                    times[name].append((float(wall), float(processor)))
        for process in started.values():
            process.communicate()
        for kind, place in (("processor", 1), ("wall", 0)):
            before, now = (statistics.median(t[place] for t in times[name]) for name in ("before", "now"))
            ratios = [n[place] / b[place] for n, b in zip(times["now"], times["before"], strict=True)]
            print(
                f"{model} {kind}: before {before:.3f} s an epoch, now {now:.3f} s, now / before "
                f"{statistics.median(ratios):.3f} ({min(ratios):.2f} to {max(ratios):.2f})"
            )
        print(f"{model}: weights {'equal' if weights['before'] == weights['now'] else 'differ'} at the end")


if __name__ == "__main__":
    main()
