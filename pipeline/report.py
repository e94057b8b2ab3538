"""Put all results side by side on one page: ``python -m pipeline.report``.

Reads what the other stages wrote under data/ and writes data/report/::

    index.html          the page: one file, no script, nothing fetched
    tables/<name>.csv   .md and .tex: the page's tables
    tables/results.csv  every number as data: dataset, experiment, condition, metric, mean, deviation, count
    tables/conditions.csv, tables/learning-curves.csv: means over folds and runs, for `dvc plots`
    figures/<name>.svg  the page's figures

The page has a section for each table of ``report.tables`` in params.yaml, and one a dataset for the experiments that
stand in no table. It says what is not there yet: an experiment without results, a dataset without features. Equal
inputs give equal bytes.
"""

from __future__ import annotations

import csv
import importlib.metadata
import json
import logging
import platform
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from pipeline.data.files import whole_or_nothing
from pipeline.data.shown import without_controls
from pipeline.data.store import Status
from pipeline.params import Params
from pipeline.reporting import figures
from pipeline.reporting.comparison import (
    METRIC_WORDS,
    Comparison,
    Section,
    compare,
    confusion_table,
    metric_name,
    needs_table,
    p_value,
    result_table,
    selection_table,
    signed,
    single_modalities,
    test_table,
    verdicts,
)
from pipeline.reporting.embeddings import choose_speakers, distances, plane
from pipeline.reporting.facts import (
    DatasetFacts,
    ExperimentFacts,
    gather,
    mask_table,
    modality_table,
    skipped_table,
)
from pipeline.reporting.published import p_value_table, published_table
from pipeline.reporting.statistics import AVERAGE, CONDITIONS, FULL, Number, condition_words, paired_test
from pipeline.reporting.tables import Table
from pipeline.stage import run_stage

DATA = Path("data")
NAMED = 20  # samples that the page names for each reason; the table in a file of its own names all
TEMPLATES = Path(__file__).parent / "reporting" / "templates"
LIBRARIES = (
    "torch",
    "numpy",
    "av",
    "opensmile",
    "librosa",
    "mediapipe",
    "transformers",
    "scikit-learn",
    "h5py",
    "dvc",
)

log = logging.getLogger("lacuna")


def main(params: Params) -> None:
    """Write data/report/."""
    datasets, experiments = gather(params, DATA)
    with whole_or_nothing(DATA / "report") as beside:
        write(params, datasets, experiments, beside)
    log.info(
        "%s: %d dataset(s), %d experiment(s)", DATA / "report/index.html", len(datasets), len(experiments)
    )


@dataclass(frozen=True)
class Tables:
    """The tables of one comparison, for the page and for files; None where there is nothing to show."""

    results: Table | None
    needs: Table | None
    tests: Table | None
    selection: Table | None
    published: Table | None
    p_values: Table | None
    confusion: Table | None

    @classmethod
    def of(cls, params: Params, comparison: Comparison) -> Tables:
        """Build the tables of a comparison."""
        evaluated = bool(comparison.evaluated)
        return cls(
            results=result_table(comparison) if evaluated else None,
            needs=needs_table(comparison),
            tests=test_table(comparison) if evaluated else None,
            selection=selection_table(comparison) if evaluated else None,
            published=published_table(params, comparison),
            p_values=p_value_table(comparison),
            confusion=confusion_table(comparison) if any(e.confusion for e in comparison.evaluated) else None,
        )


def write(
    params: Params, datasets: Sequence[DatasetFacts], experiments: Sequence[ExperimentFacts], folder: Path
) -> None:
    """Write the page, its tables and its figures into ``folder``, which is emptied first."""
    sections = [
        (section, [(part, Tables.of(params, part)) for part in section.parts])
        for section in compare(params, datasets, experiments)
    ]
    comparisons = [part for _, parts in sections for part, _ in parts]
    tables = [table for _, parts in sections for _, built in parts for table in vars(built).values()]
    for dataset in datasets:
        tables += [modality_table(dataset), skipped_table(dataset), mask_table(dataset)]
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
    (folder / "index.html").write_text(without_controls(page), encoding="utf-8")


