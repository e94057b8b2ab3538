"""Who is tested against whom, with p-values worked by hand, and experiments that only together make a row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest

from pipeline.data.masks import MISSING_CONDITIONS
from pipeline.params import Params
from pipeline.reporting.comparison import Comparison, compare, result_table, verdicts
from pipeline.reporting.comparison import test_table as make_test_table  # pytest would take it for a test
from pipeline.reporting.facts import DatasetFacts, ExperimentFacts
from pipeline.reporting.published import published_table
from pipeline.reporting.statistics import AVERAGE, Scores
from tests import report_tree

# d = .1, .2, .3 over three folds: mean .2, sd .1, t = sqrt(12); with 2 degrees of freedom p = 1 - sqrt(12 / 14)
P = 1 - math.sqrt(12 / 14)
LEVELS = {
    "full-modality": (0.3, 0.3, 0.3),
    "augmented": (0.35, 0.45, 0.55),  # against full-modality: .05, .15, .25
    "mmin": (0.6, 0.7, 0.8),  # against MCTN: .1, .2, .3; against augmented always .25
}
MCTN = (0.5, 0.5, 0.5)
OFFSETS = dict(zip(MISSING_CONDITIONS, (-0.2, -0.1, 0.0, 0.0, 0.1, 0.2), strict=True))  # their mean is 0


def facts(
    name: str, levels: Sequence[float], conditions: Sequence[str], place: int, **changes: object
) -> ExperimentFacts:
    """Return an experiment with one run of each fold; WA is UA plus 0.01."""
    values = {
        (fold, 1): {
            c: {"wa": level + OFFSETS.get(c, 0.0) + 0.01, "ua": level + OFFSETS.get(c, 0.0)}
            for c in conditions
        }
        for fold, level in enumerate(levels, start=1)
    }
    given: dict[str, object] = {
        "name": name, "dataset": "demo", "model": "baseline", "regime": "standard", "task": "classification",
        "train_on": "full", "place": place, "classes": report_tree.CLASSES, "scores": Scores(values),
        "curves": {}, "confusion": {c: {("happy", "sad"): 1} for c in conditions}, "summary": {}, "runs": {},
        "embeddings": {},
    }  # fmt: skip
    return ExperimentFacts(**{**given, **changes})  # type: ignore[arg-type]


def world(dataset: str = "demo", suffix: str = "") -> list[ExperimentFacts]:
    """Return what the preset of MMIN's Table 5 leaves: three experiments, and MCTN in six."""
    everywhere = (*MISSING_CONDITIONS, "avt")
    how = {
        "full-modality": {"train_on": "full"},
        "augmented": {"train_on": "augmented"},
        "mmin": {"model": "mmin", "train_on": "missing"},
    }
    found = [
        facts(name + suffix, LEVELS[name], everywhere, place, dataset=dataset, **changes)
        for place, (name, changes) in enumerate(how.items())
    ]
    for place, c in enumerate(MISSING_CONDITIONS, start=3):
        one = facts(f"mctn-{c}{suffix}", MCTN, [c], place, dataset=dataset, model="mctn", train_on=c)
        found.append(one)
    return found


def params(experiments: Sequence[ExperimentFacts], **report: object) -> Params:
    models = {"baseline": "baseline", "mmin": "mmin", "mctn": "mctn"}
    sections = {
        one.name: {"dataset": one.dataset, "model": models[one.model], "train_on": one.train_on}
        for one in experiments
    }
    rows = {
        one.name: {"table": "5", "dataset": "iemocap", "model": "MCTN"}
        for one in experiments
        if one.model == "mctn"
    }
    given = {"baseline": "full-modality", "published": rows, **report}
    base = report_tree.params().model_dump(exclude_unset=True)
    datasets = dict.fromkeys([one.dataset for one in experiments], base["datasets"]["demo"])
    return report_tree.params(experiments=sections, report=given, datasets=datasets)


def compared(experiments: Sequence[ExperimentFacts], dataset: str = "demo", **report: object) -> Comparison:
    about = DatasetFacts(dataset, None, {}, False, {}, ())
    found = compare(params(experiments, **report), about, experiments)
    assert found is not None
    return found


def paired(comparison: Comparison) -> Mapping[tuple[str, str, str, str], list[str]]:
    """Return (experiment, against, condition, metric) -> the rest of the row."""
    table = make_test_table(comparison)
    assert table is not None
    rows = {tuple(cell.text for cell in row[:4]): [cell.text for cell in row[4:]] for row in table.rows}
    assert len(rows) == len(table.rows)  # no pair twice
    return rows  # type: ignore[return-value]


def test_six_models_of_a_condition_each_make_one_experiment() -> None:
    comparison = compared(world())
    assert [one.name for one in comparison.evaluated] == ["full-modality", "augmented", "mmin", "MCTN"]
    assert [part.name for part in comparison.merged["MCTN"]] == [f"mctn-{c}" for c in MISSING_CONDITIONS]
    assert [one.name for one in comparison.real] == [one.name for one in world()]
    merged = comparison.evaluated[-1]
    number = merged.scores.number(AVERAGE, "ua")
    assert number is not None and number.mean == pytest.approx(0.5) and number.count == 3
    assert list(merged.confusion) == list(MISSING_CONDITIONS)
    table = result_table(comparison)
    (row,) = [row for row in table.rows if (row[0].text, row[1].text) == ("UA", "MCTN")]
    assert [cell.text for cell in row[2:]] == [
        "0.300",
        "0.400",
        "0.500",
        "0.500",
        "0.600",
        "0.700",
        "0.500",
        "–",
    ]
    assert "MCTN: mctn-a, mctn-v, mctn-t, mctn-av, mctn-at, mctn-vt, a condition each." in table.notes


