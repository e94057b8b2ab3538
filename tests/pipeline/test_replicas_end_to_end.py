"""Every dataset's miniature replica through all stages: manifest, features, masks, one epoch of MMIN, page.

Each stage's own main runs in a folder with a params.yaml of its own. The extractors are light ones, but real.
"""

from __future__ import annotations

import csv
import html
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import yaml

from pipeline import evaluate, extract, mask, prepare, report, train
from pipeline.commands.export import export_dataset
from pipeline.data.manifest import MODALITIES, read_manifest
from pipeline.data.masks import CONDITIONS, read_masks
from pipeline.data.store import FeatureStore, Status
from pipeline.params import Params, load_params
from tests.replicas import cremad, folder, iemocap, media, meld, mosei, mosi, msp_improv, ravdess, sims
from tests.replicas.text import write_lines

EMOTIONS = ("angry", "happy", "neutral", "sad")
SCORES = ("negative", "neutral", "positive")
BY_CHANCE = {"scheme": "random", "shares": [0.5, 0.25, 0.25]}
VIDEOS = {"-aVideo": "train", "bVideo_x": "valid", "cVideo": "test", "dVideo": "test"}


@dataclass(frozen=True)
class Case:
    """A replica and what must come out of it.

    Attributes:
        build: writes the tree and returns its root.
        loader, options, labels, folds: its section of params.yaml.
        statuses: modality -> how many samples are ok, missing, failed.
        parts: how many samples train, validate and test, a fold.
        text: the extractor of text; the vectors of GloVe know no Chinese.
        align: of sound and picture.
    """

    build: Callable[[Path], Path]
    loader: str
    labels: tuple[str, ...]
    statuses: dict[str, tuple[int, int, int]]
    parts: list[tuple[int, int, int]]
    options: dict[str, Any] = field(default_factory=dict)
    folds: dict[str, Any] = field(default_factory=lambda: {"scheme": "official"})
    text: str = "glove"
    align: str | int = "none"


def _mosei_with_split(root: Path) -> Path:
    root = mosei.build(root)
    write_lines(root / "split.csv", ["video,split", *(f"{name},{part}" for name, part in VIDEOS.items())])
    return root


CASES = {
    "iemocap": Case(  # a turn without a transcript; a session without pictures
        iemocap.build,
        "iemocap",
        EMOTIONS,
        {"text": (13, 1, 0), "audio": (14, 0, 0), "video": (9, 0, 5)},
        [(9, 2, 3), (9, 3, 2), (7, 5, 2), (7, 2, 5), (12, 1, 1), (12, 1, 1)],
        folds={"scheme": "speaker-partner"},
    ),
    "msp-improv": Case(  # a label without files; a turn without a transcript; one without sound
        msp_improv.build,
        "msp_improv",
        EMOTIONS,
        {"text": (3, 2, 0), "audio": (3, 0, 2), "video": (4, 0, 1)},
        [(2, 1, 1)] * 4,
        folds={"scheme": "speaker-partner"},
    ),
    "mosi": Case(  # a segment without files; one of a video without a split
        mosi.build,
        "mosi",
        SCORES,
        {"text": (5, 1, 0), "audio": (5, 0, 1), "video": (5, 0, 1)},
        [(2, 1, 1)],
    ),
    "mosei": Case(  # a video that is absent
        _mosei_with_split,
        "mosei",
        SCORES,
        {"text": (5, 0, 0), "audio": (4, 0, 1), "video": (4, 0, 1)},
        [(2, 1, 2)],
        options={"split_file": "split.csv"},
    ),
    "mosei-words": Case(  # one video of three has the times of its words
        lambda root: mosei.build(root, labels="csv"),
        "mosei",
        SCORES,
        {"text": (5, 0, 0), "audio": (2, 2, 1), "video": (2, 2, 1)},
        [(2, 1, 2)],
        align="words",
    ),
    "sims": Case(  # a label without a clip and without a split
        sims.build,
        "sims",
        SCORES,
        {"text": (5, 0, 0), "audio": (4, 0, 1), "video": (4, 0, 1)},
        [(2, 1, 1)],
        text="bert",
    ),
    "sims-v2": Case(  # a label without a clip
        sims.build_v2,
        "sims",
        SCORES,
        {"text": (6, 0, 0), "audio": (5, 0, 1), "video": (5, 0, 1)},
        [(3, 1, 2)],
        options={"version": 2},
        text="bert",
        align=3,
    ),
    "mmsa-layout": Case(
        sims.build_mmsa,
        "mmsa_layout",
        SCORES,
        {"text": (5, 0, 0), "audio": (4, 0, 1), "video": (4, 0, 1)},
        [(3, 1, 1)],
        options={"dataset": "sims"},
        text="bert",
    ),
    "ravdess": Case(  # a performance without sound, one without a picture
        ravdess.build,
        "ravdess",
        (*EMOTIONS, "fear"),
        {"text": (4, 0, 0), "audio": (3, 1, 0), "video": (3, 1, 0)},
        [(2, 1, 1)],
        folds=BY_CHANCE,
    ),
    "meld": Case(  # a row without a clip
        meld.build,
        "meld",
        (*EMOTIONS, "surprise"),
        {"text": (6, 0, 0), "audio": (5, 0, 1), "video": (5, 0, 1)},
        [(4, 1, 1)],
    ),
    "cremad": Case(  # a performance without sound, one without a picture
        cremad.build,
        "cremad",
        EMOTIONS,
        {"text": (8, 0, 0), "audio": (7, 1, 0), "video": (7, 1, 0)},
        [(4, 2, 2)],
        folds=BY_CHANCE,
    ),
    "folder": Case(  # a row without text and picture; one whose clip is absent; one without a split
        folder.build,
        "folder",
        EMOTIONS,
        {"text": (5, 1, 0), "audio": (5, 0, 1), "video": (4, 1, 1)},
        [(3, 1, 1)],
    ),
}


