"""Missing-modality masks: how they are drawn, and the file data/masks/DATASET.h5 that keeps them.

The five protocols (``masks`` in params.yaml); modalities always in the order text, audio, video:

``conditions``   enumerates {a}, {v}, {t}, {a,v}, {a,t}, {v,t} and {a,v,t} (MMIN Table 1; UMDF, inter)
``one-missing``  takes exactly one modality, by ``weights``, from a share ``rate`` of the samples (EMMR, TATE)
``random``       drops modalities independently, keeps one at least; ``rate`` = 1 - kept / (N * 3) (GCNet)
``block``        takes k = floor(T * r) neighbouring frames of every sample and modality, r uniform in
                 ``range`` (or its own of ``ranges``), from a start uniform in {0, ..., T - k};
                 ``axis: feature`` takes columns (M3S 3.2)
``frames``       takes every frame on its own with probability ``rate`` (UMDF, intra; TFR-Net)

``draw: fixed`` masks are drawn once and kept in the file. ``draw: sampled`` ones are drawn anew at every
epoch, by :meth:`Masks.draw`; the file keeps how. Either way a draw depends only on (seed, the mask's name,
epoch, sample id, modality) and on what the sample has: never on the order of samples, a batch, a worker or a
device. ``random`` drops each modality with probability p and gives one back where all are gone, so that 1 -
kept / (N * 3) is p - p^3 / 3 in expectation; p is solved from that.

Layout of the file (kind "lacuna masks"; nothing in it depends on a clock)::

    /                attributes dataset, seed, manifest_sha256
    /ids             (N,) utf-8 strings, in the manifest's order
    /lengths         (N, 3) int64: frames of each modality, 0 where the sample lacks it
    /<mask>          attributes settings (JSON), draw, checksum (sha256 of the draw; of epoch 0's if sampled)
    /<mask>/present  (N, 3) bool: one-missing and random; for conditions (7, 3), one row a condition
    /<mask>/names    conditions only: (7,) strings a, v, t, av, at, vt, avt
    /<mask>/text ... block and frames: (sum T,) bool, True where a frame is kept, ragged like the feature
    store;
                     block over columns: (N, D) bool
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import MODALITIES
from pipeline.data.store import read_arrays, write_arrays
from pipeline.errors import ParamsError, StoreError, nearest
from pipeline.params import Mask

KIND = "lacuna masks"
SCHEMA = 1

# What is there under each condition, in the order of MMIN's Table 5; the six missing ones first.
CONDITIONS: dict[str, tuple[bool, bool, bool]] = {
    name: ("t" in name, "a" in name, "v" in name) for name in ("a", "v", "t", "av", "at", "vt", "avt")
}
MISSING_CONDITIONS = tuple(name for name, present in CONDITIONS.items() if not all(present))
FULL_CONDITION = "avt"

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Draw:
    """What one draw leaves.

    Attributes:
        present: (N, 3) bool: which modalities are left.
        frames: modality -> (sum T,) bool, True where a frame is kept; empty for protocols over whole
            modalities.
        columns: modality -> (N, D) bool, True where a column is kept; only ``block`` with ``axis: feature``.
    """

    present: NDArray[np.bool_]
    frames: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    columns: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    def arrays(self) -> dict[str, NDArray[np.bool_]]:
        """Return what the file keeps of the draw."""
        return {**self.frames, **self.columns} or {"present": self.present}


def hash_words(seed: int, purpose: str, epoch: int, ids: Sequence[str], stream: int) -> Words:
    """Return (N,) uint64, the start of each sample's own random stream (SplitMix64, Steele et al. 2014).

    Args:
        seed: the root seed.
        purpose: what the numbers are for; another purpose gives unrelated numbers.
        epoch: 0 for a fixed draw.
        ids: the samples.
        stream: which of a sample's streams, such as the index of a modality.
    """
    key = int.from_bytes(
        hashlib.sha256(f"{seed}\n{purpose}\n{epoch}\n{stream}".encode()).digest()[:8], "little"
    )
    return _mix(_mix(np.array([_word(name) for name in ids], np.uint64)) ^ np.uint64(key))


@lru_cache(maxsize=1 << 18)  # every batch of every epoch asks for its samples
def _word(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")


def uniforms(starts: Words, counter: int | NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the ``counter``-th uniform number in [0, 1) of each stream, with 53 bits; shapes broadcast."""
    steps = np.atleast_1d(np.asarray(counter, np.int64)).astype(np.uint64) + np.uint64(1)
    numbers: NDArray[np.float64] = (_mix(starts + steps * _GOLDEN) >> np.uint64(11)).astype(np.float64)
    return numbers * 2.0**-53


