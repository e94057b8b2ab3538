"""The report's figures, as SVG and PDF: results by condition, learning curves, curves over rates, calibration.

Equal data give equal bytes: ids are hashed with a fixed salt and no date is written. Text stays text. A
figure is drawn once with marker colours, which :func:`inline` turns into the page's own (so that it follows
a dark theme), :func:`standalone` into fixed ones for a file of its own, and :func:`pdf` into the same for a paper.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from pipeline.data.shown import without_controls

# Colours of the light page. A series' colour is told apart without hue as well: each has its own marker.
INK, MUTED, GRID, PAPER = "#1b1f24", "#5b636d", "#d9dde2", "#ffffff"
SERIES = ("#68707b", "#b4570a", "#0b63a5", "#107a5a", "#8a3f9e", "#b3243f", "#5f6b00", "#00727f")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p")
_ROLES = {"ink": INK, "muted": MUTED, "grid": GRID, "paper": PAPER} | {
    f"s{index}": colour for index, colour in enumerate(SERIES)
}
_DARK = {"ink": "#e9ebee", "muted": "#a2aab4", "grid": "#343a41", "paper": "#14171a"} | {
    f"s{index}": colour
    for index, colour in enumerate(
        ("#a4adb8", "#ef9a4c", "#6fb4f0", "#4fc49a", "#c58ad6", "#f07f92", "#b9c653", "#4cc3d0")
    )
}
MOST_LINES = 12  # thin lines in a panel of learning curves; of more their range is drawn
# What is drawn: colours that occur nowhere else, so that they can be replaced in the text of the SVG.
_DRAWN = {role: f"#7e57{index:02x}" for index, role in enumerate(_ROLES)}


class Svg(str):
    """The text of an SVG, with the figure that it was drawn from: the same can be written as PDF."""

    __slots__ = ("figure",)

    def __new__(cls, text: str, figure: Any) -> Svg:
        """Take the text and matplotlib's figure."""
        made = super().__new__(cls, text)
        made.figure = figure
        return made

    figure: Any


@dataclass(frozen=True)
class Line:
    """One experiment's curve.

    Attributes:
        place: which colour and marker it has.
        x, y: its points, of one length.
        half: half of the band around each y; None where there is none.
    """

    place: int
    x: Sequence[float]
    y: Sequence[float]
    half: Sequence[float | None] = ()


@dataclass(frozen=True)
class Series:
    """One experiment's numbers over the conditions.

    Attributes:
        name: what the legend says.
        place: which colour and marker it has.
        means: condition -> mean; a condition that was not evaluated is absent.
        deviations: condition -> standard deviation, or absent where there is a single number.
    """

    name: str
    place: int
    means: Mapping[str, float]
    deviations: Mapping[str, float] = field(default_factory=dict)


def by_condition(
    series: Sequence[Series],
    conditions: Mapping[str, str],
    metric: str,
    chance: float | None,
    width_px: int,
    rule: str = "",
    legend: bool = False,
) -> str:
    """Return a dot plot: a row for each condition, a dot and a deviation bar for each experiment.

    Args:
        series: the experiments, from top to bottom within a row.
        conditions: key -> what the axis says, from top to bottom.
        metric: the label of the value axis.
        chance: where a guess would be, or None.
        width_px: the width the page shows it at.
        rule: the condition above which a line is drawn, to set off the sums; or none.
        legend: whether to draw one; the page has its own.
    """
    rows = len(conditions)
    step = min(0.22, 0.66 / max(len(series), 1))
    row_px = max(30, 11 * len(series) + 12)
    places = {one.name: one.place for one in series} if legend else {}
    height_px = rows * row_px + 58 + _legend_px(list(places), width_px)
    figure, axes = _axes(width_px, height_px)
    for position, key in enumerate(conditions):
        if position % 2 == 0:  # a band, so that the eye stays in the row
            axes.axhspan(position - 0.5, position + 0.5, color=_DRAWN["grid"], alpha=0.28, lw=0)
        if key == rule:
            axes.axhline(position - 0.5, color=_DRAWN["muted"], lw=0.8)
        for index, one in enumerate(series):
            if key not in one.means:
                continue
            y = position + (index - (len(series) - 1) / 2) * step
            colour = _DRAWN[f"s{one.place % len(SERIES)}"]
            spread = one.deviations.get(key)
            if spread:
                mean = one.means[key]
                axes.plot([mean - spread, mean + spread], [y, y], color=colour, lw=1.6, alpha=0.45, zorder=2)
            axes.plot(
                [one.means[key]],
                [y],
                MARKERS[one.place % len(MARKERS)],
                color=colour,
                ms=6,
                mec=_DRAWN["paper"],
                mew=0.8,
                zorder=3,
            )
    if chance is not None:
        axes.axvline(chance, color=_DRAWN["muted"], lw=1, ls=(0, (2, 3)), zorder=1)
        axes.annotate(
            "chance",
            (chance, rows - 0.5),
            (3, 3),
            textcoords="offset points",
            color=_DRAWN["muted"],
            fontsize=10,
            va="bottom",
        )
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_yticks(range(rows), list(conditions.values()), fontsize=12, color=_DRAWN["ink"])
    axes.tick_params(axis="y", length=0, pad=8)
    axes.xaxis.grid(True, color=_DRAWN["grid"], lw=0.8)
    axes.set_xlabel(metric, color=_DRAWN["muted"], fontsize=11)
    if legend:
        _legend(figure, places, width_px)
    return _svg(figure)