def write_params(case: Case, name: str, root: Path) -> None:
    """Write params.yaml into the working directory."""
    section = {
        "loader": case.loader,
        "root": str(root),
        "options": case.options,
        "labels": list(case.labels),
        "folds": case.folds,
        "text": {"extractor": case.text},
        "audio": {"extractor": "librosa", "align": case.align},
        "video": {"extractor": "fer", "align": case.align, "settings": {"frame_rate_hz": 5}},
    }
    params = {
        "compute": {"workers": 1, "device": "cpu", "max_failed_share": 0.5},
        "datasets": {name: section},
        "extractors": {
            "text": {case.text: {}},
            "audio": {"librosa": {}},
            "video": {"fer": {}},
        },
        "masks": {"conditions": {"protocol": "conditions"}, "frames": {"protocol": "frames", "rate": 0.3}},
        "experiments": {"mmin": {"dataset": name, "model": "mmin", "train_on": "missing", "epochs": 1}},
        "report": {"title": f"The replica of {name}"},
    }
    if case.labels == SCORES:
        params["experiments"]["scores"] = {
            "dataset": name, "model": "self_mm", "task": "regression", "train_on": "missing", "epochs": 1,
        }  # fmt: skip
    Path("params.yaml").write_text(yaml.safe_dump(params, allow_unicode=True), encoding="utf-8")


