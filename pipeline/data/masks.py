"""Missing-modality masks: how they are drawn, and the file data/masks/DATASET.h5 that keeps them.

The protocols (``masks`` in params.yaml); modalities always in the order text, audio, video:

``conditions``        enumerates {a}, {v}, {t}, {a,v}, {a,t}, {v,t} and {a,v,t} (MMIN Table 1; UMDF, inter)
``one-missing``       removes exactly one modality, chosen by ``weights``, from a share ``rate`` of the samples
                      (EMMR, TATE)
``random``            removes modalities independently and keeps at least one; ``rate`` = 1 - kept / (N * 3)
                      (GCNet)
``random-condition``  draws one of ``conditions`` with equal chances (of the six missing ones if none are given) and
                      keeps the modalities that it names; a sample that has none of these keeps all it has
``block``             removes k = floor(T * r) consecutive frames of every sample and modality, r uniform in
                      ``range`` (or its own of ``ranges``), from a start uniform in {0, ..., T - k};
                      ``axis: feature`` removes columns instead of frames (M3S 3.2)
``frames``            removes every frame independently with probability ``rate``; with ``range`` the probability
                      is drawn for each sample and modality (UMDF, intra; TFR-Net)
``mixture``           applies to each sample one of the protocols listed under ``of``, drawn with equal chances
                      (UMDF's versions)

``rates: [0, 0.1]`` instead of ``rate`` makes a family: the masks NAME-0 and NAME-10. They share their random
numbers, so that a higher rate removes all that a lower rate removes, and more. ``random`` is the exception,
because it gives a modality back where all are gone.

``draw: fixed`` masks are drawn once and kept in the file. ``draw: sampled`` ones are drawn anew in every epoch of a
training, from the run's seed; evaluation uses their first draw, whose checksum the file keeps. In both
cases a draw depends only on (seed, mask name, epoch, sample id, modality) and on the modalities that the sample has,
never on the order of samples, the batch, the worker or the device. ``random`` removes each modality with
probability p and gives one back where all are gone, so that the expected value of 1 - kept / (N * 3) is
p - p^3 / 3; p is the solution of rate = p - p^3 / 3.

A draw is made in two steps: :func:`rules` draws a few random numbers for each sample, and :func:`frames_kept`
computes from them which frames are kept. The second step works on numpy arrays and on PyTorch tensors
alike, so that training hides frames on the device by the formula that made the file.

Layout of the file (kind "lacuna masks"; it holds no times, so that equal masks give equal bytes)::

    /                attributes dataset, seed, manifest_sha256
    /ids             (N,) utf-8 strings, in the manifest's order
    /lengths         (N, 3) int64: frames of each modality, 0 where the sample lacks it
    /<mask>          attributes settings (JSON), draw, checksum (sha256 of the draw; of epoch 0's if sampled)
    /<mask>/present  (N, 3) bool: protocols over whole modalities; for conditions (7, 3), one row a
                     condition
    /<mask>/names    conditions only: (7,) strings a, v, t, av, at, vt, avt
    /<mask>/text ... protocols over frames: (sum T,) bool, True where a frame is kept, ragged like the feature
                     store; block over columns: (N, D) bool
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

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

_GOLDEN, _MIX_1, _MIX_2 = -7046029254386353131, -4658895280553007687, -7723592293110705685  # as signed words
_BITS = 53  # of a random number
Words = NDArray[np.int64]


@dataclass(frozen=True)
class Draw:
    """What one draw keeps.

    Attributes:
        present: (N, 3) bool: which modalities are left.
        frames: modality -> (sum T,) bool, True where a frame is kept; empty for protocols over whole
            modalities.
        columns: modality -> (N, D) bool, True where a column is kept; only ``block`` with ``axis: feature``.
        both: whether whole modalities are removed as well as frames (``mixture``).
    """

    present: NDArray[np.bool_]
    frames: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    columns: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    both: bool = False

    def arrays(self) -> dict[str, NDArray[np.bool_]]:
        """Return the arrays of the draw that are written to the file, by name."""
        parts = {**self.frames, **self.columns}
        return {**parts, "present": self.present} if self.both or not parts else parts


@dataclass(frozen=True)
class Rules:
    """The random numbers of one draw: what :func:`frames_kept` needs to know of each sample.

    Attributes:
        present: (N, 3) bool: which modalities are left.
        blocks: modality -> share (N,) and place (N,), float64: how long the missing block is, and where it lies
            between the first and the last possible start. Empty where no block is taken.
        drops: modality -> start (N,) int64 and threshold (N,) int64, for frames that are removed one by one. Empty
            where none are.
    """

    present: NDArray[np.bool_]
    blocks: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)
    drops: Mapping[str, tuple[Words, Words]] = field(default_factory=dict)

    @property
    def over_frames(self) -> bool:
        """Whether frames (or columns) are removed, not only whole modalities."""
        return bool(self.blocks or self.drops)


def hash_words(seed: int, purpose: str, epoch: int, ids: Sequence[str], stream: int) -> Words:
    """Return (N,) int64, the start of each sample's own random stream (SplitMix64, Steele et al. 2014).

    Args:
        seed: the root seed.
        purpose: what the numbers are used for; different purposes give unrelated numbers.
        epoch: 0 for a fixed draw.
        ids: the samples.
        stream: number of one of the sample's independent streams, such as the index of a modality.
    """
    key = hashlib.sha256(f"{seed}\n{purpose}\n{epoch}\n{stream}".encode()).digest()[:8]
    words: Words = _mix(_mix(np.array([_word(name) for name in ids], np.int64)) ^ np.int64(_signed(key)))
    return words


@lru_cache(maxsize=1 << 18)  # every epoch asks for the same samples
def _word(name: str) -> int:
    return _signed(hashlib.sha256(name.encode()).digest()[:8])


def _signed(eight: bytes) -> int:
    return int.from_bytes(eight, "little", signed=True)


def uniforms(starts: Words, counter: int | NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the ``counter``-th uniform number in [0, 1) of each stream, with 53 bits; shapes broadcast."""
    numbers: NDArray[np.float64] = (
        random_bits(starts, np.atleast_1d(np.asarray(counter, np.int64))) * 2.0**-_BITS
    )
    return numbers