def _mix(words: Words) -> Words:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Words = words ^ (words >> np.uint64(31))
    return mixed


def draw(
    mask: Mask,
    name: str,
    seed: int,
    epoch: int,
    ids: Sequence[str],
    lengths: NDArray[np.int64],
    dims: Sequence[int] = (),
) -> Draw:
    """Draw a mask.

    Args:
        mask: the protocol's settings; any but ``conditions``, which has nothing to draw.
        name: the mask's name in params.yaml: two masks of one protocol are drawn independently.
        seed: the root seed.
        epoch: counts the uses of a sampled mask; give 0 for a fixed one.
        ids: N samples, in any order.
        lengths: (N, 3) frames of text, audio and video; 0 where the sample lacks the modality. Over whole
            modalities only whether it is 0 matters.
        dims: columns of text, audio and video; only ``block`` with ``axis: feature`` needs them.

    Returns:
        What is left. A modality that the sample never had counts as gone.
    """
    lengths = np.asarray(lengths, np.int64).reshape(len(ids), 3)
    have = lengths > 0
    rate = mask.rate or 0.0
    kept: dict[str, NDArray[np.bool_]]

    def streams(stream: int) -> Words:
        return hash_words(seed, f"mask/{name}", epoch, ids, stream)

    if mask.protocol == "one-missing":
        return Draw(_one_missing(streams(3), have, rate, mask.weights or (1.0, 1.0, 1.0)))
    if mask.protocol == "random":
        chances = np.stack([uniforms(streams(index), 0) for index in range(3)], axis=1)
        return Draw(_random(chances, uniforms(streams(3), 0), have, rate))
    if mask.protocol == "frames":
        kept = {m: _frames(streams(i), lengths[:, i], rate) for i, m in enumerate(MODALITIES)}
        return Draw(have, frames=kept)
    if mask.protocol == "block":
        ends = {m: mask.ranges.get(m, mask.range or (0.0, 0.0)) for m in MODALITIES}
        if mask.axis == "time":
            kept = {m: _block(streams(i), lengths[:, i], *ends[m]) for i, m in enumerate(MODALITIES)}
            return Draw(have, frames=kept)
        count = len(ids)
        kept = {
            m: _block(streams(i), np.full(count, dims[i]), *ends[m]).reshape(count, dims[i])
            for i, m in enumerate(MODALITIES)
        }
        return Draw(have, columns=kept)
    raise ParamsError(f'masks.{name}: the protocol "{mask.protocol}" enumerates; there is nothing to draw')


