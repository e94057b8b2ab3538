"""Lists of media and their checksums: what they hold, and when a file is read again."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from pipeline.data import media_list
from pipeline.data.media_list import files_below, write_list
from pipeline.errors import DataError


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "media"
    (root / "b").mkdir(parents=True)
    (root / "a.wav").write_bytes(b"one")
    (root / "b/c.wav").write_bytes(b"two")
    for name in (".DS_Store", "._a.wav", "Thumbs.db", "labels.csv~"):
        (root / name).write_bytes(b"of a system")
    return root


def test_files_in_order_without_what_systems_leave_and_through_links(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other disk"
    other.mkdir()
    (other / "d.wav").write_bytes(b"three")
    (root / "b2").symlink_to(other)
    assert list(files_below(root)) == ["a.wav", "b/c.wav", "b2/d.wav"]
    (other / "back").symlink_to(root)
    with pytest.raises(DataError, match="leads to a folder which it lies in"):
        list(files_below(root))


def test_a_list_is_what_sha256sum_writes(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "list"
    assert write_list(path, root, ["b/c.wav", "a.wav", "not there.wav", "a.wav"], None) == 2
    assert path.read_text() == f"{sha(b'one')}  a.wav\n{sha(b'two')}  b/c.wav\n"
    subprocess.run(["sha256sum", "--quiet", "-c", str(path)], cwd=root, check=True)


def test_a_file_is_read_again_only_when_it_changed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counted(path: Path) -> str:
        read.append(path.name)
        return sha(path.read_bytes())

    monkeypatch.setattr(media_list, "file_sha256", counted)
    files, path, cache = ["a.wav", "b/c.wav"], tmp_path / "list", tmp_path / "cache"
    write_list(path, root, files, cache)
    write_list(path, root, files, cache)
    assert sorted(read) == ["a.wav", "a.wav", "c.wav", "c.wav"]  # younger than a clock's tick: not trusted
    monkeypatch.setattr(media_list, "YOUNG_S", -1.0)
    write_list(path, root, files, cache)
    read.clear()
    write_list(path, root, files, cache)
    assert read == []
    state = (root / "a.wav").stat()
    (root / "a.wav").write_bytes(b"eno")  # as long as before, and dated back
    os.utime(root / "a.wav", ns=(state.st_atime_ns, state.st_mtime_ns))
    write_list(path, root, files, cache)
    assert read == ["a.wav"]
    assert path.read_text().startswith(sha(b"eno"))
    for entry in cache.iterdir():
        entry.write_text("[1")  # damaged: read anew
    write_list(path, root, files, cache)
    assert path.read_text().startswith(sha(b"eno"))
