"""MMSA's label.csv tree, on a replica."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import DataError
from tests.replicas import sims as replica
from tests.replicas.reading import filled, manifest, places, read
from tests.replicas.text import write_lines


def test_rows_and_strange_lines(tmp_path: Path) -> None:
    root = replica.build_mmsa(tmp_path)
    samples, loader = read("mmsa_layout", root)
    assert [s.id for s in samples] == [
        "video_0001_0001",
        "video_0001_0002",
        "video_0002_0001",
        "video_0003_0010",
        "video_0004_0001",
    ]
    assert filled(samples[2]) == {
        "id": "video_0002_0001",
        "video_path": "Raw/video_0002/0001.mp4",
        "audio_path": "Raw/video_0002/0001.mp4",
        "text": "嗯……",
        "dialogue": "video_0002",
        "turn": 0,
        "split": "valid",
        "label": "neutral",
        "score": 0.0,
        "score_text": 0.2,
        "score_audio": -0.2,
    }
    assert places(loader.skipped) == [("label.csv", line) for line in (7, 8, 9, 10)]
    assert places(loader.notes) == [("Raw/video_0003/0011.mp4", None)]


def test_older_files_lack_the_unimodal_columns(tmp_path: Path) -> None:
    samples, _ = read("mmsa_layout", replica.build_mmsa(tmp_path, unimodal=False))
    assert len(samples) == 5
    assert {s.score_text for s in samples} == {None}


def test_clip_names_that_lost_their_zeros(tmp_path: Path) -> None:
    root = replica.build_mmsa(tmp_path)
    write_lines(
        root / "label.csv",
        ["video_id,clip_id,text,label,mode", "video_0001,1,a,-1,train", "video_0003,10,b,0.5,test"],
    )
    samples, loader = read("mmsa_layout", root)
    assert [(s.id, s.video_path, s.label) for s in samples] == [
        ("video_0001_1", "Raw/video_0001/0001.mp4", "negative"),
        ("video_0003_10", "Raw/video_0003/0010.mp4", "positive"),
    ]
    assert [finding.line for finding in loader.notes[:2]] == [2, 3]


def test_a_label_without_a_clip_is_a_missing_file(tmp_path: Path) -> None:
    report = manifest("mmsa_layout", replica.build_mmsa(tmp_path), tmp_path / "out", dataset="simsv2")
    assert {entry["id"] for entry in report["missing_files"]} == {"video_0004_0001"}
    assert {d["count"]: d["expected"] for d in report["differences"]}["split=train"] == 2722


def test_a_table_without_a_needed_column(tmp_path: Path) -> None:
    write_lines(tmp_path / "label.csv", ["video_id,clip_id,text,label", "a,1,x,0"])
    with pytest.raises(DataError, match="lacks the columns mode"):
        read("mmsa_layout", tmp_path)


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"label\.csv"):
        read("mmsa_layout", tmp_path)
