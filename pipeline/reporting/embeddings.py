"""Figure 3 of MMIN: true and imagined embeddings of a female and a male speaker in the plane, by t-SNE.

For each modality there is the embedding that the frozen encoders give of it alone, and the one that the network
imagines from the other two. All of them of one speaker are put into the plane together (van der Maaten and Hinton
2008). They are those of the first run's test samples, so the network was neither trained nor chosen on any of them.
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
OTHERS = {"a": "vt", "v": "at", "t": "av"}  # the condition under which a modality is imagined
STATES = {"true": "target", "imagined": "imagined"}  # MMIN's names of its hidden states
LEAST = 4  # samples of a speaker that are worth a figure
PERPLEXITY = 30.0
GENDERS = ("female", "male")

Groups = dict[str, tuple[list[float], list[float], bool]]


def read_embeddings(path: Path) -> dict[str, NDArray[Any]]:
    """Read the true and imagined embeddings of hidden.npz.

    Args:
        path: what evaluate wrote (pipeline/evaluate.py says what it holds).

    Returns:
        ids (N,) of the samples that have all three modalities; for each modality m of a, v, t: true_m (N, E), the
        embedding of m alone, and imagined_m (N, E), what the network imagines from the other two; left_out: the ids
        of the samples that lack a modality, of which no embedding is true. Nothing when the file is absent or holds
        no such states.

    Raises:
        DataError: it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            held = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read ({error}). Run: dvc repro -f -s evaluate") from error
    wanted = {
        f"{other}/{state}": f"{kind}_{m}" for m, other in OTHERS.items() for kind, state in STATES.items()
    }
    if not wanted.keys() <= held.keys():
        return {}
    found = {
        "ids": held.get("ids"),
        "present": held.get("present"),
        **{to: held[name] for name, to in wanted.items()},
    }
    sizes = {None if values is None else len(values) for values in found.values()}
    if len(sizes) != 1 or None in sizes:
        raise DataError(
            f"{path}: found arrays of {len(sizes)} lengths, expected ids, present and {sorted(wanted)} of one length. "
            "Run: dvc repro -f -s evaluate"
        )
    ids, whole = held["ids"], held["present"].all(axis=1)
    kept = {name: values[whole] for name, values in found.items() if values is not None and name != "present"}
    return {**kept, "left_out": ids[~whole]} if whole.any() else {}


def choose_speakers(samples: Sequence[Sample], ids: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Return the first female and the first male speaker with enough samples, and where these stand in ``ids``.

    Args:
        samples: of the manifest, whose order decides who is first.
        ids: of the samples that have embeddings.
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

    It is the mean squared error, divided by that of guessing the mean of the true embeddings: 0 is perfect, 1 no
    better than the mean. A t-SNE does not show this.
    """
    found = {}
    for m in LETTERS:
        true = kept[f"true_{m}"][list(rows)].astype(np.float64)
        error = float(((kept[f"imagined_{m}"][list(rows)] - true) ** 2).mean())
        spread = float(((true - true.mean(axis=0)) ** 2).mean())
        found[m] = error / spread if spread > 0 else float("inf")
    return found