def result_rows(comparisons: Sequence[Comparison]) -> Iterator[list[object]]:
    """Yield every number as data: a header, then a row for each dataset, experiment, condition and metric.

    An experiment that stands in several sections comes once. A row of a published table that several experiments make
    together (MCTN) comes as well as these.
    """
    yield ["dataset", "experiment", "condition", "metric", "mean", "deviation", "count", "selection"]
    for comparison, one in _each_once(comparisons, parts=True):
        for condition in comparison.conditions:
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


def render(
    params: Params,
    datasets: Sequence[DatasetFacts],
    experiments: Sequence[ExperimentFacts],
    sections: Sequence[tuple[Section, Sequence[tuple[Comparison, Tables]]]],
    drawn: dict[str, str],
) -> str:
    """Return the page, and put its figures into ``drawn``, name -> SVG."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(
        condition_words=condition_words,
        modalities=CONDITIONS,
        metric_name=metric_name,
        colours=figures.page_colours(),
    )
    return environment.get_template("report.html.j2").render(
        title=params.report.title,
        sections=[
            {
                "name": section.name,
                "title": section.title,
                "constructed": section.parts[0].dataset.constructed,
                "parts": [_part(comparison, tables, drawn) for comparison, tables in parts],
            }
            for section, parts in sections
        ],
        datasets=[_dataset_part(dataset) for dataset in datasets],
        experiments=[_experiment_part(one) for one in experiments],
        constructed=[dataset.name for dataset in datasets if dataset.constructed],
        seed=params.seed,
        versions=_versions(),
    )


@dataclass(frozen=True)
class Headline:
    """A big number at the top of a section, with its spread, its label and a note below."""

    value: str
    spread: str
    label: str
    note: str


def _headlines(comparison: Comparison) -> list[Headline]:
    """Return the numbers at the top, of the experiment that the first verdict is about."""
    judged = verdicts(comparison)
    name = judged[0].name if judged else (comparison.evaluated[0].name if comparison.evaluated else "")
    hero = next((one for one in comparison.evaluated if one.name == name), None)
    found = []
    if hero is not None:
        metric = metric_name(comparison.metric)
        note = f"{hero.name}, {hero.flag}" if hero.flag else hero.name
        shown = [(AVERAGE, "six missing conditions"), (FULL, "nothing missing")]
        if FULL not in hero.scores.conditions:
            shown = [(condition, condition_words(condition)) for condition in hero.scores.conditions]
        for condition, words in shown:
            number = hero.scores.number(condition, comparison.metric)
            if number is not None:
                spread = "" if number.deviation is None else f"{number.deviation:.3f}"
                found.append(Headline(f"{number.mean:.3f}", spread, f"{metric}, {words}", note))
        other = comparison.opponent(hero)
        if other is not None:
            judged_by = comparison.judged(hero)
            test = paired_test(hero.scores, other.scores, judged_by, comparison.metric)
            if test is not None:
                note = "no t-test" if test.p is None else p_value(test.p)
                words = "six missing conditions" if judged_by == AVERAGE else condition_words(judged_by)
                label = f"against {other.name}"
                found.insert(1, Headline(signed(test.difference), "", label, f"{words}, {note}"))
    if comparison.dataset.samples is not None:
        kind = "constructed utterances" if comparison.dataset.constructed else "utterances"
        note = f"{comparison.unit}" if comparison.evaluated else "not evaluated yet"
        found.append(Headline(f"{len(comparison.dataset.samples):,}".replace(",", "\u202f"), "", kind, note))
    return found


def _part(comparison: Comparison, tables: Tables, drawn: dict[str, str]) -> dict[str, Any]:
    """Return what the template shows of one comparison."""
    count = len(comparison.evaluated)
    cells = [row[2:] for row in tables.results.rows] if tables.results is not None else []
    return {
        "comparison": comparison,
        "name": comparison.name,
        "words": comparison.words,
        "headlines": _headlines(comparison),
        "verdicts": verdicts(comparison),
        "singles": single_modalities(comparison),
        "groups": [
            (metric, list(zip(comparison.evaluated, cells[place * count : (place + 1) * count], strict=True)))
            for place, metric in enumerate(comparison.metrics)
        ],
        "tables": tables,
        "metric_words": [(metric_name(m), METRIC_WORDS[m]) for m in comparison.metrics if m in METRIC_WORDS],
        "together": [
            part for group in curve_groups(comparison) if (part := _together_part(comparison, group, drawn))
        ],
        "by_condition": _result_figure(comparison, drawn) if comparison.evaluated else None,
        "embeddings": [part for one in comparison.real if (part := _embeddings_part(comparison, one, drawn))],
        "curves": [part for one in comparison.experiments if (part := _curves_part(comparison, one, drawn))],
        "confusions": [(one, _confusions(one, comparison)) for one in comparison.evaluated if one.confusion],
        "pending": [(one.name, one.state) for one in comparison.experiments if not one.scores.values],
    }


def _result_figure(comparison: Comparison, drawn: dict[str, str]) -> dict[str, Any]:
    """Draw results by condition, once for a wide screen and once for a narrow one."""
    from markupsafe import Markup

    metric, name = comparison.metric, f"{comparison.name}-{comparison.metric}-by-condition"
    series = []
    for one in comparison.evaluated:
        numbers = {
            c: number for c in comparison.conditions if (number := one.scores.number(c, metric)) is not None
        }
        series.append(
            figures.Series(
                one.name,
                one.place,
                {c: number.mean for c, number in numbers.items()},
                {c: number.deviation for c, number in numbers.items() if number.deviation is not None},
            )
        )
    words = {c: "average of the six" if c == AVERAGE else condition_words(c) for c in comparison.conditions}
    short = {
        c: "average" if c == AVERAGE else " ".join(c) if c in CONDITIONS else c for c in comparison.conditions
    }
    described = "; ".join(
        f"{words[c]}: " + ", ".join(f"{one.name} {one.means[c]:.3f}" for one in series if c in one.means)
        for c in words
    )
    title = f"{metric_name(metric)} by condition on {comparison.dataset.words}"
    parts = {}
    for kind, labels, width in (("wide", words, 820), ("narrow", short, 330)):
        svg = figures.by_condition(series, labels, metric_name(metric), comparison.chance, width, AVERAGE)
        parts[kind] = Markup(figures.inline(svg, f"{comparison.name}-{kind}", title, described))  # noqa: S704
    drawn[name] = figures.by_condition(
        series, words, metric_name(metric), comparison.chance, 820, AVERAGE, legend=True
    )
    return {**parts, "series": comparison.evaluated}


def _embeddings_part(
    comparison: Comparison, one: ExperimentFacts, drawn: dict[str, str]
) -> dict[str, Any] | None:
    """Draw true and imagined embeddings; None when none were kept or no speaker has a known gender."""
    from markupsafe import Markup

    if not one.embeddings:
        return None
    speakers = choose_speakers(comparison.dataset.samples or (), one.embeddings["ids"].tolist())
    if not speakers:
        return {
            "experiment": one,
            "wide": "",
            "narrow": "",
            "words": "No speaker's gender is known: there is no figure.",
        }
    panels = [(title, plane(one.embeddings, rows)) for title, rows in speakers]
    words = []
    for title, rows in speakers:
        parts = (f"{m} {value:.2f}" for m, value in distances(one.embeddings, rows).items())
        words.append(f"{title} ({len(rows)} samples): {', '.join(parts)}")
    said = (
        "Error of the imagined embeddings over that of guessing the speaker's mean embedding, so that 1 is no "
        f"better than the mean: {'; '.join(words)}."
    )
    if without := len(one.embeddings["left_out"]):
        said += f" {without} test samples that lack a modality in the recording are left out."
    name = f"{comparison.name}-{one.name}-embeddings"
    title = f"t-SNE of true and imagined embeddings of {one.name}"
    shown = {}
    for kind, width in (("wide", 820), ("narrow", 330)):
        svg = figures.embeddings(panels, width, 380 if kind == "wide" else 300)
        shown[kind] = Markup(figures.inline(svg, f"{name}-{kind}", title, said))  # noqa: S704
        if kind == "wide":
            drawn[name] = svg
    return {"experiment": one, "words": said, **shown}


def _curves_part(
    comparison: Comparison, one: ExperimentFacts, drawn: dict[str, str]
) -> dict[str, Any] | None:
    """Draw one experiment's learning curves; None when there are none."""
    from markupsafe import Markup

    metric = f"valid_{comparison.metric}"
    wanted = (("train_loss", "training loss"), (metric, f"validation {metric_name(comparison.metric)}"))
    panels = [
        (label, {str(k): v for k, v in one.curves[column].items()})
        for column, label in wanted
        if column in one.curves
    ]
    if not panels:
        return None
    name = f"{comparison.name}-{one.name}-learning-curves"
    svg = figures.curves(panels, one.place)
    drawn[name] = svg
    kept = [int(run["best_epoch"]) for run in one.runs.values() if "best_epoch" in run]
    lengths = [len(line) for line in one.curves[wanted[0][0]].values()] if wanted[0][0] in one.curves else []
    words = f"{len(one.runs)} networks, trained for {_span(lengths)} epochs; the epoch that was kept: {_span(kept)}."
    title = f"Learning curves of {one.name}"
    return {
        "experiment": one,
        "svg": Markup(figures.inline(svg, name, title, words)),  # noqa: S704
        "words": words,
    }


