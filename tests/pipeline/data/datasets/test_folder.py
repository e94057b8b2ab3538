"""A folder of clips and a csv."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.data.manifest import Word
from pipeline.errors import DataError
from tests.replicas import folder as replica
from tests.replicas.reading import filled, manifest, places, read
from tests.replicas.text import write_lines


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return replica.build(tmp_path)


def test_rows(root: Path) -> None:
    samples, _ = read("folder", root)
    assert [filled(sample) for sample in samples] == [
        {
            "id": "one",
            "video_path": "clips/my clip.mp4",
            "audio_path": "clips/my clip.mp4",
            "text": "Hello there",
            "speaker": "ann",
            "split": "train",
            "label": "happy",
            "score": 0.5,
        },
        {
            "id": "two",
            "video_path": "clips/привет.avi",
            "audio_path": "clips/talk.wav",
            "start_s": 0.1,
            "end_s": 0.3,
            "text": 'He said "no", twice',
            "speaker": "bob",
            "split": "test",
            "label": "sad",
            "score": -0.5,
        },
        {
            "id": "three",
            "audio_path": "clips/talk.wav",
            "audio_start_s": 0.2,
            "audio_end_s": 0.6,
            "speaker": "ann",
            "label": "neutral",
        },
        {
            "id": "four",
            "video_path": "clips/absent.mp4",
            "audio_path": "clips/absent.mp4",
            "text": "x",
            "speaker": "ann",
            "split": "train",
            "label": "happy",
            "score": 0.1,
        },
        {
            "id": "ten",
            "video_path": "clips/my clip.mp4",
            "audio_path": "clips/my clip.mp4",
            "start_s": 0.1,
            "end_s": 0.4,
            "text": "It is a sad day",
            "speaker": "cat",
            "split": "train",
            "label": "sad",
            "score": -0.4,
        },
        {
            "id": "eleven",
            "video_path": "clips/привет.avi",
            "audio_path": "clips/привет.avi",
            "text": "What is this",
            "speaker": "dan",
            "split": "valid",
            "label": "happy",
            "score": 0.2,
        },
    ]


def test_strange_lines_are_named(root: Path, tmp_path: Path) -> None:
    _, loader = read("folder", root)
    assert places(loader.skipped) == [("samples.csv", line) for line in (6, 7, 8, 9, 10, 11)]
    assert places(loader.notes) == [("clips/unlabelled.mp4", None)]
    report = manifest("folder", root, tmp_path / "out")
    assert {entry["id"] for entry in report["missing_files"]} == {"four"}


def test_words_pictures_turns_and_no_sound(tmp_path: Path) -> None:
    write_lines(
        tmp_path / "t.tsv",
        [
            "id\tvideo_path\taudio_path\tpicture\tturn\twords",
            'a\tx.mp4\t-\tleft\t3\t[["hi", 0.1, 0.4]]',
            "b\tx.mp4\t\tmiddle\t\t",
            "c\tx.mp4\t\t\t-1\t",
            "d\tx.mp4\t\t\t\thi",
        ],
    )
    samples, loader = read("folder", tmp_path, table="t.tsv", delimiter="\t")
    assert [filled(sample) for sample in samples] == [
        {"id": "a", "video_path": "x.mp4", "picture": "left", "turn": 3, "words": (Word("hi", 0.1, 0.4),)}
    ]
    assert places(loader.skipped) == [("t.tsv", 3), ("t.tsv", 4), ("t.tsv", 5)]


def test_an_unknown_column_and_none_that_counts(tmp_path: Path) -> None:
    write_lines(tmp_path / "samples.csv", ["id,video_pth", "a,x.mp4"])
    with pytest.raises(DataError, match=r'"video_pth".*Did you mean "video_path"'):
        read("folder", tmp_path)
    write_lines(tmp_path / "samples.csv", ["id,label", "a,happy"])
    with pytest.raises(DataError, match="none of video_path, audio_path, text"):
        read("folder", tmp_path)


def test_a_table_outside_the_root(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leaves the dataset's root"):
        read("folder", tmp_path, table="../samples.csv")


def test_a_column_keeps_to_its_range(tmp_path: Path) -> None:
    write_lines(tmp_path / "samples.csv", ["id,text,valence,score", "a,x,7,0", "b,x,7.5,0", "c,x,,9"])
    ranges = {"valence": [1, 7], "score": [0, 10]}
    samples, loader = read("folder", tmp_path, ranges=ranges)
    assert [(sample.id, sample.valence) for sample in samples] == [("a", 7.0), ("c", None)]
    assert loader.skipped[0].reason == "found the valence 7.5, expected 1 to 7 (options: ranges)"
    assert manifest("folder", tmp_path, tmp_path / "out", ranges=ranges)["ranges"] == ranges
    with pytest.raises(ValidationError, match="found 7 to 1, expected the lower end first"):
        read("folder", tmp_path, ranges={"valence": [7, 1]})


def own(tmp_path: Path, header: str, rows: list[str]) -> Path:
    write_lines(tmp_path / "samples.csv", [header, *rows])
    return tmp_path


def test_only_plain_numbers_are_numbers(tmp_path: Path) -> None:
    given = [
        "0.5",
        "-0.0",
        "1e-2",
        "+.5",
        "0,5",
        "1_0",
        "nan",
        "inf",
        "-Infinity",
        "1e400",
        "0x1p1",
        "1.0.0",
        "½",
    ]
    samples, loader = read(
        "folder", own(tmp_path, "id,text,score", [f'{row},x,"{text}"' for row, text in enumerate(given)])
    )
    assert [sample.score for sample in samples] == [0.5, 0.0, 0.01, 0.5]
    assert [finding.reason for finding in loader.skipped] == [
        f'found the score "{text}", expected a number' for text in given[4:]
    ]


@pytest.mark.parametrize(
    "words",
    [
        '[["hi", NaN, 0.4]]',
        '[["hi", null, 0.4]]',
        '[["hi", 0.1, Infinity]]',
        '[["hi", 0.1, 1e999]]',
        '[["hi", 0.4, 0.1]]',
        '[["hi", "0.1", "0.4"]]',
        '[["hi", false, true]]',
        "[[null, 0.1, 0.4]]",
        '[[["hi"], 0.1, 0.4]]',
    ],
)
def test_a_word_without_times_is_named(tmp_path: Path, words: str) -> None:
    quoted = words.replace('"', '""')
    rows = [f'a,hi,"{quoted}"', 'b,hi,"[[""hi"", -0.1, 0.4]]"']
    samples, loader = read("folder", own(tmp_path, "id,text,words", rows))
    assert [(sample.id, sample.words) for sample in samples] == [("b", (Word("hi", 0.0, 0.4),))]
    (skipped,) = loader.skipped
    assert skipped.line == 2 and skipped.reason.startswith("found the word [")


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_table_that_is_not_utf_8_is_an_error(tmp_path: Path, coding: str) -> None:
    (tmp_path / "samples.csv").write_bytes("id,text\na,hello\n".encode(coding))
    with pytest.raises(DataError, match=r"samples.csv, line 1: (not UTF-8|lacks the columns id)"):
        read("folder", tmp_path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_end_of_a_line(tmp_path: Path, end: str) -> None:
    text = end.join(["\ufeffid,text", "a,one", 'b,"two\u2028three\x85four"', ""])
    (tmp_path / "samples.csv").write_bytes(text.encode())
    samples, _ = read("folder", tmp_path)
    assert [(s.id, s.text) for s in samples] == [("a", "one"), ("b", "two\u2028three\x85four")]
