"""The prepare stage: manifest, counts, differences, what is missing and what was left out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.data.datasets import base
from pipeline.data.datasets.base import BaseLoader, Expected, LoaderSettings
from pipeline.data.manifest import Sample, read_manifest
from pipeline.data.preparation import prepare
from pipeline.errors import DataError, ParamsError


class Fixed(BaseLoader[LoaderSettings]):
    """Yields what it is given, with what it is told to say."""

    Settings = LoaderSettings

    def __init__(self, root: Path, samples: list[Sample], expected: Expected | None = None) -> None:
        super().__init__(LoaderSettings(), root)
        self._samples, self._expected = samples, expected

    def load(self) -> Iterator[Sample]:
        yield from self._samples

    def expected(self) -> Expected | None:
        return self._expected


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a b.mp4").write_bytes(b"")
    (tmp_path / "data" / "日本.wav").write_bytes(b"")
    return tmp_path / "data"


SAMPLES = [
    Sample(
        "a", video_path="a b.mp4", audio_path="a b.mp4", text="one", label="happy", split="train", speaker="x"
    ),
    Sample("b", audio_path="日本.wav", text=" ", label="sad", split="train", speaker="y"),
    Sample("c", video_path="gone.mp4", audio_path="gone.mp4", text="three", label="happy", speaker="x"),
    Sample("d", label="sad", split="test", speaker="x"),
]


def test_manifest_and_counts(root: Path, tmp_path: Path) -> None:
    report = prepare("set", Fixed(root, SAMPLES), tmp_path / "out")
    assert read_manifest(tmp_path / "out" / "set.csv") == SAMPLES
    assert report == json.loads((tmp_path / "out" / "set.json").read_text(encoding="utf-8"))
    assert report["samples"] == 4
    assert report["counts"] == {
        "label": {"happy": 2, "sad": 2},
        "split": {"(none)": 1, "test": 1, "train": 2},
        "speaker": {"x": 3, "y": 1},
        "gender": {},
        "session": {},
    }
    assert report["modalities"] == {
        "text": 2,
        "audio": 3,
        "video": 2,
        "sets": {"(none)": 1, "audio": 1, "text+audio+video": 2},
    }
    assert report["constructed"] is False
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["set.csv", "set.json", "set.sha256"]


def test_a_row_without_its_file_is_listed_and_kept(root: Path, tmp_path: Path) -> None:
    report = prepare("set", Fixed(root, SAMPLES), tmp_path / "out")
    assert report["missing_files"] == [
        {"id": "c", "modality": "audio", "file": "gone.mp4"},
        {"id": "c", "modality": "video", "file": "gone.mp4"},
    ]
    assert "c" in [sample.id for sample in read_manifest(tmp_path / "out" / "set.csv")]


def test_counts_that_differ_from_the_published_ones(root: Path, tmp_path: Path) -> None:
    counts = {"samples": 4, "label=happy": 3, "label=surprise": 1, "split=train": 2, "speaker": 10}
    report = prepare("set", Fixed(root, SAMPLES, Expected("Paper, Table 1", counts)), tmp_path / "out")
    assert report["expected"] == {"source": "Paper, Table 1", **counts}
    assert report["differences"] == [
        {"count": "label=happy", "expected": 3, "found": 2, "source": "Paper, Table 1"},
        {"count": "label=surprise", "expected": 1, "found": 0, "source": "Paper, Table 1"},
        {"count": "speaker", "expected": 10, "found": 2, "source": "Paper, Table 1"},
    ]
    with pytest.raises(DataError, match="mood=good"):
        prepare("set", Fixed(root, SAMPLES, Expected("Paper", {"mood=good": 1})), tmp_path / "out")


def test_what_was_left_out_is_listed_with_place_and_reason(root: Path, tmp_path: Path) -> None:
    loader = Fixed(root, SAMPLES)
    loader.skip("labels.csv", "no id", line=3)
    loader.skip(root / "deep" / "x.txt", "damaged", entry="x")
    loader.note("labels.csv", "odd", line=9, entry="b")
    report = prepare("set", loader, tmp_path / "out")
    assert report["skipped"] == [
        {"file": "labels.csv", "reason": "no id", "line": 3, "entry": ""},
        {"file": "deep/x.txt", "reason": "damaged", "line": None, "entry": "x"},
    ]
    assert report["notes"] == [{"file": "labels.csv", "reason": "odd", "line": 9, "entry": "b"}]


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (SAMPLES[0], 'the id "a" occurs twice'),
        (Sample("e", video_path="../e.mp4"), "leaves the dataset's root"),
        (Sample("e", split="dev"), 'the split "dev"'),
        (Sample(""), "found the id"),
    ],
)
def test_rows_that_no_manifest_may_have(root: Path, tmp_path: Path, sample: Sample, message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepare("set", Fixed(root, [*SAMPLES, sample]), tmp_path / "out")
    assert not (tmp_path / "out" / "set.csv").exists()
    assert not (tmp_path / "out" / "set.json").exists()


def test_nothing_found_and_no_root(root: Path, tmp_path: Path) -> None:
    loader = Fixed(root, [])
    loader.skip("labels.csv", "found 3 fields, expected 9", line=2)
    with pytest.raises(DataError, match=r"found no sample.*found 3 fields"):
        prepare("set", loader, tmp_path / "out")
    assert not (tmp_path / "out" / "set.csv").exists()
    with pytest.raises(DataError, match=r"not there.*datasets\.set\.root"):
        prepare("set", Fixed(tmp_path / "nowhere", SAMPLES), tmp_path / "out")


def test_twice_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        prepare("set", Fixed(root, SAMPLES), tmp_path / folder)
    for name in ("set.csv", "set.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


# --- what loaders share ---------------------------------------------------------------


def test_every_loader_file_has_a_loader() -> None:
    assert {"demo", "cremad"} <= set(base.names())
    for name in base.names():
        owner = base.find(name)
        assert issubclass(owner, BaseLoader)
        assert issubclass(owner.Settings, LoaderSettings)
    with pytest.raises(ParamsError, match='Did you mean "cremad"'):
        base.find("crema-d")


def test_lines_skip_what_is_not_utf8(root: Path) -> None:
    (root / "t.txt").write_bytes(b"\xef\xbb\xbfone\r\ntw\xff\nthree\x0bsame\n")
    loader = Fixed(root, [])
    assert list(loader.lines("t.txt")) == [(1, "one"), (3, "three\x0bsame"), (4, "")]
    assert [(f.file, f.line) for f in loader.skipped] == [("t.txt", 2)]
    with pytest.raises(DataError, match=r"none\.txt: cannot be read"):
        list(loader.lines("none.txt"))


def test_table_counts_lines_as_an_editor_does(root: Path) -> None:
    (root / "t.csv").write_bytes('a;b\n"x\ny";0001\n1;2;3\n\n\u2028;é\n'.encode())
    loader = Fixed(root, [])
    assert list(loader.table("t.csv", ("a", "b"), delimiter=";")) == [
        (2, {"a": "x\ny", "b": "0001"}),
        (6, {"a": "\u2028", "b": "é"}),
    ]
    assert [(f.file, f.line, f.reason) for f in loader.skipped] == [
        ("t.csv", 4, "found 3 fields, expected 2")
    ]


# --- the command ----------------------------------------------------------------------

PARAMS = """
extractors: {text: {}, audio: {}, video: {}}
datasets:
  mine:
    loader: LOADER
    root: raw
    options: OPTIONS
    text: {extractor: bert}
    audio: {extractor: opensmile}
    video: {extractor: facelandmarker}
