"""Extraction's cost: the pipeline's time over the bare library's on the same clips; two processes over one.

    python benchmarks/extract.py [--clips FOLDER] [--assets data/assets] [--count 24] [--repeats 3] [NAME ...]

For each extractor, in milliseconds a second of clip:

- bare: wall time of the bare library, by the shortest straight code: decode the whole file with PyAV, give it
  to the library, keep the arrays in memory.
- pipeline: wall time of what a worker does: decode what is used, extract, check, keep the result on the disk.
- ratio: pipeline over bare, the median over the turns; and the same of processor time, which other work on
  the machine disturbs less. Aim: 1.1 or less.
- 1, 2: wall time of whole stages with one and with two worker processes: what twice as many clips take longer,
  so that starting and loading models do not count; gain: the first over the second. Aim: 1.8 or more, on two
  idle cores.

Bare and pipeline run in one process and on one thread, and take turns every few clips, so that a busy machine
slows both alike. Where no pinned package has weights they are random: wav2vec 2.0's base network with 4
layers, DenseNet-BC, word2vec of this file's words. What is bare of covarep, which is no library's, is the
analysis alone. Left out are openface, whose time is that of a program of its own, and import, which reads
what is there. FOLDER holds video files, such as data/raw/demo; without it the six real CREMA-D clips of
data/assets/cremad are repeated. Every copy gets bytes of its own, so that nothing is taken from kept results.
"""

from __future__ import annotations

import os

os.environ |= dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)

import argparse
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from pipeline.data.manifest import Sample, write_manifest
from pipeline.extraction.dataset import extract
from pipeline.extraction.engines import Job, extract_all, keep_all
from pipeline.extraction.extractors import base
from pipeline.extraction.extractors.base import BaseExtractor, Clip
from pipeline.extraction.kept_clips import ResultWriter, keys_of

MODALITY = {
    "bert": "text",
    "glove": "text",
    "word2vec": "text",
    "opensmile": "audio",
    "librosa": "audio",
    "wav2vec2": "audio",
    "covarep": "audio",
    "facelandmarker": "video",
    "facet35": "video",
    "fer": "video",
    "denseface": "video",
}
ALL = tuple(MODALITY)
WORDS = """
the film is not very good but its actors are a joy and nothing about this sad little story can save it from
itself unless you like jackets brothers who lose their farm one after another and music that never stops
""".split()  # noqa: SIM905
TRANSCRIPTS = 1024  # for text: single ones are too quick to be measured
STAGE_S = 10.0  # a stage is given so many clips that one worker is busy for about as long, and twice as many
MOST_CLIPS = 8192
Bare = Callable[[Sequence[Clip]], list[Any]]


def main() -> None:
    """Print a line for each extractor."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which extractors: {', '.join(ALL)}")
    parser.add_argument("--clips", type=Path, help="a folder of video files")
    parser.add_argument("--assets", type=Path, default=Path("data/assets"))
    parser.add_argument("--count", type=int, default=24, help="how many clips")
    parser.add_argument("--repeats", type=int, default=3, help="how many turns")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        source = Source(options.clips or options.assets / "cremad", Path(folder) / "clips")
        clips, seconds = source.clips("video", options.count)
        print(f"{len(clips)} clips, {seconds:.0f} s; milliseconds a second of clip")
        print(f"{'':15} {'bare':>7} {'pipeline':>9} {'ratio of':>13} {'processes':>16}")
        print(f"{'':32} {'wall':>6} {'cpu':>6} {'1':>8} {'2':>7} {'gain':>5}")
        for name in options.names or ALL:
            measure(name, source, options.count, options.assets, options.repeats, Path(folder))


class Source:
    """Clips in any number: transcripts of random words, or copies of a folder's video files."""

    def __init__(self, source: Path, target: Path) -> None:
        kinds = (".mp4", ".flv", ".avi", ".mkv")
        self._files = sorted(path for path in source.rglob("*") if path.suffix in kinds)
        if not self._files:
            raise SystemExit(f"{source}: holds no video files")
        self.folder = target
        target.mkdir()

    def clips(self, modality: str, count: int) -> tuple[list[Clip], float]:
        """Return clips and their seconds; each has bytes of its own, so that no result is kept from another."""
        if modality == "text":
            return transcripts(count)
        clips, seconds = [], 0.0
        for index in range(count):
            files = self._files
            original = files[(index * len(files) // count) if count <= len(files) else index % len(files)]
            path = self.folder / f"{index:04d}-{original.name}"
            shutil.copy(original, path)
            with path.open("ab") as file:
                file.write(index.to_bytes(8, "big"))  # players and decoders pass over it
            with av.open(str(path)) as container:
                seconds += container.duration / 1e6
            clips.append(Clip(path.stem, path, path))
        return clips, seconds


def transcripts(count: int) -> tuple[list[Clip], float]:
    """Return transcripts of 4 to 24 words, and their seconds at three words a second."""
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS, generator.integers(4, 25))) for _ in range(count)]
    clips = [Clip(f"{index:04d}", text=f"{text} {index}") for index, text in enumerate(texts)]
    return clips, sum(len(text.split()) for text in texts) / 3


