"""UMDF, the six methods that its paper compares it with, and the linear floor, on the demo corpus.

    python benchmarks/umdf.py [--data data] [--work FOLDER] [--runs 5] [--folds 1] [--epochs N] [--workers 2]
                              [--until HH:MM] [EXPERIMENT ...]

The experiments of the presets umdf-table1 and umdf-fig3 for the demo, five seeds: scores of the sentences, every method
trained once as its own authors do it, on versions that lack modalities or frames (CubeMLP and Self-MM on complete
samples), tested on the six missing conditions, the full one and eleven rates of missing frames. MCTN is a network for
each condition, and another one for the rates. Printed as Markdown: MAE and F1 by condition, and by rate with the mean
height of the curve; the p of a paired t-test against UMDF over folds and seeds, on the average of the six and at the
rate 0.5; and there whether the method is better than chance (pipeline/training/chance.py), a constant being the median
of the training part.

``--data`` has the demo's features and its manifest, as ``dvc repro`` makes them; GCNet reads dialogues where
``corpus.dialogues`` of params.yaml made some. ``--folds`` says how many of the sessions test in turn, ``--epochs`` sets
a limit to all that take more. ``--work`` keeps the runs, so that a second call goes on; ``--until`` trains nothing more
after a time of the day (UTC). What is not trained, or of fewer seeds, is printed as such.
"""

from __future__ import annotations

import argparse
import datetime
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline import evaluate, mask, train
from pipeline.commands.preset import load_preset, make_draft
from pipeline.errors import LacunaError
from pipeline.logs import log_to_stderr
from pipeline.params import Params
from pipeline.reporting.comparison import Comparison, compare
from pipeline.reporting.facts import ExperimentFacts, gather
from pipeline.reporting.statistics import AVERAGE, CONDITIONS, Number, Scores, area, paired_test

PRESETS = ("umdf-table1", "umdf-fig3")
METRICS = {"mae": "MAE", "f1_non0": "F1 (without 0)"}
RATES = {f"dropped-{rate}": rate / 100 for rate in range(0, 101, 10)}


def make_params(runs: int, folds: int, epochs: int | None, workers: int) -> Params:
    """Return the repository's params.yaml with the presets' experiments instead of its own."""
    raw = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params = Params.model_validate(raw)
    raw["compute"] = {"device": "cpu", "workers": workers}
    raw["experiments"], raw["report"] = {}, {"title": "UMDF", "tables": {}}
    raw["masks"] = {"conditions": {"protocol": "conditions"}}
    raw["datasets"]["demo"]["folds"] = {"scheme": "session", "count": folds}
    for name in PRESETS:
        draft = make_draft(name, load_preset(name), "demo", params)
        raw["masks"] |= draft.masks
        raw["report"]["tables"][draft.name] = dict(draft.table)
        for one, fields in draft.experiments.items():
            limit = {} if epochs is None else {"epochs": min(epochs, fields.get("epochs", epochs))}
            raw["experiments"][one] = {**fields, "runs": runs, **limit}
    return Params.model_validate(raw)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", nargs="*")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--work", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folds", type=int, default=1)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--until")
    options = parser.parse_args()
    log_to_stderr()
    params = make_params(options.runs, options.folds, options.epochs, options.workers)
    data = options.data.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        for folder in ("manifests", "features"):
            if not (work / "data" / folder).exists():
                shutil.copytree(data / folder, work / "data" / folder)
        os.chdir(work)
        mask.main(params, "demo")
        for name in options.experiment or params.experiments:
            now = datetime.datetime.now(datetime.UTC).strftime("%H:%M")
            if options.until is not None and now >= options.until:
                print(f"{name}: not trained, it is {now}")
                continue
            try:
                train.main(params, name)
                evaluate.main(params, name)
            except LacunaError as error:
                print(f"{name}: {error}")
        for section in compare(params, *gather(params, Path("data"))):
            for part in section.parts:
                columns: Mapping[str, str] = {
                    **{c: " ".join(c) for c in CONDITIONS},
                    AVERAGE: "average of six",
                }
                if "fig3" in part.name:
                    columns = {name: f"{rate:g}" for name, rate in RATES.items()}
                for metric, words in METRICS.items():
                    show(part, metric, words, columns, height="fig3" in part.name)


def show(part: Comparison, metric: str, words: str, columns: Mapping[str, str], height: bool = False) -> None:
    """Print one metric of all experiments under some conditions, and the mean height of the curve over rates."""
    print(f"\n{words}\n")
    head = ["method", "networks", *columns.values(), *(["height of the curve"] if height else [])]
    print("| " + " | ".join([*head, "p against UMDF", "better than chance"]) + " |")
    print("|" + "---|" * (len(head) + 2))
    judged = "dropped-50" if height else AVERAGE
    for one in part.evaluated:
        cells = [one.name, str(len(one.scores.values))]
        cells += [_cell(one.scores.number(c, metric)) for c in columns]
        if height:
            cells.append(_cell(Number.over(heights(one.scores, metric))))
        test = (
            None if part.baseline is None else paired_test(one.scores, part.baseline.scores, judged, metric)
        )
        cells.append("–" if test is None or test.p is None else f"{test.p:.3f}")
        cells.append(_above(one, judged))
        print("| " + " | ".join(cells) + " |")
    missing = [one.name for one in part.experiments if not one.scores.values]
    if missing:
        print(f"\nNot trained: {', '.join(missing)}.")


def heights(scores: Scores, metric: str) -> Sequence[float]:
    """Return the mean height of the curve over the rates, by trapezoids, of each (fold, run)."""
    by_rate = {rate: scores.of(name, metric) for name, rate in RATES.items()}
    keys = set.intersection(*(set(values) for values in by_rate.values()))
    found = [area({rate: values[key] for rate, values in by_rate.items()}) for key in sorted(keys)]
    return [value for value in found if value is not None]


def _cell(number: Number | None) -> str:
    if number is None:
        return "–"
    return f"{number.mean:.3f}" + ("" if number.deviation is None else f" ± {number.deviation:.3f}")


def _above(one: ExperimentFacts, condition: str) -> str:
    known: Any = one.chance
    if known is None or condition not in known.conditions:
        return "–"
    reached = known.conditions[condition]
    return f"{'yes' if known.above(condition) else 'no'}, p {reached.p:.4f} (a constant: {known.level:.3f})"


if __name__ == "__main__":
    main()
