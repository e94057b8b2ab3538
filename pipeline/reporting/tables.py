"""The report's tables: one object, written as csv, Markdown and LaTeX, and shown on the page."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.data.shown import for_spreadsheet, without_controls


@dataclass(frozen=True)
class Cell:
    """One entry.

    Attributes:
        text: what it says; ``0.612``.
        spread: the deviation after a plus-minus sign, or nothing.
        mark: signs of significance, as in MMIN's Table 5.
        best: whether it is the best of its kind (set bold).
        second: whether it is the second best (underlined).
        number: whether it is a number (set to the right, with even figures).
        flag: a warning in a word or two, in red where there are colours.
        beside: what stands below it on the page alone: a paper's number and the difference from it.
    """

    text: str
    spread: str = ""
    mark: str = ""
    best: bool = False
    number: bool = False
    flag: str = ""
    beside: str = ""
    second: bool = False


@dataclass(frozen=True)
class Table:
    """A table with a caption.

    Attributes:
        name: its file's name, without a suffix.
        caption: what it shows; one sentence or two.
        head: the columns' names.
        rows: as many cells a row as there are columns.
        notes: what stands below it.
    """

    name: str
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default_factory=tuple)

    def to_csv(self) -> str:
        """Return it as csv; a deviation and the marks stand in the same field, for the eye."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([for_spreadsheet(name) for name in self.head])
        writer.writerows([[for_spreadsheet(_plain(cell, "±")) for cell in row] for row in self.rows])
        return out.getvalue()

    def to_md(self) -> str:
        """Return it as a Markdown table with its caption and notes."""
        right = [bool(self.rows) and all(row[i].number for row in self.rows) for i in range(len(self.head))]
        lines = [markdown(self.caption), "", _md_row([markdown(name) for name in self.head])]
        lines.append(_md_row(["---:" if one else "---" for one in right]))
        for row in self.rows:
            lines.append(
                _md_row(
                    [f"**{markdown(_plain(c, '±'))}**" if c.best else markdown(_plain(c, "±")) for c in row]
                )
            )
        for note in self.notes:
            lines += ["", markdown(note)]
        return "\n".join(lines) + "\n"

    def to_tex(self) -> str:
        """Return it as a LaTeX table for the package booktabs."""
        columns = "".join(
            "r" if self.rows and all(row[i].number for row in self.rows) else "l"
            for i in range(len(self.head))
        )
        flagged = any(cell.flag for row in self.rows for cell in row)
        marked = any(set(cell.mark) & {"▲", "▽"} for row in self.rows for cell in row)
        lines = [
            rf"% needs \usepackage{{booktabs{',amssymb' * marked}{',xcolor' * flagged}}}",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{_tex(self.caption)}}}",
        ]
        lines += [rf"  \begin{{tabular}}{{{columns}}}", r"    \toprule"]
        lines += [f"    {' & '.join(_tex(name) for name in self.head)} \\\\", r"    \midrule"]
        rows = [" & ".join(_tex_cell(cell) for cell in row) for row in self.rows]
        # `[` or `*` after the break of the row above would be its argument.
        lines += [f"    {'{}' if row[:1] in ('[', '*') else ''}{row} \\\\" for row in rows]
        lines += [r"    \bottomrule", r"  \end{tabular}"]
        lines += [rf"  \par\smallskip {_tex(note)}" for note in self.notes]
        lines += [r"\end{table}"]
        return "\n".join(lines) + "\n"


def _plain(cell: Cell, plus_minus: str) -> str:
    spread = f" {plus_minus} {cell.spread}" if cell.spread else ""
    flag = f" ({cell.flag})" if cell.flag else ""
    return f"{cell.text}{spread}{f' {cell.mark}' if cell.mark else ''}{flag}"


def _md_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


_MD = str.maketrans(
    {c: f"\\{c}" for c in "\\`*_{}[]<>#|~"}
    | {"\n": " ", "\r": " ", "&": "&amp;"}  # keeps markup out of a viewer
)


def markdown(text: str) -> str:
    """Return a text with every character that is markup escaped."""
    return without_controls(text).translate(_MD)


_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "▲": r"$\blacktriangle$",
        "▽": r"$\triangledown$",
        "×": r"$\times$",
        "−": r"$-$",
        "\n": " ",
        "\r": " ",
    }
    | {c: f"\\{c}" for c in "&%$#_{}"}
)


_TEX_MARKS = str.maketrans({"▲": r"\blacktriangle", "▽": r"\triangledown"})


def _tex(text: str) -> str:
    return without_controls(text).translate(_TEX)


def _tex_cell(cell: Cell) -> str:
    text = rf"\textbf{{{_tex(cell.text)}}}" if cell.best else _tex(cell.text)
    text = rf"\underline{{{text}}}" if cell.second else text
    spread = rf" {{\footnotesize $\pm$ {_tex(cell.spread)}}}" if cell.spread else ""
    mark = f"$^{{{cell.mark.translate(_TEX_MARKS)}}}$" if cell.mark else ""
    flag = rf" \textcolor{{red}}{{({_tex(cell.flag)})}}" if cell.flag else ""
    return text + spread + mark + flag
