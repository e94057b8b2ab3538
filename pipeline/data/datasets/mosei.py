"""CMU-MOSEI (Zadeh et al. 2018).

Peculiarities of the layout, and how they are handled:

* Files are of whole videos (``Videos/Full/Combined/<video>.mp4``, ``Audio/Full/WAV_16000/<video>.wav``): a
  segment is cut out by its times.
* ``Transcript/Segmented/Combined/<video>.txt`` has lines ``video___n___start___end___text``; a text may
  contain three underscores itself.
* Labels are a computational sequence "All Labels" (sentiment first, then six emotions, for each interval of
  a video) in Labels/*.csd, or a csv in Labels/ with the columns video, start, end, sentiment and perhaps
  split. Segments and labels are matched by video and times (within 0.1 s); the report lists what has no match.
* Word times come from the SDK's ``CMU_MOSEI_TimestampedWords.csd`` if it is in Transcript/.
* The official split is by video. It is not part of the download: put the SDK's ``cmu_mosei_std_folds.py``,
  or a csv with the columns video and split, below the root and name it in ``split_file``; or use a label csv
  with a column split. Without either there is no split, and the report notes it. (The SDK lists 2250 videos for
  training; one of them has no rated segment, hence the papers' 2249.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.data.csd import Sequences
from pipeline.data.datasets._official_splits import PARTS, read_split
from pipeline.data.datasets._score_classes import finite, mosi_class
from pipeline.data.datasets._timed_words import TimedWords
from pipeline.data.datasets.base import BaseLoader, Expected, LoaderSettings
from pipeline.data.manifest import Sample, resolve_media
from pipeline.errors import DataError, StoreError

TRANSCRIPTS = "Transcript/Segmented/Combined"
WORDS_FILE = "Transcript/CMU_MOSEI_TimestampedWords.csd"
TOLERANCE_S = 0.1


class Settings(LoaderSettings):
    """How scores become labels, and the files of labels and split."""

    # how many classes are made of the scores
    classes: Literal[3, 7] = 3
    labels_file: str = ""  # relative to the root; empty: the only one in Labels/
    # the SDK's list of folds, below the root
    split_file: str = ""


@dataclass
class _Rating:
    start_s: float
    end_s: float
    score: float
    split: str
    line: int | None
    taken: bool = False


class Loader(BaseLoader[Settings]):
    """One sample for each line of the transcripts that has a label."""

    Settings = Settings
    scores = True
    attribution = "CMU-MOSEI (Zadeh et al. 2018), Carnegie Mellon University"

    def load(self) -> Iterator[Sample]:
        """Yield the rated segments, video by video.

        Raises:
            DataError: there are no transcripts or no labels.
        """
        files = sorted(
            path for path in (self.root / TRANSCRIPTS).glob("*.txt") if not path.name.startswith("._")
        )
        if not files:
            raise DataError(
                f"{self.root}: found no {TRANSCRIPTS}/*.txt; expected the folder with CMU-MOSEI's Videos, "
                f"Audio and Transcript. Set the dataset's root in params.yaml"
            )
        labels = self._labels_file()
        ratings = self._from_csd(labels) if labels.suffix == ".csd" else self._from_table(labels)
        split = (
            read_split(resolve_media(self.root, self.settings.split_file))
            if self.settings.split_file
            else None
        )
        if split is None and not any(rating.split for rows in ratings.values() for rating in rows):
            self.note(
                labels,
                "no official split: set split_file to the SDK's cmu_mosei_std_folds.py, or to a csv with "
                "video and split",
            )
        words = TimedWords(self.root / WORDS_FILE) if (self.root / WORDS_FILE).is_file() else None
        for file in files:
            yield from self._video(file, ratings.get(file.stem, []), split, words)
        if words:
            words.close()
        for video, rows in sorted(ratings.items()):
            for rating in rows:
                if not rating.taken:
                    when = f"{video} {rating.start_s:g}-{rating.end_s:g}"
                    self.skip(
                        labels, "a label without a segment in the transcripts", line=rating.line, entry=when
                    )

    def expected(self) -> Expected:
        """Return the counts of the official split."""
        return Expected(
            "the official split (UMDF, Datasets)",
            {
                "samples": 22856,
                "split=train": 16326,
                "split=valid": 1871,
                "split=test": 4659,
                "dialogue": 2249 + 300 + 678,
            },
        )

    def _labels_file(self) -> Path:
        if self.settings.labels_file:
            return resolve_media(self.root, self.settings.labels_file)
        found = sorted([*(self.root / "Labels").glob("*.csd"), *(self.root / "Labels").glob("*.csv")])
        if len(found) != 1:
            raise DataError(
                f"{self.root / 'Labels'}: found {[path.name for path in found] or 'no label file'}, "
                'expected one .csd ("All Labels" of the CMU Multimodal SDK) or one .csv; or name it in '
                "labels_file"
            )
        return found[0]

    def _from_csd(self, labels: Path) -> dict[str, list[_Rating]]:
        ratings: dict[str, list[_Rating]] = {}
        try:
            with Sequences(labels) as sequences:
                for video in sequences.ids():
                    times, values = sequences.read(video)
                    rows = ratings.setdefault(video, [])
                    for (start, end), score in zip(times, values[:, 0], strict=True):
                        number = finite(str(score))
                        when = f"{video} {start:g}-{end:g}"
                        start, end = self._from_zero(labels, float(start), float(end), when)
                        if number is None or not -3 <= number <= 3:
                            self.skip(
                                labels,
                                f"found the sentiment {score}, expected a number in [-3, 3]",
                                entry=when,
                            )
                        elif end <= start:
                            self.skip(labels, _backwards(start, end), entry=when)
                        else:
                            rows.append(_Rating(start, end, round(number, 6), "", None))
        except StoreError as error:
            raise DataError(f"the labels cannot be read: {error}") from error
        return ratings

    def _from_table(self, labels: Path) -> dict[str, list[_Rating]]:
        ratings: dict[str, list[_Rating]] = {}
        file = self._inside(labels)
        for line, row in self.table(file, ("video", "start", "end", "sentiment")):
            start, end, score = (finite(row[name]) for name in ("start", "end", "sentiment"))
            part = row.get("split", "").strip().lower()
            if start is None or end is None or score is None:
                wrong = next(name for name in ("start", "end", "sentiment") if finite(row[name]) is None)
                self.skip(
                    file,
                    f'found the {wrong} "{row[wrong]}", expected a number',
                    line=line,
                    entry=row["video"],
                )
                continue
            start, end = self._from_zero(file, start, end, row["video"], line)
            if not -3 <= score <= 3:
                self.skip(
                    file,
                    f"found the sentiment {score:g}, expected a number in [-3, 3]",
                    line=line,
                    entry=row["video"],
                )
            elif end <= start:
                self.skip(file, _backwards(start, end), line=line, entry=row["video"])
            elif part and part not in PARTS:
                self.skip(
                    file,
                    f'found the split "{part}", expected train, valid or test',
                    line=line,
                    entry=row["video"],
                )
            else:
                rating = _Rating(start, end, score, PARTS.get(part, ""), line)
                ratings.setdefault(row["video"], []).append(rating)
        return ratings

    def _from_zero(
        self, file: Path | str, start_s: float, end_s: float, entry: str, line: int | None = None
    ) -> tuple[float, float]:
        """Return start and end of a segment; the owners' files hold starts below 0, which become 0 and are noted."""
        if start_s >= 0:
            return start_s, end_s
        if end_s > 0:
            self.note(file, f"it starts at {start_s:g} s: taken from 0 on", line=line, entry=entry)
        return 0.0, end_s

    def _video(
        self, file: Path, ratings: list[_Rating], split: dict[str, str] | None, words: TimedWords | None
    ) -> Iterator[Sample]:
        video = file.stem
        turns: Counter[str] = Counter()
        seen: set[str] = set()
        for number, line in self.lines(self._inside(file)):
            if not line.strip():
                continue
            fields = line.split("___", 4)
            start, end = (finite(fields[2]), finite(fields[3])) if len(fields) == 5 else (None, None)
            if start is None or end is None or fields[0] != video or not fields[1].isdigit():
                self.skip(file, "not a segment: video___n___start___end___text", line=number, entry=line[:60])
                continue
            name = f"{video}_{fields[1]}"
            start, end = self._from_zero(file, start, end, name, number)
            if end <= start or name in seen:
                why = "the segment is listed twice" if name in seen else _backwards(start, end)
                self.skip(file, why, line=number, entry=name)
                continue
            seen.add(name)
            rating = next((r for r in ratings if not r.taken and _near(r, start, end)), None)
            if rating is None:
                self.skip(file, "a segment without a label", line=number, entry=name)
                continue
            rating.taken = True
            if split is not None and video not in split:
                self.note(file, "the video is not in the split file: no split", line=number, entry=name)
            yield Sample(
                id=name,
                video_path=f"Videos/Full/Combined/{video}.mp4",
                audio_path=f"Audio/Full/WAV_16000/{video}.wav",
                start_s=start,
                end_s=end,
                audio_start_s=start,
                audio_end_s=end,
                text=fields[4].strip(),
                words=words.between(video, start, end) if words else (),
                dialogue=video,
                turn=turns[video],
                split=rating.split if split is None else split.get(video, ""),
                label=mosi_class(rating.score, self.settings.classes),
                score=rating.score,
            )
            turns[video] += 1


def _backwards(start_s: float, end_s: float) -> str:
    return f"it ends at {end_s:g} s, not after its start at {start_s:g} s"


def _near(rating: _Rating, start_s: float, end_s: float) -> bool:
    return abs(rating.start_s - start_s) <= TOLERANCE_S and abs(rating.end_s - end_s) <= TOLERANCE_S