def random_bits(starts: Any, counter: Any) -> Any:
    """Return the ``counter``-th number of each stream, an integer in [0, 2^53).

    Args:
        starts: int64, a numpy array or a tensor.
        counter: int64, the same kind; shapes broadcast.
    """
    return (_mix(starts + (counter + 1) * _GOLDEN) >> (64 - _BITS)) & ((1 << _BITS) - 1)


def _mix(words: Any) -> Any:
    """Mix the bits of words (SplitMix64). The words are signed: products overflow as unsigned ones do, and a shift
    followed by a bit mask stands for the unsigned shift.
    """
    words = (words ^ ((words >> 30) & ((1 << 34) - 1))) * _MIX_1
    words = (words ^ ((words >> 27) & ((1 << 37) - 1))) * _MIX_2
    return words ^ ((words >> 31) & ((1 << 33) - 1))


def threshold(rate: ArrayLike) -> Words:
    """Return ceil(rate * 2^53): a frame is removed if its random number of 53 bits is smaller."""
    found: Words = np.ceil(np.asarray(rate, np.float64) * 2.0**_BITS).astype(np.int64)
    return found


def block_kept(share: Any, place: Any, lengths: Any, position: Any) -> Any:
    """Return whether each position lies outside the missing block, for numpy arrays and tensors alike.

    Args:
        share: float64, r: the block has floor(T * r) positions.
        place: float64 in [0, 1): the start is floor(place * (T - k + 1)).
        lengths: int64, T.
        position: int64 in [0, T). All four broadcast.
    """
    size = (lengths * share + 1e-9) // 1  # 100 * 0.29 is 28.999999999999996
    first = (place * (lengths - size + 1)) // 1
    return (position < first) | (position >= first + size)


def frames_kept(
    block: tuple[Any, Any] | None, drop: tuple[Any, Any] | None, lengths: Any, position: Any
) -> Any:
    """Return which positions are kept, for numpy arrays and tensors alike; all arguments broadcast.

    Args:
        block: share and place of a modality (:attr:`Rules.blocks`), or None.
        drop: start and threshold (:attr:`Rules.drops`), or None.
        lengths: int64, T.
        position: int64 in [0, T).
    """
    kept = position >= 0
    if block is not None:
        kept = kept & block_kept(*block, lengths, position)
    if drop is not None:
        kept = kept & (random_bits(drop[0], position) >= drop[1])
    return kept


