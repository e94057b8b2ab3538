"""Readers of features that were computed elsewhere, one file a format.

pipeline/extraction/extractors/_foreign.py chooses among them.
"""
