"""MELD (Poria et al. 2019, GPL-3): dialogues of a television series, several speakers in each.

Peculiarities of the layout, and how they are handled:

* There is one csv for each part, and clips ``dia<d>_utt<u>.mp4`` in folders whose names differ:
  ``train_splits``, ``dev_splits_complete``, ``output_repeated_splits_test`` (or ``train``, ``dev``, ``test``).
  Dialogue numbers begin again in each part, so an id contains its part.
* Apostrophes and quotation marks of Windows-1252 appear in texts as control characters (U+0091 to U+0097); they
  are corrected.
* StartTime and EndTime refer to the series' episodes, not to the clips; they are not used.
* Some rows have no clip (train dia125_utt3, dev dia110_utt7 in the owners' archive), and some clips no row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pipeline.data.datasets.base import BaseLoader, Expected, LoaderSettings
from pipeline.data.manifest import Sample
from pipeline.errors import DataError

EMOTIONS = {
    "neutral": "neutral",
    "joy": "happy",
    "sadness": "sad",
    "anger": "angry",
    "surprise": "surprise",
    "fear": "fear",
    "disgust": "disgust",
}
SENTIMENTS = ("negative", "neutral", "positive")
PARTS = {
    "train": ("train", ("train_splits", "train")),
    "dev": ("valid", ("dev_splits_complete", "dev_splits", "dev")),
    "test": ("test", ("output_repeated_splits_test", "test_splits", "test")),
}
WINDOWS_1252 = {0x91: "‘", 0x92: "’", 0x93: "“", 0x94: "”", 0x85: "…", 0x96: "–", 0x97: "—"}


class Settings(LoaderSettings):
    """Which of the two labels is used."""

    # which of the two labels
    label: Literal["emotion", "sentiment"] = "emotion"


class Loader(BaseLoader[Settings]):
    """One sample for each row of the three tables."""

    Settings = Settings
    attribution = "MELD (Poria et al. 2019), GPL-3.0"

    def load(self) -> Iterator[Sample]:
        """Yield the utterances part by part, in the tables' order.

        Raises:
            DataError: there is no table.
        """
        tables = {}
        for part in PARTS:
            places = (f"{part}_sent_emo.csv", f"{part}/{part}_sent_emo.csv", f"data/MELD/{part}_sent_emo.csv")
            if place := next((place for place in places if (self.root / place).is_file()), None):
                tables[part] = place
            else:
                self.note(f"{part}_sent_emo.csv", f"there is no such file: the part {part} is empty")
        if not tables:
            raise DataError(
                f"{self.root}: found no train_sent_emo.csv. Set the dataset's root in params.yaml"
            )
        for part, table in tables.items():
            yield from self._part(part, table)

    def expected(self) -> Expected:
        """Return the owners' counts."""
        parts = {"split=train": 9989, "split=valid": 1109, "split=test": 2610}
        return Expected("Poria et al. 2019", {"samples": 13708, **parts})

    def _part(self, part: str, table: str) -> Iterator[Sample]:
        split, folders = PARTS[part]
        folder = next((name for name in folders if (self.root / name).is_dir()), folders[0])
        clips = {path.stem for path in (self.root / folder).glob("dia*_utt*.mp4")}
        seen: set[str] = set()
        columns = ("Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID")
        for line, row in self.table(table, columns):
            dialogue, number = row["Dialogue_ID"].strip(), row["Utterance_ID"].strip()
            clip = f"dia{dialogue}_utt{number}"
            emotion, sentiment = row["Emotion"].strip().lower(), row["Sentiment"].strip().lower()
            if not dialogue.isdecimal():
                self.skip(
                    table, f'found the Dialogue_ID "{dialogue}", expected a number', line=line, entry=clip
                )
            elif not number.isdecimal():
                self.skip(
                    table, f'found the Utterance_ID "{number}", expected a number', line=line, entry=clip
                )
            elif emotion not in EMOTIONS:
                reason = f'found the emotion "{emotion}", expected one of {", ".join(EMOTIONS)}'
                self.skip(table, reason, line=line, entry=clip)
            elif sentiment not in SENTIMENTS:
                reason = f'found the sentiment "{sentiment}", expected one of {", ".join(SENTIMENTS)}'
                self.skip(table, reason, line=line, entry=clip)
            elif clip in seen:
                self.skip(table, "the utterance is listed twice", line=line, entry=clip)
            else:
                seen.add(clip)
                path = f"{folder}/{clip}.mp4"
                yield Sample(
                    id=f"{part}_{clip}",
                    video_path=path,
                    audio_path=path,
                    text=row["Utterance"].translate(WINDOWS_1252).strip(),
                    speaker=row["Speaker"].translate(WINDOWS_1252).strip(),
                    dialogue=f"{part}_dia{dialogue}",
                    turn=int(number),
                    split=split,
                    label=EMOTIONS[emotion] if self.settings.label == "emotion" else sentiment,
                )
        for clip in sorted(clips - seen):
            self.note(f"{folder}/{clip}.mp4", "a clip without a row", entry=f"{part}_{clip}")
