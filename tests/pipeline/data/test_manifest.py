"""The manifest: it comes back as it was written, and what is wrong is named by file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.manifest import COLUMNS, Sample, Word, read_manifest, resolve_media, write_manifest
from pipeline.errors import DataError

FULL = Sample(
    id="Ses01F_impro05_F019",
    video_path="Session1/dialog/a b.avi",
    audio_path="Session1/ü 语.wav",
    start_s=1.25,
    end_s=3.0,
    audio_start_s=0.0,
    audio_end_s=0.1 + 0.2,
    picture="left",
    text='She said, "no"\nand left; 语音',
    words=(Word("she", 0.0, 0.25), Word('"no"', 0.25, 0.5)),
    speaker="Ses01F",
    gender="female",
    dialogue="Ses01F_impro05",
    session="1",
    turn=0,
    split="train",
    label="angry",
    score=-1.5,
    valence=2.5,
)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "demo.csv"
    samples = [FULL, Sample(id="b")]
    assert write_manifest(path, samples) == 2
    assert read_manifest(path) == samples
    first = path.read_bytes()
    write_manifest(path, samples)
    assert path.read_bytes() == first


@pytest.mark.parametrize("text", ["a\rb", "a\nb", "a\r\nb", '"', "a,b", "\r", " a", "我"])
def test_any_text_comes_back(tmp_path: Path, text: str) -> None:
    samples = [Sample(id="a", text=text, words=(Word(text, 0.1, 0.30000000000000004),)), Sample(id="b")]
    write_manifest(tmp_path / "demo.csv", samples)
    assert read_manifest(tmp_path / "demo.csv") == samples
    assert not (tmp_path / "demo.csv").read_bytes().endswith(b"\r\n")


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ([Sample(id="a"), Sample(id="a")], ["line 3", '"a" occurs twice']),
        ([Sample(id="")], ["line 2", "expected a name"]),
        ([Sample(id="a", split="dev")], ['"dev"', "train"]),
        ([Sample(id="a", picture="top")], ['"top"', "left"]),
        ([Sample(id="a", video_path="../b.mp4")], ["../b.mp4", "leaves"]),
        ([Sample(id="a", audio_path="/etc/passwd")], ["/etc/passwd", "leaves"]),
        ([Sample(id="a", start_s=2.0, end_s=1.0)], ["ends at 1.0 s", "2.0 s"]),
        ([Sample(id="a", start_s=-1.0)], ["starts at -1.0 s"]),
    ],
)
def test_what_is_refused(tmp_path: Path, samples: list[Sample], words: list[str]) -> None:
    path = tmp_path / "demo.csv"
    with pytest.raises(DataError) as caught:
        write_manifest(path, samples)
    for word in words:
        assert word in str(caught.value)
    assert not path.exists()


def line(**values: str) -> str:
    return ",".join(values.get(name, "") for name in COLUMNS)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (line(id="a", score="high"), ["line 2", "column score", '"high"', "finite number"]),
        (line(id="a", score="nan"), ["line 2", "column score", '"nan"']),
        (line(id="a", turn="1.5"), ["line 2", "column turn"]),
        (line(id="a", words="[1"), ["line 2", "column words", "JSON"]),
        ("a,b", ["line 2", "found 2 fields"]),
        (line(id="a") + "\n" + line(id="a"), ["line 3", "occurs twice"]),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, body: str, words: list[str]) -> None:
    path = tmp_path / "demo.csv"
    path.write_text(",".join(COLUMNS) + "\n" + body + "\n")
    with pytest.raises(DataError) as caught:
        read_manifest(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_a_foreign_header_an_empty_file_and_none(tmp_path: Path) -> None:
    path = tmp_path / "demo.csv"
    with pytest.raises(DataError, match="no such manifest"):
        read_manifest(path)
    path.write_text("")
    with pytest.raises(DataError, match="empty"):
        read_manifest(path)
    path.write_text("id,file\n")
    with pytest.raises(DataError, match=r"unknown: \['file'\]"):
        read_manifest(path)


def test_a_byte_order_mark_and_windows_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "demo.csv"
    write_manifest(path, [FULL])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_manifest(path)[0].id == FULL.id


def test_media_stay_inside_the_root(tmp_path: Path) -> None:
    assert resolve_media(tmp_path, "a/b c.mp4") == tmp_path / "a" / "b c.mp4"
    for path in ("../a", "a/../../b", "/a"):
        with pytest.raises(DataError, match="leaves"):
            resolve_media(tmp_path, path)


def test_facts_come_back_and_need_no_column_where_there_are_none(tmp_path: Path) -> None:
    path = tmp_path / "demo.csv"
    samples = [
        Sample(id="a", facts={"key": (True, False, True), "weight": (0.5, 2)}),
        Sample(id="b", facts={"key": (False, False, False), "weight": (-1.0, 3.25)}),
    ]
    write_manifest(path, samples)
    assert read_manifest(path) == samples
    assert read_manifest(path)[0].facts["key"] == (True, False, True)  # and not (1, 0, 1)
    write_manifest(path, [Sample(id="a")])
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ('"{""key"": [true]}"', ["line 3", "1 bool", "2 bool"]),
        ('"{""key"": [1, 0]}"', ["line 3", "2 numbers", "2 bool"]),
        ("", ["line 3", "column facts", "JSON"]),
        ('"{""key"": [true, 1]}"', ["line 3", "column facts"]),
        ('"{""key"": [NaN, 1]}"', ["line 3", "column facts"]),
        ('"[1]"', ["line 3", "column facts"]),
    ],
)
def test_facts_that_do_not_fit_are_named(tmp_path: Path, facts: str, words: list[str]) -> None:
    path = tmp_path / "demo.csv"
    first = f'{line(id="a")},"{{""key"": [true, false]}}"'
    path.write_text(f"{','.join(COLUMNS)},facts\n{first}\n{line(id='b')},{facts}\n")
    with pytest.raises(DataError) as caught:
        read_manifest(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_facts_of_other_kinds_are_not_written(tmp_path: Path) -> None:
    samples = [Sample(id="a"), Sample(id="b", facts={"key": (True,)})]
    with pytest.raises(DataError, match="line 3: found the facts"):
        write_manifest(tmp_path / "demo.csv", samples)
