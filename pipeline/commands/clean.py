"""``lacuna clean``: remove what params.yaml no longer names, and the oldest kept results.

What DVC keeps in its own cache stays: ``dvc gc -w`` removes that.
"""

from __future__ import annotations

import argparse
import io
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.commands.output import listed, say
from pipeline.commands.parsing import Commands

EPILOG = """\
Removes the outputs of datasets, experiments, assets and trainings that params.yaml no longer names, and their stages in
dvc.lock. Results kept in data/cache/ go only when they are asked for; they are made anew when a stage needs them.

examples:
  lacuna clean --dry-run                 what would be removed
  lacuna clean                           remove it
  lacuna clean --older-than 30           and kept results that were written more than 30 days ago
  lacuna clean --cache-size 20           and the oldest ones, until data/cache/ has at most 20 GB
"""
LOCK = Path("dvc.lock")
# Folder of outputs, without data/ -> the section of params.yaml whose names it holds, with endings of the files.
OUTPUTS = {
    "assets": ("assets", ("",)),
    "manifests": ("datasets", (".csv", ".json", ".sha256")),
    "features": ("datasets", ("",)),
    "masks": ("datasets", (".h5",)),
    "runs": ("experiments", ("",)),
    "results": ("experiments", ("",)),
    "cache/times": ("experiments", (".json",)),
    "live": ("experiments", ("",)),
    "denseface": ("train_denseface", (".safetensors", ".json")),
    "media": ("media", ("",)),
}


@dataclass(frozen=True)
class Found:
    """Something to remove.

    Attributes:
        paths: files and folders.
        bytes: how many their files have.
        why: in a few words.
    """

    paths: tuple[Path, ...]
    bytes: int
    why: str


def add(commands: Commands) -> None:
    """Add the command ``clean``."""
    what = "Remove what params.yaml no longer names, and old kept results."
    parser = commands.add("clean", what, EPILOG, run)
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be removed, and remove nothing"
    )
    parser.add_argument("--older-than", type=_number, metavar="DAYS", help="kept results written before that")
    parser.add_argument(
        "--cache-size", type=_number, metavar="GB", help="the oldest kept results beyond that"
    )


def _number(text: str) -> float:
    """Return a number from 0 on. Raises ValueError for another, which argparse turns into its message."""
    number = float(text)
    if not 0 <= number < math.inf:
        raise ValueError(text)
    return number


def run(options: argparse.Namespace) -> int:
    """Remove, or say what would be removed."""
    from pipeline.params import load_params

    names = load_params().model_dump(include={section for section, _ in OUTPUTS.values()})
    found = [*unnamed(Path("data"), names)]
    if options.older_than is not None or options.cache_size is not None:
        found += old_results(Path("data/cache"), options.older_than, options.cache_size, time.time())
    stages = dead_stages(LOCK, names)
    for one in found:
        say(f"{one.bytes / 1e6:10.1f} MB  {listed([str(path) for path in one.paths])}: {one.why}")
        if not options.dry_run:
            for path in one.paths:
                _remove(path)
    if stages:
        say(f"{len(stages)} stage(s) of dvc.lock that dvc.yaml no longer has: {listed(stages)}")
        if not options.dry_run:
            remove_stages(LOCK, stages)
    total = sum(one.bytes for one in found) / 1e6
    would = "would be removed" if options.dry_run else "removed"
    say(f"{total:.1f} MB and {len(stages)} stage(s) {would}" if found or stages else "nothing to remove")
    return 0


def unnamed(data: Path, names: Mapping[str, Any]) -> Iterator[Found]:
    """Yield the outputs whose dataset, experiment, asset or training params.yaml does not name.

    Args:
        data: the folder of all outputs.
        names: section -> its names.
    """
    for folder, (section, endings) in OUTPUTS.items():
        for path in sorted((data / folder).glob("*")):
            ending = next((end for end in endings if end and path.name.endswith(end)), "")
            name = path.name.removesuffix(ending)
            if path.name.startswith(".") or (ending not in endings) or name in names[section]:
                continue
            yield Found((path,), _size(path), f"params.yaml has no {section}.{name}")


def old_results(cache: Path, days: float | None, gigabytes: float | None, now: float) -> Iterator[Found]:
    """Yield kept results by the time when they were written, the oldest first.

    Args:
        cache: the folder of kept results.
        days: those that are older; None: none by age.
        gigabytes: the oldest beyond this size of all; None: none by size.
        now: seconds since 1970.
    """
    entries: list[tuple[float, tuple[Path, ...], int]] = []
    for results in cache.glob("*/*/*.results"):
        pair = (results.with_suffix(".index"), results)  # without its index a result counts as not kept
        entries.append((results.stat().st_mtime, pair, sum(_size(path) for path in pair)))
    runs = [path for path in (cache / "runs").glob("*") if path.is_dir() and not path.name.startswith(".")]
    entries += [(run.stat().st_mtime, (run,), _size(run)) for run in runs]
    left = sum(size for _, _, size in entries)
    for written, paths, size in sorted(entries):
        if days is not None and written < now - days * 86_400:
            why = f"written {(now - written) / 86_400:.0f} days ago"
        elif gigabytes is not None and left > gigabytes * 1e9:
            why = f"the oldest; data/cache has more than {gigabytes:g} GB"
        else:
            continue
        left -= size
        yield Found(paths, size, why)


def dead_stages(lock: Path, names: Mapping[str, Any]) -> list[str]:
    """Return the stages of dvc.lock that dvc.yaml does not make of params.yaml, in their order."""
    alive = set()
    for stage, body in _yaml(lock.with_name("dvc.yaml")).get("stages", {}).items():
        section = str(body.get("foreach", "")).strip("${}")
        alive |= {f"{stage}@{name}" for name in names[section]} if section else {stage}
    return [name for name in _yaml(lock).get("stages", {}) if name not in alive]


def remove_stages(lock: Path, stages: list[str]) -> None:
    """Take stages out of dvc.lock; the rest stays as DVC wrote it."""
    from ruamel.yaml import YAML

    from pipeline.data.files import write_whole

    content, out = _yaml(lock), io.StringIO()
    for name in stages:
        del content["stages"][name]
    writer = YAML()
    writer.default_flow_style = False
    writer.dump(content, out)
    write_whole(lock, out.getvalue())


def _yaml(path: Path) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from pipeline.errors import DataError

    try:
        return YAML().load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, YAMLError) as error:
        raise DataError(
            f"{path}: cannot be read: {error}. After a conflict: git checkout --ours dvc.lock && dvc commit -f"
        ) from error


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(file.lstat().st_size for file in files if file.is_symlink() or file.is_file())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
