"""RAVDESS's names, on a replica of two actors."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import DataError
from tests.replicas import ravdess as replica
from tests.replicas.reading import filled, places, read


def test_one_sample_a_performance(tmp_path: Path) -> None:
    samples, loader = read("ravdess", replica.build(tmp_path))
    assert [(s.id, s.label, s.video_path, s.audio_path) for s in samples] == [
        (
            "01-01-01-01-01-01-01",
            "neutral",
            "Actor_01/01-01-01-01-01-01-01.mp4",
            "Actor_01/01-01-01-01-01-01-01.mp4",
        ),
        (
            "01-01-05-02-02-01-01",
            "angry",
            "Actor_01/01-01-05-02-02-01-01.mp4",
            "Actor_01/01-01-05-02-02-01-01.mp4",
        ),
        ("01-01-03-01-02-02-02", "happy", "Actor_02/02-01-03-01-02-02-02.mp4", ""),
        ("01-01-06-01-02-01-02", "fear", "", "Actor_02/03-01-06-01-02-01-02.wav"),
    ]
    assert filled(samples[2]) == {
        "id": "01-01-03-01-02-02-02",
        "video_path": "Actor_02/02-01-03-01-02-02-02.mp4",
        "text": "Dogs are sitting by the door.",
        "speaker": "02",
        "gender": "female",
        "label": "happy",
    }
    assert places(loader.skipped) == [
        ("Actor_01/01-02-04-01-01-01-01.mp4", None),
        ("Actor_02/01-01-08.mp4", None),
        ("Actor_02/01-01-09-01-01-01-02.mp4", None),
        ("Actor_02/readme.txt", None),
    ]


@pytest.mark.parametrize(("channel", "found", "owners"), [("song", 1, 1012), ("both", 5, 2452)])
def test_songs_when_asked_for(tmp_path: Path, channel: str, found: int, owners: int) -> None:
    samples, loader = read("ravdess", replica.build(tmp_path), channel=channel)
    assert len(samples) == found
    assert loader.expected().counts["samples"] == owners


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Actor_NN"):
        read("ravdess", tmp_path)
