"""A clip's features as a picture (PNG): what was extracted beside what it was extracted from.

From top to bottom, as far as there is something to show: pictures of the clip with the faces that the extractor finds
in them; the waveform with words at their times, pitch and loudness; and all columns over time, each on its own scale,
with the rows in which nothing was observed.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.data.column_statistics import pitch_columns, pitch_hz
from pipeline.data.files import whole_or_nothing
from pipeline.data.manifest import Word
from pipeline.data.shown import without_controls
from pipeline.data.store import FeatureSequence

# A column that says how loud it is, in openSMILE's sets and elsewhere; the first one counts.
_LOUDNESS = re.compile(
    r"(?i)loudness.*|pcm_(rms|log)?energy.*|pcm_intensity.*|audspec_lengthl1norm_sma|mcep_0"
)
_INK, _SOUND, _PITCH, _LOUD, _FACE, _NOTHING = (
    "#1b1f24",
    "#a4adb8",
    "#0b63a5",
    "#b4570a",
    "#4fc49a",
    "#f2c4cc",
)
WIDTH_IN, DPI = 11.0, 110
MOST_NAMED = 40  # columns whose names fit beside the picture
LONGEST = 60  # characters of a word or title


@dataclass(frozen=True)
class Shot:
    """A picture of a clip.

    Attributes:
        time_s: the row's time, seconds from the clip's beginning.
        pixels: (H, W, 3) uint8.
        faces: points (N, 2) of each face in pixels, x to the right and y down; None: where faces are is not known.
        observed: whether the store has a face there.
    """

    time_s: float
    pixels: NDArray[np.uint8]
    faces: Sequence[NDArray[np.float64]] | None
    observed: bool


@dataclass(frozen=True)
class Look:
    """What is drawn of a clip.

    Attributes:
        title: the first line.
        features: of one modality, as stored.
        columns: names of its columns.
        shots: pictures with faces.
        sound: (N,) float32 samples of the clip, or None; sound_rate_hz of them a second.
        words: with times in seconds from the clip's beginning.
    """

    title: str
    features: FeatureSequence
    columns: Sequence[str]
    shots: Sequence[Shot] = ()
    sound: NDArray[np.float32] | None = None
    sound_rate_hz: int = 16_000
    words: Sequence[Word] = field(default_factory=tuple)


def draw(look: Look, path: Path) -> None:
    """Write the picture of a clip as PNG.

    Raises:
        OSError: the file cannot be written.
    """
    named = len(look.columns) <= MOST_NAMED
    heights = [min(4.5, max(1.5, 0.17 * len(look.columns) if named else 3.5))]
    curves = bool(pitch_columns(look.columns) or _loudness(look.columns))
    heard = look.sound is not None or bool(look.words) or curves
    if heard:
        heights.insert(0, 2.0)
    if look.shots:
        heights.insert(0, 2.4)
    with mpl.rc_context({"font.size": 8, "text.parse_math": False, "axes.edgecolor": _INK}):
        figure = Figure(figsize=(WIDTH_IN, sum(heights) + 0.5 * len(heights)), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(_short(look.title, 2 * LONGEST), x=0.01, ha="left")
        grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
        places = [grid[row] for row in range(len(heights))]
        if look.shots:
            inner = places.pop(0).subgridspec(1, len(look.shots))
            for number, shot in enumerate(look.shots):
                _draw_shot(figure.add_subplot(inner[number]), shot)
        end_s = _end_s(look)
        if heard:
            _draw_sound(figure.add_subplot(places.pop(0)), look, end_s)
        _draw_columns(figure.add_subplot(places.pop(0)), look, end_s)
        with whole_or_nothing(path) as beside, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # a script that the font lacks is drawn as boxes
            figure.savefig(beside, format="png", metadata={"Software": None})


def _draw_shot(axes: Any, shot: Shot) -> None:
    axes.imshow(shot.pixels)
    for points in shot.faces or ():
        (left, top), (right, bottom) = points.min(0), points.max(0)
        axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=_FACE, lw=1)
        if len(points) > 4:
            axes.scatter(*points.T, s=1.5, color=_FACE, lw=0)
    note = ""
    if shot.faces is not None and not shot.faces:
        note = ": not found now, in the store" if shot.observed else ": no face"
    elif shot.faces and not shot.observed:
        note = ": found now, not in the store"
    axes.set_title(f"{shot.time_s:.2f} s{note}", fontsize=8)
    axes.set_axis_off()


def _draw_sound(axes: Any, look: Look, end_s: float) -> None:
    axes.set_xlim(0, end_s)
    axes.set_yticks([])
    if look.sound is not None and len(look.sound):
        times, low, high = _envelope(look.sound, look.sound_rate_hz)
        axes.fill_between(times, low, high, color=_SOUND, lw=0)
        most = max(1e-3, float(np.abs(look.sound).max()))
        axes.set_ylim(-most, most)
        axes.set_ylabel(f"sound, up to {most:.2g}")
    for index, word in enumerate(look.words):
        axes.axvspan(word.start_s, word.end_s, color=_SOUND, alpha=0.25, lw=0)
        middle, height = (word.start_s + word.end_s) / 2, 0.97 - 0.1 * (index % 2)
        axes.text(
            middle, height, _short(word.text), transform=axes.get_xaxis_transform(), ha="center", va="top"
        )
    seen = look.features.flags == 1
    for pitch in pitch_columns(look.columns)[:1]:
        hertz = pitch_hz(look.features, look.columns, pitch)
        curve = axes.twinx()
        curve.plot(look.features.times, np.where(hertz > 0, hertz, np.nan), ".", ms=3, color=_PITCH)
        curve.set_ylabel(f"{pitch} in Hz", color=_PITCH)
        curve.set_ylim(0, max(400.0, 1.1 * float(hertz.max(initial=0))))
    if (name := _loudness(look.columns)) is not None:
        values = look.features.values[:, list(look.columns).index(name)]
        curve = axes.twinx()
        curve.spines["right"].set_position(("outward", 45))
        curve.plot(look.features.times, np.where(seen, values, np.nan), color=_LOUD, lw=1)
        curve.set_ylabel(_short(name, 24), color=_LOUD)


def _draw_columns(axes: Any, look: Look, end_s: float) -> None:
    features = look.features
    if not len(features.times):
        axes.text(
            0.5, 0.5, f"nothing extracted: {_short(features.reason)}", transform=axes.transAxes, ha="center"
        )
        axes.set_xticks([])
        axes.set_yticks([])
        return
    seen = features.flags == 1
    values = features.values.T.astype(np.float64)
    low, high = (
        pick(values[:, seen], axis=1, keepdims=True) if seen.any() else np.zeros((len(values), 1))
        for pick in (np.min, np.max)
    )
    scaled = np.divide(values - low, high - low, out=np.full_like(values, 0.5), where=high > low)
    scaled[:, ~seen] = np.nan
    timed = features.times[-1] > 0
    edges = row_edges(features.times, end_s) if timed else np.arange(len(seen) + 1.0)
    colours = mpl.colormaps["viridis"].with_extremes(bad=_NOTHING)
    shown = np.ma.masked_invalid(scaled)
    axes.pcolormesh(edges, np.arange(len(values) + 1), shown, cmap=colours, vmin=0, vmax=1, rasterized=True)
    axes.set_ylim(len(values), 0)
    axes.set_xlim(0, end_s if timed else edges[-1])
    axes.set_xlabel("seconds" if timed else "rows, whose times are not known")
    if not timed and features.tokens and len(seen) <= MOST_NAMED:
        axes.set_xticks(edges[:-1] + 0.5, [_short(token, 16) for token in features.tokens], rotation=45)
    hidden = int((~seen).sum())
    axes.set_title(
        f"{len(values)} columns, each from its smallest to its largest value in the clip"
        + (f"; {hidden} of {len(seen)} rows, with nothing observed, are red" if hidden else ""),
        loc="left",
        fontsize=8,
    )
    step = max(1, -(-len(values) // (MOST_NAMED if len(values) <= MOST_NAMED else 12)))
    named = range(0, len(values), step)
    axes.set_yticks(
        [place + 0.5 for place in named], [_short(look.columns[place], 28) for place in named], fontsize=6
    )


def row_edges(times_s: NDArray[np.float32], end_s: float) -> NDArray[np.float64]:
    """Return where T rows begin and end, (T + 1,) seconds: half-way between their times.

    Args:
        times_s: (T,) the rows' times, T at least 1, not decreasing.
        end_s: where the clip ends; of a single row alone.
    """
    times = times_s.astype(np.float64)
    if len(times) == 1:
        return np.array([0.0, max(end_s, float(times[0]))])
    middles = (times[1:] + times[:-1]) / 2
    return np.concatenate([[max(0.0, 2 * times[0] - middles[0])], middles, [2 * times[-1] - middles[-1]]])


def _end_s(look: Look) -> float:
    """Return where the axes end: with the last row, word or sample."""
    times = look.features.times
    ends = [word.end_s for word in look.words]
    if look.sound is not None:
        ends.append(len(look.sound) / look.sound_rate_hz)
    if len(times) > 1:
        ends.append(float(row_edges(times, 0.0)[-1]))
    return max([*ends, 2 * float(times[0]) if len(times) == 1 else 0.0, 1e-3])


def _envelope(sound: NDArray[np.float32], rate_hz: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return times, lowest and highest samples of at most 2000 stretches."""
    stretch = max(1, len(sound) // 2000)
    cut = sound[: len(sound) // stretch * stretch].reshape(-1, stretch)
    return (np.arange(len(cut)) + 0.5) * stretch / rate_hz, cut.min(1), cut.max(1)


def _loudness(columns: Sequence[str]) -> str | None:
    return next((name for name in columns if _LOUDNESS.fullmatch(name)), None)


def _short(text: str, length: int = LONGEST) -> str:
    clean = without_controls(text).replace("\n", " ")
    return clean if len(clean) <= length else clean[: length - 1] + "…"
