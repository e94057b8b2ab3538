"""What an extractor is. To add one, write pipeline/extractors/<modality>/<name>.py with a class ``Extractor``.

The file is the registration: its name is the name in params.yaml. It is imported only when it is selected or checked,
and imports the heavy library it wraps inside its methods, so that reading params.yaml stays quick.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from pipeline.errors import ParamsError, nearest
from pipeline.manifest import Word
from pipeline.store import FeatureSequence


class ExtractorSettings(BaseModel):
    """The root of every extractor's settings: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


S = TypeVar("S", bound=ExtractorSettings)


@dataclass(frozen=True)
class Clip:
    """One sample as an extractor gets it: files with the part that is meant, and what was said.

    pipeline/media.py decodes it (``media.read_audio(clip, ...)``, ``media.read_frames(clip, ...)``).
    """

    id: str
    video: Path | None = None
    audio: Path | None = None
    start_s: float | None = None  # of the video file
    end_s: float | None = None
    audio_start_s: float | None = None
    audio_end_s: float | None = None
    picture: str = ""  # "left" or "right" half, or the whole
    text: str = ""
    words: tuple[Word, ...] = ()


class BaseExtractor(ABC, Generic[S]):
    """One way from a clip to the features of one modality.

    An instance belongs to one process, which loads the model once.

    Class attributes:
        modality: text, audio or video.
        Settings: the schema of ``extractors.<modality>.<name>`` in params.yaml.
        libraries: distributions whose versions change the numbers; their versions are part of a result's key and
            are written into the store.
        batch: how many clips :meth:`extract_batch` likes to have at once.
    """

    modality: ClassVar[str]
    Settings: ClassVar[type[ExtractorSettings]]
    libraries: ClassVar[tuple[str, ...]] = ()
    batch: ClassVar[int] = 1

    def __init__(self, settings: S, assets: Path) -> None:
        """Keep the settings; ``assets`` is the folder data/assets/<name>/ that the asset stage filled."""
        self.settings = settings
        self.assets = assets

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The names of the D columns."""

    @property
    def frame_period_s(self) -> float | None:
        """Seconds from one frame to the next; None when frames are words or tokens."""
        return None

    @abstractmethod
    def extract(self, clip: Clip) -> FeatureSequence:
        """Return the features of one clip.

        Raises:
            StreamMissing: the clip has no such stream; the caller makes it a *missing* status.
            MediaError: the clip cannot be read; the caller makes it a *failed* status.
        """

    def extract_batch(self, clips: Sequence[Clip]) -> list[FeatureSequence | Exception]:
        """Return what :meth:`extract` gives or raises for each clip; override it where the library gains by batches."""
        results: list[FeatureSequence | Exception] = []
        for clip in clips:
            try:
                results.append(self.extract(clip))
            except Exception as error:  # noqa: BLE001 - handed on: one clip must not stop the others
                results.append(error)
        return results

    def close(self) -> None:
        """Release what the library holds."""


def names(modality: str) -> list[str]:
    """Return the names of the extractors that there are for a modality."""
    folder = Path(__file__).parent / modality
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def find(modality: str, name: str) -> type[BaseExtractor[ExtractorSettings]]:
    """Return the class of an extractor.

    Raises:
        ParamsError: there is no file of that name; the message lists those that there are.
    """
    allowed = names(modality)
    if name not in allowed:
        raise ParamsError(
            f'there is no {modality} extractor "{name}"; expected one of: {", ".join(allowed)}.{nearest(name, allowed)}'
        )
    module = importlib.import_module(f"pipeline.extractors.{modality}.{name}")
    extractor: type[BaseExtractor[ExtractorSettings]] = module.Extractor
    return extractor
