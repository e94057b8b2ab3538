"""Figure 3: who is shown, what the numbers below it say, and that the page has it only where asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import report
from pipeline.data.manifest import Sample, read_manifest, write_manifest
from pipeline.errors import DataError
from pipeline.evaluate import write_embeddings
from pipeline.reporting.embeddings import GENDERS, choose_speakers, distances, plane, read_embeddings
from pipeline.reporting.facts import gather
from tests import report_tree

IDS = [f"x{i}" for i in range(12)]


def kept(ids: list[str] = IDS, left_out: list[str] | None = None) -> dict[str, np.ndarray]:
    """Return embeddings of three clusters, imagined exactly (a), as their mean (v), and shifted (t)."""
    rng = np.random.default_rng(0)
    found: dict[str, np.ndarray] = {"ids": np.array(ids), "folds": np.ones(len(ids), np.int64)}
    found["left_out"] = np.array(left_out or [], np.str_)
    for place, m in enumerate("avt"):
        true = rng.normal(0, 1, (len(ids), 6)).astype(np.float32) + np.float32(40 * place)
        made = {"a": true, "v": np.broadcast_to(true.mean(axis=0), true.shape), "t": true + 3}[m]
        found[f"true_{m}"], found[f"imagined_{m}"] = true, np.ascontiguousarray(made, np.float32)
    return found


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


def test_distances_by_hand() -> None:
    found = distances(kept(), range(12))
    assert found["a"] == 0
    assert found["v"] == pytest.approx(1)
    true = kept()["true_t"].astype(float)
    assert found["t"] == pytest.approx(9 / true.var(axis=0).mean(), rel=1e-4)


def test_the_plane_keeps_apart_what_is_apart() -> None:
    groups = plane(kept(), range(12))
    assert [(label, imagined) for label, (_, _, imagined) in groups.items()] == [
        ("a", False), ("v", False), ("t", False), ("a imagined", True), ("v imagined", True), ("t imagined", True),
    ]  # fmt: skip
    assert groups == plane(kept(), range(12))
    centre = {label: np.array([np.mean(x), np.mean(y)]) for label, (x, y, _) in groups.items()}
    own = np.linalg.norm(centre["a"] - centre["a imagined"])
    assert all(np.linalg.norm(centre["a"] - centre[m]) > 3 * own for m in ("v", "t"))


def test_files_that_are_absent_empty_or_damaged(tmp_path: Path) -> None:
    assert read_embeddings(tmp_path / "none.npz") == {}
    write_embeddings(tmp_path / "empty.npz", {})
    assert read_embeddings(tmp_path / "empty.npz") == {}
    write_embeddings(tmp_path / "part.npz", {"ids": np.array(["x"])})
    with pytest.raises(DataError, match="expected"):
        read_embeddings(tmp_path / "part.npz")
    write_embeddings(tmp_path / "whole.npz", kept(left_out=["y", "z"]))
    assert read_embeddings(tmp_path / "whole.npz")["left_out"].tolist() == ["y", "z"]
    write_embeddings(tmp_path / "short.npz", {**kept(), "true_a": kept()["true_a"][:3]})
    with pytest.raises(DataError, match="of one length"):
        read_embeddings(tmp_path / "short.npz")
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

    write_embeddings(data / "results" / "mmin" / "embeddings.npz", {})
    assert "True and imagined embeddings" not in page()
    write_embeddings(data / "results" / "mmin" / "embeddings.npz", kept(ids, ["x1", "x2", "x3"]))
    assert "gender is known: there is no figure" in page()  # the tree's manifest has none
    manifest = data / "manifests" / "demo.csv"
    rows = [replace(row, gender=GENDERS[i % 2]) for i, row in enumerate(read_manifest(manifest))]
    write_manifest(manifest, rows)
    drawn = page()
    assert drawn == page()
    assert "3 test samples that lack a modality in the recording are left out." in drawn
    assert "female speaker s0 (4 samples): a 0.00" in drawn and "male speaker s1 (4 samples)" in drawn
    assert "a imagined" in (tmp_path / "report/figures/demo-mmin-embeddings.svg").read_text()
