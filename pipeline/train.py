"""Train one experiment, all folds and seeds: ``python -m pipeline.train EXPERIMENT``.

Writes data/runs/EXPERIMENT/::

    summary.json                what the experiment is, and how its samples were split
    <fold>-<run>/               folds and runs count from 1: 1-1, 2-1, ... (folds 1 and 2 of the first seed)
        weights.safetensors     the network at its best epoch
        normaliser.safetensors  <modality>.mean and <modality>.scale, (D,) float32, of the training part
        history.csv             one row an epoch
        run.json                what is needed to use the weights

summary.json::

    {"format": 2, "experiment", "dataset", "model", "regime", "train_on", "trained": {...},
     "classes": [name, ...], "parameters": number of trainable weights, "samples": N used,
     "left_out": {reason: count, ...}, "modalities": {"text": samples that have it, "audio", "video"},
     "folds": [{"fold": 1, "description": "test Ses01; ...", "train": n, "valid": n, "test": n}, ...],
     "runs": [seed of run 1, ...]}

history.csv has the columns epoch (from 1), learning_rate, train_loss (their sum), train_<name> for each loss
of the model (baseline: classification; MMIN: classification, forward, backward; as weighted in the sum),
valid_loss (mean cross-entropy of the prediction), valid_wa, valid_ua, valid_macro_f1, valid_weighted_f1, with
``watch_test`` the same of the test part as test_... (for plots; nothing is chosen by them), best (1 where the
epoch was the best so far, so that the last 1 is the epoch that was kept). Validation shows samples as training
does (pipeline/training/training_set.py, ``validation_showings``). Of a regression valid_loss is the mean absolute
error, and the metrics are those of its scale (pipeline/training/metrics.py); run.json and summary.json then have
"task", "target" and "score_limit", and no classes.
There are no timings in any file: two runs with one seed give equal bytes.

run.json::

    {"format": 2, "experiment", "dataset", "fold", "run", "seed", "model", "regime", "classes": [...],
     "trained": the whole experiment as it was trained, every default filled in, with "pretraining": the same of
                the network that it starts from, or null (pipeline/training/experiment.py),
     "masks": {name: checksum} of the masks that it was trained on,
     "best_epoch", "best_score", "epochs": run, "parameters", "description": of the fold,
     "samples": {"train": n, "valid": n, "test": n},
     "features": {modality: {"extractor", "settings": {...}, "columns": [...], "frame_period_s": or null,
                             "pool": frames averaged into one, "length": or null, "values_sha256"}}}

A finished (fold, run) is kept in data/cache/runs as well, and found again: pipeline/training/kept_runs.py.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from models.base import MODALITIES
from pipeline.data.files import whole_or_nothing
from pipeline.data.manifest import read_manifest
from pipeline.data.masks import read_masks
from pipeline.logs import log_to_stderr
from pipeline.machine import usable_cores
from pipeline.params import Compute, Dataset, Experiment, Params
from pipeline.stage import run_stage
from pipeline.training import kept_runs
from pipeline.training.experiment import (
    chain,
    check_token_ids,
    facts_in,
    hides_frames,
    masks_in,
    model_of,
    record,
    resolve,
)
from pipeline.training.folds import Fold, make_folds
from pipeline.training.kept_runs import FORMAT, PlannedRun, train_run
from pipeline.training.loop import choose_device
from pipeline.training.masking import NamedMask
from pipeline.training.samples import SampleSet, samples_of
from pipeline.training.sequences import Sequences

# glibc keeps what a batch needed for the next one instead of asking the system anew: a tenth of the time.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "1073741824"}

_log = logging.getLogger("lacuna")


def read_all(
    experiment: Experiment, dataset: Dataset, data: Path
) -> tuple[SampleSet, Mapping[str, NamedMask]]:
    """Read the samples and masks that training an experiment needs.

    Args:
        experiment: resolved.
        dataset: its section of params.yaml.
        data: the folder of manifests/, features/ and masks/.

    Raises:
        DataError, ParamsError, StoreError: they cannot be used.
    """
    names = tuple(dict.fromkeys(name for one in chain(experiment) for name in masks_in(one)))
    masks = None
    if names:
        manifest = read_manifest(data / "manifests" / f"{experiment.dataset}.csv")
        masks = read_masks(data / "masks" / f"{experiment.dataset}.h5", [sample.id for sample in manifest])
    samples = samples_of(
        experiment,
        dataset,
        data,
        hides_frames=hides_frames(masks, names),
        dialogues=any(model_of(one).dialogues for one in chain(experiment)),
        facts=facts_in(experiment),
    )
    return samples, samples.named_masks(masks, names)


def train_experiment(
    name: str, experiment: Experiment, dataset: Dataset, seed: int, compute: Compute, data: Path
) -> Path:
    """Train all folds and seeds of an experiment and lay out data/runs/<name>/.

    Args:
        name: the experiment's.
        experiment: as params.yaml has it.
        dataset: its section of params.yaml.
        seed: the root seed; run r has the seed ``seed + r - 1``.
        compute: device and workers. On a CPU each worker trains one run at a time, in one thread.
        data: the folder of runs/ and cache/.

    Returns:
        The folder of the runs.

    Raises:
        DataError, ParamsError, StoreError: the data cannot be used, or split as asked.
        TrainingError: a loss is no number, or the device is not there.
    """
    resolved = resolve(experiment)
    device = choose_device(compute.device)
    samples, masks = read_all(resolved, dataset, data)
    if samples.left_out:
        _log.info("left out: %s", ", ".join(f"{count} ({why})" for why, count in samples.left_out.items()))
    for modality in MODALITIES:
        _log.info("%s", _about(modality, samples.modalities[modality]))
    check_token_ids(name, resolved, samples, data / "assets")
    splits = make_folds(samples.samples, resolved.folds or dataset.folds, samples.labelled)
    seeds = [seed + run for run in range(resolved.runs)]
    cache = data / "cache" / "runs"
    cache.mkdir(parents=True, exist_ok=True)
    planned = {
        (fold.number, run): PlannedRun(resolved, fold, run_seed, str(device), cache, masks)
        for run, run_seed in enumerate(seeds, start=1)
        for fold in splits
    }
    done = _train_all(planned, samples, compute, device)
    folder = data / "runs" / name
    with whole_or_nothing(folder) as beside:
        parameters = 0
        for (number, run), source in sorted(done.items()):
            target = beside / f"{number}-{run}"
            target.mkdir(parents=True)
            for file in ("weights.safetensors", "normaliser.safetensors", "history.csv"):
                shutil.copyfile(source / file, target / file)
            fit_facts = json.loads((source / "fit.json").read_text(encoding="utf-8"))
            parameters = fit_facts["parameters"]
            facts = _run_facts(name, planned[number, run], run, samples) | fit_facts
            _write_json(target / "run.json", facts)
        _write_json(beside / "summary.json", _summary(name, resolved, samples, splits, seeds, parameters))
    return folder


def _train_all(
    planned: dict[tuple[int, int], PlannedRun], samples: SampleSet, compute: Compute, device: torch.device
) -> dict[tuple[int, int], Path]:
    done: dict[tuple[int, int], Path] = {}
    waiting: dict[tuple[int, int], PlannedRun] = {}
    for where, run in planned.items():
        finished = kept_runs.find(run, samples)
        if finished is None:
            waiting[where] = run
        else:
            done[where] = finished
    if done:
        _log.info("%d of %d runs are finished already", len(done), len(planned))
    cores = usable_cores()
    workers = min(cores if compute.workers == "auto" else compute.workers, len(waiting))
    if device.type != "cpu" or workers <= 1:
        done.update({where: train_run(run, samples) for where, run in waiting.items()})
        return done
    for name, value in ALLOCATOR.items():
        os.environ.setdefault(name, value)  # the workers read them when they start
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(samples,)
    )
    with pool:
        futures = {pool.submit(_work, run): where for where, run in waiting.items()}
        try:
            for future in as_completed(futures):
                done[futures[future]] = future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return done


_worker_samples: SampleSet | None = None


def _start_worker(samples: SampleSet) -> None:
    """Take over the samples, and end when the main process ends, however it does."""
    global _worker_samples
    _worker_samples = samples
    torch.set_num_threads(1)
    log_to_stderr()
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            multiprocessing.connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work(run: PlannedRun) -> Path:
    if _worker_samples is None:
        raise RuntimeError("the worker was not started with its samples")
    return train_run(run, _worker_samples)


def _run_facts(name: str, planned: PlannedRun, run: int, samples: SampleSet) -> dict[str, Any]:
    fold = planned.fold
    return {
        **_common_facts(name, planned.experiment, samples),
        "fold": fold.number,
        "run": run,
        "seed": planned.seed,
        "masks": {mask: one.checksum for mask, one in planned.used_masks.items()},
        "description": fold.description,
        "samples": _sizes(fold),
        "features": {modality: samples.modalities[modality].describe() for modality in MODALITIES},
    }


def _common_facts(name: str, experiment: Experiment, samples: SampleSet) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "format": FORMAT,
        "experiment": name,
        "dataset": experiment.dataset,
        "model": experiment.model,
        "regime": experiment.regime,
        "train_on": experiment.train_on,
        "trained": record(experiment),
        "classes": list(samples.classes),
    }
    if samples.scores is not None:
        facts |= {"task": experiment.task, "target": experiment.target, "score_limit": samples.score_limit}
    return facts


def _sizes(fold: Fold) -> dict[str, int]:
    return {"train": len(fold.train), "valid": len(fold.valid), "test": len(fold.test)}


def _summary(
    name: str,
    experiment: Experiment,
    samples: SampleSet,
    folds: Sequence[Fold],
    seeds: list[int],
    parameters: int,
) -> dict[str, Any]:
    return {
        **_common_facts(name, experiment, samples),
        "parameters": parameters,
        "samples": int(samples.labelled.sum()),
        "left_out": dict(samples.left_out),
        "modalities": {m: int((samples.modalities[m].lengths > 0).sum()) for m in MODALITIES},
        "folds": [{"fold": fold.number, "description": fold.description, **_sizes(fold)} for fold in folds],
        "runs": seeds,
    }


def _write_json(path: Path, facts: dict[str, Any]) -> None:
    path.write_text(json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _about(modality: str, sequences: Sequences) -> str:
    """Return in a line which features of a modality the models get."""
    columns = sequences.info.columns
    count = f"{len(columns)} column{'s' * (len(columns) != 1)}"
    named = f", {columns[0]} .. {columns[-1]}" if columns else ""
    return f"{modality}: {sequences.info.extractor}, {count}{named}, sha256 {sequences.values_sha256[:12]}"


def main(params: Params, name: str) -> None:
    """Train one experiment.

    Raises:
        ParamsError: there is no such experiment.
        DataError, StoreError, TrainingError: its data cannot be used, or training fails.
    """
    experiment = params.experiment(name)
    dataset = params.dataset(experiment.dataset)
    folder = train_experiment(name, experiment, dataset, params.seed, params.compute, Path("data"))
    _log.info("%s", folder)


if __name__ == "__main__":
    run_stage(main)
