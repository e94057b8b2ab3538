"""Classes of an experiment: by the dataset's labels, by groups of them, by scores."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.data.manifest import Sample
from pipeline.training.classes import ClassRules, is_comparison

LABELS = ("happy", "sad", "angry", "neutral")


def of(rules: ClassRules, label: str = "", score: float | None = None) -> int | str:
    return rules.of(Sample("x", label=label, score=score))


def test_the_datasets_own_labels() -> None:
    rules = ClassRules.parse({}, LABELS)
    assert rules.names == LABELS
    assert [of(rules, label) for label in LABELS] == [0, 1, 2, 3]
    assert (of(rules, "bored"), of(rules)) == ("label bored", "no label")


def test_groups_of_labels_and_what_is_in_none() -> None:
    rules = ClassRules.parse({"up": ["happy", "excited"], "down": "sad"}, LABELS)
    assert rules.names == ("up", "down")
    assert [of(rules, label) for label in ("happy", "excited", "sad")] == [0, 0, 1]
    assert of(rules, "angry") == "label angry"


def test_one_against_the_rest() -> None:
    rules = ClassRules.parse({"others": "others", "angry": "angry"}, LABELS)
    assert rules.names == ("others", "angry")
    assert [of(rules, label) for label in LABELS] == [0, 0, 1, 0]
    assert of(rules, "bored") == "label bored", "the rest of the dataset's labels, not of the manifest's"
    assert of(ClassRules.parse({"rest": "others", "angry": "angry"}), "bored") == 0, "no labels: all the rest"
    assert of(rules) == "no label"


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"negative": "< 0", "zero": "= 0", "positive": "> 0"}, [0, 0, 1, 2, 2, 2]),
        ({"negative": "< 0", "other": ">= 0"}, [0, 0, 1, 1, 1, 1]),
        ({"weak": "> 0, <= 1", "strong": ">1", "none": "<=+0"}, [2, 2, 2, 0, 0, 1]),
        ({"low": "<-1.5", "high": "> 1.0"}, ["score in no class"] * 5 + [1]),
    ],
)
def test_scores(labels: dict[str, str], expected: list[Any]) -> None:
    rules = ClassRules.parse(labels, LABELS)
    assert [of(rules, "sad", score) for score in (-1.5, -0.1, 0.0, 0.4, 1.0, 3.0)] == expected
    assert of(rules, "sad") == "no score"


def test_scores_of_one_modality() -> None:
    rules = ClassRules.parse({"no": "< 0", "yes": ">= 0"})
    sample = Sample("x", score=-1.0, score_text=1.0)
    assert (rules.of(sample), rules.of(sample, "score_text")) == (0, 1)
    assert rules.of(sample, "score_audio") == "no score_audio"


def test_a_score_in_two_classes_has_none() -> None:
    rules = ClassRules.parse({"low": "<= 0", "high": ">= 0"})
    assert of(rules, score=0.0) == "score in more than one class (low, high)"
    assert (of(rules, score=-1.0), of(rules, score=1.0)) == (0, 1)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"one": "happy"}, "found 1 class, expected two or more"),
        ({"one": "happy", "two": "> 0"}, "some classes are told by the score, some by labels"),
        ({"one": "happy", "two": ["sad", "happy"]}, '"happy" belongs to two and to one'),
        ({"one": "others", "two": "others"}, "two classes take the others"),
        ({"one": "> much", "two": "< 0"}, 'labels.one: found "> much", expected comparisons'),
        ({"one": "> 0 <= 1", "two": "< 0"}, 'labels.one: found "> 0 <= 1"'),
        ({"one": "== 1", "two": "< 0"}, 'labels.one: found "== 1"'),
    ],
)
def test_mappings_that_say_nothing_sensible(labels: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ClassRules.parse(labels)


def test_what_counts_as_a_comparison() -> None:
    assert [is_comparison(given) for given in ("> 0", " <=1", "=0", "happy", ("> 0",))] == [True] * 3 + [
        False
    ] * 2
