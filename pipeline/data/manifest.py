"""The manifest: one row for each sample. Later stages know a dataset by its manifest alone.

It is a csv file (UTF-8, comma, header) whose columns are the fields of :class:`Sample`, in their order. An empty
field means that the dataset does not give it. Paths are relative to the dataset's ``root``. The last column, ``facts``,
is there only where the dataset knows facts of its samples: ``{"key": [true, false, true]}``, as JSON.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, TextIO

import models
from pipeline.data.csv_rows import csv_rows
from pipeline.data.files import file_sha256, whole_or_nothing
from pipeline.errors import DataError

MODALITIES: tuple[str, ...] = models.MODALITIES  # as plain names, which dicts by modality have as keys
SPLITS = ("", "train", "valid", "test")
PICTURES = ("", "left", "right")
# The columns that a regression may learn.
Target = Literal["score", "score_text", "score_audio", "score_video", "valence", "activation", "dominance"]


@dataclass(frozen=True)
class Word:
    """A spoken word and its times, in seconds from the start of its sample (not of the file)."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Sample:
    """One utterance: where its three modalities are, its labels, its speaker and its place in the dialogue."""

    id: str
    video_path: str = ""  # the file with the picture, relative to the root; empty: no video for this sample
    audio_path: str = ""  # the file with the sound; often the same file; empty: no audio
    start_s: float | None = None  # where the sample lies in video_path; None: from its beginning
    end_s: float | None = None  # None: to its end
    audio_start_s: float | None = None  # the same for audio_path, when that is another file
    audio_end_s: float | None = None
    picture: str = ""  # "left" or "right": only this half of the picture shows the speaker (IEMOCAP)
    text: str = ""  # the transcript; empty: no text
    words: tuple[Word, ...] = ()  # forced alignment, when the dataset has one
    speaker: str = ""
    gender: str = ""
    dialogue: str = ""  # the dialogue or source video that the sample was cut from
    session: str = ""
    turn: int | None = None  # order within the dialogue, from 0
    split: str = ""  # the owner's own: train, valid or test
    label: str = ""  # the class's name
    score: float | None = None  # sentiment, on the owner's scale
    score_text: float | None = None  # unimodal scores (CH-SIMS)
    score_audio: float | None = None
    score_video: float | None = None
    valence: float | None = None
    activation: float | None = None
    dominance: float | None = None
    # What a model may ask for by Network.facts (models/base.py): name -> all bool or all numbers. Every sample of a
    # dataset has the same names, and as many values of each.
    facts: Mapping[str, tuple[bool, ...] | tuple[float, ...]] = field(default_factory=dict)


FACTS = "facts"
COLUMNS = tuple(f.name for f in fields(Sample) if f.name != FACTS)
_NUMBERS = tuple(f.name for f in fields(Sample) if "float" in str(f.type) and f.name != FACTS)
_VALUES = attrgetter(*COLUMNS)
_WORDS = COLUMNS.index("words")
_NO_PATH = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")
_JSON = json.JSONEncoder(ensure_ascii=False)


def write_manifest(path: Path, samples: Iterable[Sample], *, named: Path | None = None) -> int:
    """Write the samples as csv, in their order, and return how many there were.

    Args:
        path: the file; it takes its place when whole.
        samples: one a row.
        named: what errors call the file, if not by its path.

    Raises:
        DataError: an id occurs twice or is empty, a path leaves the root, a split is unknown, a time runs backwards,
            or a sample has other facts than the first.
    """
    seen: set[str] = set()
    waiting = iter(samples)
    first = next(waiting, None)
    facts = {} if first is None else first.facts
    with whole_or_nothing(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(_Lines(file), lineterminator="\r\n")  # so that fields with CR or LF are quoted
        writer.writerow([*COLUMNS, FACTS] if facts else COLUMNS)
        for number, sample in enumerate(chain([] if first is None else [first], waiting), start=2):
            where = f"{named or path}, line {number}"
            _check(sample, seen, where)
            _check_facts(sample, facts, where)
            row = list(_VALUES(sample))  # csv writes None as nothing and a float with all its digits
            words = [(word.text, word.start_s, word.end_s) for word in sample.words]
            row[_WORDS] = _JSON.encode(words) if words else ""
            if facts:
                row.append(_JSON.encode(sample.facts))
            writer.writerow(row)
    return len(seen)


class _Lines:
    """Replaces the line end that a csv.writer writes by a line feed alone."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, line: str) -> None:
        self._file.write(line[:-2] + "\n")


def read_manifest(path: Path) -> list[Sample]:
    """Read a manifest.

    Raises:
        DataError: the file is absent, has other columns, or a row that :func:`write_manifest` would refuse; the
            message names file, line and field.
    """
    return list(iter_manifest(path))


def iter_manifest(path: Path) -> Iterator[Sample]:
    """Yield the samples of a manifest one by one, so that memory does not grow with its length."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such manifest. Write it with: dvc repro prepare")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv_rows(file, str(path))
        try:
            _, _, header = next(rows, (1, 1, None))
            if header is None:
                raise DataError(f"{path}: empty; expected the header {','.join(COLUMNS)}")
            known = header[-1:] == [FACTS]
            if tuple(header[:-1] if known else header) != COLUMNS:
                unknown = [name for name in header if name not in (*COLUMNS, FACTS)]
                lacking = [name for name in COLUMNS if name not in header]
                raise DataError(
                    f"{path}, line 1: found other columns than this version of Lacuna writes "
                    f"(unknown: {unknown or 'none'}; lacking: {lacking or 'none'}). Run: dvc repro -f -s prepare"
                )
            seen: set[str] = set()
            facts: Mapping[str, Sequence[float]] | None = None
            for _, line, row in rows:
                where = f"{path}, line {line}"
                if len(row) != len(header):
                    raise DataError(f"{where}: found {len(row)} fields, expected {len(header)}")
                values = _from_texts(row[: len(COLUMNS)], where)
                sample = Sample(**values, facts=_facts(row[-1], where)) if known else Sample(**values)
                _check(sample, seen, where)
                facts = sample.facts if facts is None else facts
                _check_facts(sample, facts, where)
                yield sample
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 ({error.reason}). Run: dvc repro -f -s prepare") from error


