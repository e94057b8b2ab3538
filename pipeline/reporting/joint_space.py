"""Joint representations of the test samples in the plane, by class (EMMR Figure 7, UMDF Figure 6).

Drawn is the hidden state ``joint`` that evaluation kept: what a model reads the label from. The samples are the test
part of one fold of the first run, the fold with the most, since each network has a space of its own. The plane is
t-SNE's (van der Maaten and Hinton 2008), which shows who is near whom, and no distances. So beside it stands the
silhouette (Rousseeuw 1987) of the classes in the space itself: the mean over samples of (b - a) / max(a, b), a the
mean distance to the own class, b that to the nearest other one; 1 where classes lie apart, 0 where in one another.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError

STATE = "joint"
MOST = 1000  # samples that are drawn; a thousand points are plenty, and t-SNE's time grows with more than their number
PERPLEXITY = 30.0


@dataclass(frozen=True)
class Joint:
    """Joint representations of one fold's test samples.

    Attributes:
        ids: of the n samples.
        labels: (n,) int64, places in the classes; all 0 of a regression.
        vectors: condition (or mask) -> (n, D) float32.
    """

    ids: Sequence[str]
    labels: NDArray[np.int64]
    vectors: Mapping[str, NDArray[np.float32]]


def read_joint(path: Path) -> Joint | None:
    """Return the joint representations that hidden.npz holds; None where it holds none, or is not there.

    Args:
        path: what evaluate wrote (pipeline/evaluate.py says what it holds).

    Raises:
        DataError: it is damaged.
    """
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = [name for name in archive.files if name.endswith(f"/{STATE}")]
            if not names:
                return None
            ids, folds, labels = (archive[name] for name in ("ids", "folds", "labels"))
            largest = Counter(folds.tolist()).most_common(1)[0][0]
            rows = np.flatnonzero(folds == largest)[:MOST]
            vectors = {name.removesuffix(f"/{STATE}"): archive[name][rows] for name in names}
    except (OSError, ValueError, EOFError, KeyError, IndexError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read ({error!r}). Run: dvc repro -f -s evaluate") from error
    flat = {name: values for name, values in vectors.items() if values.ndim == 2}
    return Joint(ids[rows].tolist(), labels[rows], flat) if flat else None


def joint_plane(vectors: NDArray[Any], seed: int = 0) -> NDArray[np.float64]:
    """Return (n, 2), the t-SNE of (n, D) vectors, n at least 4; it starts from the first two principal components."""
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    made = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
    points: NDArray[np.float64] = made.fit_transform(vectors.astype(np.float64)).astype(np.float64)
    return points


def silhouette(vectors: NDArray[Any], labels: Sequence[str]) -> float | None:
    """Return the mean silhouette of the classes; None where there is one class, or each sample has its own."""
    from sklearn.metrics import silhouette_score

    if not 2 <= len(set(labels)) < len(labels):
        return None
    return float(silhouette_score(vectors.astype(np.float64), list(labels)))
