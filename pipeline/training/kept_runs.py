"""Trained networks, kept by content in data/cache/runs/<key>/ and found again.

The key is a hash of all that can change a run's numbers: the features' checksums, ids, labels and the fold, the code
of the model, the regime, the loop and the samples, the settings, the masks, the seed, PyTorch's version, the kind of
device, and the key of the network that it starts from. So a stage that was stopped goes on where it was, and two
experiments that train the same network train it once. A run that is under way saves its state beside, and is resumed.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import io
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from functools import lru_cache
from pathlib import Path

import safetensors.torch
import torch

from models.base import MODALITIES, Network
from pipeline.data.files import file_sha256, whole_or_nothing, write_whole
from pipeline.errors import StoreError
from pipeline.params import Experiment
from pipeline.training.experiment import (
    masks_in,
    model_of,
    pretraining,
    record,
    regime_of,
    settings_of,
)
from pipeline.training.folds import Fold
from pipeline.training.loop import Run, deterministic, fit, save_tensors
from pipeline.training.masking import NamedMask
from pipeline.training.progress import Told
from pipeline.training.samples import SampleSet, derive_seed
from pipeline.training.sequences import Normaliser

FORMAT = 2
# Where numbers of a run are computed: what of these a run imports is in its key.
COMPUTING = ("models.", "pipeline.training.", "pipeline.data.masks")
NO_NUMBERS = {  # what changes nothing of a run, or is in its key by what follows from it
    "dataset",
    "evaluate_on",
    "evaluate_conditions",
    "runs",
    "keep_hidden",
    "labels",
    "folds",
    "pretraining",
}

_log = logging.getLogger("lacuna")


def code_checksums(names: Sequence[str]) -> dict[str, str]:
    """Return module -> sha256 of its file, for these modules and what computes numbers among what they import."""
    root = Path(__file__).parents[2]
    found: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        path = root.joinpath(*name.split(".")).with_suffix(".py")
        if name in found or not path.is_file():
            continue
        source = path.read_bytes()
        found[name] = hashlib.sha256(source).hexdigest()
        waiting += [other for other in _imported(source) if other.startswith(COMPUTING)]
    return found


@lru_cache(maxsize=256)  # every fold and seed of an experiment asks for the same files
def _imported(source: bytes) -> frozenset[str]:
    """Return all that a module's text imports: modules, and names that may be modules."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            imported.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
    return frozenset(imported)


def build(experiment: Experiment, dims: Mapping[str, int], outputs: int) -> Network:
    """Return the experiment's network, with weights drawn from PyTorch's generator.

    Args:
        experiment: resolved.
        dims: columns of text, audio and video.
        outputs: C classes, or 1 of a regression.
    """
    return model_of(experiment)(settings_of(experiment), dims, outputs)


@dataclass(frozen=True)
class PlannedRun:
    """One (fold, seed) of an experiment, to be trained or found.

    Attributes:
        experiment: resolved.
        fold: who trains, validates and tests.
        seed: of the run.
        device: where to train.
        cache: the folder of finished runs.
        masks: the dataset's masks that may be named, by name.
    """

    experiment: Experiment
    fold: Fold
    seed: int
    device: str
    cache: Path
    masks: Mapping[str, NamedMask] = field(default_factory=dict)

    @property
    def used_masks(self) -> dict[str, NamedMask]:
        """The masks that the training really uses."""
        return {name: self.masks[name] for name in masks_in(self.experiment)}

    def key(self, samples: SampleSet) -> str:
        """Return the hash of everything that can change the numbers of this run."""
        experiment, fold = self.experiment, self.fold
        before = self.pretrained()
        by_test = experiment.watch_test or experiment.selection == "test-paper"
        facts = {
            "format": FORMAT,
            "code": code_checksums(
                [
                    "pipeline.training.loop",
                    f"models.{experiment.model}",
                    f"pipeline.training.regimes.{experiment.regime}",
                ]
            ),
            "features": {m: samples.modalities[m].describe() for m in MODALITIES},
            "ids": [sample.id for sample in samples.samples],
            "labels": samples.labels.tolist(),
            "classes": samples.classes,
            "files": {
                path.name: file_sha256(path) for path in model_of(experiment).files(settings_of(experiment))
            },
            "scores": None if samples.scores is None else [*astuple(samples.scale), *samples.scores.tolist()],
            "fold": [part.tolist() for part in (fold.train, fold.valid)],
            "watched": fold.test.tolist() if by_test else [],
            "masks": {name: mask.facts() for name, mask in self.used_masks.items()},
            "experiment": {k: v for k, v in record(experiment).items() if k not in NO_NUMBERS},
            "seed": self.seed,
            "torch": torch.__version__,
            "device": self.device.partition(":")[0],
            "pretraining": None if before is None else before.key(samples),
        }
        if asked := model_of(experiment).facts(settings_of(experiment)):
            facts["facts"] = {name: samples.facts[name].tolist() for name in asked}
        if model_of(experiment).dialogues:
            facts["dialogues"] = [[s.session, s.dialogue, s.turn, s.speaker] for s in samples.samples]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]

    def pretrained(self) -> PlannedRun | None:
        """Return the run that this one starts from."""
        before = pretraining(self.experiment)
        if before is None:
            return None
        return PlannedRun(before, self.fold, self.seed, self.device, self.cache, self.masks)


