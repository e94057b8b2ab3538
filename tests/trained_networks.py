"""Trained networks for the tests of predicting: the training stage run on features that are random numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline import train
from pipeline.data.manifest import MODALITIES, Sample, manifest_checksum, write_manifest
from pipeline.data.store import FeatureInfo, FeatureSequence, FeatureWriter
from pipeline.params import load_params
from tests.project import ROOT

CLASSES = ("happy", "neutral", "sad", "angry")
FOLDS = 2


def write_params(
    folder: Path, experiments: Sequence[str] = ("mmin",), extractor: str | None = None, **fields: Any
) -> None:
    """Write a params.yaml with a dataset ``demo`` and small experiments.

    Args:
        folder: the project.
        experiments: their names.
        extractor: of every modality; None: those of the repository's params.yaml.
        fields: of every experiment.
    """
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    demo = {**raw["datasets"]["demo"], "folds": {"scheme": "session", "count": FOLDS}}
    if extractor is not None:
        demo |= {modality: {"extractor": extractor} for modality in MODALITIES}
        for settings in raw["extractors"].values():
            settings.setdefault(extractor, {})
    small = {"dataset": "demo", "model": "baseline", "epochs": 1, "batch_size": 64, **fields}
    raw.update(
        datasets={"demo": demo},
        experiments=dict.fromkeys(experiments, small),
        report={},
        compute={"device": "cpu", "workers": 1},
    )
    (folder / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")


def train_networks(folder: Path, columns: Mapping[str, Sequence[str]], experiment: str = "mmin") -> None:
    """Write features of these columns and train an experiment of the project's params.yaml on them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        params = load_params()
        samples = [
            Sample(
                id=f"s{n:02d}",
                speaker=f"{n % 5}F",
                session=f"Ses{n % 5}",
                label=CLASSES[n // 5],
                score=float(n // 5),
            )
            for n in range(20)
        ]
        manifest = Path("data/manifests/demo.csv")
        write_manifest(manifest, samples)
        manifest.with_suffix(".json").write_text(json.dumps({"score_limit": 4.0}), encoding="utf-8")
        numbers = np.random.default_rng(0)
        for modality in MODALITIES:
            info = FeatureInfo(
                "demo",
                modality,
                params.dataset("demo").extraction(modality).extractor,
                params.extractor_settings("demo", modality).model_dump(mode="json"),
                tuple(columns[modality]),
                None,
                manifest_checksum(manifest),
            )
            with FeatureWriter(Path(f"data/features/demo/{modality}.h5"), info) as writer:
                for sample in samples:
                    values = numbers.normal(size=(3, len(columns[modality]))).astype(np.float32)
                    times = np.arange(3, dtype=np.float32)
                    writer.append(sample.id, FeatureSequence(values, times, np.ones(3, np.uint8)))
        train.main(params, experiment)
