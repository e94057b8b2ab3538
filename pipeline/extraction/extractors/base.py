"""The interface of extractors. To add one, write pipeline/extraction/extractors/<modality>/<name>.py with a class
``Extractor``.

Nothing else registers it: the file's name is the extractor's name in params.yaml. The file is imported only when
the extractor is selected or its settings are checked. It imports the heavy library that it uses within its
methods, so that reading params.yaml stays quick.
"""

from __future__ import annotations

import importlib
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pipeline.data.manifest import Word
from pipeline.data.store import FeatureSequence, Status
from pipeline.errors import (
    LacunaError,
    MediaError,
    MomentaryError,
    ParamsError,
    StoreError,
    StreamMissing,
    SystemLibraryError,
    nearest,
)
from pipeline.extraction.clip import Clip as Clip


class ExtractorSettings(BaseModel):
    """The root of every extractor's settings: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _or_native(rate: Any) -> Any:
    return None if rate == "native" else rate


# Pictures a second. The word "native" means what null means, the file's own rate, and is kept as null: the same key.
FrameRate = Annotated[
    Annotated[float, Field(gt=0, le=240)] | None,
    BeforeValidator(
        _or_native, json_schema_input_type=Annotated[float, Field(gt=0, le=240)] | Literal["native"] | None
    ),
]

S = TypeVar("S", bound=ExtractorSettings)


@dataclass(frozen=True)
class Caution:
    """What a reader of some columns must know, and would not expect from their names.

    Attributes:
        columns: a regular expression; the columns whose whole name it matches.
        says: one sentence, without a full stop.
        when: whether it holds for these settings, as a store keeps them; by default for all.
    """

    columns: str
    says: str
    when: Callable[[Mapping[str, Any]], bool] = lambda settings: True


class BaseExtractor(ABC, Generic[S]):
    """Computes the features of one modality from a clip.

    An instance is used by one process, and loads its model once.

    Class attributes:
        modality: text, audio or video.
        Settings: the schema of ``extractors.<modality>.<name>`` in params.yaml.
        libraries: distributions whose versions change the numbers; their versions are part of a result's key
            and are written into the store.
        parts: modules of this project beside the extractor's own whose code changes the numbers.
        cautions: what readers of the columns must know; shown by `lacuna features show`, `lacuna dataset check` and the
            report (:func:`cautions_for`).
        batch: how many clips :meth:`extract_batch` should get at once.
        by_id: the result depends on the clip's id and not on its media, which are not read (features that were
            computed elsewhere). An instance may set it for itself.
    """

    modality: ClassVar[str]
    Settings: ClassVar[type[ExtractorSettings]]
    libraries: ClassVar[tuple[str, ...]] = ()
    parts: ClassVar[tuple[str, ...]] = ()
    cautions: ClassVar[tuple[Caution, ...]] = ()
    batch: ClassVar[int] = 1
    by_id: bool = False

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

    @property
    def files(self) -> tuple[Path, ...]:
        """Files outside ``assets`` whose bytes can change the numbers: those that the settings name."""
        return ()

    def prepare(self) -> None:
        """Load what extraction needs, before any clip is read. An error here is never attributed to a clip.

        Raises:
            LacunaError: the extractor cannot work here.
        """

    @abstractmethod
    def extract(self, clip: Clip) -> FeatureSequence:
        """Return the features of one clip.

        Raises:
            StreamMissing: the clip has no such stream; it gets the status *missing*.
            MediaError: the clip cannot be read; it gets the status *failed*, which is kept.
            MomentaryError: the clip cannot be read at the moment; it gets the status *failed* in this run, and the
                next run tries again.
        """

    def extract_batch(self, clips: Sequence[Clip]) -> list[FeatureSequence | Exception]:
        """Return for each clip what :meth:`extract` returns or raises. Override it where a batch is quicker."""
        results: list[FeatureSequence | Exception] = []
        for clip in clips:
            try:
                results.append(self.extract(clip))
            except Exception as error:  # noqa: BLE001 - returned: one clip must not stop the others
                results.append(error)
        return results

    def close(self) -> None:
        """Release the library's resources."""