def time_of(finished: Path) -> Path:
    """Return where it is noted how long a kept run took: beside the kept runs, which hold no clock."""
    return finished.parents[1] / "times" / "runs" / f"{finished.name}.json"


def find(run: PlannedRun, samples: SampleSet) -> Path | None:
    """Return the folder of a finished run, or None."""
    folder = run.cache / run.key(samples)
    return folder if (folder / "fit.json").is_file() else None


def train_run(run: PlannedRun, samples: SampleSet, tell: Callable[[Told], None] | None = None) -> Path:
    """Train one (fold, seed), or find it finished; return its folder in the cache.

    Several processes may train the same at once (two experiments that start from one baseline): each writes
    under a name of its own, and the first that is done gives its result to all.

    Raises:
        TrainingError: a loss is no number.
        StoreError: the result cannot be put into the cache.
    """
    key = run.key(samples)
    finished = run.cache / key
    if (finished / "fit.json").is_file():
        return finished
    started = time.perf_counter()
    device, experiment = torch.device(run.device), run.experiment
    normalisers = samples.fit_normalisers(run.fold.train)
    with deterministic(device, derive_seed(run.seed, "weights", experiment.model)):
        network = build(experiment, samples.dims, samples.outputs).to(device)
    before = run.pretrained()
    if before is not None:
        source = build(before.experiment, samples.dims, samples.outputs).to(device)
        load_weights(source, train_run(before, samples) / "weights.safetensors")
        network.load_pretrained(source)
    result = fit(
        network,
        regime_of(experiment),
        samples.prepare(normalisers, device),
        run.fold,
        experiment,
        run.seed,
        samples.outputs,
        run.used_masks,
        state=run.cache / f"{key}.state",
        **({} if tell is None else {"watch": lambda training: tell(_told(run, training))}),
    )
    trainable = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    facts = {
        "best_epoch": result.best_epoch,
        "best_score": result.best_score,
        "epochs": len(result.history),
        "parameters": trainable,
        "one_answer": result.one_answer,
    }
    try:  # another process may finish the same run meanwhile, with the same bytes
        with whole_or_nothing(finished, keep_existing=True) as beside:
            beside.mkdir()
            save_tensors(beside / "weights.safetensors", network.state_dict())
            save_tensors(beside / "normaliser.safetensors", _normaliser_tensors(normalisers))
            (beside / "history.csv").write_text(_history_csv(result.history), encoding="utf-8")
            (beside / "fit.json").write_text(json.dumps(facts), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{finished}: cannot be written ({error}). Remove it and train again") from error
    took = {"seconds": round(time.perf_counter() - started, 3), "epochs": len(result.history)}
    write_whole(time_of(finished), json.dumps(took) + "\n")
    if not (finished / "fit.json").is_file():
        raise StoreError(f"{finished}: is there, but not whole. Remove it and train again")
    _log.info(
        "%s, fold %d, seed %d: best epoch %d of %d, validation %s %.3f (%.1f s)",
        experiment.model,
        run.fold.number,
        run.seed,
        result.best_epoch,
        len(result.history),
        experiment.select_by,
        result.best_score,
        time.perf_counter() - started,
    )
    return finished


def _told(run: PlannedRun, training: Run) -> Told:
    """Return where a training is."""
    select, row = run.experiment.select_by, training.history[-1]
    value = row[f"{training.judged}_{select}"]
    epochs = run.experiment.epochs
    return Told(
        run.fold.number, run.seed, training.epoch, epochs, f"{training.judged} {select}", value,
        training.best_score, training.finished,
    )  # fmt: skip


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
