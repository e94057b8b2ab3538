"""One training epoch of MISA, MMIM and Self-MM: ours beside the ``mmsa`` package's, on equal shapes and
batches.

    python benchmarks/train_mmsa.py --mmsa-python ENVIRONMENT/bin/python --layers 2 --samples 320

The data are random, in CMU-MOSI's shapes: texts of up to 50 tokens, audio up to 375 x 5, video up to 500 x
20, and a BERT with random weights (768 wide, ``--layers`` of them), trained along. ``--lengths full`` makes
every sequence as long as it can be, ``varied`` draws lengths uniformly from a tenth of that on. Both sides
run one epoch on the CPU with PyTorch's own number of threads, one after the other; validation and loading of
the data are not counted.

mmsa (``pip install "MMSA==2.2.1" "transformers<5"``) lives in an environment of its own: it needs an older
transformers. ``ReduceLROnPlateau(verbose=)``, which PyTorch has dropped, is put back for it. What differs
besides: mmsa's optimiser steps after every 2nd (MISA) or 4th (Self-MM) batch, ours after each; its MMIM has
LSTMs of two directions, ours, as the authors' code, of one.
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
VOCABULARY = 30_522


def make_data(samples: int, lengths: str) -> dict[str, np.ndarray]:
    """Return padded arrays and lengths of random samples, the same at each call."""
    rng = np.random.default_rng(0)
    data: dict[str, np.ndarray] = {"score": rng.uniform(-3, 3, samples).astype(np.float32)}
    for name, (longest, columns) in SHAPES.items():
        low = longest if lengths == "full" else max(1, longest // 10)
        size = rng.integers(low, longest + 1, samples)
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


def time_ours(name: str, data: dict[str, np.ndarray], bert: Path) -> float:
    """Return the seconds of one epoch: the loop's batches, the standard regime, one Adam a stage."""
    from dataclasses import replace
    from importlib import import_module

    import torch

    from models.base import MODALITIES
    from pipeline.regimes import standard
    from pipeline.regimes.base import Step
    from pipeline.samples import DeviceSamples, FlatSequences

    count, flat = len(data["score"]), {}
    for modality in MODALITIES:
        sizes = torch.from_numpy(data[f"{modality}_lengths"])
        longest, columns = SHAPES[modality]
        valid = torch.arange(longest) < sizes[:, None]
        tokens = None
        if modality == "text":
            values = torch.zeros(int(sizes.sum()) + 1, columns)
            tokens = torch.cat([torch.from_numpy(data["text"])[valid], torch.tensor([100])])
        else:
            values = torch.cat([torch.from_numpy(data[modality])[valid], torch.zeros(1, columns)])
        observed = torch.ones(len(values), dtype=torch.bool)
        flat[modality] = FlatSequences(values, observed, sizes.cumsum(0) - sizes, sizes, sizes, tokens)
    samples = DeviceSamples(
        ids=tuple(map(str, range(count))),
        labels=torch.zeros(count, dtype=torch.int64),
        present=torch.ones(count, 3, dtype=torch.bool),
        flat=flat,
        device=torch.device("cpu"),
    )
    scores = torch.from_numpy(data["score"])
    torch.manual_seed(0)
    owner = import_module(f"models.{name}").Model
    settings = owner.Settings(text="tokens", encoder=bert)
    network = owner(settings, {m: SHAPES[m][1] for m in MODALITIES}, 1).train()
    groups = network.parameter_groups()
    trained = {
        stage: {n: g for n, g in groups.items() if not wanted or n in wanted}
        for stage, wanted in network.stages.items()
    }
    optimizers = {
        stage: torch.optim.Adam([p for g in parts.values() for p in g], 1e-4, foreach=True)
        for stage, parts in trained.items()
    }
    regime = standard.Regime(standard.StandardSettings())
    started = time.perf_counter()
    network.epoch_start(2)
    for stage, parts in trained.items():
        network.stage_start(stage)
        step = Step(network, network, 2, 0, torch.Generator(), parts)
        for part in torch.randperm(count).split(MODELS[name]):
            batch = replace(samples.collate(part), labels=None, scores=scores[part])
            network.zero_grad(set_to_none=True)
            regime.gradients(step, [batch])
            torch.nn.utils.clip_grad_norm_([p for g in parts.values() for p in g], 1.0)
            optimizers[stage].step()
    return time.perf_counter() - started


class _Done(Exception):
    """The epoch is over."""


class _Clocked:
    """A loader that notes when each pass over it begins."""

    def __init__(self, loader: Any) -> None:
        self.loader, self.begun = loader, []  # type: ignore[var-annotated]

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Any:
        self.begun.append(time.perf_counter())
        return iter(self.loader)


def time_theirs(name: str, data: dict[str, np.ndarray], bert: Path, workers: int) -> float:
    """Return the seconds of one epoch of mmsa's own trainer; runs in mmsa's environment."""
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
            ended = time.perf_counter()
        begun = loaders["train"].begun
        return ended - begun[1 if name == "self_mm" else 0]  # its first pass only collects the labels


def main() -> None:
    """Compare, and print one line a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mmsa-python", help="the Python that has mmsa; without it only ours is timed")
    parser.add_argument("--samples", type=int, default=1284)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--lengths", choices=["full", "varied"], default="full")
    parser.add_argument("--workers", type=int, default=4, help="of mmsa's loader; 4 is its default")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    data = make_data(given.samples, given.lengths)
    if given.child:
        seconds = time_theirs(given.models[0], data, Path(given.child), given.workers)
        print(json.dumps({"seconds": seconds}))
        return
    with tempfile.TemporaryDirectory() as folder:
        bert = Path(folder)
        write_bert(bert, given.layers)
        for name in given.models:
            ours = time_ours(name, data, bert)
            line = f"{name}: ours {ours:.1f} s ({given.samples / ours:.1f} samples/s)"
            if given.mmsa_python:
                same = ["--samples", given.samples, "--lengths", given.lengths, "--workers", given.workers]
                command = [given.mmsa_python, __file__, "--models", name, "--child", folder, *map(str, same)]
                run = subprocess.run(command, capture_output=True, text=True, check=False)
                if run.returncode:
                    raise SystemExit(run.stderr[-2000:])
                theirs = json.loads(run.stdout.splitlines()[-1])["seconds"]
                line += (
                    f", mmsa {theirs:.1f} s ({given.samples / theirs:.1f} samples/s), {theirs / ours:.2f} x"
                )
            print(line, flush=True)


if __name__ == "__main__":
    main()
