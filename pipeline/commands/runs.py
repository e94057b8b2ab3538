"""``lacuna runs``: the experiments, on what features, how far they are, what they reached, how long they took."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.commands.output import say, say_json
from pipeline.commands.parsing import Commands

EPILOG = """\
With two names it prints the settings in which they differ.

examples:
  lacuna runs
  lacuna runs mmin augmented
  lacuna runs --json
"""


def add(commands: Commands) -> None:
    """Add the command ``runs``."""
    parser = commands.add("runs", "List the experiments, or the settings in which two differ.", EPILOG, run)
    parser.add_argument("names", nargs="*", metavar="RUN", help="two experiments to compare the settings of")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """List experiments, or print the settings in which two differ."""
    from pipeline.errors import ParamsError
    from pipeline.params import load_params
    from pipeline.reporting.comparison import metric_name
    from pipeline.reporting.facts import read_experiment

    params, data = load_params(), Path("data")
    if options.names and len(options.names) != 2:
        raise ParamsError(f"found {len(options.names)} name(s), expected none or two")
    for name in options.names:
        params.experiment(name)
    if options.names:
        one, other = (read_experiment(params, name, data, predictions=False) for name in options.names)
        differ = settings_that_differ(one.trained, other.trained)
        if options.json:
            say_json({key: list(values) for key, values in differ.items()})
            return 0
        for key, (mine, theirs) in differ.items():
            say(f"{key}: {mine} | {theirs}")
        say(f"{len(differ)} setting(s) differ" if differ else "the same settings")
        return 0
    found = []
    for name in params.experiments:
        one = read_experiment(params, name, data, predictions=False)
        first: Mapping[str, Any] = next(iter(one.runs.values()), {})
        judged = "average" if one.scores.number("average", str(one.trained["select_by"])) else None
        condition = judged or (one.scores.conditions[-1] if one.scores.conditions else "")
        number = one.scores.number(condition, str(one.trained["select_by"])) if condition else None
        features = {
            modality: f"{about['extractor']} {about['values_sha256'][:8]}"
            for modality, about in first.get("features", {}).items()
        }
        found.append(
            {
                "name": name,
                "dataset": one.dataset,
                "model": one.model,
                "regime": one.regime,
                "train_on": one.train_on,
                "state": one.state,
                "failure": one.failure,
                "runs": len(one.runs),
                "features": features,
                "metric": str(one.trained["select_by"]),
                "condition": condition,
                "mean": None if number is None else number.mean,
                "seconds_an_epoch": seconds_an_epoch(data, name),
            }
        )
    if options.json:
        say_json(found)
        return 0
    for row in found:
        reached = (
            ""
            if row["mean"] is None
            else (f", {metric_name(str(row['metric']))} {row['mean']:.3f} ({row['condition']})")
        )
        seconds = row["seconds_an_epoch"]
        took = "" if seconds is None else f", {seconds:.2g} s an epoch"
        many = f", {row['runs']} run(s)" if row["runs"] else ""
        say(
            f"{row['name']}: {row['model']} by {row['regime']} on {row['dataset']}, trained on {row['train_on']}: "
            f"{row['state']}{many}{reached}{took}"
        )
        if row["failure"]:
            say(f"  {row['failure']}")
        used = row["features"]
        if isinstance(used, dict) and used:
            say(f"  on {', '.join(f'{modality} {about}' for modality, about in used.items())}")
    if not found:
        say("params.yaml names no experiment")
    return 0


def seconds_an_epoch(data: Path, name: str) -> float | None:
    """Return how long an epoch of an experiment took, from the log of data/cache; None where there is none."""
    path = data / "cache" / "times" / f"{name}.json"
    try:
        noted = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        epochs = sum(entry["epochs"] for entry in noted.values())
        return sum(entry["seconds"] for entry in noted.values()) / epochs if epochs else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # a log that was cut off is no error


def settings_that_differ(
    one: Mapping[str, Any], other: Mapping[str, Any], before: str = ""
) -> dict[str, tuple[str, str]]:
    """Return key -> both values, as JSON, of all settings in which two records of experiments differ."""
    found: dict[str, tuple[str, str]] = {}
    for key in dict.fromkeys([*one, *other]):
        mine, theirs = one.get(key), other.get(key)
        if isinstance(mine, dict) and isinstance(theirs, dict):
            found |= settings_that_differ(mine, theirs, f"{before}{key}.")
        elif mine != theirs:
            found[f"{before}{key}"] = json.dumps(mine), json.dumps(theirs)
    return found
