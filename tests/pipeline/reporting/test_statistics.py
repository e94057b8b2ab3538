"""Means, deviations and t-tests, against numbers worked by hand."""

from __future__ import annotations

import math

import pytest

from pipeline.reporting.statistics import AVERAGE, CONDITIONS, Number, Scores, condition_words, paired_test


def scores(*folds: float, metric: str = "ua") -> Scores:
    """Return one number a fold under the full condition."""
    return Scores({(fold, 1): {"avt": {metric: value}} for fold, value in enumerate(folds, start=1)})


def test_number_is_the_mean_and_the_sample_deviation() -> None:
    number = Number.over([0.5, 0.6, 0.7])
    assert number is not None
    assert number.mean == pytest.approx(0.6)
    assert number.deviation == pytest.approx(0.1)  # n - 1; n would give 0.0816
    assert number.count == 3


def test_one_value_has_no_deviation_and_none_has_no_number() -> None:
    assert Number.over([0.5]) == Number(0.5, None, 1)
    assert Number.over([]) is None


def test_average_is_over_the_six_missing_conditions_alone() -> None:
    one = {name: {"ua": index / 10} for index, name in enumerate(CONDITIONS)}  # 0.0 ... 0.5, full 0.6
    assert Scores({(1, 1): one}).of(AVERAGE, "ua") == {(1, 1): pytest.approx(0.25)}


def test_a_fold_that_lacks_a_condition_has_no_average() -> None:
    one = {name: {"ua": 0.5} for name in CONDITIONS if name != "vt"}
    assert Scores({(1, 1): one}).of(AVERAGE, "ua") == {}
    assert Scores({(1, 1): one}).number(AVERAGE, "ua") is None


def test_paired_test_by_hand() -> None:
    # d = .1, .2, .3: mean .2, sd .1, t = .2 / (.1 / sqrt 3) = 3.4641; with 2 degrees of freedom
    # p = 1 - t / sqrt(t^2 + 2) = 1 - sqrt(12 / 14) = 0.0741799
    test = paired_test(scores(0.6, 0.6, 0.8), scores(0.5, 0.4, 0.5), "avt", "ua")
    assert test is not None
    assert test.difference == pytest.approx(0.2)
    assert test.t == pytest.approx(math.sqrt(12))
    assert test.p == pytest.approx(1 - math.sqrt(12 / 14))
    assert (test.pairs, test.better, test.significant) == (3, True, False)


def test_paired_test_of_one_two_three() -> None:
    # differences 1 2 3: mean 2, deviation 1, t = 2 sqrt(3), two degrees of freedom: p = 1 - t / sqrt(2 + t^2)
    test = paired_test(scores(2, 4, 6), scores(1, 2, 3), "avt", "ua")
    t = 2 * 3**0.5
    assert test is not None and test.t == pytest.approx(t)
    assert test.p == pytest.approx(1 - t / (2 + t * t) ** 0.5)


def test_scores_of_one_model_a_condition_are_joined_by_fold_and_run() -> None:
    parts = [
        Scores({(2, 1): {"a": {"ua": 0.4}}, (1, 1): {"a": {"ua": 0.2}}}),
        Scores({(1, 1): {"v": {"ua": 0.6}}, (1, 2): {"v": {"ua": 0.8}}}),
    ]
    merged = Scores.merged(parts)
    assert merged.values == {
        (1, 1): {"a": {"ua": 0.2}, "v": {"ua": 0.6}},
        (1, 2): {"v": {"ua": 0.8}},
        (2, 1): {"a": {"ua": 0.4}},
    }
    assert list(merged.values) == [(1, 1), (1, 2), (2, 1)]
    assert merged.of("v", "ua") == {(1, 1): 0.6, (1, 2): 0.8}
    assert parts[0].values[1, 1] == {"a": {"ua": 0.2}}  # untouched


def test_a_difference_the_other_way_is_as_significant_but_not_better() -> None:
    test = paired_test(scores(0.5, 0.4, 0.51, 0.4), scores(0.6, 0.51, 0.6, 0.52), "avt", "ua")
    assert test is not None
    assert test.significant
    assert not test.better


def test_lower_is_better_for_an_error() -> None:
    test = paired_test(scores(1.0, 1.1, metric="mae"), scores(1.2, 1.2, metric="mae"), "avt", "mae")
    assert test is not None
    assert test.better


@pytest.mark.parametrize(
    ("these", "others", "pairs"),
    [
        ((0.6,), (0.5,), 1),
        ((0.6, 0.7), (0.5, 0.6), 2),
        ((0.5, 0.5), (0.5, 0.5), 2),
        ((2.0, 3.0, 4.0), (1.0, 2.0, 3.0), 3),
    ],
)
def test_without_spread_there_is_no_p(
    these: tuple[float, ...], others: tuple[float, ...], pairs: int
) -> None:
    test = paired_test(scores(*these), scores(*others), "avt", "ua")
    assert test is not None
    assert (test.t, test.p, test.significant, test.pairs) == (None, None, False, pairs)


def test_only_common_folds_are_paired() -> None:
    test = paired_test(scores(0.6, 0.7, 0.9), scores(0.5, 0.5), "avt", "ua")
    assert test is not None
    assert test.pairs == 2
    assert paired_test(scores(), scores(0.5), "avt", "ua") is None


def test_a_value_that_is_no_number_is_left_out() -> None:
    assert scores(0.5, math.nan).of("avt", "ua") == {(1, 1): 0.5}


def test_conditions_keep_the_papers_order_and_have_words() -> None:
    mixed = Scores({(1, 1): {name: {"ua": 0.5} for name in ("random", "avt", "t", "a")}})
    assert mixed.conditions == ("a", "t", "avt", "random")
    assert condition_words("at") == "text and audio only"
    assert condition_words("avt") == "nothing missing"
    assert condition_words("random") == "random"
