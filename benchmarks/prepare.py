"""How fast a manifest is prepared, and in how much memory: ``python benchmarks/prepare.py``.

Writes an owner's tree of the mosei layout (transcripts, a table of labels, words with times in a csd) and one
of a plain folder, each with 10,000 and 100,000 rows; the media are sparse files that claim 1 MiB a video and
are only looked for, never read. Every measurement is a process of its own. Prints a table in Markdown: rows a
second of prepare, of reading the manifest again, and the peak resident memory of each.
"""

from __future__ import annotations

import argparse
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
SEGMENTS = 50  # rows a video


def media(path: Path) -> None:
    """Write a sparse file of 1 MiB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(2**20)


def write_mosei(root: Path, rows: int) -> None:
    """Write transcripts, labels, words and media of ``rows`` segments."""
    texts = root / "Transcript/Segmented/Combined"
    texts.mkdir(parents=True)
    (root / "Labels").mkdir()
    with (
        (root / "Labels/labels.csv").open("w") as labels,
        h5py.File(root / "Transcript/CMU_MOSEI_TimestampedWords.csd", "w") as words,
    ):
        labels.write("video,start,end,sentiment,split\n")
        times = np.arange(SEGMENTS * 6)[:, None] / 3 + np.array([0.0, 0.3])
        tokens = np.array([[b"said"]] * len(times))
        for number in range(rows // SEGMENTS):
            video = f"v{number:05d}"
            lines = []
            for segment in range(SEGMENTS):
                start, end = segment * 2.0, segment * 2 + 1.9
                lines.append(f"{video}___{segment}___{start}___{end}___what somebody said in {segment}")
                labels.write(f"{video},{start},{end},{segment % 7 - 3},train\n")
            (texts / f"{video}.txt").write_text("\n".join(lines) + "\n")
            words[f"words/data/{video}/intervals"], words[f"words/data/{video}/features"] = times, tokens
            media(root / f"Videos/Full/Combined/{video}.mp4")
            media(root / f"Audio/Full/WAV_16000/{video}.wav")


def write_folder(root: Path, rows: int) -> None:
    """Write a table of ``rows`` clips, each a file."""
    (root / "clips").mkdir(parents=True)
    with (root / "samples.csv").open("w") as table:
        table.write("id,video_path,text,speaker,split,label\n")
        for number in range(rows):
            name = f"clips/{number // 1000:03d}/{number:06d}.mp4"
            table.write(f"s{number:06d},{name},what somebody said in {number},p{number % 97},train,happy\n")
            media(root / name)


WRITERS = {"mosei": write_mosei, "folder": write_folder}


def measure(what: str, loader: str, root: Path, out: Path) -> None:
    """Print seconds, those of the processor, and peak MiB of one step, in a process of its own."""
    from pipeline.data.datasets import base
    from pipeline.data.manifest import iter_manifest
    from pipeline.data.preparation import prepare

    owner = base.find(loader)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, start_cpu = time.perf_counter(), time.process_time()
    if what == "prepare":
        prepare(loader, owner(owner.Settings(), root), out)
    else:
        assert sum(1 for _ in iter_manifest(out / f"{loader}.csv"))
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(seconds, cpu, before / 1024, after / 1024)


def main() -> None:
    """Write the trees, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        sys.path.insert(0, str(REPOSITORY))
        what, loader, root, out = given.measure
        measure(what, loader, Path(root), Path(out))
        return
    print(f"{platform.machine()}, Python {platform.python_version()}\n")
    print("| layout | rows | step | s | processor, s | rows/s | peak RSS, MiB | of them before the step |")
    print("|---|---:|---|---:|---:|---:|---:|---:|")
    for loader, write in WRITERS.items():
        for rows in given.rows:
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder) / "tree"
                write(root, rows)
                for what in ("prepare", "read"):
                    command = [sys.executable, __file__, "--measure", what, loader, str(root), folder]
                    done = subprocess.run(command, check=True, capture_output=True, text=True)
                    seconds, cpu, before, peak = map(float, done.stdout.split())
                    print(
                        f"| {loader} | {rows:,} | {what} | {seconds:.1f} | {cpu:.1f} | {rows / seconds:,.0f} | "
                        f"{peak:.0f} | {before:.0f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
