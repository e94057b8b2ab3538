"""Figure 6 of UMDF: the joint representations of several methods in the plane, by t-SNE, coloured by what is true.

A joint representation is what a network's prediction is read from; every model keeps it under the name ``joint``. Those
of one method come from one network, the first fold's of the first run, since representations of different networks do
not share a space; they are of test samples, on which it was neither trained nor chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.reporting.embeddings import LEAST, PERPLEXITY, read_hidden

SUFFIX = "/joint"
SIGNS = {-1: "negative", 0: "neutral", 1: "positive"}
PREFERRED = "t"  # the paper's: text alone

Points = dict[str, tuple[list[float], list[float], bool]]


def read_joint(path: Path, classes: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read the joint representations of hidden.npz.

    Args:
        path: what evaluate wrote (pipeline/evaluate.py says what it holds).
        classes: the labels' names; of a regression none.

    Returns:
        "names" (N,), of each test sample of the first fold its class, or whether its score lies below, on or above the
        middle of the scale; and for each condition or mask, by its name followed by "/joint", (N, H) float32. Nothing
        when the file is absent or keeps no joint representation.

    Raises:
        DataError: it is damaged.
    """
    held = read_hidden(path)
    kept = {name: values for name, values in held.items() if name.endswith(SUFFIX)}
    if not kept:
        return {}
    marks = held.get("labels") if classes else held.get("scores")
    folds = held.get("folds")
    sizes = {None if values is None else len(values) for values in (marks, folds, *kept.values())}
    if marks is None or folds is None or len(sizes) != 1:
        raise DataError(
            f"{path}: found arrays of {len(sizes)} lengths, expected folds, {'labels' if classes else 'scores'} and "
            f"{', '.join(kept)} of one length. Run: dvc repro -f -s evaluate"
        )
    rows = folds == folds.min() if len(folds) else np.zeros(0, bool)
    names = [classes[int(one)] if classes else SIGNS[int(np.sign(one))] for one in marks[rows]]
    return {"names": np.array(names), **{name: values[rows] for name, values in kept.items()}}


def common_condition(kept: Sequence[Mapping[str, NDArray[Any]]]) -> str | None:
    """Return the condition that all have, of several the paper's, text alone, or the last one; None without one."""
    found = [name for name in kept[0] if name != "names" and all(name in one for one in kept)] if kept else []
    if PREFERRED + SUFFIX in found:
        return PREFERRED
    return found[-1].removesuffix(SUFFIX) if found else None


def joint_plane(kept: Mapping[str, NDArray[Any]], condition: str, seed: int = 0) -> Points:
    """Return name -> (x, y, False) of the t-SNE of one method's joint representations (what figures.embeddings takes).

    Args:
        kept: what :func:`read_joint` returns.
        condition: one of it.
        seed: of the t-SNE; it starts from the first two principal components.
    """
    from sklearn.manifold import TSNE

    values, names = kept[condition + SUFFIX].astype(np.float64), kept["names"]
    values = values.reshape(len(values), -1)
    if len(values) < LEAST:
        return {}
    perplexity = min(PERPLEXITY, (len(values) - 1) / 3)
    points = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(values)
    found: Points = {}
    order = list(SIGNS.values())
    for name in sorted(set(names.tolist()), key=lambda one: (order.index(one) if one in order else 0, one)):
        part = points[names == name]
        found[name] = (part[:, 0].tolist(), part[:, 1].tolist(), False)
    return found


def apart(kept: Mapping[str, NDArray[Any]], condition: str) -> float | None:
    """Return the silhouette of the groups in the representations themselves: 1 where each is far from the others, 0
    where they lie within each other; None where there are not two groups, or nothing but single samples.

    A t-SNE does not show this: it draws distances anew.
    """
    from sklearn.metrics import silhouette_score

    values, names = kept[condition + SUFFIX], kept["names"]
    values = values.reshape(len(values), -1).astype(np.float64)
    if not 2 <= len(set(names.tolist())) < len(names):
        return None
    return float(silhouette_score(values, names))