def with_status(
    result: FeatureSequence | Exception, dims: int, extractor: str
) -> tuple[bool, FeatureSequence]:
    """Turn what an extractor returned or raised for a clip into features with a status.

    Args:
        result: one of the list that :meth:`BaseExtractor.extract_batch` returns.
        dims: columns that the features must have.
        extractor: its name, for messages.

    Returns:
        Whether the result may be kept (another attempt would give the same), and the features.

    Raises:
        LacunaError: the cause is not the clip, but weights, libraries or settings.
    """
    may_be_kept = True
    if isinstance(result, StreamMissing):
        result = FeatureSequence.absent(dims, Status.MISSING, str(result))
    elif isinstance(result, MediaError):
        may_be_kept = not isinstance(result, MomentaryError)
        result = FeatureSequence.absent(dims, Status.FAILED, str(result))
    elif isinstance(result, LacunaError):
        raise result
    elif isinstance(result, Exception):
        may_be_kept = False
        result = FeatureSequence.absent(dims, Status.FAILED, f"{type(result).__name__}: {result}")
    try:
        result.check(dims, extractor)
    except StoreError as error:
        may_be_kept = False
        result = FeatureSequence.absent(dims, Status.FAILED, str(error))
    return may_be_kept, result


def token_times(text: str, spans: Sequence[tuple[int, int]], words: Sequence[Word]) -> NDArray[np.float32]:
    """Return the time at which each token of a transcript is spoken, by the forced alignment of its words.

    Args:
        text: the transcript.
        spans: for each of the T tokens, where it starts and ends in ``text``; the end is one past its last
            character.
        words: the alignment; :func:`place_words` finds its words in ``text``.

    Returns:
        (T,) float32 seconds, not decreasing: the middle of the word that the token belongs to. A token outside
        the aligned words has the time of the token before it. Zeros when there is no alignment.
    """
    middles = np.full(len(text) + 1, np.nan, np.float32)
    for word, place in zip(words, place_words(text, [word.text for word in words]), strict=True):
        if place is not None:
            middles[slice(*place)] = (word.start_s + word.end_s) / 2
    times = np.zeros(len(spans), np.float32)
    latest = np.float32(0.0)
    for index, (start, end) in enumerate(spans):
        inside = middles[start:end]
        if np.isfinite(inside).any():
            latest = max(latest, np.float32(np.nanmax(inside)))
        times[index] = latest
    return times


def place_words(text: str, words: Sequence[str]) -> list[tuple[int, int] | None]:
    """Return the places of words in a text; each word is looked for after the place of the one before it.

    Case does not matter, nor which apostrophe is written, nor whether accents are characters of their own. A
    word must be a whole one ("i" is not in "this"), or follow the last one directly or be followed so by the
    next ("do" and "n't" are in "don't"). Only in scripts without spaces, such as Chinese and Thai, may it stand
    within other letters.

    Returns:
        For each word where it starts and ends in ``text``, the end one past its last character; None for a word
        that is not found.
    """
    lowered, spans = _comparable(text)
    sought = [_comparable(word)[0] for word in words]
    places: list[tuple[int, int] | None] = []
    cursor, touching = 0, False
    for index, word in enumerate(sought):
        following = sought[index + 1] if index + 1 < len(sought) else ""
        place = None
        start = lowered.find(word, cursor) if word else -1
        while start >= 0:
            end = start + len(word)
            begins = (touching and start == cursor) or not _one_word(lowered[start - 1 : start], word[0])
            ends = not _one_word(word[-1], lowered[end : end + 1])
            if begins and (ends or (following and lowered.startswith(following, end))):
                place = start, end
                break
            start = lowered.find(word, start + 1)
        touching = place is not None
        if place is not None:
            cursor = place[1]
            place = spans[place[0]][0], spans[place[1] - 1][1]
        places.append(place)
    return places


APOSTROPHES = "'\u2019\u02bc\uff07\u2018\u201b"  # ' and what is written for it
_JOINERS = "\u200c\u200d"  # within words of Persian and of India's scripts
# Characters without a picture that stand within words and mean nothing there: where a hyphen may be put, that no line
# is broken, the direction of writing. (A space of no width, U+200B, does divide words.)
_UNSEEN = re.compile("[\u00ad\u2060\ufeff\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_SPACELESS = (  # scripts without spaces between words: Thai, Lao, Burmese, Khmer, kana, Han
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x312F), (0x31A0, 0x31FF)),
    *((0x3005, 0x3007), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F)),
    (0x20000, 0x3FFFF),
)


def is_mark(character: str) -> bool:
    """Say whether a character belongs to the letter before it: accent, vowel sign, joiner, or one without a picture."""
    if character.isascii():
        return False
    return (
        unicodedata.category(character)[0] == "M" or character in _JOINERS or bool(_UNSEEN.match(character))
    )


