"""A dataset's manifest and the report of its counts, from what its loader yields.

The loader (pipeline/data/datasets/<loader>.py) knows the layout. This file writes and counts the samples, compares the
counts with the published ones, and lists what was skipped, with the reason, and which media files do not exist. A
sample whose file does not exist is kept: extraction gives it the status *failed*.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

from models import MODALITIES
from pipeline.data import files
from pipeline.data.datasets.base import BaseLoader, Expected, LoaderSettings
from pipeline.data.manifest import Sample, leaves_root, write_manifest
from pipeline.data.media_list import PLACES, write_list
from pipeline.errors import DataError

COUNTED = ("label", "split", "speaker", "gender", "session")
COUNTABLE = (*COUNTED, "dialogue", "picture")  # fields that a loader may expect a count of
_UNFIT = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters; bytes that are not UTF-8
NO_LABEL = ("nan", "null", "none", "na", "n/a", "<na>", "-", "?")  # how tables write that there is none
NONE = "(none)"  # counts the samples that do not say


def prepare(
    name: str,
    loader: BaseLoader[LoaderSettings],
    folder: Path,
    *,
    named: Path | None = None,
    checksums: bool = True,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Write ``folder``/<name>.csv, <name>.json and <name>.sha256; return the content of the json file.

    The last is the list of the media that the manifest names (pipeline/data/media_list.py): features depend on it and
    not on the root, so that a file that no sample names changes no features.

    Args:
        name: the dataset's name.
        loader: its loader.
        folder: the folder to write to.
        named: the root as params.yaml has it, which the json file says; None: the loader's.
        checksums: write the list as well, for which every medium is read once.
        cache: the folder that keeps the checksums of media; None: none does.

    Raises:
        DataError: the root does not exist, or the loader yields no sample, or one that a manifest cannot hold.
    """
    if not loader.root.exists():
        raise DataError(
            f"{loader.root}: not there. Write the place of your copy into datasets.{name}.root of params.yaml"
            + (", or construct it: dvc repro corpus" if loader.constructed else "")
        )
    listed = named is not None and named.parent == PLACES  # by media_list, which looks into linked folders
    if not listed and (linked := linked_folders(loader.root)):
        more = f" and {len(linked) - 1} more" if len(linked) > 1 else ""
        raise DataError(
            f"{linked[0]}{more}: found a linked folder below the dataset's root. DVC looks through links to files, "
            "and a root may be a link, but it does not look into linked folders: a changed clip would go unseen. Put a "
            "folder of links to files in its place: rm LINK && cp -rs /ITS/TARGET LINK"
        )
    counts = _Counts(loader.root)
    manifest = folder / f"{name}.csv"
    with files.together(folder) as beside:
        samples = write_manifest(beside / manifest.name, counts.watch(loader), named=manifest)
        if not samples:
            why = (
                f"; {len(loader.skipped)} left out, the first: {loader.skipped[0]}" if loader.skipped else ""
            )
            raise DataError(f"{loader.root}: found no sample of the dataset {name}{why}")
        counts.note_twins(loader)
        report = _report(name, loader, samples, counts, named or loader.root)
        text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
        (beside / f"{name}.json").write_text(text, encoding="utf-8")
        if checksums:
            write_list(beside / f"{name}.sha256", loader.root, counts.media(), cache)
    return report


def linked_folders(root: Path) -> list[Path]:
    """Return the links to folders below a root, sorted: what DVC's checksum of the root does not cover."""
    found = []
    for folder, names, _ in os.walk(root):
        found += [Path(folder, name) for name in names if os.path.islink(f"{folder}/{name}")]  # noqa: PTH114
    return sorted(found)


def _report(
    name: str, loader: BaseLoader[LoaderSettings], samples: int, counts: _Counts, root: Path
) -> dict[str, Any]:
    expected = loader.expected()
    report: dict[str, Any] = {
        "dataset": name,
        "constructed": loader.constructed,
        "attribution": loader.attribution,
        "root": root.as_posix(),
        "samples": samples,
        "counts": {field: counts.of(field) for field in COUNTED},
        "modalities": counts.on_paper(),
        "expected": {"source": expected.source, **expected.counts} if expected else {},
        "differences": counts.differences(expected) if expected else [],
        "missing_files": counts.missing_files,
        "skipped": [dataclasses.asdict(finding) for finding in loader.skipped],
        "notes": [dataclasses.asdict(finding) for finding in loader.notes],
    }
    if loader.scores:
        report["score_limit"] = loader.score_limit
    if loader.ranges:
        report["ranges"] = {name: list(ends) for name, ends in loader.ranges.items()}
    return report


def _seen(text: str, *, case: bool) -> str:
    """Return what an eye sees of a name: composed, without characters that are invisible; ``case``: in lower case."""
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    text = " ".join(text.split())
    return text.casefold() if case else text


