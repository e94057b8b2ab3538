"""``lacuna dataset check NAME``: compare a dataset's files with the counts that its owner or the papers publish.

The stage ``prepare`` runs into a temporary folder: nothing below data/ changes. With --sample, features of a few clips
are extracted and kept in data/cache/, where the stages find them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands.output import say, say_json, say_rows
from pipeline.commands.parsing import Commands
from pipeline.errors import DataError, LacunaError

if TYPE_CHECKING:
    from pipeline.data.datasets.base import BaseLoader, LoaderSettings
    from pipeline.data.manifest import Sample
    from pipeline.params import Params

EPILOG = """\
Reads the dataset's files, and prints what was found, what the papers count, which files are missing and which lines
could not be read. data/README.md says how each folder must look. Features are extracted by --sample alone.

exit status: 0 when every published count is met and no file is missing (where no counts are published: and every
line could be read); else 1

examples:
  lacuna dataset check iemocap
  lacuna dataset check iemocap --all     every line of the lists
  lacuna dataset check iemocap --sample 6                   extract six clips, and say what their features look like
  lacuna dataset check iemocap --sample 6 --pictures look   and draw each of them: look/1.audio.png ...
"""
LIMIT = 20  # lines of a list that are printed without --all
HEADER = ("count", "found", "expected", "")


def add(commands: Commands) -> None:
    """Add the group ``dataset``."""
    group = commands.add_group("dataset", "Check a dataset's files before any work is done.", EPILOG)
    one = group.add("check", "Compare a dataset's files with the published counts.", EPILOG, run_check)
    one.add_argument("name", metavar="NAME", help="a dataset of params.yaml")
    one.add_argument("--all", action="store_true", help="print every line of the lists")
    one.add_argument(
        "--sample",
        type=_count,
        metavar="N",
        help="extract N clips, spread over the dataset, and look at them",
    )
    one.add_argument("--pictures", type=Path, metavar="FOLDER", help="draw each clip of --sample there")
    one.add_argument("--json", action="store_true", help="print JSON")


def run_check(options: argparse.Namespace) -> int:
    """Compare a dataset's files with the published counts; return 1 when they differ."""
    from pipeline.params import load_params
    from pipeline.training.split_check import dataset_findings

    if options.pictures and not options.sample:
        raise DataError("--pictures draws the clips of --sample; give --sample too")
    if options.sample and options.json:
        raise DataError("--json is of the counts; leave --sample out")
    params, name = load_params(), options.name
    outcome = check(
        name,
        params.loader(name),
        None if options.all else LIMIT,
        lambda samples: dataset_findings(params, name, samples),
    )
    if options.json:
        say_json(outcome.report)
    else:
        say(outcome.text)
    if options.sample:
        _look(options.name, outcome.samples, options.sample, params, options.pictures)
    return 0 if outcome.complete else 1


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f'found "{text}", expected a number from 1 on')
    return int(text)


def _look(name: str, samples: Sequence[Sample], count: int, params: Params, pictures: Path | None) -> None:
    """Extract a few clips, and print and draw what they look like."""
    from pipeline.clip_picture import draw
    from pipeline.looking import caution_lines, clip_line, look_at, sample_dataset, statistics_lines

    for modality, look in sample_dataset(name, samples, count, params):
        say()
        if isinstance(look, LacunaError):
            say(f"{modality}: {look}")
            continue
        say(f"{modality} by {look.info.extractor}: {len(look.ids)} of {len(samples)} samples")
        say_rows(
            [
                (f"  {one}", clip_line(rows, look.info.columns))
                for one, rows in zip(look.ids, look.features, strict=True)
            ]
        )
        lines = [*statistics_lines(look.columns, look.pitch), *caution_lines(look.info)]
        say_rows([(f"  {what}", found) for what, found in lines])
        if pictures is None:
            continue
        pictures.mkdir(parents=True, exist_ok=True)
        for number, (one, clip, rows) in enumerate(zip(look.ids, look.clips, look.features, strict=True), 1):
            path = pictures / f"{number}.{modality}.png"
            try:
                draw(look_at(rows, look.info, f"{one}: {modality} by {look.info.extractor}", clip), path)
            except (LacunaError, OSError) as error:
                say(f"  {path}: not drawn: {error}")
            else:
                say(f"  {path}: {one}")


@dataclass(frozen=True)
class Row:
    """One count: how many were found, and how many the source expects (None: it publishes no such count)."""

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
        rows: the table; the published counts first, then the other counts.
        text: table and lists, ready to print.
        report: everything, as prepare writes it to data/manifests/<name>.json, and "splits": what is wrong with the
            folds.
        samples: the rows of its manifest.
        complete: every published count is met and no file is missing. Where no counts are published, every line
            must also be readable (the owners' releases contain some unreadable lines, which their published
            counts leave out).
    """

    rows: tuple[Row, ...]
    text: str
    report: Mapping[str, Any]
    samples: Sequence[Sample]
    complete: bool


def check(
    name: str,
    loader: BaseLoader[LoaderSettings],
    limit: int | None = LIMIT,
    splits: Callable[[Sequence[Sample]], list[str]] = lambda _: [],
) -> Check:
    """Read a dataset's files and compare their counts with the published ones.

    Args:
        name: the dataset's name in params.yaml.
        loader: its loader (``params.loader(name)``).
        limit: how many lines of each list ``text`` has at most; None: all.
        splits: says of the samples what is wrong with the folds of params.yaml.

    Raises:
        DataError: the root does not exist, or holds another dataset.
    """
    from pipeline.data.manifest import read_manifest
    from pipeline.data.preparation import prepare

    with tempfile.TemporaryDirectory(prefix="lacuna-check-") as folder:
        report = prepare(name, loader, Path(folder), checksums=False)
        samples = read_manifest(Path(folder) / f"{name}.csv")
        report["splits"] = splits(samples)
    rows = tuple(_rows(report))
    parts = [f"{name}: {report['root']}{' (CONSTRUCTED)' if report['constructed'] else ''}"]
    if source := report["expected"].get("source"):
        parts.append(f"expected by: {source}")
    parts += ["", *_table(rows)]
    for key, title in (
        ("missing_files", "missing files"),
        ("skipped", "left out (unreadable lines, and samples that the options exclude)"),
        ("notes", "kept, but unusual"),
    ):
        parts += ["", f"{title}: {len(report[key])}", *_listed(report[key], limit)]
    parts += ["", f"splits to think about: {len(report['splits'])}"]
    parts += [f"  {finding}" for finding in report["splits"][:limit]]
    if limit is not None and len(report["splits"]) > limit:
        parts.append(f"  ... and {len(report['splits']) - limit} more (all of them: --all)")
    complete = not report["differences"] and not report["missing_files"]
    if not report["expected"]:
        complete = complete and all(finding["line"] is None for finding in report["skipped"])
    return Check(rows, "\n".join(parts), report, samples, complete)


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
