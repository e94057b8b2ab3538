"""What lies behind a section's averages: classes, speakers, confidence, shares of the modalities, missing rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.data.manifest import MODALITIES
from pipeline.data.masks import MISSING_CONDITIONS
from pipeline.reporting.comparison import FLOOR, Comparison, metric_name, signed
from pipeline.reporting.facts import ExperimentFacts
from pipeline.reporting.predictions import calibration_error
from pipeline.reporting.statistics import (
    AVERAGE,
    CONDITIONS,
    FULL,
    Number,
    Shares,
    area,
    condition_words,
    shapley,
)
from pipeline.reporting.tables import Cell, Table
from pipeline.training import metrics

DRAWN = 8  # experiments that one figure shows: as many as there are colours and markers


def drawn(comparison: Comparison, most: int = DRAWN) -> list[ExperimentFacts]:
    """Return the experiments that a figure shows, in the table's order: all, where they are few; else the baseline, the
    linear floor and the best ones by the headline's metric.
    """
    rows = comparison.rows
    if len(rows) <= most:
        return rows
    kept = {one.name for one in (comparison.baseline, comparison.floor) if one is not None}

    def reached(one: ExperimentFacts) -> float:
        number = one.scores.number(comparison.judged(one), comparison.metric)
        if number is None:
            return float("-inf")
        return -number.mean if comparison.metric in metrics.SMALLER_IS_BETTER else number.mean

    for one in sorted(rows, key=reached, reverse=True):
        if len(kept) < most:
            kept.add(one.name)
    return [one for one in rows if one.name in kept]


def left_out_words(comparison: Comparison, most: int = DRAWN) -> str:
    """Return a sentence on how many experiments a figure leaves out; empty when none."""
    count = len(comparison.rows) - most
    if count <= 0:
        return ""
    return f" The baseline, the floor and the best are drawn; {count} more stand{'s' * (count == 1)} in the table."


def groups(comparison: Comparison) -> dict[str, tuple[str, ...]]:
    """Return words -> conditions that are counted together: the six missing ones, and nothing missing; where these were
    not evaluated, the last condition alone.
    """
    found = {}
    if AVERAGE in comparison.conditions:
        found["six missing conditions"] = MISSING_CONDITIONS
    if FULL in comparison.conditions:
        found["nothing missing"] = (FULL,)
    if not found and comparison.conditions:
        last = comparison.conditions[-1]
        found[condition_words(last)] = (last,)
    return found


def _share(value: float | None) -> Cell:
    return Cell("–" if value is None or not np.isfinite(value) else f"{value:.3f}", number=True)


def class_table(comparison: Comparison) -> Table | None:
    """Return recall, precision and F1 of every class; None of a regression, or without confusion counts."""
    parts, rows = groups(comparison), []
    for one in comparison.rows:
        if not one.confusion:
            continue
        counts = {
            words: _summed(one, [c for c in conditions if c in one.confusion])
            for words, conditions in parts.items()
        }
        for place, label in enumerate(one.classes):
            cells = [Cell(one.name, flag=one.flag), Cell(label)]
            for matrix in counts.values():
                right, told, there = matrix[place, place], matrix[:, place].sum(), matrix[place].sum()
                cells += [
                    _share(right / there if there else None),
                    _share(right / told if told else None),
                    _share(2 * right / (there + told) if there + told else None),
                ]
            rows.append(cells)
    if not rows:
        return None
    return Table(
        name=f"{comparison.name}-classes",
        caption=f"Each class on {comparison.dataset.words}, all folds and runs together: recall, precision and F1 "
        f"under {' and under '.join(parts)}. A dash: the class does not occur, or was never predicted.",
        head=["experiment", "class"]
        + [
            f"{name}, {_short(words)}" if len(parts) > 1 else name
            for words in parts
            for name in ("recall", "precision", "F1")
        ],
        rows=rows,
    )


def _short(words: str) -> str:
    return {"six missing conditions": "six", "nothing missing": "full"}.get(words, words)


def _summed(one: ExperimentFacts, conditions: Sequence[str]) -> np.ndarray:
    """Return the (C, C) confusion counts of several conditions together."""
    size = len(one.classes)
    total = np.zeros((size, size))
    for condition in conditions:
        for row, label in enumerate(one.classes):
            for column, predicted in enumerate(one.classes):
                total[row, column] += one.confusion[condition].get((label, predicted), 0)
    return total


def speaker_table(comparison: Comparison, experiments: Sequence[ExperimentFacts]) -> Table | None:
    """Return a row for each speaker: the share of right predictions, or the mean absolute error of a regression; None
    when no speaker is known or no predictions were read.
    """
    speakers = {sample.id: sample.speaker for sample in comparison.dataset.samples or () if sample.speaker}
    columns: list[ExperimentFacts] = []
    values: dict[str, list[tuple[int, float]]] = {}
    words, conditions = next(iter(groups(comparison).items()), ("", ()))
    for one in experiments:
        said = one.predictions
        if said is None or not speakers:
            continue
        places = [said.conditions.index(c) for c in conditions if c in said.conditions]
        if not places:
            continue
        whose = np.array([speakers.get(name, "") for name in said.ids])
        reached = said.right[:, places].mean(axis=1)
        columns.append(one)
        for speaker in sorted(set(whose.tolist()) - {""}):
            own = whose == speaker
            values.setdefault(speaker, [(0, np.nan)] * (len(columns) - 1)).append(
                (int(own.sum()), float(reached[own].mean()))
            )
        for found in values.values():
            found += [(0, np.nan)] * (len(columns) - len(found))
    if not columns or len(values) < 2:
        return None
    what = "share of right predictions" if comparison.task == "classification" else "mean absolute error"
    spread = []
    for place, one in enumerate(columns):
        reached_by = [found[place][1] for found in values.values() if found[place][0]]
        spread.append(f"{one.name} {min(reached_by):.3f} to {max(reached_by):.3f}")
    return Table(
        name=f"{comparison.name}-speakers",
        caption=f"Each speaker of {comparison.dataset.words}: {what}, under {words}, mean over all predictions.",
        head=["speaker", "samples", *(one.name for one in columns)],
        rows=[
            [
                Cell(speaker),
                Cell(str(max(count for count, _ in found)), number=True),
                *(_share(value if count else None) for count, value in found),
            ]
            for speaker, found in sorted(values.items(), key=lambda item: _natural(item[0]))
        ],
        notes=[f"From the worst to the best speaker, or the other way of an error: {'; '.join(spread)}."],
    )


def _natural(name: str) -> tuple[int, str]:
    """Return what sorts s2 before s10."""
    return len(name), name


def calibration_table(comparison: Comparison) -> Table | None:
    """Return how sure the predictions are and how often right; None of a regression, or without predictions."""
    parts, rows = groups(comparison), []
    for one in comparison.rows:
        said = one.predictions
        if said is None or not said.classes:
            continue
        cells = [Cell(one.name, flag=one.flag)]
        for conditions in parts.values():
            bins = said.bins[[said.conditions.index(c) for c in conditions if c in said.conditions]].sum(
                axis=0
            )
            total = bins[:, 0].sum()
            cells += [
                _share(calibration_error(bins) if total else None),
                _share(bins[:, 1].sum() / total if total else None),
                _share(bins[:, 2].sum() / total if total else None),
            ]
        rows.append(cells)
    if not rows:
        return None
    return Table(
        name=f"{comparison.name}-calibration",
        caption=f"How far confidence is from the truth on {comparison.dataset.words}: expected calibration error "
        "(ECE, 15 bins of equal width; 0 is perfect), mean confidence and the share that is right, all folds and runs "
        "together.",
        head=["experiment"]
        + [
            f"{name}, {_short(words)}" if len(parts) > 1 else name
            for words in parts
            for name in ("ECE", "confidence", "right")
        ],
        rows=rows,
    )


def guess(one: ExperimentFacts, metric: str) -> float | None:
    """Return what always saying the same reaches: the most frequent class, or of a regression the median score; None
    where the truth is not known.
    """
    if metric in metrics.CLASS_METRICS and one.confusion:
        conditions = [c for c in (FULL, *one.confusion) if c in one.confusion]
        support = _summed(one, conditions[:1]).sum(axis=1)
        matrix = np.zeros((len(support), len(support)), np.int64)
        matrix[:, support.argmax()] = support
        return float(metrics.CLASS_METRICS[metric](matrix))
    if one.predictions is None or one.predictions.classes:
        return None
    truth = one.predictions.truth
    wanted = one.scale.metrics
    if metric not in wanted:
        return None
    return metrics.of_scores(truth, np.full(len(truth), np.median(truth)), {metric: wanted[metric]})[metric]


def shares_of(comparison: Comparison, one: ExperimentFacts, metric: str) -> tuple[float, Shares] | None:
    """Return the guess and the modalities' Shapley shares of an experiment; None without all seven conditions."""
    reached = {c: number.mean for c in CONDITIONS if (number := one.scores.number(c, metric)) is not None}
    least = guess(one, metric)
    if least is None:
        return None
    found = shapley(reached, least, -1 if metric in metrics.SMALLER_IS_BETTER else 1)
    return None if found is None else (least, found)