def measure(name: str, source: Source, count: int, assets: Path, repeats: int, folder: Path) -> None:
    """Measure and print one extractor."""
    modality = MODALITY[name]
    clips, seconds = source.clips(modality, TRANSCRIPTS if modality == "text" else count)
    owner = base.find(MODALITY[name], name)
    settings = owner.Settings(**settings_of(name, folder))
    extractor = owner(settings, assets / name)
    bare = BARE[name](assets / name, extractor)
    job = Job(
        owner.modality, name, settings.model_dump_json(), assets / name, folder / name, len(extractor.columns)
    )
    if owner.batch > 1:
        clips = sorted(clips, key=lambda clip: len(clip.text))  # as the stage does
    portion = max(4, owner.batch)
    bare(clips[:2])  # both sides have loaded their models and compiled their code
    work(extractor, job, clips[:2])
    turns = []
    for _ in range(repeats):
        spent = np.zeros(4)  # wall time of bare and pipeline, processor time of bare and pipeline
        for start in range(0, len(clips), portion):
            part = clips[start : start + portion]
            stamps = [(time.perf_counter(), time.process_time())]
            bare(part)
            stamps.append((time.perf_counter(), time.process_time()))
            work(extractor, job, part)
            stamps.append((time.perf_counter(), time.process_time()))
            spent += np.diff(np.array(stamps), axis=0).T.ravel()
        turns.append(spent)
    bare_s, pipeline_s, bare_cpu_s, pipeline_cpu_s = np.array(turns).T
    extractor.close()
    scale = 1e3 / seconds
    print(
        f"{name:15} {bare_s.min() * scale:7.2f} {pipeline_s.min() * scale:9.2f} "
        f"{np.median(pipeline_s / bare_s):6.2f} {np.median(pipeline_cpu_s / bare_cpu_s):6.2f}",
        end=" ",
        flush=True,
    )
    count = max(len(clips), min(MOST_CLIPS // 2, int(STAGE_S / pipeline_s.min() * len(clips))))
    clips, seconds = source.clips(modality, 2 * count)
    taken = {workers: stage_s(name, settings, clips, assets, folder, workers, repeats) for workers in (1, 2)}
    scale = 2e3 / seconds
    print(f"{taken[1] * scale:8.2f} {taken[2] * scale:7.2f} {taken[1] / taken[2]:5.2f}", flush=True)


def settings_of(name: str, folder: Path) -> dict[str, Any]:
    """Return the settings of an extractor that are not its defaults, with the random weights that it needs."""
    import torch

    torch.manual_seed(0)
    if name == "opensmile":
        return {"level": "lld+delta"}
    if name == "word2vec":
        path = folder / "vectors.txt"
        rows = np.random.default_rng(0).normal(size=(len(WORDS), 300)).round(4)
        lines = [f"{word} {' '.join(map(str, row))}" for word, row in zip(WORDS, rows.tolist(), strict=True)]
        path.write_text("\n".join(lines), encoding="utf-8")
        return {"path": path}
    if name == "wav2vec2":
        from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

        Wav2Vec2Model(Wav2Vec2Config(num_hidden_layers=4)).save_pretrained(folder / "encoder")
        Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder / "encoder")
        return {"model": folder / "encoder"}
    if name == "denseface":
        from safetensors.torch import save_file

        from pipeline.extraction.extractors.video._densenet import DenseNet

        save_file(DenseNet().state_dict(), folder / "denseface.safetensors")
        return {"weights": folder / "denseface.safetensors"}
    return {}


def work(extractor: BaseExtractor[Any], job: Job, clips: list[Clip]) -> None:
    """Do what a worker does with these clips, in files that are new each time, and what the stage does before."""
    keys = keys_of(clips, extractor, "benchmark")
    batch = type(extractor).batch
    with ResultWriter(job.cache) as writer:
        for start in range(0, len(clips), batch):
            part = range(start, min(start + batch, len(clips)))
            given = [(index, keys[index], clips[index]) for index in part]
            for index, unkept in keep_all(writer, given, extract_all(job, extractor, given)):
                if unkept is not None:
                    raise SystemExit(f"{job.extractor}, {clips[index].id}: {unkept.reason}")


def stage_s(
    name: str, settings: Any, clips: list[Clip], assets: Path, folder: Path, workers: int, repeats: int
) -> float:
    """Return by how many seconds a stage over all clips takes longer than one over half of them."""
    root = clips[0].video.parent if clips[0].video else folder
    manifest = folder / f"{name}.csv"
    rows = []
    for clip in clips:
        file = clip.video.name if clip.video else ""
        rows.append(Sample(id=clip.id, video_path=file, audio_path=file, text=clip.text))
    taken: dict[int, list[float]] = {}
    for count in (len(rows) // 2, len(rows)) * max(1, repeats - 1):
        write_manifest(manifest, rows[:count])
        summary = extract(
            dataset="benchmark",
            modality=MODALITY[name],
            manifest=manifest,
            root=root,
            extractor=name,
            settings=settings,
            assets=assets / name,
            store=folder / f"{name}.h5",
            cache=folder / "stage",
            workers=workers,
            progress=False,
        )
        taken.setdefault(count, []).append(summary.seconds)
        shutil.rmtree(folder / "stage")
    half, whole = (min(seconds) for _, seconds in sorted(taken.items()))
    return whole - half


# --- the bare libraries: the shortest straight code for the same numbers ---------------


def sound(path: Path, rate: int) -> np.ndarray:
    """Decode a file's sound with PyAV."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
        parts = [r.to_ndarray()[0] for f in container.decode(audio=0) for r in resampler.resample(f)]
        parts += [r.to_ndarray()[0] for r in resampler.resample(None)]
    return np.concatenate(parts)


def pictures(path: Path, rate: float, form: str = "rgb24") -> list[np.ndarray]:
    """Decode a file's pictures with PyAV and keep every n-th one."""
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        kept, due = [], 0.5 / rate
        for frame in container.decode(video=0):
            if frame.time >= due:
                kept.append(frame.to_ndarray(format=form, threads=1))
                due += 1 / rate
    return kept


def bare_bert(assets: Path, extractor: Any) -> Bare:
    """transformers, in batches of 32."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(assets, local_files_only=True)
    model = AutoModel.from_pretrained(assets, local_files_only=True).eval()

    def run(clips: Sequence[Clip]) -> list[Any]:
        rows = []
        for start in range(0, len(clips), 32):
            inputs = tokenizer([c.text for c in clips[start : start + 32]], padding=True, return_tensors="pt")
            with torch.inference_mode():
                rows.append(model(**inputs).last_hidden_state.numpy())
        return rows

    return run


def bare_glove(assets: Path, extractor: Any) -> Bare:
    """A dict and an array."""
    rows, vectors = extractor._table

    def run(clips: Sequence[Clip]) -> list[Any]:
        return [vectors[[rows[w] for w in clip.text.lower().split() if w in rows]] for clip in clips]

    return run


def bare_opensmile(assets: Path, extractor: Any) -> Bare:
    """The package's two passes for descriptors and deltas."""
    import opensmile

    level = opensmile.FeatureLevel
    passes = [
        opensmile.Smile(opensmile.FeatureSet.IS13, kind)
        for kind in (level.LowLevelDescriptors, level.LowLevelDescriptors_Deltas)
    ]

    def run(clips: Sequence[Clip]) -> list[Any]:
        result = []
        for clip in clips:
            samples = sound(clip.audio, 16_000)
            values, deltas = (smile.process_signal(samples, 16_000).to_numpy() for smile in passes)
            rows = min(len(values), len(deltas))
            result.append(np.hstack([values[:rows], deltas[:rows]]))
        return result

    return run


def bare_librosa(assets: Path, extractor: Any) -> Bare:
    """Three calls."""
    import librosa

    def run(clips: Sequence[Clip]) -> list[Any]:
        result = []
        for clip in clips:
            samples = sound(clip.audio, 22_050)
            parts = (
                librosa.feature.zero_crossing_rate(samples),
                librosa.feature.mfcc(y=samples, sr=22_050),
                librosa.feature.chroma_cqt(y=samples, sr=22_050),
            )
            result.append(np.concatenate(parts).T)
        return result

    return run


def bare_wav2vec2(assets: Path, extractor: Any) -> Bare:
    """transformers, clip by clip."""
    import torch
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

    prepare = Wav2Vec2FeatureExtractor(do_normalize=True)
    model = Wav2Vec2Model.from_pretrained(extractor.settings.model, local_files_only=True).eval()

    def run(clips: Sequence[Clip]) -> list[Any]:
        result = []
        for clip in clips:
            inputs = prepare(sound(clip.audio, 16_000), sampling_rate=16_000, return_tensors="pt")
            with torch.inference_mode():
                result.append(model(**inputs).last_hidden_state[0].numpy())
        return result

    return run


def bare_covarep(assets: Path, extractor: Any) -> Bare:
    """The analysis of the decoded sound, and no more."""
    from pipeline.extraction.extractors.audio.covarep import analyse

    def run(clips: Sequence[Clip]) -> list[Any]:
        return [analyse(sound(clip.audio, 16_000).astype(np.float64)) for clip in clips]

    return run


def bare_facelandmarker(assets: Path, extractor: Any) -> Bare:
    """MediaPipe on the same pictures."""
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(assets / "face_landmarker.task")),
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
    )
    landmarker = vision.FaceLandmarker.create_from_options(options)

    def run(clips: Sequence[Clip]) -> list[Any]:
        return [
            landmarker.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture))
            for clip in clips
            for picture in pictures(clip.video, extractor.settings.frame_rate_hz)
        ]

    return run


