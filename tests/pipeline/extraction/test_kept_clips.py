"""Kept results: what goes in comes out, whatever a stop cut short is not there, the latest of a key counts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.store import FeatureSequence, Status
from pipeline.errors import StoreError
from pipeline.extraction.kept_clips import RECORD, KeptResults, ResultWriter

DIMS = 3


def key(number: int) -> str:
    return f"{number:064x}"


def sequence(length: int, seed: int = 0, tokens: bool = False) -> FeatureSequence:
    values = np.random.default_rng(seed).normal(size=(length, DIMS)).astype(np.float32)
    return FeatureSequence(
        values,
        np.arange(length, dtype=np.float32),
        np.ones(length, np.uint8),
        tokens=tuple(f"語{index}" for index in range(length)) if tokens else (),
        token_ids=np.arange(length) if tokens else None,
    )


def read(folder: Path, *numbers: int) -> list[FeatureSequence | None]:
    kept = KeptResults(folder, DIMS)
    kept.refresh({key(number) for number in numbers})
    with kept.reader() as reader:
        return [reader(key(number)) for number in numbers]


def assert_same(found: FeatureSequence | None, expected: FeatureSequence) -> None:
    assert found is not None
    assert found.values.tobytes() == expected.values.tobytes()
    assert found.times.tobytes() == expected.times.tobytes()
    assert found.flags.tobytes() == expected.flags.tobytes()
    assert (found.status, found.reason, found.tokens) == (expected.status, expected.reason, expected.tokens)
    if expected.token_ids is None:
        assert found.token_ids is None
    else:
        assert found.token_ids is not None
        assert found.token_ids.tolist() == expected.token_ids.tolist()


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    results = [
        sequence(5),
        sequence(7, 1, tokens=True),
        FeatureSequence.absent(DIMS, Status.MISSING, "nothing to hear: „stumm“"),
    ]
    with ResultWriter(tmp_path / "a") as writer:
        writer.keep([(key(0), results[0])])
        writer.keep([(key(1), results[1]), (key(2), results[2])])
        writer.keep([])
    for found, expected in zip(read(tmp_path / "a", 0, 1, 2), results, strict=True):
        assert_same(found, expected)
    assert read(tmp_path / "a", 3) == [None]
    assert read(tmp_path / "elsewhere", 0) == [None]
    assert len(list((tmp_path / "a").iterdir())) == 2


def test_a_writer_that_keeps_nothing_leaves_nothing(tmp_path: Path) -> None:
    with ResultWriter(tmp_path / "a"):
        pass
    assert not (tmp_path / "a").exists()


def test_the_latest_of_a_key_counts(tmp_path: Path) -> None:
    for seed in (1, 2):
        with ResultWriter(tmp_path) as writer:
            writer.keep([(key(0), sequence(4, seed))])
    assert_same(read(tmp_path, 0)[0], sequence(4, 2))


@pytest.mark.parametrize("cut", range(1, RECORD.size + 1, 7))
def test_a_stop_at_any_byte_loses_only_the_last(tmp_path: Path, cut: int) -> None:
    with ResultWriter(tmp_path) as writer:
        for number in range(3):
            writer.keep([(key(number), sequence(4, number))])
    (index,) = tmp_path.glob("*.index")
    index.write_bytes(index.read_bytes()[:-cut])
    results = index.with_suffix(".results")
    results.write_bytes(results.read_bytes()[:-cut])
    found = read(tmp_path, 0, 1, 2)
    assert found[2] is None
    for number in (0, 1):
        assert_same(found[number], sequence(4, number))


def test_changed_bytes_are_not_taken(tmp_path: Path) -> None:
    with ResultWriter(tmp_path) as writer:
        writer.keep([(key(number), sequence(4, number)) for number in range(2)])
    (path,) = tmp_path.glob("*.results")
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    found = read(tmp_path, 0, 1)
    assert found[1] is None
    assert_same(found[0], sequence(4, 0))


def test_another_number_of_columns_is_not_taken(tmp_path: Path) -> None:
    with ResultWriter(tmp_path) as writer:
        writer.keep([(key(0), sequence(4))])
    kept = KeptResults(tmp_path, DIMS + 1)
    kept.refresh({key(0)})
    assert key(0) in kept
    with kept.reader() as reader:
        assert reader(key(0)) is None


def test_after_a_failed_write_new_files_are_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    with ResultWriter(tmp_path) as writer:
        writer.keep([(key(0), sequence(4, 0))])

        def full(file: int, data: bytes) -> int:
            monkeypatch.setattr(os, "write", real)
            real(file, bytes(data)[:10])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(StoreError, match=r"No space left on device\. Is the disk full"):
            writer.keep([(key(1), sequence(4, 1))])
        writer.keep([(key(1), sequence(4, 1))])
    found = read(tmp_path, 0, 1)
    for number in (0, 1):
        assert_same(found[number], sequence(4, number))
    assert len(list(tmp_path.glob("*.results"))) == 2
