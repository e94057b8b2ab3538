"""Writing a file or folder whole or not at all, what killed processes left of that, and the checksum of a file."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STATES_KEPT_S = 30 * 24 * 3600.0  # how long a stopped training can be gone on with


@contextmanager
def whole_or_nothing(path: Path, *, keep_existing: bool = False) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; it is renamed to ``path`` when the block ends without an error.

    So nobody ever sees a half-written file or folder at ``path``, and what stood there stays until the new one is
    whole. The path beside it bears the names of this
    machine and process, so that two processes that write the same result do not disturb each other. After an
    error it is removed, and ``path`` is as it was. What a killed process of this machine left beside ``path``
    is removed as well.

    Args:
        path: of a file or folder; folders above it are made.
        keep_existing: leave what stands at ``path`` by the end of the block, and drop what was written: for
            results that are the same bytes whoever writes them, and that others may be reading.

    Yields:
        The path to write to; nothing is there. The block makes a file or a folder of it.

    Raises:
        OSError: it cannot be written or renamed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    beside, before = _beside(path), _beside(path, "old.")
    _remove(beside)
    try:
        yield beside
        if keep_existing:
            _rename_unless_there(beside, path)
        elif beside.is_dir() and (path.exists() or path.is_symlink()):
            path.rename(before)  # a folder cannot be renamed to one that is there
            try:
                beside.rename(path)
            except OSError:
                before.rename(path)
                raise
        else:
            beside.replace(path)
    finally:
        _remove(beside)
        _remove(before)


@contextmanager
def together(folder: Path) -> Iterator[Path]:
    """Give a new, empty folder; its files are moved into ``folder`` when the block ends without an error.

    Each takes the place of the one of its name, and others stay. So files that belong together are not half new and
    half old after an error in the middle of them.

    Args:
        folder: made when it is not there.

    Yields:
        The folder to write files into.

    Raises:
        OSError: something cannot be written or renamed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    beside = _beside(folder)
    _remove(beside)
    try:
        beside.mkdir()
        yield beside
        for path in sorted(beside.iterdir()):
            path.replace(folder / path.name)
    finally:
        _remove(beside)


@contextmanager
def temporary_folder_of_its_own() -> Iterator[Path]:
    """Let this process and those that it starts make their temporary files in one folder, removed at the end.

    A library whose process is killed leaves its temporary files for ever. Here they lie in a folder that bears the
    names of machine and process, and the next stage on this machine removes it.

    Yields:
        The folder, below the system's folder for temporary files.
    """
    usual = tempfile.gettempdir()
    place = Path(usual) / "lacuna"
    _remove_abandoned(place)
    folder = _beside(place)
    _remove(folder)
    folder.mkdir(mode=0o700)
    # What these keep there is for later processes, too: Ray the address of its cluster, PyTorch what it compiled.
    os.environ.setdefault("RAY_TMPDIR", usual)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.join(usual, f"torchinductor_{os.getuid()}"))  # noqa: PTH118
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = tempfile.tempdir = os.fspath(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = None
        if before is None:
            os.environ.pop("TMPDIR")
        else:
            os.environ["TMPDIR"] = before
        _remove(folder)


def remove_leftovers(data: Path, now: float | None = None) -> list[Path]:
    """Remove what killed processes of this machine left below ``data``, and return it.

    That is, to a depth of three folders: everything half-written that no living process owns; and in cache/runs the
    states of trainings that are finished, or that nobody went on with for ``STATES_KEPT_S`` seconds.

    Args:
        data: the folder of all outputs; it need not be there.
        now: seconds since 1970; None: the clock's.
    """
    removed = []
    for pattern in (".*.part", "*/.*.part", "*/*/.*.part", "cache/runs/*.part"):
        for path in sorted(data.glob(pattern)):
            owner = _PART.fullmatch(path.name) or _OLDER_PART.fullmatch(path.name)
            if owner and owner["node"] in (None, _node()) and not _is_running(int(owner["process"])):
                _clear(path, path.with_name(owner["name"] or ""), bool(owner["old"]))
                removed.append(path)
    oldest = (time.time() if now is None else now) - STATES_KEPT_S
    for path in sorted((data / "cache/runs").glob("*.state")):
        try:
            is_old = path.stat().st_mtime < oldest
        except OSError:  # its training ended this moment
            continue
        if is_old or (path.with_suffix("") / "fit.json").is_file():
            _remove(path)
            removed.append(path)
    return removed


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, whole or not at all (:func:`whole_or_nothing`).

    Raises:
        OSError: it cannot be written.
    """
    with whole_or_nothing(path) as beside:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rename_unless_there(beside: Path, path: Path) -> None:
    if path.exists():
        return
    try:
        beside.rename(path)
    except OSError:
        if not path.exists():  # else another process was faster
            raise


_PART = re.compile(
    r"\.(?P<name>.+)\.(?P<node>[A-Za-z0-9-]+)\.(?P<old>old\.)?(?P<process>\d{1,9})\.part", re.DOTALL
)
# Of earlier versions, without a machine's name: <key>.<process>.part.
_OLDER_PART = re.compile(r"(?P<name>[0-9a-f]{32})\.(?P<node>never)?(?P<old>never)?(?P<process>\d{1,9})\.part")


def _node() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())


def _beside(path: Path, kind: str = "") -> Path:
    return path.with_name(f".{path.name}.{_node()}.{kind}{os.getpid()}.part")


def _remove_abandoned(path: Path) -> None:
    """Remove what processes of this machine that no longer run left beside ``path``."""
    pattern = re.compile(re.escape(f".{path.name}.{_node()}.") + r"(old\.)?(\d{1,9})\.part")
    for found in path.parent.iterdir():
        match = pattern.fullmatch(found.name)
        if match and not _is_running(int(match[2])):
            _clear(found, path, bool(match[1]))


def _clear(left: Path, path: Path, is_old: bool) -> None:
    """Remove what a killed process left; but what it had put aside goes back when nothing is at its place."""
    if is_old and not path.exists() and not path.is_symlink():
        left.rename(path)
    else:
        _remove(left)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it runs as somebody else
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
