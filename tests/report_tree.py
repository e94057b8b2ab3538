"""A data/ folder as the stages leave it, with numbers that are known beforehand, for the tests of the
report."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.data.manifest import MODALITIES, Sample, manifest_checksum, read_manifest, write_manifest
from pipeline.data.masks import CONDITIONS, write_masks
from pipeline.data.store import FeatureInfo, FeatureSequence, FeatureWriter, Status
from pipeline.params import Experiment, Mask, Params
from pipeline.training.chance import Chance, Reached

CLASSES = ("happy", "neutral", "sad", "angry")
FOLDS = 5
# Wrong and right in a known way: WA of (experiment, fold, condition), the other metrics follow from it.
LEVEL = {"a": 0.40, "v": 0.44, "t": 0.52, "av": 0.55, "at": 0.62, "vt": 0.64, "avt": 0.78}
GAIN = {"full-modality": 0.0, "augmented": 0.05, "mmin": 0.08}
NOISE = (0.0, 0.02, -0.02, 0.01, -0.01)


def params(**changes: object) -> Params:
    """Return parameters of a dataset ``demo`` and three experiments; names are not checked against files."""
    extraction = {
        m: {"extractor": name}
        for m, name in zip(MODALITIES, ("bert", "opensmile", "facelandmarker"), strict=True)
    }
    raw: dict[str, object] = {
        "seed": 0,
        "datasets": {
            "demo": {
                "loader": "demo",
                "root": "data/raw/demo",
                "options": {},
                "labels": CLASSES,
                **extraction,
            }
        },
        "masks": {
            "conditions": {"protocol": "conditions"},
            "one-missing": {"protocol": "one-missing", "rate": 0.3},
        },
        "experiments": {
            "full-modality": {"dataset": "demo", "model": "baseline", "train_on": "full"},
            "augmented": {"dataset": "demo", "model": "baseline", "train_on": "augmented"},
            "mmin": {"dataset": "demo", "model": "mmin", "train_on": "missing"},
        },
        "report": {"title": "Lacuna on the constructed demo corpus", "baseline": "full-modality"},
    }
    return Params.model_validate(raw | changes)


def score(experiment: str, fold: int, condition: str) -> float:
    """Return the UA that the tree says this experiment reached."""
    gain = GAIN[experiment] * (1.0 if condition != "avt" else 0.25)
    own = {"full-modality": 0.0, "augmented": 0.004, "mmin": -0.006}[experiment] * (fold % 2)
    return round(LEVEL[condition] + gain + NOISE[fold - 1] + own, 6)


def write_data(data: Path, name: str = "demo", samples: int = 40) -> None:
    """Write manifest, features and masks of one dataset."""
    rows = [
        Sample(
            id=f"{name}_{index:03d}",
            video_path=f"clips/{index:03d}.mp4",
            audio_path=f"clips/{index:03d}.mp4",
            text=f"sentence {index}" if index != 5 else "",
            speaker=f"s{index % 10}",
            session=str(index % 5 + 1),
            label=CLASSES[index % 4],
            score=(index % 9 - 4) / 2,
        )
        for index in range(samples)
    ]
    path = data / "manifests" / f"{name}.csv"
    write_manifest(path, rows)
    said = {
        "dataset": name,
        "constructed": name == "demo",
        "attribution": ("CONSTRUCTED " if name == "demo" else "")
        + "demo corpus, no benchmark. Faces: CREMA-D, ODbL 1.0, changed.",
        "samples": samples,
        "skipped": [{"file": "labels.csv", "reason": "no file", "line": 7, "entry": "demo_999"}],
        "missing_files": [],
        "notes": [],
        "differences": [],
    }
    path.with_suffix(".json").write_text(json.dumps(said))
    extractors = {
        "text": ("bert", 8, None),
        "audio": ("opensmile", 6, 0.01),
        "video": ("facelandmarker", 5, 0.125),
    }
    generator = np.random.default_rng(3)
    for modality, (extractor, dims, period) in extractors.items():
        info = FeatureInfo(
            dataset=name,
            modality=modality,
            extractor=extractor,
            settings={"level": "lld"},
            columns=tuple(f"{modality[0]}{i}" for i in range(dims)),
            frame_period_s=period,
            manifest_sha256=manifest_checksum(path),
            versions={extractor: "1.2.3"},
        )
        with FeatureWriter(data / "features" / name / f"{modality}.h5", info) as writer:
            for index, row in enumerate(rows):
                if modality == "text" and not row.text:
                    writer.append(row.id, FeatureSequence.absent(dims, Status.MISSING, "empty transcript"))
                elif modality == "video" and index in (3, 4, 9):
                    reason = "no face in any frame" if index != 9 else "cannot decode: moov atom not found"
                    status = Status.FAILED if index == 9 else Status.MISSING
                    writer.append(row.id, FeatureSequence.absent(dims, status, reason))
                else:
                    length = 4 + index % 3
                    values = generator.normal(size=(length, dims)).astype(np.float32)
                    flags = np.ones(length, np.uint8)
                    if modality == "video":
                        flags[0], values[0] = 0, 0
                    times = np.arange(length, dtype=np.float32) * np.float32(period or 1)
                    writer.append(row.id, FeatureSequence(values, times, flags))
    write_masks_of(
        data,
        {
            "conditions": Mask(protocol="conditions"),
            "one-missing": Mask(protocol="one-missing", rate=0.3),
            "block-sampled": Mask(protocol="block", range=(0.4, 0.6), draw="sampled"),
        },
        name,
    )


def write_masks_of(data: Path, masks: Mapping[str, Mask], name: str = "demo") -> None:
    """Write the masks of one dataset, whose samples have ten frames of each modality."""
    path = data / "manifests" / f"{name}.csv"
    ids = [row.id for row in read_manifest(path)]
    lengths = np.full((len(ids), 3), 10, np.int64)
    target = data / "masks" / f"{name}.h5"
    write_masks(target, name, dict(masks), 0, ids, lengths, (8, 6, 5), manifest_checksum(path))


TRAIN_ON = {"full-modality": "full", "augmented": "augmented", "mmin": "missing"}


def trained(experiment: str, model: str, **changes: object) -> dict[str, object]:
    """Return the record of how an experiment was trained, as training writes it."""
    given = {"dataset": "demo", "model": model}
    resolved = Experiment.model_validate(given).model_dump(mode="json")
    shown = {"train_on": TRAIN_ON.get(experiment, "full"), "epochs": 60, "beta1": 0.5, "pretraining": None}
    return resolved | shown | changes


def write_run(
    data: Path,
    experiment: str,
    model: str,
    folds: int = FOLDS,
    epochs: int = 12,
    changes: Mapping[str, object] | None = None,
    runs: int = 1,
) -> None:
    """Write data/runs/<experiment>/ without weights; ``changes`` are fields of how it was trained."""
    folder = data / "runs" / experiment
    record = {"trained": trained(experiment, model, **(changes or {}))}
    for fold, number in itertools.product(range(1, folds + 1), range(1, runs + 1)):
        place = folder / f"{fold}-{number}"
        place.mkdir(parents=True, exist_ok=True)
        run = {
            "format": 1, "experiment": experiment, "dataset": "demo", "fold": fold, "run": number, "seed": number - 1,
            "model": model,
            "settings": {}, "regime": "standard", "regime_settings": {}, "train_on": "full",
            "classes": CLASSES, "select_by": "ua", "best_epoch": 7 + fold % 3, "best_score": 0.7,
            "epochs": epochs - fold % 2,
            "parameters": 123456, "description": f"session {fold} tests",
            "samples": {"train": 24, "valid": 8, "test": 8},
            "features": {},
            **record,
        }  # fmt: skip
        (place / "run.json").write_text(json.dumps(run))
        with (place / "history.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(
                ["epoch", "learning_rate", "train_loss", "valid_loss", "valid_wa", "valid_ua", "best"]
            )
            for epoch in range(1, epochs - fold % 2 + 1):
                loss, ua = (
                    1.4 * 0.85**epoch + 0.02 * fold,
                    0.75 - 0.5 * 0.7**epoch + NOISE[(fold - 1) % len(NOISE)],
                )
                writer.writerow([epoch, 0.001, loss, loss + 0.1, ua, ua, int(epoch == 8)])
    summary = {
        "format": 1, "experiment": experiment, "dataset": "demo", "model": model, "regime": "standard",
        "train_on": "full", "evaluate_on": "conditions", "classes": CLASSES, "parameters": 123456,
        "samples": 40,
        "left_out": {"no label": 2},
        "cut": {"text": {"samples": 7, "frames": 0.0125}}, "modalities": {"text": 39, "audio": 40, "video": 37},
        "folds": [], "runs": [0],
        **record,
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))


def write_results(
    data: Path, experiment: str, reached: Callable[[str, int, str], float] = score, folds: int = FOLDS
) -> None:
    """Write data/results/<experiment>/ as the evaluation does; above a UA of 1/4 it is above chance."""
    folder = data / "results" / experiment
    folder.mkdir(parents=True)
    with (folder / "folds.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["experiment", "fold", "run", "condition", "samples", "wa", "ua", "macro_f1", "weighted_f1"]
        )
        for fold in range(1, folds + 1):
            for condition in CONDITIONS:
                ua = reached(experiment, fold, condition)
                writer.writerow([experiment, fold, 1, condition, 8, ua + 0.01, ua, ua - 0.02, ua - 0.01])
            writer.writerow([experiment, fold, 1, "average", 8, 0, 0, 0, 0])  # is computed, not read
    with (folder / "confusion.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["experiment", "condition", "label", "predicted", "count"])
        for condition in CONDITIONS:
            right = round(60 * reached(experiment, 1, condition))
            for i, label in enumerate(CLASSES):
                for j, predicted in enumerate(CLASSES):
                    wrong = 60 - right
                    split = (wrong // 2, wrong // 3, wrong - wrong // 2 - wrong // 3)[(j - i - 1) % 4 % 3]
                    writer.writerow([experiment, condition, label, predicted, right if i == j else split])

    means = {c: sum(reached(experiment, fold, c) for fold in range(1, folds + 1)) / folds for c in CONDITIONS}
    known = {c: Reached(mean, mean, 0.0001 if mean > 1 / 4 else 0.9, 0) for c, mean in means.items()}
    (folder / "chance.json").write_text(Chance("ua", 1 / 4, 1 / 4, folds, known, {}).to_json())


def write_tree(data: Path) -> None:
    """Write everything: one dataset, three experiments, five folds."""
    write_data(data)
    for experiment, model in (("full-modality", "baseline"), ("augmented", "baseline"), ("mmin", "mmin")):
        write_run(data, experiment, model)
        write_results(data, experiment)


def write_predictions(
    data: Path,
    experiment: str,
    folds: int = FOLDS,
    runs: int = 1,
    samples: int = 40,
    name: str = "demo",
    conditions: Sequence[str] = tuple(CONDITIONS),
    classes: Sequence[str] = CLASSES,
) -> None:
    """Write predictions.csv of the samples of :func:`write_data`: right about as often as LEVEL says."""
    generator = np.random.default_rng(sum(experiment.encode()))
    folder = data / "results" / experiment
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            [
                "experiment",
                "fold",
                "run",
                "condition",
                "id",
                "label",
                "predicted",
                *(f"p_{c}" for c in classes),
            ]
        )
        for run in range(1, runs + 1):
            for condition in conditions:
                logits = generator.normal(size=(samples, len(classes)))
                truth = np.arange(samples) % len(classes)
                logits[np.arange(samples), truth] += 3 * LEVEL.get(condition, 0.5)
                chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
                for index in range(samples):
                    said = classes[int(chances[index].argmax())]
                    fold, label = index % folds + 1, classes[truth[index]]
                    numbers = [f"{chance:.6f}" for chance in chances[index]]
                    row = [experiment, fold, run, condition, f"{name}_{index:03d}", label, said, *numbers]
                    writer.writerow(row)


def large_params(experiments: int, tables: int = 12) -> Params:
    """Return parameters of many experiments on ``demo`` in so many tables, with published rows."""
    names = [f"experiment-{number:03d}" for number in range(experiments)]
    models = ("linear", "baseline", "mmin", "misa", "mmim", "self_mm", "emmr", "umdf")
    sections: dict[str, dict[str, object]] = {}
    each = -(-experiments // tables)
    for start in range(0, experiments, each):
        own = names[start : start + each]
        published = {
            name: {"paper": "mmin", "table": "5", "dataset": "iemocap", "model": model}
            for name, model in zip(
                own[1:4], ("Full-modality baseline", "Augmented baseline", "MMIN"), strict=False
            )
        }
        sections[f"table-{start // each + 1}"] = {
            "title": f"Table {start // each + 1}: a table of a paper on the demo corpus",
            "experiments": own,
            "baseline": own[min(1, len(own) - 1)],
            "published": published,
        }
    return params(
        experiments={
            name: {"dataset": "demo", "model": models[place % each % len(models)], "train_on": "missing"}
            for place, name in enumerate(names)
        },
        report={"title": "Four papers on the constructed demo corpus", "tables": sections},
    )


def write_large(
    data: Path, wanted: Params, folds: int = FOLDS, runs: int = 1, samples: int = 40, epochs: int = 12
) -> None:
    """Write the tree that :func:`large_params` names."""
    write_data(data, samples=samples)
    for place, (name, experiment) in enumerate(wanted.experiments.items()):
        generator = np.random.default_rng(place)
        gains = {
            (fold, run): float(generator.normal(0.02 * (place % 7), 0.02))
            for fold in range(1, folds + 1)
            for run in range(1, runs + 1)
        }
        write_run(data, name, experiment.model, folds, epochs, runs=runs)
        folder = data / "results" / name
        folder.mkdir(parents=True, exist_ok=True)
        rows = ["experiment,fold,run,condition,samples,wa,ua,macro_f1,weighted_f1"]
        for (fold, run), gain in gains.items():
            for condition in CONDITIONS:
                ua = min(0.99, LEVEL[condition] + gain)
                numbers = f"{ua + 0.01:.6f},{ua:.6f},{ua - 0.02:.6f},{ua - 0.01:.6f}"
                rows.append(f"{name},{fold},{run},{condition},{samples // folds},{numbers}")
        (folder / "folds.csv").write_text("\n".join(rows) + "\n")
        rows = ["experiment,condition,label,predicted,count"]
        for condition in CONDITIONS:
            for i, label in enumerate(CLASSES):
                rows += [
                    f"{name},{condition},{label},{said},{50 if i == j else 10 + place % 5 + j}"
                    for j, said in enumerate(CLASSES)
                ]
        (folder / "confusion.csv").write_text("\n".join(rows) + "\n")
        write_predictions(data, name, folds, runs, samples)
