"""Audio features that were computed elsewhere: see pipeline/extraction/extractors/_foreign.py."""

from __future__ import annotations

from pipeline.extraction.extractors._foreign import Importer


class Extractor(Importer):
    """Rows of a file that was made elsewhere, by the samples' ids."""

    modality = "audio"