def curves(
    panels: Sequence[tuple[str, Mapping[str, Sequence[float]]]],
    colour: int,
    width_px: int = 300,
    height_px: int = 250,
) -> str:
    """Return learning curves: one panel below the other over a shared epoch axis.

    Args:
        panels: (label, {fold and run: values, one an epoch}); a NaN leaves a gap. The heavy line is the mean
            over what still ran at that epoch. Of more than MOST_LINES lines their range is drawn, not each.
        colour: the experiment's place among the series.
        width_px: the width the page shows it at.
        height_px: its height.
    """
    figure, axes = _axes(width_px, height_px, rows=len(panels))
    every = [axes] if len(panels) == 1 else list(axes)
    shade = _DRAWN[f"s{colour % len(SERIES)}"]
    for place, (label, lines) in zip(every, panels, strict=True):
        longest = max((len(line) for line in lines.values()), default=0)
        at = [[line[e] for line in lines.values() if e < len(line)] for e in range(longest)]
        means = [_mean(values) for values in at]
        if len(lines) > MOST_LINES:
            finite = [[value for value in values if math.isfinite(value)] or [math.nan] for values in at]
            low, high = [min(values) for values in finite], [max(values) for values in finite]
            place.fill_between(range(1, longest + 1), low, high, color=shade, alpha=0.2, lw=0)
        else:
            for line in lines.values():
                marker = "." if len(line) == 1 else ""
                place.plot(range(1, len(line) + 1), line, color=shade, lw=0.8, alpha=0.35, marker=marker)
        place.plot(range(1, longest + 1), means, color=shade, lw=2, marker="." if longest == 1 else "")
        place.yaxis.grid(True, color=_DRAWN["grid"], lw=0.8)
        place.set_title(label, loc="left", fontsize=11, color=_DRAWN["muted"], pad=4)
        place.xaxis.get_major_locator().set_params(integer=True, nbins=5)
        place.yaxis.get_major_locator().set_params(nbins=4)
    every[-1].set_xlabel("epoch", color=_DRAWN["muted"], fontsize=11)
    return _svg(figure)


