"""Train one experiment, all folds and seeds: ``python -m pipeline.train EXPERIMENT``.

Writes data/runs/EXPERIMENT/::

    summary.json                what the experiment is, and how its samples were split
    <fold>-<run>/               folds and runs count from 1: 1-1, 2-1, ... (folds 1 and 2 of the first seed)
        weights.safetensors     the network at its best epoch
        normaliser.safetensors  <modality>.mean and <modality>.scale, (D,) float32, of the training part
        history.csv             one row an epoch
        run.json                what is needed to use the weights

summary.json::

    {"format": 1, "experiment", "dataset", "model", "regime", "train_on", "evaluate_on": names,
     "classes": [name, ...], "parameters": number of trainable weights, "samples": N used,
     "left_out": {reason: count, ...}, "modalities": {"text": samples that have it, "audio", "video"},
     "folds": [{"fold": 1, "description": "test Ses01; ...", "train": n, "valid": n, "test": n}, ...],
     "runs": [seed of run 1, ...]}

history.csv has the columns epoch (from 1), learning_rate, train_loss (their sum), train_<name> for each loss
of the model (baseline: classification; MMIN: classification, forward, backward; as weighted in the sum),
valid_loss (mean cross-entropy of the prediction), valid_wa, valid_ua, valid_macro_f1, valid_weighted_f1, with
``watch_test`` the same of the test part as test_... (for plots; nothing is chosen by them), best (1 where the
epoch was the best so far, so that the last 1 is the epoch that was kept). Validation is under the full
condition when train_on is full, under the one that it names, else pooled over the six missing ones. Of a
regression valid_loss is the mean absolute error, and the metrics are those of its scale (pipeline/training/metrics.py);
run.json and summary.json then have "task", "target" and "score_limit", and no classes.
There are no timings in any file: two runs with one seed give equal bytes.

run.json::

    {"format": 1, "experiment", "dataset", "fold", "run", "seed", "model", "settings": {...}, "regime",
     "regime_settings": {...}, "train_on", "classes": [...], "select_by", "best_epoch", "best_score",
     "epochs": run, "parameters", "description": of the fold, "samples": {"train": n, "valid": n, "test": n},
     "features": {modality: {"extractor", "settings": {...}, "columns": [...], "frame_period_s": or null,
                             "pool": frames averaged into one, "values_sha256"}}}

A finished (fold, run) is kept in data/cache/runs/<key>/ as well. The key is a hash of all that can change
its numbers: the features' checksums, ids, labels and the fold, the code of the model, the regime, the loop
and the samples, the settings and the seed, PyTorch's version, the kind of device. So a stage that was stopped
goes on where it was, and two experiments that train the same network train it once. One that is under way
saves its state there and is resumed.

A model that starts from a pretrained one (MMIN: the full-modality baseline) gets it from the same place:
trained on complete samples of the same dataset, folds and seed, with the experiment's own frame_rate_hz,
epochs, batch_size, patience, select_by, precision and compile, and the defaults of an experiment for
everything else (:func:`pretraining`). An experiment on the full-modality baseline that says the same costs
nothing more.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import io
import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import shutil
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from models.base import Network
from models.parts import TextSettings, check_vocabulary, read_vocabulary
from pipeline.data.manifest import MODALITIES
from pipeline.errors import ParamsError, StoreError
from pipeline.params import Compute, Experiment, Folds, Params
from pipeline.stage import run_stage
from pipeline.training.folds import Fold, make_folds
from pipeline.training.loop import choose_device, deterministic, fit, save_tensors
from pipeline.training.samples import Normaliser, SampleSet, Sequences, derive_seed, read_samples

FORMAT = 1
# What computes a run's numbers, beside its model and regime.
COMPUTING = (
    "pipeline.training.loop",
    "pipeline.training.samples",
    "pipeline.data.masks",
    "pipeline.training.metrics",
)
# glibc keeps what a batch needed for the next one instead of asking the system anew: a tenth of the time.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "1073741824"}
NO_NUMBERS = {"dataset", "evaluate_on", "runs", "keep_embeddings"}  # what changes nothing of a run
INHERITED = (
    "task",
    "target",
    "frame_rate_hz",
    "epochs",
    "batch_size",
    "patience",
    "select_by",
    "precision",
    "compile",
)

_log = logging.getLogger("lacuna")


def resolve(experiment: Experiment) -> Experiment:
    """Fill in what the experiment leaves open and the model's settings want (``Network.recipe``).

    Where the experiment has other ``epochs`` than the recipe, the recipe's ``decay_epochs`` become the same share of
    them: MMIN's code lowers the rate in the last 30 of 60 epochs, and so in the last 5 of 10.
    """
    model = import_module(f"models.{experiment.model}").Model
    wanted = model.recipe(model.Settings.model_validate(experiment.settings))
    update = {name: value for name, value in wanted.items() if name not in experiment.model_fields_set}
    if "decay_epochs" in update and "epochs" not in update:  # the recipe's share of the experiment's epochs
        usual = wanted.get("epochs", Experiment.model_fields["epochs"].default)
        update["decay_epochs"] = wanted["decay_epochs"] * experiment.epochs // usual
    return experiment.model_copy(update=update)


def target_of(experiment: Experiment) -> str | None:
    """Return the column of the manifest that a regression learns; None for a classification."""
    return experiment.target if experiment.task == "regression" else None


def pretraining(experiment: Experiment) -> Experiment | None:
    """Return how the network is trained that the experiment's model starts from; None when it starts from
    nothing.

    It takes over what the experiment says of :data:`INHERITED`, but not what is there by the recipe of the
    model itself: the other network has a recipe of its own.

    Args:
        experiment: resolved.
    """
    model = import_module(f"models.{experiment.model}").Model
    if model.pretrained is None:
        return None
    settings = model.Settings.model_validate(experiment.settings)
    own = model.recipe(settings)
    inherited = {field: getattr(experiment, field) for field in INHERITED}
    inherited = {f: value for f, value in inherited.items() if f not in own or own[f] != value}
    return resolve(
        Experiment(
            dataset=experiment.dataset,
            model=model.pretrained,
            settings=model.pretrained_settings(settings),
            train_on="full",
            **inherited,
        )
    )


def check_token_ids(name: str, experiment: Experiment, samples: SampleSet, assets: Path) -> None:
    """Check that the encoder inside the model, if there is one, can read the token ids of the text features.

    Args:
        name: the experiment's.
        experiment: as params.yaml has it.
        samples: of its dataset.
        assets: data/assets: where the text extractor's own files are.

    Raises:
        ParamsError: there are no ids, the encoder's vocabulary is not the extractor's, or too small.
    """
    settings = import_module(f"models.{experiment.model}").Model.Settings.model_validate(experiment.settings)
    if not isinstance(settings, TextSettings) or settings.text != "tokens":
        return
    key = f"experiments.{name}.settings.encoder"
    text = samples.modalities["text"]
    if text.token_ids is None:
        raise ParamsError(
            f"experiments.{name}.settings.text: found tokens, but the text features ({text.info.extractor}) hold "
            "no ids of an encoder's vocabulary. Set the text extractor to bert, or text: features"
        )
    encoder = settings.encoder
    if not (encoder / "config.json").is_file():
        return  # the model says what it needs
    try:
        known = check_vocabulary(encoder)
    except (OSError, ValueError, KeyError) as error:
        raise ParamsError(f"{key}: {error}") from error
    largest = int(text.token_ids.max(initial=0))
    if largest >= known:
        raise ParamsError(
            f"{key}: found ids up to {largest} in the features, but {encoder} knows only {known}"
        )
    if text.info.extractor == "bert":
        made_by = Path(text.info.settings.get("model") or assets / "bert")
        theirs, ours = read_vocabulary(made_by), read_vocabulary(encoder)
        if theirs is not None and ours is not None and theirs != ours:
            raise ParamsError(
                f"{key}: found {encoder}, but the ids were made with {made_by}, whose vocabulary is another. "
                "Name the same encoder, or one of the same vocabulary"
            )


def code_checksums(names: Sequence[str]) -> dict[str, str]:
    """Return module -> sha256 of its file, for these modules and the models and regimes that they import."""
    root = Path(__file__).parent.parent
    found: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        path = root.joinpath(*name.split(".")).with_suffix(".py")
        if name in found or not path.is_file():
            continue
        source = path.read_bytes()
        found[name] = hashlib.sha256(source).hexdigest()
        imported: set[str] = set()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                imported.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
                imported.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
        waiting += [
            other for other in imported if other.startswith(("models.", "pipeline.training.regimes."))
        ]
    return found


def build(experiment: Experiment, dims: dict[str, int], classes: int) -> Network:
    """Return the experiment's network, with weights drawn from PyTorch's generator."""
    model = import_module(f"models.{experiment.model}").Model
    network: Network = model(model.Settings.model_validate(experiment.settings), dims, classes)
    return network


@dataclass(frozen=True)
class Job:
    """One (fold, seed) of an experiment, resolved.

    Attributes:
        experiment: resolved.
        fold: who trains, validates and tests.
        seed: of the run.
        device: where to train.
        cache: the folder of finished runs.
    """

    experiment: Experiment
    fold: Fold
    seed: int
    device: str
    cache: Path

    def key(self, samples: SampleSet) -> str:
        """Return the hash of everything that can change the numbers of this run."""
        experiment = self.experiment
        before = pretraining(experiment)
        names = [*COMPUTING, f"models.{experiment.model}", f"pipeline.training.regimes.{experiment.regime}"]
        if before is not None:
            names += [f"models.{before.model}", f"pipeline.training.regimes.{before.regime}"]
        fold = self.fold
        facts = {
            "format": FORMAT,
            "code": code_checksums(names),
            "features": {m: samples.modalities[m].describe() for m in MODALITIES},
            "ids": [sample.id for sample in samples.samples],
            "labels": samples.labels.tolist(),
            "classes": samples.classes,
            "files": {path.name: _sha256(path) for path in _files(experiment)},
            "scores": None if samples.scores is None else [samples.score_limit, *samples.scores.tolist()],
            "fold": [part.tolist() for part in (fold.train, fold.valid)],
            "watched": fold.test.tolist() if experiment.watch_test else [],
            "experiment": experiment.model_dump(mode="json", exclude=NO_NUMBERS),
            "seed": self.seed,
            "torch": torch.__version__,
            "device": self.device.partition(":")[0],
        }
        if before is not None:  # what it takes over from this experiment, and what not
            facts["pretraining"] = before.model_dump(mode="json", exclude=NO_NUMBERS)
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]

    def pretrained(self) -> Job | None:
        """Return the run that this one starts from."""
        before = pretraining(self.experiment)
        return None if before is None else Job(before, self.fold, self.seed, self.device, self.cache)


def train_job(job: Job, samples: SampleSet) -> Path:
    """Train one (fold, seed), or find it finished; return its folder in the cache.

    Several processes may train the same at once (two experiments that start from one baseline): each writes
    under a name of its own, and the first that is done gives its result to all.

    Raises:
        TrainingError: a loss is no number.
        StoreError: the result cannot be put into the cache.
    """
    key = job.key(samples)
    finished = job.cache / key
    if (finished / "fit.json").is_file():
        return finished
    started = time.perf_counter()
    device = torch.device(job.device)
    normalisers = samples.fit_normalisers(job.fold.train)
    with deterministic(device, derive_seed(job.seed, "weights", job.experiment.model)):
        network = build(job.experiment, samples.dims, samples.outputs).to(device)
    before = job.pretrained()
    if before is not None:
        source = build(before.experiment, samples.dims, samples.outputs).to(device)
        load_weights(source, train_job(before, samples) / "weights.safetensors")
        network.load_pretrained(source)
    regime_module = import_module(f"pipeline.training.regimes.{job.experiment.regime}")
    regime = regime_module.Regime(
        regime_module.Regime.Settings.model_validate(job.experiment.regime_settings)
    )
    result = fit(
        network,
        regime,
        samples.prepare(normalisers, device),
        job.fold,
        job.experiment,
        job.seed,
        samples.outputs,
        state=job.cache / f"{key}.state",
    )
    beside = job.cache / f"{key}.{os.getpid()}.part"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    save_tensors(beside / "weights.safetensors", network.state_dict())
    save_tensors(beside / "normaliser.safetensors", _normaliser_tensors(normalisers))
    (beside / "history.csv").write_text(_history_csv(result.history), encoding="utf-8")
    trainable = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    facts = {
        "best_epoch": result.best_epoch,
        "best_score": result.best_score,
        "epochs": len(result.history),
        "parameters": trainable,
    }
    (beside / "fit.json").write_text(json.dumps(facts), encoding="utf-8")
    try:
        beside.rename(finished)
    except OSError as error:
        shutil.rmtree(beside)
        if not (finished / "fit.json").is_file():
            raise StoreError(f"{finished}: cannot be written ({error}). Remove it and train again") from error
        # Another process finished the same run meanwhile, with the same bytes.
    _log.info(
        "%s, fold %d, seed %d: best epoch %d of %d, validation %s %.3f (%.1f s)",
        job.experiment.model,
        job.fold.number,
        job.seed,
        result.best_epoch,
        len(result.history),
        job.experiment.select_by,
        result.best_score,
        time.perf_counter() - started,
    )
    return finished


def _files(experiment: Experiment) -> Sequence[Path]:
    model = import_module(f"models.{experiment.model}").Model
    files: Sequence[Path] = model.files(model.Settings.model_validate(experiment.settings))
    return files


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _normaliser_tensors(normalisers: dict[str, Normaliser]) -> dict[str, torch.Tensor]:
    tensors = {}
    for modality, normaliser in normalisers.items():
        tensors[f"{modality}.mean"] = torch.from_numpy(normaliser.mean)
        tensors[f"{modality}.scale"] = torch.from_numpy(normaliser.scale)
    return tensors


def load_normalisers(path: Path) -> dict[str, Normaliser]:
    """Read normaliser.safetensors.

    Raises:
        StoreError: it is absent or damaged.
    """
    tensors = read_tensors(path)
    return {m: Normaliser(tensors[f"{m}.mean"].numpy(), tensors[f"{m}.scale"].numpy()) for m in MODALITIES}


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file of a run.

    Raises:
        StoreError: it is absent or damaged.
    """
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise StoreError(
            f"{path}: not a whole safetensors file ({error}). Run: dvc repro -f -s train"
        ) from error


