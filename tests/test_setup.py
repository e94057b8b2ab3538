"""setup.sh: it leaves an environment alone, and makes one anew that was moved, copied or made by another Python."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.project import ROOT

STUB = """#!/bin/sh
case "$1 $2" in
  "-m venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python
    echo "command = $0 -m venv $PWD/.venv" > .venv/pyvenv.cfg ;;
  "-m pip") echo "pip $*" >> calls.log ;;
  *) exit STATUS ;;
esac
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with setup.sh, a stub of Python, and every system library."""
    folder = tmp_path / "a folder"
    (folder / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "setup.sh", folder)
    libraries = "libGL.so.1 libEGL.so.1 libGLESv2.so.2 libglib-2.0.so.0"
    for name, text in (
        ("python3", STUB.replace("STATUS", "0")),
        ("ldconfig", f"#!/bin/sh\necho '{libraries}'\n"),
    ):
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    return folder


def set_up(folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PATH": f"{folder / 'bin'}:/usr/bin:/bin", **more}
    return subprocess.run(
        ["bash", str(folder / "setup.sh")], env=env, capture_output=True, text=True, check=False
    )


def test_an_environment_stays_until_it_is_moved_or_copied(folder: Path) -> None:
    assert set_up(folder).returncode == 0
    (folder / ".venv/mark").touch()
    again = set_up(folder)
    assert (again.returncode, "anew" in again.stdout) == (0, False)
    assert (folder / ".venv/mark").exists()
    copied = folder.parent / "copied"
    shutil.copytree(folder, copied)
    anew = set_up(copied)
    assert (anew.returncode, "making it anew" in anew.stdout) == (0, True), anew.stderr
    assert not (copied / ".venv/mark").exists()
    assert str(copied) in (copied / ".venv/pyvenv.cfg").read_text()
    assert (folder / ".venv/mark").exists()


def test_without_a_python_that_fits_it_says_so(folder: Path) -> None:
    old = folder / "bin/old"
    old.write_text(STUB.replace("STATUS", "1"))
    old.chmod(0o755)
    failed = set_up(folder, PYTHON=str(old).replace(" ", "*"))
    assert failed.returncode == 1
    assert "Python 3.11 to 3.14" in failed.stderr
