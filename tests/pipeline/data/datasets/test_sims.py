"""CH-SIMS's original layout and MMSA's, on replicas."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import DataError
from tests.replicas import sims as replica
from tests.replicas.reading import filled, manifest, places, read

LABELS = "metadata/sentiment/label_M.csv"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return replica.build(tmp_path)


def test_a_whole_row_with_unimodal_scores_and_chinese_text(root: Path) -> None:
    samples, _ = read("sims", root)
    assert filled(samples[1]) == {
        "id": "video_0001_0002",
        "video_path": "Raw/video_0001/0002.mp4",
        "audio_path": "Raw/video_0001/0002.mp4",
        "text": "不，算了吧",
        "dialogue": "video_0001",
        "turn": 1,
        "split": "train",
        "label": "negative",
        "score": -0.6,
        "score_text": -0.4,
        "score_audio": -0.8,
        "score_video": -0.5,
    }


def test_split_from_the_index_files(root: Path) -> None:
    samples, _ = read("sims", root)
    assert [(s.id, s.split) for s in samples] == [
        ("video_0001_0001", "train"),
        ("video_0001_0002", "train"),
        ("video_0002_0001", "valid"),
        ("video_0003_0010", "test"),
        ("video_0004_0001", ""),
    ]


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        (2, ["positive", "negative", "negative", "negative", "positive"]),
        (3, ["positive", "negative", "neutral", "negative", "positive"]),
        (5, ["positive", "weakly negative", "neutral", "weakly negative", "weakly positive"]),
    ],
)
def test_label_sets(root: Path, classes: int, labels: list[str]) -> None:
    samples, _ = read("sims", root, classes=classes)
    assert [s.label for s in samples] == labels


def test_strange_lines_are_named(root: Path, tmp_path: Path) -> None:
    _, loader = read("sims", root)
    assert places(loader.skipped) == [(LABELS, 7), (LABELS, 8)]
    assert places(loader.notes) == [(LABELS, 6), ("Raw/video_0003/0011.mp4", None)]
    report = manifest("sims", root, tmp_path / "out")
    assert {entry["id"] for entry in report["missing_files"]} == {"video_0004_0001"}
    assert {d["count"]: d["expected"] for d in report["differences"]} == {
        "samples": 2281,
        "split=train": 1368,
        "split=valid": 456,
        "split=test": 457,
    }


def test_a_missing_unimodal_table_is_named(root: Path) -> None:
    (root / "metadata/sentiment/label_A.csv").unlink()
    samples, loader = read("sims", root)
    assert samples[0].score_audio is None
    assert samples[0].score_text == 1.0
    assert ("metadata/sentiment/label_A.csv", None) in places(loader.notes)


def test_a_clip_in_two_parts_is_refused(root: Path) -> None:
    with (root / "metadata/test_index.csv").open("a") as file:
        file.write("video_0001,0001\n")
    with pytest.raises(DataError, match=r"test_index\.csv, line 3: video_0001_0001 is in train too"):
        read("sims", root)


@pytest.mark.parametrize("table", ["meta.csv", "meta(s).csv", "label.csv"])
def test_version_two(tmp_path: Path, table: str) -> None:
    samples, loader = read("sims", replica.build_v2(tmp_path, table=table), version=2)
    assert [(s.id, s.split, s.label, s.turn) for s in samples] == [
        ("aqgy_0003_00012", "train", "positive", 0),
        ("aqgy_0003_00013", "train", "negative", 1),
        ("aqgy_0011_00000", "valid", "neutral", 0),
        ("bzhc_0002_7", "test", "positive", 0),
        ("bzhc_0002_00008", "test", "negative", 1),
        ("cjxd_0001_00001", "train", "negative", 0),
    ]
    assert filled(samples[1]) == {
        "id": "aqgy_0003_00013",
        "video_path": "Raw/aqgy_0003/00013.mp4",
        "audio_path": "Raw/aqgy_0003/00013.mp4",
        "text": '你说"好"？\r\n好什么好',
        "dialogue": "aqgy_0003",
        "turn": 1,
        "split": "train",
        "label": "negative",
        "score": -0.8,
        "score_text": -0.2,
        "score_audio": -0.8,
        "score_video": -1.0,
    }
    assert samples[0].score_video is None
    assert samples[3].video_path == "Raw/bzhc_0002/00007.mp4"
    assert places(loader.skipped) == [(table, 8), (table, 9)]
    assert "expected a number in [-1, 1]" in loader.skipped[1].reason
    assert places(loader.notes) == [
        (table, 6),
        (table, 10),
        ("Raw/aqgy_0003/00014.mp4", None),
        ("Raw/bzhc_0002/00009.mp4", None),
        ("Raw/bzhc_0002/00010.mp4", None),
    ]


def test_version_two_in_five_classes_and_its_counts(tmp_path: Path) -> None:
    root = replica.build_v2(tmp_path)
    samples, _ = read("sims", root, version=2, classes=5)
    assert [s.label for s in samples] == [
        "weakly positive",
        "negative",
        "neutral",
        "positive",
        "weakly negative",
        "weakly negative",
    ]
    report = manifest("sims", root, tmp_path / "out", version=2)
    assert {entry["id"] for entry in report["missing_files"]} == {"cjxd_0001_00001"}
    assert {d["count"]: (d["expected"], d["found"]) for d in report["differences"]} == {
        "samples": (4403, 6),
        "split=train": (2722, 3),
        "split=valid": (647, 1),
        "split=test": (1034, 2),
    }


def test_neither_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="label_M"):
        read("sims", tmp_path)