def rules(mask: Mask, name: str, seed: int, epoch: int, ids: Sequence[str], have: NDArray[np.bool_]) -> Rules:
    """Draw the random numbers of one draw.

    Args:
        mask: the protocol's settings; any protocol but ``conditions``, which draws nothing.
        name: the mask's name: two masks of one protocol are drawn independently, unless they are of one family.
        seed: the root seed, or a run's.
        epoch: 0 for a fixed mask.
        ids: N samples, in any order.
        have: (N, 3) bool, which modalities a sample has. One that was never recorded counts as removed.
    """
    have = np.asarray(have, bool).reshape(len(ids), 3)
    purpose = f"mask/{mask.family or name}"

    def streams(stream: int) -> Words:
        return hash_words(seed, purpose, epoch, ids, stream)

    rate = mask.rate or 0.0
    if mask.protocol == "one-missing":
        return Rules(_one_missing(streams(3), have, rate, mask.weights or (1.0, 1.0, 1.0)))
    if mask.protocol == "random":
        chances = np.stack([uniforms(streams(index), 0) for index in range(3)], axis=1)
        return Rules(_random(chances, uniforms(streams(3), 0), have, rate))
    if mask.protocol == "random-condition":
        table = np.array([CONDITIONS[c] for c in mask.conditions or MISSING_CONDITIONS])
        left = have & table[(uniforms(streams(3), 0) * len(table)).astype(np.int64)]
        return Rules(np.where(left.any(axis=1, keepdims=True), left, have))
    if mask.protocol == "frames":
        drops: dict[str, tuple[Words, Words]] = {}
        for index, modality in enumerate(MODALITIES):
            low, high = mask.range or (rate, rate)
            chance = (
                low + (high - low) * uniforms(streams(4 + index), 0) if low < high else np.full(len(ids), low)
            )
            drops[modality] = (streams(index), threshold(chance))
        return Rules(have, drops=drops)
    if mask.protocol == "block":
        blocks: dict[str, tuple[Any, Any]] = {}
        for index, modality in enumerate(MODALITIES):
            low, high = mask.ranges.get(modality, mask.range or (0.0, 0.0))
            starts = streams(index)
            blocks[modality] = (low + (high - low) * uniforms(starts, 0), uniforms(starts, 1))
        return Rules(have, blocks=blocks)
    if mask.protocol == "mixture":
        chosen = (uniforms(streams(3), 0) * len(mask.of)).astype(np.int64)
        parts = [rules(one, f"{name}/{k}", seed, epoch, ids, have) for k, one in enumerate(mask.of)]
        return _mixed(chosen, parts)
    raise ParamsError(f'masks.{name}: the protocol "{mask.protocol}" enumerates; there is nothing to draw')


def _mixed(chosen: NDArray[np.int64], parts: Sequence[Rules]) -> Rules:
    """Return for each sample the random numbers of the draw that was chosen for it.

    Args:
        chosen: (N,) int64, which of the draws.
        parts: the draws, each over all N samples. For a sample whose draw removes no frames, the numbers are such that
            none are removed.
    """
    pick = np.arange(len(chosen))

    def joined(whose: str, neutral: tuple[float, float], dtype: type) -> dict[str, tuple[Any, Any]]:
        if not any(getattr(part, whose) for part in parts):
            return {}
        found: dict[str, tuple[Any, Any]] = {}
        for modality in MODALITIES:
            stacks = []
            for place in (0, 1):
                none: NDArray[Any] = np.full(len(chosen), neutral[place], dtype)
                rows = [getattr(part, whose).get(modality, (none, none))[place] for part in parts]
                stacks.append(np.stack(rows)[chosen, pick])
            found[modality] = (stacks[0], stacks[1])
        return found

    present = np.stack([part.present for part in parts])[chosen, pick]
    return Rules(present, joined("blocks", (0.0, 0.0), np.float64), joined("drops", (0, 0), np.int64))


