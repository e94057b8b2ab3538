"""What a loader is. To add a dataset, write pipeline/data/datasets/<name>.py with a class ``Loader``.

The file is the registration: its name is the name in params.yaml. A loader reads an owner's layout as it is
distributed and yields the manifest's rows; pipeline/data/preparation.py writes them, counts them and compares the
counts.

A loader reports what it leaves out by :meth:`BaseLoader.skip`, and what it keeps although it is unusual by
:meth:`BaseLoader.note`. Both give file and line, and both are listed in the report. A folder that is not this
dataset at all is a DataError.
"""

from __future__ import annotations

import importlib
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from pipeline.data.csv_rows import check_header, csv_rows, read_small
from pipeline.data.manifest import Sample
from pipeline.errors import DataError, ParamsError, nearest


class LoaderSettings(BaseModel):
    """The root of every loader's options: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


S = TypeVar("S", bound=LoaderSettings)
_ESCAPED = re.compile("[\udc80-\udcff]")  # a byte that is not UTF-8, as surrogateescape keeps it


@dataclass(frozen=True)
class Finding:
    """Something in the owner's files that was left out, or kept although it is unusual: where, and why."""

    file: str  # relative to the root, with slashes
    reason: str
    line: int | None = None  # from 1; None: the file as a whole
    entry: str = ""  # the utterance or row, where its name is known


@dataclass(frozen=True)
class Expected:
    """The numbers of samples that a paper or the owner gives.

    Attributes:
        source: where they are published, such as "MMIN, section 4.1".
        counts: what is counted -> number. ``"samples"``: all samples; ``"label=happy"``: samples with this value
            of a field; ``"speaker"``: different values of a field.
    """

    source: str
    counts: Mapping[str, int]


