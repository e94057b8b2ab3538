"""MMSA's layout (thuiar/MMSA): ``label.csv`` beside ``Raw/<video_id>/<clip_id>.mp4``; used for MOSI, MOSEI,
CH-SIMS, CH-SIMS v2 and people's own data.

Quirks of the layout, and what is made of them:

* ``clip_id`` is a name, not a number: ``0001`` keeps its zeros. Where a table has lost them (saved by a
  spreadsheet), the clip that has them is found, and the report says so.
* Older files lack label_T, label_A, label_V or leave them empty; annotation may be absent too: the label is
  then the sign of the score.
* ``mode`` is the split: train, valid, test.
* CH-SIMS v2 calls the table ``meta.csv``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pipeline.datasets._official_splits import PARTS
from pipeline.datasets._score_classes import SIGNS, finite
from pipeline.datasets.base import BaseLoader, Expected, LoaderSettings
from pipeline.errors import DataError
from pipeline.manifest import Sample

TABLES = ("label.csv", "meta.csv")
SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".flv", ".wav")
UNIMODAL = {"score_text": "label_T", "score_audio": "label_A", "score_video": "label_V"}
COUNTS = {
    "mosi": {"split=train": 1284, "split=valid": 229, "split=test": 686},
    "mosei": {"split=train": 16326, "split=valid": 1871, "split=test": 4659},
    "sims": {"split=train": 1368, "split=valid": 456, "split=test": 457},
    "simsv2": {"split=train": 2722, "split=valid": 647, "split=test": 1034},
}


class Settings(LoaderSettings):
    """Whose data it is, for the counts; nothing else depends on it."""

    dataset: Literal["", "mosi", "mosei", "sims", "simsv2"] = ""


class Loader(BaseLoader[Settings]):
    """Read the table; a row is a sample."""

    Settings = Settings
    scores = True

    @property
    def score_limit(self) -> float:
        """1 for CH-SIMS, else 3."""
        return 1.0 if self.settings.dataset.startswith("sims") else 3.0

    def load(self) -> Iterator[Sample]:
        """Yield the table's rows in their order.

        Raises:
            DataError: there is no table, or it lacks video_id, clip_id, text, label or mode.
        """
        table = next((name for name in TABLES if (self.root / name).is_file()), None)
        if table is None:
            raise DataError(
                f"{self.root}: found neither {' nor '.join(TABLES)}; expected label.csv beside "
                f"Raw/<video_id>/<clip_id>.mp4. Set the dataset's root in params.yaml"
            )
        yield from labelled_clips(self, table)

    def expected(self) -> Expected | None:
        """Return the counts of the dataset that the options name."""
        counts = COUNTS.get(self.settings.dataset)
        return Expected("the official split", {"samples": sum(counts.values()), **counts}) if counts else None


def labelled_clips(loader: BaseLoader[Any], table: str) -> Iterator[Sample]:
    """Yield the samples of a label.csv: what :class:`Loader` does, for loaders of datasets that come in
    this layout too.
    """
    clips = find_clips(loader)
    turns: Counter[str] = Counter()
    seen: set[str] = set()
    for line, row in loader.table(table, ("video_id", "clip_id", "text", "label", "mode")):
        video, clip = row["video_id"].strip(), row["clip_id"].strip()
        name = f"{video}_{clip}"
        score, part = finite(row["label"]), PARTS.get(row["mode"].strip().lower())
        if not is_name(video) or not is_name(clip):
            loader.skip(table, "video_id and clip_id must be names inside Raw", line=line, entry=name)
        elif score is None:
            loader.skip(table, f'found the label "{row["label"]}", expected a number', line=line, entry=name)
        elif part is None:
            loader.skip(
                table, f'found the mode "{row["mode"]}", expected train, valid or test', line=line, entry=name
            )
        elif name in seen:
            loader.skip(table, "the clip stands twice", line=line, entry=name)
        else:
            seen.add(name)
            path = clip_path(loader, clips, video, clip, table, line)
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
    note_unlabelled(loader, clips)


def find_clips(loader: BaseLoader[Any]) -> dict[tuple[str, str], str]:
    """Return (video, clip) -> path relative to the root, of all media below Raw/."""
    found: dict[tuple[str, str], str] = {}
    for path in sorted((loader.root / "Raw").glob("*/*")):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("._"):
            found.setdefault((path.parent.name, path.stem), f"Raw/{path.parent.name}/{path.name}")
    return found


def clip_path(
    loader: BaseLoader[Any],
    clips: dict[tuple[str, str], str],
    video: str,
    clip: str,
    table: str,
    line: int,
) -> str:
    """Take the clip out of ``clips`` and return its path; one that is absent gets the path where it should
    be.
    """
    if path := clips.pop((video, clip), None):
        return path
    if clip.isdigit():
        padded = [key for key in clips if key[0] == video and key[1].isdigit() and int(key[1]) == int(clip)]
        if len(padded) == 1:
            reason = f"clip_id has lost its zeros: taken for {padded[0][1]}"
            loader.note(table, reason, line=line, entry=f"{video}_{clip}")
            return clips.pop(padded[0])
    return f"Raw/{video}/{clip}.mp4"


def note_unlabelled(loader: BaseLoader[Any], clips: dict[tuple[str, str], str]) -> None:
    """Name the clips that no row asked for."""
    for path in clips.values():
        loader.note(path, "a clip without a label")


def unimodal_scores(
    loader: BaseLoader[Any], row: Mapping[str, str], table: str, line: int, name: str
) -> dict[str, Any]:
    """Return the unimodal scores of a row; absent and empty ones are None, what is no number is named."""
    scores: dict[str, Any] = {}
    for field, column in UNIMODAL.items():
        text = row.get(column, "").strip()
        scores[field] = finite(text) if text else None
        if text and scores[field] is None:
            loader.note(
                table, f'found the {column} "{text}", expected a number: left empty', line=line, entry=name
            )
    return scores


def is_name(text: str) -> bool:
    """Whether a text from a table may be a file's or folder's name: not empty, and it leads nowhere else."""
    return (
        bool(text) and text not in (".", "..") and "/" not in text and "\\" not in text and "\0" not in text
    )
