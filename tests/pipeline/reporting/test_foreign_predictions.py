"""Predictions of other tools: measured on the same samples and folds; where they are wrong, the line is named."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pipeline import report
from pipeline.errors import DataError
from pipeline.params import Params
from pipeline.reporting.facts import ExperimentFacts, gather
from tests import report_tree

HEAD = ["id", "condition", "seed", "predicted"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("tree") / "data"
    report_tree.write_tree(data)
    report_tree.write_predictions(data, "mmin")
    (data / "predictions").mkdir()
    return data


def params() -> Params:
    base = report_tree.params()
    return report_tree.params(
        predictions={"theirs": {"file": "theirs.csv", "like": "mmin"}},
        experiments={"mmin": base.experiments["mmin"].model_dump(exclude_unset=True)},
        report={"title": "T", "baseline": "mmin"},
    )


def write(data: Path, rows: list[list[object]], head: list[str] | None = None) -> None:
    with (data / "predictions/theirs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([head or HEAD, *rows])


def read(data: Path) -> ExperimentFacts:
    return gather(params(), data)[1][-1]


def all_rows(said: str = "") -> list[list[object]]:
    """Return a prediction for each of the 40 samples under the full condition; the true class where none is given."""
    return [[f"demo_{i:03d}", "avt", 3, said or report_tree.CLASSES[i % 4]] for i in range(40)]


def test_it_is_measured_on_the_same_samples_and_folds(tree: Path) -> None:
    rows = all_rows()
    rows[0][3] = "angry"  # the first sample, happy, of fold 1, which has eight: two of each class
    write(tree, rows)
    found = read(tree)
    assert set(found.scores.values) == {(fold, 1) for fold in range(1, 6)}  # the one seed is run 1
    assert found.scores.of("avt", "wa") == {(1, 1): 7 / 8, (2, 1): 1, (3, 1): 1, (4, 1): 1, (5, 1): 1}
    assert found.confusion["avt"]["happy", "angry"] == 1 and found.confusion["avt"]["happy", "happy"] == 9
    assert found.state == "evaluated" and not found.failure


def test_probabilities_do_as_well(tree: Path) -> None:
    chances = [[1.0 if c == i % 4 else 0.0 for c in range(4)] for i in range(40)]
    rows = [[*row[:3], *chances[i]] for i, row in enumerate(all_rows())]
    write(tree, rows, [*HEAD[:3], *(f"p_{c}" for c in report_tree.CLASSES)])
    assert set(read(tree).scores.of("avt", "ua").values()) == {1.0}


def test_what_lacks_a_sample_is_not_measured_and_said_so(tree: Path, tmp_path: Path) -> None:
    write(tree, [*all_rows(), *[[row[0], "a", 3, row[3]] for row in all_rows()[:38]]])
    found = read(tree)
    assert found.scores.conditions == ("avt",)
    assert found.failure == "a of seed 3 lacks 2 of 40 samples"
    report.write(params(), *gather(params(), tree), tmp_path)
    text = (tmp_path / "index.html").read_text()
    assert "theirs: a of seed 3 lacks 2 of 40 samples" in text
    assert "theirs" in (tmp_path / "tables/demo-conditions.csv").read_text()  # one more row
    assert "theirs,mmin" in (tmp_path / "tables/demo-tests.csv").read_text()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (["demo_0001", "avt", 0, "happy"], r'line 2: found the id "demo_0001", which is no test sample'),
        (["demo_001", "tav", 0, "happy"], r'line 2: found the condition "tav", expected one of a, v'),
        (["demo_001", "avt", 0, "hapy"], r'line 2: found the class "hapy".*happy'),
        (["demo_001", "avt", "x", "happy"], r"line 2: found the seed"),
        (["demo_001", "avt", 0], r"line 2: found another number of fields"),
    ],
)
def test_a_wrong_line_is_named(tree: Path, row: list[object], words: str) -> None:
    write(tree, [row])
    with pytest.raises(DataError, match=words):
        read(tree)


def test_wrong_columns_and_twice_and_no_file(tree: Path) -> None:
    write(tree, [], ["id", "score"])
    with pytest.raises(DataError, match="expected id, condition, seed and p_happy"):
        read(tree)
    write(tree, [*all_rows(), all_rows()[0]])
    with pytest.raises(DataError, match="line 42: demo_000 comes twice"):
        read(tree)
    (tree / "predictions/theirs.csv").unlink()
    with pytest.raises(DataError, match=r"theirs\.csv: cannot be read"):
        read(tree)


def test_without_its_like_it_waits(tmp_path: Path) -> None:
    report_tree.write_data(tmp_path)
    found = read(tmp_path)
    assert found.state == "failed" and "waits for mmin" in found.failure
