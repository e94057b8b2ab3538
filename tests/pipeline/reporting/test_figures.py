"""Figures: the same bytes twice, every dot where its number is, and nothing a page cannot hold."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from pipeline.reporting import figures

SERIES = [
    figures.Series("first", 0, {"a": 0.4, "b": 0.5}, {"a": 0.02}),
    figures.Series("second", 1, {"a": 0.6}),
]


def draw() -> str:
    return figures.by_condition(SERIES, {"a": "audio & <only>", "b": "b"}, "UA", 0.25, 340)


def test_equal_numbers_are_equal_bytes_and_others_are_not() -> None:
    assert draw() == draw()
    other = [figures.Series("first", 0, {"a": 0.41, "b": 0.5}), SERIES[1]]
    assert figures.by_condition(other, {"a": "a", "b": "b"}, "UA", 0.25, 340) != draw()


def test_nothing_of_the_day_or_of_a_library_is_in_it() -> None:
    assert "<dc:date>" not in draw()
    assert "matplotlib.org" not in draw()


def test_every_number_that_is_there_has_its_marker() -> None:
    markers = re.findall(r"<use [^>]*>", draw())
    assert len(markers) == 3


def test_standalone_is_whole_xml_in_fixed_colours() -> None:
    svg = figures.standalone(draw())
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own bytes
    texts = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "audio & <only>" in texts
    assert "var(" not in svg
    assert figures.SERIES[1] in svg


def test_inline_belongs_to_the_page() -> None:
    part = figures.inline(draw(), "one", 'Name "<x>"', "words & more")
    other = figures.inline(draw(), "two", "n", "w")
    assert part.startswith('<svg role="img"')
    assert "http" not in part
    assert "<style" not in part
    assert "var(--s1)" in part
    assert "<x>" not in part
    ids, others = (set(re.findall(r'\bid="([^"]+)"', text)) for text in (part, other))
    assert ids
    assert not ids & others
    for reference in re.findall(r'(?:href="|url\()#([^")]+)', part):
        assert reference in ids
    ElementTree.fromstring(part.replace("xlink:href", "href"))  # noqa: S314


def test_curves_of_unequal_length_and_gaps() -> None:
    lines = {"1": [1.0, 0.5, 0.25], "2": [1.0, math.nan]}
    svg = figures.curves([("loss", lines), ("UA", {"1": [0.5]})], 2)
    assert "nan" not in svg.lower()
    assert svg == figures.curves([("loss", lines), ("UA", {"1": [0.5]})], 2)


@pytest.mark.parametrize("count", [1, 9, 17])
def test_more_experiments_than_colours(count: int) -> None:
    many = [figures.Series(f"e{i}", i, {"a": i / 20}) for i in range(count)]
    assert len(re.findall(r"<use ", figures.by_condition(many, {"a": "a"}, "UA", None, 340))) == count


def test_a_label_with_dollars_is_text() -> None:
    svg = figures.by_condition([figures.Series("x", 0, {"$a_1$": 0.5})], {"$a_1$": "$a_1$"}, "UA", None, 340)
    assert "$a_1$" in svg


def texts(svg: str) -> list[str | None]:
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own bytes
    return [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]


def height(svg: str) -> float:
    found = re.search(r'<svg [^>]*height="([\d.]+)pt"', svg)
    assert found is not None
    return float(found[1])


def test_a_figure_of_its_own_has_a_legend_and_the_pages_has_none() -> None:
    names = ["mmin-orig", "mmin-sampled", "mmin-m3s"]
    lines = {name: (place, [[1.0, 0.5 + place / 10]]) for place, name in enumerate(names)}
    panels = [("validation loss", lines), ("test loss", dict(list(lines.items())[:2]))]
    without = figures.curves_together(panels, 2, 820)
    alone = figures.standalone(figures.curves_together(panels, 2, 820, legend=True))
    assert not set(names) & set(texts(figures.standalone(without)))
    assert [text for text in texts(alone) if text in names] == names  # each once
    assert height(alone) > height(without)
    for place in range(3):  # two panels or one, and the legend
        assert alone.count(f"stroke: {figures.SERIES[place]}") > without.count(
            f"stroke: {figures.SERIES[place]}"
        )
    assert alone == figures.standalone(figures.curves_together(panels, 2, 820, legend=True))


def test_the_legend_of_results_by_condition() -> None:
    svg = figures.by_condition(SERIES, {"a": "a", "b": "b"}, "UA", None, 820, legend=True)
    assert {"first", "second"} <= set(texts(svg))
    assert not {"first", "second"} & set(texts(draw()))
    many = [figures.Series(f"e{i}", i, {"a": i / 20}) for i in range(17)]
    found = texts(figures.by_condition(many, {"a": "a"}, "UA", None, 340, legend=True))
    assert {f"e{i}" for i in range(17)} <= set(found)


@pytest.mark.filterwarnings("ignore:Glyph")  # a font has no such character; the page's reader may
def test_a_control_character_in_a_name_leaves_the_xml_whole() -> None:
    name = "a\x1b[2J\x85 <b>"
    svg = figures.by_condition([figures.Series(name, 0, {"a": 0.4})], {"a": f"{name} -->"}, "UA", None, 340)
    root = ElementTree.fromstring(figures.standalone(svg))  # noqa: S314
    texts = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "a\\x1b[2J\\x85 <b> -->" in texts
