"""``lacuna doctor``: does this machine have what params.yaml needs, and how to get what is missing.

Every check gives one :class:`Finding`. Its state is *lacking* only if something that params.yaml selects cannot
run; a package that is absent but not needed, or of another version than the lock file's, is a *note*.
"""

from __future__ import annotations

import argparse
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.commands.output import say
from pipeline.commands.params import count_sections
from pipeline.commands.parsing import Commands
from pipeline.errors import AssetError, LacunaError
from pipeline.machine import usable_cores

if TYPE_CHECKING:
    from pipeline.params import Params

EPILOG = """\
exit status: 0 when everything that params.yaml selects can run, 1 when something it needs is missing

example:
  lacuna doctor
"""
State = Literal["ok", "note", "lacking"]
LOCK = Path("requirements.lock")
PYTHONS = ((3, 11), (3, 15))  # from the first on, below the second
FREE_GB = 3  # disk space that the main job needs
MARKS: dict[State, str] = {"ok": "ok", "note": "--", "lacking": "!!"}


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        part: the group it is shown in, for example "machine".
        name: what was checked.
        state: ok; note: absent or different, but nothing selected needs it; lacking: params.yaml needs it.
        detail: what was found.
        remedy: how to get it; empty when nothing is to be done.
    """

    part: str
    name: str
    state: State
    detail: str
    remedy: str = ""


def add(commands: Commands) -> None:
    """Add the command ``doctor``."""
    commands.add("doctor", "Say what is installed, what is missing, and how to get it.", EPILOG, run)


def run(_: argparse.Namespace) -> int:
    """Print every finding; return 1 when something that params.yaml needs is missing."""
    from pipeline.params import load_params

    params, mistake = None, ""
    try:
        params = load_params()
    except LacunaError as error:
        mistake = str(error)
    part, lacking = "", 0
    for finding in examine(params):
        if finding.part != part:
            part = finding.part
            say(part)
        say(f"  {MARKS[finding.state]}  {finding.name}: {finding.detail}")
        if finding.remedy:
            say(f"        -> {finding.remedy}")
        lacking += finding.state == "lacking"
    say("params.yaml")
    if params is None:
        say("  !!  " + mistake.replace("\n", "\n      "))
        lacking += 1
    else:
        say(f"  ok  {count_sections(params)}")
    say()
    say(f"missing: {lacking}, marked !!" if lacking else "Everything that params.yaml needs is here.")
    return 1 if lacking else 0


def examine(params: Params | None) -> Iterator[Finding]:
    """Check everything.

    Args:
        params: params.yaml; None when it cannot be read: then nothing counts as selected, and no asset is checked.
    """
    yield from _machine()
    yield from _packages()
    selected = _selection(params)
    yield from _libraries(selected)
    yield from _system_libraries(selected)
    yield from _programs(params)
    if params is not None:
        yield from _assets(params, set(selected))
        yield from _weights(params)


def _selection(params: Params | None) -> dict[str, set[str]]:
    """Return extractor -> the distributions it uses, for every extractor that a dataset selects."""
    from pipeline.extraction.extractors import base
    from pipeline.params import MODALITIES

    if params is None:
        return {}
    chosen = {
        (m, dataset.extraction(m).extractor) for dataset in params.datasets.values() for m in MODALITIES
    }
    return {name: set(base.find(modality, name).libraries) for modality, name in sorted(chosen)}


def _machine() -> Iterator[Finding]:
    version = sys.version_info[:2]
    fits = PYTHONS[0] <= version < PYTHONS[1]
    wanted = "Python 3.11 to 3.14; then run setup.sh again"
    yield Finding(
        "machine", "Python", "ok" if fits else "lacking", platform.python_version(), "" if fits else wanted
    )
    cores = usable_cores()
    yield Finding("machine", "cores", "ok", f"{cores}, {platform.machine()}, {platform.system()}")
    free = shutil.disk_usage(".").free / 1e9
    enough = free >= FREE_GB
    remedy = (
        "" if enough else f"the main job needs about {FREE_GB} GB; `dvc gc -w` removes results no longer used"
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
    """Compare the installed packages with the lock file; those that Lacuna itself needs must be there."""
    import importlib.metadata

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
    pins = _pins(LOCK.read_text(encoding="utf-8"))
    other = []
    for name, version in pins.items():
        found = _installed(name)
        if found is not None and found.split("+")[0] != version:
            other.append(f"{name} {found} (locked {version})")
    absent = [name for name in pins if _installed(name) is None and name not in own]
    detail = f"{len(pins) - len(other) - len(absent)} of {len(pins)} packages as in {LOCK}"
    if other:
        detail += f"; other versions: {', '.join(other)}"
    if absent:
        detail += f"; absent: {', '.join(absent)}"
    differs = bool(other or absent)
    yield Finding(
        "packages", "versions", "note" if differs else "ok", detail, "bash setup.sh" if differs else ""
    )
    dvc = _installed("dvc")
    if dvc is not None:
        here = Path(".dvc").is_dir()
        detail = dvc if here else f"{dvc}, but this folder is not a DVC project"
        yield Finding(
            "packages",
            "dvc",
            "ok" if here else "note",
            detail,
            "" if here else "run it in the project's folder",
        )


def _pins(lock: str) -> dict[str, str]:
    """Return package -> version of the lock's lines that are meant for this Python."""
    found = {}
    for line in lock.splitlines():
        pin, _, marker = line.partition(";")
        name, equals, version = pin.strip().partition("==")
        since = re.fullmatch(r'python_version >= "(\d+)\.(\d+)"', marker.strip())
        if equals and (since is None or sys.version_info[:2] >= (int(since[1]), int(since[2]))):
            found[name] = version
    return found


