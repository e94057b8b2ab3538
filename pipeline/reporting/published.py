"""The papers' numbers beside ours, by the ``published`` rows of ``report.tables`` in params.yaml.

published_rows.py reads the numbers; papers.yml says on what data and features the papers computed them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import yaml

from pipeline.data.manifest import MODALITIES
from pipeline.data.masks import FULL_CONDITION, MISSING_CONDITIONS
from pipeline.data.store import FeatureInfo
from pipeline.params import Params
from pipeline.reporting.comparison import Comparison, metric_name, signed
from pipeline.reporting.facts import ExperimentFacts
from pipeline.reporting.published_rows import FOLDER, Row, find_rows, read_published
from pipeline.reporting.statistics import AVERAGE, condition_words, paired_test
from pipeline.reporting.tables import Cell, Table
from pipeline.training.metrics import average

ORDER = (*MISSING_CONDITIONS, AVERAGE, FULL_CONDITION)
ROUNDING = 0.0005  # how far a printed average may lie from that of the printed numbers


@cache
def read_papers() -> Mapping[str, Mapping[str, Any]]:
    """Return paper -> dataset -> what it was computed on."""
    papers: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / "papers.yml").read_text(encoding="utf-8"))
    return papers


def published_number(
    comparison: Comparison, one: ExperimentFacts, condition: str, metric: str
) -> float | None:
    """Return the number of the published row that an experiment reproduces; None when it names none, or the row has no
    such number.
    """
    part = comparison.merged.get(one.name, [one])[0]
    wanted = comparison.table.published.get(part.name)
    if wanted is None or (one is part and wanted.conditions and condition not in wanted.conditions):
        return None
    row = Row(wanted.paper, wanted.table, wanted.dataset, wanted.model, metric)
    return read_published().get(row, {}).get(condition)


def published_table(params: Params, comparison: Comparison) -> Table | None:
    """Return the published numbers, ours and the differences; None when no experiment names a published row.

    A row that several experiments make together (MCTN: one for each condition) gets its average from them. The
    paper's rows that no preset reproduces (``only_published`` of papers.yml) stand below, with a dash for ours.

    Raises:
        ParamsError: an experiment names a row that is not in published.csv.
    """
    ours: dict[Row, dict[str, list[tuple[float, ExperimentFacts]]]] = {}  # condition -> number and whose
    named: dict[Row, list[ExperimentFacts]] = {}
    for one in (*comparison.real, *(one for one in comparison.evaluated if one.name in comparison.merged)):
        part = comparison.merged.get(one.name, [one])[0]
        wanted = comparison.table.published.get(part.name)
        for row in find_rows(wanted) if wanted is not None else []:
            reached = ours.setdefault(row, {})
            if one is part:
                named.setdefault(row, []).append(one)
            named_here = wanted.conditions if wanted is not None and one is part else ()
            for condition in named_here or _order(row):
                number = one.scores.number(condition, row.metric)
                if number is not None and (one is part or condition not in reached):
                    reached.setdefault(condition, []).append((number.mean, one))
    rows = []
    for row, reached in ours.items():
        for condition in _order(row):
            if condition in read_published()[row]:
                rows += [_number_cells(row, condition, one) for one in reached.get(condition, [])]
    if not rows:
        return None
    for row in _only_published(ours):
        rows += [_number_cells(row, c, None) for c in _order(row) if c in read_published()[row]]
    return Table(
        name=f"{comparison.name}-published",
        caption=f"Published numbers and ours on {comparison.dataset.words}, mean over {comparison.unit}.",
        head=["published as", "experiment", "metric", "condition", "published", "ours", "difference"],
        rows=rows,
        notes=differences(params, comparison, named),
    )


def _number_cells(row: Row, condition: str, reached: tuple[float, ExperimentFacts] | None) -> list[Cell]:
    """Return the cells of one published number; ``reached`` is our number and its experiment, or None."""
    theirs = read_published()[row][condition]
    value, one = (None, None) if reached is None else reached
    return [
        Cell(row.model),
        Cell("–") if one is None else Cell(one.name, flag=one.flag),
        Cell(metric_name(row.metric)),
        Cell("average of six" if condition == AVERAGE else condition_words(condition)),
        Cell(f"{theirs:.4f}", number=True),
        Cell("–" if value is None else f"{value:.4f}", number=True),
        Cell("–" if value is None else signed(value - theirs), number=True),
    ]


def _only_published(ours: Iterable[Row]) -> list[Row]:
    """Return the rows of the same tables that no preset reproduces."""
    tables = {(row.paper, row.table, row.dataset) for row in ours}
    return [
        row
        for row in read_published()
        if (row.paper, row.table, row.dataset) in tables
        and row.model in read_papers().get(row.paper, {}).get(row.dataset, {}).get("only_published", ())
    ]


def _order(row: Row) -> tuple[str, ...]:
    """Return the conditions of a row: the six missing ones, their average, the full one, then masks."""
    return (*ORDER, *(c for c in read_published()[row] if c not in ORDER))


def p_value_table(comparison: Comparison) -> Table | None:
    """Return published p-values beside ours (M3S Table 5); None when no experiment names any.

    Raises:
        ParamsError: an experiment names a row that is not in published.csv.
    """
    rows = []
    for one in comparison.real:
        wanted, other = comparison.table.p_values.get(one.name), comparison.opponent(one)
        if wanted is None or other is None:
            continue
        for row in find_rows(wanted):
            for condition, theirs in read_published()[row].items():
                test = paired_test(one.scores, other.scores, condition, row.metric)
                if test is None:
                    continue
                rows.append(
                    [
                        Cell(row.model),
                        Cell(one.name, flag=one.flag),
                        Cell(other.name, flag=other.flag),
                        Cell(metric_name(row.metric)),
                        Cell(f"{theirs:.4g}", number=True),
                        Cell("–" if test.p is None else f"{test.p:.4g}", best=test.significant, number=True),
                        Cell(signed(test.difference), number=True),
                        Cell("yes" if test.better else "no"),
                        Cell(str(test.pairs), number=True),
                    ]
                )
    if not rows:
        return None
    return Table(
        name=f"{comparison.name}-p-values",
        caption=f"Published p-values beside ours on {comparison.dataset.words}, two-tailed paired t-tests.",
        head=[
            "published as",
            "experiment",
            "against",
            "metric",
            "published p",
            "p",
            "difference",
            "better",
            "pairs",
        ],
        rows=rows,
        notes=[
            "Bold: p < 0.05, in either direction. The paper does not say what its pairs are; ours are "
            f"{comparison.unit}."
        ],
    )


def differences(
    params: Params, comparison: Comparison, named: Mapping[Row, Sequence[ExperimentFacts]]
) -> list[str]:
    """Return in words how our data, split and features differ from the papers', and which of their averages are wrong.

    Args:
        params: params.yaml; of a dataset's folds.
        comparison: of our experiments.
        named: published row -> the experiments that stand beside it.
    """
    found = []
    for paper, dataset in dict.fromkeys((row.paper, row.dataset) for row in named):
        every = [
            one for row, ones in named.items() if (row.paper, row.dataset) == (paper, dataset) for one in ones
        ]
        unique = list({one.name: one for one in every}.values())
        found += _data_differences(params, comparison, unique, paper, dataset)
    for row in named:
        printed = read_published()[row]
        if {AVERAGE, *MISSING_CONDITIONS} <= printed.keys():
            six = {condition: {row.metric: printed[condition]} for condition in MISSING_CONDITIONS}
            mean = average(six, MISSING_CONDITIONS)[row.metric]
            if abs(mean - printed[AVERAGE]) > ROUNDING:
                found.append(
                    f"The paper's own average of {row.model} ({metric_name(row.metric)}) is "
                    f"{printed[AVERAGE]:.4f}; its six numbers give {mean:.4f}."
                )
    return found


def _data_differences(
    params: Params, comparison: Comparison, experiments: Sequence[ExperimentFacts], paper: str, dataset: str
) -> list[str]:
    facts, about = comparison.dataset, read_papers().get(paper, {}).get(dataset)
    source = f"{paper.upper()}'s table"
    found = []
    if facts.constructed:
        found.append(
            f"{facts.name} is a constructed corpus, not {dataset}: these differences say nothing about how "
            f"well {source} is reproduced."
        )
    elif comparison.loader != dataset:
        found.append(f"{source} is on {dataset}; ours is on {facts.name} (loader {comparison.loader}).")
    if about is None:
        return found
    if comparison.task != about["task"]:
        found.append(f"{source} is a {about['task']}; ours is a {comparison.task}.")
    classes = list(dict.fromkeys(name for one in experiments for name in one.classes))
    if comparison.task == about["task"] == "classification" and set(classes) != set(about["labels"]):
        found.append(
            f"{source} tells {len(about['labels'])} classes apart ({', '.join(about['labels'])}); ours "
            f"{len(classes)} ({', '.join(classes)})."
        )
    sizes = sorted({int(one.summary["samples"]) for one in experiments if "samples" in one.summary})
    if not sizes and facts.samples is not None:
        sizes = [len(facts.samples)]
    if sizes and sizes != [about["samples"]]:
        found.append(
            f"{source} is on {about['samples']} samples; ours is on {' and '.join(map(str, sizes))}."
        )
    own = comparison.experiments[0].trained.get("folds")
    scheme = own["scheme"] if own else params.datasets[facts.name].folds.scheme
    if scheme != about["scheme"]:
        found.append(f"{source} splits by the scheme {about['scheme']}; ours by {scheme}.")
    folds = f"{about['folds']} fold{'s' * (about['folds'] != 1)}"
    theirs = folds if about["runs"] is None else f"{folds} × {about['runs']} runs"
    if comparison.unit != theirs:
        found.append(f"{source} is over {theirs}; ours is over {comparison.unit}.")
    found += [words.format(inner_steps=_inner_steps(comparison)) for words in about.get("open", [])]
    for modality in MODALITIES:
        features, asked = facts.features.get(modality), about["features"].get(modality)
        if features is not None and asked is not None:
            found += _feature_differences(experiments, features.info, asked)
    return found


def _inner_steps(comparison: Comparison) -> str:
    """Return the number K of M3S's inner steps in words, as the experiments were trained."""
    trained = [one.trained["regime_settings"] for one in comparison.experiments if one.regime == "m3s"]
    return " and ".join(map(str, sorted({settings["inner_steps"] for settings in trained}))) or "not set"


