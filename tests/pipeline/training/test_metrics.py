"""Metrics: every number here was worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as peer

from pipeline.training import metrics

# Truth 0 0 0 0 1 1 2, prediction 0 0 1 2 1 0 2.
CONFUSION = np.array([[2, 1, 1], [1, 1, 0], [0, 0, 1]])


def test_confusion_counts_truth_in_rows() -> None:
    found = metrics.confusion_matrix([0, 0, 0, 0, 1, 1, 2], [0, 0, 1, 2, 1, 0, 2], 3)
    assert found.tolist() == CONFUSION.tolist()


def test_of_classes_by_hand() -> None:
    found = metrics.of_classes(CONFUSION)
    assert found["wa"] == pytest.approx(4 / 7)
    assert found["ua"] == pytest.approx((2 / 4 + 1 / 2 + 1) / 3)
    # F1: class 0 4/(4+1+2), class 1 2/(2+1+1), class 2 2/(2+1+0)
    assert found["macro_f1"] == pytest.approx((4 / 7 + 1 / 2 + 2 / 3) / 3)
    assert found["weighted_f1"] == pytest.approx((4 * 4 / 7 + 2 * 1 / 2 + 1 * 2 / 3) / 7)


def test_weighted_f1_is_weighted_by_the_truth_not_by_the_prediction() -> None:
    swapped = metrics.weighted_f1(CONFUSION.T)
    assert swapped != pytest.approx(metrics.weighted_f1(CONFUSION))


def test_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 5, 300), rng.integers(0, 5, 300)
    found = metrics.of_classes(metrics.confusion_matrix(truth, predicted, 5))
    assert found["wa"] == pytest.approx(peer.accuracy_score(truth, predicted))
    assert found["ua"] == pytest.approx(peer.balanced_accuracy_score(truth, predicted))
    assert found["macro_f1"] == pytest.approx(peer.f1_score(truth, predicted, average="macro"))
    assert found["weighted_f1"] == pytest.approx(peer.f1_score(truth, predicted, average="weighted"))


def test_classes_that_do_not_occur_count_for_nothing() -> None:
    padded = np.zeros((5, 5), np.int64)
    padded[:3, :3] = CONFUSION
    assert metrics.of_classes(padded) == pytest.approx(metrics.of_classes(CONFUSION))


def test_no_samples_give_zeros() -> None:
    assert set(metrics.of_classes(np.zeros((3, 3), np.int64)).values()) == {0.0}


def test_of_scores_by_hand() -> None:
    truth = np.array([-2.0, -0.4, 0.0, 0.6, 3.0, 1.5])
    predicted = np.array([-2.6, 0.2, 0.4, 1.4, 4.0, -0.5])
    found = metrics.of_scores(truth, predicted)
    assert found["mae"] == pytest.approx((0.6 + 0.6 + 0.4 + 0.8 + 1.0 + 2.0) / 6)
    assert found["r"] == pytest.approx(np.corrcoef(truth, predicted)[0, 1])
    # >= 0: truth - - + + + +, prediction - + + + + -
    assert found["acc2_has0"] == pytest.approx(4 / 6)
    # without the third, > 0: truth - - + + +, prediction - + + + -
    assert found["acc2_non0"] == pytest.approx(3 / 5)
    # has0, F1: negative 2/(2+1+1), support 2; positive 6/(6+1+1), 4
    assert found["f1_has0"] == pytest.approx((2 * 0.5 + 4 * 0.75) / 6)
    # non0, F1: negative 2/(2+1+1), support 2; positive 4/(4+1+1), support 3
    assert found["f1_non0"] == pytest.approx((2 * 0.5 + 3 * 2 / 3) / 5)
    # rounded, clipped at 3: truth -2 0 0 1 3 2 (1.5 rounds to the even 2), prediction -3 0 0 1 3 0 (-0.5 to 0)
    assert found["acc7"] == pytest.approx(4 / 6)
    # clipped at 2: truth -2 0 0 1 2 2, prediction -2 0 0 1 2 0
    assert found["acc5"] == pytest.approx(5 / 6)


def test_half_rounds_to_the_even_number() -> None:
    found = metrics.of_scores([0.5, 1.5, 2.5, -1.5], [0.0, 2.0, 2.0, -2.0])
    assert found["acc7"] == 1.0


def test_buckets_of_mosei() -> None:
    # < -2, [-2, -1), [-1, 0), 0, (0, 1], (1, 2], > 2
    truth = np.array([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
    for shown, same in (
        ([-2.1, -1.1, -0.1, 0.0, 0.1, 1.1, 2.1], 1.0),
        ([-2.0, -1.0, 0.0, 0.1, 1.1, 2.1, 2.0], 0.0),
    ):
        assert metrics.of_scores(truth, shown)["acc7_buckets"] == same


def test_of_sims_by_hand() -> None:
    truth = np.array([-1.0, -0.6, 0.0, 0.2, 0.8, 0.1])
    predicted = np.array([-3.0, -0.8, -0.2, 0.4, 0.6, 0.0])
    found = metrics.of_scores(truth, predicted)
    # > 0: truth - - - + + +, prediction - - - + + -
    assert found["sims_acc2"] == pytest.approx(5 / 6)
    # cuts at -0.1 and 0.1, upper ends belong: truth 0 0 1 2 2 1, prediction 0 0 0 2 2 1
    assert found["sims_acc3"] == pytest.approx(5 / 6)
    # cuts at -0.7, -0.1, 0.1, 0.7: truth 0 1 2 3 4 2, prediction 0 0 1 3 3 2
    assert found["sims_acc5"] == pytest.approx(3 / 6)
    # F1: negative 6/(6+1+0), positive 4/(4+0+1); support 3 and 3
    assert found["sims_f1"] == pytest.approx((6 / 7 + 4 / 5) / 2)


def test_a_constant_prediction_correlates_with_nothing() -> None:
    assert metrics.pearson(np.array([1.0, 2.0]), np.array([3.0, 3.0])) == 0.0


def test_mean_and_deviation() -> None:
    assert metrics.mean_and_deviation([1.0, 2.0, 6.0]) == pytest.approx((3.0, 7.0**0.5))
    assert metrics.mean_and_deviation([1.0, 3.0]) == pytest.approx((2.0, 2.0**0.5))
    assert metrics.mean_and_deviation([4.0]) == (4.0, None)


def test_average_is_over_the_named_conditions() -> None:
    rows = {"a": {"wa": 0.2, "ua": 0.4}, "v": {"wa": 0.4, "ua": 0.8}, "avt": {"wa": 1.0, "ua": 1.0}}
    assert metrics.average(rows, ("a", "v")) == pytest.approx({"wa": 0.3, "ua": 0.6})


def test_what_cannot_be_told_from_a_mean_of_equal_numbers_is_constant() -> None:
    tenths = np.full(3, 0.1)
    assert tenths.mean() != 0.1, "else nothing is tested here"
    assert metrics.pearson(np.array([1.0, 2.0, 4.0]), tenths) == 0.0
    assert metrics.concordance(np.array([1.0, 2.0, 4.0]), tenths) == 0.0
    assert metrics.concordance(tenths, np.array([1.0, 2.0, 4.0])) == 0.0
    assert metrics.concordance(tenths, tenths) == 0.0


def test_ccc_by_hand() -> None:
    """Means 2 and 3, variances 2/3 and 8/3, covariance 4/3: 2 * 4/3 / (2/3 + 8/3 + 1) = 8/13; r is 1."""
    truth, predicted = np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 5.0])
    assert metrics.concordance(truth, predicted) == pytest.approx(8 / 13)
    assert metrics.pearson(truth, predicted) == pytest.approx(1)
    assert metrics.concordance(truth, truth) == pytest.approx(1)
    assert metrics.concordance(truth, -truth + 4) == pytest.approx(-1)
    assert metrics.concordance(truth, np.full(3, 2.0)) == 0.0


def test_scales_by_hand() -> None:
    valence = metrics.Scale.of("valence", {"valence": [1, 7]}, 3.0)
    assert valence == metrics.Scale(1, 7, sentiment=False)
    assert (valence.centre, valence.limit, list(valence.metrics)) == (4, 3, ["mae", "r", "ccc"])
    assert metrics.Scale.of("score_text", {"valence": [1, 7]}, 3.0) == metrics.Scale(-3, 3)
    assert metrics.Scale.of("score", {"score": [0, 10]}, 3.0) == metrics.Scale(0, 10, sentiment=False)
    assert metrics.Scale.of("dominance", {"valence": [1, 7]}, 3.0) is None
    assert metrics.Scale.of("score", {}, None) is None


def test_mae_and_r_of_sims_are_those_of_clipped_scores() -> None:
    truth, predicted = np.array([-1.0, 0.0, 0.8, 1.0]), np.array([-3.0, 0.2, 0.4, 2.0])
    sims = metrics.of_scores(truth, predicted, metrics.Scale(-1, 1).metrics)
    assert sims["mae"] == pytest.approx((0 + 0.2 + 0.4 + 0) / 4)
    assert sims["r"] == pytest.approx(np.corrcoef(truth, [-1, 0.2, 0.4, 1])[0, 1])
    mosi = metrics.of_scores(truth, predicted, metrics.Scale(-3, 3).metrics)
    assert mosi["mae"] == pytest.approx((2 + 0.2 + 0.4 + 1) / 4)
    assert list(sims) == ["mae", "r", "ccc", "sims_acc2", "sims_acc3", "sims_acc5", "sims_f1"]
    assert list(mosi)[:2] == ["mae", "r"] and "acc7" in mosi


def test_a_float32_score_on_an_edge_of_sims_is_on_it() -> None:
    """float32 0.1 is above the float64 0.1, and float32 -0.7 above -0.7; the upper end belongs to an interval."""
    edges = np.array([-0.7, -0.1, 0.1, 0.7], np.float32)
    below = np.array([-0.9, -0.3, 0.0, 0.4], np.float32)  # in the intervals that these edges close
    found = metrics.of_scores(edges, below, metrics.Scale(-1, 1).metrics)
    assert found["sims_acc5"] == 1.0
    assert found["sims_acc3"] == 1.0
    beyond = metrics.of_scores(edges, np.nextafter(edges, np.float32(1)), metrics.Scale(-1, 1).metrics)
    assert beyond["sims_acc5"] == 0.0
    assert beyond["sims_acc3"] == 2 / 4  # -0.1 and 0.1 are edges of three classes, too


def test_sims_clips_the_truth_as_well() -> None:
    """Clipped: truth -1 1, prediction -1 0.5; errors 0 and 0.5. Beyond either end, on either side."""
    found = metrics.SIMS_METRICS["mae"](np.array([-1.5, 1.5]), np.array([-1.75, 0.5]))
    assert found == 0.25
    assert metrics.SIMS_METRICS["mae"](np.array([-0.5, 0.5]), np.array([-2.0, 3.0])) == 0.5


def test_two_answers_may_be_alike_but_one_is_like_no_other() -> None:
    assert metrics.all_alike([3, 3]) and not metrics.all_alike([3]) and not metrics.all_alike([3, 2])
    assert metrics.all_alike([1.0, 1.02], 3.0) and not metrics.all_alike([1.0, 1.04], 3.0)  # 0.01 of 3


def test_r_of_differences_whose_squares_are_no_numbers() -> None:
    tiny = np.array([0.0, 1e-200])
    assert metrics.pearson(tiny, tiny) == 0.0
