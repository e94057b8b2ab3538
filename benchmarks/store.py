"""The feature store: memory of a growing corpus, what one clip more costs, reading, and compression.

    python benchmarks/store.py [--clips 1000 10000] [--workers 2]

Prints, for openSMILE's low-level descriptors of half-second clips (harmonics of a wandering pitch with noise, each
its own):

- stage: peak resident memory of the stage's process and of its largest worker, and seconds, at each size.
  Aim: flat.
- one more: seconds of the whole command when one clip is added to the smallest size, when nothing is added, and
  of a corpus of just that clip. Aim: the one clip's cost plus at most 2 s.
- reading: GB/s of the largest store, all at once and sample by sample, beside a plain read of as many bytes, from
  the page cache. The values are compared, too.
- compression: bytes, seconds to write and GB/s to read the same values with HDF5's filters.

Takes some minutes; needs about 2 GB of disk for 10,000 clips.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from pipeline.data.manifest import Sample, write_manifest
from pipeline.data.store import FeatureStore
from pipeline.extraction.dataset import extract
from pipeline.extraction.extractors import base

RATE = 16_000
LENGTH_S = 0.5
FILTERS = {
    "none": {},
    "lzf": {"compression": "lzf"},
    "lzf + shuffle": {"compression": "lzf", "shuffle": True},
    "gzip 1 + shuffle": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
    "gzip 4 + shuffle": {"compression": "gzip", "compression_opts": 4, "shuffle": True},
}


def main() -> None:
    """Measure and print everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--stage", nargs=2, metavar=("FOLDER", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        stage(Path(options.stage[0]), int(options.stage[1]), options.workers)
        return
    sizes = sorted(options.clips)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_clips(folder / "media", sizes[-1] + 1)

        def run(where: str, count: int) -> dict[str, float]:
            command = [sys.executable, __file__, "--workers", str(options.workers)]
            begin = time.perf_counter()
            done = subprocess.run(
                [*command, "--stage", str(folder / where), str(count)], check=True, stdout=subprocess.PIPE
            )
            return json.loads(done.stdout) | {"command_s": time.perf_counter() - begin}

        print(f"stage, opensmile lld, {LENGTH_S} s a clip, {options.workers} workers")
        for size in sizes:
            found = run(str(size), size)
            print(
                f"  {size:6} clips: {found['stage_mib']:.0f} MiB the stage, {found['worker_mib']:.0f} MiB its "
                f"largest worker, {found['command_s']:.1f} s"
            )
        least = sizes[0]
        nothing = min(run(str(least), least)["command_s"] for _ in range(3))
        more = run(str(least), least + 1)["command_s"]
        single = run("single", 1)["command_s"]
        print(
            f"one more than {least}: {more:.1f} s; nothing new: {nothing:.1f} s; one clip alone: {single:.1f} s"
        )
        store = folder / str(sizes[-1]) / "audio.h5"
        values = reading(store)
        compression(values, folder / "filtered.h5")


def make_clips(folder: Path, count: int) -> None:
    """Write wav files of half a second: harmonics of a wandering pitch, and noise; each its own."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    times = np.arange(int(LENGTH_S * RATE)) / RATE
    for index in range(count):
        pitch = generator.uniform(90, 300) * (1 + 0.1 * np.sin(2 * np.pi * generator.uniform(1, 4) * times))
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        sound = sum(np.sin(order * phase) / order for order in range(1, 9))
        sound = 0.2 * sound + 0.02 * generator.normal(size=len(times))
        with wave.open(str(folder / f"{index:05d}.wav"), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())


def stage(folder: Path, count: int, workers: int) -> None:
    """Extract the first clips, with results kept in the folder; print peak memory as JSON."""
    folder.mkdir(exist_ok=True)
    manifest = folder / "manifest.csv"
    write_manifest(manifest, [Sample(id=f"{i:05d}", audio_path=f"{i:05d}.wav") for i in range(count)])
    extract(
        dataset="benchmark",
        modality="audio",
        manifest=manifest,
        root=folder.parent / "media",
        extractor="opensmile",
        settings=base.find("audio", "opensmile").Settings(level="lld"),
        assets=folder,
        store=folder / "audio.h5",
        cache=folder / "cache",
        workers=workers,
        progress=False,
    )
    peaks = (
        resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(json.dumps(dict(zip(("stage_mib", "worker_mib"), peaks, strict=True))))


def reading(path: Path) -> np.ndarray:
    """Print how quickly a store is read, and return its values."""
    with FeatureStore(path) as store:
        values, _ = store.read_all()
        single = best(lambda: [store.read(index) for index in range(len(store))], 2)
        whole = best(store.read_all)
        rows = best(lambda: store.read_rows(0, len(values)))
        assert np.array_equal(np.concatenate([sequence.values for sequence in store]), values)
    plain = path.with_name("plain.bin")
    values.tofile(plain)
    buffer = bytearray(values.nbytes)

    def read_plain() -> None:
        with plain.open("rb", buffering=0) as file:
            file.readinto(buffer)

    scale = values.nbytes / 1e9
    print(f"reading {scale:.2f} GB of values from the page cache, GB/s:")
    print(f"  plain read into a buffer         {scale / best(read_plain):6.2f}")
    print(f"  numpy.fromfile                   {scale / best(lambda: np.fromfile(plain, np.float32)):6.2f}")
    print(f"  the store, rows unchecked        {scale / rows:6.2f}")
    print(f"  the store, all, checked          {scale / whole:6.2f}")
    print(f"  the store, sample by sample      {scale / single:6.2f}")
    plain.unlink()
    return values


def compression(values: np.ndarray, path: Path) -> None:
    """Print what HDF5's filters cost and save."""
    chunks = (max(1, min(1024, 262_144 // values.shape[1])), values.shape[1])
    scale = values.nbytes / 1e9
    print("compression       share of the bytes   s to write   GB/s read")
    for name, options in FILTERS.items():

        def write(options: dict[str, object] = options) -> None:
            with h5py.File(path, "w", libver="latest") as file:
                file.create_dataset("values", data=values, chunks=chunks, **options)

        def read() -> None:
            with h5py.File(path, "r") as file:
                file["values"][:]

        written_s = best(write, 1)
        size = path.stat().st_size / values.nbytes
        print(f"  {name:18} {size:15.2f} {written_s:12.2f} {scale / best(read):11.2f}")
    path.unlink()


def best(work: Callable[[], object], times: int = 5) -> float:
    """Return the seconds of the quickest of several runs."""
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin)
    return min(taken)


if __name__ == "__main__":
    main()
