"""Text features that were computed elsewhere: pipeline/foreign.py says how they are read."""

from __future__ import annotations

from pipeline.foreign import Importer


class Extractor(Importer):
    """Rows of a foreign file, by the samples' ids."""

    modality = "text"
