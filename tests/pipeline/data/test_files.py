"""Files and folders are written whole or not at all, by however many processes, and whoever is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.data.files import file_sha256, whole_or_nothing, write_whole

KILLED = """
import os, sys
from pathlib import Path
from pipeline.data.files import whole_or_nothing
with whole_or_nothing(Path(sys.argv[1])) as beside:
    if sys.argv[2] == "folder":
        beside.mkdir()
        beside = beside / "inside"
    beside.write_text("half")
    os.kill(os.getpid(), 9)
"""


def fill(beside: Path, kind: str, text: str) -> None:
    if kind == "folder":
        beside.mkdir()
        beside = beside / "inside"
    beside.write_text(text)


def content(path: Path) -> str:
    return (path / "inside" if path.is_dir() else path).read_text()


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("before", ["nothing", "file", "folder", "link"])
def test_the_whole_takes_the_place_of_whatever_was_there(tmp_path: Path, kind: str, before: str) -> None:
    path = tmp_path / "new" / "result"
    path.parent.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "inside").write_text("not to be touched")
    if before == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif before != "nothing":
        fill(path, before, "old")
    if (kind, before) == ("file", "folder"):
        with pytest.raises(IsADirectoryError), whole_or_nothing(path) as beside:
            fill(beside, kind, "new")
        assert content(path) == "old"
    else:
        with whole_or_nothing(path) as beside:
            fill(beside, kind, "new")
            assert beside.parent == path.parent and beside.name != path.name
        assert content(path) == "new" and not path.is_symlink()
    assert list(path.parent.iterdir()) == [path]
    assert content(tmp_path / "elsewhere") == "not to be touched"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_error_leaves_what_was_there(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "result"
    fill(path, kind, "old")
    with pytest.raises(KeyboardInterrupt), whole_or_nothing(path) as beside:
        fill(beside, kind, "half")
        raise KeyboardInterrupt
    assert content(path) == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_or_nothing(tmp_path / "result"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_removed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "result"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), kind], check=False)
    assert done.returncode == -9
    (left,) = tmp_path.iterdir()
    assert content(left) == "half"
    other = tmp_path / left.name.replace("result", "results")  # of another file
    other.touch()
    running = tmp_path / f"{left.name.rpartition('.')[0].rpartition('.')[0]}.1.part"  # of a process that runs
    running.touch()
    write_whole(path, "whole")
    assert sorted(tmp_path.iterdir()) == sorted([path, other, running])


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_there_already_may_stay(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "result"
    with whole_or_nothing(path, keep_existing=True) as beside:
        fill(beside, kind, "first")
    with whole_or_nothing(path, keep_existing=True) as beside:
        fill(beside, kind, "second")
    assert content(path) == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_utf_8_and_the_checksum_is_of_the_bytes(tmp_path: Path) -> None:
    write_whole(tmp_path / "deep" / "text", "grün\n")
    assert (tmp_path / "deep" / "text").read_bytes() == b"gr\xc3\xbcn\n"
    write_whole(tmp_path / "abc", b"abc")
    # FIPS 180-4's example
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
