"""Who is tested against whom, with p-values worked by hand, and experiments that only together make a row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from models.base import HIDDEN_TRUTH, MODEL_A_CONDITION
from pipeline.data.masks import MISSING_CONDITIONS
from pipeline.params import Params
from pipeline.reporting.comparison import (
    NEEDS,
    Comparison,
    Section,
    compare,
    confusion_table,
    needs_table,
    result_table,
    selection_table,
    verdicts,
)
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
    name: str,
    levels: Sequence[float],
    conditions: Sequence[str],
    model: str = "baseline",
    train_on: str = "full",
    **trained: object,
) -> ExperimentFacts:
    """Return an experiment with one run of each fold; WA is UA plus 0.01."""
    values = {
        (fold, 1): {
            c: {"wa": level + OFFSETS.get(c, 0.0) + 0.01, "ua": level + OFFSETS.get(c, 0.0)}
            for c in conditions
        }
        for fold, level in enumerate(levels, start=1)
    }
    return ExperimentFacts(
        name=name,
        trained=report_tree.trained(name, model, train_on=train_on, **trained),
        classes=report_tree.CLASSES,
        scores=Scores(values),
        curves={},
        confusion={c: {("happy", "sad"): 1} for c in conditions},
        summary={},
        runs={},
        embeddings={},
    )


EVERYWHERE = (*MISSING_CONDITIONS, "avt")


def world(dataset: str = "demo", suffix: str = "") -> list[ExperimentFacts]:
    """Return what the preset of MMIN's Table 5 leaves: three experiments, and MCTN in six."""
    how = {
        "full-modality": ("baseline", "full"),
        "augmented": ("baseline", "augmented"),
        "mmin": ("mmin", "missing"),
    }
    found = [
        facts(name + suffix, LEVELS[name], EVERYWHERE, *chosen, dataset=dataset)
        for name, chosen in how.items()
    ]
    found += [facts(f"mctn-{c}{suffix}", MCTN, [c], "mctn", c, dataset=dataset) for c in MISSING_CONDITIONS]
    return found


def table(experiments: Sequence[ExperimentFacts], **changes: object) -> dict[str, object]:
    """Return the section of params.yaml of a table of these experiments."""
    names = [one.name for one in experiments]
    rows = {
        one.name: {"paper": "mmin", "table": "5", "dataset": "iemocap", "model": "MCTN"}
        for one in experiments
        if one.model == "mctn"
    }
    baseline = next((name for name in names if name.startswith("full-modality")), None)
    return {"title": "Table 5", "experiments": names, "baseline": baseline, "published": rows, **changes}


def params(experiments: Sequence[ExperimentFacts], **tables: object) -> Params:
    sections = {
        one.name: {"dataset": one.dataset, "model": one.model, "train_on": one.trained["train_on"]}
        for one in experiments
    }
    base = report_tree.params().model_dump(exclude_unset=True)
    datasets = dict.fromkeys([one.dataset for one in experiments], base["datasets"]["demo"])
    return report_tree.params(experiments=sections, report={"tables": tables}, datasets=datasets)


def sections(experiments: Sequence[ExperimentFacts], **tables: object) -> list[Section]:
    names = dict.fromkeys(one.dataset for one in experiments)
    about = [DatasetFacts(name, None, {}, False, {}, ()) for name in names]
    return compare(params(experiments, **tables), about, experiments)


def compared(experiments: Sequence[ExperimentFacts], **changes: object) -> Comparison:
    (section,) = sections(experiments, table5=table(experiments, **changes))
    (part,) = section.parts
    return part


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
    made = result_table(comparison)
    (row,) = [row for row in made.rows if (row[0].text, row[1].text) == ("UA", "MCTN")]
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
    assert "MCTN: mctn-a, mctn-v, mctn-t, mctn-av, mctn-at, mctn-vt, a condition each." in made.notes


