"""Figure 6 of UMDF: which representations are shown, by which groups, and that the page has it only where kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline import report
from pipeline.errors import DataError
from pipeline.reporting import figures
from pipeline.reporting.facts import gather
from pipeline.reporting.joint import apart, common_condition, joint_plane, read_joint
from tests import report_tree


def states(scores: bool = True) -> dict[str, np.ndarray]:
    """Return hidden.npz of 12 samples in fold 2, before them 3 of fold 1, and the last ones in groups far apart."""
    rng = np.random.default_rng(0)
    marks = np.array([9.0, 9.0, 9.0] + [-1.5, 0.0, 2.0] * 4)
    joint = np.sign(marks)[:, None] * 50 + rng.normal(0, 1, (15, 5))
    found = {
        "ids": np.array([f"x{i}" for i in range(15)]),
        "folds": np.array([3] * 3 + [2] * 12),
        "labels": np.array([0, 0, 0] + [1, 0, 1] * 4),
        "present": np.ones((15, 3), bool),
        "t/joint": joint.astype(np.float32),
        "avt/joint": rng.normal(0, 1, (15, 2, 5)).astype(np.float32),
    }
    return found | ({"scores": marks} if scores else {})


def write(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_those_of_one_network_by_sign_or_by_class(tmp_path: Path) -> None:
    path = write(tmp_path / "hidden.npz", states())
    kept = read_joint(path, ())
    assert (
        kept["names"].tolist() == ["negative", "neutral", "positive"] * 4
    )  # none of the other fold's network
    np.testing.assert_array_equal(kept["t/joint"], states()["t/joint"][3:])
    assert read_joint(path, ("happy", "sad"))["names"].tolist() == ["sad", "happy", "sad"] * 4


def test_nothing_is_there_and_what_is_damaged(tmp_path: Path) -> None:
    assert read_joint(tmp_path / "none.npz", ()) == {}
    assert read_joint(write(tmp_path / "empty.npz", {}), ()) == {}
    assert read_joint(write(tmp_path / "other.npz", {"vt/target": np.ones((2, 3))}), ()) == {}
    with pytest.raises(DataError, match="expected folds, scores and t/joint, avt/joint of one length"):
        read_joint(write(tmp_path / "old.npz", states(scores=False)), ())
    with pytest.raises(DataError, match="of one length"):
        read_joint(write(tmp_path / "short.npz", {**states(), "t/joint": np.ones((3, 5))}), ())


def test_text_alone_where_all_have_it_else_the_last_that_all_have() -> None:
    def named(*names: str) -> dict[str, np.ndarray]:
        return {"names": np.array(["x"]), **{f"{name}/joint": np.ones((1, 2)) for name in names}}

    assert common_condition([named("a", "t", "avt"), named("t", "avt")]) == "t"
    assert common_condition([named("a", "av", "avt"), named("av", "avt", "a")]) == "avt"
    assert common_condition([named("a"), named("av")]) is None and common_condition([]) is None


def test_the_plane_and_the_silhouette(tmp_path: Path) -> None:
    kept = read_joint(write(tmp_path / "hidden.npz", states()), ())
    groups = joint_plane(kept, "t")
    assert list(groups) == ["negative", "neutral", "positive"]
    assert [len(x) for x, _, _ in groups.values()] == [4, 4, 4]
    assert groups == joint_plane(kept, "t")
    flat = joint_plane(kept, "avt")  # (N, 2, 5) is flattened
    assert [len(y) for _, y, _ in flat.values()] == [4, 4, 4]
    # by hand: on a line 0, 1 | 10, 11: within 1, across 10.5 and 9.5: (1 - 1/10.5, 1 - 1/9.5, and the same again) / 4
    line = {"names": np.array(["a", "a", "b", "b"]), "t/joint": np.array([[0.0], [1.0], [10.0], [11.0]])}
    assert apart(line, "t") == pytest.approx((2 * (1 - 1 / 10.5) + 2 * (1 - 1 / 9.5)) / 4)
    assert apart({**line, "names": np.array(["a"] * 4)}, "t") is None
    assert apart({**line, "names": np.array(list("abcd"))}, "t") is None
    assert joint_plane({"names": np.array(["a"] * 3), "t/joint": np.ones((3, 2))}, "t") == {}


def test_panels_stand_in_rows() -> None:
    groups = {"negative": ([0.0], [1.0], False), "positive": ([1.0], [0.0], False)}
    panels = [(name, groups) for name in ("one", "two", "three")]
    for columns in (None, 2, 9):
        svg = figures.embeddings(panels, 400, 300, columns)
        assert all(svg.count(f">{name}<") == 1 for name in ("one", "two", "three", "negative", "positive"))


def test_the_page_shows_them_where_they_were_kept(tmp_path: Path) -> None:
    data = tmp_path / "data"
    report_tree.write_tree(data)
    params = report_tree.params()

    def page() -> str:
        report.write(params, *gather(params, data), tmp_path / "report")
        return (tmp_path / "report" / "index.html").read_text(encoding="utf-8")

    assert "Joint representations" not in page()
    for name in ("mmin", "augmented"):
        write(data / "results" / name / "hidden.npz", {**states(), "labels": np.array([0, 1, 2] * 5)})
    drawn = page()
    assert drawn.count("<h3>Joint representations</h3>") == 1 and drawn == page()
    picture = (tmp_path / "report/figures/demo-joint.svg").read_text(encoding="utf-8")
    assert ">augmented<" in picture and ">mmin<" in picture
    assert "Silhouette of the groups" in drawn