def manifest_checksum(path: Path) -> str:
    """Return the sha256 of a manifest's bytes. Features and masks record it: it says which manifest they belong to."""
    return file_sha256(path)


def leaves_root(relative: str) -> bool:
    """Return whether a path is absolute or contains ``..``."""
    return relative.startswith("/") or (".." in relative and ".." in relative.split("/"))


def resolve_media(root: Path, relative: str) -> Path:
    """Return ``root / relative``.

    Raises:
        DataError: the path is absolute or contains ``..``.
    """
    if leaves_root(relative):
        raise DataError(
            f'the media path "{relative}" leaves the dataset\'s root {root}; give a path inside it'
        )
    if _NO_PATH.search(relative):
        raise DataError(f"the media path {relative!a} holds a character that no path can hold")
    return root / relative


def _check(sample: Sample, seen: set[str], where: str) -> None:
    if not sample.id or sample.id != sample.id.strip():
        raise DataError(f'{where}: found the id "{sample.id}"; expected a name without spaces around it')
    if sample.id in seen:
        raise DataError(f'{where}: the id "{sample.id}" occurs twice; every sample needs its own')
    seen.add(sample.id)
    if sample.split not in SPLITS:
        raise DataError(f'{where}: found the split "{sample.split}"; expected one of {SPLITS[1:]} or nothing')
    if sample.picture not in PICTURES:
        raise DataError(f'{where}: found the picture "{sample.picture}"; expected left, right or nothing')
    for name in ("video_path", "audio_path"):
        if leaves_root(value := getattr(sample, name)):
            raise DataError(
                f'{where}: the {name} "{value}" leaves the dataset\'s root; give a path inside it'
            )
    for start, end in ((sample.start_s, sample.end_s), (sample.audio_start_s, sample.audio_end_s)):
        if start is not None and start < 0:
            raise DataError(f"{where}: the sample starts at {start} s; expected 0 or more")
        if start is not None and end is not None and end < start:
            raise DataError(f"{where}: the sample ends at {end} s, before it starts at {start} s")


def _check_facts(sample: Sample, first: Mapping[str, Sequence[float]], where: str) -> None:
    """Check that a sample has the facts that the first one has: models get them as arrays."""
    if not sample.facts and not first:
        return
    found, expected = _shape(sample.facts), _shape(first)
    if found != expected:
        raise DataError(f"{where}: found the facts {found}, expected those of the first sample, {expected}")


def _shape(facts: Mapping[str, Sequence[float]]) -> dict[str, str]:
    return {
        name: f"{len(values)} {'bool' if all(type(v) is bool for v in values) else 'numbers'}"
        for name, values in facts.items()
    }


def _facts(text: str, where: str) -> dict[str, Any]:
    """Return the facts of a row by their names.

    Raises:
        DataError: the field is no object of lists of numbers or of bool.
    """
    try:
        found = json.loads(text)
        facts = {str(name): tuple(values) for name, values in found.items()}
        if all(_one_kind(values) for values in facts.values()):
            return facts
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        pass
    raise DataError(
        f'{where}, column {FACTS}: found "{text[:80]}", expected {{"name": [numbers or true and false]}} as JSON'
    )


def _one_kind(values: Sequence[object]) -> bool:
    if all(type(value) is bool for value in values):
        return True
    return all(type(value) in (int, float) and math.isfinite(value) for value in values)  # type: ignore[arg-type]


def _from_texts(row: Sequence[str], where: str) -> dict[str, Any]:
    """Return the values of a row's fields by their names.

    Raises:
        DataError: a field is no number, or no list of words; the message names it.
    """
    values: dict[str, Any] = dict(zip(COLUMNS, row, strict=True))
    name = "words"
    try:
        text = values[name]
        values[name] = (
            tuple([Word(str(t), float(s), float(e)) for t, s, e in json.loads(text)]) if text else ()
        )
        name = "turn"
        values[name] = int(text) if (text := values[name]) else None
        for name in _NUMBERS:
            values[name] = float(text) if (text := values[name]) else None
            if text and not math.isfinite(values[name]):
                raise ValueError(text)
    except (ValueError, TypeError, RecursionError):
        kind = "[[word, start, end], ...] as JSON" if name == "words" else "a finite number or nothing"
        raise DataError(f'{where}, column {name}: found "{text[:80]}", expected {kind}') from None
    return values
