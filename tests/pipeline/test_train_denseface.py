"""Training Denseface's network on a replica of FER+'s two files: few rows of random pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import train_denseface
from pipeline.data.store import FeatureStore
from pipeline.errors import AssetError, DataError, ParamsError
from pipeline.extraction import denseface_training, ferplus
from pipeline.extraction.denseface_training import train
from pipeline.extraction.extractors.video import _densenet
from pipeline.extraction.ferplus import read_faces
from pipeline.params import DensefaceTraining, load_params
from tests.project import GIT, change, copy_project, repro, run, try_run

HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
ROWS = (  # usage, votes
    ("Training", (8, 0, 0, 2, 0, 0, 0, 0, 0, 0)),
    ("Training", (0, 10, 0, 0, 0, 0, 0, 0, 0, 0)),
    ("Training", (0, 0, 6, 0, 0, 0, 2, 0, 2, 0)),
    ("Training", (4, 0, 0, 4, 0, 0, 0, 0, 2, 0)),  # no majority
    ("Training", (0, 0, 0, 0, 0, 0, 0, 0, 4, 6)),  # no face
    ("Training", (0, 0, 0, 0, 0, 0, 0, 0, 10, 0)),  # nobody knows
    ("Training", (0, 0, 0, 1, 9, 0, 0, 0, 0, 0)),
    ("PublicTest", (0, 9, 1, 0, 0, 0, 0, 0, 0, 0)),
    ("PublicTest", (9, 0, 0, 0, 0, 0, 0, 1, 0, 0)),
    ("PrivateTest", (0, 0, 0, 0, 0, 8, 0, 0, 2, 0)),
)


def settings_of(**recipe: Any) -> DensefaceTraining:
    """Return a recipe whose files do not matter."""
    return DensefaceTraining(fer2013=Path("none"), ferplus=Path("none"), **recipe)


SMALL = settings_of(epochs=2, batch_size=4, learning_rate=0.01)


def write_files(folder: Path, rows: tuple[tuple[str, tuple[int, ...]], ...] = ROWS) -> tuple[Path, Path]:
    """Write fer2013.csv and fer2013new.csv as their owners lay them out."""
    generator = np.random.default_rng(0)
    pictures, votes = ["emotion,pixels,Usage"], [HEADER]
    for number, (usage, counts) in enumerate(rows):
        grey = generator.integers(0, 256) // 2 + generator.integers(0, 128, 48 * 48)
        pictures.append(f"0,{' '.join(map(str, grey))},{usage}")
        votes.append(f"{usage},fer{number:07d}.png,{','.join(map(str, counts))}")
    (folder / "fer2013.csv").write_text("\n".join(pictures) + "\n")
    (folder / "fer2013new.csv").write_bytes(("\r\n".join(votes) + "\r\n").encode())
    return folder / "fer2013.csv", folder / "fer2013new.csv"


def test_majorities_and_what_is_left_out(tmp_path: Path) -> None:
    faces = read_faces(*write_files(tmp_path))
    training = faces["Training"]
    assert training.left_out == {"no majority": 1, "no face": 1, "no vote for a class": 1}
    assert training.targets.argmax(axis=1).tolist() == [0, 1, 2, 4]
    assert training.targets.sum(axis=1).tolist() == [1, 1, 1, 1]
    assert [len(faces[usage].pixels) for usage in ferplus.USAGES] == [4, 2, 1]
    first = (tmp_path / "fer2013.csv").read_text().splitlines()[1].split(",")[1].split()
    assert training.pixels[0].ravel().tolist() == [int(value) for value in first]


def test_soft_labels_are_shares_of_the_votes_for_classes(tmp_path: Path) -> None:
    training = read_faces(*write_files(tmp_path), labels="soft")["Training"]
    assert training.left_out == {"no face": 1, "no vote for a class": 1}
    np.testing.assert_allclose(training.targets[0], [0.8, 0, 0, 0.2, 0, 0, 0, 0])
    np.testing.assert_allclose(training.targets[2], [0, 0, 0.75, 0, 0, 0, 0.25, 0])
    np.testing.assert_allclose(training.targets[3], [0.5, 0, 0, 0.5, 0, 0, 0, 0])


def test_files_that_are_not_ferplus_are_refused_with_the_place(tmp_path: Path) -> None:
    pictures, votes = write_files(tmp_path)
    good_pictures, good_votes = pictures.read_text(), votes.read_bytes()
    with pytest.raises(DataError, match="no such file"):
        read_faces(tmp_path / "absent.csv", votes)
    pictures.write_text("\n".join(good_pictures.splitlines()[:-1]))
    with pytest.raises(DataError, match=r"fer2013\.csv: ends before"):
        read_faces(pictures, votes)
    pictures.write_text(good_pictures.replace("PublicTest", "PrivateTest", 1))
    with pytest.raises(DataError, match=r'line 9.* found the usages "PrivateTest" and "PublicTest"'):
        read_faces(pictures, votes)
    lines = good_pictures.splitlines()
    lines[2] = "0,1 2 3,Training"
    pictures.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"fer2013\.csv, line 3: expected 2304 pixels"):
        read_faces(pictures, votes)
    pictures.write_text(good_pictures)
    votes.write_bytes(good_votes.replace(b"contempt", b"scorn"))
    with pytest.raises(DataError, match="lacks the columns contempt"):
        read_faces(pictures, votes)
    votes.write_bytes(good_votes.replace(b"fer0000001.png,0,10", b"fer0000001.png,0,x"))
    with pytest.raises(DataError, match="line 3: expected whole numbers"):
        read_faces(pictures, votes)
    with pytest.raises(DataError, match="no row of the usage Training"):
        train(read_faces(*write_files(tmp_path, ROWS[-3:])), SMALL, tmp_path / "w.safetensors")


@pytest.mark.slow
def test_training_learns_writes_safetensors_and_is_deterministic(tmp_path: Path) -> None:
    """Eight faces of four greys: one batch is learnt by heart, and two runs give the same bytes."""
    classes = np.arange(8) % 4
    pixels = np.zeros((8, 48, 48), np.uint8) + (60 * classes + 20).astype(np.uint8)[:, None, None]
    pixels += np.random.default_rng(0).integers(0, 16, pixels.shape, dtype=np.uint8)
    part = ferplus.Faces(pixels, np.eye(8, dtype=np.float32)[classes], {})
    faces = {"Training": part, "PublicTest": part, "PrivateTest": part}
    settings = settings_of(epochs=4, batch_size=8, dropout=0.05)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    report = train(faces, settings, tmp_path / "a.safetensors")
    assert torch.equal(torch.random.get_rng_state(), before)  # nothing leaks
    losses = [epoch["loss"] for epoch in report["history"]]
    assert len(losses) == 4
    assert losses[-1] < 0.2 * losses[0]
    assert json.loads((tmp_path / "a.json").read_text())["test"] == report["test"]
    torch.manual_seed(6)
    train(faces, settings, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    network = _densenet.load(tmp_path / "a.safetensors")
    # what was written is the epoch that the report tells of
    prepared = denseface_training._prepare(part, "cpu")
    assert denseface_training._evaluate(network, prepared, 8) == pytest.approx(report["test"])


def test_moving_shifts_and_mirrors_and_nothing_else() -> None:
    pictures = torch.arange(2 * 64 * 64, dtype=torch.float32).reshape(2, 1, 64, 64).repeat(8, 1, 1, 1)
    moved = denseface_training._moved(pictures, torch.Generator().manual_seed(0))
    assert moved.shape == pictures.shape
    seen = set()
    for source, result in zip(pictures[:, 0].numpy(), moved[:, 0].numpy(), strict=True):
        fits = [
            (mirror, down, right)
            for mirror in (False, True)
            for down in range(-4, 5)
            for right in range(-4, 5)
            if np.array_equal(
                (np.fliplr(source) if mirror else source)[4 + down : 60 + down, 4 + right : 60 + right],
                result[4:60, 4:60],
            )
        ]
        assert len(fits) == 1
        seen.add(fits[0])
    assert {mirror for mirror, _, _ in seen} == {False, True}
    assert len(seen) > 8


@pytest.mark.slow
def test_the_stage_trains_before_video_is_extracted(tmp_path: Path) -> None:
    """DVC itself orders the two, and takes a second run from its cache."""
    project = tmp_path / "project"
    copy_project(project, size=20, epochs=1)
    pictures, votes = write_files(tmp_path)
    recipe = {"epochs": 1, "batch_size": 4, "labels": "soft"}
    change(project, "train_denseface", {"plus": {"fer2013": str(pictures), "ferplus": str(votes)} | recipe})
    change(project, "compute.device", "cpu")
    change(project, "extractors.video.denseface.weights", "data/denseface/plus.safetensors")
    change(project, "datasets.cremad.video.extractor", "denseface")
    change(project, "extractors.video.denseface.frame_rate_hz", 1)
    ran = repro(project, "extract-video@cremad")
    assert ran.index("train-denseface@plus") < ran.index("extract-video@cremad")
    assert repro(project, "extract-video@cremad") == []
    _densenet.load(project / "data/denseface/plus.safetensors")
    report = json.loads((project / "data/denseface/plus.json").read_text())
    assert report["settings"]["labels"] == "soft"
    assert report["faces"] == {"Training": 5, "PublicTest": 2, "PrivateTest": 1}
    store = FeatureStore(project / "data/features/cremad/video.h5")
    assert len(store.info.columns) == _densenet.FEATURES
    assert run(project, *GIT, "status", "--porcelain", "--", "data") == "?? data/\n"
    run(project, *GIT, "add", "data")
    assert run(project, *GIT, "diff", "--cached", "--name-only").split() == [
        "data/denseface/README.md",
        "data/predictions/README.md",
    ]
    change(project, "train_denseface.plus.epochs", 0)
    said = try_run(project, "dvc", "repro", "train-denseface@plus")
    assert "train_denseface.plus.epochs" in said.stderr + said.stdout
    with pytest.raises(ParamsError, match='there is no "minus"'):
        train_denseface.main(load_params(), "minus")


def test_the_classes_are_ferplus_columns_in_the_references_order() -> None:
    assert list(ferplus.VOTES) == HEADER.split(",")[2:]
    expected = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"]
    assert list(_densenet.CLASSES) == expected


def test_other_weights_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "w.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(AssetError, match="not the weights"):
        _densenet.load(path)
    torch.save({}, path)
    with pytest.raises(AssetError, match="not the weights"):
        _densenet.load(path)