def cascade_faces(cascade: Any, path: Path, rate: float, side: int, margin: int) -> list[np.ndarray]:
    """Cut the first face of each picture with OpenCV."""
    import cv2

    faces = []
    for grey in pictures(path, rate, "gray"):
        for x, y, w, h in cascade.detectMultiScale(grey, 1.1, 5, minSize=(50, 50))[:1]:
            top, left = max(0, y - margin), max(0, x - margin)
            faces.append(cv2.resize(grey[top : y + h + margin, left : x + w + margin], (side, side)))
    return faces


def bare_fer(assets: Path, extractor: Any) -> Bare:
    """OpenCV's cascade and the network on the same pictures."""
    import cv2

    cv2.setNumThreads(1)
    cascade = cv2.CascadeClassifier(str(assets / "haarcascade_frontalface_default.xml"))

    def run(clips: Sequence[Clip]) -> list[Any]:
        result = []
        for clip in clips:
            faces = cascade_faces(cascade, clip.video, extractor.settings.frame_rate_hz, 64, 10)
            rows = np.stack(faces).astype(np.float32) / 127.5 - 1 if faces else None
            result.append(None if rows is None else extractor.describe(rows))
        return result

    return run


def bare_denseface(assets: Path, extractor: Any) -> Bare:
    """OpenCV's cascade and the network in PyTorch on the same pictures, a clip's faces at once."""
    import cv2
    import torch

    from pipeline.extraction.extractors.video._densenet import DEVIATION, MEAN, load

    cv2.setNumThreads(1)
    cascade = cv2.CascadeClassifier(str(assets / "haarcascade_frontalface_default.xml"))
    network = load(extractor.settings.weights)

    def run(clips: Sequence[Clip]) -> list[Any]:
        result = []
        for clip in clips:
            faces = cascade_faces(cascade, clip.video, extractor.settings.frame_rate_hz, 64, 0)
            with torch.inference_mode():
                rows = torch.from_numpy(np.stack(faces)).float()[:, None] if faces else None
                result.append(None if rows is None else network((rows - MEAN) / DEVIATION)[0].numpy())
        return result

    return run


BARE: dict[str, Callable[[Path, Any], Bare]] = {
    "bert": bare_bert,
    "glove": bare_glove,
    "word2vec": bare_glove,
    "opensmile": bare_opensmile,
    "librosa": bare_librosa,
    "wav2vec2": bare_wav2vec2,
    "covarep": bare_covarep,
    "facelandmarker": bare_facelandmarker,
    "facet35": bare_facelandmarker,
    "fer": bare_fer,
    "denseface": bare_denseface,
}

if __name__ == "__main__":
    main()
