"""Finished feature stores: what one holds, whether it is intact, and how two differ.

All of them read a store in blocks or sample by sample, so that memory does not grow with the store.
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

from pipeline.commands.output import listed
from pipeline.data.manifest import manifest_checksum, read_manifest
from pipeline.data.store import FeatureStore, Status, add_to_checksum
from pipeline.errors import DataError, StoreError
from pipeline.extraction.extractors.base import cautions_for

ROWS_A_BLOCK = 65_536


def describe(path: Path) -> dict[str, Any]:
    """Return what a store holds, as ``lacuna features show --json`` prints it.

    ``frames_a_sample`` is [smallest, median, largest] over the samples whose status is ok; empty when there are
    none. ``reasons`` maps "status: reason" to the ids of the samples. ``cautions`` are what the extractor says that
    readers of its columns must know.

    Raises:
        StoreError: the file is not a feature store, is damaged or has another schema.
    """
    with FeatureStore(path) as store:
        info, lengths = store.info, store.lengths[store.status == Status.OK]
        reasons: dict[str, list[str]] = {}
        for sample_id, status, reason in zip(store.ids, store.status, store.reasons, strict=True):
            if status != Status.OK:
                key = f"{Status(int(status)).name.lower()}: {reason or 'no reason given'}"
                reasons.setdefault(key, []).append(sample_id)
        return {
            "file": str(path),
            "dataset": info.dataset,
            "modality": info.modality,
            "extractor": info.extractor,
            "settings": dict(info.settings),
            "versions": dict(info.versions),
            "schema": info.schema,
            "frame_period_s": info.frame_period_s,
            "columns": list(info.columns),
            "samples": len(store),
            "status": {status.name.lower(): int((store.status == status).sum()) for status in Status},
            "frames": int(store.offsets[-1]),
            "frames_observed": int(store.read_flags().sum()),
            "frames_a_sample": [int(x) for x in np.percentile(lengths, (0, 50, 100))] if len(lengths) else [],
            "reasons": reasons,
            "cautions": [
                {"columns": columns, "says": says}
                for columns, says in cautions_for(info.modality, info.extractor, info.settings, info.columns)
            ],
            "manifest_sha256": info.manifest_sha256,
            "values_sha256": store.values_sha256,
        }


@dataclass(frozen=True)
class Check:
    """What a store was checked for.

    Attributes:
        items: (name of the check, what was found, whether it passed; None: it could not be made).
    """

    items: tuple[tuple[str, str, bool | None], ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(right is not False for _, _, right in self.items)


def check(path: Path, manifest: Path | None = None) -> Check:
    """Check a store against its own attributes, and against its manifest.

    Args:
        path: the store.
        manifest: the manifest; None: the file where the pipeline writes it. If that file does not exist, the
            manifest is not checked.

    Raises:
        StoreError: the file is not a feature store, or has another schema.
        DataError: the given manifest does not exist or cannot be read.
    """
    items: list[tuple[str, str, bool | None]] = []
    with FeatureStore(path) as store:
        info, doubled = store.info, [name for name, n in Counter(store.info.columns).items() if n > 1]
        dims = len(info.columns)
        named = f"{dims} for {dims} columns" if not doubled else f"used more than once: {listed(doubled)}"
        items.append(("names", named, not doubled))
        items.append(_check_values(store))
        items += _check_rows(store)
        items += _check_samples(store)
        place = manifest or path.absolute().parents[2] / "manifests" / f"{info.dataset}.csv"
        if manifest is None and not place.is_file():
            items.append(("manifest", f"{place}: no such file; name the manifest with --manifest", None))
        else:
            items.append(_check_manifest(store, place))
    return Check(tuple(items))


def _check_values(store: FeatureStore) -> tuple[str, str, bool]:
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
        return "checksum", f"sha256 {found} over {int(store.offsets[-1])} rows", True
    return "checksum", f"found sha256 {found}; the file records {store.values_sha256}", False


def _check_rows(store: FeatureStore) -> list[tuple[str, str, bool | None]]:
    odd: dict[str, list[str]] = {"finite": [], "times": [], "flags": []}
    try:
        for start, stop, values, times, flags in _blocks(store):
            owner = np.repeat(np.arange(start, stop), np.diff(store.offsets[start : stop + 1]))
            back = np.diff(times, prepend=times[:1]) < 0
            back[1:] &= owner[1:] == owner[:-1]  # the times of each sample start again
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
        "finite": "values and times are finite numbers",
        "times": "at least 0 and not decreasing within a sample",
        "flags": "0 or 1, and values are 0 where the flag is 0",
    }
    return [(name, f"wrong in {listed(bad)}" if bad else right[name], not bad) for name, bad in odd.items()]


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
        (
            "ids",
            f"used more than once: {listed(doubled)}" if doubled else f"{len(store)}, each used once",
            not doubled,
        ),
        (
            "status",
            f"does not agree with rows and reason: {listed(odd)}"
            if odd
            else "ok has rows, every other status has none and a reason",
            not odd,
        ),
    ]


def _check_manifest(store: FeatureStore, place: Path) -> tuple[str, str, bool]:
    ids = [sample.id for sample in read_manifest(place)]
    extra, absent = sorted(set(store.ids) - set(ids)), sorted(set(ids) - set(store.ids))
    problems = [f"only in the store: {listed(extra)}"] if extra else []
    problems += [f"only in the manifest: {listed(absent)}"] if absent else []
    found = manifest_checksum(place)
    if not problems and list(store.ids) != ids:
        problems = ["the store has the samples in another order"]
    elif not problems and found != store.info.manifest_sha256:
        problems = [f"found sha256 {found}; the store was made from {store.info.manifest_sha256}"]
    if problems:
        return "manifest", f"{place}: {'; '.join(problems)}. Extract again: dvc repro", False
    return "manifest", f"{place}: the store was made from it", True


@dataclass
class Difference:
    """What differs between two stores. Samples are compared that both have.

    Attributes:
        about: attributes that differ: key -> (of the first, of the second).
        only: ids that only the first has, and ids that only the second has.
        columns: column names that only the first has, and those that only the second has.
        status: sample -> (status in the first, status in the second).
        length: sample -> (number of rows in the first, in the second).
        words, flags, token_ids: samples whose words, flags or token ids differ.
        times: sample -> the largest difference between two times, in seconds.
        values: sample -> the largest difference between two values, where it is above the tolerance.
        largest: the largest difference between two values, its sample and its column; (0, "", "") if there is
            none.
        compared: number of samples that were compared.
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
        """Whether samples, columns, statuses and rows are the same; the attributes in ``about`` may differ."""
        rows = (self.length, self.words, self.flags, self.token_ids, self.times, self.values)
        return not any((*self.only, *self.columns, self.status, *rows))


def diff(first: Path, second: Path, tolerance: float = 0.0) -> Difference:
    """Compare two stores, sample by sample, over the columns that both have.

    Args:
        first, second: the stores; the order of their samples does not matter.
        tolerance: values and times that differ by no more than this count as the same.

    Raises:
        StoreError: one of them is not a feature store, or is damaged.
        DataError: they hold different modalities.
    """
    found = Difference()
    with FeatureStore(first) as a, FeatureStore(second) as b:
        if a.info.modality != b.info.modality:
            raise DataError(
                f"{first} holds {a.info.modality}, {second} {b.info.modality}; expected one modality"
            )
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
    """Yield blocks of samples: the first, the one after the last, their values (T, D), times (T,), flags (T,)."""
    starts, begin = [0], 0
    for index in range(1, len(store)):
        if store.offsets[index + 1] - begin > ROWS_A_BLOCK:
            starts.append(index)
            begin = int(store.offsets[index])
    for start, stop in pairwise([*starts, len(store)]):
        if stop > start:
            yield start, stop, *store.read_rows(int(store.offsets[start]), int(store.offsets[stop]))
