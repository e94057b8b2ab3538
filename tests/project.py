"""A small copy of the project for tests that run its stages by DVC, as a user would."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
GIT = ("git", "-c", "user.name=Test", "-c", "user.email=test@example.org")


def copy_project(folder: Path, size: int, epochs: int) -> None:
    """Make ``folder`` a new repository of the project, with a small corpus and few epochs."""
    folder.mkdir(parents=True)
    leave = shutil.ignore_patterns("__pycache__")
    for name in (
        "pipeline",
        "models",
        "data/denseface",
        "data/predictions",
        "dvc.yaml",
        "params.yaml",
        ".dvcignore",
        ".gitignore",
        "pyproject.toml",
    ):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=leave)
        else:
            shutil.copy(source, folder / name)
    (folder / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(ROOT / ".dvc" / name, folder / ".dvc" / name)
    run(folder, *GIT, "init", "-q")
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["corpus"]["size"] = size
    for experiment in params["experiments"].values():
        experiment["epochs"] = epochs
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def try_run(
    folder: Path, *command: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment in a project's folder, whatever its exit status."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    whole = {**os.environ, "PATH": path, "PYTHONPATH": str(folder), **(env or {})}
    return subprocess.run(
        command, cwd=folder, env=whole, capture_output=True, text=True, timeout=1200, check=False
    )


def run(folder: Path, *command: str, env: Mapping[str, str] | None = None) -> str:
    """Run a command that must succeed and return what it printed."""
    result = try_run(folder, *command, env=env)
    assert result.returncode == 0, f"{command}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    return result.stdout


def repro(folder: Path, *arguments: str) -> list[str]:
    """Run `dvc repro` and return the names of the stages whose commands really ran."""
    return re.findall(r"Running stage '([^']+)'", run(folder, "dvc", "repro", *arguments))


def change(folder: Path, key: str, value: object) -> None:
    """Change one key of params.yaml, given with dots."""
    file = folder / "params.yaml"
    params = yaml.safe_load(file.read_text())
    *parents, last = key.split(".")
    node = params
    for parent in parents:
        node = node[parent]
    node[last] = value
    file.write_text(yaml.safe_dump(params, sort_keys=False))


def digests(folder: Path, *patterns: str) -> dict[str, str]:
    """Return path -> sha256 of the files that match."""
    files = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
    assert files
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
