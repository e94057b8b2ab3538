"""MSP-IMPROV (Busso et al. 2017).

Peculiarities of the layout, and how they are handled:

* The labels are in ``Evalution.txt`` (sic; ``Evaluation.txt`` in some copies), and call a turn
  ``UTD-IMPROV-S01A-F01-S-FM01.avi``; the media and transcripts call it ``MSP-IMPROV-...``. The second is its
  id.
* Lines of single raters follow each turn's line; they are not used.
* A name is ``S<sentence><target emotion>-<actor>-<scenario>-<listener><speaker><turn>``. The actor is the
  person who was to say the target sentence; the speaker of the turn is the second of the two letters. Both
  belong to the session of the actor's number, so that F01 and M01 are partners. With ``speaker_from: actor`` the
  actor counts as the speaker.
* Scenarios: P natural, R target read, S other improvised, T target improvised. The papers use S and turns of
  at least one second (MMIN, section 4.1). The duration is read from the WAV file's header.
* Transcripts are in ``All_human_transcriptions/`` or ``Human_transcriptions/Text/``, and not every turn has
  one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from pipeline.data.datasets.base import BaseLoader, Expected, LoaderSettings
from pipeline.data.manifest import Sample
from pipeline.data.wav_header import wav_length
from pipeline.errors import DataError, MediaError

LABELS = {"H": "happy", "A": "angry", "S": "sad", "N": "neutral"}
OTHERS = {"O": "other", "X": "no agreement"}
SCENARIOS = {"P": "natural", "R": "target read", "S": "other improvised", "T": "target improvised"}
TURNS = {"P": 2785, "R": 620, "S": 4381, "T": 652}

_FLOAT = r"(-?\d+(?:\.\d+)?)"
_LINE = re.compile(
    rf"(?:UTD|MSP)-IMPROV-(\S+)\.avi;\s*(\w+)\s*;\s*A:{_FLOAT}\s*;\s*V:{_FLOAT}\s*;\s*D:{_FLOAT}\s*;"
)
_NAME = re.compile(r"(S\d\d[AHSN])-([FM])(\d\d)-([PRST])-([FM])([FM])(\d+)$")


class Settings(LoaderSettings):
    """Which turns are used."""

    # which recordings
    scenarios: Annotated[tuple[Literal["P", "R", "S", "T"], ...], Field(min_length=1)] = ("S",)
    # shorter turns are left out
    min_duration_s: Annotated[float, Field(ge=0)] = 1.0
    all_labels: bool = False  # also "other" and "no agreement"
    # which part of a name says who speaks
    speaker_from: Literal["turn", "actor"] = "turn"


class Loader(BaseLoader[Settings]):
    """One sample for each chosen turn of the label file."""

    Settings = Settings
    attribution = "MSP-IMPROV, MSP lab, University of Texas at Dallas (Busso et al. 2017); academic licence"

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """Five self-assessment manikins a dimension; a turn has the raters' mean."""
        return dict.fromkeys(("valence", "activation", "dominance"), (1.0, 5.0))

    def load(self) -> Iterator[Sample]:
        """Yield the chosen turns, dialogue by dialogue in their order."""
        left_out: Counter[str] = Counter()
        rated = sorted(self._rated().items(), key=lambda item: _order(item[0]))
        texts = self._transcripts()
        sounds = {
            path.stem for path in self.root.glob("Audio/session*/*/*/*.wav") if not path.name.startswith("._")
        }
        for sound in sorted(sounds - {f"MSP-IMPROV-{name}" for name, _ in rated}):
            self.note("Audio", "a clip without a label", entry=sound)
        places: Counter[str] = Counter()
        for name, (code, activation, valence, dominance, line) in rated:
            sentence, actor, number, scenario, _, speaker, _ = _parts(name)
            dialogue = f"MSP-IMPROV-{sentence}-{actor}{number}-{scenario}"
            order = places[dialogue]
            places[dialogue] += 1
            if scenario not in self.settings.scenarios:
                left_out[f"of the scenario {scenario} ({SCENARIOS[scenario]})"] += 1
                continue
            label = (LABELS | OTHERS if self.settings.all_labels else LABELS).get(code)
            if label is None:
                left_out[f"labelled {code} ({OTHERS[code]})"] += 1
                continue
            turn = f"MSP-IMPROV-{name}"
            place = f"session{int(number)}/{sentence}/{scenario}/{turn}"
            if not self._long_enough(f"Audio/{place}.wav", turn):
                continue
            if turn not in texts:
                self.note(self._labels_file, "the turn has no transcript", line=line, entry=turn)
            letter = speaker if self.settings.speaker_from == "turn" else actor
            yield Sample(
                id=turn,
                video_path=f"Video/{place}.avi",
                audio_path=f"Audio/{place}.wav",
                text=self._text(texts[turn]) if turn in texts else "",
                speaker=f"{letter}{number}",
                gender={"F": "female", "M": "male"}[letter],
                dialogue=dialogue,
                session=f"session{int(number)}",
                turn=order,
                label=label,
                valence=valence,
                activation=activation,
                dominance=dominance,
            )
        for what, count in sorted(left_out.items()):
            self.skip(self._labels_file, f"{count} turns {what}: not asked for")

    def expected(self) -> Expected:
        """Return MMIN's counts for its selection, else the owners' (without those under a second)."""
        settings = self.settings
        if settings.scenarios == ("S",) and settings.min_duration_s == 1.0 and not settings.all_labels:
            labels = {"happy": 999, "angry": 460, "sad": 627, "neutral": 1733}
            counts = {f"label={name}": count for name, count in labels.items()}
            return Expected("MMIN, section 4.1", {"samples": 3819, **counts, "speaker": 12})
        counts = {"speaker": 12, "session": 6}
        if settings.all_labels and settings.min_duration_s == 0:
            counts["samples"] = sum(TURNS[scenario] for scenario in set(settings.scenarios))
        return Expected("the owners' release", counts)

    @property
    def _labels_file(self) -> str:
        for name in ("Evalution.txt", "Evaluation.txt"):
            if (self.root / name).is_file():
                return name
        raise DataError(
            f"{self.root}: found neither Evalution.txt (the owners' spelling) nor Evaluation.txt; expected "
            f"the folder MSP-IMPROV. Set the dataset's root in params.yaml"
        )

    def _rated(self) -> dict[str, tuple[str, float, float, float, int]]:
        """Return turn (without its prefix) -> code, activation, valence, dominance, line."""
        rated: dict[str, tuple[str, float, float, float, int]] = {}
        file = self._labels_file
        for number, line in self.lines(file):
            if not line.startswith(("UTD-IMPROV-", "MSP-IMPROV-")):
                continue  # the line of a single rater, or a blank one
            match = _LINE.match(line)
            if match is None or not _NAME.match(match[1]):
                self.skip(file, "not a turn: NAME.avi; code; A:..; V:..; D:..;", line=number, entry=line[:60])
            elif match[2] not in LABELS | OTHERS:
                self.skip(
                    file,
                    f'found the code "{match[2]}", expected one of A H S N O X',
                    line=number,
                    entry=match[1],
                )
            elif match[1] in rated:
                self.skip(file, "the turn is listed twice", line=number, entry=match[1])
            else:
                rated[match[1]] = (match[2], float(match[3]), float(match[4]), float(match[5]), number)
        return rated

    def _long_enough(self, file: str, turn: str) -> bool:
        least = self.settings.min_duration_s
        if not least:
            return True
        try:
            seconds = wav_length(self.root / file).there_s
        except MediaError as error:
            reason = str(error).removeprefix(f"{self.root / file}: ")
            self.note(file, f"its duration is not known, so the turn is kept: {reason}", entry=turn)
            return True
        if seconds < least:
            self.skip(file, f"{seconds:.2f} s of sound, under {least:g} s", entry=turn)
            return False
        return True

    def _transcripts(self) -> dict[str, str]:
        """Return turn -> its transcript's file."""
        found: dict[str, str] = {}
        for folder in ("Human_transcriptions/Text", "All_human_transcriptions"):
            for path in sorted((self.root / folder).glob("*.txt")):
                if not path.name.startswith("._"):
                    found[path.stem.replace("UTD-IMPROV", "MSP-IMPROV")] = self._inside(path)
        return found

    def _text(self, file: str) -> str:
        return " ".join(line.strip() for _, line in self.lines(file) if line.strip())


def _parts(name: str) -> tuple[str, ...]:
    match = _NAME.match(name)
    return match.groups() if match else ("",) * 7


def _order(name: str) -> tuple[str, str, str, str, int, str]:
    sentence, actor, number, scenario, listener, speaker, turn = _parts(name)
    return number, sentence, actor, scenario, int(turn), listener + speaker
