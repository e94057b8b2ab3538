"""Text features that were computed elsewhere: pipeline/extraction/extractors/_foreign.py says how they are read."""

from __future__ import annotations

from pipeline.extraction.extractors._foreign import Importer


class Extractor(Importer):
    """Rows of a foreign file, by the samples' ids."""

    modality = "text"
