"""``lacuna extract``: what it refuses before it works; what it computes is tested in test_extracting.py."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from pipeline.commands.given import read_said
from tests import clips
from tests.command_line import Command


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.wav", "--with", "opensmile", "--out", "a.xls"], 'found ".xls"'),
        (["a.wav", "--with", "opensmle", "--out", "a.csv"], 'Did you mean "opensmile"'),
        (["b.wav", "--with", "opensmile", "--out", "a.csv"], "b.wav: there is no such file"),
        (["--with", "opensmile", "--out", "a.csv"], "found no file to extract from"),
        (["a.wav", "--with", "bert", "--out", "a.csv"], "needs --text or --transcript"),
        (
            ["a.wav", "--with", "opensmile", "--text", "x", "--out", "a.csv"],
            "none of the extractors reads text",
        ),
        (
            ["a.wav", "c.wav", "--with", "bert", "--text", "x", "--out", "a.csv"],
            "--text is of one file, found 2",
        ),
        (
            ["a.wav", "--with", "bert", "--text", "x", "--transcript", "t", "--out", "a.csv"],
            "expected one of them",
        ),
        (["a.wav", "--with", "opensmile", "--start", "-1", "--out", "a.csv"], "--start: found -1 s"),
        (
            ["a.wav", "--with", "opensmile", "--start", "2", "--end", "2", "--out", "a.csv"],
            "--end: found 2 s, expected more than the start at 2 s",
        ),
        (["a.wav", "--with", "opensmile", "--workers", "0", "--out", "a.csv"], "expected auto or a number"),
    ],
)
def test_what_is_refused(lacuna: Command, project: Path, words: list[str], message: str) -> None:
    for name in ("a.wav", "c.wav"):
        (project / name).touch()
    status, _, err = lacuna("extract", *words)
    assert status in (1, 2)
    assert message in err
    assert not (project / "a.csv").exists()


def test_several_extractors_and_a_file_that_is_no_media(lacuna: Command, project: Path) -> None:
    clips.write_clip(project / "a.wav", seconds=0.6)
    (project / "b.wav").write_bytes(b"no sound")
    words = ["--with", "opensmile", "--with", "covarep", "--workers", "1", "--out", "f.parquet"]
    status, out, err = lacuna("extract", "a.wav", "b.wav", *words)
    assert status == 1
    assert "f.opensmile.parquet: " in out
    assert "f.covarep.parquet: 60 rows of 1 of 2 clips" in out
    assert err.count("failed: b: ") == 2
    assert (project / "f.covarep.parquet").is_file()


def test_texts_of_a_folder(project: Path) -> None:
    (project / "texts").mkdir()
    (project / "texts/a.txt").write_text("Fine. \n")
    options = argparse.Namespace(text=None, transcript=project / "texts", words=None)
    assert read_said(options, [Path("x/a.mp4"), Path("x/b.mp4")]) == (["Fine.", ""], ())
