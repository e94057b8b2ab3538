"""The demo's loader: rows of labels.csv, and what is wrong with some."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.datasets.demo import COLUMNS
from pipeline.errors import DataError
from tests.replicas.reading import filled, places, read

HEADER = ",".join(COLUMNS)
GOOD = "a-1,clips/a-1.mp4,Not bad.,s1f,female,s1,happy,2.5000,audio"


def write(root: Path, *lines: str) -> Path:
    (root / "labels.csv").write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return root


def test_a_row(tmp_path: Path) -> None:
    samples, loader = read("demo", write(tmp_path, GOOD))
    assert [filled(sample) for sample in samples] == [
        {
            "id": "a-1",
            "video_path": "clips/a-1.mp4",
            "audio_path": "clips/a-1.mp4",
            "text": "Not bad.",
            "speaker": "s1f",
            "gender": "female",
            "session": "s1",
            "label": "happy",
            "score": 2.5,
            "facts": {"key": (True, False, True)},  # without text or video, one speaks against one
        }
    ]
    assert loader.constructed
    assert not loader.skipped


def test_dialogues_and_turns_are_read_where_they_are(tmp_path: Path) -> None:
    lines = [
        f"{HEADER},dialogue,turn",
        f"{GOOD},s1-0003,7",
        f"b{GOOD[1:]},s1-0003,",
        f"c{GOOD[1:]},s1-0003,-1",
    ]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    samples, loader = read("demo", tmp_path)
    assert [(sample.dialogue, sample.turn) for sample in samples] == [("s1-0003", 7), ("s1-0003", None)]
    assert [finding.reason for finding in loader.skipped] == [
        'found the turn "-1", expected a whole number from 0 or nothing'
    ]


def test_strange_rows_are_left_out_and_named(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        GOOD,
        "b,clips/b.mp4,short row",
        ",clips/c.mp4,No id.,s1f,female,s1,happy,1,",
        "d,,No file.,s1f,female,s1,happy,1,",
        "e,../e.mp4,Outside.,s1f,female,s1,happy,1,",
        "f,clips/f.mp4,No number.,s1f,female,s1,happy,much,",
        "g,clips/g.mp4,No number.,s1f,female,s1,happy,nan,",
        "",
        'h,clips/h.mp4,"Two\nlines.",s1f,female,s1,happy,,',
        "i,/etc/passwd,Outside.,s1f,female,s1,happy,1,",
    )
    samples, loader = read("demo", root)
    assert [sample.id for sample in samples] == ["a-1", "h"]
    assert samples[1].score is None
    assert places(loader.skipped) == [("labels.csv", line) for line in (3, 4, 5, 6, 7, 8, 12)]
    assert [finding.entry for finding in loader.skipped] == ["", "", "d", "e", "f", "g", "i"]
    reasons = " | ".join(finding.reason for finding in loader.skipped)
    for words in ("found 3 fields, expected 9", "no id", "no file", "leaves the root", 'the score "much"'):
        assert words in reasons


def test_an_id_twice_names_both_lines(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'labels\.csv, line 3: the id "a-1" stands in line 2 too'):
        read("demo", write(tmp_path, GOOD, GOOD))


def test_names_in_any_script_and_with_spaces(tmp_path: Path) -> None:
    names = ["каждый день", "日本語 の クリップ", "ümläut é", "عربي"]
    lines = [f"{name},clips/{name}.mp4,{name},s1f,female,s1,sad,-3," for name in names]
    samples, _ = read("demo", write(tmp_path, *lines))
    assert [(s.id, s.video_path, s.text) for s in samples] == [(n, f"clips/{n}.mp4", n) for n in names]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "lacks the columns id, file"),
        (b"id,file\n", "lacks the columns text"),
        (b"\xff\xfei\x00d\x00\n\x00", "line 1: not UTF-8"),
    ],
)
def test_a_file_that_is_no_table_of_labels(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read("demo", tmp_path)


def test_a_mark_at_the_beginning_as_spreadsheets_write_it(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"\xef\xbb\xbf" + f"{HEADER}\r\n{GOOD}\r\n".encode())
    samples, _ = read("demo", tmp_path)
    assert [sample.id for sample in samples] == ["a-1"]
