"""Import of features that were computed elsewhere: the extractor ``import`` of each modality.

It gives each sample of the manifest the rows that a file has under the sample's id; all later stages work as with
any extractor. The three files pipeline/extraction/extractors/<modality>/import.py only name the modality.
"""

from __future__ import annotations

import importlib
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.data.store import FeatureSequence
from pipeline.errors import MediaError, StoreError, StreamMissing
from pipeline.extraction.extractors.base import BaseExtractor, Clip, ExtractorSettings
from pipeline.extraction.importers.base import Reader, Request

FORMATS = {".pkl": "mmsa", ".pickle": "mmsa", ".csd": "csd", ".h5": "mmin", ".hdf5": "mmin", ".npz": "npz"}
FOLDERS = {".mat": "covarep", ".csv": "openface"}


class ImportSettings(ExtractorSettings):
    """Where the features are.

    Attributes:
        file: the file, or the folder of one file a sample or video (covarep: *.mat; openface: *.csv); relative
            to the project's folder, or to data/assets/import/ when it is there.
        format: what it is; auto goes by the ending (.pkl mmsa, .csd csd, .h5 mmin, .npz npz, a folder of .mat
            covarep, of .csv openface).
        field: which array of the file; empty: the usual one of the modality. openface: the groups of columns that are
            there, joined by + (gaze+pose+aus); empty: all.
        frame_rate_hz: frames a second, where the file does not say; null: times are not known, and written
            as 0.
        non_finite: NaN and infinity: "refuse" fails the sample and names the place; "zero" makes the frame
            unobserved.
        absent: what becomes of a sample whose id the file lacks: "fail" counts it as failed, so that a wrong file
            stops the stage; "missing" counts the modality as missing.
    """

    file: Path = Path("features.npz")
    format: Literal["auto", "mmsa", "csd", "mmin", "covarep", "npz", "openface"] = "auto"
    field: str = ""
    frame_rate_hz: Annotated[float, Field(gt=0)] | None = None
    non_finite: Literal["refuse", "zero"] = "refuse"
    absent: Literal["fail", "missing"] = "fail"


class Importer(BaseExtractor[ImportSettings]):
    """Returns what a reader of pipeline/extraction/importers/ finds under each clip's id."""

    Settings = ImportSettings
    libraries: ClassVar[tuple[str, ...]] = ("h5py", "numpy", "pandas", "scipy")
    parts: ClassVar[tuple[str, ...]] = (
        "pipeline.extraction.extractors._foreign",
        "pipeline.data.csd",
        *(
            f"pipeline.extraction.importers.{name}"
            for name in ("base", "covarep", "openface", "plain_pickle", *sorted(set(FORMATS.values())))
        ),
    )
    by_id = True

    def prepare(self) -> None:
        """Open the file."""
        self._reader  # noqa: B018 - it is opened when it is first asked for

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns in the file, or numbered names.

        Raises:
            StoreError: the file is absent, damaged, or not of the format.
        """
        return self._reader.columns

    @property
    def frame_period_s(self) -> float | None:
        """From the file or the settings; None for text."""
        return None if self.modality == "text" else self._reader.frame_period_s

    @property
    def files(self) -> tuple[Path, ...]:
        """The file, or all files of the folder."""
        if self._file.is_dir():
            return tuple(sorted(path for path in self._file.iterdir() if path.is_file()))
        return (self._file,)

    @cached_property
    def _file(self) -> Path:
        inside = self.assets / self.settings.file
        return inside if inside.exists() else self.settings.file

    @cached_property
    def _reader(self) -> Reader:
        settings = self.settings
        chosen = settings.format if settings.format != "auto" else self._format()
        request = Request(
            self._file, self.modality, settings.field, settings.frame_rate_hz, settings.non_finite
        )
        reader: Reader = importlib.import_module(f"pipeline.extraction.importers.{chosen}").Reader(request)
        return reader

    def _format(self) -> str:
        for ending, name in FOLDERS.items():
            if any(self._file.glob(f"*{ending}")):
                return name
        if found := FORMATS.get(self._file.suffix.lower(), ""):
            return found
        raise StoreError(
            f"{self._file}: cannot tell its format by its name; expected {', '.join(FORMATS)}, or a folder "
            f"of {' or '.join(FOLDERS)} files. Is it there? Else say format in the extractor's settings"
        )

    def extract(self, clip: Clip) -> FeatureSequence:
        """Return the rows that the file has under the clip's id."""
        reader = self._reader  # an unreadable file stops the stage; an unreadable entry only fails its sample
        try:
            found = reader.read(clip)
        except StoreError as error:
            raise MediaError(str(error)) from error
        if found is None:
            reason = f'{self._file}: has nothing under the id "{clip.id}"'
            raise StreamMissing(reason) if self.settings.absent == "missing" else MediaError(reason)
        if len(found.times) == 0 and not found.status:
            raise StreamMissing(f'{self._file}: the id "{clip.id}" has no rows')
        return found

    def close(self) -> None:
        """Close the file."""
        if "_reader" in self.__dict__:
            self._reader.close()
