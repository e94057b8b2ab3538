"""Where the time of the main job goes: ``python benchmarks/demo.py [FOLDER]``.

Copies the project (FOLDER, or the one that this file is in) without its data to a temporary folder and runs `dvc repro`
there, so that everything is fetched and made anew, in an environment whose set-up is done. Prints a table in Markdown:
of every stage the CPU seconds before its own work begins (Python and libraries load, params.yaml is checked), the CPU
seconds of all its processes, and the wall time of its work; then the sums, and what DVC itself took. CPU seconds say
nearly the same on a machine that others use; wall time does so alone on it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
BYTES = ("data/features/*/*.h5", "data/masks/*.h5", "data/runs/*/*.safetensors", "data/results/*/*")


def copy(source: Path, folder: Path) -> None:
    """Copy the files that git knows: the project without what is made."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=source, check=True, capture_output=True, encoding="utf-8"
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (source / name).is_file():  # not removed since
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, folder / name)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)


def digest(folder: Path) -> str:
    """Return one checksum of features, masks, weights and results."""
    whole = hashlib.sha256()
    for path in sorted(path for pattern in BYTES for path in folder.glob(pattern)):
        whole.update(path.relative_to(folder).as_posix().encode() + b"\0")
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()[:16]


def main() -> None:
    """Run the main job and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("project", nargs="?", type=Path, default=HERE, metavar="FOLDER")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="make it here, and keep it")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="lacuna-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        copy(options.project.resolve(), folder)
        times = folder / "times.jsonl"
        environment = {**os.environ, "PYTHONPATH": str(folder), "LACUNA_TIMES": str(times)}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        began, load = time.time(), os.getloadavg()[0]
        subprocess.run(["dvc", "repro", "-q"], cwd=folder, env=environment, check=True)
        wall = time.time() - began
        rows = [json.loads(line) for line in times.read_text().splitlines()]
        report(rows, wall, load)
        print(f"\nbytes of features, masks, weights and results: {digest(folder)}")
    finally:
        if options.keep is None:
            shutil.rmtree(folder)


def report(rows: list[dict[str, float | str]], wall: float, load: float) -> None:
    """Print the table."""
    print("| stage | start, CPU s | whole, CPU s | work, wall s |\n| --- | --- | --- | --- |")
    for row in rows:
        cpu = float(row["user_s"]) + float(row["system_s"])
        print(f"| {row['stage']} | {row['start_cpu_s']:.2f} | {cpu:.1f} | {row['work_wall_s']:.1f} |")
    start = sum(float(row["start_cpu_s"]) for row in rows)
    stages = sum(float(row["user_s"]) + float(row["system_s"]) for row in rows)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    whole = used.ru_utime + used.ru_stime
    print(f"\n{len(rows)} stages: {wall:.0f} s of wall time, {whole:.0f} CPU s ({used.ru_utime:.0f} user)")
    print(f"of these {start:.0f} before the stages' own work, {whole - stages:.0f} in DVC itself")
    print(f"load before the start: {load:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
