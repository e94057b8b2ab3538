"""Questions about finished feature stores: is this one whole, and in what do these two differ?

Both read in blocks, so that memory does not grow with the store.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.manifest import manifest_checksum, read_manifest
from pipeline.data.store import FeatureStore, Status, add_to_checksum
from pipeline.errors import DataError, StoreError

ROWS_A_BLOCK = 65_536
NAMED = 5  # samples that a message names


@dataclass(frozen=True)
class Check:
    """What a store was checked for: (name, what was found, whether it is right); None: could not be asked."""

    items: tuple[tuple[str, str, bool | None], ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return all(right is not False for _, _, right in self.items)


def check(path: Path, manifest: Path | None = None) -> Check:
    """Check a store against what it says of itself, and against its manifest.

    Args:
        path: the store.
        manifest: the manifest; None: the one that lies where the pipeline puts it, if it does.

    Raises:
        StoreError: it is no feature store at all, or of another schema.
        DataError: the manifest that was named is not there, or bad.
    """
    items: list[tuple[str, str, bool | None]] = []
    with FeatureStore(path) as store:
        info, doubled = store.info, [name for name, n in Counter(store.info.columns).items() if n > 1]
        rows, dims = int(store.offsets[-1]), len(info.columns)
        named = f"{dims} for {dims} columns" if not doubled else f"twice or more: {_listed(doubled)}"
        items.append(("names", named, not doubled))
        items.append(_check_values(store, rows))
        items += _check_rows(store)
        items += _check_samples(store)
        given = manifest is not None
        place = manifest or path.absolute().parents[2] / "manifests" / f"{info.dataset}.csv"
        if not given and not place.is_file():
            items.append(("manifest", f"{place}: not there; name it with --manifest", None))
        else:
            items += _check_manifest(store, place)
    return Check(tuple(items))


def _check_values(store: FeatureStore, rows: int) -> tuple[str, str, bool]:
    checksum = hashlib.sha256()
    try:
        for start, stop, values, times, flags in _blocks(store):
            first, last = int(store.offsets[start]), int(store.offsets[stop])
            parts = {"values": values, "times": times, "flags": flags, **store.read_token_rows(first, last)}
            for index in range(start, stop):
                own = slice(*(store.offsets[index : index + 2] - first))
                add_to_checksum(
                    checksum,
                    store.ids[index],
                    int(store.status[index]),
                    store.reasons[index],
                    {name: array[own] for name, array in parts.items()},
                )
    except StoreError as error:
        return "checksum", str(error), False
    found = checksum.hexdigest()
    if found == store.values_sha256:
        return "checksum", f"sha256 {found} over {rows} rows", True
    return "checksum", f"found sha256 {found}, the file says {store.values_sha256}", False


def _check_rows(store: FeatureStore) -> list[tuple[str, str, bool | None]]:
    odd: dict[str, list[str]] = {"finite": [], "times": [], "flags": []}
    try:
        for start, stop, values, times, flags in _blocks(store):
            owner = np.repeat(np.arange(start, stop), np.diff(store.offsets[start : stop + 1]))
            back = np.diff(times, prepend=times[:1]) < 0
            back[1:] &= owner[1:] == owner[:-1]  # each sample begins anew
            unseen = (flags == 0) & (values != 0).any(axis=1)
            for name, bad in (
                ("finite", ~np.isfinite(values).all(axis=1) | ~np.isfinite(times)),
                ("times", back | (times < 0)),
                ("flags", unseen | (flags > 1)),
            ):
                odd[name] += [store.ids[index] for index in np.unique(owner[bad])]
    except StoreError as error:
        return [("rows", str(error), False)]
    right = {
        "finite": "all numbers are",
        "times": "from 0 on, in order in every sample",
        "flags": "0 or 1, and zeros wherever nothing was observed",
    }
    return [(name, f"not in {_listed(bad)}" if bad else right[name], not bad) for name, bad in odd.items()]


def _check_samples(store: FeatureStore) -> list[tuple[str, str, bool | None]]:
    doubled = [name for name, count in Counter(store.ids).items() if count > 1]
    odd = [
        name
        for name, status, reason, length in zip(
            store.ids, store.status, store.reasons, store.lengths, strict=True
        )
        if status > max(Status)
        or (status == Status.OK) != (length > 0)
        or (status != Status.OK) != bool(reason)
    ]
    return [
        ("ids", f"twice or more: {_listed(doubled)}" if doubled else f"{len(store)}, each once", not doubled),
        (
            "status",
            f"does not go with rows and reason: {_listed(odd)}"
            if odd
            else "rows where ok, a reason where not",
            not odd,
        ),
    ]


def _check_manifest(store: FeatureStore, place: Path) -> list[tuple[str, str, bool | None]]:
    ids = [sample.id for sample in read_manifest(place)]
    strange, lacking = sorted(set(store.ids) - set(ids)), sorted(set(ids) - set(store.ids))
    if strange or lacking:
        what = [f"not in it: {_listed(strange)}"] if strange else []
        what += [f"not in the store: {_listed(lacking)}"] if lacking else []
        return [("manifest", f"{place}: {'; '.join(what)}", False)]
    if list(store.ids) != ids:
        return [("manifest", f"{place}: has the samples in another order", False)]
    found = manifest_checksum(place)
    if found != store.info.manifest_sha256:
        said = (
            f"{place}: sha256 {found}; the store was made from {store.info.manifest_sha256}. Run: dvc repro"
        )
        return [("manifest", said, False)]
    return [("manifest", f"{place}: the one that the store was made from", True)]


@dataclass
class Difference:
    """What differs between two stores.

    Attributes:
        about: what they say of themselves: key -> (first, second).
        only: ids that only the first has, and only the second.
        columns: names that only the first has, and only the second.
        status, length: samples of both whose status or number of rows differ.
        words, flags, token_ids: samples of both whose words, flags or token ids differ.
        times: samples of both whose times differ, at most by how much, in seconds.
        values: samples of both whose values differ by more than is allowed, by how much at most.
        largest: the largest difference between two values, its sample and its column.
        compared: samples of both that were compared.
    """

    about: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    only: tuple[list[str], list[str]] = ([], [])
    columns: tuple[list[str], list[str]] = ([], [])
    status: dict[str, tuple[str, str]] = field(default_factory=dict)
    length: dict[str, tuple[int, int]] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    token_ids: list[str] = field(default_factory=list)
    times: dict[str, float] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    largest: tuple[float, str, str] = (0.0, "", "")
    compared: int = 0

    @property
    def same(self) -> bool:
        """Whether samples, columns, statuses and rows are the same; what they say of themselves may differ."""
        rows = (self.length, self.words, self.flags, self.token_ids, self.times, self.values)
        return not any((*self.only, *self.columns, self.status, *rows))


def diff(first: Path, second: Path, tolerance: float = 0.0) -> Difference:
    """Compare two stores, sample by sample, over the columns that both have.

    Args:
        first, second: the stores; the order of their samples does not matter.
        tolerance: values and times that differ by no more than this count as the same.

    Raises:
        StoreError: one of them is no feature store, or is damaged.
        DataError: they hold different modalities.
    """
    found = Difference()
    with FeatureStore(first) as a, FeatureStore(second) as b:
        if a.info.modality != b.info.modality:
            raise DataError(f"{first} holds {a.info.modality}, {second} {b.info.modality}; expected the same")
        for key in ("dataset", "extractor", "settings", "versions", "frame_period_s", "manifest_sha256"):
            pair = getattr(a.info, key), getattr(b.info, key)
            if pair[0] != pair[1]:
                found.about[key] = pair
        found.only = _apart(a.ids, b.ids)
        found.columns = _apart(a.info.columns, b.info.columns)
        shared = [name for name in a.info.columns if name in set(b.info.columns)]
        picks = [[one.info.columns.index(name) for name in shared] for one in (a, b)]
        theirs = {name: index for index, name in enumerate(b.ids)}
        for mine, name in enumerate(a.ids):
            if name in theirs:
                _compare(found, name, (a, b), (mine, theirs[name]), picks, tolerance)
        if found.largest[2]:
            largest, name, column = found.largest
            found.largest = largest, name, shared[int(column)]
    return found


def _compare(
    found: Difference,
    name: str,
    stores: tuple[FeatureStore, FeatureStore],
    indices: tuple[int, int],
    picks: list[list[int]],
    tolerance: float,
) -> None:
    a, b = (store.read(index) for store, index in zip(stores, indices, strict=True))
    found.compared += 1
    if a.status != b.status:
        found.status[name] = a.status.name.lower(), b.status.name.lower()
    if len(a.times) != len(b.times):
        found.length[name] = len(a.times), len(b.times)
        return
    if a.tokens != b.tokens:
        found.words.append(name)
    if not np.array_equal(a.flags, b.flags):
        found.flags.append(name)
    if a.token_ids is not None and b.token_ids is not None and not np.array_equal(a.token_ids, b.token_ids):
        found.token_ids.append(name)
    if len(a.times) and (apart := float(np.abs(a.times - b.times).max())) > tolerance:
        found.times[name] = apart
    if len(a.times) and picks[0]:
        apart_by = np.abs(a.values[:, picks[0]].astype(np.float64) - b.values[:, picks[1]])
        largest = float(apart_by.max())
        if largest > tolerance:
            found.values[name] = largest
        if largest > found.largest[0]:
            found.largest = largest, name, str(int(apart_by.max(axis=0).argmax()))


def _apart(first: Sequence[str], second: Sequence[str]) -> tuple[list[str], list[str]]:
    ours, theirs = set(first), set(second)
    return [name for name in first if name not in theirs], [name for name in second if name not in ours]


def _blocks(
    store: FeatureStore,
) -> Iterator[tuple[int, int, NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]]:
    """Yield first sample, last but one, and their values (T, D), times (T,), flags (T,), block by block."""
    starts, begin = [0], 0
    for index in range(1, len(store)):
        if store.offsets[index + 1] - begin > ROWS_A_BLOCK:
            starts.append(index)
            begin = int(store.offsets[index])
    for start, stop in pairwise([*starts, len(store)]):
        if stop > start:
            yield start, stop, *store.read_rows(int(store.offsets[start]), int(store.offsets[stop]))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
