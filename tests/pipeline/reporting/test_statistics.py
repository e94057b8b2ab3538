"""Means, deviations and t-tests, against numbers worked by hand."""

from __future__ import annotations

import math

import pytest

from pipeline.reporting.statistics import (
    AVERAGE,
    CONDITIONS,
    POOLED,
    Number,
    PairedTest,
    Scores,
    area,
    condition_words,
    corrected,
    holm,
    paired_test,
    shapley,
)


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


def test_the_interval_of_a_mean_by_hand() -> None:
    number = Number.over([0.5, 0.6, 0.7])
    # sd .1; t(2, .975) = 4.302653; 4.302653 x .1 / sqrt 3
    assert number is not None and number.half_width == pytest.approx(0.2484138)
    assert Number(0.5, None, 1).half_width is None


def test_the_resampled_test_by_hand() -> None:
    # d = .1, .2, .3: t = .2 / (.1 sqrt(1/3 + 1/2)) = 2 / sqrt(5/6) = 2.19089; p = 1 - sqrt(4.8 / 6.8) = 0.1598
    test = paired_test(scores(0.6, 0.6, 0.8), scores(0.5, 0.4, 0.5), "avt", "ua", test_share=0.5)
    assert test is not None and test.t == pytest.approx(math.sqrt(12))  # the plain one stays
    assert test.resampled_t == pytest.approx(2 / math.sqrt(5 / 6))
    assert test.resampled_p == pytest.approx(1 - math.sqrt(4.8 / 6.8))
    without = paired_test(scores(0.6, 0.6, 0.8), scores(0.5, 0.4, 0.5), "avt", "ua")
    assert without is not None and without.resampled_p is None


def test_the_tests_against_scipy() -> None:
    from scipy import stats

    these, others = (0.61, 0.58, 0.66, 0.63, 0.6), (0.57, 0.59, 0.6, 0.6, 0.55)
    test = paired_test(scores(*these), scores(*others), "avt", "ua", test_share=0.25)
    known = stats.ttest_rel(these, others)
    assert test is not None and (test.t, test.p) == (
        pytest.approx(known.statistic),
        pytest.approx(known.pvalue),
    )
    t = known.statistic * math.sqrt((1 / 5) / (1 / 5 + 0.25))
    assert test.resampled_p == pytest.approx(2 * stats.t.sf(t, 4))
    low, high = stats.t.interval(0.95, 4, loc=0, scale=stats.sem(these))
    number = Number.over(these)
    assert number is not None and number.half_width == pytest.approx((high - low) / 2)


def test_holm_by_hand() -> None:
    # sorted .005 .01 .03 .04: x4 .02, x3 .03, x2 .06, x1 .04 -> .06, for it may not fall
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_against_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")  # the extra `peers`
    p_values = [0.001, 0.2, 0.013, 0.04, 0.04, 0.9, 1e-9, 0.5]
    assert holm(p_values) == pytest.approx(multitest.multipletests(p_values, method="holm")[1].tolist())


def test_only_tests_with_a_p_are_in_the_family() -> None:
    def one(p: float | None, resampled: float | None = None) -> PairedTest:
        return PairedTest(0.1, None, p, 5, True, None, resampled)

    found = corrected({"a": one(0.02, 0.2), "b": one(None), "c": one(0.03)})
    assert [test.holm for test in found.values()] == [pytest.approx(0.04), None, pytest.approx(0.04)]
    assert found["a"].significant and not found["b"].significant
    found = corrected({"a": one(0.02, 0.2), "c": one(0.03)}, resampled=True)
    assert [test.holm for test in found.values()] == [pytest.approx(0.2), pytest.approx(0.06)]
    assert not found["a"].significant  # .02 alone would be


def test_the_pooled_average_is_one_of_its_own() -> None:
    both = Scores({(1, 1): {c: {"ua": 0.5} for c in CONDITIONS}}, {(1, 1): {"ua": 0.7}})
    assert both.of(POOLED, "ua") == {(1, 1): 0.7} and both.of(AVERAGE, "ua") == {(1, 1): 0.5}
    assert Scores(both.values).number(POOLED, "ua") is None


def test_area_under_a_curve_by_hand() -> None:
    # .1 x .75 + .2 x .6 = .195 over .3
    assert area({0.1: 0.7, 0.0: 0.8, 0.3: 0.5}) == pytest.approx(0.65)
    assert area({0.1: 0.7}) is None


def test_shapley_by_hand() -> None:
    # v() .2; a .3, v .2, t .5; av .3, at .6, vt .5; avt .6: video adds nothing ever, audio .1 and text .3 always
    reached = {"a": 0.3, "v": 0.2, "t": 0.5, "av": 0.3, "at": 0.6, "vt": 0.5, "avt": 0.6}
    found = shapley(reached, 0.2)
    assert found is not None
    assert found.values == {
        "text": pytest.approx(0.3),
        "audio": pytest.approx(0.1),
        "video": pytest.approx(0.0),
    }
    assert found.shares["text"] == pytest.approx(0.75)
    # -(.75 ln .75 + .25 ln .25) / ln 3 = .562335 / 1.098612
    assert found.entropy == pytest.approx(0.511860, abs=1e-6)
    mirrored = shapley({c: -value for c, value in reached.items()}, -0.2, sign=-1)
    assert mirrored is not None and mirrored.values == pytest.approx(found.values)
    assert shapley({"a": 0.5}, 0.2) is None


def test_shares_of_equals_and_of_nothing() -> None:
    found = shapley(dict.fromkeys(CONDITIONS, 0.5), 0.2)
    assert found is not None and found.entropy == pytest.approx(1)
    assert sum(found.values.values()) == pytest.approx(0.3)  # what all reach above a guess
    nothing = shapley(dict.fromkeys(CONDITIONS, 0.1), 0.2)
    assert nothing is not None and (nothing.shares, nothing.entropy) == ({}, None)


def test_shapley_is_the_mean_over_all_orders() -> None:
    from itertools import permutations

    reached = {"a": 0.41, "v": 0.37, "t": 0.52, "av": 0.5, "at": 0.63, "vt": 0.55, "avt": 0.6}
    known = {frozenset(there): reached[name] for name, there in CONDITIONS.items()} | {frozenset(): 0.25}
    added: dict[str, list[float]] = {"text": [], "audio": [], "video": []}
    for order in permutations(added):
        for place, modality in enumerate(order):
            added[modality].append(known[frozenset(order[: place + 1])] - known[frozenset(order[:place])])
    found = shapley(reached, 0.25)
    assert found is not None
    assert found.values == {m: pytest.approx(sum(values) / 6) for m, values in added.items()}
