"""The store: what goes in comes out, equal features are equal bytes, and damage is named, never read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.data.store import (
    FeatureInfo,
    FeatureSequence,
    FeatureStore,
    FeatureWriter,
    Status,
    read_arrays,
    write_arrays,
)
from pipeline.errors import StoreError

COLUMNS = ("a", "b", "c")


def info(modality: str = "audio") -> FeatureInfo:
    return FeatureInfo(
        "demo", modality, "librosa", {"hop": 512}, COLUMNS, 0.01, "0" * 64, {"librosa": "0.11"}
    )


def sequence(length: int, seed: int = 0, **fields: object) -> FeatureSequence:
    values = np.random.default_rng(seed).normal(size=(length, 3)).astype(np.float32)
    times = np.arange(length, dtype=np.float32) / 100
    return FeatureSequence(values, times, np.ones(length, np.uint8), **fields)  # type: ignore[arg-type]


SAMPLES = {
    "s1": sequence(5, 1),
    "s2": FeatureSequence.absent(3, Status.MISSING, "no sound"),
    "語 3": sequence(1, 2),
    "s4": FeatureSequence.absent(3, Status.FAILED, "cut short"),
    "s5": sequence(2000, 3),
}


def write(path: Path, samples: dict[str, FeatureSequence] | None = None, modality: str = "audio") -> Path:
    with FeatureWriter(path, info(modality)) as writer:
        for name, item in (SAMPLES if samples is None else samples).items():
            writer.append(name, item)
    return path


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    with FeatureStore(write(tmp_path / "audio.h5"), list(SAMPLES)) as store:
        assert store.info == info()
        assert store.lengths.tolist() == [5, 0, 1, 0, 2000]
        for found, expected in zip(store, SAMPLES.values(), strict=True):
            np.testing.assert_array_equal(found.values, expected.values)
            np.testing.assert_array_equal(found.times, expected.times)
            assert (found.status, found.reason) == (expected.status, expected.reason)
        values, flags = store.read_all()
        assert values.shape == (2006, 3)
        assert flags.sum() == 2006


def test_text_keeps_its_tokens(tmp_path: Path) -> None:
    text = sequence(2, tokens=("don", "##'t"), token_ids=np.array([7, 9]))
    with FeatureStore(write(tmp_path / "text.h5", {"a": text}, "text")) as store:
        found = store.read(0)
        assert found.tokens == ("don", "##'t")
        assert found.token_ids is not None
        assert found.token_ids.tolist() == [7, 9]


def test_equal_features_are_equal_bytes(tmp_path: Path) -> None:
    assert write(tmp_path / "a.h5").read_bytes() == write(tmp_path / "b.h5").read_bytes()
    changed = {**SAMPLES, "s1": sequence(5, 9)}
    with FeatureStore(tmp_path / "a.h5") as one, FeatureStore(write(tmp_path / "c.h5", changed)) as other:
        assert one.values_sha256 != other.values_sha256


def test_the_checksum_is_over_every_field(tmp_path: Path) -> None:
    words = sequence(3, tokens=("a", "b", "c"), token_ids=np.array([1, 2, 3]))
    absent = FeatureSequence.absent(3, Status.MISSING, "empty transcript")
    shifted = words.times + np.float32(1)
    found = []
    for name, samples in {
        "as it is": {"x": words, "y": absent},
        "values": {"x": replace(words, values=words.values * 2), "y": absent},
        "times": {"x": replace(words, times=shifted), "y": absent},
        "flags": {"x": replace(words, flags=np.array([1, 0, 1], np.uint8)), "y": absent},
        "tokens": {"x": replace(words, tokens=("a", "bc", "")), "y": absent},
        "token ids": {"x": replace(words, token_ids=np.array([1, 2, 4])), "y": absent},
        "no token ids": {"x": replace(words, token_ids=None), "y": absent},
        "status": {"x": words, "y": replace(absent, status=Status.FAILED)},
        "reason": {"x": words, "y": replace(absent, reason="no words")},
        "ids": {"x": words, "z": absent},
        "fewer": {"x": words},
    }.items():
        with FeatureStore(write(tmp_path / f"{name}.h5", samples, "text")) as store:
            found.append(store.values_sha256)
    assert len(set(found)) == len(found)
    again = replace(words, token_ids=np.full(3, -1))  # none are stored as -1
    with FeatureStore(write(tmp_path / "again.h5", {"x": again, "y": absent}, "text")) as store:
        assert store.values_sha256 == found[6]


def test_an_empty_store_works(tmp_path: Path) -> None:
    with FeatureStore(write(tmp_path / "audio.h5", {}), []) as store:
        assert len(store) == 0
        assert store.read_all()[0].shape == (0, 3)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (
            FeatureSequence(np.zeros((2, 4), np.float32), np.zeros(2, np.float32), np.ones(2, np.uint8)),
            "(2, 3)",
        ),
        (FeatureSequence(np.zeros((2, 3)), np.zeros(2, np.float32), np.ones(2, np.uint8)), "float64"),  # type: ignore[arg-type]
        (
            FeatureSequence(np.zeros((2, 3), np.float32), np.zeros(2, np.float32), np.ones(3, np.uint8)),
            "flags",
        ),
        (
            FeatureSequence(
                np.full((1, 3), np.nan, np.float32), np.zeros(1, np.float32), np.ones(1, np.uint8)
            ),
            "values[0, 0] is nan",
        ),
        (
            FeatureSequence(np.zeros((2, 3), np.float32), np.array([1, 0], np.float32), np.ones(2, np.uint8)),
            "times run backwards at row 1",
        ),
        (
            FeatureSequence(np.zeros((0, 3), np.float32), np.zeros(0, np.float32), np.ones(0, np.uint8)),
            "no rows",
        ),
        (sequence(2, tokens=("a", "b"), token_ids=np.array([1])), "token ids have the shape (1,)"),
    ],
)
def test_a_wrong_sequence_is_refused_and_nothing_is_left(
    tmp_path: Path, bad: FeatureSequence, words: str
) -> None:
    with pytest.raises(StoreError) as caught:
        write(tmp_path / "audio.h5", {"s1": SAMPLES["s1"], "bad": bad})
    assert words in str(caught.value)
    assert 'sample "bad"' in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_the_old_store(tmp_path: Path) -> None:
    path = write(tmp_path / "audio.h5")
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), FeatureWriter(path, info()) as writer:
        writer.append("s1", SAMPLES["s1"])
        raise KeyboardInterrupt
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["audio.h5"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_store_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    path = write(tmp_path / "audio.h5")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(StoreError, match=r"audio\.h5"), FeatureStore(path) as store:
        store.read_all()


def test_another_schema_kind_or_manifest_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "audio.h5")
    with pytest.raises(StoreError, match="another order"):
        FeatureStore(path, list(SAMPLES)[::-1])
    with pytest.raises(StoreError, match=r"not in the manifest: \['s5'\]"):
        FeatureStore(path, [name for name in SAMPLES if name != "s5"])
    with h5py.File(path, "r+") as file:
        file.attrs["schema"] = 0
    with pytest.raises(StoreError, match="schema 0; expected kind"):
        FeatureStore(path)
    with h5py.File(tmp_path / "other.h5", "w"):
        pass
    with pytest.raises(StoreError, match='found kind "None"'):
        FeatureStore(tmp_path / "other.h5")
    with pytest.raises(StoreError, match="no such file"):
        FeatureStore(tmp_path / "absent.h5")


@pytest.mark.parametrize("field", ["offsets", "status", "times", "ids", "values"])
def test_a_lacking_or_short_field_is_refused(tmp_path: Path, field: str) -> None:
    path = write(tmp_path / "audio.h5")
    with h5py.File(path, "r+") as file:
        kept = file[field][:-1]
        kind = file[field].dtype
        del file[field]
        file.create_dataset(field, data=kept, dtype=kind)
    with pytest.raises(StoreError, match=r"audio\.h5"):
        FeatureStore(path)
    with h5py.File(path, "r+") as file:
        del file[field]
    with pytest.raises(StoreError, match=r"audio\.h5"):
        FeatureStore(path)


def test_a_value_that_is_no_number_names_its_sample(tmp_path: Path) -> None:
    path = write(tmp_path / "audio.h5")
    with h5py.File(path, "r+") as file:
        file["values"][5, 1] = np.inf
    with FeatureStore(path) as store:
        with pytest.raises(StoreError, match='"語 3"'):
            store.read_all()
        with pytest.raises(StoreError, match='"語 3"'):
            store.read(2)
        assert store.read(0).status is Status.OK


def test_arrays_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "masks.h5"
    groups = {
        "": {"seed": 3, "ids": np.array(["a", "語"], dtype=object)},
        "x/y": {"m": np.eye(2, dtype=bool)},
    }
    write_arrays(path, "lacuna masks", 1, groups)
    first = path.read_bytes()
    found = read_arrays(path, "lacuna masks", 1, "dvc repro")
    assert found[""]["seed"] == 3
    assert found[""]["ids"].tolist() == ["a", "語"]
    np.testing.assert_array_equal(found["x/y"]["m"], np.eye(2, dtype=bool))
    write_arrays(path, "lacuna masks", 1, groups)
    assert path.read_bytes() == first
    path.write_bytes(first[:-100])
    with pytest.raises(StoreError, match=r"masks\.h5"):
        read_arrays(path, "lacuna masks", 1, "dvc repro")
