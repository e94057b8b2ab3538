"""CH-SIMS (Yu et al. 2020) and CH-SIMS v2 (Liu et al. 2022): Chinese clips with unimodal labels.

Peculiarities of the layout, and how they are handled:

* The original has ``metadata/sentiment/label_{M,T,A,V}.csv`` (video_id, clip_id, text, label), one for each
  modality and one for all together, and the split in ``metadata/{train,val,test}_index.csv``. MMSA's edition and
  v2 have one label.csv or meta.csv instead (pipeline/data/datasets/mmsa_layout.py). The loader finds out which
  one it is.
* v2 (the supervised part, ch-simsv2s/) calls the table meta.csv, or meta(s).csv in the download. Its Raw/ has
  about 76 clips more than the table has rows. Rows without a label, such as those of the unsupervised part
  (meta(u).csv), are skipped and reported.
* Clip names are zero-padded: ``0001``.
* Scores lie in [-1, 1]; the label is the score's class by the benchmark's cuts (two: at 0; three: -0.1, 0.1;
  five: -0.7, -0.1, 0.1, 0.7); the annotation column is not used.
* The text is Chinese: choose an encoder with a tokenizer for Chinese.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Literal

from pipeline.data.datasets import _label_table
from pipeline.data.datasets._score_classes import finite, sims_class
from pipeline.data.datasets.base import BaseLoader, Expected, LoaderSettings
from pipeline.data.manifest import Sample
from pipeline.errors import DataError

LABELS = "metadata/sentiment/label_{}.csv"
INDEXES = {
    "train": "metadata/train_index.csv",
    "valid": "metadata/val_index.csv",
    "test": "metadata/test_index.csv",
}


class Settings(LoaderSettings):
    """Which edition it is (for the published counts), and how scores become labels."""

    # CH-SIMS 1 or 2
    version: Literal[1, 2] = 1
    # how many classes are made of the scores
    classes: Literal[2, 3, 5] = 3


class Loader(BaseLoader[Settings]):
    """One sample for each row of the table, in either layout."""

    Settings = Settings
    scores = True
    attribution = "CH-SIMS (Yu et al. 2020; v2 Liu et al. 2022), Tsinghua University"

    @property
    def score_limit(self) -> float:
        """Scores lie in [-1, 1]."""
        return 1.0

    def load(self) -> Iterator[Sample]:
        """Yield the clips in the table's order.

        Raises:
            DataError: the tree has neither layout.
        """
        table = next((name for name in _label_table.TABLES if (self.root / name).is_file()), None)
        if (self.root / LABELS.format("M")).is_file():
            yield from self._original()
        elif table:
            for sample in _label_table.labelled_clips(self, table, self.score_limit):
                yield dataclasses.replace(
                    sample, label=sims_class(sample.score or 0.0, self.settings.classes)
                )
        else:
            raise DataError(
                f"{self.root}: found neither {LABELS.format('M')} (the original) nor "
                f"{' nor '.join(_label_table.TABLES)}. "
                f"Set the dataset's root in params.yaml"
            )

    def expected(self) -> Expected:
        """Return the counts of the owners' split."""
        counts = _label_table.COUNTS["sims" if self.settings.version == 1 else "simsv2"]
        return Expected(f"CH-SIMS v{self.settings.version}", {"samples": sum(counts.values()), **counts})

    def _original(self) -> Iterator[Sample]:
        split = self._split()
        unimodal: dict[str, dict[tuple[str, str], float]] = {
            field: self._scores(letter) for field, letter in zip(_label_table.UNIMODAL, "TAV", strict=True)
        }
        clips = _label_table.Clips(self)
        table = LABELS.format("M")
        turns: Counter[str] = Counter()
        seen: set[str] = set()
        for line, row in self.table(table, ("video_id", "clip_id", "text", "label")):
            video, clip = row["video_id"].strip(), row["clip_id"].strip()
            name, score = f"{video}_{clip}", finite(row["label"])
            if wrong := _label_table.not_a_name(row, "video_id", "clip_id"):
                self.skip(table, wrong, line=line, entry=name)
            elif score is None or abs(score) > self.score_limit:
                self.skip(
                    table,
                    f'found the label "{row["label"]}", expected a number in [-1, 1]',
                    line=line,
                    entry=name,
                )
            elif name in seen:
                self.skip(table, "the clip is listed twice", line=line, entry=name)
            else:
                seen.add(name)
                if (video, clip) not in split:
                    self.note(
                        table, "the clip is in none of the index files: no split", line=line, entry=name
                    )
                path = clips.take(video, clip, table, line)
                yield Sample(
                    id=name,
                    video_path=path,
                    audio_path=path,
                    text=row["text"].strip(),
                    dialogue=video,
                    turn=turns[video],
                    split=split.get((video, clip), ""),
                    label=sims_class(score, self.settings.classes),
                    score=score,
                    score_text=unimodal["score_text"].get((video, clip)),
                    score_audio=unimodal["score_audio"].get((video, clip)),
                    score_video=unimodal["score_video"].get((video, clip)),
                )
                turns[video] += 1
        clips.note_unlabelled()

    def _split(self) -> dict[tuple[str, str], str]:
        split: dict[tuple[str, str], str] = {}
        for part, file in INDEXES.items():
            if not (self.root / file).is_file():
                self.note(file, f"there is no such file: no clip is in {part}")
                continue
            for line, row in self.table(file, ("video_id", "clip_id")):
                key = row["video_id"].strip(), row["clip_id"].strip()
                if split.setdefault(key, part) != part:
                    raise DataError(
                        f"{self.root / file}, line {line}: {'_'.join(key)} is in {split[key]} too"
                    )
        return split

    def _scores(self, letter: str) -> dict[tuple[str, str], float]:
        file = LABELS.format(letter)
        if not (self.root / file).is_file():
            self.note(file, "there is no such file: no unimodal scores of this kind")
            return {}
        scores = {}
        for line, row in self.table(file, ("video_id", "clip_id", "label")):
            key, score = (row["video_id"].strip(), row["clip_id"].strip()), finite(row["label"])
            if score is None:
                self.note(
                    file,
                    f'found the label "{row["label"]}", expected a number',
                    line=line,
                    entry="_".join(key),
                )
            else:
                scores[key] = score
        return scores
