"""CREMA-D: the twelve real files, and a replica of the owner's whole tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.data.datasets.cremad import SENTENCES
from pipeline.errors import DataError
from tests.replicas.reading import filled, manifest, places, read


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_the_twelve_real_files(assets: Callable[[str], Path], tmp_path: Path) -> None:
    samples, loader = read("cremad", assets("cremad"))
    assert len(samples) == 12
    assert filled(samples[0]) == {
        "id": "1001_DFA_ANG_XX",
        "video_path": "1001_DFA_ANG_XX.flv",
        "audio_path": "1001_DFA_ANG_XX.flv",
        "text": "Don't forget a jacket.",
        "speaker": "1001",
        "label": "angry",
    }
    assert filled(samples[6]) == {
        "id": "1002_DFA_ANG_XX",
        "audio_path": "1002_DFA_ANG_XX.mp3",
        "text": "Don't forget a jacket.",
        "speaker": "1002",
        "label": "angry",
    }
    assert Counter(s.label for s in samples) == dict.fromkeys(
        ["angry", "disgust", "fear", "happy", "neutral", "sad"], 2
    )
    assert not loader.skipped
    assert not loader.notes
    report = manifest("cremad", assets("cremad"), tmp_path)
    assert report["modalities"] == {
        "text": 12,
        "audio": 12,
        "video": 6,
        "sets": {"text+audio": 6, "text+audio+video": 6},
    }
    assert report["missing_files"] == []
    assert report["differences"] == []
    assert report["constructed"] is False


def test_the_owners_tree(tmp_path: Path) -> None:
    root = touch(
        tmp_path,
        "VideoFlash/1001_IEO_HAP_LO.flv",
        "AudioWAV/1001_IEO_HAP_LO.wav",
        "AudioMP3/1001_IEO_HAP_LO.mp3",
        "VideoFlash/1002_TIE_NEU_XX.flv",
        "AudioMP3/1003_WSI_FEA_HI.mp3",
        "processedResults/summaryTable.csv",
    )
    (root / "VideoDemographics.csv").write_text(
        "ActorID,Age,Sex,Race,Ethnicity\n1001,51,Male,Caucasian,Not Hispanic\n"
        "1002,21,Female,Caucasian,Not Hispanic\n1003,21,?,Caucasian,Not Hispanic\n"
    )
    samples, loader = read("cremad", root)
    assert [(s.id, s.video_path, s.audio_path, s.gender, s.label) for s in samples] == [
        (
            "1001_IEO_HAP_LO",
            "VideoFlash/1001_IEO_HAP_LO.flv",
            "AudioWAV/1001_IEO_HAP_LO.wav",
            "male",
            "happy",
        ),
        (
            "1002_TIE_NEU_XX",
            "VideoFlash/1002_TIE_NEU_XX.flv",
            "VideoFlash/1002_TIE_NEU_XX.flv",
            "female",
            "neutral",
        ),
        ("1003_WSI_FEA_HI", "", "AudioMP3/1003_WSI_FEA_HI.mp3", "", "fear"),
    ]
    assert samples[0].text == "It's eleven o'clock."
    assert places(loader.notes) == [("VideoDemographics.csv", 4)]
    report = manifest("cremad", root, tmp_path / "out")
    assert report["expected"]["samples"] == 7442
    assert {"count": "samples", "expected": 7442, "found": 3, "source": "Cao et al. 2014"} in report[
        "differences"
    ]
    assert {"count": "speaker", "expected": 91, "found": 3, "source": "Cao et al. 2014"} in report[
        "differences"
    ]


def test_the_published_counts_add_up(tmp_path: Path) -> None:
    _, loader = read("cremad", touch(tmp_path, "AudioWAV/1001_DFA_ANG_XX.wav"))
    expected = loader.expected()
    assert expected is not None
    assert (
        sum(n for key, n in expected.counts.items() if key.startswith("label=")) == expected.counts["samples"]
    )
    assert len(SENTENCES) == 12


def test_the_clip_without_sound(tmp_path: Path) -> None:
    root = touch(tmp_path, "VideoFlash/1076_MTI_SAD_XX.flv", "AudioWAV/1076_MTI_SAD_XX.wav")
    (sample,), loader = read("cremad", root)
    assert sample.video_path == "VideoFlash/1076_MTI_SAD_XX.flv"
    assert sample.audio_path == ""
    assert places(loader.notes) == [("AudioWAV/1076_MTI_SAD_XX.wav", None)]


def test_strange_names_are_named(tmp_path: Path) -> None:
    root = touch(
        tmp_path,
        "1001_DFA_ANG_XX.flv",
        "1001_DFA_JOY_XX.flv",  # no such emotion
        "1001_QQQ_ANG_XX.flv",  # no such sentence
        "1040_ITH_SAD_X.wav",  # no such level
        "holiday film.mp4",
        ".1001_DFA_SAD_XX.flv",  # hidden
        "readme.md",
    )
    samples, loader = read("cremad", root)
    assert [(s.id, s.text) for s in samples] == [
        ("1001_DFA_ANG_XX", "Don't forget a jacket."),
        ("1001_QQQ_ANG_XX", ""),
        ("1040_ITH_SAD_X", "I think I have a doctor's appointment."),
    ]
    assert [finding.file for finding in loader.skipped] == ["1001_DFA_JOY_XX.flv", "holiday film.mp4"]
    assert [finding.file for finding in loader.notes] == ["1001_QQQ_ANG_XX.flv", "1040_ITH_SAD_X.wav"]


def test_a_folder_without_clips(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no clip of CREMA-D.*VideoFlash"):
        read("cremad", tmp_path)