def shares_table(comparison: Comparison) -> Table | None:
    """Return what each modality contributes, by Shapley values; None when no experiment has all seven conditions."""
    rows = []
    for metric in comparison.open_metrics:
        for one in comparison.rows:
            found = shares_of(comparison, one, metric)
            if found is None:
                continue
            least, own = found
            rows.append(
                [
                    Cell(metric_name(metric)),
                    Cell(one.name, flag=one.flag),
                    Cell(f"{least:.3f}", number=True),
                    *(Cell(signed(own.values[m]), number=True) for m in MODALITIES),
                    *(Cell(f"{own.shares[m]:.0%}" if own.shares else "–", number=True) for m in MODALITIES),
                    Cell("–" if own.entropy is None else f"{own.entropy:.2f}", number=True),
                ]
            )
    if not rows:
        return None
    return Table(
        name=f"{comparison.name}-shares",
        caption=f"What each modality contributes on {comparison.dataset.words}: Shapley values over the seven "
        "conditions, above always guessing the most frequent class (of scores: the median). Ours, no paper's.",
        head=["metric", "experiment", "guess", *MODALITIES, *(f"{m}, share" for m in MODALITIES), "evenness"],
        rows=rows,
        notes=[
            "A modality's value is the mean, over the orders in which the three may come, of what it adds to those "
            "before it; the three values add up to what all of them reach above the guess. Shares take a value below 0 "
            "as 0. Evenness: the entropy of the shares over ln 3, 1 where each gives a third, 0 where one gives all."
        ],
    )


