"""CMU-MOSEI's layout, on a replica of five videos; and 100,000 rows."""

from __future__ import annotations

import sys
import time
import tracemalloc
from pathlib import Path

import h5py
import pytest

from pipeline.data.manifest import Word, iter_manifest
from pipeline.errors import DataError
from tests.replicas import mosei as replica
from tests.replicas.reading import filled, manifest, places, read
from tests.replicas.text import write_lines

TEXTS = "Transcript/Segmented/Combined"
LABELS = "Labels/CMU_MOSEI_Labels.csd"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return replica.build(tmp_path)


def test_rated_segments(root: Path) -> None:
    samples, _ = read("mosei", root)
    assert [(s.id, s.score, s.label, s.text, s.turn) for s in samples] == [
        ("-aVideo_0", 1.0, "positive", "I see.", 0),
        ("-aVideo_1", -2.333333, "negative", "It was ___ bad", 1),
        ("bVideo_x_0", 0.0, "neutral", "Hello there", 0),
        ("cVideo_0", 3.0, "positive", "Great", 0),
        ("dVideo_0", 0.666667, "positive", "Gone", 0),
    ]


def test_a_whole_row(root: Path) -> None:
    samples, _ = read("mosei", root)
    assert filled(samples[1]) == {
        "id": "-aVideo_1",
        "video_path": "Videos/Full/Combined/-aVideo.mp4",
        "audio_path": "Audio/Full/WAV_16000/-aVideo.wav",
        "start_s": 0.6,
        "end_s": 1.0,
        "audio_start_s": 0.6,
        "audio_end_s": 1.0,
        "text": "It was ___ bad",
        "words": (Word("it", 0.0, 0.2), Word("was", 0.2, 0.4)),
        "dialogue": "-aVideo",
        "turn": 1,
        "label": "negative",
        "score": -2.333333,
    }


def test_strange_lines_are_named(root: Path) -> None:
    _, loader = read("mosei", root)
    assert places(loader.skipped) == [
        (LABELS, None),  # no number
        (f"{TEXTS}/-aVideo.txt", 3),
        (f"{TEXTS}/cVideo.txt", 2),  # its label is no number
        (f"{TEXTS}/cVideo.txt", 3),  # runs backwards
        (f"{TEXTS}/cVideo.txt", 4),  # nobody rated it
        (LABELS, None),  # a label without a segment
    ]
    assert [finding.entry for finding in loader.skipped if finding.file == LABELS] == [
        "cVideo 0.5-0.9",
        "eVideo 5-6",
    ]


def test_without_a_split_none_is_made_up_and_the_report_says_so(root: Path, tmp_path: Path) -> None:
    report = manifest("mosei", root, tmp_path / "out")
    assert report["counts"]["split"] == {}
    assert any("no official split" in note["reason"] for note in report["notes"])
    assert {entry["id"] for entry in report["missing_files"]} == {"dVideo_0"}


def test_the_sdks_lists_are_parsed_and_not_run(root: Path) -> None:
    trap = root.parent / "was run"
    write_lines(
        root / "folds.py",
        [
            f"open({str(trap)!r}, 'w').close()",
            "standard_train_fold=['-aVideo', 'eVideo']",
            "standard_valid_fold=['bVideo_x']",
            "standard_test_fold=['cVideo']",
        ],
    )
    samples, loader = read("mosei", root, split_file="folds.py")
    assert [s.split for s in samples] == ["train", "train", "valid", "test", ""]
    assert [f.entry for f in loader.notes] == ["dVideo_0"]
    assert not trap.exists()


def test_a_label_table_with_its_own_split(tmp_path: Path) -> None:
    samples, loader = read("mosei", replica.build(tmp_path, labels="csv", words=False), classes=7)
    assert [(s.id, s.split, s.label) for s in samples] == [
        ("-aVideo_0", "train", "1"),
        ("-aVideo_1", "train", "-2"),
        ("bVideo_x_0", "valid", "0"),
        ("cVideo_0", "test", "3"),
        ("dVideo_0", "test", "1"),
    ]
    assert ("Labels/labels.csv", 6) in places(loader.skipped)  # nan
    assert not any("split" in finding.reason for finding in loader.notes)


def test_a_label_file_that_was_cut_is_named(root: Path) -> None:
    labels = root / LABELS
    labels.write_bytes(labels.read_bytes()[:-700])
    with pytest.raises(DataError, match=r"CMU_MOSEI_Labels\.csd"):
        read("mosei", root)


def test_labels_of_the_wrong_shape_are_named(root: Path) -> None:
    with h5py.File(root / LABELS, "a") as file:
        del file["All Labels/data/bVideo_x/intervals"]
        file["All Labels/data/bVideo_x/intervals"] = [0.0, 0.4]
    with pytest.raises(DataError, match=r'id "bVideo_x", intervals: found float64 \(2,\)'):
        read("mosei", root)


def test_no_labels_and_no_transcripts(root: Path, tmp_path: Path) -> None:
    (root / LABELS).unlink()
    with pytest.raises(DataError, match="All Labels"):
        read("mosei", root)
    with pytest.raises(DataError, match="Transcript"):
        read("mosei", tmp_path)


def test_a_hundred_thousand_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Printed, not asserted: the seconds. Asserted: memory stays far below what any media would need."""
    root = tmp_path / "big"
    labels = ["video,start,end,sentiment,split"]
    for number in range(2000):
        video = f"v{number:05d}"
        lines = []
        for segment in range(50):
            start, end = segment * 2, segment * 2 + 1.5
            lines.append(f"{video}___{segment}___{start}___{end}___words that somebody said {segment}")
            labels.append(f"{video},{start},{end},{(segment % 7) - 3},train")
        write_lines(root / TEXTS / f"{video}.txt", lines)
    write_lines(root / "Labels/labels.csv", labels)
    start = time.perf_counter()
    report = manifest("mosei", root, tmp_path / "out")
    seconds = time.perf_counter() - start
    assert report["samples"] == 100_000
    tracemalloc.start()
    assert sum(1 for _ in iter_manifest(tmp_path / "out/mosei.csv")) == 100_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    with capsys.disabled():
        sys.stdout.write(f"\n100,000 rows in {seconds:.1f} s; reading them peaks at {peak / 2**20:.0f} MiB\n")
    assert peak < 200 * 2**20
