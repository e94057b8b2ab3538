"""CMU-MOSEI: whole videos cut by time, labels in a computational sequence (HDF5) or a csv.

Quirks: a transcript line that does not parse, times that run backwards, a segment without a label, a label
without a segment, a video that is absent, the three underscores inside a text, a score that is no number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from tests.replicas.media import write_clip, write_wav
from tests.replicas.text import write_lines

SENTIMENTS = {
    "-aVideo": [(0.1, 0.5, 1.0), (0.6, 1.0, -2.3333333)],
    "bVideo_x": [(0.0, 0.4, 0.0)],
    "cVideo": [(0.0, 0.4, 3.0), (0.5, 0.9, np.nan)],  # the second: no number
    "dVideo": [(0.0, 0.4, 0.6666667)],  # its file is absent
    "eVideo": [(5.0, 6.0, 1.0)],  # a label without a segment
}
SPLIT = {"-aVideo": "train", "bVideo_x": "valid", "cVideo": "test", "dVideo": "test", "eVideo": "train"}


def write_csd(path: Path, name: str, entries: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Path:
    """Write a computational sequence: id -> (intervals (T, 2), features (T, D) or words as bytes (T, 1))."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group(f"{name}/data")
        for key, (intervals, features) in entries.items():
            data.create_dataset(f"{key}/intervals", data=intervals)
            data.create_dataset(f"{key}/features", data=features)
        text = h5py.string_dtype()
        for key, value in {"root name": name, "computational sequence version": "1.0"}.items():
            file.create_dataset(f"{name}/metadata/{key}", (1,), text, data=[json.dumps(value)])
    return path


def build(root: Path, *, labels: str = "csd", words: bool = True) -> Path:
    """Write the tree below ``root``/CMU-MOSEI; labels as "csd" or "csv" (with a split column)."""
    root = root / "CMU-MOSEI"
    text = root / "Transcript/Segmented/Combined"
    write_lines(
        text / "-aVideo.txt",
        [
            "-aVideo___0___0.1___0.5___I see.",
            "-aVideo___1___0.6___1.0___It was ___ bad",
            "-aVideo___2___oops",
        ],
        crlf=True,
    )
    write_lines(text / "bVideo_x.txt", ["bVideo_x___0___0.0___0.4___Hello there"], bom=True)
    write_lines(
        text / "cVideo.txt",
        [
            "cVideo___0___0.0___0.4___Great",
            "cVideo___1___0.5___0.9___Odd",
            "cVideo___2___0.9___0.5___Backwards",
            "cVideo___3___1.0___1.1___Nobody rated this",
        ],
    )
    write_lines(text / "dVideo.txt", ["dVideo___0___0.0___0.4___Gone"])
    for video in ("-aVideo", "bVideo_x", "cVideo"):
        write_clip(root / f"Videos/Full/Combined/{video}.mp4", 1.2)
        write_wav(root / f"Audio/Full/WAV_16000/{video}.wav", 1.2)
    if labels == "csd":
        write_csd(
            root / "Labels/CMU_MOSEI_Labels.csd",
            "All Labels",
            {
                video: (
                    np.array([[start, end] for start, end, _ in rows]),
                    np.array([[score, 0, 0, 0, 0, 0, 0] for *_, score in rows], np.float32),
                )
                for video, rows in SENTIMENTS.items()
            },
        )
    else:
        rows = ["video,start,end,sentiment,split"]
        for video, parts in SENTIMENTS.items():
            rows += [f"{video},{start},{end},{score},{SPLIT[video]}" for start, end, score in parts]
        write_lines(root / "Labels/labels.csv", rows, crlf=True)
    if words:
        write_csd(
            root / "Transcript/CMU_MOSEI_TimestampedWords.csd",
            "words",
            {
                "-aVideo": (
                    np.array([[0.1, 0.2], [0.2, 0.3], [0.3, 0.5], [0.6, 0.8], [0.8, 1.0]]),
                    np.array([[b"sp"], [b"i"], [b"see"], [b"it"], [b"was"]]),
                )
            },
        )
    return root