def test_mmin_against_mctn_and_both_baselines_by_hand() -> None:
    rows = paired(compared(world()))
    # twelve tests have a p: by size 4 x mmin, then mmin and MCTN, ...; Holm multiplies the k-th smallest by 12 - k + 1
    assert rows["mmin", "MCTN", "average of six", "UA"] == [
        "+0.200",
        "3.46",
        f"{P:.4f}",
        f"{8 * P:.4f}",
        "–",
        "3",
    ]
    assert rows["mmin", "MCTN", "average of six", "WA"] == [
        "+0.200",
        "3.46",
        f"{P:.4f}",
        f"{8 * P:.4f}",
        "–",
        "3",
    ]
    # against full-modality .3, .4, .5: t = .4 / (.1 / sqrt 3) = sqrt(48), p = 1 - sqrt(48 / 50)
    for condition in ("average of six", "nothing missing"):
        p = 1 - math.sqrt(48 / 50)
        for metric in ("WA", "UA"):
            expected = ["+0.400", "6.93", f"{p:.4f}", f"{12 * p:.4f}", "–", "3"]
            assert rows["mmin", "full-modality", condition, metric] == expected
            # always .25: there is no spread, and so no t
            assert rows["mmin", "augmented", condition, metric] == ["+0.250", "–", "–", "–", "–", "3"]
    # .05, .15, .25: t = .15 / (.1 / sqrt 3) = sqrt(6.75)
    p = 1 - math.sqrt(6.75 / 8.75)
    assert rows["augmented", "full-modality", "average of six", "UA"][:3] == ["+0.150", "2.60", f"{p:.4f}"]
    # MCTN against augmented: .15, .05, -.05: t = .05 / (.1 / sqrt 3) = sqrt(.75)
    p = 1 - math.sqrt(0.75 / 2.75)
    assert rows["MCTN", "augmented", "average of six", "UA"][:3] == ["+0.050", "0.87", f"{p:.4f}"]
    assert {(one, other) for one, other, *_ in rows} == {
        ("augmented", "full-modality"), ("mmin", "full-modality"), ("mmin", "augmented"), ("mmin", "MCTN"),
        ("MCTN", "full-modality"), ("MCTN", "augmented"),
    }  # fmt: skip
    assert ("mmin", "MCTN", "nothing missing", "UA") not in rows  # MCTN has no such model


def test_the_resampled_test_by_the_sizes_of_the_folds() -> None:
    runs = {(fold, 1): {"samples": {"train": 40, "valid": 0, "test": 10}} for fold in (1, 2, 3)}
    experiments = [replace(one, runs=runs) for one in world()]
    found = compared(experiments)
    assert found.test_share(experiments[0]) == 0.25
    # t = .2 / (.1 sqrt(1/3 + 1/4)) = .2 / (.1 sqrt(7/12)); with 2 degrees of freedom p = 1 - t / sqrt(2 + t^2)
    t = 2 / math.sqrt(7 / 12)
    p = 1 - t / math.sqrt(2 + t * t)
    assert paired(found)["mmin", "MCTN", "average of six", "UA"][4] == f"{p:.4f}"
    chosen = params(experiments, table5=table(experiments))
    report = chosen.report.model_copy(update={"test": "resampled"})
    about = [DatasetFacts("demo", None, {}, False, {}, ())]
    (section,) = compare(chosen.model_copy(update={"report": report}), about, experiments)
    assert paired(section.parts[0])["mmin", "MCTN", "average of six", "UA"][3] == f"{min(1, 8 * p):.4f}"
    assert "corrected resampled t-test" in result_table(section.parts[0]).notes[0]


def test_holms_family_is_the_whole_section() -> None:
    scored = [replace(one, name=f"{one.name}-2") for one in world()[:3]]
    for one in scored:
        one.trained["labels"] = {"sad": "negative"}  # type: ignore[index]
    experiments = [*world()[:3], *scored]
    (section,) = sections(experiments, all=table(experiments))
    assert len(section.parts) == 2
    assert [part.family for part in section.parts] == [8, 8]  # 3 pairs x 2 conditions x 2 metrics have a p
    assert len(section.parts[0].tests) == 12


