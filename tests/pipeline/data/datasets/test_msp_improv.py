"""MSP-IMPROV's layout, on a replica of two sessions."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import DataError
from tests.replicas import msp_improv as replica
from tests.replicas.reading import filled, manifest, places, read

PREFIX = "MSP-IMPROV-"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return replica.build(tmp_path)


def test_other_improvised_turns_of_a_second_and_more(root: Path) -> None:
    samples, _ = read("msp_improv", root)
    assert [(s.id.removeprefix(PREFIX), s.label, s.speaker, s.turn) for s in samples] == [
        ("S01A-F01-S-FM01", "neutral", "M01", 0),
        ("S01A-F01-S-MF02", "angry", "F01", 1),  # just one second
        ("S01A-F01-S-FM99", "neutral", "M01", 5),  # its clip is not there
        ("S02H-M02-S-FM01", "happy", "M02", 0),
        ("S02H-M02-S-MF02", "sad", "F02", 1),  # its sound is not there
    ]


def test_a_whole_row_has_the_files_prefix(root: Path) -> None:
    samples, _ = read("msp_improv", root)
    assert filled(samples[1]) == {
        "id": "MSP-IMPROV-S01A-F01-S-MF02",
        "video_path": "Video/session1/S01A/S/MSP-IMPROV-S01A-F01-S-MF02.avi",
        "audio_path": "Audio/session1/S01A/S/MSP-IMPROV-S01A-F01-S-MF02.wav",
        "text": "That is not fair!",
        "speaker": "F01",
        "gender": "female",
        "dialogue": "MSP-IMPROV-S01A-F01-S",
        "session": "session1",
        "turn": 1,
        "label": "angry",
        "valence": 1.5,
        "activation": 4.0,
        "dominance": 3.5,
    }


def test_strange_lines_and_short_turns_are_named(root: Path) -> None:
    _, loader = read("msp_improv", root)
    assert places(loader.skipped)[:5] == [
        ("Evalution.txt", 49),
        ("Evalution.txt", 51),
        ("Evalution.txt", 55),
        ("Audio/session1/S01A/S/MSP-IMPROV-S01A-F01-S-MF03.wav", None),
        ("Audio/session2/S02H/S/MSP-IMPROV-S02H-M02-S-FM03.wav", None),
    ]
    reasons = [finding.reason for finding in loader.skipped[3:]]
    assert reasons == [
        "0.90 s of sound, under 1 s",
        "0.30 s of sound, under 1 s",  # whatever its header promises
        "1 turns labelled O (other): not asked for",
        "1 turns labelled X (no agreement): not asked for",
        "1 turns of the scenario P (natural): not asked for",
        "1 turns of the scenario R (target read): not asked for",
        "1 turns of the scenario T (target improvised): not asked for",
    ]


def test_clips_without_labels_and_labels_without_clips(root: Path, tmp_path: Path) -> None:
    report = manifest("msp_improv", root, tmp_path / "out")
    assert "MSP-IMPROV-S01A-F01-S-MF96" in {note["entry"] for note in report["notes"]}
    assert [(entry["id"].removeprefix(PREFIX), entry["modality"]) for entry in report["missing_files"]] == [
        ("S01A-F01-S-FM99", "audio"),
        ("S01A-F01-S-FM99", "video"),
        ("S02H-M02-S-MF02", "audio"),
    ]
    missing = [note for note in report["notes"] if "transcript" in note["reason"]]
    assert [(note["line"], note["entry"].removeprefix(PREFIX)) for note in missing] == [
        (45, "S01A-F01-S-FM99"),
        (33, "S02H-M02-S-FM01"),
    ]
    assert {d["count"]: d["expected"] for d in report["differences"]}["samples"] == 3819


def test_the_right_spelling_and_the_other_transcripts_folder(tmp_path: Path) -> None:
    root = replica.build(tmp_path, spelling="Evaluation.txt", transcripts="Human_transcriptions/Text")
    samples, _ = read("msp_improv", root)
    assert samples[0].text == "Where were you?"


def test_scenarios_labels_durations_and_speakers_by_option(root: Path) -> None:
    samples, _ = read("msp_improv", root, scenarios=["T", "R", "P"], min_duration_s=0)
    assert sorted(s.id.split("-")[-2] for s in samples) == ["P", "R", "T"]
    every, loader = read(
        "msp_improv", root, scenarios=["P", "R", "S", "T"], min_duration_s=0, all_labels=True
    )
    assert len(every) == len(replica.TURNS) + 1
    assert loader.expected().counts["samples"] == 8438
    actors, _ = read("msp_improv", root, speaker_from="actor")
    assert {s.speaker for s in actors} == {"F01", "M02"}


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Evalution"):
        read("msp_improv", tmp_path)