def curve_groups(comparison: Comparison) -> list[list[ExperimentFacts]]:
    """Return the experiments whose curves stand in one figure: one, and those that are tested against it."""
    groups: dict[str, list[ExperimentFacts]] = {}
    for one in comparison.experiments:
        groups.setdefault(comparison.against.get(one.name, one.name), []).append(one)
    return [group for group in groups.values() if sum(bool(one.curves) for one in group) > 1]


def _together_part(
    comparison: Comparison, group: Sequence[ExperimentFacts], drawn: dict[str, str]
) -> dict[str, Any] | None:
    """Draw the learning curves of several experiments in one figure (M3S Figures 1, 3, 4)."""
    from markupsafe import Markup

    trained = [one for one in group if one.curves]
    wanted = ("loss", "ua", "weighted_f1") if trained[0].task == "classification" else ("loss", "r")
    panels = []
    for metric in wanted:
        for part, words in (("valid", "validation"), ("test", "test")):
            lines = {
                one.name: (one.place, list(one.curves[f"{part}_{metric}"].values()))
                for one in trained
                if f"{part}_{metric}" in one.curves
            }
            if lines:
                panels.append((f"{words} {metric_name(metric)}", lines))
    if not panels:
        return None
    name = f"{comparison.name}-{trained[0].name}-and-others-curves"
    watched = any(label.startswith("test") for label, _ in panels)
    words = "Means over the folds and runs that still train. "
    if watched:
        chosen = [one.name for one in trained if one.flag]
        words += "The test part's curves are for this figure alone: validation decides which epoch is kept"
        words += f", but for {', '.join(chosen)}, chosen by test. " if chosen else ". "
    masks = dict.fromkeys(mask for one in trained for mask in one.masks(comparison.dataset))
    if masks:
        words += (
            f"Validation{' and test' if watched else ''} under the masks of training: {', '.join(masks)}."
        )
    names = ", ".join(one.name for one in trained)
    shown = {}
    for kind, width, columns in (("wide", 820, 2 if watched else len(panels)), ("narrow", 330, 1)):
        svg = figures.curves_together(panels, columns, width)
        title = f"Learning curves of {names}"
        shown[kind] = Markup(figures.inline(svg, f"{name}-{kind}", title, words))  # noqa: S704
    drawn[name] = figures.curves_together(panels, 2 if watched else len(panels), 820, legend=True)
    return {"experiments": trained, "words": words.strip(), **shown}