def test_what_is_below_the_linear_floor_is_marked() -> None:
    floor = facts("floor", (0.4, 0.5, 0.6), EVERYWHERE, "linear")
    made = result_table(compared([*world(), floor]))
    marks = {row[1].text: row[-1].mark for row in made.rows if row[0].text == "UA"}
    assert marks["full-modality"] == "▽" and "▽" not in marks["mmin"] + marks["floor"]
    assert "▽ below the linear floor, floor." in made.notes
    assert any("no linear floor" in note for note in result_table(compared(world())).notes)


def test_a_floor_of_another_table_stands_in_this_one_too() -> None:
    floor = facts("floor", (0.4, 0.5, 0.6), EVERYWHERE, "linear")
    elsewhere = facts("floor-random", (0.4, 0.5, 0.6), EVERYWHERE, "linear", folds={"scheme": "random"})
    found = sections(
        [*world(), elsewhere, floor], five=table(world()), floors=table([floor]), other=table([elsewhere])
    )
    made = result_table(found[0].parts[0])
    assert [row[1].text for row in made.rows if row[0].text == "UA"][-1] == "floor"
    assert "▽ below the linear floor, floor, which stands in another section." in made.notes
    assert "floor" not in {one.name for one in found[0].parts[0].evaluated}


def test_a_number_that_is_none_is_named() -> None:
    experiments = world()[:2]
    broken = {
        key: {c: dict(m) for c, m in scores.items()} for key, scores in experiments[1].scores.values.items()
    }
    broken[2, 1]["avt"]["ua"] = math.nan
    made = result_table(compared([experiments[0], replace(experiments[1], scores=Scores(broken))]))
    assert "Not a number, and left out of means and tests: augmented (avt UA, 1 of 3)." in made.notes


def test_stars_and_verdict_of_what_is_merged() -> None:
    experiments = world()
    noisy = [
        facts(one.name, (0.5, 0.51, 0.49), one.scores.conditions, "mctn", one.train_on)
        for one in experiments
        if one.model == "mctn"
    ]
    comparison = compared([*experiments[:3], *noisy])
    (row,) = [r for r in result_table(comparison).rows if (r[0].text, r[1].text) == ("UA", "MCTN")]
    assert row[-2].mark == "*"  # .2, .21, .19 against full-modality; not better than augmented
    (verdict,) = [one for one in verdicts(comparison) if one.name == "MCTN"]
    assert verdict.outcome == "better" and verdict.sentence.startswith("MCTN beats full-modality when")


def test_published_average_is_that_of_the_merged_experiment() -> None:
    experiments = world()
    made = published_table(params(experiments), compared(experiments))
    assert made is not None
    found = {(row[1].text, row[3].text): row[5].text for row in made.rows if row[2].text == "UA"}
    assert found["MCTN", "average of six"] == "0.5000"
    assert found["mctn-vt", "text and video only"] == "0.7000"
    assert len(found) == 7


def test_rivals_for_a_row_stay_apart() -> None:
    experiments = world()
    row = {"paper": "mmin", "table": "5", "dataset": "iemocap", "model": "MMIN"}
    rows = {"augmented": row, "mmin": {**row, "conditions": ["average"]}}
    comparison = compared(experiments, published=rows)
    assert comparison.merged == {}
    assert [one.name for one in comparison.evaluated] == [one.name for one in experiments]
    made = published_table(params(experiments), comparison)
    assert made is not None
    found = [row[1].text for row in made.rows if (row[2].text, row[3].text) == ("UA", "average of six")]
    assert found == ["augmented", "mmin"]  # both of them


def test_a_merged_name_that_is_taken() -> None:
    comparison = compared([*world(), facts("MCTN", (0.1, 0.1, 0.1), ["avt"])])
    assert [one.name for one in comparison.evaluated][-2:] == ["MCTN (together)", "MCTN"]


def test_mctn_is_what_the_others_are_tested_against_without_a_baseline() -> None:
    pairs = {(one, other) for one, other, *_ in paired(compared(world()[1:], baseline=None))}
    assert pairs == {("augmented", "MCTN"), ("mmin", "MCTN")}


