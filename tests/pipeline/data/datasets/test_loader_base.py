"""What all loaders read with: tables, line by line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.data.datasets import base
from pipeline.data.datasets.base import BaseLoader, Finding, LoaderSettings
from pipeline.data.manifest import Sample
from pipeline.data.preparation import prepare
from pipeline.errors import DataError


class Loader(BaseLoader[LoaderSettings]):
    Settings = LoaderSettings

    def load(self) -> Iterator[Sample]:
        for line, row in self.table("t.csv", ("id", "text")):
            yield Sample(id=row["id"], text=row["text"], turn=line)


def loader(root: Path, content: bytes) -> Loader:
    (root / "t.csv").write_bytes(content)
    return Loader(LoaderSettings(), root)


def test_only_the_lines_that_are_not_utf8_are_left_out(tmp_path: Path) -> None:
    content = (
        b"id,text\r\na,\xe6\x98\xaf\r\n" + "b,\xfc \x92".encode() + b" caf\xe9\r\nc,\xb2\xbb\r\nd,good\r\n"
    )
    reader = loader(tmp_path, content)
    assert [(s.id, s.text, s.turn) for s in reader.load()] == [("a", "是", 2), ("d", "good", 5)]
    assert reader.skipped == [  # "b,", two bytes of ü, a space, two of U+0092, " caf": the twelfth
        Finding("t.csv", "not UTF-8 (byte 12 of the line); save the file as UTF-8", 3),
        Finding("t.csv", "not UTF-8 (byte 3 of the line); save the file as UTF-8", 4),
    ]


def test_a_quoted_field_of_several_lines_names_the_one(tmp_path: Path) -> None:
    reader = loader(tmp_path, b'id,text\na,"one\ntwo\xff\nthree"\nb,"one\ntwo"\nc,short,row\nd,x\n')
    assert [(s.id, s.turn) for s in reader.load()] == [("b", 5), ("d", 8)]
    assert [(finding.line, finding.reason[:9]) for finding in reader.skipped] == [
        (3, "not UTF-8"),
        (7, "found 3 f"),
    ]


def test_a_header_that_is_not_utf8(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"t\.csv, line 1: not UTF-8 \(byte 4 of the line\); save it as UTF-8"
    ):
        list(loader(tmp_path, b"id,\xff,text\n").load())


def test_a_file_all_in_another_encoding_says_so(tmp_path: Path) -> None:
    reader = loader(tmp_path, "id,text\na,不\nb,是\n".encode("gbk"))
    with pytest.raises(DataError, match=r"no sample.*2 left out.*not UTF-8"):
        prepare("other", reader, tmp_path / "out")


def test_names_are_those_of_files_with_a_loader() -> None:
    for name in base.names():
        assert issubclass(base.find(name), BaseLoader)
    assert {"folder", "iemocap", "mmsa_layout"} <= set(base.names())
