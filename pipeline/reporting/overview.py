"""The page's first lines: of every section what was run, what is best, how far from the paper; what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.reporting.comparison import (
    Comparison,
    Section,
    lost_numbers,
    metric_name,
    p_value,
    signed,
    verdicts,
)
from pipeline.reporting.facts import DatasetFacts, ExperimentFacts
from pipeline.reporting.published import published_number
from pipeline.reporting.statistics import AVERAGE, condition_words
from pipeline.reporting.tables import Cell, Table
from pipeline.training.metrics import SMALLER_IS_BETTER


@dataclass(frozen=True)
class OverviewLine:
    """One comparison in a line.

    Attributes:
        anchor: where it stands on the page.
        title, dataset: what it is.
        done, asked: experiments with results, and all.
        best: the best experiment by the headline's metric; None without results.
        reached: its number with the metric.
        where: the condition that it was judged by, in words.
        baseline, floor, paper: how far it is above the baseline, the linear floor and the published number, or why
            that is not known.
    """

    anchor: str
    title: str
    dataset: str
    done: int
    asked: int
    best: ExperimentFacts | None
    reached: str
    where: str
    baseline: str
    floor: str
    paper: str


HEAD = (
    "section",
    "dataset",
    "experiments",
    "best",
    "reached",
    "to the baseline",
    "to the floor",
    "to the paper",
)


def best_of(comparison: Comparison) -> ExperimentFacts | None:
    """Return the experiment that is best by the headline's metric under the condition that it is judged by."""
    known = [
        (number.mean, one)
        for one in comparison.evaluated
        if (number := one.scores.number(comparison.judged(one), comparison.metric)) is not None
    ]
    if not known:
        return None
    chosen = min if comparison.metric in SMALLER_IS_BETTER else max
    return chosen(known, key=lambda pair: pair[0])[1]


def overview(sections: Sequence[Section]) -> list[OverviewLine]:
    """Return a line for each comparison of the page."""
    return [_line(section, part) for section in sections for part in section.parts]


def _line(section: Section, part: Comparison) -> OverviewLine:
    title = section.title if len(section.parts) == 1 else f"{section.title}: {part.words}"
    done = sum(bool(one.scores.values) for one in part.experiments)
    anchor = f"results-{section.name}" if len(section.parts) == 1 else f"part-{part.name}"
    about = (anchor, title, part.dataset.name, done, len(part.experiments))
    best = best_of(part)
    if best is None:
        return OverviewLine(*about, None, "no results yet", "", "–", "–", "–")
    condition, metric = part.judged(best), part.metric
    number = best.scores.number(condition, metric)
    spread = "" if number is None or number.deviation is None else f"\u00a0±\u00a0{number.deviation:.3f}"
    mean = 0.0 if number is None else number.mean
    where = "six missing conditions" if condition == AVERAGE else condition_words(condition)
    theirs = published_number(part, best, condition, metric)
    return OverviewLine(
        *about,
        best,
        f"{metric_name(metric)} {mean:.3f}{spread}",
        where,
        _above(part, best, part.opponent(best), "no baseline"),
        _above(part, best, part.floor, "no floor"),
        "no published number" if theirs is None else f"{signed(mean - theirs)} ({theirs:.3f})",
    )


def _above(part: Comparison, best: ExperimentFacts, other: ExperimentFacts | None, none: str) -> str:
    if other is None:
        return "is the baseline" if part.baseline is best and none == "no baseline" else none
    if other.name == best.name:
        return "is the floor"
    condition = part.judged(best)
    test = part.test(best, other, condition, part.metric)
    if test is None:
        return "–"
    return signed(test.difference) + ("" if test.holm is None else f", {p_value(test.holm)}")


def overview_table(lines: Sequence[OverviewLine]) -> Table:
    """Return the overview as a table, for the files."""
    return Table(
        name="overview",
        caption="What was compared, and what is best: one line a dataset and table.",
        head=HEAD,
        rows=[
            [
                Cell(line.title),
                Cell(line.dataset),
                Cell(f"{line.done} of {line.asked}", number=True),
                Cell("–") if line.best is None else Cell(line.best.name, flag=line.best.flag),
                *(
                    Cell(text)
                    for text in (
                        f"{line.reached}{', ' * bool(line.where)}{line.where}",
                        line.baseline,
                        line.floor,
                        line.paper,
                    )
                ),
            ]
            for line in lines
        ],
        notes=[
            "To the baseline and the floor: the difference, with the p-value by Holm where it was tested."
        ],
    )


def went_wrong(
    datasets: Sequence[DatasetFacts], experiments: Sequence[ExperimentFacts], sections: Sequence[Section]
) -> list[str]:
    """Return in words what failed, is not there yet, or is not a number; empty when nothing."""
    found = [f"{one.name}: {one.failure}" for one in experiments if one.failure]
    for state in ("not trained yet", "trained"):
        names = [one.name for one in experiments if one.state == state and not one.failure]
        if names:
            words = "not trained yet" if state == "not trained yet" else "trained, but not evaluated yet"
            found.append(f"{_listed(names)}: {words}.")
    for dataset in datasets:
        if dataset.samples is None:
            found.append(f"{dataset.name}: not prepared yet.")
        for modality, features in dataset.features.items():
            failed = sum(len(ids) for (status, _), ids in features.skipped.items() if status.name == "FAILED")
            if failed:
                found.append(f"{dataset.name}: {failed} sample(s) whose {modality} could not be read.")
    lost = [words for section in sections for part in section.parts for words in lost_numbers(part)]
    if lost:
        found.append(f"Not a number: {_listed(list(dict.fromkeys(lost)))}.")
    return found


def _listed(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def summary_markdown(
    title: str,
    sections: Sequence[Section],
    constructed: Sequence[str],
    wrong: Sequence[str],
) -> str:
    """Return the overview and every section's verdicts as Markdown, fit for a pull request's comment."""
    from pipeline.reporting.tables import markdown

    parts = [f"# {markdown(title)}", ""]
    if constructed:
        parts += [
            f"**Constructed corpus**: the numbers on {markdown(', '.join(constructed))} are no benchmark.",
            "",
        ]
    parts += [overview_table(overview(sections)).to_md()] if sections else ["No experiment yet.\n"]
    if wrong:
        parts += ["## What went wrong, or is not there yet", "", *(f"- {markdown(one)}" for one in wrong), ""]
    for section in sections:
        lines = [one for part in section.parts for one in verdicts(part)]
        if lines:
            parts += [f"## {markdown(section.title)}", ""]
            for one in lines:
                parts.append(f"- **{markdown(one.sentence)}** {markdown(one.detail)}")
            parts.append("")
    return "\n".join(parts).rstrip() + "\n"
