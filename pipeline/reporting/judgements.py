"""What a network said of its test samples beside the prediction: judgements.csv (pipeline/evaluate.py), for the report.

Read are EMMR's judgements of key modalities; another model's are left.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DataError

COLUMNS = ("key", "absent", "backbone", "ensemble")


@dataclass(frozen=True)
class Judged:
    """What one network said of one test sample, shown in one way.

    Attributes:
        run: its seed's number, from 1.
        condition: how the sample was shown: a condition, or a mask's name.
        id: the sample's, as csv files have it (``for_spreadsheet``).
        key: whether the absent modality was taken for key.
        absent: the one modality that the sample lacks.
        backbone, ensemble: whether these predict the label (of a regression the score's sign), asked or not.
    """

    run: int
    condition: str
    id: str
    key: bool
    absent: str
    backbone: bool
    ensemble: bool


def read_judgements(folder: Path) -> Sequence[Judged]:
    """Return what an experiment's networks said of the samples that lack just one modality; nothing of a model that
    judges no modality key.

    Args:
        folder: data/results/EXPERIMENT.

    Raises:
        DataError: judgements.csv or predictions.csv is damaged, or they are not of the same samples.
    """
    path = folder / "judgements.csv"
    if not path.is_file():
        return ()
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if not set(COLUMNS) <= set(reader.fieldnames or ()):
            return ()
        said = [(reader.line_num, row) for row in reader if row["absent"]]
    if not said:
        return ()
    try:
        with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
            labels = {row["id"]: (row.get("label"), row.get("score")) for row in csv.DictReader(file)}
    except (OSError, KeyError) as error:
        raise DataError(
            f"{folder}/predictions.csv: cannot be read ({error}). Run: dvc repro -f -s evaluate"
        ) from error
    found = []
    for line, row in said:
        try:
            right = [_right(row[who], *labels[row["id"]]) for who in ("backbone", "ensemble")]
            place = int(row["run"]), row["condition"], row["id"], row["key"] == "1", row["absent"]
            found.append(Judged(*place, *right))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{path}, line {line}: damaged, or of a sample that predictions.csv does not have ({error!r}). "
                f"Run: dvc repro -f -s evaluate"
            ) from error
    return found


def _right(said: str, label: str | None, score: str | None) -> bool:
    """Return whether a prediction names the class, or of a regression the score's sign (0 with the negative)."""
    return said == label if score is None else (float(said) > 0) == (float(score) > 0)
