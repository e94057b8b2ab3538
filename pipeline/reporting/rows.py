"""Every number of the page as data: rows of csv files for `dvc plots` and for other programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite

from pipeline.reporting.comparison import (
    Comparison,
)
from pipeline.reporting.facts import (
    ExperimentFacts,
)
from pipeline.reporting.statistics import Number


def result_rows(comparisons: Sequence[Comparison]) -> Iterator[list[object]]:
    """Yield every number as data: a header, then a row for each dataset, experiment, condition and metric.

    An experiment that stands in several sections comes once. A row of a published table that several experiments make
    together (MCTN) comes as well as these.
    """
    yield ["dataset", "experiment", "condition", "metric", "mean", "deviation", "count", "selection"]
    for comparison, one in _each_once(comparisons, parts=True):
        for condition in comparison.columns:
            for metric in comparison.metrics:
                number = one.scores.number(condition, metric)
                if number is not None:
                    values = (number.mean, number.deviation, number.count)
                    selection = one.trained.get("selection")
                    yield [comparison.dataset.name, one.name, condition, metric, *values, selection]


def condition_rows(comparisons: Sequence[Comparison]) -> Iterator[list[object]]:
    """Yield a header, then a row for each dataset, experiment and condition with the mean of every metric.

    Of experiments that together make a row of a published table (MCTN) only that row comes.
    """
    metrics = list(dict.fromkeys(metric for one in comparisons for metric in one.metrics))
    yield ["dataset", "experiment", "condition", *metrics, "selection"]
    for comparison, one in _each_once(comparisons, parts=False):
        for condition in comparison.conditions:
            numbers = [one.scores.number(condition, metric) for metric in metrics]
            means = [None if number is None else number.mean for number in numbers]
            yield [comparison.dataset.name, one.name, condition, *means, one.trained.get("selection")]


def _each_once(
    comparisons: Sequence[Comparison], parts: bool
) -> Iterator[tuple[Comparison, ExperimentFacts]]:
    """Yield each evaluated experiment with the first comparison that it stands in.

    Args:
        comparisons: all of the page's.
        parts: whether to yield the parts of merged experiments, too.
    """
    seen: set[tuple[str, ...]] = set()
    for comparison in comparisons:
        merged = comparison.merged
        for one in (*comparison.evaluated, *(part for every in merged.values() for part in every if parts)):
            key = (comparison.dataset.name, one.name, *(part.name for part in merged.get(one.name, ())))
            if key not in seen:
                seen.add(key)
                yield comparison, one


def curve_rows(experiments: Sequence[ExperimentFacts]) -> Iterator[list[object]]:
    """Yield a header, then a row for each experiment and epoch: means over the runs that still train then."""
    every = dict.fromkeys(column for one in experiments for column in one.curves)
    columns = [column for column in every if column not in ("epoch", "best")]
    yield ["dataset", "experiment", "epoch", *columns]
    for one in experiments:
        longest = max((len(line) for line in one.curves.get("epoch", {}).values()), default=0)
        for epoch in range(longest):
            means: list[float | None] = []
            for column in columns:
                lines = one.curves.get(column, {}).values()
                number = Number.over(
                    [line[epoch] for line in lines if epoch < len(line) and isfinite(line[epoch])]
                )
                means.append(None if number is None else number.mean)
            yield [one.dataset, one.name, epoch + 1, *means]
