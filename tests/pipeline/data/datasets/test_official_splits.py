"""Split files of the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.datasets._official_splits import read_split
from pipeline.errors import DataError
from tests.replicas.text import write_lines


def test_a_table_and_the_sdks_lists(tmp_path: Path) -> None:
    table = write_lines(
        tmp_path / "a.csv", ["video,split", "x,train", "y,val", "z,Test"], bom=True, crlf=True
    )
    lists = write_lines(
        tmp_path / "b.py",
        ["standard_train_fold=['x']", "standard_valid_fold=['y']", "standard_test_fold=['z']"],
    )
    assert read_split(table) == read_split(lists) == {"x": "train", "y": "valid", "z": "test"}


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("a.csv", ["video,split", "x,train", "x,test"], 'line 3: the video "x" is in train and in test'),
        ("a.csv", ["video,split", "x,holdout"], 'line 2: found the split "holdout"'),
        ("a.csv", ["name,part", "x,train"], "expected the columns video and split"),
        ("a.csv", ["video,split"], "names no video"),
        ("b.py", ["standard_train_fold=['x']"], "expected the lists"),
        ("b.py", ["standard_train_fold=open('x')"], "not the SDK's lists"),
        ("b.py", ["standard_train_fold=["], "not the SDK's lists"),
    ],
)
def test_what_is_refused(tmp_path: Path, name: str, lines: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_split(write_lines(tmp_path / name, lines))
