"""MMSA's table of labels with the clips Raw/<video_id>/<clip_id>.mp4, for the loaders of datasets in this layout.

mmsa_layout.py lists the layout's peculiarities.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.data.datasets._official_splits import PARTS
from pipeline.data.datasets._score_classes import SIGNS, finite
from pipeline.data.datasets.base import BaseLoader
from pipeline.data.manifest import Sample

TABLES = ("label.csv", "meta.csv", "meta(s).csv")
SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".flv", ".wav")
UNIMODAL = {"score_text": "label_T", "score_audio": "label_A", "score_video": "label_V"}
COUNTS = {
    "mosi": {"split=train": 1284, "split=valid": 229, "split=test": 686},
    "mosei": {"split=train": 16326, "split=valid": 1871, "split=test": 4659},
    "sims": {"split=train": 1368, "split=valid": 456, "split=test": 457},
    "simsv2": {"split=train": 2722, "split=valid": 647, "split=test": 1034},
}


def labelled_clips(loader: BaseLoader[Any], table: str, limit: float = math.inf) -> Iterator[Sample]:
    """Yield the samples of a label.csv, a row a sample.

    Args:
        loader: the dataset's loader.
        table: the file, relative to the root.
        limit: the largest absolute score; a row with a larger one is skipped and reported.

    Raises:
        DataError: the table cannot be read, or lacks video_id, clip_id, text, label or mode.
    """
    clips = Clips(loader)
    turns: Counter[str] = Counter()
    seen: set[str] = set()
    for line, row in loader.table(table, ("video_id", "clip_id", "text", "label", "mode")):
        video, clip = row["video_id"].strip(), row["clip_id"].strip()
        name = f"{video}_{clip}"
        score, part = finite(row["label"]), PARTS.get(row["mode"].strip().lower())
        if wrong := not_a_name(row, "video_id", "clip_id"):
            loader.skip(table, wrong, line=line, entry=name)
        elif score is None or abs(score) > limit:
            wanted = "a number" if limit == math.inf else f"a number in [-{limit:g}, {limit:g}]"
            loader.skip(table, f'found the label "{row["label"]}", expected {wanted}', line=line, entry=name)
        elif part is None:
            loader.skip(
                table, f'found the mode "{row["mode"]}", expected train, valid or test', line=line, entry=name
            )
        elif name in seen:
            loader.skip(table, "the clip is listed twice", line=line, entry=name)
        else:
            seen.add(name)
            path = clips.take(video, clip, table, line)
            yield Sample(
                id=name,
                video_path="" if path.endswith(".wav") else path,
                audio_path=path,
                text=row["text"].strip(),
                dialogue=video,
                turn=turns[video],
                split=part,
                label=row.get("annotation", "").strip().lower() or SIGNS[(score > 0) - (score < 0) + 1],
                score=score,
                **unimodal_scores(loader, row, table, line, name),
            )
            turns[video] += 1
    clips.note_unlabelled()


class Clips:
    """The media files below Raw/, and which of them the rows of a table have asked for."""

    def __init__(self, loader: BaseLoader[Any]) -> None:
        self._loader = loader
        self._paths: dict[tuple[str, str], str] = {}
        self._by_number: dict[tuple[str, int], list[str]] = {}
        for path in sorted((loader.root / "Raw").glob("*/*")):
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("._"):
                video, clip = path.parent.name, path.stem
                self._paths.setdefault((video, clip), f"Raw/{video}/{path.name}")
                if clip.isdecimal():
                    self._by_number.setdefault((video, int(clip)), []).append(clip)

    def take(self, video: str, clip: str, table: str, line: int) -> str:
        """Return a clip's path relative to the root; for an absent clip, the path where it should be."""
        if path := self._paths.pop((video, clip), None):
            return path
        if clip.isdecimal():
            padded = [c for c in self._by_number.get((video, int(clip)), ()) if (video, c) in self._paths]
            if len(padded) == 1:
                reason = f"clip_id has lost its zeros: taken for {padded[0]}"
                self._loader.note(table, reason, line=line, entry=f"{video}_{clip}")
                return self._paths.pop((video, padded[0]))
        return f"Raw/{video}/{clip}.mp4"

    def note_unlabelled(self) -> None:
        """Report the clips that no row asked for."""
        for path in self._paths.values():
            self._loader.note(path, "a clip without a label")


def unimodal_scores(
    loader: BaseLoader[Any], row: Mapping[str, str], table: str, line: int, name: str
) -> dict[str, Any]:
    """Return the unimodal scores of a row. Absent and empty ones are None; what is not a number is reported."""
    scores: dict[str, Any] = {}
    for field, column in UNIMODAL.items():
        text = row.get(column, "").strip()
        scores[field] = finite(text) if text else None
        if text and scores[field] is None:
            loader.note(
                table, f'found the {column} "{text}", expected a number: left empty', line=line, entry=name
            )
    return scores


def not_a_name(row: Mapping[str, str], *columns: str) -> str:
    """Return which column holds no name, or nothing."""
    for column in columns:
        if not is_name(row[column].strip()):
            return f'found the {column} "{row[column]}", expected a name inside Raw'
    return ""


def is_name(text: str) -> bool:
    """Return whether a text can be the name of a file or folder: it is not empty and has no slash or ``..``."""
    return (
        bool(text) and text not in (".", "..") and "/" not in text and "\\" not in text and "\0" not in text
    )