def _span(values: Sequence[int]) -> str:
    if not values:
        return "–"
    return str(min(values)) if min(values) == max(values) else f"{min(values)} to {max(values)}"


def _confusions(one: ExperimentFacts, comparison: Comparison) -> list[dict[str, Any]]:
    """Return, for each condition, rows of (label, support, shares of what was predicted)."""
    found = []
    for condition in [c for c in comparison.conditions if c in one.confusion]:
        counts, rows = one.confusion[condition], []
        for label in one.classes:
            row = [counts.get((label, predicted), 0) for predicted in one.classes]
            total = sum(row)
            rows.append((label, total, [value / total if total else 0.0 for value in row]))
        found.append({"condition": condition, "rows": rows})
    return found


def _dataset_part(dataset: DatasetFacts) -> dict[str, Any]:
    """Return what the template shows of a dataset."""
    said = dataset.said
    return {
        "facts": dataset,
        "corpus": _corpus_facts(dataset),
        "attribution": str(said.get("attribution", "")),
        "labels": Counter(sample.label or "(no label)" for sample in dataset.samples or ()).most_common(),
        "modalities": modality_table(dataset),
        "bars": [(m, [f.counts[s] for s in Status]) for m, f in dataset.features.items()],
        "skipped": skipped_table(dataset, NAMED),
        "masks": mask_table(dataset),
        "findings": {
            "Left out by the loader": [_finding(one) for one in said.get("skipped", [])],
            "Files that are not there": [_finding(one) for one in said.get("missing_files", [])],
            "Noted by the loader": [_finding(one) for one in said.get("notes", [])],
            "Counts that differ from the published ones": [
                _finding(one) for one in said.get("differences", [])
            ],
        },
    }