def is_spaceless(character: str) -> bool:
    """Say whether a character is of a script that puts no spaces between words."""
    return not character.isascii() and any(low <= ord(character) <= high for low, high in _SPACELESS)


def compose(text: str) -> str:
    """Return a text in Unicode's normal form C (letters and their accents are one character where there is one),
    without characters that have no picture.
    """
    return text if text.isascii() else unicodedata.normalize("NFC", _UNSEEN.sub("", text))


def _comparable(text: str) -> tuple[str, list[tuple[int, int]]]:
    """Return a text in lower case, composed and with one kind of apostrophe, and where each of its characters
    stands in the text as it is.
    """
    letters: list[str] = []
    spans: list[tuple[int, int]] = []
    start = 0
    while start < len(text):
        end = start + 1
        while end < len(text) and (is_mark(text[end]) or "\u1160" <= text[end] <= "\u11ff"):  # or a Jamo
            end += 1
        composed = compose(text[start:end])
        one_by_one = len(composed) == end - start
        for offset, letter in enumerate(composed):
            lower = "'" if letter in APOSTROPHES else letter.lower()
            letters.append(lower if len(lower) == 1 else letter)
            spans.append((start + offset, start + offset + 1) if one_by_one else (start, end))
        start = end
    return "".join(letters), spans


def _one_word(left: str, right: str) -> bool:
    """Say whether two neighbouring characters belong to one word; either may be none."""
    if not left or not right:
        return False
    if is_mark(right):
        return left.isalnum() or is_mark(left)
    if not (left.isalnum() or is_mark(left)) or not right.isalnum():
        return False
    return not (is_spaceless(left) or is_spaceless(right))


SYSTEM_LIBRARIES = {  # libraries of the system that Python packages need -> their package in Debian
    "libGL.so": "libgl1",
    "libEGL.so": "libegl1",
    "libGLESv2.so": "libgles2",
    "libglib-2.0.so": "libglib2.0-0",
    "libgthread-2.0.so": "libglib2.0-0",
    "libgomp.so": "libgomp1",
}


@contextmanager
def naming_system_libraries() -> Iterator[None]:
    """Name Debian's package in the error when an import within the block lacks a library of the system.

    Raises:
        SystemLibraryError: a known library of the system is not installed.
    """
    try:
        yield
    except (ImportError, OSError) as error:
        for library, package in SYSTEM_LIBRARIES.items():
            if library in str(error):
                raise SystemLibraryError(
                    f"the system's library {library} is not installed ({error}). "
                    f"On Debian or Ubuntu: apt-get install {package}"
                ) from error
        raise


def names(modality: str) -> list[str]:
    """Return the names of all extractors of a modality."""
    folder = Path(__file__).parent / modality
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def find(modality: str, name: str) -> type[BaseExtractor[ExtractorSettings]]:
    """Return the class of an extractor.

    Raises:
        ParamsError: there is no extractor of that name; the message lists all names.
    """
    allowed = names(modality)
    if name not in allowed:
        raise ParamsError(
            f'there is no {modality} extractor "{name}"; expected one of: {", ".join(allowed)}.'
            + nearest(name, allowed)
        )
    module = importlib.import_module(f"pipeline.extraction.extractors.{modality}.{name}")
    extractor: type[BaseExtractor[ExtractorSettings]] = module.Extractor
    return extractor


def cautions_for(
    modality: str, name: str, settings: Mapping[str, Any], columns: Sequence[str]
) -> list[tuple[list[str], str]]:
    """Return what a reader of an extractor's columns must know: (the columns that are concerned, a sentence).

    Args:
        modality, name: of the extractor. One that is not among the project's (any more) has nothing to say.
        settings: as a store keeps them.
        columns: the names of the D columns that are there.
    """
    if name not in names(modality):
        return []
    found = []
    for caution in find(modality, name).cautions:
        concerned = [column for column in columns if re.fullmatch(caution.columns, column)]
        if concerned and caution.when(settings):
            found.append((concerned, caution.says))
    return found


def caution_line(columns: Sequence[str], says: str, most: int = 3) -> str:
    """Return a caution in a line; of many columns the first ``most`` are named."""
    more = f" and {len(columns) - most} more" if len(columns) > most else ""
    return f"{', '.join(columns[:most])}{more}: {says}"
