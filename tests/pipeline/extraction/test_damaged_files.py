"""Three hundred damaged and odd files go through the extraction of sound and of faces: none stops or slows it.

Every one ends as ok, missing or failed, and with a reason unless it is ok; no worker dies, hangs, or keeps
memory or open files.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
import torch

from pipeline.data.manifest import Sample, write_manifest
from pipeline.data.store import FeatureStore, Status
from pipeline.extraction.dataset import Summary, extract
from pipeline.extraction.extractors import base
from pipeline.extraction.kept_clips import RECORD
from tests import clips
from tests.encoders import write_speech_encoder

COUNT = 300
RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000)
LAYOUTS = ("mono", "stereo", "2.1", "4.0", "5.0", "5.1")
LONG_S = 600


def faces(recording: Path) -> Any:
    """Return (12, 120, 160, 3) uint8 pictures of a real face, half a second of them."""
    with av.open(str(recording)) as container:
        frames = [
            frame.to_ndarray(format="rgb24", width=160, height=120) for frame in container.decode(video=0)
        ]
    return np.stack(frames[10:22])


def write_lossless(path: Path, height: int, width: int, seconds: int, rate: int) -> Path:
    """Write an mkv of grey pictures of any size, without loss, and a tone."""
    with av.open(str(path), "w", format="matroska") as container:
        picture = container.add_stream("rawvideo", rate=rate)
        picture.width, picture.height, picture.pix_fmt = width, height, "gray"
        sound = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for index in range(seconds * rate):
            frame = av.VideoFrame.from_ndarray(np.full((height, width), index % 256, np.uint8), format="gray")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        samples = np.round(clips.tone(seconds, 16_000) * 32767).astype(np.int16)
        for start in range(0, len(samples), 16_000):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + 16_000], "s16", "mono")
            frame.sample_rate, frame.time_base, frame.pts = 16_000, Fraction(1, 16_000), start
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def make(folder: Path, recording: Path) -> list[Path]:
    """Write the files; each name begins with the kind of its damage. The long one is the first."""
    folder.mkdir()
    pixels = faces(recording)
    made = [write_lossless(folder / "long.mkv", 16, 16, LONG_S, 2)]
    made += [write_lossless(folder / f"tiny-{h}x{w}.mkv", h, w, 1, 8) for h, w in ((1, 1), (1, 64), (64, 1))]

    good = [
        clips.write_clip(folder / "good.mp4", seconds=0.5, pixels=pixels),
        clips.write_clip(folder / "good-indexed.mp4", seconds=0.5, pixels=pixels, index_first=True),
        clips.write_clip(folder / "good.mkv", seconds=0.5, pixels=pixels),
        clips.write_clip(folder / "good.ts", seconds=0.5, pixels=pixels),
        clips.write_clip(folder / "good.wav", seconds=0.5),
        clips.write_clip(folder / "good.mp3", seconds=0.5),
    ]
    made += good
    for rate in RATES:
        made.append(clips.write_clip(folder / f"rate-{rate}.wav", seconds=0.3, sound_rate=rate))
        made.append(clips.write_clip(folder / f"rate-{rate}.mp4", seconds=0.3, sound_rate=rate))
    for layout in LAYOUTS:
        for suffix in ("mkv", "mp4"):
            path = folder / f"layout-{layout}.{suffix}"
            made.append(clips.write_clip(path, seconds=0.3, sound_rate=48_000, layout=layout))
    generator = np.random.default_rng(0)
    for index in range(6):
        times = np.cumsum(generator.choice([0.005, 0.02, 0.04, 0.2], 12)).tolist()
        path = folder / f"varying-{index}.mp4"
        made.append(clips.write_clip(path, seconds=0.5, picture_times_s=[0.0, *times[:-1]], pixels=pixels))
    for degrees in (90, 180, 270):
        path = clips.write_clip(folder / f"rotated-{degrees}.mp4", seconds=0.5, pixels=pixels)
        made.append(clips.turn(path, degrees))
    made.append(clips.mirror(clips.write_clip(folder / "mirrored.mp4", seconds=0.5, pixels=pixels)))
    for pixel in (Fraction(2, 3), Fraction(12, 11)):
        path = folder / f"squeezed-{pixel.numerator}to{pixel.denominator}.mkv"
        made.append(clips.write_clip(path, seconds=0.5, pixels=pixels, pixel=pixel))
    for kind, codecs in (("matroska", ("libx264", "aac")), ("avi", ("mpeg4", "libmp3lame"))):
        apart = folder.with_name(f"pieces-{kind}")
        apart.mkdir()
        whole = clips.write_whole(apart / f"whole.{kind}", *codecs, kind)
        for number, path in enumerate(clips.segments(whole, apart, kind)):
            made.append(path.rename(folder / f"piece-{number}.{kind}"))
    made.append(clips.with_cover(folder / "cover.mp3", pixels[0]))
    (folder / "bare.mp3").unlink()
    for suffix in ("mp4", "mkv", "ts"):
        made.append(clips.write_clip(folder / f"mute.{suffix}", seconds=0.5, sound=False, pixels=pixels))
        made.append(clips.write_clip(folder / f"blind.{suffix}", seconds=0.5, picture=False))
    suffixes = ("mp4", "mkv", "ts", "wav", "mp3", "avi")
    for suffix in suffixes:
        made.append(folder / f"empty.{suffix}")
        made[-1].touch()
        made.append(folder / f"noise.{suffix}")
        made[-1].write_bytes(generator.bytes(3000))
    made.append(folder / "page.mp4")
    made[-1].write_text("<html>404: there is no such clip</html>", encoding="utf-8")
    for path in good:
        for suffix in suffixes:
            if path.suffix != f".{suffix}":
                made.append(folder / f"renamed-{path.stem}-{path.suffix[1:]}.{suffix}")
                made[-1].write_bytes(
                    path.read_bytes() + suffix.encode()
                )  # else the result would be known already
    sources = [*good, recording]
    index = 0
    while len(made) < COUNT:
        source = sources[index % len(sources)]
        data = bytearray(source.read_bytes())
        kind = ("cut", "flipped")[index // len(sources) % 2]
        if kind == "cut":
            data = data[: generator.integers(1, len(data))]
        else:
            for place in generator.integers(0, len(data), int(10 ** generator.uniform(0, 2.5))):
                data[place] ^= 1 << int(generator.integers(0, 8))
        made.append(folder / f"{kind}-{index}{source.suffix}")
        made[-1].write_bytes(data)
        index += 1
    return made


@contextmanager
def watching(cache: Path) -> Iterator[list[tuple[int, int, int, int]]]:
    """Note of every process under this one, many times a second: results kept by all, id, memory, open files."""
    seen: list[tuple[int, int, int, int]] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            kept = sum(path.stat().st_size // RECORD.size for path in cache.rglob("*.index"))
            for child in psutil.Process().children(recursive=True):
                try:
                    seen.append((kept, child.pid, child.memory_info().rss, child.num_fds()))
                except psutil.Error:
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def check_steady(seen: list[tuple[int, int, int, int]]) -> None:
    """Check that the last third of the files took no worker more memory and files than the second."""
    before = min(kept for kept, *_ in seen)
    thirds: dict[int, dict[int, list[tuple[int, int]]]] = {}
    for kept, process, resident, files in seen:
        third = (kept - before) * 3 // COUNT
        thirds.setdefault(process, {}).setdefault(third, []).append((resident, files))
    workers = [notes for notes in thirds.values() if 1 in notes and 2 in notes]
    assert len(workers) >= 2, "no worker was seen at work"
    for notes in workers:
        second, last = (np.array(notes[third]).max(axis=0) for third in (1, 2))
        assert last[0] - second[0] < 48 * 2**20, "memory grows"
        assert last[1] - second[1] < 8, "files stay open"


SAMPLE = (  # one of each kind
    *("tiny-1x1.mkv", "tiny-64x1.mkv", "good.mp4", "good.ts", "good.mp3", "rate-8000.wav", "rate-96000.mp4"),
    *("layout-5.1.mkv", "varying-0.mp4", "rotated-90.mp4", "mute.mp4", "blind.ts", "empty.mp4", "noise.avi"),
    *(
        "page.mp4",
        "renamed-good-mkv.mp3",
        "mirrored.mp4",
        "squeezed-2to3.mkv",
        "piece-1.matroska",
        "cover.mp3",
    ),
)


def write_weights(folder: Path) -> dict[str, dict[str, Any]]:
    """Write random weights of the extractors that have no public ones; return their settings."""
    from safetensors.torch import save_file

    from pipeline.extraction.extractors.video._densenet import DenseNet

    network = DenseNet()
    network.initialise(torch.Generator().manual_seed(0))
    folder.mkdir()
    save_file(network.state_dict(), folder / "denseface.safetensors")
    return {
        "denseface": {"weights": folder / "denseface.safetensors", "frame_rate_hz": 2.0},
        "fer": {"frame_rate_hz": 2.0},
        "wav2vec2": {"model": write_speech_encoder(folder / "encoder")},
    }


@pytest.mark.slow
def test_nor_do_a_few_of_them_stop_the_other_extractors(
    assets: Callable[[str], Path], tmp_path: Path
) -> None:
    made = make(tmp_path / "media", assets("cremad") / "1001_DFA_HAP_XX.flv")
    names = [path.name for path in made]
    chosen = [*SAMPLE]
    for kind in ("cut", "flipped"):  # spread over the kinds of their sources
        chosen += [name for name in names if name.startswith(kind)][::25][:4]
    assert set(chosen) <= set(names) and len(set(chosen)) == len(chosen) >= 20
    write_manifest(tmp_path / "m.csv", [Sample(id=n, video_path=n, audio_path=n) for n in chosen])
    settings = write_weights(tmp_path / "weights")
    for modality, name in (
        ("audio", "covarep"),
        ("audio", "wav2vec2"),
        ("video", "fer"),
        ("video", "denseface"),
    ):
        extract(
            dataset="damaged",
            modality=modality,
            manifest=tmp_path / "m.csv",
            root=tmp_path / "media",
            extractor=name,
            settings=base.find(modality, name).Settings(**settings.get(name, {})),
            assets=tmp_path / "none" if name in ("covarep", "wav2vec2") else assets(name),
            store=tmp_path / f"{name}.h5",
            cache=tmp_path / "cache",
            workers=1,
            max_failed_share=1.0,
            progress=False,
        )
        with FeatureStore(tmp_path / f"{name}.h5") as store:
            ends = dict(
                zip(store.ids, zip(store.status, store.reasons, store.lengths, strict=True), strict=True)
            )
        for sample, (status, reason, length) in ends.items():
            assert (status == Status.OK) == (length > 0) == (reason == ""), sample
            assert "worker processes died" not in reason, sample
            assert not reason.startswith(("KeyError", "TypeError", "AttributeError", "IndexError")), reason
        right = {"good.mp4", "good.ts", "varying-0.mp4"} | (
            {"mute.mp4"} if modality == "video" else {"blind.ts"}
        )
        assert {ends[sample][0] for sample in right} == {Status.OK}
        absent = {"blind.ts", "good.mp3"} if modality == "video" else {"mute.mp4"}
        assert {ends[sample][0] for sample in absent} == {Status.MISSING}
        assert {ends[sample][0] for sample in ("empty.mp4", "page.mp4")} == {Status.FAILED}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_none_of_300_damaged_files_stops_the_work(assets: Callable[[str], Path], tmp_path: Path) -> None:
    recording = assets("cremad") / "1001_DFA_HAP_XX.flv"
    made = make(tmp_path / "media", recording)
    assert len(made) == COUNT
    manifest = tmp_path / "manifest.csv"
    rows = [Sample(id=path.name, video_path=path.name, audio_path=path.name) for path in made]
    ends: dict[str, dict[str, tuple[Status, str, int]]] = {}
    settings = {"facelandmarker": {"frame_rate_hz": 2.0}, "opensmile": {"level": "lld"}}
    for modality, name in (("audio", "opensmile"), ("audio", "librosa"), ("video", "facelandmarker")):
        chosen = [row for row in rows if name != "librosa" or row.id != "long.mkv"]

        def run(given: list[Sample], modality: str = modality, name: str = name) -> Summary:
            write_manifest(manifest, given)
            return extract(
                dataset="damaged",
                modality=modality,
                manifest=manifest,
                root=tmp_path / "media",
                extractor=name,
                settings=base.find(modality, name).Settings(**settings.get(name, {})),
                assets=assets(name),
                store=tmp_path / f"{name}.h5",
                cache=tmp_path / "cache",
                workers=2,
                max_failed_share=1.0,
                progress=False,
            )

        begin = time.monotonic()
        if name != "librosa":
            run(rows[:1])  # the long one by itself: what it needs would hide what the others keep
        with watching(tmp_path / "cache") as seen:
            summary = run(chosen)
        print(f"{name}: {summary}; {time.monotonic() - begin:.1f} s")  # noqa: T201 - shown by pytest -s
        check_steady(seen)
        assert summary.ok + summary.missing + summary.failed == len(chosen)
        with FeatureStore(tmp_path / f"{name}.h5") as store:
            ends[name] = {
                sample: (Status(int(status)), reason, int(length))
                for sample, status, reason, length in zip(
                    store.ids, store.status, store.reasons, store.lengths, strict=True
                )
            }
        for sample, (status, reason, length) in ends[name].items():
            assert (status is Status.OK) == (length > 0) == (reason == ""), sample
            assert "worker processes died" not in reason, sample
            assert not reason.startswith(("KeyError", "TypeError", "AttributeError", "IndexError")), reason

    def kind(name: str, *prefixes: str) -> Counter[Status]:
        return Counter(status for sample, (status, _, _) in ends[name].items() if sample.startswith(prefixes))

    for name in ("opensmile", "librosa"):
        heard = kind(name, "good", "rate", "layout", "varying", "rotated", "tiny", "blind", "renamed")
        heard += kind(name, "mirrored", "squeezed", "piece", "cover")
        assert set(heard) == {Status.OK}, [k for k in ends[name].items() if k[1][0] is not Status.OK][:9]
        assert kind(name, "mute") == {Status.MISSING: 3}
        assert kind(name, "empty", "page") == {Status.FAILED: 7}
        assert set(kind(name, "cut")) >= {Status.OK, Status.FAILED}
    assert ends["opensmile"]["long.mkv"][0] is Status.OK
    assert abs(ends["opensmile"]["long.mkv"][2] - 100 * LONG_S) < 10
    assert set(kind("facelandmarker", "good.mp4", "good.mkv", "good.ts", "varying", "mute")) == {Status.OK}
    assert ends["facelandmarker"]["rotated-180.mp4"][0] in (Status.OK, Status.MISSING)
    assert kind("facelandmarker", "mirrored", "squeezed") == {Status.OK: 3}
    assert kind("facelandmarker", "piece") == {Status.MISSING: 6}  # grey pictures
    assert kind("facelandmarker", "cover") == {Status.MISSING: 1}  # a cover is no video
    assert kind("facelandmarker", "tiny", "long") == {Status.MISSING: 4}
    assert kind("facelandmarker", "blind", "good.wav", "good.mp3") == {Status.MISSING: 5}
    assert kind("facelandmarker", "empty", "page") == {Status.FAILED: 7}
    assert not list(tmp_path.rglob("*.part"))
