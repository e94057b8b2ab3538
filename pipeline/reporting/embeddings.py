"""Figure 3 of MMIN: true and imagined embeddings of a female and a male speaker in the plane, by t-SNE.

For each modality there are the embedding that the frozen encoders give of it alone, and the one that the
network imagines from the other two. Both of all three modalities of one speaker are embedded together
(van der Maaten and Hinton 2008). What evaluate kept of the first run's test samples is what is shown, so every
sample is seen by a network that neither trained nor was chosen on it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.manifest import Sample
from pipeline.errors import DataError

LETTERS = ("a", "v", "t")
LEAST = 4  # samples of a speaker that are worth a figure
PERPLEXITY = 30.0
GENDERS = ("female", "male")

Groups = dict[str, tuple[list[float], list[float], bool]]


def read_embeddings(path: Path) -> dict[str, NDArray[Any]]:
    """Read embeddings.npz; nothing when it is not there or none were kept.

    Raises:
        DataError: it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read ({error}). Run: dvc repro -f -s evaluate") from error
    names = {"ids", "folds", *(f"{kind}_{m}" for m in LETTERS for kind in ("true", "imagined"))}
    sizes = {len(values) for name, values in found.items() if name != "left_out"}
    if found and (found.keys() != names | {"left_out"} or len(sizes) != 1):
        raise DataError(
            f"{path}: found the arrays {sorted(found)}, expected left_out and {sorted(names)}, these of one "
            "length. Run: dvc repro -f -s evaluate"
        )
    return found


def choose_speakers(samples: Sequence[Sample], ids: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Return the first female and the first male speaker with enough samples, and where these stand in ``ids``.

    Only samples that have all three modalities are in ``ids`` (``embed_experiment`` of pipeline/evaluate.py); the
    order is the manifest's.
    """
    place = {name: index for index, name in enumerate(ids)}
    members: dict[tuple[str, str], list[int]] = {}
    for sample in samples:
        if sample.id in place:
            members.setdefault((sample.gender, sample.speaker), []).append(place[sample.id])
    chosen = []
    for wanted in GENDERS:
        for (gender, speaker), rows in members.items():
            if gender == wanted and len(rows) >= LEAST:
                chosen.append((f"{wanted} speaker {speaker}", rows))
                break
    return chosen


def plane(kept: Mapping[str, NDArray[Any]], rows: Sequence[int], seed: int = 0) -> Groups:
    """Return label -> (x, y, imagined) of the t-SNE of one speaker's embeddings.

    Args:
        kept: what :func:`read_embeddings` returns.
        rows: which samples; n of them give 6 n points.
        seed: of the t-SNE; it starts from the first two principal components.
    """
    from sklearn.manifold import TSNE

    names = [
        (f"{kind}_{m}", m if kind == "true" else f"{m} imagined")
        for kind in ("true", "imagined")
        for m in LETTERS
    ]
    stacked = np.concatenate([kept[name][list(rows)] for name, _ in names]).astype(np.float64)
    perplexity = min(PERPLEXITY, (len(stacked) - 1) / 3)
    points = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(stacked)
    groups: Groups = {}
    for index, (name, label) in enumerate(names):
        part = points[index * len(rows) : (index + 1) * len(rows)]
        groups[label] = (part[:, 0].tolist(), part[:, 1].tolist(), name.startswith("imagined"))
    return groups


def distances(kept: Mapping[str, NDArray[Any]], rows: Sequence[int]) -> dict[str, float]:
    """Return, for each modality, how far the imagined embeddings lie from the true ones.

    The mean squared error over that of guessing each true embedding by their mean: 1 is no better than the mean,
    0 is perfect. It is what the eye cannot see in a t-SNE.
    """
    found = {}
    for m in LETTERS:
        true = kept[f"true_{m}"][list(rows)].astype(np.float64)
        error = float(((kept[f"imagined_{m}"][list(rows)] - true) ** 2).mean())
        spread = float(((true - true.mean(axis=0)) ** 2).mean())
        found[m] = error / spread if spread > 0 else float("inf")
    return found
