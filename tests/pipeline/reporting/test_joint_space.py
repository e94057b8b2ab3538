"""EMMR's Figure 7: which samples are drawn, that classes that lie apart stay apart, and the silhouette by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline import report
from pipeline.errors import DataError
from pipeline.reporting.facts import gather
from pipeline.reporting.joint_space import joint_plane, read_joint, silhouette
from tests import report_tree
from tests.report_tree import CLASSES


def write(
    path: Path, conditions: tuple[str, ...] = ("one-missing",), size: int = 24, **other: np.ndarray
) -> Path:
    """Write four classes, each around a corner of its own; fold 2 has all but the first four samples."""
    labels = np.arange(size) % 4
    corners = 30 * np.eye(4, 6) + np.random.default_rng(0).normal(0, 1, (4, 6))
    vectors = corners[labels] + np.random.default_rng(1).normal(0, 1, (size, 6))
    arrays = {
        "ids": np.array([f"demo_{i:03d}" for i in range(size)]),
        "folds": np.where(np.arange(size) < 4, 1, 2),
        "labels": labels,
        "present": np.ones((size, 3), bool),
        **{f"{name}/joint": vectors.astype(np.float32) for name in conditions},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **(arrays | other))  # type: ignore[arg-type]
    return path


def test_the_test_part_of_one_fold_is_read(tmp_path: Path) -> None:
    found = read_joint(write(tmp_path / "hidden.npz", ("m", "n")))
    assert found is not None and found.vectors.keys() == {"m", "n"}
    assert found.ids == [f"demo_{i:03d}" for i in range(4, 24)]
    assert found.labels.tolist() == [0, 1, 2, 3] * 5 and found.vectors["m"].shape == (20, 6)


def test_where_there_is_nothing_and_where_it_is_damaged(tmp_path: Path) -> None:
    assert read_joint(tmp_path / "none.npz") is None
    assert read_joint(write(tmp_path / "other.npz", ())) is None
    assert read_joint(write(tmp_path / "time.npz", (), **{"m/joint": np.zeros((24, 3, 2))})) is None
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    short = write(tmp_path / "short.npz", **{"m/joint": np.zeros((3, 6))})
    for path in (tmp_path / "bad.npz", short):
        with pytest.raises(DataError, match=r"cannot be read.*evaluate"):
            read_joint(path)


def test_the_plane_keeps_apart_what_is_apart(tmp_path: Path) -> None:
    joint = read_joint(write(tmp_path / "hidden.npz"))
    assert joint is not None
    points = joint_plane(joint.vectors["one-missing"])
    apart = np.linalg.norm(points[:, None] - points[None], axis=2) + 1e9 * np.eye(len(points))
    assert (joint.labels[apart.argmin(axis=1)] == joint.labels).all()
    assert (points == joint_plane(joint.vectors["one-missing"])).all()


def test_the_silhouette_by_hand() -> None:
    # on a line: a at 0 and 2, b at 10 and 14. Of 0: own 2, other 12, 10/12; of 2: 2, 10, 8/10; of 10: 4, 9, 5/9; of 14:
    # 4, 13, 9/13
    line = np.array([[0.0], [2.0], [10.0], [14.0]])
    expected = (10 / 12 + 8 / 10 + 5 / 9 + 9 / 13) / 4
    assert silhouette(line, ["a", "a", "b", "b"]) == pytest.approx(expected)
    assert silhouette(line, ["a"] * 4) is None and silhouette(line, list("abcd")) is None


@pytest.mark.parametrize(
    ("conditions", "panels"), [(("one-missing-at-20", "one-missing-at-40"), 2), (tuple(report_tree.LEVEL), 1)]
)
def test_the_page_shows_them_where_they_were_kept(
    tmp_path: Path, conditions: tuple[str, ...], panels: int
) -> None:
    data, params = tmp_path / "data", report_tree.params()
    report_tree.write_tree(data)
    write(data / "results" / "mmin" / "hidden.npz", conditions)
    report.write(params, *gather(params, data), data / "report")
    page = (data / "report" / "index.html").read_text(encoding="utf-8")
    assert "Joint representations by class" in page
    words = page.partition("Silhouette of the classes")[2].partition("</desc>")[0]
    assert words.count("mmin, ") == panels and f"mmin, {'t' if panels == 1 else conditions[0]}: 0.9" in words
    svg = (data / "report" / "figures" / "demo-joint-1.svg").read_text()
    assert svg.count(">mmin") == panels and all(name in svg for name in CLASSES)
