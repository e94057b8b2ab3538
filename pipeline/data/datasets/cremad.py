"""CREMA-D (Cao et al. 2014, doi 10.1109/TAFFC.2014.2336244): 7,442 acted clips of 91 actors and twelve
sentences.

Reads the owner's tree (VideoFlash/*.flv, AudioWAV/*.wav, AudioMP3/*.mp3, VideoDemographics.csv) as well as a
folder with some of its clips. A file's name consists of actor, sentence, emotion and level: 1001_DFA_ANG_XX.
The label is the emotion that the actor was asked to show.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from pipeline.data.datasets.base import BaseLoader, Expected, LoaderSettings
from pipeline.data.manifest import Sample
from pipeline.errors import DataError

SENTENCES = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
EMOTIONS = {"ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
LEVELS = ("LO", "MD", "HI", "XX")  # low, medium, high, unspecified
WITHOUT_SOUND = ("1076_MTI_SAD_XX",)  # the owner's README says so

# The folders of video and sound, the preferred one first.
PICTURES = (("VideoFlash", ".flv"), ("", ".flv"), ("", ".mp4"))
SOUNDS = (("AudioWAV", ".wav"), ("", ".wav"), ("AudioMP3", ".mp3"), ("", ".mp3"))
DEMOGRAPHICS = "VideoDemographics.csv"
NAME = re.compile(r"(?P<actor>\d{4})_(?P<sentence>[A-Z]{3})_(?P<emotion>[A-Z]{3})_(?P<level>[A-Z]+)")


class Settings(LoaderSettings):
    """CREMA-D has no options."""


class Loader(BaseLoader[Settings]):
    """One sample for each clip's name; a clip of which only the sound is there has no video path, and so on."""

    Settings = Settings
    attribution = (
        "CREMA-D (Cao et al. 2014), Open Database License 1.0, contents Database Contents License 1.0."
    )

    def load(self) -> Iterator[Sample]:
        """Yield every clip, sorted by name; files whose name has no known emotion are skipped and reported.

        Raises:
            DataError: there is no clip.
        """
        genders = self._genders()
        pictures, sounds = self._files(PICTURES), self._files(SOUNDS)
        if not pictures and not sounds:
            raise DataError(
                f"{self.root}: no clip of CREMA-D there; expected VideoFlash/*.flv and AudioWAV/*.wav, "
                "or such files as 1001_DFA_ANG_XX.flv themselves"
            )
        for name in sorted(pictures | sounds):
            file = pictures.get(name) or sounds[name]
            parts = NAME.fullmatch(name)
            if parts is None:
                self.skip(file, "found another name than <actor>_<sentence>_<emotion>_<level>", entry=name)
                continue
            if parts["emotion"] not in EMOTIONS:
                known = ", ".join(EMOTIONS)
                self.skip(file, f"found the emotion {parts['emotion']}, expected one of {known}", entry=name)
                continue
            if parts["sentence"] not in SENTENCES:
                self.note(
                    file, f"the sentence {parts['sentence']} is not known: kept without text", entry=name
                )
            if parts["level"] not in LEVELS:
                self.note(
                    file, f"found the level {parts['level']}, expected one of {', '.join(LEVELS)}", entry=name
                )
            sound = sounds.get(name) or pictures[name]
            if name in WITHOUT_SOUND:
                self.note(sound, "has no sound, as its owners say: kept without audio", entry=name)
                sound = ""
            yield Sample(
                id=name,
                video_path=pictures.get(name, ""),
                audio_path=sound,
                text=SENTENCES.get(parts["sentence"], ""),
                speaker=parts["actor"],
                gender=genders.get(parts["actor"], ""),
                label=EMOTIONS[parts["emotion"]],
            )

    def expected(self) -> Expected | None:
        """Return the owner's counts if the folder is the owner's whole tree, else None."""
        if not (self.root / "VideoFlash").is_dir() and not (self.root / "AudioWAV").is_dir():
            return None
        labels = {f"label={label}": 1087 if code == "NEU" else 1271 for code, label in EMOTIONS.items()}
        return Expected("Cao et al. 2014", {"samples": 7442, "speaker": 91, **labels})

    def _files(self, places: tuple[tuple[str, str], ...]) -> dict[str, str]:
        """Return {clip's name: path relative to the root}, from the first of the folders that has it."""
        found: dict[str, str] = {}
        for folder, suffix in places:
            for path in sorted((self.root / folder).glob("*")):
                if path.suffix.lower() == suffix and not path.name.startswith("."):
                    found.setdefault(path.stem, str(PurePosixPath(folder, path.name)))
        return found

    def _genders(self) -> dict[str, str]:
        """Return {actor: male or female} from the owner's table; empty for a folder without it."""
        if not (self.root / DEMOGRAPHICS).is_file():
            return {}
        genders = {}
        for line, row in self.table(DEMOGRAPHICS, ("ActorID", "Sex")):
            gender = row["Sex"].strip().lower()
            if gender in ("male", "female"):
                genders[row["ActorID"].strip()] = gender
            else:
                reason = f'found the sex "{row["Sex"]}", expected Male or Female'
                self.note(DEMOGRAPHICS, reason, line=line, entry=row["ActorID"])
        return genders
