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
     "cut": {modality: {"samples": how many are longer than ``lengths`` takes, "frames": what share of all is cut off}},
     "folds": [{"fold": 1, "description": "test Ses01; ...", "train": n, "valid": n, "test": n}, ...],
     "findings": what is wrong with the folds, in sentences (pipeline/training/split_check.py),
     "runs": [seed of run 1, ...],
     "needs": what the method takes for granted: "the hidden truth", "a model a condition" (Network.needs)}

history.csv has the columns epoch (from 1), learning_rate, train_loss (their sum), train_<name> for each loss
of the model (baseline: classification; MMIN: classification, forward, backward; as weighted in the sum),
valid_loss (mean cross-entropy of the prediction), valid_wa, valid_ua, valid_macro_f1, valid_weighted_f1, with
``watch_test`` the same of the test part as test_... (for plots; nothing is chosen by them), best (1 where the
epoch was the best so far, so that the last 1 is the epoch that was kept). Validation shows samples as training
does (pipeline/training/training_set.py, ``validation_showings``). Of a regression valid_loss is the mean absolute
error, and the metrics are those of its scale (pipeline/training/metrics.py); run.json and summary.json then have
"task", "target" and "scale" (low, high, sentiment), and no classes.
There are no timings in any file: two runs with one seed give equal bytes.

run.json::

    {"format": 2, "experiment", "dataset", "fold", "run", "seed", "model", "regime", "classes": [...],
     "trained": the whole experiment as it was trained, every default filled in, with "pretraining": the same of
                the network that it starts from, or null (pipeline/training/experiment.py),
     "masks": {name: checksum} of the masks that it was trained on,
     "best_epoch", "best_score", "epochs": run, "parameters", "description": of the fold,
     "one_answer": whether all validation samples get the same class, or nearly the same score,
     "samples": {"train": n, "valid": n, "test": n},
     "features": {modality: {"extractor", "settings": {...}, "columns": [...], "frame_period_s": or null,
                             "pool": frames averaged into one, "length": or null, "values_sha256"}}}

A finished (fold, run) is kept in data/cache/runs as well, and found again: pipeline/training/kept_runs.py.
"""

from __future__ import annotations

import logging
from pathlib import Path

from pipeline.data.files import write_whole
from pipeline.errors import LacunaError
from pipeline.params import Params
from pipeline.stage import run_stage
from pipeline.training.all_runs import train_experiment

_log = logging.getLogger("lacuna")


def main(params: Params, name: str) -> None:
    """Train one experiment.

    Raises:
        ParamsError: there is no such experiment.
        DataError, StoreError, TrainingError: its data cannot be used, or training fails.
    """
    experiment = params.experiment(name)
    dataset = params.dataset(experiment.dataset)
    # For the report; no output, so that DVC does not see it.
    failed = Path("data/cache/failed") / f"{name}.txt"
    try:
        folder = train_experiment(name, experiment, dataset, params.seed, params.compute, Path("data"))
    except LacunaError as error:
        write_whole(failed, f"{type(error).__name__}: {error}\n")
        raise
    failed.unlink(missing_ok=True)
    _log.info("%s", folder)


if __name__ == "__main__":
    run_stage(main, models=True)