def test_table_7s_baseline_takes_of_each_part_the_conditions_of_its_row() -> None:
    single = [facts(f"baseline-{c}", MCTN, [c], train_on=c) for c in MISSING_CONDITIONS]
    everywhere = facts("full-modality", LEVELS["full-modality"], EVERYWHERE)  # evaluated under all seven
    experiments = [*single, everywhere, facts("mmin", LEVELS["mmin"], EVERYWHERE, "mmin", "missing")]
    row = {"paper": "mmin", "table": "7", "dataset": "iemocap", "model": "Baseline"}
    rows = {one.name: {**row, "conditions": one.scores.conditions} for one in single}
    rows["full-modality"] = {**row, "conditions": ["avt"]}
    comparison = compared(experiments, published=rows, baseline=None)
    assert [one.name for one in comparison.evaluated] == ["Baseline", "mmin"]
    baseline = comparison.evaluated[0].scores
    assert baseline.of("avt", "ua") == {(1, 1): 0.3, (2, 1): 0.3, (3, 1): 0.3}
    assert baseline.of("a", "ua") == {(fold, 1): pytest.approx(0.3) for fold in (1, 2, 3)}  # .5 - .2
    assert list(comparison.evaluated[0].confusion) == list(EVERYWHERE)


def test_every_table_has_its_own_baseline_rows_and_colours() -> None:
    one, two = world("one", "-one"), world("two", "-two")
    found = sections(
        [*one, *two], five=table(one), again=table(one[2::-1], baseline="mmin-one"), other=table(two)
    )
    assert [(section.name, section.title) for section in found] == [
        ("five", "Table 5"), ("again", "Table 5"), ("other", "Table 5"),
    ]  # fmt: skip
    five, again, other = (section.parts[0] for section in found)
    for part, dataset in ((five, "one"), (other, "two")):
        assert part.baseline is not None and part.augmented is not None
        assert (part.baseline.name, part.augmented.name) == (
            f"full-modality-{dataset}",
            f"augmented-{dataset}",
        )
        pairs = {(one, other) for one, other, *_ in paired(part)}
        assert (f"mmin-{dataset}", f"augmented-{dataset}") in pairs
        assert (f"mmin-{dataset}", f"full-modality-{dataset}") in pairs
        assert ("MCTN", f"full-modality-{dataset}") in pairs and (f"mmin-{dataset}", "MCTN") in pairs
        assert f"Against augmented-{dataset}" in verdicts(part)[0].detail
        words = "p < 0.05 (two-tailed paired t-test over folds and runs, corrected by Holm for 12 tests)."
        assert f"* better than full-modality-{dataset}, {words}" in result_table(part).notes
    assert [(part.name, part.place) for part in again.evaluated] == [
        ("mmin-one", 0), ("augmented-one", 1), ("full-modality-one", 2),
    ]  # fmt: skip
    assert again.baseline is again.evaluated[0]


def test_what_stands_in_no_table_is_a_section_of_its_dataset() -> None:
    one = world("one")[:3]
    made = params(one, alone={"title": "Alone", "experiments": ["mmin"]})
    report = made.report.model_copy(update={"baseline": "full-modality"})
    about = [DatasetFacts("one", None, {}, False, {}, ())]
    found = compare(made.model_copy(update={"report": report}), about, one)
    assert [(section.name, section.title) for section in found] == [
        ("one", "Results on one"),
        ("alone", "Alone"),
    ]
    first, alone = (section.parts[0] for section in found)
    assert [part.name for part in first.experiments] == ["full-modality", "augmented"]
    assert first.baseline is not None and first.baseline.name == "full-modality"
    assert [part.name for part in alone.experiments] == ["mmin"] and alone.baseline is None


def test_only_what_has_one_task_labels_and_folds_is_compared() -> None:
    scored = {"task": "regression", "select_by": "mae"}
    experiments = [
        facts("plain", MCTN, ["avt"]),
        facts("scored", MCTN, ["avt"], **scored),
        facts("two", MCTN, ["avt"], labels={"sad": "negative"}),
        facts("random", MCTN, ["avt"], folds={"scheme": "random"}),
        facts("text", MCTN, ["avt"], **scored, target="score_text"),
        facts("too", MCTN, ["avt"]),
    ]
    (section,) = sections(experiments, all=table(experiments))
    assert [(part.name, [one.name for one in part.experiments]) for part in section.parts] == [
        ("all", ["plain", "too"]), ("all-scores", ["scored"]), ("all-2", ["two"]), ("all-3", ["random"]),
        ("all-scores-2", ["text"]),
    ]  # fmt: skip
    assert [part.words for part in section.parts] == [
        "Classes", "Scores", "Classes: happy, neutral, sad, angry", "Classes; folds: random", "Scores (score_text)",
    ]  # fmt: skip


