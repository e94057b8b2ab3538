"""Tables as csv, Markdown and LaTeX: numbers survive, and markup in names stays text."""

from __future__ import annotations

import csv
import io
import re

import pytest

from pipeline.data.shown import for_spreadsheet, without_controls
from pipeline.reporting.tables import Cell, Table

HOSTILE = "<b>a|b</b>_100%&$\\"


def table(name: str = "plain") -> Table:
    """Return a table of one row with a number, its deviation and a mark."""
    return Table(
        name="one",
        caption=f"About {name}.",
        head=["experiment", "UA"],
        rows=[[Cell(name), Cell("0.612", spread="0.021", mark="*▲", best=True, number=True)]],
        notes=["* better."],
    )


def test_csv_reads_back() -> None:
    rows = list(csv.reader(io.StringIO(table('a,"b"').to_csv())))
    assert rows == [["experiment", "UA"], ['a,"b"', "0.612 ± 0.021 *▲"]]


def test_markdown_aligns_numbers_and_sets_the_best_bold() -> None:
    lines = table().to_md().splitlines()
    assert lines[2:5] == ["| experiment | UA |", "| --- | ---: |", "| plain | **0.612 ± 0.021 \\*▲** |"]


def test_a_flag_stands_in_every_format_and_is_red_in_latex() -> None:
    flagged = Table("one", "About it.", ["experiment"], [[Cell("plain", flag="chosen by <test>")]])
    assert list(csv.reader(io.StringIO(flagged.to_csv())))[1] == ["plain (chosen by <test>)"]
    assert flagged.to_md().splitlines()[4] == r"| plain (chosen by \<test\>) |"
    assert r"\usepackage{booktabs,xcolor}" in flagged.to_tex()
    assert r"plain \textcolor{red}{(chosen by <test>)} \\" in flagged.to_tex()
    assert "xcolor" not in table().to_tex()


def test_markdown_keeps_markup_out() -> None:
    row = table(HOSTILE).to_md().splitlines()[4]
    assert "<b>" not in row.replace("\\<", "")
    assert row.replace("\\|", "").count("|") == 3  # the pipe in the name opens no cell


def test_latex_escapes_and_balances() -> None:
    text = table(HOSTILE).to_tex()
    row = next(line for line in text.splitlines() if "0.612" in line)
    assert r"a|b</b>\_100\%\&\$\textbackslash{}" in row
    assert row.replace(r"\&", "").count("&") == 1
    assert r"\textbf{0.612} {\footnotesize $\pm$ 0.021}$^{*\blacktriangle}$" in row
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert r"\begin{tabular}{lr}" in text


def test_a_line_break_in_a_name_breaks_no_row() -> None:
    assert len(table("a\nb").to_md().splitlines()) == len(table("a b").to_md().splitlines())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("@SUM(1+1)", "'@SUM(1+1)"),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("-2+3+cmd|' /C calc'!A0", "'-2+3+cmd|' /C calc'!A0"),
        ("\t=1", "'\t=1"),
        ("\r=1", "\\r=1"),
        ("-3g5yACwYnA", "-3g5yACwYnA"),  # a video of CMU-MOSEI
        ("-0.25", "-0.25"),
        ("-1e-05", "-1e-05"),
        ("a=b", "a=b"),
        ("\x1b[2J\u202e", "\\x1b[2J\\u202e"),
    ],
)
def test_a_field_is_no_formula(text: str, expected: str) -> None:
    assert for_spreadsheet(text) == expected
    (row,) = list(csv.reader(io.StringIO(table(text).to_csv())))[1:]
    assert row[0] == expected


def test_no_kind_of_table_holds_a_control_character() -> None:
    name = "\x1b]0;x\x07\x85\x9b\u2028\u202e\ud800é"
    for text in (table(name).to_csv(), table(name).to_md(), table(name).to_tex()):
        assert not re.search("[\0-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e\ud800]", text)
        assert "é" in text and "x1b" in text
    assert without_controls("a\tb\nc") == "a\tb\nc"


@pytest.mark.parametrize("name", ["[2cm]", "*", "[x"])
def test_a_name_is_no_argument_of_the_row_above(name: str) -> None:
    assert f"    {{}}{name} & " in table(name).to_tex()
