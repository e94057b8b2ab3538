"""What ``lacuna doctor`` looks at: whether this machine has what params.yaml asks for, and what would bring
the rest.

Every check ends in one :class:`Finding`. Only what the selection of params.yaml cannot do without is
*lacking*; what is merely absent or other than the lock says is a *note*.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import AssetError, LacunaError
from pipeline.machine import usable_cores
from pipeline.params import MODALITIES, Params

State = Literal["ok", "note", "lacking"]
LOCK = Path("requirements.lock")
PYTHONS = ((3, 11), (3, 13))  # from, and below
FREE_GB = 3  # what the main job wants of the disk


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        part: what it belongs to; findings of one part are shown together.
        name: what it is.
        state: ok; note: absent or different, but nothing selected needs it; lacking: params.yaml needs it.
        detail: what was found.
        remedy: what brings it; empty when it is there.
    """

    part: str
    name: str
    state: State
    detail: str
    remedy: str = ""


def examine(params: Params | None) -> Iterator[Finding]:
    """Look at everything; ``params`` is None when params.yaml cannot be read (its error is shown by the
    caller)."""
    yield from _machine()
    yield from _packages()
    selected = _selection(params)
    yield from _libraries(selected)
    yield from _system_libraries(selected)
    yield from _programs(params)
    if params is not None:
        yield from _assets(params, set(selected))


def _selection(params: Params | None) -> dict[str, set[str]]:
    """Return extractor -> the distributions it stands on, for every extractor that a dataset selects."""
    from pipeline.extraction.extractors import base

    if params is None:
        return {}
    chosen = {
        (m, dataset.extraction(m).extractor) for dataset in params.datasets.values() for m in MODALITIES
    }
    return {name: set(base.find(modality, name).libraries) for modality, name in sorted(chosen)}