def test_what_each_method_needs_stands_beside_it() -> None:
    needs: dict[str, tuple[str, ...] | None] = {"baseline": (), "mmin": ("the hidden truth",)}
    needs["mctn"] = ("the hidden truth", "a model a condition")
    experiments = [replace(one, needs=needs[one.model]) for one in world()]
    experiments[1] = replace(experiments[1], needs=None)
    made = needs_table(compared(experiments))
    assert made is not None and list(made.head[2:]) == ["needs the hidden truth", "a model a condition"]
    assert {row[0].text: [cell.text for cell in row[2:]] for row in made.rows} == {
        "full-modality": ["–", "–"],
        "augmented": ["not recorded", "not recorded"],
        "mmin": ["yes", "–"],
        "MCTN": ["yes", "yes"],
    }
    assert needs_table(compared(world())) is None


def test_the_needs_are_those_that_models_name() -> None:
    assert list(NEEDS) == [HIDDEN_TRUTH, MODEL_A_CONDITION]


BY_TEST = "chosen by test"


def chosen_by_test(levels: Sequence[float] = (0.65, 0.75, 0.88), **trained: object) -> ExperimentFacts:
    """Return MMIN once more, chosen by the test part: .05, .05, .08 above the honest one, .06 on average."""
    given = {"selection": "test-paper", "watch_test": True, **trained}
    return facts("mmin-by-test", levels, EVERYWHERE, "mmin", "missing", **given)


def test_every_table_flags_whom_the_test_part_chose() -> None:
    experiments = [*world(), chosen_by_test()]
    row = {"paper": "mmin", "table": "5", "dataset": "iemocap", "model": "Full-modality baseline"}
    rows = {"mmin-by-test": row}
    comparison = compared(experiments, published=rows)
    made = [
        result_table(comparison),
        make_test_table(comparison),
        confusion_table(comparison),
        selection_table(comparison),
        published_table(params(experiments, table5=table(experiments, published=rows)), comparison),
    ]
    for one in made:
        assert one is not None
        named = {(cell.text, cell.flag) for row in one.rows for cell in row if cell.text.startswith("mmin")}
        assert ("mmin-by-test", BY_TEST) in named, one.name
        assert named <= {("mmin-by-test", BY_TEST), ("mmin", "")}, one.name
    (verdict,) = [one for one in verdicts(comparison) if one.name == "mmin-by-test"]
    assert "chose the epochs of mmin-by-test" in verdict.detail
    assert all("chose" not in one.detail for one in verdicts(comparison) if one.name != "mmin-by-test")


def test_what_the_choice_by_the_test_part_gains_by_hand() -> None:
    made = selection_table(compared([*world(), chosen_by_test()]))
    assert made is not None and not made.notes
    found = {(row[2].text, row[3].text): [cell.text for cell in row[4:]] for row in made.rows}
    assert found["average of six", "UA"] == ["0.760", "0.700", "+0.060", "3"]
    assert found["audio only", "WA"] == ["0.570", "0.510", "+0.060", "3"]  # 0.2 below the average, and 0.01
    assert {row[1].text for row in made.rows} == {"mmin"}


def test_only_the_same_experiment_says_what_the_choice_gains() -> None:
    made = selection_table(compared([*world(), chosen_by_test(epochs=61)]))
    assert made is not None and not made.rows
    assert "mmin-by-test" in made.notes[0] and "not known" in made.notes[0]
    assert selection_table(compared(world())) is None


def test_a_row_of_several_is_flagged_when_one_of_them_is() -> None:
    experiments = world()
    experiments[-1].trained["selection"] = "test-paper"  # type: ignore[index]
    comparison = compared(experiments)
    assert {one.name: one.flag for one in comparison.evaluated if one.flag} == {"MCTN": BY_TEST}
