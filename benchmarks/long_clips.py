"""What a long clip costs: memory and time of each extractor on half an hour beside a minute.

    python benchmarks/long_clips.py [--clips FOLDER] [--assets data/assets] [NAME ...] [--minutes 1 30]

The long clip is one file of FOLDER again and again, its packets copied with later times (nothing is encoded anew), or a
transcript of random words at 2.5 words a second. Each measurement has a process of its own, on one thread, in which the
extractor has been made ready and has seen a few seconds before. Printed are:

- s: wall time of ``extract``, and of the processor; both also a minute of clip: equal ones mean "in proportion";
- MiB: how far the peak of the process' resident memory lies over what it held before (Linux' VmHWM, reset before);
- features: what the result itself weighs, which no streaming saves: the store takes a clip's rows at once.

Weights that no pinned package has are random, as in benchmarks/extract.py: wav2vec 2.0 with 4 layers, DenseNet-BC,
word2vec of its words. Openface's program is a stand-in that writes one row again and again, so that its time and
memory are those of this side: pictures written to the disk, a csv read. FOLDER holds videos with a talking face, such
as data/raw/demo.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

from extract import MODALITY, WORDS, settings_of  # sets the threads of all libraries to one, before they load

from pipeline.extraction.clip import Clip
from pipeline.extraction.engines import closing
from pipeline.extraction.extractors import base

ALL = {**MODALITY, "openface": "video"}
WORDS_A_MINUTE = 150


def main() -> None:
    """Print a line for each extractor and length."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which extractors: {', '.join(ALL)}")
    parser.add_argument("--clips", type=Path, default=Path("data/raw/demo"))
    parser.add_argument("--assets", type=Path, default=Path("data/assets"))
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 30.0])
    options = parser.parse_args()
    print(
        f"{'':15} {'minutes':>7} {'s':>8} {'s/min':>7} {'cpu s':>8} {'s/min':>7} {'MiB':>7} {'features':>9}"
    )
    with tempfile.TemporaryDirectory(prefix="lacuna-long-") as temporary:
        folder = Path(temporary)
        source = next(path for path in sorted(options.clips.rglob("*.mp4")))
        videos = {
            minutes: repeat(source, folder / f"{minutes:g}.mp4", minutes * 60) for minutes in options.minutes
        }
        for name in options.names or ALL:
            for minutes, video in videos.items():
                given = (
                    name,
                    options.assets.resolve(),
                    video,
                    source,
                    minutes,
                    folder / f"{name}-{minutes:g}",
                )
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    wall_s, cpu_s, peak, size = pool.apply(measure, given)
                print(
                    f"{name:15} {minutes:7g} {wall_s:8.2f} {wall_s / minutes:7.2f} {cpu_s:8.2f} "
                    f"{cpu_s / minutes:7.2f} {peak:7.0f} {size:9.1f}",
                    flush=True,
                )


def repeat(source: Path, target: Path, seconds: float) -> Path:
    """Write a file's packets one after another until it is so long."""
    import av

    with av.open(str(source)) as first, av.open(str(target), "w") as out:
        streams = {
            s.index: out.add_stream_from_template(s) for s in first.streams if s.type in ("video", "audio")
        }
        step_s = Fraction(first.duration, 10**6)
        begin_s = Fraction(0)
        while begin_s < seconds:
            with av.open(str(source)) as again:
                for packet in again.demux():
                    if packet.dts is None or packet.stream.index not in streams:
                        continue
                    later = int(begin_s / packet.time_base)
                    packet.pts, packet.dts = packet.pts + later, packet.dts + later
                    packet.stream = streams[packet.stream.index]
                    out.mux(packet)
            begin_s += step_s
    return target


def measure(
    name: str, assets: Path, video: Path, short: Path, minutes: float, folder: Path
) -> tuple[float, float, float, float]:
    """Return wall and processor seconds, the peak of memory in MiB over what was held, and the result's MiB."""
    import numpy as np

    warnings.simplefilter("ignore")
    folder.mkdir()
    if name == "openface":
        settings: dict[str, Any] = {"executable": write_program(folder / "FeatureExtraction")}
    else:
        settings = settings_of(name, folder)
    owner = base.find(ALL[name], name)
    words = np.random.default_rng(0).choice(WORDS, round(WORDS_A_MINUTE * minutes))
    with closing(owner(owner.Settings(**settings), assets / name)) as extractor:
        extractor.prepare()
        extractor.extract(Clip("short", short, short, text="it is not very good"))
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = memory_mib("VmRSS")
        stamps = time.perf_counter(), time.process_time()
        result = extractor.extract(Clip("long", video, video, text=" ".join(words)))
        wall_s, cpu_s = time.perf_counter() - stamps[0], time.process_time() - stamps[1]
        peak = memory_mib("VmHWM") - before
    if not result.flags.any():
        raise SystemExit(f"{name}: {result.reason}")
    return wall_s, cpu_s, peak, (result.values.nbytes + result.times.nbytes + result.flags.nbytes) / 2**20


def write_program(path: Path) -> Path:
    """Write a program that gives every picture of a folder the same row."""
    from pipeline.extraction.importers.openface import COLUMNS

    head = ", ".join(("frame", "face_id", "timestamp", "confidence", "success", *COLUMNS))
    path.write_text(
        f"""#!{sys.executable}
import sys
from pathlib import Path

pictures, results = Path(sys.argv[2]), Path(sys.argv[4])
with (results / "clip.csv").open("w") as file:
    print({head!r}, file=file)
    for number, _ in enumerate(pictures.iterdir(), start=1):
        print(f"{{number}}, 0, {{number / 30:.3f}}, 0.95, 1" + ", 123.456" * {len(COLUMNS)}, file=file)
""",
        encoding="utf-8",
    )
    path.chmod(0o755)
    return path


def memory_mib(field: str) -> float:
    """Return a line of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


if __name__ == "__main__":
    main()
