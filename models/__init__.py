"""The networks of Lacuna, one file a paper; models/base.py says what a model is."""
