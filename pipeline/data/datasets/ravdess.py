"""RAVDESS (Livingstone and Russo 2018, CC BY-NC-SA 4.0): Actor_01..Actor_24; the names of the files hold all labels.

Peculiarities of the layout, and how they are handled:

* A name is ``modality-channel-emotion-intensity-statement-repetition-actor``. A performance may have up to three
  files: 01 video and sound, 02 video alone, 03 sound alone (WAV). Each performance is one sample: of the full
  clip if there is one, else of the others; files 02 and 03 beside a full clip are copies of its streams.
* Channel 02 is song: left out unless an option asks for it.
* Odd actors are male.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from pipeline.data.datasets.base import BaseLoader, Expected, LoaderSettings
from pipeline.data.manifest import Sample
from pipeline.errors import DataError

EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
STATEMENTS = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}
CHANNELS = {"01": "speech", "02": "song"}
_NAME = re.compile(r"(0[123])-(0[12])-(\d\d)-(0[12])-(0[12])-(0[12])-(\d\d)$")


class Settings(LoaderSettings):
    """Speech, song or both."""

    # speech or song
    channel: Literal["speech", "song", "both"] = "speech"


class Loader(BaseLoader[Settings]):
    """One sample for each performance, labelled by the names of its files."""

    Settings = Settings
    attribution = "RAVDESS (Livingstone and Russo 2018), CC BY-NC-SA 4.0"

    def load(self) -> Iterator[Sample]:
        """Yield one sample a performance, actor by actor.

        Raises:
            DataError: there is no Actor_NN folder.
        """
        files = sorted(
            path for path in self.root.glob("**/Actor_[0-9][0-9]/*.*") if not path.name.startswith(".")
        )
        if not files:
            raise DataError(f"{self.root}: found no Actor_NN/*.mp4. Set the dataset's root in params.yaml")
        places: dict[tuple[str, ...], dict[str, str]] = {}
        for path in files:
            match = _NAME.match(path.stem)
            if path.suffix.lower() not in (".mp4", ".wav"):
                self.skip(path, "neither an mp4 nor a wav")
            elif match is None or match[3] not in EMOTIONS:
                self.skip(path, "the name does not say a known modality, channel, emotion, ... and actor")
            elif self.settings.channel not in ("both", CHANNELS[match[2]]):
                self.skip(path, f"{CHANNELS[match[2]]}: not asked for")
            else:
                _, *rest = match.groups()
                places.setdefault((rest[-1], *rest), {})[match[1]] = self._inside(path)
        for (actor, channel, emotion, intensity, statement, repetition, _), kinds in sorted(places.items()):
            full = kinds.get("01", "")
            yield Sample(
                id="-".join(("01", channel, emotion, intensity, statement, repetition, actor)),
                video_path=full or kinds.get("02", ""),
                audio_path=full or kinds.get("03", ""),
                text=STATEMENTS[statement],
                speaker=actor,
                gender="male" if int(actor) % 2 else "female",
                label=EMOTIONS[emotion],
            )

    def expected(self) -> Expected:
        """Return the owners' counts: 1440 performances of speech, 1012 of song (one actor did not sing)."""
        numbers = {"speech": 1440, "song": 1012, "both": 2452}
        speakers = 23 if self.settings.channel == "song" else 24
        return Expected(
            "Livingstone and Russo 2018", {"samples": numbers[self.settings.channel], "speaker": speakers}
        )
