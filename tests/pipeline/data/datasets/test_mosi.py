"""CMU-MOSI's layout, on a replica of four videos."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.datasets.mosi import OFFICIAL
from pipeline.data.manifest import Word
from pipeline.errors import DataError
from tests.replicas import mosi as replica
from tests.replicas.mosei import write_csd
from tests.replicas.reading import filled, manifest, places, read
from tests.replicas.text import write_lines

LABELS = "Labels/OpinionLevelSentiment.csv"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return replica.build(tmp_path)


def test_segments_with_scores_and_the_official_split(root: Path) -> None:
    samples, _ = read("mosi", root)
    assert [(s.id, s.split, s.score, s.label, s.text) for s in samples] == [
        ("2iD-tVS8NPw_1", "train", 2.4, "positive", "I LOVED IT"),
        ("2iD-tVS8NPw_2", "train", -0.6, "negative", "BUT THE END"),
        ("WKA5OygbEKI_1", "valid", 0.0, "neutral", "IT IS A FILM"),
        ("lXPQBPVc5Cw_1", "test", -3.0, "negative", "TERRIBLE"),
        ("lXPQBPVc5Cw_2", "test", 1.0, "positive", ""),
        ("madeUpVideo_1", "", 0.2, "positive", "FINE"),
    ]


def test_the_official_lists_have_the_published_sizes() -> None:
    assert Counter(OFFICIAL.values()) == {"train": 52, "valid": 10, "test": 31}


def test_seven_classes(root: Path) -> None:
    samples, _ = read("mosi", root, classes=7)
    assert [s.label for s in samples] == ["2", "-1", "0", "-3", "1", "0"]


def test_strange_lines_are_named(root: Path) -> None:
    _, loader = read("mosi", root)
    assert places(loader.skipped) == [
        (LABELS, 4),
        (LABELS, 5),
        ("Transcript/Segmented/2iD-tVS8NPw.annotprocessed", 3),
    ]
    assert places(loader.notes) == [
        ("Video/Segmented/WKA5OygbEKI_2.mp4", None),
        ("Video/Segmented/lXPQBPVc5Cw_9.mp4", None),
        (LABELS, 7),
        (LABELS, 8),
    ]


def test_a_label_without_a_clip_is_a_missing_file(root: Path, tmp_path: Path) -> None:
    report = manifest("mosi", root, tmp_path / "out")
    assert {entry["id"] for entry in report["missing_files"]} == {"lXPQBPVc5Cw_2"}
    assert {d["count"]: (d["found"], d["expected"]) for d in report["differences"]} == {
        "samples": (6, 2199),
        "dialogue": (4, 93),
        "split=train": (2, 1284),
        "split=valid": (1, 229),
        "split=test": (2, 686),
        "label=neutral": (1, 96),
    }


def test_whole_videos_are_cut_by_time(tmp_path: Path) -> None:
    samples, _ = read("mosi", replica.build(tmp_path, segmented=False))
    assert filled(samples[1]) == {
        "id": "2iD-tVS8NPw_2",
        "video_path": "Video/Full/2iD-tVS8NPw.mp4",
        "audio_path": "Audio/WAV_16000/Full/2iD-tVS8NPw.wav",
        "start_s": 0.6,
        "end_s": 1.0,
        "audio_start_s": 0.6,
        "audio_end_s": 1.0,
        "text": "BUT THE END",
        "speaker": "2iD-tVS8NPw",
        "dialogue": "2iD-tVS8NPw",
        "turn": 1,
        "split": "train",
        "label": "negative",
        "score": -0.6,
    }


def test_words_are_timed_from_the_segments_start(root: Path) -> None:
    write_csd(
        root / "Transcript/CMU_MOSI_TimestampedWords.csd",
        "words",
        {
            "2iD-tVS8NPw": (
                np.array([[0.05, 0.25], [0.25, 0.5], [0.5, 0.62], [0.62, 1.2]]),
                np.array([[b"i"], [b"loved"], [b"sp"], [b"but"]]),
            )
        },
    )
    samples, _ = read("mosi", root)
    assert samples[0].words == (Word("i", 0.0, 0.15), Word("loved", 0.15, 0.4))
    assert samples[1].words == (Word("but", 0.02, 0.4),)
    assert samples[2].words == ()


def test_the_older_place_of_the_labels(tmp_path: Path) -> None:
    samples, _ = read("mosi", replica.build(tmp_path, labels="Meta_data/boundaries_sentimentint_avg.csv"))
    assert len(samples) == 6


def test_without_labels_it_says_where_they_come_from(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Many copies of the archive lack it"):
        read("mosi", replica.build(tmp_path, labels=None))


def test_a_split_file_of_the_users_takes_the_place_of_the_official_one(root: Path) -> None:
    write_lines(root / "mine.csv", ["video,split", "madeUpVideo,train", "2iD-tVS8NPw,dev"], bom=True)
    samples, loader = read("mosi", root, split_file="mine.csv")
    assert [s.split for s in samples] == ["valid", "valid", "", "", "", "train"]
    assert "split=train" not in loader.expected().counts
    with pytest.raises(DataError, match="leaves the dataset's root"):
        read("mosi", root, split_file="../mine.csv")
