"""What run.json and summary.json of data/runs/EXPERIMENT/ say; pipeline/train.py lists their entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from models.base import MODALITIES
from pipeline.params import Experiment
from pipeline.training.experiment import model_of, record, settings_of
from pipeline.training.folds import Fold
from pipeline.training.kept_runs import FORMAT, PlannedRun
from pipeline.training.samples import SampleSet


def run_record(name: str, planned: PlannedRun, run: int, samples: SampleSet) -> dict[str, Any]:
    """Return run.json but for what the training found (``fit.json`` of the kept run)."""
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
        facts |= {"task": experiment.task, "target": experiment.target, "scale": asdict(samples.scale)}
    return facts


def _sizes(fold: Fold) -> dict[str, int]:
    return {"train": len(fold.train), "valid": len(fold.valid), "test": len(fold.test)}


def summary(
    name: str,
    experiment: Experiment,
    samples: SampleSet,
    folds: Sequence[Fold],
    seeds: list[int],
    parameters: int,
    findings: Sequence[str],
) -> dict[str, Any]:
    """Return summary.json: what the experiment is, and how its samples were split."""
    return {
        **_common_facts(name, experiment, samples),
        "parameters": parameters,
        "samples": int(samples.labelled.sum()),
        "left_out": dict(samples.left_out),
        "modalities": {m: int((samples.modalities[m].lengths > 0).sum()) for m in MODALITIES},
        "cut": {m: cut for m in MODALITIES if (cut := samples.modalities[m].cut_off())},
        "folds": [{"fold": fold.number, "description": fold.description, **_sizes(fold)} for fold in folds],
        "findings": list(findings),
        "runs": seeds,
        "needs": list(model_of(experiment).needs(settings_of(experiment))),
    }
