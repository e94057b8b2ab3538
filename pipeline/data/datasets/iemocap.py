"""IEMOCAP (Busso et al. 2008): IEMOCAP_full_release/Session{1..5}/.

Peculiarities of the layout, and how they are handled:

* The picture is a split screen of both speakers. The dialogue's name says who wears the markers
  (``Ses01F_...``): that person is in the left half, the other in the right. A turn's own letter
  (``..._M003``) says who speaks.
* Videos are of whole dialogues: a turn is cut out by its times. Its sound is the sentence's WAV file if there is
  one, else it is cut out of the dialogue's WAV file.
* dialog/EmoEvaluation/<dialogue>.txt mixes turns (``[start - end]<TAB>name<TAB>code<TAB>[V, A, D]``) with a
  header (``%``), lines of single raters (``C-...``, ``A-...``), which are not used, and blank lines. Its
  subfolders and the ``._`` files of macOS are ignored. Turns are not listed in order: ``turn`` numbers them by
  their start.
* Some lines of the transcriptions have another form (``F: Mmhmm.``) and belong to no turn; the report lists
  them.
* Words come from the forced alignment (100 frames a second, end frame included, from the turn's start).
  Silence (``<s>``, ``<sil>``) and noises (``++LAUGHTER++``) are not words; ``WORD(2)`` is a second
  pronunciation of WORD. Ses03M_impro03_M001 has no alignment in the owners' release either.

Label sets (option ``classes``): 4 is happy (with excited), angry, sad, neutral, as in MMIN; 2, 6 and 7 as in
EMMR and the dialogue papers. EMMR's four classes leave excited out (``merge_excited: false``).

EMMR says that its negative class is frustration, anger, sadness, fear and "disappointing"; the 4185 of its
Table 5 are only reached with surprise counted as well (1849 + 1103 + 1084 + 40 + 2 disgusted + 107 surprised).
The default follows the text; ``surprise_is_negative: true`` follows the table.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pipeline.data.datasets.base import BaseLoader, Expected, LoaderSettings
from pipeline.data.manifest import Sample, Word
from pipeline.errors import DataError

NAMES = {
    "neu": "neutral",
    "fru": "frustrated",
    "ang": "angry",
    "sad": "sad",
    "hap": "happy",
    "exc": "excited",
    "sur": "surprised",
    "fea": "fearful",
    "dis": "disgusted",
    "oth": "other",
    "xxx": "no agreement",
}
TURNS = {  # of the owners' release; they sum to 10,039
    "neu": 1708,
    "fru": 1849,
    "ang": 1103,
    "sad": 1084,
    "hap": 595,
    "exc": 1041,
    "sur": 107,
    "fea": 40,
    "dis": 2,
}
SPEAKER_TURNS = {  # of the four classes, with excited (MMIN's folds)
    "Ses01F": 528,
    "Ses01M": 557,
    "Ses02F": 481,
    "Ses02M": 542,
    "Ses03F": 522,
    "Ses03M": 629,
    "Ses04F": 528,
    "Ses04M": 503,
    "Ses05F": 590,
    "Ses05M": 651,
}
WDSEG_FRAMES_A_SECOND = 100

_NUMBER = r"(\d+(?:\.\d+)?)"
_RATING = r"(-?\d+(?:\.\d+)?)"
_TURN = re.compile(rf"\[{_NUMBER} - {_NUMBER}\]\t(\S+)\t(\w+)\t\[{_RATING}, {_RATING}, {_RATING}\]\s*$")
_RATER = re.compile(r"[CA]-\w+:")
_TRANSCRIPT = re.compile(r"(\S+) \[\d+(?:\.\d+)?-\d+(?:\.\d+)?\]:\s*(.*)$")
_NAME = re.compile(r"Ses(\d\d)([FM])_\w+_([FM])\w*\d+$")
_WORD = re.compile(r"\s*(\d+)\s+(\d+)\s+(-?\d+)\s+(\S+)\s*$")


class Settings(LoaderSettings):
    """Which turns are used, and the names of their classes."""

    # how many emotions, as the papers merge them
    classes: Literal[2, 4, 6, 7, "all"] = 4
    merge_excited: bool = True  # of 4 classes: excited counts as happy
    surprise_is_negative: bool = False  # of 2 classes: as EMMR's Table 5 counts, against its text


@dataclass(frozen=True)
class _Turn:
    name: str
    start_s: float
    end_s: float
    code: str
    valence: float
    activation: float
    dominance: float
    line: int


class Loader(BaseLoader[Settings]):
    """Reads the sessions that are there; the whole corpus has five."""

    Settings = Settings
    attribution = "IEMOCAP, SAIL, University of Southern California (Busso et al. 2008); research licence"

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """Five self-assessment manikins a dimension; a turn has the raters' mean."""
        return dict.fromkeys(("valence", "activation", "dominance"), (1.0, 5.0))

    def load(self) -> Iterator[Sample]:
        """Yield the turns of the chosen classes, dialogue by dialogue, in the order in which they were
        spoken.
        """
        evaluations = sorted(
            path
            for path in self.root.glob("Session[0-9]/dialog/EmoEvaluation/*.txt")
            if not path.name.startswith("._")
        )
        if not evaluations:
            raise DataError(
                f"{self.root}: found no Session*/dialog/EmoEvaluation/*.txt; expected the folder "
                f"IEMOCAP_full_release. Set the dataset's root in params.yaml"
            )
        left_out: Counter[str] = Counter()
        for evaluation in evaluations:
            yield from self._dialogue(evaluation, left_out)
        for code, count in sorted(left_out.items()):
            self.skip(
                ".",
                f'{count} turns labelled "{code}" ({NAMES[code]}): not among the classes asked for '
                f"(classes: {self.settings.classes})",
            )

    def expected(self) -> Expected:
        """Return MMIN's counts for four classes, else the owners'."""
        counts: Counter[str] = Counter()
        for code, turns in TURNS.items():
            if label := self._labels.get(code):
                counts[f"label={label}"] += turns
        if self.settings.classes == "all":
            counts["label=other"], counts["label=no agreement"] = 3, 2507
        counts["samples"] = sum(counts.values())
        if self.settings.classes == 4 and self.settings.merge_excited:
            speakers = {f"speaker={name}": turns for name, turns in SPEAKER_TURNS.items()}
            return Expected("MMIN, section 4.1 and its folds", {**counts, **speakers})
        return Expected("the owners' release", counts)

    @cached_property
    def _labels(self) -> dict[str, str]:
        """Code -> name of its class, for the codes that are wanted."""
        chosen = self.settings.classes
        if chosen == "all":
            return NAMES
        if chosen == 2:
            negative = [
                "fru",
                "ang",
                "sad",
                "fea",
                "dis",
                *(["sur"] if self.settings.surprise_is_negative else []),
            ]
            return {"hap": "positive", "exc": "positive", **dict.fromkeys(negative, "negative")}
        codes = ["hap", "ang", "sad", "neu"]
        if chosen == 4:
            merged = {"exc": "happy"} if self.settings.merge_excited else {}
            return {code: NAMES[code] for code in codes} | merged
        codes += ["fru", "exc"] if chosen == 6 else ["fru", "exc", "sur"]
        return {code: NAMES[code] for code in codes}

    def _dialogue(self, evaluation: Path, left_out: Counter[str]) -> Iterator[Sample]:
        session, dialogue = evaluation.parents[2], evaluation.stem
        turns = sorted(self._turns(evaluation), key=lambda turn: (turn.start_s, turn.name))
        texts = self._transcripts(session, dialogue)
        sentences = session / "sentences/wav" / dialogue
        if unrated := sorted(set(texts) - {turn.name for turn in turns}):
            self.note(
                session / "dialog/transcriptions" / f"{dialogue}.txt",
                f"{len(unrated)} transcripts of turns without a readable evaluation, such as {unrated[0]}",
            )
        cut = {path.stem for path in sentences.glob("*.wav") if not path.name.startswith("._")}
        aligned = (session / "sentences/ForcedAlignment" / dialogue).is_dir()
        for order, turn in enumerate(turns):
            label = self._labels.get(turn.code)
            if label is None:
                left_out[turn.code] += 1
                continue
            if turn.name not in texts:
                self.note(evaluation, "the turn has no transcript", line=turn.line, entry=turn.name)
            parts = _NAME.match(turn.name)
            letter = parts[3] if parts else ""
            place = self._inside(session)
            by_time = turn.name not in cut
            yield Sample(
                id=turn.name,
                video_path=f"{place}/dialog/avi/DivX/{dialogue}.avi",
                audio_path=f"{place}/dialog/wav/{dialogue}.wav"
                if by_time
                else f"{place}/sentences/wav/{dialogue}/{turn.name}.wav",
                start_s=turn.start_s,
                end_s=turn.end_s,
                audio_start_s=turn.start_s if by_time else None,
                audio_end_s=turn.end_s if by_time else None,
                picture="left" if letter == dialogue[5] else "right",
                text=texts.get(turn.name, ""),
                words=self._words(session, dialogue, turn.name, aligned),
                speaker=f"{dialogue[:5]}{letter}",
                gender={"F": "female", "M": "male"}.get(letter, ""),
                dialogue=dialogue,
                session=f"Ses{dialogue[3:5]}",
                turn=order,
                label=label,
                valence=turn.valence,
                activation=turn.activation,
                dominance=turn.dominance,
            )

    def _turns(self, evaluation: Path) -> Iterator[_Turn]:
        seen: set[str] = set()
        for number, line in self.lines(self._inside(evaluation)):
            if not line.strip() or line.startswith("%") or _RATER.match(line):
                continue
            if (match := _TURN.match(line)) is None:
                self.skip(evaluation, "not a turn, a rater's line or a comment", line=number, entry=line[:80])
                continue
            start, end, name, code, *vad = match.groups()
            if code not in NAMES:
                self.skip(
                    evaluation,
                    f'found the code "{code}", expected one of {" ".join(NAMES)}',
                    line=number,
                    entry=name,
                )
            elif not _NAME.match(name) or not name.startswith(f"{evaluation.stem}_"):
                self.skip(
                    evaluation,
                    f"the turn's name does not fit the dialogue {evaluation.stem}",
                    line=number,
                    entry=name,
                )
            elif name in seen:
                self.skip(evaluation, "the turn is listed twice", line=number, entry=name)
            elif float(end) <= float(start):
                self.skip(
                    evaluation,
                    f"the turn ends at {end} s, not after its start at {start} s",
                    line=number,
                    entry=name,
                )
            else:
                seen.add(name)
                valence, activation, dominance = map(float, vad)
                yield _Turn(name, float(start), float(end), code, valence, activation, dominance, number)

    def _transcripts(self, session: Path, dialogue: str) -> dict[str, str]:
        file = session / "dialog/transcriptions" / f"{dialogue}.txt"
        if not file.is_file():
            self.note(file, "there is no such file: the dialogue has no text", entry=dialogue)
            return {}
        texts: dict[str, str] = {}
        for number, line in self.lines(self._inside(file)):
            if not line.strip():
                continue
            match = _TRANSCRIPT.match(line)
            if match is None:
                self.skip(file, "not a transcript: NAME [start-end]: text", line=number, entry=line[:80])
            elif match[1] in texts:
                self.skip(file, "a second transcript of the turn", line=number, entry=match[1])
            else:
                texts[match[1]] = match[2].strip()
        return texts

    def _words(self, session: Path, dialogue: str, turn: str, aligned: bool) -> tuple[Word, ...]:
        if not aligned:
            return ()
        file = session / "sentences/ForcedAlignment" / dialogue / f"{turn}.wdseg"
        if not file.is_file():
            self.note(file, "there is no alignment of the turn: it has no word times", entry=turn)
            return ()
        words: list[Word] = []
        for number, line in self.lines(self._inside(file)):
            if not line.strip() or number == 1 or line.strip().startswith("Total score"):
                continue
            match = _WORD.match(line)
            if match is None:
                self.skip(file, "not a word: start frame, end frame, score, word", line=number, entry=turn)
                continue
            if int(match[2]) < int(match[1]):
                reason = f"the word ends at frame {match[2]}, before its start at frame {match[1]}"
                self.skip(file, reason, line=number, entry=turn)
                continue
            token = re.sub(r"\(\d+\)$", "", match[4])
            if not token.startswith(("<", "++")):
                start, end = int(match[1]), int(match[2]) + 1
                words.append(Word(token, start / WDSEG_FRAMES_A_SECOND, end / WDSEG_FRAMES_A_SECOND))
        return tuple(words)
