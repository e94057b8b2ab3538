"""Put all results side by side on one page: ``python -m pipeline.report``.

Reads what the other stages wrote under data/ and writes data/report/::

    index.html          the page: one file, nothing fetched
    tables/<name>.csv   .md and .tex: the page's tables
    tables/results.csv  every number as data: dataset, experiment, condition, metric, mean, deviation, count
    tables/conditions.csv, tables/learning-curves.csv: means over folds and runs, for `dvc plots`
    figures/<name>.svg  the page's figures

The page has a section for each table of ``report.tables`` in params.yaml, and one a dataset for the experiments that
stand in no table. It says what is not there yet: an experiment without results, a dataset without features. Equal
inputs give equal bytes.
"""

from __future__ import annotations

import logging
from pathlib import Path

from pipeline.data.files import whole_or_nothing
from pipeline.params import Params
from pipeline.reporting.facts import gather
from pipeline.reporting.writing import write
from pipeline.stage import run_stage

DATA = Path("data")

log = logging.getLogger("lacuna")


def main(params: Params) -> None:
    """Write data/report/."""
    datasets, experiments = gather(params, DATA)
    with whole_or_nothing(DATA / "report") as beside:
        write(params, datasets, experiments, beside)
    log.info(
        "%s: %d dataset(s), %d experiment(s)", DATA / "report/index.html", len(datasets), len(experiments)
    )


if __name__ == "__main__":
    run_stage(main)
