"""Figure 3: who is shown, what the numbers below it say, and that the page has it only where asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import report
from pipeline.data.manifest import Sample, read_manifest, write_manifest
from pipeline.errors import DataError
from pipeline.reporting.embeddings import GENDERS, choose_speakers, distances, plane, read_embeddings
from pipeline.reporting.facts import gather
from tests import report_tree

IDS = [f"x{i}" for i in range(12)]


def states(ids: list[str] = IDS, lacking: int = 0) -> dict[str, np.ndarray]:
    """Return what hidden.npz holds: three clusters, imagined exactly (a), as their mean (v), and shifted (t).

    Args:
        ids: of the samples.
        lacking: how many further samples to put in front, without text.
    """
    rng = np.random.default_rng(0)
    every = [*(f"y{i}" for i in range(lacking)), *ids]
    present = np.ones((len(every), 3), bool)
    present[:lacking, 0] = False
    found: dict[str, np.ndarray] = {"ids": np.array(every), "folds": np.ones(len(every), np.int64)}
    found |= {"labels": np.zeros(len(every), np.int64), "present": present}
    for place, (m, others) in enumerate((("a", "vt"), ("v", "at"), ("t", "av"))):
        true = rng.normal(0, 1, (len(ids), 6)).astype(np.float32) + np.float32(40 * place)
        made = {"a": true, "v": np.broadcast_to(true.mean(axis=0), true.shape), "t": true + 3}[m]
        wrong = np.full((lacking, 6), 1e6, np.float32)
        found[f"{others}/target"] = np.concatenate([wrong, true])
        found[f"{others}/imagined"] = np.concatenate([wrong, made.astype(np.float32)])
    return found


def write(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


@pytest.fixture
def kept(tmp_path: Path) -> dict[str, np.ndarray]:
    return read_embeddings(write(tmp_path / "hidden.npz", states()))


def samples() -> list[Sample]:
    """Return six of one woman, two of a man (too few), four of another, and one that was not tested."""
    who = [("f1", "female")] * 6 + [("m1", "male")] * 2 + [("m2", "male")] * 4
    rows = [Sample(id=i, speaker=s, gender=g, session="1") for i, (s, g) in zip(IDS, who, strict=True)]
    return [*rows, Sample(id="other", speaker="f0", gender="female", session="1")]


def test_a_woman_and_a_man_with_enough_samples() -> None:
    assert choose_speakers(samples(), IDS) == [
        ("female speaker f1", [0, 1, 2, 3, 4, 5]),
        ("male speaker m2", [8, 9, 10, 11]),
    ]
    assert choose_speakers(samples(), ["other"]) == []


def test_distances_by_hand(kept: dict[str, np.ndarray]) -> None:
    found = distances(kept, range(12))
    assert found["a"] == 0
    assert found["v"] == pytest.approx(1)
    true = states()["av/target"].astype(float)
    assert found["t"] == pytest.approx(9 / true.var(axis=0).mean(), rel=1e-4)


def test_the_plane_keeps_apart_what_is_apart(kept: dict[str, np.ndarray]) -> None:
    groups = plane(kept, range(12))
    assert [(label, imagined) for label, (_, _, imagined) in groups.items()] == [
        ("a", False), ("v", False), ("t", False), ("a imagined", True), ("v imagined", True), ("t imagined", True),
    ]  # fmt: skip
    assert groups == plane(kept, range(12))
    centre = {label: np.array([np.mean(x), np.mean(y)]) for label, (x, y, _) in groups.items()}
    own = np.linalg.norm(centre["a"] - centre["a imagined"])
    assert all(np.linalg.norm(centre["a"] - centre[m]) > 3 * own for m in ("v", "t"))


def test_samples_that_lack_a_modality_have_no_true_embedding(
    kept: dict[str, np.ndarray], tmp_path: Path
) -> None:
    found = read_embeddings(write(tmp_path / "some.npz", states(lacking=2)))
    assert found["left_out"].tolist() == ["y0", "y1"] and kept["left_out"].tolist() == []
    assert found["ids"].tolist() == IDS
    assert all((found[name] == kept[name]).all() for name in kept if name != "left_out")


def test_files_that_are_absent_empty_or_damaged(tmp_path: Path) -> None:
    assert read_embeddings(tmp_path / "none.npz") == {}
    assert read_embeddings(write(tmp_path / "empty.npz", {})) == {}
    other = {
        "ids": np.array(["x"]),
        "present": np.ones((1, 3), bool),
        "avt/joint": np.ones((1, 4), np.float32),
    }
    assert read_embeddings(write(tmp_path / "other.npz", other)) == {}  # kept, but nothing imagined
    nobody = {name: values[:2] for name, values in states(lacking=2).items()}
    assert read_embeddings(write(tmp_path / "nobody.npz", nobody)) == {}
    without = {name: values for name, values in states().items() if name != "present"}
    for damaged in (without, {**states(), "vt/target": states()["vt/target"][:3]}):
        with pytest.raises(DataError, match="of one length"):
            read_embeddings(write(tmp_path / "short.npz", damaged))
    (tmp_path / "bad.npz").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="cannot be read"):
        read_embeddings(tmp_path / "bad.npz")


def test_the_page_shows_them_where_they_were_kept(tmp_path: Path) -> None:
    data = tmp_path / "data"
    report_tree.write_tree(data)
    ids = [sample.id for sample in read_manifest(data / "manifests" / "demo.csv")]

    def page() -> str:
        params = report_tree.params()
        report.write(params, *gather(params, data), tmp_path / "report")
        return (tmp_path / "report" / "index.html").read_text(encoding="utf-8")

    write(data / "results" / "mmin" / "hidden.npz", {})
    assert "True and imagined embeddings" not in page()
    write(data / "results" / "mmin" / "hidden.npz", states(ids, lacking=3))
    assert "gender is known: there is no figure" in page()  # the tree's manifest has none
    manifest = data / "manifests" / "demo.csv"
    rows = [replace(row, gender=GENDERS[i % 2]) for i, row in enumerate(read_manifest(manifest))]
    write_manifest(manifest, rows)
    drawn = page()
    assert drawn == page()
    assert "3 test samples that lack a modality in the recording are left out." in drawn
    assert "female speaker s0 (4 samples): a 0.00" in drawn and "male speaker s1 (4 samples)" in drawn
    assert "a imagined" in (tmp_path / "report/figures/demo-mmin-embeddings.svg").read_text()
