"""The constructed demo corpus, as pipeline/corpus.py writes it: clips/<id>.mp4 and labels.csv."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pipeline.data.datasets.base import BaseLoader, LoaderSettings
from pipeline.data.manifest import MODALITIES, Sample, resolve_media
from pipeline.errors import DataError

LABELS_FILE = "labels.csv"
COLUMNS = ("id", "file", "text", "speaker", "gender", "session", "label", "score", "contradicted")
DIALOGUE_COLUMNS = ("dialogue", "turn")  # also, where the corpus has dialogues
ATTRIBUTION = (
    "CONSTRUCTED demo corpus, no benchmark. Faces: CREMA-D (Cao et al. 2014), ODbL 1.0, changed. Sentences "
    "and ratings: Hutto and Gilbert 2014. Speech: espeak-ng."
)


class Settings(LoaderSettings):
    """The demo has no options."""


class Loader(BaseLoader[Settings]):
    """The rows of labels.csv in their order, one for each utterance; video and sound are in one file.

    The fact ``key`` of a sample is known by construction: where one modality contradicts the label, the two others
    decide. If one of these is missing, what is left is one modality for the label and one against it.
    """

    Settings = Settings
    constructed = True
    attribution = ATTRIBUTION
    scores = True

    @property
    def score_limit(self) -> float:
        """Ratings of sentences go from -4 to 4."""
        return 4.0

    def load(self) -> Iterator[Sample]:
        """Yield every row; one without id, file, a readable score, turn or contradicted modality, or with a path
        outside the root, is skipped and reported.

        Raises:
            DataError: labels.csv cannot be read or lacks a column, or an id occurs twice.
        """
        lines: dict[str, int] = {}
        for line, row in self.table(LABELS_FILE, COLUMNS):
            name = row["id"].strip()
            if name in lines:
                raise DataError(
                    f'{self.root / LABELS_FILE}, line {line}: the id "{name}" stands in line {lines[name]} '
                    "too; every utterance needs its own"
                )
            lines[name] = line
            if problem := self._problem(row):
                self.skip(LABELS_FILE, problem, line=line, entry=name)
                continue
            yield Sample(
                id=name,
                video_path=row["file"],
                audio_path=row["file"],
                text=row["text"],
                speaker=row["speaker"],
                gender=row["gender"],
                session=row["session"],
                dialogue=row.get("dialogue", ""),
                turn=int(row["turn"]) if row.get("turn") else None,
                label=row["label"],
                score=float(row["score"]) if row["score"] else None,
                facts={
                    "key": tuple(bool(row["contradicted"]) and row["contradicted"] != m for m in MODALITIES)
                },
            )

    def _problem(self, row: dict[str, str]) -> str:
        """Return what is wrong with a row, or an empty string."""
        for column in ("id", "file"):
            if not row[column].strip():
                return f"no {column}"
        try:
            resolve_media(self.root, row["file"])
        except DataError:
            return f'the file "{row["file"]}" leaves the root'
        if row["contradicted"] not in ("", *MODALITIES):
            return f'found contradicted "{row["contradicted"]}", expected text, audio, video or nothing'
        turn = row.get("turn", "")
        if turn and not (turn.isascii() and turn.isdigit()):
            return f'found the turn "{turn}", expected a whole number from 0 or nothing'
        try:
            finite = not row["score"] or math.isfinite(float(row["score"]))
        except ValueError:
            finite = False
        return "" if finite else f'found the score "{row["score"]}", expected a finite number or nothing'
