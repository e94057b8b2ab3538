"""What ``lacuna dataset check NAME`` prints: does the owner's tree hold what the papers say, and what in it
is strange?

The stage ``prepare`` is run into a folder that is thrown away: nothing is extracted, nothing below data/
changes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.data.datasets.base import BaseLoader, LoaderSettings
from pipeline.prepare import prepare

HEADER = ("count", "found", "expected", "")


@dataclass(frozen=True)
class Row:
    """One count: how many were found, and how many the source expects (None: nobody says)."""

    count: str
    found: int
    expected: int | None

    @property
    def verdict(self) -> str:
        """Empty when there is nothing to compare with, else "as published" or by how much it is off."""
        if self.expected is None:
            return ""
        return "as published" if self.found == self.expected else f"{self.found - self.expected:+d}"


@dataclass(frozen=True)
class Check:
    """The outcome for one dataset.

    Attributes:
        rows: the table; the published counts first, then what else was counted.
        text: table and lists, ready to print.
        report: everything, as prepare writes it to data/manifests/<name>.json.
        complete: every published count was met and no file lacks; where nobody published counts, no line was
            unreadable (in the owners' own releases some are, and their counts are met without them).
    """

    rows: tuple[Row, ...]
    text: str
    report: Mapping[str, Any]
    complete: bool


def check(name: str, loader: BaseLoader[LoaderSettings], limit: int | None = 20) -> Check:
    """Read the owner's tree and compare.

    Args:
        name: the dataset's name in params.yaml.
        loader: its loader (``params.loader(name)``).
        limit: at most so many lines of each list are printed; None: all.

    Raises:
        DataError: the root is not there, or is not this dataset at all.
    """
    with tempfile.TemporaryDirectory(prefix="lacuna-check-") as folder:
        report = prepare(name, loader, Path(folder))
    rows = tuple(_rows(report))
    parts = [f"{name}: {report['root']}{' (CONSTRUCTED)' if report['constructed'] else ''}"]
    if source := report["expected"].get("source"):
        parts.append(f"expected by: {source}")
    parts += ["", *_table(rows)]
    for key, title in (
        ("missing_files", "files that are not there"),
        ("skipped", "left out: unreadable lines, and what the options do not ask for"),
        ("notes", "strange, but kept"),
    ):
        parts += ["", f"{title}: {len(report[key])}", *_listed(report[key], limit)]
    complete = not report["differences"] and not report["missing_files"]
    if not report["expected"]:
        complete = complete and all(finding["line"] is None for finding in report["skipped"])
    return Check(rows, "\n".join(parts), report, complete)


def _rows(report: Mapping[str, Any]) -> Iterable[Row]:
    found = {difference["count"]: difference["found"] for difference in report["differences"]}
    published = {count: number for count, number in report["expected"].items() if count != "source"}
    for count, number in published.items():
        yield Row(count, found.get(count, number), number)
    if "samples" not in published:
        yield Row("samples", report["samples"], None)
    for field in ("split", "label"):
        for value, number in report["counts"][field].items():
            if f"{field}={value}" not in published:
                yield Row(f"{field}={value}", number, None)
    for modality in ("text", "audio", "video"):
        yield Row(f"with {modality}", report["modalities"][modality], None)


def _table(rows: Sequence[Row]) -> list[str]:
    cells = [
        HEADER,
        *(
            (row.count, str(row.found), "" if row.expected is None else str(row.expected), row.verdict)
            for row in rows
        ),
    ]
    first, second, third = (max(len(line[column]) for line in cells) for column in range(3))
    return [f"{a:<{first}}  {b:>{second}}  {c:>{third}}  {d}".rstrip() for a, b, c, d in cells]


def _listed(entries: Sequence[Mapping[str, Any]], limit: int | None) -> list[str]:
    lines = []
    for entry in entries[:limit]:
        if "modality" in entry:
            lines.append(f"  {entry['file']}: the {entry['modality']} of {entry['id']}")
        else:
            line = "" if entry["line"] is None else f", line {entry['line']}"
            what = f" [{entry['entry']}]" if entry["entry"] else ""
            lines.append(f"  {entry['file']}{line}: {entry['reason']}{what}")
    if limit is not None and len(entries) > limit:
        lines.append(f"  ... and {len(entries) - limit} more (all of them: --all)")
    return lines
