"""Write requirements.lock: what pip resolves pyproject.toml and its dev tools to, at exact versions."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Resolve without installing and write the lock."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        subprocess.run([*pip, "--report", str(report), f"{ROOT}[dev]"], check=True)
        items = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    pins = sorted(
        (
            item["name"].lower().replace("_", "-"),
            item["version"].split("+")[0],
        )  # no local builds such as +cpu
        for item in items
        if item["name"] != "lacuna"
    )
    head = "# Every package at its exact version. Written by .ci/lock.py; read by setup.sh.\n"
    (ROOT / "requirements.lock").write_text(head + "".join(f"{name}=={version}\n" for name, version in pins))


if __name__ == "__main__":
    main()