@pytest.fixture
def faces(assets: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the replicas' pictures show a real face, in the left half and in the right."""
    with av.open(str(assets("cremad") / "1001_DFA_HAP_XX.flv")) as container:
        frame = next(container.decode(video=0)).reformat(width=240, height=180, format="rgb24")
    pixels = np.concatenate([frame.to_ndarray()] * 2, axis=1)
    monkeypatch.setattr(media, "picture", lambda number, width: pixels)
    media.encoded.cache_clear()
    yield
    media.encoded.cache_clear()


def check_regression(params: Params, name: str, scores: dict[str, float | None]) -> None:
    """Train and evaluate the scores of a replica."""
    train.main(params, "scores")
    evaluate.main(params, "scores")
    with Path("data/results/scores/predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows and all(float(row["score"]) == pytest.approx(scores[row["id"]], abs=1e-6) for row in rows)
    found = json.loads(Path("data/results/scores/metrics.json").read_text())["average"]
    of_sims = "sims" in name or name == "mmsa-layout"
    assert ("sims_acc3" in found, "acc7" in found) == (of_sims, not of_sims)
    assert found["mae"]["mean"] <= 2 * (1 if of_sims else 3)


@pytest.mark.slow
@pytest.mark.usefixtures("faces")
@pytest.mark.parametrize("name", CASES)
def test_a_replica_goes_through_all_stages(
    name: str, assets: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    monkeypatch.chdir(tmp_path)
    Path("data/assets").mkdir(parents=True)
    for asset in (case.text, "librosa", "fer"):
        Path("data/assets", asset).symlink_to(assets(asset))
    write_params(case, name, case.build(tmp_path / "owner"))
    params = load_params()

    prepare.main(params, name)
    manifest = read_manifest(Path(f"data/manifests/{name}.csv"))
    ids = [sample.id for sample in manifest]
    assert {sample.label for sample in manifest} <= set(case.labels)

    statuses = {}
    for modality in MODALITIES:
        extract.main(params, name, modality)
        with FeatureStore(Path(f"data/features/{name}/{modality}.h5"), ids) as store:
            statuses[modality] = tuple(int((store.status == one).sum()) for one in Status)
            if modality != "text" and isinstance(case.align, int):
                assert set(store.lengths[store.status == Status.OK]) == {case.align}
    assert statuses == case.statuses

    mask.main(params, name)
    assert read_masks(Path(f"data/masks/{name}.h5"), ids).mask("frames").rate == 0.3

    train.main(params, "mmin")
    runs = json.loads(Path("data/runs/mmin/summary.json").read_text())
    parts = [(fold["train"], fold["valid"], fold["test"]) for fold in runs["folds"]]
    assert parts == case.parts

    evaluate.main(params, "mmin")
    with Path("data/results/mmin/predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(CONDITIONS) * sum(test for *_, test in parts)
    chances = np.array([[float(row[f"p_{label}"]) for label in case.labels] for row in rows])
    np.testing.assert_allclose(chances.sum(axis=1), 1, atol=1e-5)
    labels = {sample.id: sample.label for sample in manifest}
    assert all(row["label"] == labels[row["id"]] for row in rows)

    if case.labels == SCORES:
        check_regression(params, name, {sample.id: sample.score for sample in manifest})
    report.main(params)
    page = Path("data/report/index.html").read_text(encoding="utf-8")
    assert f"The replica of {name}" in page
    for finding in json.loads(Path(f"data/manifests/{name}.json").read_text(encoding="utf-8"))["skipped"]:
        assert html.escape(finding["file"]) in page


@pytest.mark.slow
@pytest.mark.usefixtures("faces")
def test_imported_features_go_through_all_stages(
    assets: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["mmsa-layout"]
    monkeypatch.chdir(tmp_path)
    Path("data/assets/import").mkdir(parents=True)
    for asset in (case.text, "librosa", "fer"):
        Path("data/assets", asset).symlink_to(assets(asset))
    write_params(case, "own", case.build(tmp_path / "owner"))
    raw = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    exported = Path("data/assets/import/own.pkl")
    imported: dict[str, Any] = {
        "extractor": "import",
        "settings": {"file": exported.name, "absent": "missing"},
    }
    raw["datasets"]["theirs"] = {**raw["datasets"]["own"], **dict.fromkeys(MODALITIES, imported)}
    for modality in MODALITIES:
        raw["extractors"][modality]["import"] = {}
    raw["experiments"]["mmin"]["dataset"] = "theirs"
    Path("params.yaml").write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    params = load_params()
    for name in ("own", "theirs"):
        prepare.main(params, name)
        for modality in MODALITIES:
            extract.main(params, name, modality)
        if name == "own":
            export_dataset(params, "own", exported, "mmsa")
    compared = 0
    for modality in MODALITIES:
        paths = [Path(f"data/features/{name}/{modality}.h5") for name in ("own", "theirs")]
        with FeatureStore(paths[0]) as own, FeatureStore(paths[1]) as theirs:
            for sample, back in zip(own, theirs, strict=True):
                if sample.status is Status.OK and back.status is Status.OK:
                    np.testing.assert_array_equal(back.values, sample.values)
                    compared += 1
    assert compared >= 9
    mask.main(params, "theirs")
    train.main(params, "mmin")
    evaluate.main(params, "mmin")
    report.main(params)
    assert "import" in Path("data/report/index.html").read_text(encoding="utf-8")
