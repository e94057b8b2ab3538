"""From media to features: engines, kept clips, decoding, extractors, importers."""
