"""The papers' numbers beside ours: pipeline/presets/published.csv, by ``report.published`` of params.yaml.

published.csv has the columns paper, table, dataset, model, metric, condition, value: typed from the papers, a
number a row; condition is a, v, t, av, at, vt, avt or average. papers.yml says on what they were computed.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pipeline.comparison import Comparison, metric_name, signed
from pipeline.errors import ParamsError, nearest
from pipeline.manifest import MODALITIES
from pipeline.mask import FULL_CONDITION, MISSING_CONDITIONS
from pipeline.params import Params, PublishedRow
from pipeline.scores import AVERAGE, condition_words, paired_test
from pipeline.tables import Cell, Table

FOLDER = Path(__file__).parent / "presets"
ORDER = (*MISSING_CONDITIONS, AVERAGE, FULL_CONDITION)
ROUNDING = 0.0005  # how far a printed average may lie from that of the printed numbers


@dataclass(frozen=True, order=True)
class Row:
    """One row of a published table.

    Attributes:
        paper, table, dataset, model, metric: as in published.csv.
    """

    paper: str
    table: str
    dataset: str
    model: str
    metric: str


@cache
def read_published() -> Mapping[Row, Mapping[str, float]]:
    """Return row -> condition -> number."""
    found: dict[Row, dict[str, float]] = {}
    with (FOLDER / "published.csv").open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            row = Row(*(line[name] for name in ("paper", "table", "dataset", "model", "metric")))
            found.setdefault(row, {})[line["condition"]] = float(line["value"])
    return found


@cache
def read_papers() -> Mapping[str, Mapping[str, Any]]:
    """Return paper -> dataset -> what it was computed on."""
    papers: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / "papers.yml").read_text(encoding="utf-8"))
    return papers


def find_rows(wanted: PublishedRow) -> list[Row]:
    """Return the rows, one a metric, that an experiment names.

    Raises:
        ParamsError: there is no such row.
    """
    key = (wanted.paper, wanted.table, wanted.dataset, wanted.model)
    rows = [row for row in read_published() if (row.paper, row.table, row.dataset, row.model) == key]
    if not rows:
        same = {row.model for row in read_published() if (row.paper, row.table) == key[:2]}
        raise ParamsError(
            f'report.published: found no row "{wanted.model}" for {wanted.dataset} in table {wanted.table} of '
            f"{wanted.paper}; its rows: {', '.join(sorted(same)) or 'none'}.{nearest(wanted.model, same)}"
        )
    return rows


def published_table(params: Params, comparison: Comparison) -> Table | None:
    """Return ours beside the published numbers with the difference; None when no experiment names any.

    A row that several experiments share (MCTN: one for each condition) gets its average over the six
    conditions when they are all there.

    Raises:
        ParamsError: an experiment names a row that is not in published.csv.
    """
    ours: dict[Row, dict[str, tuple[float, str]]] = {}
    for one in comparison.evaluated:
        wanted = params.report.published.get(one.name)
        for row in find_rows(wanted) if wanted is not None else []:
            reached = ours.setdefault(row, {})
            for condition in (wanted.conditions if wanted is not None else ()) or _order(row):
                number = one.scores.number(condition, row.metric)
                if number is not None:
                    reached[condition] = (number.mean, one.name)
    rows = []
    for row, reached in ours.items():
        if AVERAGE not in reached and set(MISSING_CONDITIONS) <= reached.keys():
            mean = math.fsum(reached[c][0] for c in MISSING_CONDITIONS) / len(MISSING_CONDITIONS)
            reached[AVERAGE] = (mean, "all of them")
        for condition in _order(row):
            theirs = read_published()[row].get(condition)
            if theirs is None or condition not in reached:
                continue
            value, name = reached[condition]
            rows.append(
                [
                    Cell(row.model),
                    Cell(name),
                    Cell(metric_name(row.metric)),
                    Cell("average of six" if condition == AVERAGE else condition_words(condition)),
                    Cell(f"{theirs:.4f}", number=True),
                    Cell(f"{value:.4f}", number=True),
                    Cell(signed(value - theirs), number=True),
                ]
            )
    if not rows:
        return None
    return Table(
        name=f"{comparison.name}-published",
        caption=f"Published numbers and ours on {comparison.dataset.words}, mean over {comparison.unit}.",
        head=["published as", "experiment", "metric", "condition", "published", "ours", "difference"],
        rows=rows,
        notes=differences(comparison, ours),
    )


def _order(row: Row) -> tuple[str, ...]:
    """Return the conditions of a row: the paper's six first, then those of masks by their names."""
    return (*ORDER, *(c for c in read_published()[row] if c not in ORDER))


def p_value_table(params: Params, comparison: Comparison) -> Table | None:
    """Return published p-values beside ours (M3S Table 5); None when no experiment names any.

    Raises:
        ParamsError: an experiment names a row that is not in published.csv.
    """
    rows = []
    for one in comparison.evaluated:
        wanted, other = params.report.p_values.get(one.name), comparison.opponent(one)
        for row in find_rows(wanted) if wanted is not None and other is not None else []:
            for condition, theirs in read_published()[row].items():
                test = None
                if other is not None:
                    test = paired_test(one.scores, other.scores, condition, row.metric)
                if test is None or other is None:
                    continue
                rows.append(
                    [
                        Cell(row.model),
                        Cell(one.name),
                        Cell(other.name),
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
            "Bold: p < 0.05, in either direction. The paper does not say over what its pairs were taken; ours are "
            f"{comparison.unit}."
        ],
    )


def differences(comparison: Comparison, rows: Iterable[Row]) -> list[str]:
    """Say in words on what else than the papers our numbers were computed, and what does not add up there."""
    found = []
    rows = list(rows)
    for paper, dataset in dict.fromkeys((row.paper, row.dataset) for row in rows):
        found += _data_differences(comparison, paper, dataset)
    for row in rows:
        printed = read_published()[row]
        if {AVERAGE, *MISSING_CONDITIONS} <= printed.keys():
            mean = math.fsum(printed[c] for c in MISSING_CONDITIONS) / len(MISSING_CONDITIONS)
            if abs(mean - printed[AVERAGE]) > ROUNDING:
                found.append(
                    f"The paper's own average of {row.model} ({metric_name(row.metric)}) is "
                    f"{printed[AVERAGE]:.4f}; its six numbers give {mean:.4f}."
                )
    return found


def _data_differences(comparison: Comparison, paper: str, dataset: str) -> list[str]:
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
    folds = f"{about['folds']} fold{'s' * (about['folds'] != 1)}"
    theirs = folds if about["runs"] is None else f"{folds} × {about['runs']} runs"
    if comparison.unit != theirs:
        found.append(f"{source} is over {theirs}; ours is over {comparison.unit}.")
    found += about.get("open", [])
    for modality in MODALITIES:
        features, asked = facts.features.get(modality), about["features"].get(modality)
        if features is None or asked is None:
            continue
        columns = len(features.info.columns)
        if (features.info.extractor, columns) != (asked["extractor"], asked["columns"]):
            found.append(
                f"{modality} features: ours are {features.info.extractor} with {columns} columns, the paper's "
                f"{asked['words']} with {asked['columns']}."
            )
    return found
