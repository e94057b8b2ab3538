"""Which media a dataset stands on, with a checksum for each: what features depend on, wherever the media lie.

A list is what the program sha256sum writes and checks (``cd ROOT && sha256sum -c LIST``): a line for each file, its
checksum in hexadecimal, two spaces, its path below the root. Lists hold no place and no time, so that two people
whose copies lie in different places have the same list.

A file is read once: its checksum is kept under data/cache/, and holds as long as its size, its time of change and
its number in the file system are the same.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

from pipeline.data.files import file_sha256, write_whole
from pipeline.errors import DataError

PLACES = Path("data/media")  # the lists of folders outside of the project
YOUNG_S = 2.0  # a file may change again within the same tick of its file system's clock
# What systems and editors leave in a folder of media (.dvcignore), beside all whose name begins with a dot.
NO_MEDIA = ("Thumbs.db", "desktop.ini")
NO_MEDIA_ENDS = (".swp", "~")


def files_below(root: Path) -> Iterator[str]:
    """Yield the paths below ``root`` of its files, sorted in each folder; linked files and folders are followed.

    Raises:
        DataError: a folder leads back into itself by a link, or cannot be read.
    """
    yield from _files(os.fspath(root), "", ())


def _files(folder: str, inside: str, within: tuple[tuple[int, int], ...]) -> Iterator[str]:
    try:
        found = os.stat(folder)  # noqa: PTH116
        with os.scandir(folder) as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error
    own = (found.st_dev, found.st_ino)
    if own in within:
        raise DataError(f"{folder}: a link that leads to a folder which it lies in; remove it")
    for entry in entries:
        if entry.name.startswith(".") or entry.name in NO_MEDIA or entry.name.endswith(NO_MEDIA_ENDS):
            continue
        if entry.is_dir():
            yield from _files(entry.path, f"{inside}{entry.name}/", (*within, own))
        elif entry.is_file():
            yield inside + entry.name


def write_list(path: Path, root: Path, files: Iterable[str], cache: Path | None) -> int:
    """Write the list of ``files``, paths below ``root``; return how many there are. What is not there is left out.

    Args:
        path: of the list; it takes its place when whole.
        root: the folder of the media.
        files: their paths below it.
        cache: the folder where checksums are kept; None: every file is read.

    Raises:
        DataError: a file cannot be read.
        OSError: the list cannot be written.
    """
    lines = [
        b"%s  %s\n" % (digest.encode(), os.fsencode(name))
        for name, digest in _checksums(root, sorted(set(files)), cache).items()
    ]
    write_whole(path, b"".join(lines))
    return len(lines)


def _checksums(root: Path, names: list[str], cache: Path | None) -> dict[str, str]:
    """Return path -> checksum of those files that are there."""
    place = os.path.abspath(root)  # noqa: PTH100
    kept = cache / f"{sha256(os.fsencode(place)).hexdigest()[:32]}.json" if cache else None
    known = _read_kept(kept)
    now = time.time()

    def checksum(name: str) -> tuple[list[int], str] | None:
        file = f"{place}/{name}"
        try:
            stat = os.stat(file)  # noqa: PTH116
            state = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
            before = known.get(name)
            if before and before[0] == state:
                return state, before[1]
            return state, file_sha256(Path(file))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        except OSError as error:
            raise DataError(f"{file}: cannot be read ({error.strerror})") from error

    with ThreadPoolExecutor(max_workers=4) as pool:
        found = {name: one for name, one in zip(names, pool.map(checksum, names), strict=True) if one}
    if kept and found != known:
        old = {name: one for name, one in found.items() if max(one[0][1:3]) / 1e9 < now - YOUNG_S}
        write_whole(kept, json.dumps({**known, **old}))
    return {name: digest for name, (_, digest) in found.items()}


def _read_kept(path: Path | None) -> dict[str, tuple[list[int], str]]:
    if path is None:
        return {}
    try:
        raw = json.loads(path.read_bytes())
        return {name: ([int(n) for n in state], str(digest)) for name, (state, digest) in raw.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
