"""A small dataset with something to learn, written by the real writers: what the training's tests stand on.

Five sessions of two speakers, four classes, 130 frames a second of nothing but arithmetic. In every modality
the class moves the mean of two columns; a modality of some samples says the wrong class, so that none
suffices by itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.data.manifest import Sample, manifest_checksum, write_manifest
from pipeline.data.masks import write_masks
from pipeline.data.store import FeatureInfo, FeatureSequence, FeatureWriter, Status
from pipeline.params import Dataset, Mask

CLASSES = ("happy", "neutral", "sad", "angry")
SCORES = (2.0, 0.0, -1.5, -3.0)  # of the classes, more or less
NO_SCORE = 7  # this sample has none
DIMS = {"text": 12, "audio": 8, "video": 6}
PERIODS = {"text": None, "audio": 0.01, "video": 0.125}
MASKS = {
    "conditions": Mask(protocol="conditions"),
    "one-missing": Mask(protocol="one-missing", rate=0.5),
    "random": Mask(protocol="random", rate=0.3),
    "block": Mask(protocol="block", range=(0.4, 0.6)),
    "columns": Mask(protocol="block", range=(0.4, 0.6), axis="feature"),
    "frames": Mask(protocol="frames", rate=0.3),
    "sampled": Mask(protocol="block", range=(0.4, 0.6), draw="sampled"),
    "ranged": Mask(protocol="frames", range=(0.1, 0.6)),
    "one-condition": Mask(protocol="random-condition"),
    "mixed": Mask.model_validate(
        {
            "protocol": "mixture",
            "of": [
                {"protocol": "block", "range": [0.4, 0.6]},
                {"protocol": "frames", "rate": 0.3},
                {"protocol": "one-missing", "rate": 0.8},
            ],
        }
    ),
}
FAMILIES = {"share": Mask(protocol="frames", rates=(0.0, 0.25, 0.5, 1.0))}
ALL_MASKS = {
    **MASKS,
    **{name: one for family, mask in FAMILIES.items() for name, one in mask.members(family).items()},
}


def dataset(**changes: object) -> Dataset:
    """Return its section of params.yaml."""
    extraction = {"extractor": "made"}
    given = {
        "loader": "demo",
        "root": Path("nowhere"),
        "options": {},
        "labels": CLASSES,
        "folds": {"scheme": "session", "count": 5},
        **dict.fromkeys(DIMS, extraction),
    }
    return Dataset.model_validate({**given, **changes})


def samples(size: int) -> list[Sample]:
    """Return the manifest's rows."""
    made = []
    for index in range(size):
        session, who = index % 5 + 1, index // 5 % 2
        made.append(
            Sample(
                id=f"s{index:03d}",
                speaker=f"{session}{'FM'[who]}",
                session=f"Ses0{session}",
                dialogue=f"d{session}",
                label=CLASSES[index * 7 // 5 % 4],
                score=SCORES[index * 7 // 5 % 4] + index % 3 * 0.25 if index != NO_SCORE else None,
                score_text=SCORES[index * 7 // 5 % 4] / 4 if index % 4 == 0 else None,
            )
        )
    return made


def dialogues(size: int, turns: int = 6, unlabelled: int = 7) -> list[Sample]:
    """Return the rows of :func:`samples` as turns of dialogues that lie mixed in the manifest, in a falling order.

    Args:
        size: N.
        turns: of each dialogue at most; the last ones of a session are shorter.
        unlabelled: each so-many-th turn has no label and no score: it is context.
    """
    made, seen = [], dict.fromkeys(range(5), 0)
    for index, sample in enumerate(samples(size)):
        number = seen[index % 5]
        seen[index % 5] += 1
        context = index % unlabelled == 3
        made.append(
            replace(
                sample,
                dialogue=f"{sample.session}-{number // turns}",
                turn=turns - 1 - number % turns,
                label="" if context else sample.label,
                score=None if context else sample.score,
            )
        )
    return made


def write(
    data: Path,
    size: int = 60,
    name: str = "small",
    missing: Sequence[tuple[str, int]] = (),
    noise: float = 0.5,
    given: Sequence[Sample] | None = None,
) -> list[Sample]:
    """Write manifest, features and masks under ``data`` and return the samples.

    Args:
        data: the folder that stands for data/.
        size: N.
        name: the dataset's.
        missing: pairs (modality, sample's number) that get the status missing.
        noise: standard deviation around the class's mean of 1 or -1.
        given: other rows of the manifest than :func:`samples`, with the same features.
    """
    shows = [sample.label for sample in samples(size)]
    made = list(given or samples(size))
    manifest = data / "manifests" / f"{name}.csv"
    write_manifest(manifest, made)
    manifest.with_suffix(".json").write_text(json.dumps({"score_limit": 4.0}), encoding="utf-8")
    rng = np.random.default_rng(7)
    lengths = np.zeros((size, 3), np.int64)
    for column, (modality, dims) in enumerate(DIMS.items()):
        names = tuple(f"{modality[0]}{i}" for i in range(dims))
        info = FeatureInfo(name, modality, "made", {}, names, PERIODS[modality], manifest_checksum(manifest))
        with FeatureWriter(data / "features" / name / f"{modality}.h5", info) as writer:
            for index, sample in enumerate(made):
                if (modality, index) in missing:
                    writer.append(sample.id, FeatureSequence.absent(dims, Status.MISSING, "made so"))
                    continue
                length = int(rng.integers(2, 9) if modality != "audio" else rng.integers(20, 45))
                lengths[index, column] = length
                wrong = rng.random() < 0.15
                shown = (CLASSES.index(shows[index]) + wrong) % 4
                values = rng.normal(0, noise, (length, dims)).astype(np.float32)
                values[:, 0] += 1 if shown & 1 else -1
                values[:, 1] += 1 if shown & 2 else -1
                values[:, -1] = 3.0  # a column that never changes
                flags = np.ones(length, np.uint8)
                if modality == "video" and length > 2:
                    flags[1], values[1] = 0, 0
                times = np.arange(length, dtype=np.float32) * (PERIODS[modality] or 0.3)
                tokens = tuple("w" * length) if modality == "text" else ()
                ids = np.arange(1000, 1000 + length) if modality == "text" else None
                writer.append(sample.id, FeatureSequence(values, times, flags, tokens=tokens, token_ids=ids))
    ids = [sample.id for sample in made]
    masks = data / "masks" / f"{name}.h5"
    write_masks(masks, name, ALL_MASKS, 0, ids, lengths, list(DIMS.values()), manifest_checksum(manifest))
    return made
