"""A table of somebody else's is read strictly, whichever loader reads it: nothing is lost or merged without a word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.data import csv_rows
from pipeline.data.datasets._official_splits import read_split
from pipeline.data.manifest import Sample, read_manifest, write_manifest
from pipeline.errors import DataError
from pipeline.extraction.ferplus import read_faces
from tests.replicas import cremad, folder, meld, mosei, mosi, sims
from tests.replicas.reading import manifest, read

ROWS = [f"{number},words of {number}" for number in range(1, 21)]  # rows 1 to 20 stand in the lines 2 to 21


def own(tmp_path: Path, rows: list[str], header: str = "id,text") -> Path:
    (tmp_path / "samples.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return tmp_path


def test_a_quote_that_is_never_closed_is_an_error_with_its_line(tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[5] = '6,"words of 6'
    with pytest.raises(DataError, match=r"samples\.csv, line 7: a quote .* never closed; all to line 21"):
        read("folder", own(tmp_path, rows))


def test_the_same_in_a_middle_column(tmp_path: Path) -> None:
    rows = [f"{row},happy" for row in ROWS]
    rows[5] = '6,"words of 6,happy'
    with pytest.raises(DataError, match="line 7: a quote"):
        read("folder", own(tmp_path, rows, "id,text,label"))


def test_a_quote_that_the_next_quoted_text_closes_is_an_error(tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[5], rows[9] = '6,"words of 6', '10,"words, of 10"'
    with pytest.raises(DataError, match=r"line 7: something follows a closing quote .* runs to line 11"):
        read("folder", own(tmp_path, rows))


def test_rows_within_a_text_are_noted_and_a_text_of_several_lines_is_fine(tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[2], rows[5], rows[9] = '3,"one\nno delimiter here\ntwo"', '6,"words of 6', 'words of 10"'
    samples, loader = read("folder", own(tmp_path, rows))
    assert len(samples) == 16 and samples[2].text == "one\nno delimiter here\ntwo"
    (note,) = loader.notes
    assert (note.line, note.reason.split(";")[0]) == (9, "a text holds what looks like rows of their own")
    assert "runs to line 13" in note.reason


def test_a_row_of_several_lines_with_other_fields_says_how_far_it_runs(tmp_path: Path) -> None:
    rows = ["1,one,happy", '2,"two,happy', '3,three",happy,more', "4,four,sad"]
    samples, loader = read("folder", own(tmp_path, rows, "id,text,label"))
    assert [s.id for s in samples] == ["1", "4"]
    (skipped,) = loader.skipped
    assert skipped.reason == "found 4 fields, expected 3; the row runs to line 4: is a quote open?"
    assert skipped.line == 3


def test_a_column_that_stands_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 1: the column text is listed twice"):
        read("folder", own(tmp_path, ["1,a,b"], "id,text,text"))


def test_a_column_without_a_name_is_noted_and_not_read(tmp_path: Path) -> None:
    """As pandas writes its row numbers, and a spreadsheet its empty columns."""
    samples, loader = read("folder", own(tmp_path, ["0,a,one,", "1,b,two,"], ",id,text,"))
    assert [(s.id, s.text) for s in samples] == [("a", "one"), ("b", "two")]
    assert [(n.reason, n.line) for n in loader.notes] == [("column 1, 4 has no name: not read", 1)]


def test_a_field_without_an_end_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 3: not csv: field larger than field limit \(131072\)"):
        read("folder", own(tmp_path, ["1,a", "2," + "x" * 200_000]))


def build_label_table(tmp_path: Path) -> tuple[Path, str]:
    return sims.build_mmsa(tmp_path), "label.csv"


# Loader -> its tree, and the table in it.
TABLES: dict[str, Callable[[Path], tuple[Path, str]]] = {
    "cremad": lambda path: (cremad.build(path), "VideoDemographics.csv"),
    "folder": lambda path: (folder.build(path), "samples.csv"),
    "meld": lambda path: (meld.build(path), "train_sent_emo.csv"),
    "mmsa_layout": build_label_table,
    "mosei": lambda path: (mosei.build(path, labels="csv"), "Labels/*.csv"),
    "sims": lambda path: (sims.build(path), "metadata/sentiment/label_M.csv"),
}


@pytest.mark.parametrize("loader", sorted(TABLES))
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda lines: [*lines[:2], b'"' + lines[2], *lines[3:]], "line 3: (a quote|something follows)"),
        (
            lambda lines: [lines[0] + b"," + lines[0].split(b",")[-1], *lines[1:]],
            "line 1: the column .* twice",
        ),
        (lambda lines: [*lines[:2], b"x" * 200_000], "line 3: not csv: field larger"),
    ],
    ids=["open quote", "column twice", "endless"],
)
def test_every_loaders_table(
    tmp_path: Path, loader: str, damage: Callable[[list[bytes]], list[bytes]], words: str
) -> None:
    root, name = TABLES[loader](tmp_path)
    (table,) = root.glob(name)
    lines = table.read_bytes().replace(b"\r\n", b"\n").rstrip(b"\n").split(b"\n")
    table.write_bytes(b"\n".join(damage(lines)))
    with pytest.raises(DataError, match=words):
        read(loader, root)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('video,split\na,train\nb,"valid\nc,test\n', "line 3: a quote"),
        ("video,video,split\na,b,train\n", "the column video is listed twice"),
        ("video,split\na,train,x\n", "line 2: found 3 fields, expected 2"),
        ("video,split\na\n", "line 2: found 1 fields, expected 2"),
        ("video,split\n,train\n", "line 2: found no name of a video"),
        ("video,split\na,later\n", 'line 2: found the split "later" of "a"'),
    ],
)
def test_a_split_file(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        read_split(tmp_path / "split.csv")


def test_a_manifest_and_fer_plus(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    write_manifest(path, [Sample(str(number), text="a") for number in range(5)])
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], f'"{lines[3]}', *lines[4:]]))
    with pytest.raises(DataError, match="line 4: a quote"):
        read_manifest(path)
    pictures, votes = tmp_path / "fer2013.csv", tmp_path / "fer2013new.csv"
    pictures.write_text('emotion,pixels,Usage\n0,"0 0,Training\n')
    votes.write_text("Usage\n")
    with pytest.raises(DataError, match=r"fer2013(new)?\.csv, line"):
        read_faces(pictures, votes, "majority")


def test_a_table_that_is_none_is_refused_before_it_is_read(tmp_path: Path) -> None:
    own(tmp_path, ROWS)
    with (tmp_path / "samples.csv").open("r+b") as file:
        file.truncate(100 * 2**30)  # a hole: takes no room on the disk
    with pytest.raises(DataError, match="found 107374182400 bytes, at most 1073741824"):
        read("folder", tmp_path)
    with pytest.raises(DataError, match="found 107374182400 bytes"):
        read_split(tmp_path / "samples.csv")
    assert csv_rows.LIMIT_BYTES == 2**30


# --- one message, one test ------------------------------------------------------------


@pytest.mark.parametrize("labels", ["csd", "csv"])
def test_a_segment_of_mosei_that_starts_before_its_video_is_kept_from_0_on(
    tmp_path: Path, labels: str
) -> None:
    root = mosei.build(tmp_path, labels=labels)
    before, _ = read("mosei", root)
    file = root / "Transcript/Segmented/Combined/cVideo.txt"
    name, number, start, end, words = file.read_text().splitlines()[0].split("___", 4)
    assert float(start) <= 0.1
    file.write_text("___".join([name, number, "-0.4177", end, words]) + "\n")
    if labels == "csv":
        (table,) = root.glob("Labels/*.csv")
        lines = [
            ",".join(["cVideo", "-0.4177", *line.split(",")[2:]]) if line.startswith("cVideo,") else line
            for line in table.read_text().splitlines()
        ]
        table.write_text("\n".join(lines) + "\n")
    samples, loader = read("mosei", root)
    assert [s.id for s in samples] == [s.id for s in before]
    (one,) = [s for s in samples if s.id == "cVideo_0"]
    assert (one.start_s, one.end_s, one.score) == (0.0, float(end), 3.0)
    reasons = [n.reason for n in loader.notes if "cVideo" in n.entry]
    assert reasons == ["it starts at -0.4177 s: taken from 0 on"] * (2 if labels == "csv" else 1)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("-0.4177,2.0,v,1,1.0", ""),
        ("0.5,2.0,v,1,3.5", "found the score 3.5, expected a number in [-3, 3]"),
        ("2.0,0.5,v,1,1.0", "it ends at 0.5 s, not after its start at 2 s"),
        ("-2.0,-0.5,v,1,1.0", "it ends at -0.5 s, not after its start at 0 s"),
        ("x,2.0,v,1,1.0", 'found the start "x", expected a number'),
        ("0.5,2.0,v,one,1.0", 'found the segment "one", expected a number'),
        ("0.5,nan,v,1,1.0", 'found the end "nan", expected a number'),
    ],
)
def test_a_row_of_mosi_is_told_its_own_mistake(tmp_path: Path, row: str, reason: str) -> None:
    root = mosi.build(tmp_path)
    (root / "Labels/OpinionLevelSentiment.csv").write_text(f"0.1,0.3,w,1,1.0\n{row}\n")
    samples, loader = read("mosi", root)
    if reason:
        assert [(s.line, s.reason) for s in loader.skipped if s.file.startswith("Labels")] == [(2, reason)]
    else:
        assert [s.id for s in samples] == ["w_1", "v_1"]
        assert "it starts at -0.4177 s: taken from 0 on" in [note.reason for note in loader.notes]


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        ("-0.5", "1", "found the start_s -0.5, expected 0 or more"),
        ("2", "1", "the sample ends at 1 s, not after its start at 2 s"),
    ],
)
def test_a_row_of_ones_own_is_told_its_mistake(tmp_path: Path, start: str, end: str, reason: str) -> None:
    root = own(tmp_path, [f"a,x,{start},{end}", "b,x,,"], "id,text,start_s,end_s")
    _, loader = read("folder", root)
    assert [one.reason for one in loader.skipped] == [reason]


# --- what DVC sees, and the loaders -----------------------------------------------------


def test_a_linked_folder_below_the_root_is_refused(tmp_path: Path) -> None:
    """DVC's checksum does not cover what lies in it; of a linked root and of linked files it does."""
    root, disk = tmp_path / "root", tmp_path / "disk"
    (disk / "clips").mkdir(parents=True)
    (disk / "clips/a.mp4").touch()
    root.mkdir()
    own(root, ["a,clips/a.mp4"], "id,video_path")
    (root / "clips").symlink_to(disk / "clips")
    with pytest.raises(DataError, match=r"root/clips: found a linked folder .* cp -rs"):
        manifest("folder", root, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (root / "clips").unlink()
    (root / "clips").mkdir()
    (root / "clips/a.mp4").symlink_to(disk / "clips/a.mp4")  # what cp -rs makes
    (tmp_path / "link").symlink_to(root)
    assert manifest("folder", tmp_path / "link", tmp_path / "out")["samples"] == 1
