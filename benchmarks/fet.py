"""mmsa-fet 0.4.1 beside the pipeline, on the same clips: openSMILE's LLD, a face mesh at 8 pictures/s, MiniLM.

    python3.11 -m venv fet
    fet/bin/pip install mmsa-fet==0.4.1 mediapipe==0.10.21 'numpy<2' 'pandas<3' 'scenedetect<0.7' \
        'opencv-python<4.12' 'opencv-contrib-python<4.12' 'pyarrow<22' imageio-ffmpeg
    python benchmarks/fet.py fet/bin/python [--project .] [--count 24]

The clips are the first of the demo corpus (data/raw/demo with data/manifests/demo.csv). For one and two processes, in
milliseconds a second of clip: what COUNT clips cost over a few (so that starting and loading do not count), over the
bare libraries of the same environment on one thread; and the seconds until the first clip could begin.

Each side is measured against its own libraries: mmsa-fet stands on MediaPipe's older FaceMesh, which follows a face
from picture to picture and gives 468 points; the pipeline's FaceLandmarker looks at every picture anew, so that a
picture's row does not depend on those before it, and gives blendshapes and pose as well.
"""

from __future__ import annotations

import os

os.environ |= dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FEW = 4  # clips of the run that only starts and loads
FPS = 8


def main() -> None:
    """Run each side in a process of its own environment and print both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("peer", type=Path, metavar="PYTHON", help="of the environment with mmsa-fet")
    parser.add_argument("--project", type=Path, default=Path(), help="whose data/ has the demo corpus")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--side", choices=("peer", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side = {"peer": peer, "ours": ours}[options.side]
        print("RESULT " + json.dumps(side(options.work, options.project, options.count)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds = write_corpus(folder, options.project, options.count)
        print(f"{options.count} clips, {seconds:.0f} s; milliseconds a second of clip")
        print(
            f"{'':10} {'bare':>7} {'1 process':>10} {'ratio':>6} {'2 processes':>12} {'ratio':>6} {'start, s':>9}"
        )
        for side, python in (("peer", options.peer.absolute()), ("ours", Path(sys.executable))):
            command = [str(python), __file__, str(options.peer), "--side", side, "--work", str(folder)]
            command += ["--project", str(options.project.absolute()), "--count", str(options.count)]
            path = f"{folder}{os.pathsep}{os.environ['PATH']}"  # ffmpeg is there
            done = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {"PATH": path}
            )
            (line,) = (line for line in done.stdout.splitlines() if line.startswith("RESULT "))
            found = json.loads(line.removeprefix("RESULT "))
            scale = 1e3 / seconds
            print(
                f"{side:10} {found['bare'] * scale:7.1f} {found['1'] * scale:10.1f} "
                f"{found['1'] / found['bare']:6.2f} {found['2'] * scale:12.1f} "
                f"{found['2'] / (found['bare'] / 2):6.2f} {found['start']:9.1f}",
                flush=True,
            )
    print("ratio: of 2 processes over half of the bare libraries' time")


def write_corpus(folder: Path, project: Path, count: int) -> float:
    """Lay the clips out as mmsa-fet and as the pipeline read them; return their seconds."""
    import av

    from pipeline.data.manifest import Sample, read_manifest, write_manifest

    samples = read_manifest(project / "data/manifests/demo.csv")[: count + FEW]
    seconds = 0.0
    for name, chosen in (("few", samples[count:]), ("all", samples)):
        root = folder / name
        (root / "Raw/clips").mkdir(parents=True)
        with (root / "label.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(
                (
                    "video_id",
                    "clip_id",
                    "text",
                    "label",
                    "label_T",
                    "label_A",
                    "label_V",
                    "annotation",
                    "mode",
                )
            )
            for sample in chosen:
                shutil.copy(
                    project / "data/raw/demo" / sample.video_path, root / "Raw/clips" / f"{sample.id}.mp4"
                )
                writer.writerow(("clips", sample.id, sample.text, 0, "", "", "", "", "train"))
        rows = [
            Sample(id=s.id, video_path=f"clips/{s.id}.mp4", audio_path=f"clips/{s.id}.mp4", text=s.text)
            for s in chosen
        ]
        write_manifest(root / "manifest.csv", rows)
    for sample in samples[:count]:
        with av.open(str(folder / "all/Raw/clips" / f"{sample.id}.mp4")) as container:
            seconds += container.duration / 1e6
    return seconds


def both(run: Callable[[str, int], None], bare: Callable[[Path], None], work: Path) -> dict[str, float]:
    """Return the seconds of COUNT clips with one and two processes, bare, and of starting."""

    def timed(name: str, workers: int) -> float:
        begin = time.perf_counter()
        run(name, workers)
        return time.perf_counter() - begin

    found: dict[str, float] = {}
    for workers in (1, 2):
        few, whole = timed("few", workers), timed("all", workers)
        found[str(workers)] = whole - few
        found.setdefault("start", few)
    bare(work / "few")  # everything is loaded
    begin = time.perf_counter()
    bare(work / "all")
    whole = time.perf_counter() - begin
    begin = time.perf_counter()
    bare(work / "few")
    few = time.perf_counter() - begin
    count = len(list((work / "all/Raw/clips").iterdir())) - FEW
    found["bare"] = whole - few
    found["start"] -= FEW * found["1"] / count
    return found


def texts(root: Path) -> list[tuple[Path, str]]:
    """Return each clip's file and transcript."""
    with (root / "label.csv").open() as file:
        return [(root / "Raw/clips" / f"{row['clip_id']}.mp4", row["text"]) for row in csv.DictReader(file)]


