"""Readers of features that were computed elsewhere, one file a format; pipeline/foreign.py chooses among
them.
"""
