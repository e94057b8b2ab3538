"""IEMOCAP's layout, on a replica of five dialogues."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.data.datasets.iemocap import TURNS, Loader, Settings
from pipeline.data.manifest import Word, read_manifest
from pipeline.errors import DataError
from pipeline.extraction import media
from pipeline.extraction.extractors.base import Clip
from tests.replicas import iemocap as replica
from tests.replicas.reading import filled, manifest, places, read

EVALUATION = "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return replica.build(tmp_path)


def test_turns_of_four_classes_in_spoken_order(root: Path) -> None:
    samples, _ = read("iemocap", root)
    assert [(s.id, s.label, s.turn, s.picture) for s in samples] == [
        ("Ses01F_impro01_F000", "happy", 0, "left"),
        ("Ses01F_impro01_M000", "neutral", 1, "right"),
        ("Ses01F_impro01_F003", "angry", 3, "left"),  # turn 2 has no agreed label
        ("Ses01M_script01_1b_F000", "sad", 0, "right"),
        ("Ses01M_script01_1b_M000", "happy", 1, "left"),
        ("Ses02F_script01_1_M000", "neutral", 0, "right"),
        ("Ses02F_script01_1_M002", "angry", 2, "right"),
        ("Ses02F_script01_1_M003", "sad", 3, "right"),
        ("Ses02F_script01_1_M004", "happy", 4, "right"),
        ("Ses02F_script01_1_M005", "happy", 5, "right"),
        ("Ses02M_impro01_F000", "angry", 0, "right"),
        ("Ses02M_impro01_F001", "neutral", 1, "right"),
        ("Ses03M_impro03_M001", "sad", 0, "left"),
        ("Ses03M_impro03_F000", "neutral", 1, "right"),
    ]


def test_a_whole_row(root: Path) -> None:
    samples, _ = read("iemocap", root)
    assert filled(samples[0]) == {
        "id": "Ses01F_impro01_F000",
        "video_path": "Session1/dialog/avi/DivX/Ses01F_impro01.avi",
        "audio_path": "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav",
        "start_s": 0.1,
        "end_s": 0.7,
        "picture": "left",
        "text": "Excuse me, sir.",
        "words": (Word("EXCUSE", 0.05, 0.21), Word("ME", 0.21, 0.3), Word("SIR", 0.35, 0.51)),
        "speaker": "Ses01F",
        "gender": "female",
        "dialogue": "Ses01F_impro01",
        "session": "Ses01",
        "turn": 0,
        "label": "happy",
        "valence": 4.5,
        "activation": 4.0,
        "dominance": 3.5,
    }


def test_without_sentence_files_the_dialogue_is_cut_by_time(root: Path) -> None:
    samples, _ = read("iemocap", root)
    sample = next(s for s in samples if s.id == "Ses01M_script01_1b_F000")
    assert sample.audio_path == "Session1/dialog/wav/Ses01M_script01_1b.wav"
    assert (sample.audio_start_s, sample.audio_end_s) == (0.2, 0.6)
    assert sample.text == "I lost it."  # a byte order mark and Windows line ends


def test_strange_lines_are_named(root: Path) -> None:
    _, loader = read("iemocap", root)
    assert places(loader.skipped)[:5] == [
        (EVALUATION, 21),
        (EVALUATION, 28),
        (EVALUATION, 34),
        ("Session1/dialog/transcriptions/Ses01F_impro01.txt", 4),
        ("Session1/sentences/ForcedAlignment/Ses01F_impro01/Ses01F_impro01_M000.wdseg", 3),
    ]
    assert [finding.reason.split(":")[0] for finding in loader.skipped[5:]] == [
        '1 turns labelled "dis" (disgusted)',
        '1 turns labelled "fea" (fearful)',
        '1 turns labelled "fru" (frustrated)',
        '1 turns labelled "oth" (other)',
        '1 turns labelled "sur" (surprised)',
        '2 turns labelled "xxx" (no agreement)',
    ]


def test_what_is_kept_though_strange_is_named(root: Path) -> None:
    samples, loader = read("iemocap", root)
    notes = {(finding.entry, finding.line): finding for finding in loader.notes}
    assert "no transcript" in notes["Ses01F_impro01_F003", 22].reason
    assert "no alignment" in notes["Ses03M_impro03_M001", None].reason
    assert any("1 transcripts of turns without" in finding.reason for finding in loader.notes)
    by_id = {sample.id: sample for sample in samples}
    assert by_id["Ses01F_impro01_F003"].text == ""
    assert by_id["Ses03M_impro03_M001"].words == ()
    assert by_id["Ses01F_impro01_M000"].words == (Word("YES", 0.1, 0.31),)


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({"classes": 2}, {"positive", "negative"}),
        ({"classes": 4}, {"happy", "angry", "sad", "neutral"}),
        ({"classes": 6}, {"happy", "angry", "sad", "neutral", "frustrated", "excited"}),
        ({"classes": 7}, {"happy", "angry", "sad", "neutral", "frustrated", "excited", "surprised"}),
    ],
)
def test_label_sets(root: Path, options: dict[str, int], labels: set[str]) -> None:
    samples, loader = read("iemocap", root, **options)
    assert {sample.label for sample in samples} == labels
    expected = loader.expected()
    assert expected is not None
    assert {key.removeprefix("label=") for key in expected.counts if key.startswith("label=")} == labels


def test_emmr_leaves_excited_out_of_four_classes(root: Path) -> None:
    merged, _ = read("iemocap", root)
    apart, _ = read("iemocap", root, merge_excited=False)
    assert len(merged) - len(apart) == 2  # the two excited turns


def test_published_counts_hold_together() -> None:
    counts = _loader(classes=4).expected().counts
    assert counts["samples"] == 5531 == sum(n for key, n in counts.items() if key.startswith("speaker="))
    assert counts["label=happy"] == 1636
    assert _loader(classes="all").expected().counts["samples"] == 10_039
    assert sum(TURNS.values()) + 3 + 2507 == 10_039
    table = _loader(classes=2, surprise_is_negative=True).expected().counts  # EMMR, Table 5
    assert table["label=negative"] == 2510 + 827 + 848
    assert table["label=positive"] == 1006 + 301 + 329
    assert _loader(classes=7).expected().counts["samples"] == 4489 + 1483 + 1515  # EMMR, Table 6
    assert _loader(classes=4, merge_excited=False).expected().counts["samples"] == 2703 + 876 + 911


def test_the_report_names_missing_files_and_other_counts(root: Path, tmp_path: Path) -> None:
    report = manifest("iemocap", root, tmp_path / "out")
    assert {entry["file"] for entry in report["missing_files"]} == {
        "Session2/dialog/avi/DivX/Ses02F_script01_1.avi"
    }
    samples = next(d for d in report["differences"] if d["count"] == "samples")
    assert (samples["found"], samples["expected"]) == (14, 5531)
    assert report["ranges"] == {name: [1.0, 5.0] for name in ("valence", "activation", "dominance")}
    assert read_manifest(tmp_path / "out/iemocap.csv") == read("iemocap", root)[0]


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="IEMOCAP_full_release"):
        read("iemocap", tmp_path)


def test_the_halves_of_the_picture_are_the_right_way_round(root: Path) -> None:
    samples, _ = read("iemocap", root)
    brightness = {}
    for sample in samples[:2]:
        clip = Clip(
            sample.id,
            video=root / sample.video_path,
            start_s=sample.start_s,
            end_s=sample.end_s,
            picture=sample.picture,
        )
        _, pixels = next(iter(media.read_frames(clip, 5.0)))
        brightness[sample.picture] = float(pixels.mean())
    assert brightness["left"] < 80 < 150 < brightness["right"]


def _loader(**options: Any) -> Loader:
    return Loader(Settings(**options), Path("nowhere"))