def _feature_differences(
    experiments: Sequence[ExperimentFacts], info: FeatureInfo, asked: Mapping[str, Any]
) -> list[str]:
    """Return where one modality's features are not the paper's: extractor, columns, settings, frames a second."""
    modality, columns = info.modality, len(info.columns)
    if (info.extractor, columns) != (asked["extractor"], asked["columns"]):
        return [
            f"{modality} features: ours are {info.extractor} with {columns} columns, the paper's "
            f"{asked['words']} with {asked['columns']}."
        ]
    found = []
    for name, theirs in asked.get("settings", {}).items():
        if (ours := info.settings.get(name)) != theirs:
            found.append(
                f"{modality} features: {name} of {info.extractor} is {json.dumps(ours)}, the paper's "
                f"{json.dumps(theirs)}."
            )
    rates: set[float | None] = set()
    for one in experiments:
        averaged: Mapping[str, float] = one.trained["frame_rate_hz"]
        rates.add(averaged.get(modality, None if info.frame_period_s is None else 1 / info.frame_period_s))
    if (rate := asked.get("frame_rate_hz")) is not None and rates != {rate}:
        words = " and ".join("uneven" if one is None else f"{one:g}" for one in sorted(rates, key=str))
        found.append(f"{modality} features: ours have {words} frames a second, the paper's {rate:g}.")
    return found