def families(comparison: Comparison) -> dict[str, dict[float, str]]:
    """Return family of masks -> rate -> condition, of those that were evaluated under two rates or more."""
    found: dict[str, dict[float, str]] = {}
    for mask in comparison.dataset.masks:
        if mask.settings.family and mask.settings.rate is not None and mask.name in comparison.conditions:
            found.setdefault(mask.settings.family, {})[mask.settings.rate] = mask.name
    return {name: dict(sorted(rates.items())) for name, rates in found.items() if len(rates) > 1}


def area_under(one: ExperimentFacts, rates: Mapping[float, str], metric: str) -> Number | None:
    """Return the area under an experiment's curve over the rates, as its mean height: over the (fold, run) that were
    evaluated under all of them.
    """
    by_rate = {rate: one.scores.of(condition, metric) for rate, condition in rates.items()}
    keys = set.intersection(*(set(values) for values in by_rate.values()))
    areas = [area({rate: values[key] for rate, values in by_rate.items()}) for key in sorted(keys)]
    return Number.over([value for value in areas if value is not None])


def rate_tables(comparison: Comparison) -> list[Table]:
    """Return a table for each family of masks: every rate, and the area under the curve."""
    found = []
    for family, rates in families(comparison).items():
        rows = []
        for metric in comparison.metrics:
            areas = {one.name: area_under(one, rates, metric) for one in comparison.rows}
            known = [round(number.mean, 3) for number in areas.values() if number is not None]
            top = (min if metric in metrics.SMALLER_IS_BETTER else max)(known) if known else None
            for one in comparison.rows:
                number = areas[one.name]
                if number is None:
                    continue
                cells = [one.scores.number(condition, metric) for condition in rates.values()]
                rows.append(
                    [
                        Cell(metric_name(metric)),
                        Cell(one.name, flag=one.flag),
                        *(_with_interval(cell) for cell in cells),
                        _with_interval(number, best=len(known) > 1 and round(number.mean, 3) == top),
                    ]
                )
        if rows:
            found.append(
                Table(
                    name=f"{comparison.name}-rates-{family}",
                    caption=f"Rates of the masks {family} on {comparison.dataset.words}: mean ± half of its 95 % "
                    f"interval over {comparison.unit}. Area: under the curve over the rates, as its mean height.",
                    head=["metric", "experiment", *(f"{rate:g}" for rate in rates), "area"],
                    rows=rows,
                    notes=[
                        "The interval is of the t-distribution over folds and runs; folds share training data, so it "
                        "is somewhat too narrow."
                        if any(len(one.scores.values) > 1 for one in comparison.evaluated)
                        else "A single fold and seed: there is no interval."
                    ],
                )
            )
    return found


def _with_interval(number: Number | None, best: bool = False) -> Cell:
    if number is None:
        return Cell("–", number=True)
    half = number.half_width
    return Cell(f"{number.mean:.3f}", spread="" if half is None else f"{half:.3f}", best=best, number=True)


def floor_words(comparison: Comparison) -> str:
    """Return a sentence on who is below the linear floor by the headline's metric."""
    if comparison.floor is None:
        return f"No linear floor: train an experiment with model: {FLOOR} on this data, to know what is to be beaten."
    below = [
        one.name
        for one in comparison.evaluated
        if comparison.below_floor(one, comparison.judged(one), comparison.metric)
    ]
    others = [one for one in comparison.evaluated if one.name != comparison.floor.name]
    if not others:
        return ""
    name, words = comparison.floor.name, metric_name(comparison.metric)
    if not below:
        return f"None of {len(others)} is below the linear floor {name} ({words})."
    listed = ", ".join(below[:6]) + (f" and {len(below) - 6} more" if len(below) > 6 else "")
    return f"Below the linear floor {name} ({words}): {listed}."