def test_mmin_against_mctn_and_both_baselines_by_hand() -> None:
    rows = paired(compared(world()))
    assert rows["mmin", "MCTN", "average of six", "UA"] == ["+0.200", "3.46", f"{P:.4f}", "3"]
    assert rows["mmin", "MCTN", "average of six", "WA"] == ["+0.200", "3.46", f"{P:.4f}", "3"]
    # against full-modality .3, .4, .5: t = .4 / (.1 / sqrt 3) = sqrt(48), p = 1 - sqrt(48 / 50)
    for condition in ("average of six", "nothing missing"):
        p = 1 - math.sqrt(48 / 50)
        for metric in ("WA", "UA"):
            assert rows["mmin", "full-modality", condition, metric] == ["+0.400", "6.93", f"{p:.4f}", "3"]
            # always .25: there is no spread, and so no t
            assert rows["mmin", "augmented", condition, metric] == ["+0.250", "–", "–", "3"]
    # .05, .15, .25: t = .15 / (.1 / sqrt 3) = sqrt(6.75)
    p = 1 - math.sqrt(6.75 / 8.75)
    assert rows["augmented", "full-modality", "average of six", "UA"] == ["+0.150", "2.60", f"{p:.4f}", "3"]
    # MCTN against augmented: .15, .05, -.05: t = .05 / (.1 / sqrt 3) = sqrt(.75)
    p = 1 - math.sqrt(0.75 / 2.75)
    assert rows["MCTN", "augmented", "average of six", "UA"] == ["+0.050", "0.87", f"{p:.4f}", "3"]
    assert {(one, other) for one, other, *_ in rows} == {
        ("augmented", "full-modality"), ("mmin", "full-modality"), ("mmin", "augmented"), ("mmin", "MCTN"),
        ("MCTN", "full-modality"), ("MCTN", "augmented"),
    }  # fmt: skip
    assert ("mmin", "MCTN", "nothing missing", "UA") not in rows  # MCTN has no such model


def test_stars_and_verdict_of_what_is_merged() -> None:
    experiments = world()
    noisy = [facts(one.name, (0.5, 0.51, 0.49), one.scores.conditions, one.place, model="mctn", train_on=one.train_on)
             for one in experiments if one.model == "mctn"]  # fmt: skip
    comparison = compared([*experiments[:3], *noisy])
    (row,) = [r for r in result_table(comparison).rows if (r[0].text, r[1].text) == ("UA", "MCTN")]
    assert row[-2].mark == "*"  # .2, .21, .19 against full-modality; not better than augmented
    (verdict,) = [one for one in verdicts(comparison) if one.name == "MCTN"]
    assert verdict.outcome == "better" and verdict.sentence.startswith("MCTN beats full-modality when")


def test_published_average_is_that_of_the_merged_experiment() -> None:
    experiments = world()
    given, comparison = params(experiments), compared(experiments)
    table = published_table(given, comparison)
    assert table is not None
    found = {(row[1].text, row[3].text): row[5].text for row in table.rows if row[2].text == "UA"}
    assert found["MCTN", "average of six"] == "0.5000"
    assert found["mctn-vt", "text and video only"] == "0.7000"
    assert len(found) == 7


def test_rivals_for_a_row_stay_apart() -> None:
    experiments = world()
    rows = {name: {"table": "5", "dataset": "iemocap", "model": "MMIN"} for name in ("augmented", "mmin")}
    comparison = compared(experiments, published=rows)
    assert comparison.merged == {} and list(comparison.evaluated) == experiments
    table = published_table(params(experiments, published=rows), comparison)
    assert table is not None
    found = [row[1].text for row in table.rows if (row[2].text, row[3].text) == ("UA", "average of six")]
    assert found == ["augmented", "mmin"]  # both of them


def test_a_merged_name_that_is_taken() -> None:
    experiments = [*world(), facts("MCTN", (0.1, 0.1, 0.1), ["avt"], 9)]
    comparison = compared(experiments)
    assert [one.name for one in comparison.evaluated][-2:] == ["MCTN (together)", "MCTN"]


def test_table_7s_baseline_is_what_the_others_are_tested_against() -> None:
    experiments = world()
    comparison = compared([*experiments[1:]], baseline=None)
    pairs = {(one, other) for one, other, *_ in paired(comparison)}
    assert pairs == {("augmented", "MCTN"), ("mmin", "MCTN")}


def test_every_dataset_has_its_own_baseline_and_augmented() -> None:
    experiments = [*world("one", "-one"), *world("two", "-two")]
    own = {e.name: f"full-modality-{e.dataset}" for e in experiments if not e.name.startswith("full-")}
    for dataset in ("one", "two"):
        comparison = compared(experiments, dataset, baseline=None, against=own)
        assert comparison.baseline is not None and comparison.augmented is not None
        assert comparison.baseline.name == f"full-modality-{dataset}"
        assert comparison.augmented.name == f"augmented-{dataset}"
        pairs = {(one, other) for one, other, *_ in paired(comparison)}
        assert (f"mmin-{dataset}", f"augmented-{dataset}") in pairs
        assert (f"mmin-{dataset}", f"full-modality-{dataset}") in pairs
        assert ("MCTN", f"full-modality-{dataset}") in pairs and (f"mmin-{dataset}", "MCTN") in pairs
        assert f"Against augmented-{dataset}" in verdicts(comparison)[0].detail
        notes = result_table(comparison).notes
        assert (
            f"* better than full-modality-{dataset}, p < 0.05 (two-tailed paired t-test over folds and runs)."
            in notes
        )
