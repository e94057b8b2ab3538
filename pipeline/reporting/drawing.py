"""The page's figures of a comparison: what is drawn in each, in words as well, for a wide and for a narrow screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.reporting import figures
from pipeline.reporting.breakdown import drawn as drawn_ones
from pipeline.reporting.breakdown import families, groups, left_out_words
from pipeline.reporting.comparison import (
    Comparison,
    metric_name,
)
from pipeline.reporting.embeddings import choose_speakers, distances, plane
from pipeline.reporting.facts import (
    ExperimentFacts,
)
from pipeline.reporting.joint_space import Joint, joint_plane, silhouette
from pipeline.reporting.statistics import AVERAGE, CONDITIONS, condition_words

LEAST = 4  # samples that t-SNE can lay into the plane
PANELS = 3  # of joint representations, side by side


def result_figure(comparison: Comparison, drawn: dict[str, str]) -> dict[str, Any]:
    """Draw results by condition, once for a wide screen and once for a narrow one.

    The rates of a family of masks have curves of their own (:func:`rates_parts`) where there is something else to draw.
    """
    from markupsafe import Markup

    metric, name = comparison.metric, f"{comparison.name}-{comparison.metric}-by-condition"
    curved = {condition for rates in families(comparison).values() for condition in rates.values()}
    conditions = [c for c in comparison.conditions if c not in curved] or comparison.conditions
    series, shown = [], drawn_ones(comparison)
    for one in shown:
        numbers = {c: number for c in conditions if (number := one.scores.number(c, metric)) is not None}
        series.append(
            figures.Series(
                one.name,
                one.place,
                {c: number.mean for c, number in numbers.items()},
                {c: number.deviation for c, number in numbers.items() if number.deviation is not None},
            )
        )
    words = {c: "average of the six" if c == AVERAGE else condition_words(c) for c in conditions}
    short = {c: "average" if c == AVERAGE else " ".join(c) if c in CONDITIONS else c for c in conditions}
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
    return {**parts, "series": shown, "words": left_out_words(comparison)}


def rates_parts(comparison: Comparison, drawn: dict[str, str]) -> list[dict[str, Any]]:
    """Draw the headline's metric over the rates of each family of masks, with 95 % intervals."""
    found = []
    for family, rates in families(comparison).items():
        panels = []
        for metric in comparison.open_metrics:
            curves = {}
            for one in drawn_ones(comparison):
                known = {
                    rate: number
                    for rate, condition in rates.items()
                    if (number := one.scores.number(condition, metric)) is not None
                }
                if known:
                    numbers = known.values()
                    curves[one.name] = figures.Line(
                        one.place,
                        list(known),
                        [number.mean for number in numbers],
                        [number.half_width for number in numbers],
                    )
            if curves:
                panels.append((metric_name(metric), curves))
        if panels:
            title = f"{panels[0][0]} over the missing rate, masks {family}, on {comparison.dataset.words}"
            described = "; ".join(
                f"{name}: " + ", ".join(f"{x:g} {y:.3f}" for x, y in zip(line.x, line.y, strict=True))
                for name, line in panels[0][1].items()
            )
            name = f"{comparison.name}-rates-{family}"
            found.append(_lines_part(name, panels, "missing rate", title, described, drawn))
            found[-1] |= {
                "family": family,
                "series": drawn_ones(comparison),
                "words": left_out_words(comparison),
            }
    return found


def reliability_part(comparison: Comparison, drawn: dict[str, str]) -> dict[str, Any] | None:
    """Draw how often predictions of a confidence are right; None of a regression, or without predictions."""
    panels, shown = [], drawn_ones(comparison)
    for words, conditions in groups(comparison).items():
        curves = {}
        for one in shown:
            said = one.predictions
            if said is None or not said.classes:
                continue
            bins = said.bins[[said.conditions.index(c) for c in conditions if c in said.conditions]].sum(
                axis=0
            )
            filled = bins[bins[:, 0] > 0]
            if len(filled):
                x, y = (filled[:, 1:] / filled[:, :1]).T
                curves[one.name] = figures.Line(one.place, x.tolist(), y.tolist())
        if curves:
            panels.append((words, curves))
    if not panels:
        return None
    title = f"Reliability curves on {comparison.dataset.words}"
    described = "; ".join(
        f"{name}: " + ", ".join(f"{x:.2f} {y:.2f}" for x, y in zip(line.x, line.y, strict=True))
        for name, line in panels[0][1].items()
    )
    name = f"{comparison.name}-reliability"
    part = _lines_part(name, panels, "confidence", title, described, drawn, diagonal=True)
    return {**part, "series": shown, "words": left_out_words(comparison)}