def draw(
    mask: Mask,
    name: str,
    seed: int,
    epoch: int,
    ids: Sequence[str],
    lengths: NDArray[np.int64],
    dims: Sequence[int] = (),
) -> Draw:
    """Draw a mask over all frames of some samples.

    Args:
        mask, name, seed, epoch, ids: as :func:`rules` takes them.
        lengths: (N, 3) frames of text, audio and video; 0 where the sample lacks the modality. Protocols over whole
            modalities use only whether it is 0.
        dims: columns of text, audio and video; only ``block`` with ``axis: feature`` needs them.
    """
    lengths = np.asarray(lengths, np.int64).reshape(len(ids), 3)
    made = rules(mask, name, seed, epoch, ids, lengths > 0)
    if not made.over_frames:
        return Draw(made.present)
    count = len(ids)
    if mask.axis == "feature":
        columns = {
            m: frames_kept(_column(made.blocks[m]), None, dims[i], np.arange(dims[i])[None])
            for i, m in enumerate(MODALITIES)
        }
        return Draw(
            made.present,
            columns={m: kept.reshape(count, dims[i]) for i, (m, kept) in enumerate(columns.items())},
        )
    kept: dict[str, NDArray[np.bool_]] = {}
    for index, modality in enumerate(MODALITIES):
        times = lengths[:, index]

        def spread(pair: tuple[Any, Any] | None, times: NDArray[np.int64] = times) -> tuple[Any, Any] | None:
            return None if pair is None else (np.repeat(pair[0], times), np.repeat(pair[1], times))

        block, drop = spread(made.blocks.get(modality)), spread(made.drops.get(modality))
        kept[modality] = frames_kept(block, drop, np.repeat(times, times), _positions(times))
    return Draw(made.present, frames=kept, both=mask.protocol == "mixture")


def _column(pair: tuple[Any, Any]) -> tuple[Any, Any]:
    return pair[0][:, None], pair[1][:, None]


def _one_missing(
    starts: Words, have: NDArray[np.bool_], rate: float, weights: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """Remove one modality from a share of the samples, but never the only one that a sample has."""
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
    """Remove modalities independently; where all are gone, give back one of those that the sample had.

    The expected share that is removed is rate = p - p^3 / 3; with p = 2 sin(x) that is 2/3 sin(3 x).
    """
    p = 1.0 if rate >= 2 / 3 else 2 * math.sin(math.asin(1.5 * rate) / 3)
    kept = have & (chances >= p)
    rank = np.floor(choice * have.sum(axis=1)).astype(np.int64)
    back = have & (np.cumsum(have, axis=1) - 1 == rank[:, None])
    return np.where(kept.any(axis=1, keepdims=True), kept, back)


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

    def draw(self, name: str) -> Draw:
        """Return a mask over all samples: the kept draw of a fixed one, the first draw of a sampled one.

        Raises:
            StoreError: the file has no mask of that name.
            ParamsError: the mask is ``conditions``, which enumerates.
        """
        mask = self.mask(name)
        arrays = self._arrays[name]
        if mask.draw == "sampled" or mask.protocol == "conditions":
            return draw(mask, name, self.seed, 0, self.ids, self.lengths, self.dims(name))
        have = self.lengths > 0
        present = arrays.get("present")
        if MODALITIES[0] not in arrays:
            return Draw(arrays["present"])
        kept: dict[str, NDArray[np.bool_]] = {modality: arrays[modality] for modality in MODALITIES}
        left = have if present is None else present
        if mask.axis == "feature":
            return Draw(left, columns=kept)
        return Draw(left, frames=kept, both=present is not None)

    def dims(self, name: str) -> tuple[int, ...]:
        """Return the columns of text, audio and video as a mask over columns knows them, else nothing."""
        dims = self._arrays[name].get("dims")
        return () if dims is None else tuple(int(d) for d in dims)


def read_masks(path: Path, ids: Sequence[str] | None = None) -> Masks:
    """Read and check a file of masks.

    Args:
        path: the file.
        ids: the manifest's ids. If given, the masks must be for exactly these samples, in this order.

    Raises:
        StoreError: the file is absent, damaged, of another schema or for other samples, or a draw does not have the
            checksum that the file records.
    """
    fix = "dvc repro -f -s mask"
    groups = read_arrays(path, KIND, SCHEMA, fix)
    try:
        root = groups.pop("")
        found = tuple(str(name) for name in root["ids"])
        settings = {n: Mask.model_validate_json(group.pop("settings")) for n, group in groups.items()}
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
        group: dict[str, Any] = {"settings": mask.as_json(), "draw": mask.draw}
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
