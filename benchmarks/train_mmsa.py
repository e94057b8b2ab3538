"""One training epoch of MISA, MMIM and Self-MM: ours beside the ``mmsa`` package's, on equal shapes and
batches.

    python benchmarks/train_mmsa.py --mmsa-python ENVIRONMENT/bin/python --layers 2 --samples 320

The data are random, in CMU-MOSI's shapes: texts of up to 50 tokens, audio up to 375 x 5, video up to 500 x
20, and a BERT with random weights (768 wide, ``--layers`` of them), trained along. ``--lengths mosi`` draws
each utterance's seconds from a log-normal distribution of mean 4.2 (what the owners of CMU-MOSI report) and
deviation 0.6 of the logarithm, and from these its tokens (3.6 a second: their 12 words a segment, in pieces),
audio (20) and video frames (30): sequences then differ as real ones do. ``full`` makes every sequence as long
as it can be, ``varied`` draws lengths uniformly from a tenth of that on. Both sides run one epoch on the CPU
with as many threads (``OMP_NUM_THREADS``; in ``dvc repro`` a run has one, and runs go side by side), one after
the other; validation and loading of the data are not
counted. Seconds of the wall and of the processor are printed: on a busy machine only the latter mean
something (mmsa's loader processes are not in them).

mmsa (``pip install "MMSA==2.2.1" "transformers<5"``) lives in an environment of its own: it needs an older
transformers. ``ReduceLROnPlateau(verbose=)``, which PyTorch has dropped, is put back for it. Batches
and steps of the optimiser are as many on both sides (mmsa's steps after every 2nd batch of MISA, every 4th of
Self-MM). What differs: its MMIM has LSTMs of two directions, ours, as the authors' code, of one; ours takes
``--batches`` by length, an option of the loop, or shuffled, its default.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

MODELS = {"misa": 16, "mmim": 32, "self_mm": 16}  # mmsa's batch sizes for MOSI
SHAPES = {"text": (48, 768), "audio": (375, 5), "video": (500, 20)}  # tokens without [CLS] and [SEP]
STEPS = {"misa": 2, "mmim": 1, "self_mm": 4}  # batches that mmsa's optimiser gathers
RATES = {"text": 3.6, "audio": 20.0, "video": 30.0}  # rows a second of CMU-MOSI's features, about
VOCABULARY = 30_522


def make_data(samples: int, lengths: str) -> dict[str, np.ndarray]:
    """Return padded arrays and lengths of random samples, the same at each call."""
    rng = np.random.default_rng(0)
    data: dict[str, np.ndarray] = {"score": rng.uniform(-3, 3, samples).astype(np.float32)}
    seconds = rng.lognormal(np.log(4.2) - 0.6**2 / 2, 0.6, samples)
    for name, (longest, columns) in SHAPES.items():
        low = longest if lengths == "full" else max(1, longest // 10)
        size = rng.integers(low, longest + 1, samples)
        if lengths == "mosi":
            size = np.clip(np.rint(seconds * RATES[name]).astype(np.int64), 1, longest)
        valid = np.arange(longest) < size[:, None]
        data[f"{name}_lengths"] = size
        if name == "text":
            data["text"] = rng.integers(1000, VOCABULARY, (samples, longest)) * valid
        else:
            values = rng.standard_normal((samples, longest, columns)).astype(np.float32)
            data[name] = values * valid[:, :, None]
    return data


def write_bert(folder: Path, layers: int) -> None:
    """Write a BERT with random weights and a vocabulary for its tokenizer."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    BertModel(BertConfig(num_hidden_layers=layers)).save_pretrained(folder)
    words = ["[PAD]", *(f"[unused{n}]" for n in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += [f"w{n}" for n in range(VOCABULARY - len(words))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}', encoding="utf-8")


def time_ours(name: str, data: dict[str, np.ndarray], bert: Path, batches: str) -> tuple[float, float]:
    """Return seconds of the wall and of the processor of one epoch of the loop, without validation."""
    import torch

    from models.base import MODALITIES
    from pipeline.params import Experiment
    from pipeline.training.batching import DeviceSamples, FlatSequences, Turns
    from pipeline.training.experiment import resolve
    from pipeline.training.folds import Fold
    from pipeline.training.kept_runs import build
    from pipeline.training.loop import Run
    from pipeline.training.regimes import standard

    count, flat = len(data["score"]), {}
    for modality in MODALITIES:
        sizes = torch.from_numpy(data[f"{modality}_lengths"])
        longest, columns = SHAPES[modality]
        valid = torch.arange(longest) < sizes[:, None]
        tokens = None
        if modality == "text":
            values = torch.zeros(int(sizes.sum()) + 1, 1)  # the model reads the ids alone
            tokens = torch.cat([torch.from_numpy(data["text"])[valid], torch.tensor([100])])
        else:
            values = torch.cat([torch.from_numpy(data[modality])[valid], torch.zeros(1, columns)])
        observed = torch.ones(len(values), dtype=torch.bool)
        starts = sizes.cumsum(0) - sizes
        flat[modality] = FlatSequences(values, observed, starts, sizes, sizes, tokens, sizes, None)
    every, present = np.arange(count), torch.ones(count, 3, dtype=torch.bool)
    alone = Turns(tuple(every[:, None]), every, torch.zeros(count, dtype=torch.int64), np.ones(count, bool))
    samples = DeviceSamples(
        ids=tuple(map(str, range(count))),
        labels=torch.zeros(count, dtype=torch.int64),
        present=present,
        flat=flat,
        device=torch.device("cpu"),
        present_cpu=present,
        turns=alone,
        scores=torch.from_numpy(data["score"]),
    )
    experiment = resolve(
        Experiment(
            dataset="mosi",
            model=name,
            task="regression",
            settings={"text": "tokens", "encoder": str(bert)},
            batch_size=MODELS[name],
            batches=batches,  # type: ignore[arg-type]
            learning_rate=1e-4,
            accumulate=STEPS[name],
        )
    )
    torch.manual_seed(0)
    network = build(experiment, {m: SHAPES[m][1] for m in MODALITIES}, 1)
    regime = standard.Regime(standard.StandardSettings())
    run = Run(network, regime, samples, Fold(1, "", every, every, every), experiment, 0, 1, {})
    run.epoch = 2
    network.train()
    network.epoch_start(2)
    wall, processor = time.perf_counter(), time.process_time()
    for phase in network.phases:
        network.phase_start(phase)
        run._train_phase(phase)
    return time.perf_counter() - wall, time.process_time() - processor


class _Done(Exception):
    """The epoch is over."""


class _Clocked:
    """A loader that notes when each pass over it begins."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.begun: list[tuple[float, float]] = []

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Any:
        self.begun.append((time.perf_counter(), time.process_time()))
        return iter(self.loader)


def time_theirs(name: str, data: dict[str, np.ndarray], bert: Path, workers: int) -> tuple[float, float]:
    """Return seconds of the wall and of the processor of an epoch of mmsa's trainer, in mmsa's environment."""
    import pickle

    import torch
    from MMSA.config import get_config_regression
    from MMSA.data_loader import MMDataLoader
    from MMSA.models import AMIO
    from MMSA.trains import ATIO
    from torch.optim import lr_scheduler

    plateau = lr_scheduler.ReduceLROnPlateau
    mmim = sys.modules["MMSA.trains.singleTask.MMIM"]
    mmim.ReduceLROnPlateau = lambda *args, verbose=False, **kwargs: plateau(*args, **kwargs)
    count = len(data["score"])
    ids = np.zeros((count, 50), np.int64)
    ids[:, 0], ids[:, 1:49] = 101, data["text"]
    ids[np.arange(count), data["text_lengths"] + 1] = 102
    part = {
        "text_bert": np.stack([ids, ids != 0, np.zeros_like(ids)], axis=1).astype(np.float32),
        "audio": data["audio"],
        "vision": data["video"],
        "raw_text": [""] * count,
        "id": list(map(str, range(count))),
        "regression_labels": data["score"],
        "audio_lengths": data["audio_lengths"].tolist(),
        "vision_lengths": data["video_lengths"].tolist(),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mosi.pkl")
        path.write_bytes(pickle.dumps({"train": part, "valid": part, "test": part}))
        args = get_config_regression(name, "mosi")
        args.update(featurePath=str(path), pretrained=str(bert), train_samples=count, cur_seed=1)
        args.update(device=torch.device("cpu"), train_mode="regression", model_save_path=Path(folder, "m"))
        args.update(custom_feature=None, feature_T=None, feature_A=None, feature_V=None)
        torch.manual_seed(0)
        loaders = MMDataLoader(args, workers)
        loaders["train"] = _Clocked(loaders["train"])
        trainer = ATIO().getTrain(args)

        def stop(*_: Any, **__: Any) -> None:
            raise _Done

        trainer.do_test = stop
        try:
            trainer.do_train(AMIO(args), loaders)
        except _Done:
            ended = time.perf_counter(), time.process_time()
        begun = loaders["train"].begun[
            1 if name == "self_mm" else 0
        ]  # its first pass only collects the labels
        return ended[0] - begun[0], ended[1] - begun[1]


def said(spent: tuple[float, float], samples: int) -> str:
    """Return the seconds of an epoch in words."""
    wall, processor = spent
    return f"{wall:.1f} s ({samples / wall:.1f} samples/s), {processor:.1f} s of the processor"


def main() -> None:
    """Compare, and print one line a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mmsa-python", help="the Python that has mmsa; without it only ours is timed")
    parser.add_argument("--samples", type=int, default=1284)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--lengths", choices=["mosi", "full", "varied"], default="mosi")
    parser.add_argument("--batches", choices=["shuffled", "by-length"], default="by-length")
    parser.add_argument("--workers", type=int, default=4, help="of mmsa's loader; 4 is its default")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    data = make_data(given.samples, given.lengths)
    if given.child:
        print(json.dumps(time_theirs(given.models[0], data, Path(given.child), given.workers)))
        return
    with tempfile.TemporaryDirectory() as folder:
        bert = Path(folder)
        write_bert(bert, given.layers)
        for name in given.models:
            ours = time_ours(name, data, bert, given.batches)
            line = f"{name}: ours {said(ours, given.samples)}"
            if given.mmsa_python:
                same = ["--samples", given.samples, "--lengths", given.lengths, "--workers", given.workers]
                command = [given.mmsa_python, __file__, "--models", name, "--child", folder, *map(str, same)]
                run = subprocess.run(command, capture_output=True, text=True, check=False)
                if run.returncode:
                    raise SystemExit(run.stderr[-2000:])
                theirs = json.loads(run.stdout.splitlines()[-1])
                line += f"; mmsa {said(theirs, given.samples)}"
                line += f"; {theirs[0] / ours[0]:.2f} x by wall, {theirs[1] / ours[1]:.2f} x by processor"
            print(line, flush=True)


if __name__ == "__main__":
    main()