def curves_together(
    panels: Sequence[tuple[str, Mapping[str, tuple[int, Sequence[Sequence[float]]]]]],
    columns: int,
    width_px: int,
    row_px: int = 190,
    legend: bool = False,
) -> str:
    """Return learning curves of several experiments, a panel a quantity, in rows of ``columns``.

    Args:
        panels: (label, {experiment: (its place among the series, lines)}); a line has a value an epoch, and the
            mean over what still ran at an epoch is drawn.
        columns: panels side by side.
        width_px: the width the page shows it at.
        row_px: the height of a row.
        legend: whether to draw one; the page has its own.
    """
    rows = -(-len(panels) // columns)
    places = {name: place for _, lines in panels for name, (place, _) in lines.items()} if legend else {}
    height_px = rows * row_px + 30 + _legend_px(list(places), width_px)
    figure, axes = _axes(width_px, height_px, rows=rows, columns=columns)
    every = [axes] if rows * columns == 1 else list(axes.flat)
    for place in every[len(panels) :]:
        place.set_visible(False)
    for place, (label, lines) in zip(every, panels, strict=False):
        for colour, values in lines.values():
            longest = max(map(len, values), default=0)
            means = [_mean([line[e] for line in values if e < len(line)]) for e in range(longest)]
            place.plot(
                range(1, longest + 1),
                means,
                color=_DRAWN[f"s{colour % len(SERIES)}"],
                lw=1.8,
                marker=MARKERS[colour % len(MARKERS)],
                markevery=max(1, longest // 8),
                ms=4,
            )
        place.yaxis.grid(True, color=_DRAWN["grid"], lw=0.8)
        place.set_title(label, loc="left", fontsize=11, color=_DRAWN["muted"], pad=4)
        place.xaxis.get_major_locator().set_params(integer=True, nbins=5)
        place.yaxis.get_major_locator().set_params(nbins=4)
    every[len(panels) - 1].set_xlabel("epoch", color=_DRAWN["muted"], fontsize=11)
    if legend:
        _legend(figure, places, width_px)
    return _svg(figure)


def lines(
    panels: Sequence[tuple[str, Mapping[str, Line]]],
    x_label: str,
    columns: int,
    width_px: int,
    row_px: int = 240,
    diagonal: bool = False,
    legend: bool = False,
) -> str:
    """Return curves of several experiments with bands around them, a panel a quantity, in rows of ``columns``.

    Args:
        panels: (label, {experiment: its curve}).
        x_label: what the horizontal axis is.
        columns: panels side by side.
        width_px: the width the page shows it at.
        row_px: the height of a row.
        diagonal: whether to draw where x and y are equal, and both axes from 0 to 1.
        legend: whether to draw one; the page has its own.
    """
    rows = -(-len(panels) // columns)
    places = {name: line.place for _, found in panels for name, line in found.items()} if legend else {}
    height_px = rows * row_px + 30 + _legend_px(list(places), width_px)
    figure, axes = _axes(width_px, height_px, rows=rows, columns=columns)
    every = [axes] if rows * columns == 1 else list(axes.flat)
    for place in every[len(panels) :]:
        place.set_visible(False)
    for place, (label, found) in zip(every, panels, strict=False):
        if diagonal:
            place.plot([0, 1], [0, 1], color=_DRAWN["muted"], lw=1, ls=(0, (2, 3)), zorder=1)
            place.set_xlim(0, 1)
            place.set_ylim(0, 1)
        for line in found.values():
            colour = _DRAWN[f"s{line.place % len(SERIES)}"]
            if line.half and all(half is not None for half in line.half):
                halves = [half or 0.0 for half in line.half]
                low = [y - half for y, half in zip(line.y, halves, strict=True)]
                high = [y + half for y, half in zip(line.y, halves, strict=True)]
                place.fill_between(line.x, low, high, color=colour, alpha=0.14, lw=0)
            marker = MARKERS[line.place % len(MARKERS)]
            place.plot(line.x, line.y, color=colour, lw=1.8, marker=marker, ms=4.5, mew=0)
        place.yaxis.grid(True, color=_DRAWN["grid"], lw=0.8)
        place.set_title(label, loc="left", fontsize=11, color=_DRAWN["muted"], pad=4)
        place.set_xlabel(x_label, color=_DRAWN["muted"], fontsize=11)
    if legend:
        _legend(figure, places, width_px)
    return _svg(figure)


def embeddings(
    panels: Sequence[tuple[str, Mapping[str, tuple[Sequence[float], Sequence[float], bool]]]],
    width_px: int,
    height_px: int = 380,
) -> str:
    """Return points in the plane, a panel for each speaker, side by side (MMIN Figure 3).

    Args:
        panels: (title, {label: (x, y, imagined)}); a label and the same with imagined share a colour, in the
            order in which the true ones come: filled where true, hollow where imagined.
        width_px: the width the page shows it at.
        height_px: its height.
    """
    figure, axes = _axes(width_px, height_px, columns=len(panels))
    for place, (title, groups) in zip([axes] if len(panels) == 1 else list(axes), panels, strict=True):
        seen: dict[bool, int] = {True: 0, False: 0}
        for label, (x, y, imagined) in groups.items():
            index = seen[imagined]
            seen[imagined] += 1
            colour = _DRAWN[f"s{(index + 1) % len(SERIES)}"]
            face = "none" if imagined else colour
            place.plot(
                x,
                y,
                MARKERS[index % len(MARKERS)],
                mfc=face,
                mec=colour,
                mew=1,
                ms=5,
                alpha=0.75,
                label=label,
            )
        place.set_title(title, loc="left", fontsize=11, color=_DRAWN["muted"], pad=4)
        place.set_xticks([])
        place.set_yticks([])
    handles, labels = place.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(labels) if width_px > 500 else 2, frameon=False,
        fontsize=11, labelcolor=_DRAWN["ink"], handletextpad=0.2,
    )  # fmt: skip
    return _svg(figure)


def inline(svg: str, prefix: str, title: str, description: str) -> str:
    """Return the SVG as an element for a page: its colours are the page's, its ids are its own, it is
    described.

    Args:
        svg: what one of the drawing functions returned.
        prefix: a name that no other figure of the page has; it goes before every id.
        title: the element's accessible name.
        description: what a reader who does not see it should know.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<(metadata|style)\b.*?</\1>", "", body, flags=re.S)
    body = body.replace("'DejaVu Sans', sans-serif", "inherit")
    body = (
        re.sub(r'\s(xmlns(:\w+)?|version|width|height)="[^"]*"', "", body[: body.index(">")])
        + body[body.index(">") :]
    )
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = re.sub(r'href="#', f'href="#{prefix}-', body).replace("url(#", f"url(#{prefix}-")
    for role, drawn in _DRAWN.items():
        body = body.replace(drawn, f"var(--{role})")
    head = (
        f'<svg role="img" aria-labelledby="{prefix}-name {prefix}-words"'
        f"{body[4 : body.index('>')]}>"
        f'<title id="{prefix}-name">{escape(title)}</title>'
        f'<desc id="{prefix}-words">{escape(description)}</desc>'
    )
    return head + body[body.index(">") + 1 :]


def standalone(svg: str) -> str:
    """Return the SVG for a file of its own, in the light page's colours."""
    for role, drawn in _DRAWN.items():
        svg = svg.replace(drawn, _ROLES[role])
    return svg


def pdf(svg: str) -> bytes:
    """Return the figure as PDF in the light page's colours, its letters as an embedded TrueType font; nothing of what
    did not come from a drawing function.
    """
    import matplotlib as mpl
    from matplotlib.colors import to_hex, to_rgba

    if not isinstance(svg, Svg):
        return b""
    fixed = {drawn: _ROLES[role] for role, drawn in _DRAWN.items()}

    def changed(colour: Any) -> Any:
        known = fixed.get(to_hex(colour)) if colour is not None and str(colour) != "none" else None
        return colour if known is None else to_rgba(known, to_rgba(colour)[3])

    for artist in svg.figure.findobj():
        for name in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
            get, set_ = getattr(artist, f"get_{name}", None), getattr(artist, f"set_{name}", None)
            if get is None or set_ is None:
                continue
            colour = get()
            if getattr(colour, "ndim", 1) == 2:  # of a collection: one colour a part
                set_([changed(tuple(one)) for one in colour])
            else:
                set_(changed(colour))
    svg.figure.set_layout_engine("none")  # everything stays where it was drawn
    buffer = io.BytesIO()
    with mpl.rc_context({**_SETTINGS, "pdf.fonttype": 42}):
        svg.figure.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Creator": None})
    return buffer.getvalue()


def page_colours() -> dict[str, tuple[str, str]]:
    """Return role -> colour on a light and on a dark page."""
    return {role: (colour, _DARK[role]) for role, colour in _ROLES.items()}


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else math.nan


def _legend_columns(names: Sequence[str], width_px: int) -> int:
    """Return how many names stand side by side in a legend, by the longest."""
    longest = 55 + 7 * max(map(len, names), default=0)
    return max(1, min(len(names), width_px // longest))


def _legend_px(names: Sequence[str], width_px: int) -> int:
    """Return the height that a legend of these names takes."""
    return 12 + 20 * -(-len(names) // _legend_columns(names, width_px)) if names else 0


def _legend(figure: Any, places: Mapping[str, int], width_px: int) -> None:
    """Put a legend below the axes: for each name, by its place among the series, its line with its marker."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            color=_DRAWN[f"s{place % len(SERIES)}"],
            marker=MARKERS[place % len(MARKERS)],
            ms=5,
            lw=1.6,
            label=name,
        )
        for name, place in places.items()
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=_legend_columns(list(places), width_px),
        frameon=False,
        fontsize=11,
        labelcolor=_DRAWN["ink"],
    )


def _axes(width_px: int, height_px: int, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """Return a figure without pyplot's global state; 72 dots an inch, so that a point is a pixel of the
    page."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_px / 72, height_px / 72), dpi=72, layout="constrained")
    axes = figure.subplots(rows, columns, sharex=columns == 1)
    for place in [axes] if rows == columns == 1 else axes.flat:
        for side in ("top", "right", "left"):
            place.spines[side].set_visible(False)
        place.spines["bottom"].set_color(_DRAWN["grid"])
        place.tick_params(colors=_DRAWN["muted"], labelsize=11, length=0)
        place.set_axisbelow(True)
        place.patch.set_alpha(0)
    figure.patch.set_alpha(0)
    return figure, axes


_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lacuna",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the layout is the same everywhere
    "axes.unicode_minus": True,
    "text.parse_math": False,  # a dollar in a name is a dollar
}


def _svg(figure: Any) -> Svg:
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context(_SETTINGS):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return Svg(without_controls(buffer.getvalue()), figure)  # XML may not hold control characters
