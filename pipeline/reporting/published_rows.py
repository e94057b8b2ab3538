"""The rows of published.csv: the papers' numbers, one in each line.

The columns are paper, table, dataset, model, metric, condition, value; condition is a, v, t, av, at, vt, avt, average
or a mask's name. pipeline/params.py checks by them what params.yaml names, so that nothing of the report is imported
here.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ParamsError, nearest

if TYPE_CHECKING:
    from pipeline.params import PublishedRow

FOLDER = Path(__file__).parent


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


def find_rows(wanted: PublishedRow) -> list[Row]:
    """Return the rows of published.csv that an experiment names, one for each metric.

    Raises:
        ParamsError: there is no such row, or it has no number for one of the named conditions.
    """
    key = (wanted.paper, wanted.table, wanted.dataset, wanted.model)
    rows = [row for row in read_published() if (row.paper, row.table, row.dataset, row.model) == key]
    if not rows:
        same = {row.model for row in read_published() if (row.paper, row.table) == key[:2]}
        raise ParamsError(
            f'found no published row "{wanted.model}" for {wanted.dataset} in table {wanted.table} of '
            f"{wanted.paper}; its rows: {', '.join(sorted(same)) or 'none'}.{nearest(wanted.model, same)}"
        )
    printed = {condition for row in rows for condition in read_published()[row]}
    for condition in wanted.conditions:
        if condition not in printed:
            raise ParamsError(
                f'found the condition "{condition}", but the row "{wanted.model}" for {wanted.dataset} in table '
                f"{wanted.table} of {wanted.paper} has: {', '.join(sorted(printed))}."
                f"{nearest(condition, sorted(printed))}"
            )
    return rows
