"""CMU-MOSI (Zadeh et al. 2016): the folder Raw of the owners' archive.

Peculiarities of the layout, and how they are handled:

* ``Labels/OpinionLevelSentiment.csv`` has no header (start, end, video, segment, score) and is missing from
  many copies of the archive; older ones have it as ``Meta_data/boundaries_sentimentint_avg.csv``.
* Clips are in ``Video/Segmented/<video>_<n>.mp4`` and ``Audio/WAV_16000/Segmented``; where these are absent,
  the whole videos of ``Full`` are cut by time.
* ``Transcript/Segmented/<video>.annotprocessed`` has lines ``1_DELIM_TEXT``, in capitals.
* Word times come from the SDK's ``CMU_MOSI_TimestampedWords.csd`` if it is in Transcript/.
* The official split is by video (52, 10 and 31 ids: the standard folds of the CMU Multimodal SDK), and is
  given below. A video that is on none of the lists has no split. ``split_file`` (relative to the root) replaces
  it by another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal

from pipeline.data.datasets._official_splits import read_split
from pipeline.data.datasets._score_classes import finite, mosi_class
from pipeline.data.datasets._timed_words import TimedWords
from pipeline.data.datasets.base import BaseLoader, Expected, LoaderSettings
from pipeline.data.manifest import Sample, resolve_media
from pipeline.errors import DataError

LABEL_FILES = ("Labels/OpinionLevelSentiment.csv", "Meta_data/boundaries_sentimentint_avg.csv")
WORDS_FILE = "Transcript/CMU_MOSI_TimestampedWords.csd"

TRAIN = [
    "03bSnISJMiM",
    "0h-zjBukYpk",
    "1DmNV9C1hbY",
    "1iG0909rllw",
    "2WGyTLYerpo",
    "2iD-tVS8NPw",
    "5W7Z1C_fDaE",
    "6Egk_28TtTM",
    "6_0THN4chvY",
    "73jzhE8R1TQ",
    "7JsX8y1ysxY",
    "8OtFthrtaJM",
    "8d-gEyoeBzc",
    "8qrpnFRGt2A",
    "9J25DZhivz8",
    "9T9Hf74oK10",
    "9c67fiY0wGQ",
    "9qR7uwkblbs",
    "Af8D0E4ZXaw",
    "BI97DNYfe5I",
    "BXuRRbG0Ugk",
    "Bfr499ggo-0",
    "BioHAh1qJAQ",
    "BvYR0L6f2Ig",
    "Ci-AH39fi3Y",
    "Clx4VXItLTE",
    "Dg_0XKD0Mf4",
    "G-xst2euQUc",
    "G6GlGvlkxAQ",
    "GWuJjcEuzt8",
    "HEsqda8_d0Q",
    "I5y0__X72p0",
    "Iu2PFX3z_1s",
    "IumbAb8q2dM",
    "Jkswaaud0hk",
    "LSi-o-IrDMs",
    "MLal-t_vJPM",
    "Njd1F0vZSm4",
    "Nzq88NnDkEk",
    "OQvJTdtJ2H4",
    "OtBXNcAL_lE",
    "Oz06ZWiO20M",
    "POKffnXeBds",
    "PZ-lDQFboO8",
    "QN9ZIUWUXsY",
    "Qr1Ca94K55A",
    "Sqr0AcuoNnk",
    "TvyZBvOMOTc",
    "VCslbP0mgZI",
    "VbQk4H8hgr0",
    "Vj1wYRQjB-o",
    "W8NXH0Djyww",
]
VALID = [
    "WKA5OygbEKI",
    "X3j2zQgwYgE",
    "ZAIRrfG22O0",
    "ZUXBRvtny7o",
    "_dI--eQ6qVU",
    "aiEXnCPZubE",
    "atnd_PF-Lbs",
    "bOL9jKpeJRs",
    "bvLlb-M3UXU",
    "c5xsKMxpXnc",
]
TEST = [
    "c7UH_rxdZv4",
    "cM3Yna7AavY",
    "cW1FSBF59ik",
    "cXypl4FnoZo",
    "d3_k5Xpfmik",
    "d6hH302o4v8",
    "dq3Nf_lMPnE",
    "etzxEpPuc6I",
    "f9O3YtZ2VfI",
    "f_pcplsH_V0",
    "fvVhgmXxadc",
    "iiK8YX8oH1E",
    "jUzDDGyPkXU",
    "k5Y_838nuGo",
    "lXPQBPVc5Cw",
    "nbWiPyCm4g0",
    "nzpVDcQ0ywM",
    "ob23OKe5a9Q",
    "pLTX3ipuDJI",
    "phBUpBr1hSo",
    "rnaNMUZpvvg",
    "tIrG4oNLFzE",
    "tStelxIAHjw",
    "tmZoasNr4rU",
    "v0zCBqDeKcE",
    "vvZ4IcEtiZc",
    "vyB00TXsimI",
    "wMbj6ajWbic",
    "yDtzw_Y-7RU",
    "yvsjCA6Y5Fc",
    "zhpQhgha_KU",
]
OFFICIAL = {
    video: part for part, videos in (("train", TRAIN), ("valid", VALID), ("test", TEST)) for video in videos
}


class Settings(LoaderSettings):
    """How scores become labels, and which split is used."""

    # how many classes are made of the scores
    classes: Literal[3, 7] = 3
    # another split than the official one, below the root
    split_file: str = ""


class Loader(BaseLoader[Settings]):
    """One sample for each row of the label file."""

    Settings = Settings
    scores = True
    attribution = "CMU-MOSI (Zadeh et al. 2016), Carnegie Mellon University"

    def load(self) -> Iterator[Sample]:
        """Yield the segments in the label file's order.

        Raises:
            DataError: there is no label file.
        """
        labels = next((name for name in LABEL_FILES if (self.root / name).is_file()), None)
        if labels is None:
            raise DataError(
                f"{self.root}: found neither {' nor '.join(LABEL_FILES)}. Many copies of the archive "
                "lack it: it is the part Labels of the owners' CMU-MOSI download, rows of "
                "start,end,video,segment,score without a header"
            )
        split = (
            read_split(resolve_media(self.root, self.settings.split_file))
            if self.settings.split_file
            else OFFICIAL
        )
        cut = (self.root / "Video/Segmented").is_dir()
        sound_cut = (self.root / "Audio/WAV_16000/Segmented").is_dir()
        rows = list(self._rows(labels))
        self._note_unlabelled({f"{video}_{segment}" for _, video, segment, *_ in rows})
        texts: dict[str, dict[str, str]] = {}
        turns: Counter[str] = Counter()
        words = TimedWords(self.root / WORDS_FILE) if (self.root / WORDS_FILE).is_file() else None
        for line, video, segment, start, end, score in rows:
            name = f"{video}_{segment}"
            if video not in texts:
                texts[video] = self._transcript(video)
                if video not in split:
                    self.note(
                        labels, "the video is on none of the split's lists: no split", line=line, entry=video
                    )
            if segment not in texts[video]:
                self.note(labels, "the segment has no transcript", line=line, entry=name)
            yield Sample(
                id=name,
                video_path=f"Video/Segmented/{name}.mp4" if cut else f"Video/Full/{video}.mp4",
                audio_path=f"Audio/WAV_16000/{f'Segmented/{name}' if sound_cut else f'Full/{video}'}.wav",
                start_s=None if cut else start,
                end_s=None if cut else end,
                audio_start_s=None if sound_cut else start,
                audio_end_s=None if sound_cut else end,
                text=texts[video].get(segment, ""),
                words=words.between(video, start, end) if words else (),
                speaker=video,  # one reviewer for each video; which videos have the same reviewer is not published
                dialogue=video,
                turn=turns[video],
                split=split.get(video, ""),
                label=mosi_class(score, self.settings.classes),
                score=score,
            )
            turns[video] += 1
        if words:
            words.close()

    def expected(self) -> Expected:
        """Return the counts of the official split, or of the segments alone."""
        counts = {"samples": 2199, "dialogue": 93}
        if self.settings.split_file:
            return Expected("Zadeh et al. 2016", counts)
        parts = {"split=train": 1284, "split=valid": 229, "split=test": 686}
        zeros = {"label=neutral": 96} if self.settings.classes == 3 else {}
        return Expected("the official split", {**counts, **parts, **zeros})

    def _rows(self, labels: str) -> Iterator[tuple[int, str, str, float, float, float]]:
        seen: set[str] = set()
        for number, line in self.lines(labels):
            if not line.strip():
                continue
            fields = [field.strip() for field in line.split(",")]
            if len(fields) != 5:
                self.skip(
                    labels, f"found {len(fields)} fields, expected start,end,video,segment,score", line=number
                )
                continue
            video, segment = fields[2], fields[3]
            start, end, score = finite(fields[0]), finite(fields[1]), finite(fields[4])
            name = f"{video}_{segment}"
            if start is None or end is None or score is None or not segment.isdigit():
                if number > 1 or score is not None:  # else a header, which some copies have
                    read = {"start": start, "end": end, "score": score}
                    wrong = next((what for what, value in read.items() if value is None), "segment")
                    value = fields[{"start": 0, "end": 1, "score": 4, "segment": 3}[wrong]]
                    self.skip(
                        labels, f'found the {wrong} "{value}", expected a number', line=number, entry=name
                    )
            elif not -3 <= score <= 3:
                self.skip(
                    labels,
                    f"found the score {score:g}, expected a number in [-3, 3]",
                    line=number,
                    entry=name,
                )
            elif end <= max(start, 0.0):
                self.skip(
                    labels,
                    f"it ends at {end:g} s, not after its start at {max(start, 0.0):g} s",
                    line=number,
                    entry=name,
                )
            elif "/" in video or video.startswith("."):
                self.skip(labels, "the video's name would leave the root", line=number, entry=name)
            elif name in seen:
                self.skip(labels, "the segment is listed twice", line=number, entry=name)
            else:
                seen.add(name)
                if start < 0:
                    self.note(labels, f"it starts at {start:g} s: taken from 0 on", line=number, entry=name)
                yield number, video, segment, max(start, 0.0), end, score

    def _note_unlabelled(self, names: set[str]) -> None:
        for path in sorted((self.root / "Video/Segmented").glob("*.mp4")):
            if path.stem not in names and not path.name.startswith("._"):
                self.note(path, "a clip without a label", entry=path.stem)

    def _transcript(self, video: str) -> dict[str, str]:
        file = f"Transcript/Segmented/{video}.annotprocessed"
        if not (self.root / file).is_file():
            self.note(file, "there is no such file: the video has no text", entry=video)
            return {}
        texts: dict[str, str] = {}
        for number, line in self.lines(file):
            if not line.strip():
                continue
            segment, delimiter, text = line.partition("_DELIM_")
            if not delimiter or not segment.strip().isdigit():
                self.skip(file, "not a transcript: NUMBER_DELIM_TEXT", line=number, entry=line[:60])
            else:
                texts[segment.strip()] = text.strip()
        return texts
