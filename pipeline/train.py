"""Train one experiment, all folds and seeds: ``python -m pipeline.train EXPERIMENT``.

Writes data/runs/EXPERIMENT/::

    summary.json                   what the experiment is, and how its samples were split
    <fold>-<run>/                  folds and runs count from 1: 1-1, 2-1, ... (fold 1 and 2 of the first seed)
        weights.safetensors        the network at its best epoch
        normaliser.safetensors     <modality>.mean and <modality>.scale, (D,) float32, of the fold's training part
        history.csv                one row an epoch
        run.json                   what is needed to use the weights

summary.json::

    {"format": 1, "experiment", "dataset", "model", "regime", "train_on", "evaluate_on": names,
     "classes": [name, ...], "parameters": number of trainable weights, "samples": N used,
     "left_out": {reason: count, ...}, "modalities": {"text": samples that have it, "audio": ..., "video": ...},
     "folds": [{"fold": 1, "description": "test Ses01, ...", "train": n, "valid": n, "test": n}, ...],
     "runs": [seed of run 1, ...]}

history.csv has the columns epoch (from 1), learning_rate, train_loss (their sum), train_<name> for each loss of the
model (baseline: classification; MMIN: classification, forward, backward; as weighted in the sum), valid_loss (mean
cross-entropy of the prediction), valid_wa, valid_ua, valid_macro_f1, valid_weighted_f1, best (1 where the epoch was the
best so far, so that the last 1 is the epoch that was kept). Validation is under the full condition when train_on is
full, else pooled over the six missing ones. There are no timings in any file: two runs with one seed give equal bytes.

run.json::

    {"format": 1, "experiment", "dataset", "fold", "run", "seed", "model", "settings": {...}, "regime",
     "regime_settings": {...}, "train_on", "classes": [...], "select_by", "best_epoch", "best_score", "epochs": run,
     "parameters", "description": of the fold, "samples": {"train": n, "valid": n, "test": n},
     "features": {modality: {"extractor", "settings": {...}, "columns": [...], "frame_period_s": number or null,
                             "pool": frames averaged into one, "values_sha256"}}}
"""