def _libraries(selected: dict[str, set[str]]) -> Iterator[Finding]:
    """Check that PyAV loads, and that the libraries of the selected extractors are installed."""
    try:
        import av

        versions = {name: ".".join(map(str, number)) for name, number in sorted(av.library_versions.items())}
        listed = ", ".join(f"{name} {number}" for name, number in versions.items())
        yield Finding("libraries", "ffmpeg", "ok", f"PyAV {av.__version__} with {listed}")
    except (ImportError, OSError) as error:
        yield Finding("libraries", "ffmpeg", "lacking", f"PyAV does not load: {error}", "bash setup.sh")
    shown = {"opensmile", "mediapipe", "librosa", "transformers"}  # whether they are selected or not
    for name in sorted(shown.union(*selected.values())):
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
        else:
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


_NOT_SHARED = {"libgomp.so"}  # the wheels contain it


def _load(library: str) -> str | None:
    """Return the full name by which the system's loader finds a library, or None if it does not."""
    import ctypes

    for version in ("0", "1", "2"):
        try:
            ctypes.CDLL(f"{library}.{version}")
        except OSError:
            continue
        return f"{library}.{version}"
    return None


def _programs(params: Params | None) -> Iterator[Finding]:
    """Look for OpenFace in the places where the extractor looks, for each dataset that selects it."""
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
    """Check the bytes of every fetched asset; the others are a note, because ``dvc repro`` fetches them."""
    from pipeline.data import assets
    from pipeline.data.fetching import is_current

    roots = {dataset.root for dataset in params.datasets.values()}
    if any(dataset.loader == "demo" for dataset in params.datasets.values()):
        selected = selected | {"cremad", "sentences"}  # the corpus is made of them
    for name, asset in params.assets.items():
        folder = assets.ASSETS / name
        broken: State = "lacking" if name in selected or folder in roots else "note"
        again = f"dvc repro -f -s assets@{name}"
        if not folder.is_dir():
            gone = asset.path is not None and not Path(asset.path).expanduser().exists()
            detail = (
                f"{asset.path}: no such file or folder" if gone else "not fetched yet; dvc repro fetches it"
            )
            yield Finding("assets", name, broken if gone else "note", detail, f"dvc repro assets@{name}")
            continue
        try:
            record = assets.read_record(folder)
            for file in record["files"]:
                assets.load_checked(folder, file, asset.checksums.get(file))
        except LacunaError as error:
            yield Finding("assets", name, broken, str(error), again)
            continue
        if not is_current(folder, asset):
            yield Finding(
                "assets", name, "note", f"is {record['source']}; params.yaml names another", "dvc repro"
            )
            continue
        files = len(record["files"])
        checked = f", {files} file(s), checksums correct" if files else ""
        detail = f"{record['source']}{checked}; {asset.licence or 'no licence named'}"
        yield Finding("assets", name, "ok", detail)


# Extractors whose weights nobody can fetch -> the setting that names them, and how to get them.
_OWN_WEIGHTS = {
    "wav2vec2": ("model", "the folder of an encoder with config.json and *.safetensors"),
    "word2vec": ("path", "your vectors: .bin, .txt, .vec or .npy"),
    "denseface": ("weights", "your .safetensors file, or train it: train_denseface"),
}


def _weights(params: Params) -> Iterator[Finding]:
    """Look for the weights that selected extractors need of you, and for assets that params.yaml does not name."""
    from pipeline.params import MODALITIES

    for dataset, chosen in params.datasets.items():
        for modality in MODALITIES:
            name = chosen.extraction(modality).extractor
            key = f"datasets.{dataset}.{modality}"
            asset = params.assets.get(name)
            if asset is None:
                remedy = f"write assets.{name}: {{library: ...}} or another of docs/params.md"
                yield Finding(
                    "assets", name, "lacking", f"{key} selects it; assets.{name} is not there", remedy
                )
            if name not in _OWN_WEIGHTS:
                continue
            setting, what = _OWN_WEIGHTS[name]
            place = getattr(params.extractor_settings(dataset, modality), setting)
            if place is None and asset is not None and asset.path is not None:
                continue  # checked among the assets
            if place is None:
                remedy = f"extractors.{modality}.{name}.{setting}: {what}"
                yield Finding("assets", name, "lacking", f"{key} selects it, and it has no weights", remedy)
            elif not Path(place).expanduser().exists():
                yield Finding("assets", name, "lacking", f"{setting} {place}: no such file or folder", what)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed(name: str) -> str | None:
    import importlib.metadata

    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
