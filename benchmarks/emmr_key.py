"""EMMR's detector and its ensemble on the demo corpus, whose key modalities are known by construction.

    python benchmarks/emmr_key.py [--data data] [--work FOLDER] [--runs 3] [--epochs 12] [--size 96]

Three experiments of as many seeds over the demo's five folds: EMMR, EMMR without an ensemble (``key: never``, TF
alone) and EMMR that is told the true flags in the place of its detector's (``key: oracle``). Each is trained once, on
samples that lack one modality at rates that are drawn anew (0 to 50 %, as the preset emmr-table1-one-model has it),
and tested with every sample under each condition, and at each rate. Printed are the report's own tables as Markdown:
the metrics; how often the detector says "key" of samples whose absent modality is key in truth and of others, with
Fisher's exact test; and how often TF alone and the ensemble are right on them.

A modality is key in truth where another one of the sample contradicts its label: without it one speaks for the label
and one against it (pipeline/data/datasets/demo.py). ``--data`` has the demo's features and its manifest, as ``dvc
repro`` makes them. ``--work`` keeps the runs, so that a second call starts where the first one ended.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import yaml

from pipeline import evaluate, mask, train
from pipeline.logs import log_to_stderr
from pipeline.params import Params
from pipeline.reporting.comparison import compare, result_table
from pipeline.reporting.facts import gather
from pipeline.reporting.key_modality import key_table, key_truth_table

KEYS = {"emmr": "detected", "emmr-tf": "never", "emmr-oracle": "oracle"}
RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)


def make_params(runs: int, epochs: int, size: int, workers: int) -> Params:
    """Return the repository's params.yaml with these experiments and masks instead of its own."""
    raw = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    every = {
        "dataset": "demo",
        "model": "emmr",
        "train_on": "one-missing-any",
        "evaluate_on": ["conditions", "one-missing-at"],
        "runs": runs,
        "select_by": "macro_f1",
        "epochs": epochs,
        "batch_size": 32,
        "frame_rate_hz": {"audio": 10},
    }
    raw["masks"] = {
        "conditions": {"protocol": "conditions"},
        "one-missing-at": {"protocol": "one-missing", "rates": RATES},
        "one-missing-any": {
            "protocol": "mixture",
            "draw": "sampled",
            "of": [{"protocol": "one-missing", "rate": rate} for rate in RATES],
        },
    }
    raw["experiments"] = {
        name: {**every, "settings": {"size": size, "inner": 4 * size, "key": key}}
        for name, key in KEYS.items()
    }
    raw["compute"] = {"device": "cpu", "workers": workers}
    raw["report"] = {"title": "EMMR's key modalities", "baseline": "emmr-tf"}
    return Params.model_validate(raw)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--work", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    log_to_stderr()
    params, data = (
        make_params(options.runs, options.epochs, options.size, options.workers),
        options.data.resolve(),
    )
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        for part in ("manifests", "features"):
            if not (work / "data" / part).exists():
                shutil.copytree(data / part, work / "data" / part)
        os.chdir(work)
        mask.main(params, "demo")
        for name in KEYS:
            train.main(params, name)
            evaluate.main(params, name)
        for section in compare(params, *gather(params, Path("data"))):
            for part in section.parts:
                for table in (result_table(part), key_truth_table(part), key_table(part)):
                    if table is not None:
                        print(table.to_md())


if __name__ == "__main__":
    main()