def _finding(one: Mapping[str, Any]) -> str:
    return "; ".join(f"{key} {value}" for key, value in one.items() if value not in (None, ""))


def _corpus_facts(dataset: DatasetFacts) -> list[tuple[str, str]]:
    """Return (name, value) of what the manifest holds."""
    if dataset.samples is None:
        return [("state", "not prepared yet")]
    samples = dataset.samples
    facts = [("samples", str(len(samples)))]
    for name in ("speaker", "session", "dialogue"):
        values = {getattr(sample, name) for sample in samples} - {""}
        if values:
            facts.append((f"{name}s", str(len(values))))
    for name, word in (
        ("text", "with a transcript"),
        ("audio_path", "with a sound file"),
        ("video_path", "with a picture file"),
    ):
        facts.append((word, str(sum(bool(getattr(sample, name)) for sample in samples))))
    scores = [sample.score for sample in samples if sample.score is not None]
    if scores:
        facts.append(("scores", f"{min(scores):.2f} to {max(scores):.2f}".replace("-", "−")))
    return facts


def _experiment_part(one: ExperimentFacts) -> dict[str, Any]:
    """Return what the template shows of how an experiment was made."""
    runs = list(one.runs.values())
    first = runs[0] if runs else {}
    networks: list[dict[str, Any]] = []
    network: Mapping[str, Any] | None = one.trained
    while network is not None:
        networks.append({key: value for key, value in network.items() if key != "pretraining"})
        network = network["pretraining"]
    return {
        "facts": one,
        "parameters": f"{first['parameters']:,}".replace(",", "\u202f") if "parameters" in first else "–",
        "seeds": ", ".join(map(str, sorted({int(run["seed"]) for run in runs}))) or "–",
        "epochs": _span([int(run["epochs"]) for run in runs if "epochs" in run]),
        "kept": _span([int(run["best_epoch"]) for run in runs if "best_epoch" in run]),
        "folds": [(run["fold"], run["description"], run["samples"]) for run in runs if run.get("run") == 1],
        "left_out": dict(one.summary.get("left_out", {})),
        "settings": [json.dumps(network, indent=2, ensure_ascii=False) for network in networks],
    }


def _versions() -> list[tuple[str, str]]:
    """Return (library, version) of the libraries in use."""
    found = [("Lacuna", _version("lacuna")), ("Python", platform.python_version())]
    return found + [(name, _version(name)) for name in LIBRARIES]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    run_stage(main)
