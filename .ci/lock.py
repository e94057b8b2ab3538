"""Write requirements.lock: what pip resolves pyproject.toml and its dev tools to, at exact versions.

Run it by the oldest Python. What only newer ones need, such as parts of the standard library that they no longer have,
is added with a marker.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

NEWEST = "3.14"  # that pyproject.toml allows
NEWER = r'^([A-Za-z0-9_.-]+);? *\(?[^;]*\)?;? *python_version *>= *["\'](3\.1[2-9])["\'] *$'
PLATFORM = ("--platform", "manylinux_2_28_x86_64", "--platform", "manylinux_2_17_x86_64")
ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Resolve without installing and write the lock."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        subprocess.run([*pip, "--report", str(report), f"{ROOT}[dev]"], check=True)
        items = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    pins = [pin(item) for item in items if item["name"] != "lacuna"]
    pins += newer_pins([line for item in items for line in item.get("requires_dist", ())], dict(pins))
    head = "# Every package at its exact version. Written by .ci/lock.py; read by setup.sh.\n"
    (ROOT / "requirements.lock").write_text(
        head + "".join(f"{name}=={version}\n" for name, version in sorted(pins))
    )


def pin(item: dict[str, str]) -> tuple[str, str]:
    """Return name and version of a package, without local builds such as +cpu."""
    return item["name"].lower().replace("_", "-"), item["version"].split("+")[0]


def newer_pins(requirements: list[str], pins: dict[str, str]) -> list[tuple[str, str]]:
    """Return what newer Pythons need besides, the version with a marker."""
    found = {}
    for name, since in sorted(set(re.findall(NEWER, "\n".join(requirements), re.MULTILINE))):
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.json"
            elsewhere = ["--target", folder, "--python-version", NEWEST, "--only-binary", ":all:", *PLATFORM]
            subprocess.run([*pip, *elsewhere, "--report", str(report), name], check=True)
            items = [item["metadata"] for item in json.loads(report.read_text())["install"]]
        for one, version in map(pin, items):
            if one not in pins:
                found[one] = f'{version}; python_version >= "{since}"'
    return sorted(found.items())


if __name__ == "__main__":
    main()
