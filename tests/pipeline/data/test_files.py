"""Files and folders are written whole or not at all, by however many processes, and whoever is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline.data.files import (
    STATES_KEPT_S,
    file_sha256,
    remove_leftovers,
    temporary_folder_of_its_own,
    together,
    whole_or_nothing,
    write_whole,
)

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


def test_a_folder_killed_between_the_two_renames_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "result"
    dead = dead_process()
    fill(tmp_path / f".result.{node()}.old.{dead}.part", "folder", "old")
    fill(tmp_path / f".result.{node()}.{dead}.part", "folder", "half or whole")
    with pytest.raises(KeyboardInterrupt), whole_or_nothing(path):
        raise KeyboardInterrupt
    assert content(path) == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "result"
    fill(path, "folder", "old")
    rename = Path.rename

    def fail_once(self: Path, target: Path) -> Path:
        if target == path and "old" not in self.name:
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises(OSError, match="no"), whole_or_nothing(path) as beside:
        fill(beside, "folder", "new")
    assert content(path) == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_belong_together_change_together(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    with together(folder) as beside:
        (beside / "a").write_text("old a")
        (beside / "b").write_text("old b")
    (folder / "other").write_text("not ours")
    with pytest.raises(KeyboardInterrupt), together(folder) as beside:
        (beside / "a").write_text("new a")
        raise KeyboardInterrupt
    assert {p.name: p.read_text() for p in folder.iterdir()} == {
        "a": "old a",
        "b": "old b",
        "other": "not ours",
    }
    with together(folder) as beside:
        (beside / "a").write_text("new a")
        (beside / "b").write_text("new b")
    assert {p.name: p.read_text() for p in folder.iterdir()} == {
        "a": "new a",
        "b": "new b",
        "other": "not ours",
    }
    assert list(tmp_path.iterdir()) == [folder]


def dead_process() -> int:
    """Return the number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def node() -> str:
    """Return this machine's name as a file beside has it."""
    with tempfile.TemporaryDirectory() as folder, whole_or_nothing(Path(folder) / "x") as beside:
        beside.touch()
        return beside.name.split(".")[2]


def test_what_no_living_process_owns_is_removed(tmp_path: Path) -> None:
    dead, key = dead_process(), "0123456789abcdef" * 2
    gone = [
        f".report.{node()}.{dead}.part",
        f"features/demo/.text.h5.{node()}.{dead}.part",
        f"cache/runs/.{key}.state.{node()}.{dead}.part",
        f"cache/runs/{key}.{dead}.part/weights.safetensors",  # as an earlier version called it
        f"cache/runs/{key}.state",  # its training is finished
    ]
    kept = [
        f".report.{node()}.{os.getpid()}.part",
        f".report.other-machine.{dead}.part",
        f"manifests/report.{node()}.{dead}.part",  # the user's own name
        f"cache/runs/{key}/fit.json",
        f"cache/runs/{'f' * 32}.state",  # of a training that can go on
        "raw/demo/clips/.a.part",
    ]
    for name in (*gone, *kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert len(remove_leftovers(tmp_path)) == len(gone)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()) == sorted(
        kept
    )
    state = tmp_path / f"cache/runs/{'f' * 32}.state"
    changed = state.stat().st_mtime
    assert remove_leftovers(tmp_path, changed + STATES_KEPT_S) == []
    assert remove_leftovers(tmp_path, changed + STATES_KEPT_S + 1) == [state]
    assert remove_leftovers(tmp_path / "nothing there") == []


LEAVES_TEMPORARY_FILES = """
import os, subprocess, sys, tempfile
from pipeline.data.files import temporary_folder_of_its_own
with temporary_folder_of_its_own():
    tempfile.mkdtemp(prefix="lacuna-opensmile-")
    subprocess.run([sys.executable, "-c", "import tempfile; tempfile.mkdtemp(prefix='torch_')"], check=True)
    if sys.argv[1] == "killed":
        os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("end", ["killed", "well"])
def test_temporary_files_of_libraries_do_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    subprocess.run([sys.executable, "-c", LEAVES_TEMPORARY_FILES, end], check=False)
    assert [len(list(folder.iterdir())) for folder in tmp_path.iterdir()] == ([2] if end == "killed" else [])
    monkeypatch.setenv("RAY_TMPDIR", "")  # so that they are put back
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    with temporary_folder_of_its_own() as own:
        assert list(tmp_path.iterdir()) == [own]
        assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(own)
    assert os.environ["TMPDIR"] == tempfile.gettempdir() == str(tmp_path)
    assert not list(tmp_path.iterdir())