"""


def test_options_are_checked_against_the_loader(tmp_path: Path) -> None:
    from pipeline.params import load_params

    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.replace("LOADER", "demoo").replace("OPTIONS", "{}"))
    with pytest.raises(ParamsError, match=r'datasets\.mine\.loader: found "demoo".*Did you mean "demo"'):
        load_params(path)
    path.write_text(PARAMS.replace("LOADER", "demo").replace("OPTIONS", "{colour: 1}"))
    with pytest.raises(ParamsError, match=r"datasets\.mine\.options\.colour: unknown key"):
        load_params(path)


def test_command_line(tmp_path: Path) -> None:
    settings = PARAMS.replace("LOADER", "cremad").replace("OPTIONS", "{}")
    settings = settings.replace(
        "{text: {}, audio: {}, video: {}}",
        "{text: {bert: {}}, audio: {opensmile: {}}, video: {facelandmarker: {}}}",
    )
    (tmp_path / "params.yaml").write_text(settings)
    command = [sys.executable, "-m", "pipeline.prepare", "mine"]
    lacking = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert lacking.returncode == 1
    assert "raw: not there" in lacking.stderr
    assert "Traceback" not in lacking.stderr
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "1001_DFA_ANG_XX.flv").write_bytes(b"")
    (tmp_path / "raw" / "1001_DFA_XXX_XX.flv").write_bytes(b"")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 left out" in done.stderr
    assert [s.id for s in read_manifest(tmp_path / "data" / "manifests" / "mine.csv")] == ["1001_DFA_ANG_XX"]


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (Sample("a\x1b[2J", text="x"), "the id holds a control character"),
        (Sample("a\nfailed: b", text="x"), "the id holds a control character"),
        (Sample("a\x9b", text="x"), "the id holds a control character"),
        (Sample("a", video_path="a\x07.mp4"), "the video_path holds a control character"),
        (Sample("a\udcff", text="x"), "the id is not UTF-8"),
        (Sample("a", audio_path="\udcff.wav"), "the audio_path is not UTF-8"),
    ],
)
def test_a_name_that_no_table_or_terminal_can_take_is_left_out(
    root: Path, tmp_path: Path, sample: Sample, reason: str
) -> None:
    report = prepare("set", Fixed(root, [Sample("é 感", text="x"), sample]), tmp_path / "out")
    assert [one.id for one in read_manifest(tmp_path / "out" / "set.csv")] == ["é 感"]
    (skipped,) = report["skipped"]
    assert skipped["reason"] == reason
    assert skipped["entry"] == sample.id.replace("\udcff", "\\udcff")


@pytest.mark.parametrize(
    ("loader", "file", "lists"),
    [
        ("cremad", b"1001_DFA_ANG_XX\xff.flv", "skipped"),
        ("folder", b"cl\xffip.mp4", "notes"),
        ("ravdess", b"Actor_01/\xff.mp4", "skipped"),
    ],
)
def test_a_files_name_that_is_not_utf_8_is_named(
    tmp_path: Path, loader: str, file: bytes, lists: str
) -> None:
    root = tmp_path / "root"
    good = {
        "cremad": "1001_DFA_ANG_XX.flv",
        "folder": "clip.mp4",
        "ravdess": "Actor_01/01-01-03-01-01-01-01.mp4",
    }
    for path in (root / good[loader], root / os.fsdecode(file)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (root / "samples.csv").write_text("id,video_path\na,clip.mp4\n")
    owner = base.find(loader)
    report = prepare("set", owner(owner.Settings(), root), tmp_path / "out")
    assert report["samples"] == 1
    assert any("\\udcff" in one["file"] for one in report[lists])


def test_names_that_look_alike_are_noted(root: Path, tmp_path: Path) -> None:
    samples = [
        Sample("a", text="x", label="happy", speaker="Ann"),
        Sample("\u00e9", text="x", label="Happy", speaker="ann"),
        Sample("e\u0301", text="x", label="happy\u200b", speaker="a nn"),
        Sample("a\u200b", text="x", label="sad", speaker="bob"),
        Sample("A", text="x", label="NaN"),  # of ids case may be all that tells them apart
        Sample("\ufeffb", text="x", label="sad"),
    ]
    report = prepare("set", Fixed(root, samples), tmp_path / "out")
    assert report["samples"] == 6  # noted, not changed: they may be meant
    assert [(note["entry"], note["reason"]) for note in report["notes"]] == [
        ("e\u0301", r"its id looks like that of another sample, '\xe9', and is 'e\u0301'"),
        ("a\u200b", r"its id looks like that of another sample, 'a', and is 'a\u200b'"),
        ("", "the label 'NaN' counts as a class; leave the field empty where there is none"),
        ("", r"3 labels that look alike count as different ones: 'Happy', 'happy', 'happy\u200b'"),
        ("", "2 speakers that look alike count as different ones: 'Ann', 'ann'"),
    ]