class BaseLoader(ABC, Generic[S]):
    """One owner's layout.

    Class attributes:
        Settings: the schema of ``datasets.<name>.options`` in params.yaml.
        constructed: True when the samples were constructed, not recorded: every report says so.
        attribution: what the owner's licence requires beside results; may be empty.
        scores: whether samples have scores, so that a regression can learn them.
    """

    Settings: ClassVar[type[LoaderSettings]]
    constructed: ClassVar[bool] = False
    attribution: ClassVar[str] = ""
    scores: ClassVar[bool] = False

    def __init__(self, settings: S, root: Path) -> None:
        """Keep the options and the root of the owner's tree; nothing is read yet."""
        self.settings = settings
        self.root = root
        self.skipped: list[Finding] = []
        self.notes: list[Finding] = []

    @abstractmethod
    def load(self) -> Iterator[Sample]:
        """Yield every sample, in an order that depends on names alone (sort what the file system lists).

        A sample gets a path when there should be such a file by the layout. Whether the file exists is checked
        later, in pipeline/data/preparation.py.

        Raises:
            DataError: the folder is not this dataset, or a file without which nothing can be loaded cannot be read.
        """

    @property
    def score_limit(self) -> float:
        """The largest absolute score; the metrics of a regression depend on it."""
        return 3.0

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """Return column -> the ends of its scale: what a regression may learn, beside scores of sentiment."""
        return {}

    def expected(self) -> Expected | None:
        """Return the published counts; call it after all samples are loaded. None when there are none."""
        return None

    def skip(self, file: Path | str, reason: str, *, line: int | None = None, entry: str = "") -> None:
        """Name something that is left out: the file (absolute, or relative to the root) and why."""
        self.skipped.append(_finding(self._inside(file), reason, line, entry))

    def note(self, file: Path | str, reason: str, *, line: int | None = None, entry: str = "") -> None:
        """Name something strange that is kept."""
        self.notes.append(_finding(self._inside(file), reason, line, entry))

    def lines(self, file: str) -> Iterator[tuple[int, str]]:
        """Yield (number from 1, text without its end) of a text file in UTF-8, with or without a BOM.

        A line that is not UTF-8 is skipped and reported.

        Raises:
            DataError: the file cannot be read.
        """
        for number, raw in enumerate(self._read(file).split(b"\n"), start=1):
            try:
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r")
            except UnicodeDecodeError as error:
                self.skip(file, f"not UTF-8 (byte {error.start + 1} of the line)", line=number)

    def table(
        self, file: str, columns: tuple[str, ...] = (), delimiter: str = ","
    ) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield (line, {column: value}) of a csv file in UTF-8 with a header; values stay text.

        A row with another number of fields, or with a line that is not UTF-8, is skipped and reported.

        Args:
            file: relative to the root.
            columns: columns that the file must have; it may have others as well.
            delimiter: what separates two fields.

        Raises:
            DataError: the file cannot be read, its header is not UTF-8, it is not csv (a quote is never closed), or
                a column is absent or occurs twice.
        """
        text = self._read(file).decode("utf-8-sig", errors="surrogateescape")
        foreign: dict[int, int] = {}  # line -> its first byte that is not UTF-8, both from 1
        where = str(self.root / file)
        rows = csv_rows(_watched(io.StringIO(text, newline=""), foreign), where, delimiter)
        _, _, header = next(rows, (1, 1, []))
        for line, byte in foreign.items():
            raise DataError(f"{where}, line {line}: not UTF-8 (byte {byte} of the line); save it as UTF-8")
        check_header(header, columns, where)
        if nameless := [str(place) for place, name in enumerate(header, start=1) if not name.strip()]:
            self.note(file, f"column {', '.join(nameless)} has no name: not read", line=1)
        for line, last, row in rows:
            if not row:
                continue
            if foreign:
                for number, byte in foreign.items():
                    reason = f"not UTF-8 (byte {byte} of the line); save the file as UTF-8"
                    self.skip(file, reason, line=number)
                foreign.clear()
                continue
            to = f"; the row runs to line {last}: is a quote open?" if last > line else ""
            if len(row) != len(header):
                self.skip(file, f"found {len(row)} fields, expected {len(header)}{to}", line=line)
                continue
            if to and any(_like_a_row(field, delimiter, len(header)) for field in row):
                self.note(file, f"a text holds what looks like rows of their own{to}", line=line)
            yield line, {name: value for name, value in zip(header, row, strict=True) if name.strip()}

    def _read(self, file: str) -> bytes:
        try:
            return read_small(self.root / file)
        except OSError as error:
            raise DataError(
                f"{self.root / file}: cannot be read ({error.strerror}). "
                f"Is the dataset's root right in params.yaml?"
            ) from error

    def _inside(self, file: Path | str) -> str:
        path = Path(file)
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()


def _finding(file: str, reason: str, line: int | None, entry: str) -> Finding:
    """Return a finding whose texts are UTF-8: what a file's name has that is not becomes an escape sequence."""
    file, reason, entry = (t.encode("utf-8", "backslashreplace").decode() for t in (file, reason, entry))
    return Finding(file, reason, line, entry)


def _like_a_row(text: str, delimiter: str, fields: int) -> bool:
    """Whether a line of a text but its first and last has as many delimiters as a row has."""
    return any(line.count(delimiter) == fields - 1 for line in text.split("\n")[1:-1])


def _watched(lines: Iterable[str], foreign: dict[int, int]) -> Iterator[str]:
    """Yield the lines; put into ``foreign`` the number of each line that is not UTF-8, and its first such byte."""
    for number, line in enumerate(lines, start=1):
        if not line.isascii() and (escaped := _ESCAPED.search(line)):
            foreign[number] = len(line[: escaped.start()].encode()) + 1
        yield line


def names() -> list[str]:
    """Return the names of all loaders."""
    files = Path(__file__).parent.glob("*.py")
    return sorted(path.stem for path in files if path.stem != "base" and not path.stem.startswith("_"))


def find(name: str) -> type[BaseLoader[LoaderSettings]]:
    """Return the class of a loader.

    Raises:
        ParamsError: there is no file of that name; the message lists those that exist.
    """
    allowed = names()
    if name not in allowed:
        listed = ", ".join(allowed)
        raise ParamsError(f'there is no loader "{name}"; expected one of: {listed}.{nearest(name, allowed)}')
    loader: type[BaseLoader[LoaderSettings]] = importlib.import_module(
        f"pipeline.data.datasets.{name}"
    ).Loader
    return loader
