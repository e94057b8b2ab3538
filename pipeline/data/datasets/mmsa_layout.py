"""MMSA's layout (thuiar/MMSA): ``label.csv`` beside ``Raw/<video_id>/<clip_id>.mp4``; used for MOSI, MOSEI,
CH-SIMS, CH-SIMS v2 and people's own data.

Peculiarities of the layout, and how they are handled:

* ``clip_id`` is a name, not a number: ``0001`` keeps its zeros. Where a table has lost them (after it was saved by
  a spreadsheet program), the clip with the zeros is found, and the report notes it.
* Older files lack label_T, label_A and label_V or leave them empty; annotation may be absent too: then the label
  is the sign of the score.
* ``mode`` is the split: train, valid, test.
* CH-SIMS v2 calls the table ``meta.csv``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pipeline.data.datasets._label_table import COUNTS, TABLES, labelled_clips
from pipeline.data.datasets.base import BaseLoader, Expected, LoaderSettings
from pipeline.data.manifest import Sample
from pipeline.errors import DataError


class Settings(LoaderSettings):
    """Which dataset it is: it decides the published counts and the range of the scores."""

    # whose label.csv it is
    dataset: Literal["", "mosi", "mosei", "sims", "simsv2"] = ""


class Loader(BaseLoader[Settings]):
    """One sample for each row of the table."""

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
