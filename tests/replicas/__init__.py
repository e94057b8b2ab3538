"""Miniature replicas of the datasets' trees, as their owners distribute them, with their quirks and real
tiny media.

One file a dataset; each has ``build(root) -> Path``, which writes the tree and returns its root. Nothing in
them is an owner's data: names, words, labels and media are made up here.
"""
