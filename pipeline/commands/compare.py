"""``lacuna compare RUN RUN``: two experiments side by side, with differences and p-values."""

from __future__ import annotations

import argparse

from pipeline.commands.output import say, say_json
from pipeline.commands.parsing import Commands

EPILOG = """\
RUN is the name of an experiment of params.yaml (`lacuna runs` lists them). p is of the two-tailed paired t-test over
the folds and seeds that both have, p (Holm) corrected for the lines of this table, p (resampled) of Nadeau and Bengio's
test, which allows for folds that share training data.

example:
  lacuna compare mmin augmented
"""


def add(commands: Commands) -> None:
    """Add the command ``compare``."""
    parser = commands.add("compare", "Compare two experiments, with p-values.", EPILOG, run)
    parser.add_argument("first", metavar="RUN", help="an experiment")
    parser.add_argument("second", metavar="RUN", help="the one that it is compared with")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print the differences of two experiments."""
    from pathlib import Path

    from pipeline.commands.runs import settings_that_differ
    from pipeline.errors import DataError
    from pipeline.params import load_params
    from pipeline.reporting.comparison import metric_name, signed
    from pipeline.reporting.facts import read_experiment
    from pipeline.reporting.statistics import AVERAGE, POOLED, corrected, paired_test, share_tested

    params = load_params()
    pair = []
    for name in (options.first, options.second):
        params.experiment(name)
        one = read_experiment(params, name, Path("data"))
        if not one.scores.values:
            raise DataError(f"{name}: {one.state}, so it has no results yet. Run: dvc repro evaluate@{name}")
        pair.append(one)
    one, other = pair
    if (one.dataset, one.task) != (other.dataset, other.task):
        raise DataError(
            f"{one.name} is a {one.task} on {one.dataset}, {other.name} a {other.task} on {other.dataset}; expected "
            "two experiments of one dataset and task"
        )
    share = share_tested(one.runs.values())
    tests = {}
    for condition in (*one.scores.conditions, AVERAGE, POOLED):
        for metric in one.scores.metrics:
            test = paired_test(one.scores, other.scores, condition, metric, share)
            if test is not None:
                tests[condition, metric] = test
    if not tests:
        raise DataError(f"{one.name} and {other.name} have no fold, seed and condition in common")
    found = corrected(tests)
    differ = settings_that_differ(one.trained, other.trained)
    rows = []
    for (condition, metric), test in found.items():
        mine, theirs = one.scores.number(condition, metric), other.scores.number(condition, metric)
        rows.append(
            {
                "condition": condition,
                "metric": metric,
                one.name: None if mine is None else mine.mean,
                other.name: None if theirs is None else theirs.mean,
                "difference": test.difference,
                "p": test.p,
                "p_holm": test.holm,
                "p_resampled": test.resampled_p,
                "pairs": test.pairs,
            }
        )
    if options.json:
        say_json({"settings": {key: list(values) for key, values in differ.items()}, "tests": rows})
        return 0
    for key, values in differ.items():
        say(f"{key}: {' | '.join(values)}")
    width = max(len(name) for name in (one.name, other.name, "difference"))
    head = (
        "condition",
        "metric",
        one.name,
        other.name,
        "difference",
        "p",
        "p (Holm)",
        "p (resampled)",
        "pairs",
    )
    say(_line(head, width))
    for row in rows:
        numbers = [row[one.name], row[other.name]]
        p_values = [row["p"], row["p_holm"], row["p_resampled"]]
        say(
            _line(
                (
                    str(row["condition"]),
                    metric_name(str(row["metric"])),
                    *("-" if value is None else f"{value:.3f}" for value in numbers),
                    signed(float(str(row["difference"]))).replace("−", "-"),
                    *("-" if value is None else f"{value:.4f}" for value in p_values),
                    str(row["pairs"]),
                ),
                width,
            )
        )
    if len({fold for fold, _ in one.scores.values}) == 1:
        say("One split of the data: the pairs are seeds, so the tests say nothing about other data.")
    return 0


def _line(cells: tuple[str, ...], width: int) -> str:
    left = f"{cells[0]:<20} {cells[1]:<18}"
    return left + " ".join(f"{cell:>{max(width, 13)}}" for cell in cells[2:]).rstrip()
