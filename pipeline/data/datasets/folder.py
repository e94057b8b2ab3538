"""A dataset of your own: a csv file, and the clips that it names.

The csv (``table``, relative to the root) has a header; its columns are fields of the manifest
(pipeline/data/manifest.py), in any order, and only ``id`` and one of ``video_path``, ``audio_path``, ``text``
must be there. Paths are relative to the root. Where only video_path is given, the sound is read from it as well;
write ``-`` as audio_path for a sample without sound. ``words`` are JSON, ``[["hello", 0.1, 0.4], ...]``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Annotated, Any

from pydantic import Field, model_validator

from pipeline.data.datasets._official_splits import PARTS
from pipeline.data.datasets._score_classes import finite
from pipeline.data.datasets.base import BaseLoader, Expected, LoaderSettings
from pipeline.data.manifest import COLUMNS, PICTURES, Sample, Target, Word, leaves_root, resolve_media
from pipeline.errors import DataError, nearest

NUMBERS = frozenset(field.name for field in fields(Sample) if "float" in str(field.type))
MEDIA = (".mp4", ".avi", ".mkv", ".mov", ".flv", ".webm", ".wav", ".mp3", ".flac", ".m4a")


class Settings(LoaderSettings):
    """Where the table is, and what separates its fields."""

    # the csv file, below the root
    table: Annotated[str, Field(min_length=1)] = "samples.csv"
    delimiter: Annotated[str, Field(pattern=r'^[^"\r\n\x00 ]$')] = ","  # one character
    score_limit: Annotated[float, Field(gt=0)] = 3.0  # the largest score, of either sign
    # the ends of the scale of what a regression learns, other than a sentiment about 0: {valence: [1, 7]}
    ranges: dict[Target, tuple[float, float]] = Field(default={})

    @model_validator(mode="after")
    def _rising(self) -> Settings:
        for name, (low, high) in self.ranges.items():
            if not low < high:
                raise ValueError(f"ranges.{name}: found {low:g} to {high:g}, expected the lower end first")
        return self


class _Refused(ValueError):
    """A row that cannot become a sample; the message gives the reason."""


class Loader(BaseLoader[Settings]):
    """One sample for each row of the table."""

    Settings = Settings
    scores = True

    @property
    def score_limit(self) -> float:
        """The option ``score_limit``."""
        return self.settings.score_limit

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """The option ``ranges``."""
        return {str(name): ends for name, ends in self.settings.ranges.items()}

    def load(self) -> Iterator[Sample]:
        """Yield the table's rows in their order.

        Raises:
            DataError: there is no table, or its header has a column that a manifest does not have.
        """
        table = self.settings.table
        resolve_media(self.root, table)
        seen: set[str] = set()
        used: set[str] = set()
        checked = False
        for line, row in self.table(table, ("id",), self.settings.delimiter):
            if not checked:
                self._check_header(list(row))
                checked = True
            name = row["id"].strip()
            try:
                if name in seen:
                    raise _Refused("the id is listed twice")
                sample = self._sample(name, row)
            except _Refused as error:
                self.skip(table, str(error), line=line, entry=name)
                continue
            seen.add(name)
            used.update((sample.video_path, sample.audio_path))
            yield sample
        self._note_unlabelled(used)

    def expected(self) -> Expected | None:
        """Return None: there are no published counts of the user's own data."""
        return None

    def _check_header(self, columns: list[str]) -> None:
        unknown = [name for name in columns if name not in COLUMNS]
        where = f"{self.root / self.settings.table}, line 1"
        if unknown:
            raise DataError(
                f'{where}: found the column "{unknown[0]}", expected some of: {", ".join(COLUMNS)}.'
                f"{nearest(unknown[0], COLUMNS)}"
            )
        if not {"video_path", "audio_path", "text"} & set(columns):
            raise DataError(
                f"{where}: found none of video_path, audio_path, text; a sample needs one of them"
            )

    def _sample(self, name: str, row: dict[str, str]) -> Sample:
        if not name:
            raise _Refused("the id is empty")
        values: dict[str, Any] = {"id": name}
        for column, raw in row.items():
            text = raw.strip()
            if column != "id" and text:
                values[column] = _value(column, text, self.ranges)
        for column in ("video_path", "audio_path"):
            if leaves_root(path := values.get(column, "")):
                raise _Refused(f'the {column} "{path}" leaves the root')
        video, audio = values.get("video_path", ""), values.get("audio_path", "")
        if audio == "-":
            values["audio_path"] = ""
        elif video and not audio:
            values["audio_path"] = video
        for start, end in (("start_s", "end_s"), ("audio_start_s", "audio_end_s")):
            begin, stop = values.get(start), values.get(end)
            if begin is not None and begin < 0:
                raise _Refused(f"found the {start} {begin:g}, expected 0 or more")
            if stop is not None and stop <= (begin or 0):
                raise _Refused(f"the sample ends at {stop:g} s, not after its start at {begin or 0:g} s")
        if (
            not video and "start_s" in values and "audio_start_s" not in values
        ):  # a sample with sound alone: the times are of the sound file
            values["audio_start_s"], values["audio_end_s"] = values.pop("start_s"), values.pop("end_s", None)
        return Sample(**values)

    def _note_unlabelled(self, used: set[str]) -> None:
        top, found = os.fspath(self.root), []
        for folder, _, names in os.walk(
            top
        ):  # strings, because to make a Path for each of many files is slow
            inside = folder[len(top) :].replace(os.sep, "/").strip("/").split("/")
            found += [
                [*filter(None, inside), name]
                for name in names
                if name.lower().endswith(MEDIA) and not name.startswith(".")
            ]
        for parts in sorted(found):
            if (relative := "/".join(parts)) not in used:
                self.note(relative, "a clip that no row names")


def _word(token: object, start: object, end: object) -> Word:
    """Return a word with its times, which aligners leave out (null, NaN) where they did not find it."""
    times = [float(t) for t in (start, end) if isinstance(t, int | float) and not isinstance(t, bool)]
    times = [max(0.0, t) for t in times if math.isfinite(t)]  # a word may begin before its sample
    if not isinstance(token, str) or len(times) < 2 or times[1] < times[0]:
        raise _Refused(
            f"found the word {json.dumps([token, start, end], ensure_ascii=False)[:80]}, expected a text and its "
            "start and end in seconds from the sample's start; leave out words that have none"
        )
    return Word(token, *times)


def _value(column: str, text: str, ranges: Mapping[str, tuple[float, float]]) -> object:
    if column in NUMBERS:
        if (number := finite(text)) is None:
            raise _Refused(f'found the {column} "{text}", expected a number')
        low, high = ranges.get(column, (number, number))
        if not low <= number <= high:
            raise _Refused(f"found the {column} {number:g}, expected {low:g} to {high:g} (options: ranges)")
        return number
    if column == "turn":
        if not text.isdecimal():
            raise _Refused(f'found the turn "{text}", expected a number from 0 on')
        return int(text)
    if column == "split":
        if (part := PARTS.get(text.lower())) is None:
            raise _Refused(f'found the split "{text}", expected train, valid or test')
        return part
    if column == "picture" and text not in PICTURES:
        raise _Refused(f'found the picture "{text}", expected left, right or nothing')
    if column == "words":
        try:
            return tuple(_word(*entry) for entry in json.loads(text))
        except _Refused:
            raise
        except (ValueError, TypeError, RecursionError):
            raise _Refused("the words are not JSON: [[word, start, end], ...]") from None
    return text
