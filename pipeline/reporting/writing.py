"""The folder data/report/: the page, its tables as csv, Markdown and LaTeX, its figures."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.data.shown import without_controls
from pipeline.params import Params
from pipeline.reporting import figures
from pipeline.reporting.comparison import (
    compare,
)
from pipeline.reporting.facts import (
    DatasetFacts,
    ExperimentFacts,
    length_table,
    mask_table,
    modality_table,
    skipped_table,
)
from pipeline.reporting.overview import overview, overview_table, summary_markdown, went_wrong
from pipeline.reporting.page import Tables, render
from pipeline.reporting.rows import condition_rows, curve_rows, result_rows
from pipeline.reporting.tables import Table


def write(
    params: Params, datasets: Sequence[DatasetFacts], experiments: Sequence[ExperimentFacts], folder: Path
) -> None:
    """Write the page, its tables and its figures into ``folder``, which is emptied first."""
    sections = [
        (section, [(part, Tables.of(params, part)) for part in section.parts])
        for section in compare(params, datasets, experiments)
    ]
    comparisons = [part for _, parts in sections for part, _ in parts]
    tables: list[Table | None] = [
        table for _, parts in sections for _, built in parts for table in built.every
    ]
    for dataset in datasets:
        tables += [
            modality_table(dataset),
            skipped_table(dataset),
            mask_table(dataset),
            length_table(dataset),
        ]
    whole = [section for section, _ in sections]
    tables.append(overview_table(overview(whole)))
    constructed = [dataset.name for dataset in datasets if dataset.constructed]
    wrong = went_wrong(datasets, experiments, whole)
    summary = summary_markdown(params.report.title, whole, constructed, wrong)
    drawn: dict[str, str] = {}
    page = render(params, datasets, experiments, sections, drawn)
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("tables", "figures"):
        (folder / part).mkdir(parents=True)
    for table in tables:
        if table is not None:
            for suffix, text in (("csv", table.to_csv()), ("md", table.to_md()), ("tex", table.to_tex())):
                (folder / "tables" / f"{table.name}.{suffix}").write_text(text, encoding="utf-8")
    for name, rows in (
        ("results", result_rows(comparisons)),
        ("conditions", condition_rows(comparisons)),
        ("learning-curves", curve_rows(experiments)),
    ):
        with (folder / "tables" / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    for name, svg in drawn.items():
        (folder / "figures" / f"{name}.svg").write_text(figures.standalone(svg), encoding="utf-8")
        (folder / "figures" / f"{name}.pdf").write_bytes(figures.pdf(svg))
    (folder / "summary.md").write_text(summary, encoding="utf-8")
    (folder / "index.html").write_text(without_controls(page), encoding="utf-8")
