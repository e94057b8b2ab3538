"""The data of the page's browser of predictions: samples with transcript, label, clip, and what each experiment said.

The page holds all samples of a section where they are few, else the worst: half of them by the mean loss, half by
disagreement. templates/report.js shows them, and says what a field is.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from pipeline.data.manifest import Sample
from pipeline.data.shown import without_controls
from pipeline.reporting.comparison import Comparison
from pipeline.reporting.facts import ExperimentFacts

BUDGET = 4_000_000  # bytes of the page for the predictions of all sections
LEAST_SAMPLES = 20  # that each section shows, however many there are
TRANSCRIPT = 400  # characters of a transcript
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"  # a class's letter


def browser_data(comparison: Comparison, root: Path | None, page: Path, budget: int) -> dict[str, Any] | None:
    """Return what the browser of one comparison shows; None when no predictions were read, or there are more classes
    than letters.

    Args:
        comparison: its experiments' predictions; those that are not of the first one's task and classes are left out.
        root: the folder of the dataset's media; None when params.yaml does not name it.
        page: the folder of the page, from which links to the media lead.
        budget: bytes that it may take.
    """
    shown = [one for one in comparison.evaluated if one.predictions is not None]
    shown = [one for one in shown if _kind(one) == _kind(shown[0])]
    first = shown[0].predictions if shown else None
    if first is None or len(first.classes) > len(DIGITS):
        return None
    conditions = [
        c
        for c in comparison.conditions
        if any(one.predictions is not None and c in one.predictions.conditions for one in shown)
    ]
    ids = list(dict.fromkeys(name for one in shown if one.predictions for name in one.predictions.ids))
    place = {name: index for index, name in enumerate(ids)}
    truth = np.zeros(len(ids))
    losses = np.full((len(ids), len(shown), len(conditions)), np.nan)
    said = np.full((len(ids), len(shown), len(conditions), max(1, len(first.classes))), np.nan)
    for number, one in enumerate(shown):
        found = one.predictions
        if found is None:
            continue
        rows = np.array([place[name] for name in found.ids])
        truth[rows] = found.truth
        columns = [found.conditions.index(c) for c in conditions if c in found.conditions]
        into = [index for index, c in enumerate(conditions) if c in found.conditions]
        losses[rows[:, None], number, into] = found.losses()[:, columns]
        said[rows[:, None], number, into] = found.said[:, columns]
    regression = not first.classes
    spread = disagreement(said, regression)
    loss = _mean(losses.reshape(len(ids), -1))
    each = 60 + min(TRANSCRIPT, 80) + len(shown) * (len(conditions) * (5 if not regression else 6) + 3)
    kept = _worst(loss, spread, max(LEAST_SAMPLES, budget // each))
    samples = {sample.id: sample for sample in comparison.dataset.samples or ()}
    return {
        "task": "regression" if regression else "classification",
        "classes": [without_controls(name) for name in first.classes],
        "sentiment": shown[0].scale.sentiment,
        "conditions": conditions,
        "experiments": [one.name for one in shown],
        "all": len(ids),
        "samples": [
            [
                without_controls(ids[row]),
                *_about(samples.get(ids[row]), root, page),
                round(float(truth[row]), 3) if regression else int(truth[row]),
                [_packed(said[row, number], truth[row], regression) for number in range(len(shown))],
            ]
            for row in kept
        ],
    }


def _kind(one: ExperimentFacts) -> tuple[str, ...]:
    return () if one.predictions is None else one.predictions.classes


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each row over what is a number; 0 of a row of nothing."""
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(axis=1)
    return np.divide(total, known.sum(axis=1), out=np.zeros(len(values)), where=known.any(axis=1))


def disagreement(said: NDArray[np.float64], regression: bool) -> NDArray[np.float64]:
    """Return (N,): the share of experiments and conditions that do not say what most of them say; of scores the
    standard deviation over them.

    Args:
        said: (N, E, K, C) probabilities, or (N, E, K, 1) scores; NaN where nothing was said.
        regression: which of the two.
    """
    flat = said.reshape(len(said), -1, said.shape[-1])
    if regression:
        values = flat[:, :, 0]
        mean = _mean(values)[:, None]
        return np.sqrt(_mean((values - mean) ** 2))
    known = np.isfinite(flat).all(axis=2)
    choice = np.where(known, np.nan_to_num(flat).argmax(axis=2), -1)
    votes = np.stack([(choice == c).sum(axis=1) for c in range(said.shape[-1])], axis=1)
    count = votes.sum(axis=1)
    return np.divide(count - votes.max(axis=1), count, out=np.zeros(len(said)), where=count > 0)


def _worst(loss: NDArray[np.float64], spread: NDArray[np.float64], most: int) -> list[int]:
    """Return the rows to show, worst first: all, or half by loss and half by disagreement."""
    by_loss = np.argsort(-loss, kind="stable").tolist()
    if len(by_loss) <= most:
        return by_loss
    chosen = dict.fromkeys(by_loss[: most // 2])
    for row in np.argsort(-spread, kind="stable").tolist():
        if len(chosen) >= most:
            break
        chosen.setdefault(row)
    return [row for row in by_loss if row in chosen]


def _packed(said: NDArray[np.float64], truth: float, regression: bool) -> str | list[float | None]:
    """Return what one experiment said of a sample under each condition: four characters each, the class's letter and
    the true class's probability in thousandths at most 999, ``----`` where it said nothing; of a regression a list of
    scores.
    """
    if regression:
        return [None if math.isnan(value) else round(float(value), 3) for value in said[:, 0]]
    parts = []
    for chances in said:
        if np.isnan(chances).any():
            parts.append("----")
        else:
            thousandths = min(999, round(1000 * float(chances[int(truth)])))
            parts.append(f"{DIGITS[int(chances.argmax())]}{thousandths:03d}")
    return "".join(parts)


def _about(sample: Sample | None, root: Path | None, page: Path) -> list[str]:
    """Return speaker, transcript and the link to the clip; empty where they are not known."""
    if sample is None:
        return ["", "", ""]
    text = sample.text if len(sample.text) <= TRANSCRIPT else sample.text[:TRANSCRIPT] + " …"
    return [without_controls(sample.speaker), without_controls(text), clip_link(sample, root, page)]


def clip_link(sample: Sample, root: Path | None, page: Path) -> str:
    """Return the link from the page to a sample's clip, with its times as a media fragment; empty without media."""
    path = sample.video_path or sample.audio_path
    if not path or root is None:
        return ""
    start, end = (
        (sample.start_s, sample.end_s) if sample.video_path else (sample.audio_start_s, sample.audio_end_s)
    )
    link = Path(os.path.relpath(root / path, page)).as_posix()
    times = "" if start is None else f"#t={start:g}" + ("" if end is None else f",{end:g}")
    return quote(link if link.startswith("../") else f"./{link}", safe="/") + times


def as_script(data: Mapping[str, Any] | Sequence[Any]) -> str:
    """Return data as JSON that is safe within a script element: no text in it can end the element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
