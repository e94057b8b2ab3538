"""Features as csv, Parquet, npz and HDF5: the same numbers in each, read back by other programs' readers."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas
import pyarrow.parquet
import pytest

from pipeline.data.feature_tables import FORMS, check_form, writing
from pipeline.data.store import FeatureInfo, FeatureSequence, FeatureStore, Status
from pipeline.errors import DataError, ParamsError, StoreError
from pipeline.features import open_features

COLUMNS = ("mfcc[0]", 'a "b", c')
# Numbers of which the short way to write float32 must not lose a bit, and a subnormal one.
VALUES = np.array([[0.1, 1 / 3], [16777217.0, -1e-40], [3.4028235e38, 0.0]], np.float32)


def info(modality: str = "text", columns: Sequence[str] = COLUMNS) -> FeatureInfo:
    return FeatureInfo("files", modality, "probe", {"level": "lld"}, tuple(columns), None, "", {"numpy": "2"})


def clip() -> FeatureSequence:
    return FeatureSequence(
        VALUES,
        np.array([0.1, 0.2, 0.3], np.float32),
        np.array([1, 0, 1], np.uint8),
        tokens=("=so", "näive,", '"x"'),
        token_ids=np.array([1, 2, 3]),
    )


def write(path: Path) -> Path:
    with writing(path, info()) as append:
        append("one", clip())
        append("none", FeatureSequence.absent(2, Status.MISSING, "no words"))
        append("two", clip())
    return path


def test_csv(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["id", "time_s", "observed", "token", "mfcc[0]", 'a "b", c']
    assert rows[2][:4] == ["one", "0.2", "0", "näive,"]
    assert [row[0] for row in rows[1:]] == ["one"] * 3 + ["two"] * 3
    assert np.array([row[4:] for row in rows[1:4]], np.float32).tobytes() == VALUES.tobytes()
    assert pandas.read_csv(path)["time_s"].iloc[3:].tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_parquet(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet")
    table = pandas.read_parquet(path)
    assert table[list(COLUMNS)].to_numpy()[:3].tobytes() == VALUES.tobytes()
    assert table["token"].tolist() == ["=so", "näive,", '"x"'] * 2
    assert table.dtypes.astype(str).tolist()[1:3] == ["float32", "uint8"]
    facts = json.loads(pyarrow.parquet.read_schema(path).metadata[b"lacuna"])
    assert (facts["extractor"], facts["settings"]) == ("probe", {"level": "lld"})


def test_npz_has_the_arrays_of_the_store(tmp_path: Path) -> None:
    with np.load(write(tmp_path / "a.npz"), allow_pickle=False) as arrays:
        found = dict(arrays)
    with FeatureStore(write(tmp_path / "a.h5")) as store:
        assert found["ids"].tolist() == list(store.ids) == ["one", "none", "two"]
        assert found["offsets"].tolist() == store.offsets.tolist() == [0, 3, 3, 6]
        assert found["values"].tobytes() == store.read_all()[0].tobytes()
        assert found["status"].tolist() == [0, 1, 0]
        assert found["reasons"].tolist() == ["", "no words", ""]
        assert found["tokens"].tolist()[:2] == ["=so", "näive,"]
        assert found["token_ids"].tolist() == [1, 2, 3, 1, 2, 3]
        assert found["columns"].tolist() == list(COLUMNS)


@pytest.mark.parametrize("form", FORMS)
def test_no_clip_at_all_is_an_empty_table(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"a{form}"
    with writing(path, info("audio")) as append:
        append("none", FeatureSequence.absent(2, Status.FAILED, "cut short"))
    if form == ".csv":
        assert path.read_text() == '"id","time_s","observed","mfcc[0]","a ""b"", c"\n'
    elif form == ".parquet":
        assert pandas.read_parquet(path).shape == (0, 5)
    elif form == ".npz":
        assert np.load(path)["values"].shape == (0, 2)


@pytest.mark.parametrize("form", FORMS)
def test_an_error_leaves_nothing_behind(tmp_path: Path, form: str) -> None:
    bad = FeatureSequence(
        np.array([[0.0, np.nan]], np.float32), np.zeros(1, np.float32), np.ones(1, np.uint8)
    )
    with (
        pytest.raises(StoreError, match="expected a number"),
        writing(tmp_path / f"a{form}", info()) as append,
    ):
        append("one", clip())
        append("two", bad)
    assert list(tmp_path.iterdir()) == []


def test_other_endings_and_names_of_columns_that_are_taken(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'found ".xlsx".*\.csv, \.parquet, \.h5, \.npz'):
        check_form(Path("a.xlsx"))
    for form in (".csv", ".parquet"):
        taken = info("audio", ("x", "time_s"))
        with (
            pytest.raises(DataError, match="a feature is called time_s"),
            writing(tmp_path / f"a{form}", taken),
        ):
            pass


def test_the_reader_gives_a_clip_and_a_frame(tmp_path: Path) -> None:
    with open_features(write(tmp_path / "a.h5")) as features:
        assert (features.ids, features.columns, len(features)) == (("one", "none", "two"), COLUMNS, 3)
        assert features["two"].values.tobytes() == VALUES.tobytes()
        assert features["none"].reason == "no words"
        assert "one" in features
        assert "three" not in features
        with pytest.raises(DataError, match=r'no clip "on" among its 3\. Did you mean "one"'):
            features["on"]
        every, one = features.frame(), features.frame("two")
        assert every.shape == (6, 6)
        assert every["id"].tolist() == ["one"] * 3 + ["two"] * 3
        assert one["token"].tolist() == ["=so", "näive,", '"x"']
        assert one[list(COLUMNS)].to_numpy().tobytes() == VALUES.tobytes()
        assert features.frame("none").shape == (0, 6)
        pandas.testing.assert_frame_equal(
            every, pandas.read_parquet(write(tmp_path / "a.parquet")), check_dtype=False
        )


def test_the_reader_finds_a_dataset_by_name(tmp_path: Path) -> None:
    (tmp_path / "features/demo").mkdir(parents=True)
    write(tmp_path / "features/demo/text.h5")
    with open_features("demo", "text", data=tmp_path) as features:
        assert features.info.extractor == "probe"
    with pytest.raises(StoreError, match="there is no such file"):
        open_features("demo", "audio", data=tmp_path)
    with pytest.raises(ParamsError, match='Did you mean "audio"'):
        open_features("demo", "audi", data=tmp_path)
    with pytest.raises(ParamsError, match=r'open_features\("demo", "audio"\)'):
        open_features("demo")