def _one_missing(
    starts: Words, have: NDArray[np.bool_], rate: float, weights: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """Take one modality from a share of the samples, never a sample's last one."""
    chances = have * np.array(weights)
    total = chances.sum(axis=1)
    loses = (uniforms(starts, 0) < rate) & (have.sum(axis=1) > 1) & (total > 0)
    edges = np.cumsum(chances, axis=1)
    pick = (uniforms(starts, 1)[:, None] * total[:, None] >= edges).sum(axis=1).clip(max=2)
    gone = loses[:, None] & (np.arange(3) == pick[:, None])
    return have & ~gone


def _random(
    chances: NDArray[np.float64], choice: NDArray[np.float64], have: NDArray[np.bool_], rate: float
) -> NDArray[np.bool_]:
    """Drop modalities independently; where all are gone, one of those the sample had comes back.

    The expected share that is gone is rate = p - p^3 / 3; with p = 2 sin(x) that is 2/3 sin(3 x).
    """
    p = 1.0 if rate >= 2 / 3 else 2 * math.sin(math.asin(1.5 * rate) / 3)
    kept = have & (chances >= p)
    rank = np.floor(choice * have.sum(axis=1)).astype(np.int64)
    back = have & (np.cumsum(have, axis=1) - 1 == rank[:, None])
    return np.where(kept.any(axis=1, keepdims=True), kept, back)


def _frames(starts: Words, lengths: NDArray[np.int64], rate: float) -> NDArray[np.bool_]:
    kept: NDArray[np.bool_] = uniforms(np.repeat(starts, lengths), _positions(lengths)) >= rate
    return kept


def _block(starts: Words, lengths: NDArray[np.int64], low: float, high: float) -> NDArray[np.bool_]:
    share = low + (high - low) * uniforms(starts, 0)
    size = np.floor(lengths * share + 1e-9).astype(np.int64)  # 100 * 0.29 is 28.999999999999996
    first = np.floor(uniforms(starts, 1) * (lengths - size + 1)).astype(np.int64)
    position = _positions(lengths)
    before, after = np.repeat(first, lengths), np.repeat(first + size, lengths)
    kept: NDArray[np.bool_] = (position < before) | (position >= after)
    return kept


def _positions(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0, 1, ..., T - 1 for each sample, one after the other."""
    begins = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) - np.repeat(begins, lengths)


def checksum(arrays: Mapping[str, NDArray[np.bool_]]) -> str:
    """Return the sha256 of a draw's names, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name}{arrays[name].shape}".encode())
        digest.update(np.packbits(arrays[name]).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Masks:
    """A file of masks, checked.

    Attributes:
        path: the file.
        dataset: whose masks they are.
        seed: the root seed they were drawn with.
        ids: the samples.
        lengths: (N, 3) int64 frames of text, audio and video.
        settings: mask -> its settings.
        checksums: mask -> sha256 of its (first) draw.
    """

    path: Path
    dataset: str
    seed: int
    ids: tuple[str, ...]
    lengths: NDArray[np.int64]
    settings: Mapping[str, Mask]
    checksums: Mapping[str, str]
    _arrays: Mapping[str, Mapping[str, NDArray[np.bool_]]]

    def mask(self, name: str) -> Mask:
        """Return a mask's settings.

        Raises:
            StoreError: the file has no mask of that name.
        """
        if name not in self.settings:
            raise StoreError(
                f'{self.path}: there is no mask "{name}"; it holds {", ".join(self.settings)}.'
                f"{nearest(name, self.settings)} Run: dvc repro mask@{self.dataset}"
            )
        return self.settings[name]

    def draw(self, name: str, epoch: int = 0) -> Draw:
        """Return a mask over all samples: the kept draw of a fixed one, that of ``epoch`` of a sampled one.

        Raises:
            StoreError: the file has no mask of that name.
            ParamsError: the mask is ``conditions``, which enumerates.
        """
        mask = self.mask(name)
        arrays = self._arrays[name]
        if mask.draw == "sampled" or mask.protocol == "conditions":
            return draw(mask, name, self.seed, epoch, self.ids, self.lengths, self.dims(name))
        have = self.lengths > 0
        if mask.protocol in ("one-missing", "random"):
            return Draw(arrays["present"])
        kept: dict[str, NDArray[np.bool_]] = {modality: arrays[modality] for modality in MODALITIES}
        return Draw(have, columns=kept) if mask.axis == "feature" else Draw(have, frames=kept)

    def dims(self, name: str) -> tuple[int, ...]:
        """Return the columns of text, audio and video as a mask over columns knows them, else nothing."""
        dims = self._arrays[name].get("dims")
        return () if dims is None else tuple(int(d) for d in dims)


def read_masks(path: Path, ids: Sequence[str] | None = None) -> Masks:
    """Read and check a file of masks.

    Args:
        path: the file.
        ids: the manifest's ids; when given, the masks must be just for these, in this order.

    Raises:
        StoreError: absent, damaged, of another schema, for other samples, or a draw does not have its
            checksum.
    """
    fix = "dvc repro -f -s mask"
    groups = read_arrays(path, KIND, SCHEMA, fix)
    try:
        root = groups.pop("")
        found = tuple(str(name) for name in root["ids"])
        settings = {n: Mask.model_validate(json.loads(group.pop("settings"))) for n, group in groups.items()}
        checksums = {name: str(group.pop("checksum")) for name, group in groups.items()}
        masks = Masks(
            path=path,
            dataset=str(root["dataset"]),
            seed=int(root["seed"]),
            ids=found,
            lengths=np.asarray(root["lengths"], np.int64).reshape(len(found), 3),
            settings=settings,
            checksums=checksums,
            _arrays={
                name: {k: v for k, v in g.items() if isinstance(v, np.ndarray)} for name, g in groups.items()
            },
        )
    except (KeyError, ValueError) as error:
        raise StoreError(f"{path}: damaged ({error}). Remove it and run: {fix}") from error
    if ids is not None and tuple(ids) != found:
        strange, lacking = sorted(set(found) - set(ids))[:3], sorted(set(ids) - set(found))[:3]
        raise StoreError(
            f"{path}: masks for other samples than the manifest's (not in the manifest: {strange or 'none'}; "
            f"without a mask: {lacking or 'none'}; or another order). Run: dvc repro"
        )
    for name, mask in settings.items():
        try:
            arrays = {"present": masks._arrays[name]["present"]} if mask.protocol == "conditions" else None
            actual = checksum(masks.draw(name).arrays() if arrays is None else arrays)
        except (KeyError, IndexError) as error:
            raise StoreError(f'{path}, mask "{name}": damaged (no {error}). Run: {fix}') from error
        if actual != checksums[name]:
            raise StoreError(
                f'{path}, mask "{name}": its draw has the checksum {actual[:12]}..., expected '
                f"{checksums[name][:12]}...: the file was changed or damaged. Run: {fix}"
            )
    return masks


def write_masks(
    path: Path,
    dataset: str,
    masks: Mapping[str, Mask],
    seed: int,
    ids: Sequence[str],
    lengths: NDArray[np.int64],
    dims: Sequence[int],
    manifest_sha256: str,
) -> dict[str, str]:
    """Draw all masks, write them, and return their checksums by name.

    Raises:
        StoreError: the disk is full.
    """
    groups: dict[str, dict[str, Any]] = {
        "": {
            "dataset": dataset,
            "seed": seed,
            "manifest_sha256": manifest_sha256,
            "ids": np.array(ids, dtype=object),
            "lengths": np.asarray(lengths, np.int64),
        }
    }
    checksums = {}
    for name, mask in masks.items():
        group: dict[str, Any] = {"settings": mask.model_dump_json(), "draw": mask.draw}
        if mask.protocol == "conditions":
            arrays = {"present": np.array(list(CONDITIONS.values()))}
            group["names"] = np.array(list(CONDITIONS), dtype=object)
        else:
            arrays = draw(mask, name, seed, 0, ids, lengths, dims).arrays()
        checksums[name] = group["checksum"] = checksum(arrays)
        if mask.draw == "fixed":
            group.update(arrays)
        if mask.axis == "feature" and mask.protocol == "block":
            group["dims"] = np.array(dims, np.int64)
        groups[name] = group
    write_arrays(path, KIND, SCHEMA, groups)
    return checksums