def _lines_part(
    name: str,
    panels: Sequence[tuple[str, Any]],
    x_label: str,
    title: str,
    described: str,
    drawn: dict[str, str],
    diagonal: bool = False,
) -> dict[str, Any]:
    """Draw curves for a wide and for a narrow screen, and for a file of their own."""
    from markupsafe import Markup

    shown = {}
    for kind, width, columns in (("wide", 820, len(panels)), ("narrow", 330, 1)):
        svg = figures.lines(panels, x_label, columns, width, diagonal=diagonal)
        shown[kind] = Markup(figures.inline(svg, f"{name}-{kind}", title, described))  # noqa: S704
    drawn[name] = figures.lines(panels, x_label, len(panels), 820, diagonal=diagonal, legend=True)
    return dict(shown)


def embeddings_part(
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


def joint_parts(comparison: Comparison, drawn: dict[str, str]) -> list[dict[str, Any]]:
    """Draw the joint representations of the experiments that kept them, by class, three panels a figure.

    Of an experiment under all seven conditions text alone is drawn (UMDF Figure 6), else every mask.
    """
    from markupsafe import Markup

    panels: list[tuple[str, dict[str, Any], float | None]] = []
    for one in comparison.experiments:
        if one.joint is None or len(one.joint.ids) < LEAST:
            continue
        labels, classes = _classes_of(comparison, one, one.joint)
        shown = one.joint.vectors
        wanted = ("t",) if shown.keys() >= CONDITIONS.keys() else tuple(shown)
        for condition in wanted:
            points = joint_plane(shown[condition])
            rows = {name: [i for i, label in enumerate(labels) if label == name] for name in classes}
            groups = {c: (points[r, 0].tolist(), points[r, 1].tolist(), False) for c, r in rows.items()}
            title = one.name if len(shown) == 1 else f"{one.name}, {condition}"
            panels.append((title, groups, silhouette(shown[condition], labels)))
    found = []
    for start in range(0, len(panels), PANELS):
        row = panels[start : start + PANELS]
        said = "; ".join(
            f"{name}: {'not defined' if value is None else f'{value:.3f}'}" for name, _, value in row
        ).replace("-0.", "−0.")
        words = f"Silhouette of the classes, 1 where they lie apart, 0 where in one another: {said}."
        name = f"{comparison.name}-joint-{start // PANELS + 1}"
        title = f"t-SNE of joint representations of {'; '.join(one[0] for one in row)}"
        wide = figures.embeddings([one[:2] for one in row], 820, 300)
        drawn[name] = wide
        small = [
            figures.inline(figures.embeddings([one[:2]], 330, 280), f"{name}-{i}", title, words)
            for i, one in enumerate(row)
        ]
        found.append(
            {
                "wide": Markup(figures.inline(wide, f"{name}-wide", title, words)),  # noqa: S704
                "narrow": Markup("".join(small)),  # noqa: S704
                "words": words,
            }
        )
    return found


def _classes_of(
    comparison: Comparison, one: ExperimentFacts, joint: Joint
) -> tuple[list[str], Sequence[str]]:
    """Return the class of each sample, and all classes; of a regression the score's sign, as UMDF's figure has it."""
    if one.task == "classification":
        return [str(one.classes[label]) for label in joint.labels], [str(c) for c in one.classes]
    scores = {sample.id: sample.score or 0.0 for sample in comparison.dataset.samples or ()}
    signs = ("negative", "neutral", "positive")
    return [signs[int(np.sign(scores.get(name, 0.0))) + 1] for name in joint.ids], signs


def curves_part(comparison: Comparison, one: ExperimentFacts, drawn: dict[str, str]) -> dict[str, Any] | None:
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
    words = f"{len(one.runs)} networks, trained for {span(lengths)} epochs; the epoch that was kept: {span(kept)}."
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


def together_part(
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


def span(values: Sequence[int]) -> str:
    if not values:
        return "–"
    return str(min(values)) if min(values) == max(values) else f"{min(values)} to {max(values)}"
