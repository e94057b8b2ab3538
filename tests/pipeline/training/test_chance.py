"""Chance: its level, the permutation test against others' tests, the constant predictor, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pipeline.errors import StoreError
from pipeline.training.chance import Chance, class_credits, permutation_p, ua_level
from pipeline.training.evaluation import (
    CONSTANT,
    Result,
    Results,
    ScoreResult,
    against_chance,
    constant_result,
)
from pipeline.training.folds import Fold, make_folds
from pipeline.training.metrics import Scale, confusion_matrix, unweighted_accuracy
from pipeline.training.samples import read_samples
from tests import small_world


def said(classes: list[int], count: int) -> np.ndarray:
    """Return probabilities (n, C) that say these classes."""
    return np.eye(count)[classes] * 0.7 + 0.1


def results(*folds: tuple[list[int], list[int]], classes: int = 3, condition: str = "avt") -> list[Result]:
    """Return results of folds, each with its labels and what was said."""
    return [
        Result(
            k,
            1,
            tuple(f"{k}-{i}" for i in range(len(labels))),
            np.array(labels),
            {condition: said(told, classes)},
        )
        for k, (labels, told) in enumerate(folds, start=1)
    ]


def always(results: list[Result], answer: int = 0) -> Results:
    return [
        Result(one.fold, 1, one.ids, one.labels, {CONSTANT: said([answer] * len(one.ids), 3)})
        for one in results
    ]


def test_levels_and_credits_by_hand() -> None:
    assert ua_level(np.array([0, 0, 2])) == 1 / 2
    # class 0 twice, class 2 once: a hit adds half of a recall, or a whole one, of two classes
    np.testing.assert_allclose(
        class_credits(np.array([0, 0, 2]), 3), [[1 / 4, 0, 0], [1 / 4, 0, 0], [0, 0, 1 / 2]]
    )
    generator = np.random.default_rng(3)
    labels, told = generator.integers(0, 4, (2, 50))
    ua = unweighted_accuracy(confusion_matrix(labels, told, 4))
    assert (class_credits(labels, 4) * np.eye(4)[told]).sum() == pytest.approx(ua)


def test_p_by_hand() -> None:
    """Two and two, all right: one order of six, so 1/6; wrong throughout: 1. By fold: 1/2 each, so 1/4."""
    credits, right = class_credits(np.array([0, 0, 1, 1]), 2), np.eye(2)[[0, 0, 1, 1]]
    p = permutation_p(credits, np.stack([right, 1 - right], axis=2), [1, 1, 1, 1])
    assert p == pytest.approx([1 / 6, 1], abs=0.01)
    credits, right = class_credits(np.array([0, 1, 1, 0]), 2), np.eye(2)[[0, 1, 1, 0]]
    assert permutation_p(credits, right[:, :, None], [7, 7, 3, 3]) == pytest.approx([1 / 4], abs=0.015)


def test_p_of_two_classes_is_fishers() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 60)
    told = np.where(generator.random(60) < 0.6, labels, 1 - labels)
    exact = stats.fisher_exact(confusion_matrix(labels, told, 2), alternative="greater").pvalue
    assert 0.02 < exact < 0.4
    found = permutation_p(class_credits(labels, 2), np.eye(2)[told][:, :, None], np.zeros(60, int))
    assert found == pytest.approx([exact], abs=4 * (exact / 9999) ** 0.5)


def test_p_of_scores_is_that_of_r() -> None:
    generator = np.random.default_rng(1)
    truth = generator.normal(size=30)
    told = truth * 0.25 + generator.normal(size=30)
    other = stats.permutation_test(
        (truth,), lambda x: np.corrcoef(x, told)[0, 1], permutation_type="pairings", alternative="greater",
        n_resamples=4000, rng=np.random.default_rng(2),
    ).pvalue  # fmt: skip
    found = permutation_p(truth[:, None], told[:, None, None], np.zeros(30, int))
    assert 0.01 < other < 0.5 and found == pytest.approx([other], abs=0.04)


def test_p_under_the_null_hypothesis_is_at_most_alpha_as_often_as_that() -> None:
    generator = np.random.default_rng(5)
    labels, folds = generator.integers(0, 3, 40), np.arange(40) % 4
    told = np.eye(3)[generator.integers(0, 3, (40, 400))].transpose(0, 2, 1)
    p = permutation_p(class_credits(labels, 3), told, folds, draws=999)
    assert p.min() >= 1 / 1000
    assert (p <= 0.05).mean() <= 0.085  # 400 draws of 5 %: 0.05 and three deviations
    assert (p <= 0.5).mean() == pytest.approx(0.5, abs=0.08)


def test_one_label_for_every_clip_is_not_above_chance() -> None:
    """Each fold lacks a class: UA is 1/2 in each, above 1/3, and 1/10 of all together: no sample was told apart."""
    given = results(([0] + [1] * 9, [0] * 10), ([1] + [2] * 9, [1] * 10), ([2] + [0] * 9, [2] * 10))
    found = against_chance(given, always(given))
    one = found.conditions["avt"]
    assert (one.mean, one.pooled, one.p, one.alike) == (0.5, 0.1, 1.0, 3)
    assert (found.metric, found.level, found.pooled_level) == ("ua", 0.5, round(1 / 3, 16))
    assert not found.above("avt") and not found.above("average")
    assert found.findings() == [
        "not above chance under avt: UA 0.500, of all folds together 0.100 (chance: 0.500 and 0.333; p = 1.000)",
        "not above chance under average: UA 0.500, of all folds together 0.100 (chance: 0.500 and 0.333; p = 1.000)",
        "every test sample of a fold gets the same class under avt (3 of 3 networks)",
    ]


def test_what_is_above_chance_and_what_is_only_luck() -> None:
    labels = [0, 1, 2] * 6
    good = results((labels, labels), (labels, [*labels[:15], 0, 0, 0]))
    found = against_chance(good, always(good))
    assert found.above("avt") and found.conditions["avt"].p < 0.001 and found.findings() == []
    assert found.above("avt", tests=100) and not found.above("avt", tests=1000)
    # 7 of 18 right is above 1/3, but as likely as not
    luck = results((labels, [0, 1, 2] * 2 + [0] + [(one + 1) % 3 for one in labels[7:]]))
    found = against_chance(luck, always(luck))
    assert found.conditions["avt"].pooled > found.pooled_level and not found.above("avt")


def test_runs_are_not_more_samples() -> None:
    """The same answers by three runs: the same p as by one, 3 of the 15 ways to say one class four times."""
    labels = [0, 0, 0, 1, 1, 1]
    one = results((labels, [0, 0, 0, 1, 1, 0]), classes=2)
    three = [Result(1, run, r.ids, r.labels, r.probabilities) for run in (1, 2, 3) for r in one]
    constant = [Result(1, 1, one[0].ids, one[0].labels, {CONSTANT: said([0] * 6, 2)})]
    p = against_chance(one, constant).conditions["avt"].p
    assert against_chance(three, constant).conditions["avt"].p == p
    assert p == pytest.approx(3 / 15, abs=0.015)


def test_scores_stand_beside_the_constant_predictor() -> None:
    """Constant 1: |1-0|, |1-1|, |1-5| -> 5/3; the network's 1/3. Nearly the same score for all is counted."""
    truth, ids, scale = np.array([0.0, 1.0, 5.0]), ("p", "q", "r"), Scale(0, 10, sentiment=False)
    shown = {"a": np.array([0.5, 1.0, 4.5]), "v": np.array([1.0, 1.0, 1.01])}
    constant = [ScoreResult(1, 1, ids, truth, {CONSTANT: np.full(3, 1.0)}, scale)]
    found = against_chance([ScoreResult(1, 1, ids, truth, shown, scale)], constant)
    assert (found.metric, found.level) == ("mae", round(5 / 3, 6))
    assert found.constant["mae"]["pooled"] == round(5 / 3, 6) and found.constant["ccc"]["pooled"] == 0
    assert found.conditions["a"].mean == round(1 / 3, 6)
    assert found.conditions["a"].p == pytest.approx(1 / 6, abs=0.015)  # the best of six orders
    assert [found.conditions[c].alike for c in ("a", "v", "average")] == [0, 1, 0]
    assert "MAE 0.333 (a constant: 1.667; p = 0." in found.words("a")