def _machine() -> Iterator[Finding]:
    version = sys.version_info[:2]
    fits = PYTHONS[0] <= version < PYTHONS[1]
    wanted = "Python 3.11 or 3.12; then run setup.sh again"
    yield Finding(
        "machine", "Python", "ok" if fits else "lacking", platform.python_version(), "" if fits else wanted
    )
    cores = usable_cores()
    yield Finding("machine", "cores", "ok", f"{cores}, {platform.machine()}, {platform.system()}")
    free = shutil.disk_usage(".").free / 1e9
    enough = free >= FREE_GB
    remedy = (
        "" if enough else f"the main job wants about {FREE_GB} GB; `dvc gc -w` frees what is no longer used"
    )
    yield Finding("machine", "disk", "ok" if enough else "note", f"{free:.1f} GB free", remedy)
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding("machine", "torch", "lacking", str(error), "bash setup.sh")
        return
    yield Finding("machine", "torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(index).total_memory / 1e9
            yield Finding("machine", "GPU", "ok", f"{torch.cuda.get_device_name(index)}, {memory:.0f} GB")
    else:
        yield Finding("machine", "GPU", "note", "none; training runs on the CPU")


def _packages() -> Iterator[Finding]:
    """Compare what is installed with the lock; a package that Lacuna itself needs must be there."""
    try:
        required = importlib.metadata.requires("lacuna") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("packages", "lacuna", "lacking", "not installed", "bash setup.sh")
        return
    own = {_plain(re.split(r"[^A-Za-z0-9_.-]", line)[0]) for line in required if "extra ==" not in line}
    for name in sorted(own):
        if _installed(name) is None:
            yield Finding("packages", name, "lacking", "not installed", "bash setup.sh")
    if not LOCK.is_file():
        yield Finding(
            "packages",
            "versions",
            "note",
            f"no {LOCK} here to compare with",
            "run it in the project's folder",
        )
        return
    pins = dict(
        line.strip().split("==") for line in LOCK.read_text(encoding="utf-8").splitlines() if "==" in line
    )
    other = []
    for name, version in pins.items():
        found = _installed(name)
        if found is not None and found.split("+")[0] != version:
            other.append(f"{name} {found} (locked {version})")
    absent = [name for name in pins if _installed(name) is None and name not in own]
    detail = f"{len(pins) - len(other) - len(absent)} of {len(pins)} packages as {LOCK} says"
    if other:
        detail += f"; other: {', '.join(other)}"
    if absent:
        detail += f"; absent: {', '.join(absent)}"
    differs = bool(other or absent)
    yield Finding(
        "packages", "versions", "note" if differs else "ok", detail, "bash setup.sh" if differs else ""
    )
    dvc = _installed("dvc")
    if dvc is not None:
        here = Path(".dvc").is_dir()
        detail = dvc if here else f"{dvc}, but this folder is no DVC project"
        yield Finding(
            "packages",
            "dvc",
            "ok" if here else "note",
            detail,
            "" if here else "run it in the project's folder",
        )


def _libraries(selected: dict[str, set[str]]) -> Iterator[Finding]:
    """Look whether the libraries of media and of the selected extractors are there and load."""
    try:
        import av

        versions = {name: ".".join(map(str, number)) for name, number in sorted(av.library_versions.items())}
        listed = ", ".join(f"{name} {number}" for name, number in versions.items())
        yield Finding("libraries", "ffmpeg", "ok", f"PyAV {av.__version__} with {listed}")
    except (ImportError, OSError) as error:
        yield Finding("libraries", "ffmpeg", "lacking", f"PyAV does not load: {error}", "bash setup.sh")
    shown = {
        "opensmile": "opensmile",
        "mediapipe": "mediapipe",
        "librosa": "librosa",
        "transformers": "transformers",
    }
    for name in sorted(
        {*shown.values(), *(library for libraries in selected.values() for library in libraries)}
    ):
        users = [extractor for extractor, libraries in selected.items() if name in libraries]
        found = _installed(name)
        if found is None:
            state: State = "lacking" if users else "note"
            why = (
                f"not installed; needed by {', '.join(users)}"
                if users
                else "not installed; nothing selected needs it"
            )
            yield Finding("libraries", name, state, why, f"python -m pip install {name}")
        elif name in shown or users:
            yield Finding("libraries", name, "ok", found + (f", for {', '.join(users)}" if users else ""))


def _system_libraries(selected: dict[str, set[str]]) -> Iterator[Finding]:
    from pipeline.extraction.extractors import base

    if platform.system() != "Linux":
        return
    users = [
        name
        for name, libraries in selected.items()
        if any("mediapipe" in x or "opencv" in x for x in libraries)
    ]
    for library, package in base.SYSTEM_LIBRARIES.items():
        needed = bool(users) and library not in _NOT_SHARED
        if (found := _load(library)) is not None:
            yield Finding("system libraries", found, "ok", f"found (Debian's {package})")
        else:
            state: State = "lacking" if needed else "note"
            why = f"needed by {', '.join(users)}" if needed else "nothing selected needs it"
            remedy = f"apt-get install {package} (Debian, Ubuntu)"
            yield Finding("system libraries", library, state, f"not found; {why}", remedy)


_NOT_SHARED = {"libgomp.so"}  # the wheels here bring their own


def _load(library: str) -> str | None:
    """Return the full name that the system's loader finds a library by, or None."""
    for version in ("0", "1", "2"):
        try:
            ctypes.CDLL(f"{library}.{version}")
        except OSError:
            continue
        return f"{library}.{version}"
    return None


def _programs(params: Params | None) -> Iterator[Finding]:
    """Look for OpenFace where the extractor itself does, for each dataset that selects it."""
    from pipeline.extraction.extractors.video.openface import OpenfaceSettings, find_program

    running: set[Path | None] = set()
    for name, dataset in params.datasets.items() if params else ():
        if params and dataset.video.extractor == "openface":
            settings = params.extractor_settings(name, "video")
            if isinstance(settings, OpenfaceSettings) and settings.csv_folder is None:
                running.add(settings.executable)
    for executable in sorted(running or {None}, key=str):
        try:
            yield Finding("programs", "OpenFace", "ok", str(find_program(executable)))
        except AssetError as error:
            found, _, remedy = str(error).removeprefix("openface: ").partition(". ")
            if running:
                yield Finding("programs", "OpenFace", "lacking", found, remedy)
            else:
                yield Finding("programs", "OpenFace", "note", f"{found}; nothing selected needs it")


def _assets(params: Params, selected: set[str]) -> Iterator[Finding]:
    """Check the bytes of every asset that is here; one not fetched yet is for ``dvc repro`` to fetch."""
    from pipeline import assets

    roots = {dataset.root for dataset in params.datasets.values()}
    if any(dataset.loader == "demo" for dataset in params.datasets.values()):
        selected = selected | {"cremad", "sentences"}  # what the corpus is constructed from
    for name, asset in params.assets.items():
        folder = assets.ASSETS / name
        broken: State = "lacking" if name in selected or folder in roots else "note"
        again = f"dvc repro -f -s assets@{name}"
        if not folder.is_dir():
            gone = asset.path is not None and not Path(asset.path).expanduser().exists()
            detail = f"{asset.path}: not there" if gone else "not fetched yet; dvc repro does it"
            yield Finding("assets", name, broken if gone else "note", detail, f"dvc repro assets@{name}")
            continue
        try:
            record = assets.read_record(folder)
            for file in record["files"]:
                assets.load_checked(folder, file, asset.checksums.get(file))
        except LacunaError as error:
            yield Finding("assets", name, broken, str(error), again)
            continue
        if not assets.is_current(folder, asset):
            yield Finding(
                "assets", name, "note", f"is {record['source']}, not what params.yaml says", "dvc repro"
            )
            continue
        files = len(record["files"])
        checked = f", {files} file(s), checksums right" if files else ""
        detail = f"{record['source']}{checked}; {asset.licence or 'no licence named'}"
        yield Finding("assets", name, "ok", detail)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