def minilm(folder: Path) -> Callable[[str], Any]:
    """Return MiniLM by transformers alone."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()

    def encode(text: str) -> Any:
        with torch.inference_mode():
            return model(**tokenizer(text, return_tensors="pt")).last_hidden_state.numpy()

    return encode


def peer(work: Path, project: Path, _: int) -> dict[str, float]:
    """Measure mmsa-fet, and its libraries without it."""
    import cv2
    import imageio_ffmpeg
    import librosa
    import mediapipe
    import opensmile
    from MSA_FET import run_dataset

    if not shutil.which("ffmpeg"):
        (work / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    weights = str(project / "data/assets/bert")
    mesh = {"refine_landmarks": True, "min_detection_confidence": 0.5, "min_tracking_confidence": 0.5}
    config = {
        "text": {"model": "bert", "device": "cpu", "pretrained": weights, "args": {}},
        "audio": {
            "tool": "opensmile",
            "sample_rate": 16000,
            "args": {
                "feature_set": "ComParE_2016",
                "feature_level": "LowLevelDescriptors",
                "start": None,
                "end": None,
            },
        },
        "video": {"tool": "mediapipe", "fps": FPS, "args": {"face_mesh": mesh, "visualize": False}},
    }

    def run(name: str, workers: int) -> None:
        out = work / f"{name}-{workers}.pkl"
        places = {"tmp_dir": work / "tmp", "log_dir": work / "log"}
        found = run_dataset(config, dataset_dir=work / name, out_file=out, num_workers=workers, **places)
        if found is None or len(found["train"]["id"]) != len(texts(work / name)):
            raise SystemExit("mmsa-fet did not extract every clip; its log says why")

    encode = minilm(project / "data/assets/bert")
    smile = opensmile.Smile(
        opensmile.FeatureSet.ComParE_2016, opensmile.FeatureLevel.LowLevelDescriptors, num_workers=1
    )

    def bare(root: Path) -> None:
        for path, text in texts(root):
            encode(text)
            wav = work / "bare.wav"
            command = [
                "ffmpeg",
                "-v",
                "error",
                "-i",
                str(path),
                "-vn",
                "-ar",
                "16000",
                "-ac",
                "1",
                "-y",
                str(wav),
            ]
            subprocess.run(command, check=True)
            smile.process_signal(librosa.load(wav, sr=16000)[0], 16000)
            video = cv2.VideoCapture(str(path))
            rate, due, index = video.get(cv2.CAP_PROP_FPS), 0.5 / FPS, 0
            with mediapipe.solutions.face_mesh.FaceMesh(
                static_image_mode=False, max_num_faces=1, **mesh
            ) as faces:
                while video.grab():
                    if index / rate >= due:
                        faces.process(cv2.cvtColor(video.retrieve()[1], cv2.COLOR_BGR2RGB))
                        due += 1 / FPS
                    index += 1

    return both(run, bare, work)


def ours(work: Path, project: Path, _: int) -> dict[str, float]:
    """Measure the pipeline's three stages, and their libraries without it."""
    import av
    import mediapipe
    import numpy as np
    import opensmile
    from mediapipe.tasks.python import BaseOptions, vision

    from pipeline.extraction.dataset import extract
    from pipeline.extraction.extractors import base

    assets = project / "data/assets"
    chosen = {
        "text": ("bert", {}),
        "audio": ("opensmile", {"feature_set": "ComParE_2016", "level": "lld"}),
        "video": ("facelandmarker", {"frame_rate_hz": FPS}),
    }

    def run(name: str, workers: int) -> None:
        cache = work / f"cache-{name}-{workers}"
        for modality, (extractor, settings) in chosen.items():
            summary = extract(
                dataset="demo",
                modality=modality,
                manifest=work / name / "manifest.csv",
                root=work / name / "Raw",
                extractor=extractor,
                settings=base.find(modality, extractor).Settings(**settings),
                assets=assets / extractor,
                store=work / f"{modality}.h5",
                cache=cache,
                workers=workers,
                progress=False,
            )
            if summary.failed:
                raise SystemExit(f"{modality}: {summary}")
        shutil.rmtree(cache)

    encode = minilm(assets / "bert")
    smile = opensmile.Smile(
        opensmile.FeatureSet.ComParE_2016, opensmile.FeatureLevel.LowLevelDescriptors, num_workers=1
    )
    landmarker = vision.FaceLandmarker.create_from_options(
        vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(assets / "facelandmarker/face_landmarker.task")),
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
        )
    )

    def bare(root: Path) -> None:
        for path, text in texts(root):
            encode(text)
            with av.open(str(path)) as container:
                container.streams.video[0].codec_context.thread_count = 1
                due = 0.5 / FPS
                for frame in container.decode(video=0):
                    if frame.time >= due:
                        picture = frame.to_ndarray(format="rgb24", threads=1)
                        landmarker.detect(
                            mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture)
                        )
                        due += 1 / FPS
            with av.open(str(path)) as container:
                resampler = av.AudioResampler(format="flt", layout="mono", rate=16000)
                parts = [r.to_ndarray()[0] for f in container.decode(audio=0) for r in resampler.resample(f)]
                parts += [r.to_ndarray()[0] for r in resampler.resample(None)]
            smile.process_signal(np.concatenate(parts), 16000)

    return both(run, bare, work)


if __name__ == "__main__":
    main()