def _unfit(sample: Sample) -> str:
    """Return what in a sample's names no table or terminal can take, or nothing."""
    for field in ("id", "video_path", "audio_path"):
        if found := _UNFIT.search(getattr(sample, field)):
            return f"the {field} " + ("holds a control character" if found[0] < "\u00a0" else "is not UTF-8")
    return ""


class _Counts:
    """Counts of the samples that are written to a manifest."""

    def __init__(self, root: Path) -> None:
        self._root = os.fspath(root)  # a string: to make a Path for every row takes longer than all the rest
        self._together: Counter[tuple[str, ...]] = Counter()  # samples by all countable fields at once
        self._patterns: Counter[str] = Counter()
        self._there: dict[str, bool] = {}
        self._ids: dict[str, str] = {}  # how an id looks -> the first such id
        self.samples = 0
        self.missing_files: list[dict[str, str]] = []

    def watch(self, loader: BaseLoader[LoaderSettings]) -> Iterator[Sample]:
        countable = attrgetter(*COUNTABLE)
        for sample in loader.load():
            if problem := _unfit(sample):
                loader.skip(".", problem, entry=sample.id)
                continue
            look = sample.id if sample.id.isascii() else _seen(sample.id, case=False)
            if (twin := self._ids.setdefault(look, sample.id)) != sample.id:
                reason = f"its id looks like that of another sample, {twin!a}, and is {sample.id!a}"
                loader.note(".", reason, entry=sample.id)
            self.samples += 1
            self._together[countable(sample)] += 1
            given = {"text": sample.text.strip(), "audio": sample.audio_path, "video": sample.video_path}
            self._patterns["+".join(m for m, value in given.items() if value) or NONE] += 1
            for modality in ("audio", "video"):
                if given[modality] and not self._is_there(given[modality]):
                    self.missing_files.append(
                        {"id": sample.id, "modality": modality, "file": given[modality]}
                    )
            yield sample

    def _of(self, field: str) -> Counter[str]:
        place = COUNTABLE.index(field)
        values: Counter[str] = Counter()
        for together, number in self._together.items():
            values[together[place] or NONE] += number
        return values

    def of(self, field: str) -> dict[str, int]:
        """Return {value: number of samples}, sorted by value; empty when the field is empty in all of them."""
        values = self._of(field)
        return {} if set(values) == {NONE} else dict(sorted(values.items()))

    def note_twins(self, loader: BaseLoader[LoaderSettings]) -> None:
        """Note names that an eye takes for one, of which each counts: two spellings of a class are two classes; and
        labels that mean that there is none.
        """
        for value in sorted(set(self._of("label"))):
            if value.casefold() in NO_LABEL:
                reason = f"the label {value!a} counts as a class; leave the field empty where there is none"
                loader.note(".", reason)
        for field in ("label", "speaker", "dialogue", "session"):
            alike: dict[str, list[str]] = {}
            for value in sorted(set(self._of(field)) - {NONE}):
                alike.setdefault(_seen(value, case=True), []).append(value)
            for values in alike.values():
                if len(values) > 1:
                    names = ", ".join(map(ascii, values))
                    loader.note(
                        ".", f"{len(values)} {field}s that look alike count as different ones: {names}"
                    )

    def on_paper(self) -> dict[str, Any]:
        """Return how many samples have each modality, and each set of modalities, according to the manifest."""
        single: dict[str, int] = {
            m: sum(n for p, n in self._patterns.items() if m in p.split("+")) for m in MODALITIES
        }
        return {**single, "sets": dict(sorted(self._patterns.items()))}

    def differences(self, expected: Expected) -> list[dict[str, Any]]:
        """Return each count that differs from the published one."""
        found = {}
        for key in expected.counts:
            field, equals, value = key.partition("=")
            if key == "samples":
                found[key] = self.samples
            elif field not in COUNTABLE:
                raise DataError(
                    f'the loader expects a count of "{key}"; counted are samples, {", ".join(COUNTABLE)}'
                )
            elif equals:
                found[key] = self._of(field)[value]
            else:
                found[key] = len(set(self._of(field)) - {NONE})
        return [
            {"count": key, "expected": number, "found": found[key], "source": expected.source}
            for key, number in expected.counts.items()
            if found[key] != number
        ]

    def media(self) -> list[str]:
        """Return the paths below the root of the media that are there."""
        return [path for path, there in self._there.items() if there]

    def _is_there(self, relative: str) -> bool:
        if relative not in self._there:
            # write_manifest refuses a path that leaves the root
            inside = not leaves_root(relative)
            try:
                self._there[relative] = inside and os.path.isfile(f"{self._root}/{relative}")  # noqa: PTH113
            except ValueError:  # not a possible file name
                self._there[relative] = False
        return self._there[relative]
