"""predictions.csv reduced: means over runs, pooled averages and calibration, against numbers worked by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.masks import MISSING_CONDITIONS
from pipeline.errors import DataError
from pipeline.reporting.predictions import BINS, Predictions, calibration_error, read_predictions
from pipeline.training import metrics

HEAD = "experiment,fold,run,condition,id,label,predicted,p_yes,p_=no"
CLASSES = ("yes", "=no")


def write(path: Path, *rows: str, head: str = HEAD) -> Path:
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path


def read(path: Path) -> Predictions:
    found = read_predictions(path, CLASSES, metrics.MOSI_SCALE)
    assert found is not None
    return found


@pytest.fixture
def two_runs(tmp_path: Path) -> Path:
    """Two samples under one condition by two runs; the label =no is written so that it is no formula."""
    return write(
        tmp_path / "predictions.csv",
        "e,1,1,avt,s1,yes,yes,0.9,0.1",
        "e,1,1,avt,s2,'=no,yes,0.6,0.4",
        "e,1,2,avt,s1,yes,yes,0.7,0.3",
        "e,1,2,avt,s2,'=no,'=no,0.2,0.8",
    )


def test_means_over_runs(two_runs: Path) -> None:
    found = read(two_runs)
    assert (found.ids, found.conditions, found.truth.tolist()) == (("s1", "s2"), ("avt",), [0, 1])
    assert found.said[:, 0].tolist() == [pytest.approx([0.8, 0.2]), pytest.approx([0.4, 0.6])]
    assert found.right[:, 0].tolist() == [1.0, 0.5]
    assert found.losses()[:, 0].tolist() == [pytest.approx(-math.log(0.8)), pytest.approx(-math.log(0.6))]
    assert found.pooled == {}  # one condition is no average


def test_the_expected_calibration_error_by_hand(two_runs: Path) -> None:
    found = read(two_runs)
    # confidences .9 (right), .6 (wrong), .7 (right), .8 (right), each in a bin of its own of 1/15:
    # (|1 - .9| + |0 - .6| + |1 - .7| + |1 - .8|) / 4 = 1.2 / 4
    assert found.bins[0].sum(axis=0).tolist() == [4, pytest.approx(3.0), 3]
    assert calibration_error(found.bins[0]) == pytest.approx(0.3)
    assert calibration_error(np.zeros((BINS, 3))) is None


def test_the_edges_of_the_bins(tmp_path: Path) -> None:
    path = write(
        tmp_path / "predictions.csv",
        "e,1,1,avt,s1,yes,yes,1.000000,0.000000",
        "e,1,1,avt,s2,yes,yes,0.600000,0.400000",  # 9/15: the upper end of the ninth bin
    )
    assert read(path).bins[0, :, 0].tolist() == [0] * 8 + [1] + [0] * 5 + [1]


def test_the_pooled_average_is_not_the_mean_of_the_six(tmp_path: Path) -> None:
    rows = []
    for place, condition in enumerate(MISSING_CONDITIONS):
        for index, label in enumerate(("yes", "yes", "'=no")):
            said = "yes" if index < 2 or place % 2 else "'=no"  # the =no is found under three of the six
            rows.append(f"e,1,1,{condition},s{index},{label},{said},0.5,0.5")
    found = read(write(tmp_path / "p.csv", *rows))
    # 12 of 12 yes are found, 3 of 6 =no: F1 of yes 24 / 27, of =no 6 / 9
    assert found.pooled[1, 1]["wa"] == pytest.approx(15 / 18)
    assert found.pooled[1, 1]["macro_f1"] == pytest.approx((24 / 27 + 6 / 9) / 2)
    each = [metrics.macro_f1(np.array([[2, 0], [wrong, 1 - wrong]])) for wrong in (0, 1)]
    assert np.mean(each) != pytest.approx(found.pooled[1, 1]["macro_f1"], abs=1e-3)


def test_of_a_regression(tmp_path: Path) -> None:
    head = "experiment,fold,run,condition,id,score,predicted"
    rows = [f"e,{fold},1,{c},{s},{t},{p}" for c in MISSING_CONDITIONS for fold, s, t, p in
            ((1, "a", 1.0, 0.5), (1, "b", -1.0, -2.0), (2, "c", 2.0, 2.25))]  # fmt: skip
    found = read_predictions(write(tmp_path / "p.csv", *rows, head=head), (), metrics.MOSI_SCALE)
    assert found is not None
    assert found.pooled[1, 1]["mae"] == pytest.approx(0.75)
    assert found.pooled[2, 1]["mae"] == pytest.approx(0.25)
    assert found.losses()[:, 0].tolist() == [0.5, 1.0, 0.25]
    assert found.right[1].tolist() == [1.0] * 6 and not found.bins.any()


def test_a_number_that_is_none_stays_none(tmp_path: Path) -> None:
    head = "experiment,fold,run,condition,id,score,predicted"
    found = read_predictions(
        write(tmp_path / "p.csv", "e,1,1,avt,a,1.0,nan", head=head), (), metrics.MOSI_SCALE
    )
    assert found is not None and math.isnan(found.losses()[0, 0])
    path = write(tmp_path / "q.csv", "e,1,1,avt,s1,yes,yes,nan,nan")
    assert read(path).bins.sum() == 0


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("e,1,1,avt,s2,maybe,yes,0.5,0.5", "'maybe'"),
        ("e,1,1,avt,s1,'=no,yes,0.5,0.5", "two labels"),
        ("e,1,1,avt,s2,yes", "cannot be read"),
        ("e,1,1,avt,s2,yes,yes,much,0.5", "cannot be read"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, row: str, words: str) -> None:
    head = "experiment,fold,run,condition,id,label,predicted,p_yes,p_=no"
    path = write(tmp_path / "p.csv", "e,1,1,avt,s1,yes,yes,0.9,0.1", row, head=head)
    with pytest.raises(DataError, match=words) as error:
        read(path)
    assert "p.csv" in str(error.value)


def test_no_file_and_no_rows(tmp_path: Path) -> None:
    assert read_predictions(tmp_path / "p.csv", CLASSES, metrics.MOSI_SCALE) is None
    with pytest.raises(DataError):
        read(write(tmp_path / "p.csv"))


def test_parts_of_one_row_are_joined(two_runs: Path) -> None:
    found = read(two_runs)
    other = Predictions(found.ids, ("a", "v"), found.classes, found.folds, found.truth, np.repeat(found.said, 2, 1),
                        np.repeat(found.right, 2, 1), {}, np.repeat(found.bins, 2, 0))  # fmt: skip
    joined = Predictions.merged([found, other.only(["v"])])
    assert joined is not None and joined.conditions == ("avt", "v") and joined.said.shape == (2, 2, 2)
    assert Predictions.merged([found, other.only(["v"])]) is not None
    less = Predictions(("s1",), *list(vars(other).values())[1:])
    assert Predictions.merged([found, less]) is None