def test_the_constant_predictor_knows_the_training_part_alone(tmp_path: Path) -> None:
    small_world.write(tmp_path, 60)
    samples = read_samples("small", small_world.dataset(), data=tmp_path)
    fold = Fold(1, "", np.array([0, 1, 2, 4]), np.array([5]), np.array([3, 6]))
    labels = samples.labels[fold.train]
    one = constant_result(samples, fold)
    assert isinstance(one, Result)
    most = np.bincount(labels).argmax()
    assert one.probabilities[CONSTANT].argmax(axis=1).tolist() == [most, most]
    scored = read_samples("small", small_world.dataset(), data=tmp_path, target="score")
    folds = make_folds(scored.samples, small_world.dataset().folds)
    other = constant_result(scored, folds[0])
    assert isinstance(other, ScoreResult) and scored.scores is not None
    assert set(other.predicted[CONSTANT]) == {float(np.median(scored.scores[folds[0].train].astype(float)))}


def test_chance_json_comes_back() -> None:
    given = results(([0, 1, 2], [0, 1, 2]))
    found = against_chance(given, always(given))
    again = Chance.from_json(json.loads(found.to_json()), "chance.json")
    assert again.words("avt") == found.words("avt") and again.networks == 1
    with pytest.raises(StoreError, match=r"chance\.json: not as evaluate writes it"):
        Chance.from_json({"metric": "ua"}, "chance.json")