def load_weights(network: Network, path: Path) -> None:
    """Put saved weights into a network.

    Raises:
        StoreError: the file is absent, damaged, or of another network.
    """
    tensors = read_tensors(path)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise StoreError(
            f"{path}: not the weights of this network ({error}). Run: dvc repro -f -s train"
        ) from error


def _history_csv(history: Sequence[dict[str, float]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(history[0])
    for row in history:
        writer.writerow([value if isinstance(value, int) else f"{value:.8g}" for value in row.values()])
    return text.getvalue()


def train_experiment(
    name: str,
    experiment: Experiment,
    samples: SampleSet,
    folds: Folds,
    seed: int,
    compute: Compute,
    data: Path,
) -> Path:
    """Train all folds and seeds of an experiment and lay out data/runs/<name>/.

    Args:
        name: the experiment's.
        experiment: as params.yaml has it.
        samples: of its dataset.
        folds: the dataset's scheme.
        seed: the root seed; run r has the seed ``seed + r - 1``.
        compute: device and workers. On a CPU each worker trains one run at a time, in one thread.
        data: the folder of runs/ and cache/.

    Returns:
        The folder of the runs.

    Raises:
        DataError: the samples cannot be split as asked.
        TrainingError: a loss is no number, or the device is not there.
    """
    resolved = resolve(experiment)
    device = choose_device(compute.device)
    splits = make_folds(samples.samples, folds)
    seeds = [seed + run for run in range(resolved.runs)]
    cache = data / "cache" / "runs"
    cache.mkdir(parents=True, exist_ok=True)
    jobs = {
        (fold.number, run): Job(resolved, fold, run_seed, str(device), cache)
        for run, run_seed in enumerate(seeds, start=1)
        for fold in splits
    }
    done = _train_all(jobs, samples, compute, device)
    folder = data / "runs" / name
    shutil.rmtree(folder, ignore_errors=True)
    parameters = 0
    for (number, run), source in sorted(done.items()):
        target = folder / f"{number}-{run}"
        target.mkdir(parents=True)
        for file in ("weights.safetensors", "normaliser.safetensors", "history.csv"):
            shutil.copyfile(source / file, target / file)
        fit_facts = json.loads((source / "fit.json").read_text(encoding="utf-8"))
        parameters = fit_facts["parameters"]
        facts = _run_facts(name, jobs[number, run], run, samples) | fit_facts
        _write_json(target / "run.json", facts)
    _write_json(folder / "summary.json", _summary(name, resolved, samples, splits, seeds, parameters))
    return folder


def _train_all(
    jobs: dict[tuple[int, int], Job], samples: SampleSet, compute: Compute, device: torch.device
) -> dict[tuple[int, int], Path]:
    done: dict[tuple[int, int], Path] = {}
    waiting: dict[tuple[int, int], Job] = {}
    for where, job in jobs.items():
        finished = job.cache / job.key(samples)
        if (finished / "fit.json").is_file():
            done[where] = finished
        else:
            waiting[where] = job
    if done:
        _log.info("%d of %d runs are finished already", len(done), len(jobs))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(cores if compute.workers == "auto" else compute.workers, len(waiting))
    if device.type != "cpu" or workers <= 1:
        done.update({where: train_job(job, samples) for where, job in waiting.items()})
        return done
    for name, value in ALLOCATOR.items():
        os.environ.setdefault(name, value)  # the workers read them when they start
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(samples,)
    )
    with pool:
        futures = {pool.submit(_work, job): where for where, job in waiting.items()}
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
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            multiprocessing.connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work(job: Job) -> Path:
    if _worker_samples is None:
        raise RuntimeError("the worker was not started with its samples")
    return train_job(job, _worker_samples)


def _run_facts(name: str, job: Job, run: int, samples: SampleSet) -> dict[str, Any]:
    experiment, fold = job.experiment, job.fold
    return {
        "format": FORMAT,
        "experiment": name,
        "dataset": experiment.dataset,
        "fold": fold.number,
        "run": run,
        "seed": job.seed,
        "model": experiment.model,
        "settings": experiment.settings,
        "regime": experiment.regime,
        "regime_settings": experiment.regime_settings,
        "train_on": experiment.train_on,
        "classes": list(samples.classes),
        "select_by": experiment.select_by,
        "description": fold.description,
        "samples": {"train": len(fold.train), "valid": len(fold.valid), "test": len(fold.test)},
        "features": {modality: samples.modalities[modality].describe() for modality in MODALITIES},
        **_task_facts(experiment, samples),
    }


def _task_facts(experiment: Experiment, samples: SampleSet) -> dict[str, Any]:
    if samples.scores is None:
        return {}
    return {"task": experiment.task, "target": experiment.target, "score_limit": samples.score_limit}


def _summary(
    name: str,
    experiment: Experiment,
    samples: SampleSet,
    folds: Sequence[Fold],
    seeds: list[int],
    parameters: int,
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "experiment": name,
        "dataset": experiment.dataset,
        "model": experiment.model,
        "regime": experiment.regime,
        "train_on": experiment.train_on,
        "evaluate_on": experiment.evaluate_on,
        "classes": list(samples.classes),
        "parameters": parameters,
        "samples": len(samples),
        "left_out": dict(samples.left_out),
        "modalities": {m: int((samples.modalities[m].lengths > 0).sum()) for m in MODALITIES},
        "folds": [
            {
                "fold": fold.number,
                "description": fold.description,
                "train": len(fold.train),
                "valid": len(fold.valid),
                "test": len(fold.test),
            }
            for fold in folds
        ],
        "runs": seeds,
        **_task_facts(experiment, samples),
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
    target = target_of(experiment)
    samples = read_samples(experiment.dataset, dataset, resolve(experiment).frame_rate_hz, target=target)
    if samples.left_out:
        _log.info("left out: %s", ", ".join(f"{count} ({why})" for why, count in samples.left_out.items()))
    for modality in MODALITIES:
        _log.info("%s", _about(modality, samples.modalities[modality]))
    check_token_ids(name, experiment, samples, Path("data/assets"))
    folder = train_experiment(
        name, experiment, samples, dataset.folds, params.seed, params.compute, Path("data")
    )
    _log.info("%s", folder)


if __name__ == "__main__":
    run_stage(main)
