"""Writing a file or folder whole or not at all, and the checksum of a file."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_or_nothing(path: Path, *, keep_existing: bool = False) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; it is renamed to ``path`` when the block ends without an error.

    So nobody ever sees a half-written file or folder at ``path``. The path beside it bears the names of this
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
    node = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
    _remove_abandoned(path, node)
    beside = path.with_name(f".{path.name}.{node}.{os.getpid()}.part")
    _remove(beside)
    try:
        yield beside
        if keep_existing:
            _rename_unless_there(beside, path)
        else:
            if beside.is_dir() and (path.exists() or path.is_symlink()):
                _remove(path)  # a folder cannot be renamed to one that is there
            beside.replace(path)
    finally:
        _remove(beside)


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


def _remove_abandoned(path: Path, node: str) -> None:
    """Remove what processes of this machine that no longer run left beside ``path``."""
    pattern = re.compile(re.escape(f".{path.name}.{node}.") + r"(\d{1,9})\.part")
    for found in path.parent.iterdir():
        match = pattern.fullmatch(found.name)
        if match and not _is_running(int(match[1])):
            _remove(found)


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
