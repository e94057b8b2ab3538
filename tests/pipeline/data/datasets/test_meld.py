"""MELD's layout, on a replica of three parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import DataError
from tests.replicas import meld as replica
from tests.replicas.reading import filled, manifest, places, read


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return replica.build(tmp_path)


def test_utterances_of_all_parts(root: Path) -> None:
    samples, _ = read("meld", root)
    assert [(s.id, s.split, s.label, s.speaker) for s in samples] == [
        ("train_dia0_utt0", "train", "neutral", "Chandler"),
        ("train_dia0_utt1", "train", "surprise", "Phoebe"),
        ("train_dia1_utt0", "train", "happy", "Joey"),
        ("train_dia1_utt1", "train", "sad", "Ross Geller"),
        ("dev_dia0_utt0", "valid", "happy", "Monica"),
        ("test_dia0_utt0", "test", "angry", "Ross"),
    ]


def test_a_whole_row(root: Path) -> None:
    samples, _ = read("meld", root)
    assert filled(samples[3]) == {
        "id": "train_dia1_utt1",
        "video_path": "train_splits/dia1_utt1.mp4",
        "audio_path": "train_splits/dia1_utt1.mp4",
        "text": "I’m fine",
        "speaker": "Ross Geller",
        "dialogue": "train_dia1",
        "turn": 1,
        "split": "train",
        "label": "sad",
    }
    assert samples[0].text == "Also I was, the point person"


def test_strange_lines_and_missing_clips_are_named(root: Path, tmp_path: Path) -> None:
    _, loader = read("meld", root)
    assert places(loader.skipped) == [("train_sent_emo.csv", line) for line in (4, 5, 6)]
    assert places(loader.notes) == [
        ("train_splits/dia0_utt2.mp4", None),
        ("train_splits/dia9_utt9.mp4", None),
    ]
    report = manifest("meld", root, tmp_path / "out")
    assert {entry["id"] for entry in report["missing_files"]} == {"train_dia1_utt0"}


def test_sentiments(root: Path) -> None:
    samples, _ = read("meld", root, label="sentiment")
    assert [s.label for s in samples][:4] == ["neutral", "negative", "positive", "negative"]


def test_a_missing_part_is_named(root: Path) -> None:
    (root / "dev_sent_emo.csv").unlink()
    samples, loader = read("meld", root)
    assert {s.split for s in samples} == {"train", "test"}
    assert ("dev_sent_emo.csv", None) in places(loader.notes)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train_sent_emo"):
        read("meld", tmp_path)
