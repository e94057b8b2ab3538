"""All folds and seeds of one experiment: its data read, its runs dealt to processes, data/runs/EXPERIMENT/ laid out.

pipeline/train.py says which files that folder holds; pipeline/training/run_records.py makes the json files' facts. A
finished (fold, run) is kept in data/cache/runs as well, and found again: pipeline/training/kept_runs.py.
"""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import multiprocessing.connection
import multiprocessing.queues
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from models.base import MODALITIES
from pipeline.data.files import whole_or_nothing, write_whole
from pipeline.data.manifest import read_manifest
from pipeline.data.masks import read_masks
from pipeline.logs import log_to_stderr
from pipeline.machine import usable_cores
from pipeline.params import Compute, Dataset, Experiment
from pipeline.training import kept_runs
from pipeline.training.experiment import (
    chain,
    check_token_ids,
    facts_in,
    hides_frames,
    masks_in,
    model_of,
    resolve,
)
from pipeline.training.folds import make_folds
from pipeline.training.kept_runs import PlannedRun, train_run
from pipeline.training.live import LiveFiles
from pipeline.training.loop import choose_device
from pipeline.training.masking import NamedMask
from pipeline.training.progress import Progress, Told
from pipeline.training.run_records import run_record, summary
from pipeline.training.samples import SampleSet, samples_of
from pipeline.training.sequences import Sequences
from pipeline.training.split_check import fold_findings

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
        DataError, ParamsError, StoreError: the data cannot be used, or split as asked, or DVCLive lacks.
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
    answers = samples.labels if samples.scores is None else samples.scores
    findings = fold_findings(splits, answers, samples.classes)
    for finding in findings:
        _log.warning("%s: %s", name, finding)
    seeds = [seed + run for run in range(resolved.runs)]
    cache = data / "cache" / "runs"
    cache.mkdir(parents=True, exist_ok=True)
    planned = {
        (fold.number, run): PlannedRun(resolved, fold, run_seed, str(device), cache, masks)
        for run, run_seed in enumerate(seeds, start=1)
        for fold in splits
    }
    live = LiveFiles(data / "live" / name) if compute.dvclive else None
    try:
        done = _train_all(name, planned, samples, compute, device, live)
    finally:
        if live is not None:
            live.close()
    _note_times(data / "cache" / "times" / f"{name}.json", done)
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
            if fit_facts["one_answer"]:
                _log.warning(
                    "%s: fold %d, run %d: the network gives all validation samples the same answer",
                    name,
                    number,
                    run,
                )
            facts = run_record(name, planned[number, run], run, samples) | fit_facts
            _write_json(target / "run.json", facts)
        facts = summary(name, resolved, samples, splits, seeds, parameters, findings)
        _write_json(beside / "summary.json", facts)
    return folder


def _train_all(
    name: str,
    planned: dict[tuple[int, int], PlannedRun],
    samples: SampleSet,
    compute: Compute,
    device: torch.device,
    live: LiveFiles | None,
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
    progress = Progress(name, len(waiting), also=None if live is None else live.tell)
    if device.type != "cpu" or workers <= 1:
        done.update({where: train_run(run, samples, progress.tell) for where, run in waiting.items()})
        progress.close()
        return done
    for variable, value in ALLOCATOR.items():
        os.environ.setdefault(variable, value)  # the workers read them when they start
    context = multiprocessing.get_context("spawn")
    told: multiprocessing.queues.Queue[Told | None] = context.Queue()
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(samples, told))
    with _shown(progress, told), pool:
        futures = {pool.submit(_work, run): where for where, run in waiting.items()}
        try:
            for future in as_completed(futures):
                done[futures[future]] = future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return done


@contextlib.contextmanager
def _shown(progress: Progress, told: multiprocessing.queues.Queue[Told | None]) -> Iterator[None]:
    """Show what the workers tell, until the block is left."""

    def show() -> None:
        while (one := told.get()) is not None:
            progress.tell(one)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        told.put(None)
        thread.join(5)  # no longer: a worker that was killed may have left the queue locked
        told.cancel_join_thread()
        progress.close()


_worker_samples: SampleSet | None = None
_worker_told: multiprocessing.queues.Queue[Told | None] | None = None


def _start_worker(samples: SampleSet, told: multiprocessing.queues.Queue[Told | None]) -> None:
    """Take over the samples, and end when the main process ends, however it does."""
    global _worker_samples, _worker_told
    _worker_samples, _worker_told = samples, told
    told.cancel_join_thread()  # what was not told yet must not keep a worker from ending
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
    return train_run(run, _worker_samples, None if _worker_told is None else _worker_told.put)


def _note_times(path: Path, done: Mapping[tuple[int, int], Path]) -> None:
    """Note how long each run took, where that is known, for ``lacuna runs``: outside of the stage's outputs, which
    hold no clock."""
    times = {
        f"{fold}-{run}": json.loads(noted.read_text(encoding="utf-8"))
        for (fold, run), source in sorted(done.items())
        if (noted := kept_runs.time_of(source)).is_file()
    }
    write_whole(path, json.dumps(times, indent=2) + "\n")


def _write_json(path: Path, facts: dict[str, Any]) -> None:
    path.write_text(json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _about(modality: str, sequences: Sequences) -> str:
    """Return in a line which features of a modality the models get."""
    columns = sequences.info.columns
    count = f"{len(columns)} column{'s' * (len(columns) != 1)}"
    named = f", {columns[0]} .. {columns[-1]}" if columns else ""
    return f"{modality}: {sequences.info.extractor}, {count}{named}, sha256 {sequences.values_sha256[:12]}"
