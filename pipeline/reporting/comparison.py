"""Experiments side by side: the sections of the page, who beats the baseline in words, and the tables of results.

A section is a table of ``report.tables`` of params.yaml, or the experiments of a dataset that stand in no table. Only
experiments of one task, with the same labels and the same folds, are compared with each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite

from pipeline.data.masks import MISSING_CONDITIONS
from pipeline.params import Params, ReportTable
from pipeline.reporting.facts import DatasetFacts, ExperimentFacts
from pipeline.reporting.predictions import Predictions
from pipeline.reporting.statistics import (
    ALPHA,
    AVERAGE,
    CONDITIONS,
    FULL,
    POOLED,
    PairedTest,
    Scores,
    condition_words,
    corrected,
    paired_test,
    share_tested,
)
from pipeline.reporting.tables import Cell, Table
from pipeline.training.chance import Chance
from pipeline.training.metrics import SMALLER_IS_BETTER

METRIC_NAMES = {
    "wa": "WA", "ua": "UA", "macro_f1": "macro-F1", "weighted_f1": "weighted F1", "mae": "MAE", "r": "r", "ccc": "CCC",
    "loss": "loss", "acc2_has0": "Acc-2 (with 0)", "acc2_non0": "Acc-2 (without 0)", "f1_has0": "F1 (with 0)",
    "f1_non0": "F1 (without 0)", "acc3": "Acc-3", "acc5": "Acc-5", "acc7": "Acc-7", "sims_acc2": "Acc-2",
    "sims_acc3": "Acc-3", "sims_acc5": "Acc-5", "sims_f1": "weighted F1",
}  # fmt: skip
METRIC_WORDS = {
    "wa": "weighted accuracy: the share of samples that are right",
    "ua": "unweighted accuracy: the mean recall of the classes that occur",
    "macro_f1": "the mean of the classes' F1",
    "weighted_f1": "the classes' F1, weighted by how often they occur",
    "mae": "mean absolute error; less is better",
    "r": "Pearson's correlation",
    "ccc": "Lin's concordance correlation: Pearson's, less where predictions are shifted or stretched",
    "acc2_has0": "negative against the rest, 0 among the rest",
    "acc2_non0": "negative against positive; samples with the score 0 are left out",
    "f1_has0": "F1 of both classes, weighted by how often they occur",
    "f1_non0": "the same, samples with the score 0 left out",
    "acc3": "equal after clipping to [-1, 1] and rounding half to even",
    "acc5": "equal after clipping to [-2, 2] and rounding half to even",
    "acc7": "equal after clipping to [-3, 3] and rounding half to even",
    "sims_acc2": "positive against the rest, 0 among the rest",
    "sims_acc3": "the same interval of those cut at -0.1 and 0.1",
    "sims_acc5": "the same interval of those cut at -0.7, -0.1, 0.1 and 0.7",
    "sims_f1": "F1 of both classes of Acc-2, weighted by how often they occur",
}


# What a reader of the task expects first; the rest is one click away.
USUAL = ("wa", "ua", "mae", "acc2_non0", "f1_non0", "sims_acc2", "sims_f1")
FLOOR = "linear"  # the model that every section shows, and marks what is below it
BELOW = "▽"
Pair = tuple[str, str, str, str]  # experiment, against, condition, metric


@dataclass(frozen=True)
class Verdict:
    """Whether one experiment beats the one that it is tested against.

    Attributes:
        name: the experiment.
        sentence: the answer in words.
        detail: the numbers that it follows from.
        outcome: "better", "ahead" (better, but not significantly) or "not better".
    """

    name: str
    sentence: str
    detail: str
    outcome: str


@dataclass(frozen=True)
class Comparison:
    """Experiments side by side.

    Attributes:
        name: for files and anchors; no two comparisons of a page share it.
        words: what tells it from the others of its section; empty where there is one alone.
        table: the section of params.yaml that names the experiments.
        dataset: the facts of their dataset.
        loader: the dataset's.
        experiments: all of them, in the table's order.
        evaluated: those with results. Several that make one row of a published table count as one here
            (:func:`merge_rows`).
        baseline: the experiment that the others are tested against; None when it has no results or there is none.
        augmented: the baseline's model trained on the augmented set (MMIN section 4.4), the second one to be tested
            against.
        metric: the one in the headline.
        task: classification or regression.
        against: experiment -> the one that it is tested against instead of the baseline.
        merged: an experiment of ``evaluated`` that is several -> these.
        floor: the linear model on the same data, task and folds, of this table or of another; None without one.
        tests: (experiment, against, condition, metric) -> the t-test, corrected by Holm over all of the section's.
        family: how many tests with a p-value the section has.
        resampled: whether the corrected resampled t-test decides, instead of the paired one.
    """

    name: str
    words: str
    table: ReportTable
    dataset: DatasetFacts
    loader: str
    experiments: Sequence[ExperimentFacts]
    evaluated: Sequence[ExperimentFacts]
    baseline: ExperimentFacts | None
    augmented: ExperimentFacts | None
    metric: str
    task: str
    against: Mapping[str, str] = field(default_factory=dict)
    merged: Mapping[str, Sequence[ExperimentFacts]] = field(default_factory=dict)
    floor: ExperimentFacts | None = None
    tests: Mapping[Pair, PairedTest] = field(default_factory=dict)
    family: int = 0
    resampled: bool = False

    def test(
        self, one: ExperimentFacts, other: ExperimentFacts, condition: str, metric: str
    ) -> PairedTest | None:
        """Return the t-test of one experiment against another; of a pair that is not in the section's family the
        uncorrected one. None when they have no (fold, run) in common."""
        found = self.tests.get((one.name, other.name, condition, metric))
        return found or paired_test(one.scores, other.scores, condition, metric, self.test_share(one))

    def test_share(self, one: ExperimentFacts) -> float | None:
        """Return n_test / n_train of an experiment's folds; None when training did not write the sizes down."""
        return share_tested(self.merged.get(one.name, [one])[0].runs.values())

    @property
    def rows(self) -> list[ExperimentFacts]:
        """The rows of the result table: the evaluated experiments, and the floor where it is another table's."""
        own = {one.name for one in self.evaluated}
        return [
            *self.evaluated,
            *([self.floor] if self.floor is not None and self.floor.name not in own else []),
        ]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the result table: the conditions, and after their average the other kind of average."""
        pooled = [POOLED] if any(one.scores.pooled for one in self.evaluated) else []
        return tuple(c for name in self.conditions for c in (name, *(pooled if name == AVERAGE else ())))

    @property
    def open_metrics(self) -> tuple[str, ...]:
        """The two metrics that the page shows before a click: that of the headline, and the task's usual one."""
        usual = [m for m in USUAL if m in self.metrics and m != self.metric]
        return tuple(m for m in (self.metric, *usual[:1]) if m in self.metrics)

    def below_floor(self, one: ExperimentFacts, condition: str, metric: str) -> bool:
        """Whether an experiment's mean is worse than the floor's."""
        if self.floor is None or one.name == self.floor.name:
            return False
        own, least = one.scores.number(condition, metric), self.floor.scores.number(condition, metric)
        if own is None or least is None:
            return False
        return own.mean > least.mean if metric in SMALLER_IS_BETTER else own.mean < least.mean

    def opponent(self, one: ExperimentFacts) -> ExperimentFacts | None:
        """Return the experiment that one is tested against; None without one, or when that has no results."""
        if one.name not in self.against:
            return None if one is self.baseline else self.baseline
        return next((other for other in self.evaluated if other.name == self.against[one.name]), None)

    def opponents(self, one: ExperimentFacts) -> list[ExperimentFacts]:
        """Return all that one is tested against, no pair twice: its opponent, the augmented baseline, and rows that
        are made of several experiments."""
        found = [self.opponent(one)]
        if one is not self.baseline and one is not self.augmented:
            found.append(self.augmented)
        if one.name not in self.merged and (
            self.baseline is None or (one is not self.baseline and one is not self.augmented)
        ):
            found += [other for other in self.evaluated if other.name in self.merged]
        return list({other.name: other for other in found if other is not None}.values())

    @property
    def real(self) -> list[ExperimentFacts]:
        """The evaluated experiments one by one, as params.yaml names them."""
        return [part for one in self.evaluated for part in self.merged.get(one.name, [one])]

    def judged(self, one: ExperimentFacts) -> str:
        """Return the condition that an experiment is judged by: the average of the six, else its last one."""
        own = one.scores.conditions
        return AVERAGE if set(MISSING_CONDITIONS) <= set(own) else own[-1]

    @property
    def conditions(self) -> tuple[str, ...]:
        """The columns of the result table: the missing conditions, their average, the full one, then others."""
        found = list(dict.fromkeys(c for one in self.evaluated for c in one.scores.conditions))
        missing = [c for c in CONDITIONS if c in found and c != FULL]
        average = [AVERAGE] if len(missing) == len(CONDITIONS) - 1 else []
        full = [FULL] if FULL in found else []
        return (*missing, *average, *full, *(c for c in found if c not in CONDITIONS))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics, the one of the headline first."""
        found = dict.fromkeys(m for one in self.evaluated for m in one.scores.metrics)
        return (*([self.metric] if self.metric in found else []), *(m for m in found if m != self.metric))

    @property
    def tested(self) -> tuple[str, ...]:
        """The conditions that t-tests are made on, as in MMIN's Table 5: the average and the full one."""
        return tuple(c for c in self.conditions if c in (AVERAGE, FULL) or c not in CONDITIONS)

    @property
    def unit(self) -> str:
        """What was paired: "5 folds", or "5 folds × 3 runs"."""
        keys = {key for one in self.evaluated for key in one.scores.values}
        folds, runs = len({fold for fold, _ in keys}), len({run for _, run in keys})
        words = f"{folds} fold{'s' * (folds != 1)}"
        return words if runs <= 1 else f"{words} × {runs} runs"

    @property
    def chance(self) -> float | None:
        """What guessing reaches in the mean over folds: of UA 1 / C, C being the classes in a fold's test part.
        Of results without a word on chance, all classes are taken to occur."""
        if self.metric != "ua":
            return None
        known = {one.chance.level for one in self.evaluated if one.chance is not None}
        classes = self.evaluated[0].classes if self.evaluated else ()
        return known.pop() if len(known) == 1 else 1 / len(classes) if classes else None


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        name: for the anchor.
        title: its heading.
        parts: what is compared in it: one comparison for each task, labels and folds that its experiments have.
    """

    name: str
    title: str
    parts: Sequence[Comparison]


def compare(
    params: Params, datasets: Sequence[DatasetFacts], experiments: Sequence[ExperimentFacts]
) -> list[Section]:
    """Return the sections of the page: each dataset's experiments that stand in no table, then the tables.

    Args:
        params: params.yaml; its ``report`` says what stands where.
        datasets, experiments: what :func:`~pipeline.reporting.facts.gather` read.
    """
    by_name = {one.name: one for one in experiments}
    facts = {dataset.name: dataset for dataset in datasets}
    taken: set[str] = set()
    found = []
    for name, table in _tables(params, experiments):
        own = [replace(by_name[one], place=place) for place, one in enumerate(table.experiments)]
        kinds: dict[tuple[str, ...], list[ExperimentFacts]] = {}
        for one in own:
            if one.dataset in facts:
                kinds.setdefault(_kind(one), []).append(one)
        parts = []
        for alike in kinds.values():
            wanted = f"{name}-scores" if alike[0].task == "regression" else name
            numbers = (f"{wanted}-{number}" for number in range(2, len(taken) + 3))
            part = next(one for one in (wanted, *numbers) if one not in taken)
            taken.add(part)
            dataset = facts[alike[0].dataset]
            loader = params.datasets[dataset.name].loader
            words = _kind_words(alike[0]) if len(kinds) > 1 else ""
            parts.append(_compare(part, words, table, dataset, loader, alike))
        if parts:
            parts = _with_tests(
                [_with_floor(part, experiments) for part in parts], params.report.test == "resampled"
            )
            found.append(Section(parts[0].name, table.title, parts))
    return found


def _with_floor(comparison: Comparison, experiments: Sequence[ExperimentFacts]) -> Comparison:
    """Give a comparison its linear floor: of its own table, else the first on the same data, task and folds."""
    kinds = {_kind(one) for one in comparison.experiments}
    others = [one for one in experiments if _kind(one) in kinds]
    floor = next(
        (one for one in (*comparison.evaluated, *others) if one.model == FLOOR and one.scores.values),
        None,
    )
    if floor is not None and floor.name not in {one.name for one in comparison.evaluated}:
        floor = replace(floor, place=len(comparison.experiments))
    return replace(comparison, floor=floor)


def _with_tests(parts: Sequence[Comparison], resampled: bool) -> list[Comparison]:
    """Give the comparisons of one section their t-tests, corrected over all of them."""
    family: dict[tuple[str, Pair], PairedTest] = {}
    for part in parts:
        for one in part.evaluated:
            share = part.test_share(one)
            for other in part.opponents(one):
                for condition in part.tested:
                    for metric in part.metrics:
                        test = paired_test(one.scores, other.scores, condition, metric, share)
                        if test is not None:
                            family[part.name, (one.name, other.name, condition, metric)] = test
    done = corrected(family, resampled)
    size = sum(test.holm is not None for test in done.values())
    return [
        replace(
            part,
            tests={pair: test for (name, pair), test in done.items() if name == part.name},
            family=size,
            resampled=resampled,
        )
        for part in parts
    ]


def _tables(params: Params, experiments: Sequence[ExperimentFacts]) -> Iterator[tuple[str, ReportTable]]:
    """Yield (name, table): of each dataset the experiments that stand in no table, then the tables."""
    placed = {name for table in params.report.tables.values() for name in table.experiments}
    for dataset in params.datasets:
        own = tuple(one.name for one in experiments if one.dataset == dataset and one.name not in placed)
        if own:
            baseline = params.report.baseline if params.report.baseline in own else None
            yield dataset, ReportTable(title=f"Results on {dataset}", experiments=own, baseline=baseline)
    yield from params.report.tables.items()


def _kind(one: ExperimentFacts) -> tuple[str, ...]:
    """Return what two experiments must share to be compared."""
    shared = ("dataset", "task", "target", "labels", "folds")
    return tuple(json.dumps(one.trained.get(key), sort_keys=True) for key in shared)


def _kind_words(one: ExperimentFacts) -> str:
    """Return what tells a comparison from others of the same section: ``Scores, folds: random``."""
    target = one.trained.get("target", "score")
    words = (
        "Classes" if one.task == "classification" else "Scores" if target == "score" else f"Scores ({target})"
    )
    if one.task == "classification" and one.trained.get("labels"):
        words += f": {', '.join(one.classes)}"
    folds = one.trained.get("folds")
    return f"{words}; folds: {folds['scheme']}" if folds else words


def _compare(
    name: str,
    words: str,
    table: ReportTable,
    dataset: DatasetFacts,
    loader: str,
    own: Sequence[ExperimentFacts],
) -> Comparison:
    evaluated, merged = merge_rows(table, [one for one in own if one.scores.values])
    against: dict[str, str] = dict(table.against)
    for row, parts in merged.items():
        others = {table.against.get(part.name) for part in parts}
        if len(others) == 1 and (other := others.pop()) is not None:
            against[row] = other
    whole = {part.name: row for row, parts in merged.items() for part in parts}
    against = {one: whole.get(other, other) for one, other in against.items() if whole.get(other) != one}
    wanted = whole.get(str(table.baseline), table.baseline)
    baseline = next((one for one in evaluated if one.name == wanted), None)
    augmented = None
    if baseline is not None:
        same = [
            one
            for one in evaluated
            if one.model == baseline.model and one.trained["train_on"] == "augmented" and one is not baseline
        ]
        augmented = next(iter(same), None)
    computed = [metric for one in evaluated for metric in one.scores.metrics]
    asked = str(own[0].trained["select_by"])
    metric = asked if asked in computed else next(iter(computed), asked)
    return Comparison(
        name=name,
        words=words,
        table=table,
        dataset=dataset,
        loader=loader,
        experiments=own,
        evaluated=evaluated,
        baseline=baseline,
        augmented=augmented,
        metric=metric,
        task=own[0].task,
        against=against,
        merged=merged,
    )


def merge_rows(
    table: ReportTable, evaluated: Sequence[ExperimentFacts]
) -> tuple[list[ExperimentFacts], dict[str, list[ExperimentFacts]]]:
    """Make one experiment of those that together are one row of a published table, each under other conditions.

    MMIN's MCTN is such a row, and the Baseline of its Table 7: a network for each condition. Only together do they
    have an average, a t-test and a rank. Experiments that name one row and the same condition stay apart: they are
    rivals.

    Args:
        table: its ``published`` says which row an experiment reproduces, and under which conditions.
        evaluated: its experiments with results.

    Returns:
        The experiments, a merged one in the place of its first and named like the row; and merged name -> its parts.
    """
    rows: dict[tuple[str, str, str, str], list[ExperimentFacts]] = {}
    for one in evaluated:
        row = table.published.get(one.name)
        if row is not None:
            rows.setdefault((row.paper, row.table, row.dataset, row.model), []).append(one)
    names = {one.name for one in evaluated}
    merged: dict[str, list[ExperimentFacts]] = {}
    instead: dict[str, ExperimentFacts] = {}
    for (*_, model), parts in rows.items():
        own = {part.name: _conditions_of(table, part) for part in parts}
        conditions = [condition for part in parts for condition in own[part.name]]
        if len(parts) > 1 and len(set(conditions)) == len(conditions):
            name = model if model not in names | merged.keys() else f"{model} (together)"
            merged[name] = parts
            instead[parts[0].name] = _merge(name, parts, own)
    gone = {part.name for parts in merged.values() for part in parts}
    found = [instead.get(one.name, one) for one in evaluated if one.name in instead or one.name not in gone]
    return found, merged


def _conditions_of(table: ReportTable, one: ExperimentFacts) -> tuple[str, ...]:
    """Return the conditions under which an experiment stands beside its published row."""
    wanted = set(table.published[one.name].conditions)
    if AVERAGE in wanted:
        wanted.update(MISSING_CONDITIONS)
    return tuple(c for c in one.scores.conditions if not wanted or c in wanted)


def _merge(
    name: str, parts: Sequence[ExperimentFacts], conditions: Mapping[str, Sequence[str]]
) -> ExperimentFacts:
    confusion = {
        condition: counts
        for part in parts
        for condition, counts in part.confusion.items()
        if condition in conditions[part.name]
    }
    train_on = ", ".join(part.train_on for part in parts)
    flagged = [part.trained["selection"] for part in parts if part.flag]
    selection = flagged[0] if flagged else parts[0].trained.get("selection")
    return replace(
        parts[0],
        name=name,
        trained={**parts[0].trained, "train_on": train_on, "train_mask": None, "selection": selection},
        scores=Scores.merged([part.scores.only(conditions[part.name]) for part in parts]),
        confusion={c: confusion[c] for c in (*CONDITIONS, *confusion) if c in confusion},
        curves={},
        summary={},
        runs={},
        embeddings={},
        predictions=_merged_predictions(parts, conditions),
        chance=_merged_chance(parts, conditions),
    )


def _merged_predictions(
    parts: Sequence[ExperimentFacts], conditions: Mapping[str, Sequence[str]]
) -> Predictions | None:
    known = [part.predictions.only(conditions[part.name]) for part in parts if part.predictions is not None]
    return Predictions.merged(known) if len(known) == len(parts) else None


def _merged_chance(
    parts: Sequence[ExperimentFacts], conditions: Mapping[str, Sequence[str]]
) -> Chance | None:
    """Return what is known of each condition by the experiment that stands for it; an average of several is not."""
    known = {
        condition: part.chance.conditions[condition]
        for part in parts
        for condition in conditions[part.name]
        if part.chance is not None and condition in part.chance.conditions
    }
    first = parts[0].chance
    return None if first is None else replace(first, conditions=known)


def verdicts(comparison: Comparison) -> list[Verdict]:
    """Return whether each experiment beats the one that it is tested against; MMIN first."""
    metric = comparison.metric
    found = []
    for one in sorted(comparison.evaluated, key=lambda other: other.model != "mmin"):
        baseline = comparison.opponent(one)
        if baseline is None:
            continue
        condition = comparison.judged(one)
        test = comparison.test(one, baseline, condition, metric)
        mine, theirs = one.scores.number(condition, metric), baseline.scores.number(condition, metric)
        if test is None or mine is None or theirs is None:
            continue
        pairs = one.scores.of(condition, metric), baseline.scores.of(condition, metric)
        sign = -1 if metric in SMALLER_IS_BETTER else 1
        wins = sum(sign * pairs[0][key] > sign * pairs[1][key] for key in pairs[0].keys() & pairs[1].keys())
        if not test.better:
            outcome, sentence = "not better", f"{one.name} does not beat {baseline.name}"
        elif test.significant:
            outcome, sentence = "better", f"{one.name} beats {baseline.name}"
        else:
            outcome, sentence = "ahead", f"{one.name} is ahead of {baseline.name}, but not significantly"
        where = (
            "when modalities are missing" if condition == AVERAGE else f"under {condition_words(condition)}"
        )
        detail = (
            f"{metric_name(metric)} "
            f"{'averaged over the six missing conditions' if condition == AVERAGE else where} is "
            f"{mine.mean:.3f} against {theirs.mean:.3f} ({signed(test.difference)}); better in {wins} of "
            f"{test.pairs} {'folds' if len({run for _, run in pairs[0]}) == 1 else 'folds and runs'}; "
            f"{p_words(test)}."
        )
        augmented = comparison.augmented
        if augmented is not None and one is not augmented:
            other = comparison.test(one, augmented, condition, metric)
            if other is not None:
                detail += f" Against {augmented.name}: {signed(other.difference)}; {p_words(other)}."
        chosen = [other.name for other in (one, baseline) if other.flag]
        if chosen:
            detail += (
                f" The test part itself chose the epochs of {' and '.join(chosen)}: too good to be true."
            )
        found.append(Verdict(one.name, f"{sentence} {where}.", detail, outcome))
    return found


def single_modalities(comparison: Comparison) -> str:
    """Return a sentence on whether each modality alone is above chance, by the experiment that is best under it.

    Above are predictions that are better than a guess (a regression's: than the constant predictor) over all folds
    together, with a p below 0.05 by the permutation test (pipeline/training/chance.py) times the experiments that the
    best was chosen from. Empty where no experiment was evaluated under a single modality.
    """
    found: dict[str, tuple[bool, str]] = {}
    for condition in CONDITIONS:
        known = [one for one in comparison.evaluated if one.chance and condition in one.chance.conditions]
        if len(CONDITIONS[condition]) == 1 and known:
            sign = -1 if comparison.task == "regression" else 1
            best = max(known, key=lambda one: sign * _chance(one).conditions[condition].mean)
            words = f"{CONDITIONS[condition][0]} {_chance(best).words(condition, len(known))}, {best.name}"
            found[CONDITIONS[condition][0]] = _chance(best).above(condition, len(known)), words
    if not found:
        return ""
    below = [modality for modality, (above, _) in found.items() if not above]
    lead = f"Not above chance: {' and '.join(below)}." if below else "Each single modality is above chance."
    several = "" if len(comparison.evaluated) < 2 else ", times the experiments that the best was chosen from"
    return (
        f"{lead} The best from one modality alone: {'; '.join(words for _, words in found.values())}. p: permutation "
        f"of the labels within folds{several}."
    )


def _chance(one: ExperimentFacts) -> Chance:
    """Return what is known to be there."""
    if one.chance is None:
        raise ValueError(f"{one.name} has no word on chance")
    return one.chance


def trust_notes(comparison: Comparison) -> list[str]:
    """Return what limits the trust in a comparison's numbers: its folds, its constant predictor, who is not above
    chance, and which networks answer always the same."""
    notes = list(dict.fromkeys(str(f) for one in comparison.real for f in one.summary.get("findings", ())))
    known = [one for one in comparison.real if one.chance is not None]
    if comparison.task == "regression" and known:
        numbers = _chance(known[0]).constant
        values = ", ".join(
            f"{metric_name(m)} {numbers[m]['mean']:.3f}" for m in comparison.metrics if m in numbers
        )
        notes.append(f"Always the median score of the training part, mean over folds: {values}.")
    if comparison.task == "classification" and comparison.chance is not None and known:
        notes.append(
            f"UA is over the classes that a fold's test part has; a guess reaches {comparison.chance:.3f} in the mean "
            "over folds."
        )
    for one in known:
        if conditions := _chance(one).not_above:
            notes.append(
                f"{one.name} is not above chance under {', '.join(conditions)} (permutation test, p ≥ 0.05)."
            )
        if alike := _chance(one).alike:
            notes.append(f"{one.name}: {alike}.")
    return notes


def metric_name(name: str) -> str:
    """Return a metric's name as the page writes it: ``UA`` for ``ua``."""
    return METRIC_NAMES.get(name, name)


def signed(value: float) -> str:
    """Return a difference with its sign: ``+0.012``."""
    return f"{'+' if value >= 0 else '−'}{abs(value):.3f}"


def p_words(test: PairedTest) -> str:
    """Return a test's p-value in words, or why there is none."""
    if test.p is None:
        return "no t-test: " + (
            "a single pair" if test.pairs < 2 else "the difference is the same in every pair"
        )
    if test.holm is None:
        return f"{p_value(test.p)}, two-tailed paired t-test, {test.pairs} pairs"
    return f"{p_value(test.holm)} by Holm, {p_value(test.p)} uncorrected, two-tailed paired t-test, {test.pairs} pairs"


def p_value(value: float) -> str:
    """Return ``p = 0.012``, with spaces at which no line breaks."""
    return "p\u00a0<\u00a00.001" if value < 0.001 else f"p\u00a0=\u00a0{value:.3f}"


# --- tables ---


def result_table(comparison: Comparison) -> Table:
    """Return conditions x experiments, as MMIN's Table 5: mean ± deviation, marks of the t-tests, the best in
    bold."""
    rows = []
    for metric in comparison.metrics:
        for one in comparison.rows:
            cells = [result_cell(comparison, one, condition, metric) for condition in comparison.columns]
            rows.append([Cell(metric_name(metric)), Cell(one.name, flag=one.flag), *cells])
    heads = [f"{{{','.join(c)}}}" if c in CONDITIONS else c for c in comparison.columns]
    return Table(
        name=f"{comparison.name}-conditions",
        caption=f"Results on {comparison.dataset.words} by what is available "
        f"(a audio, v video, t text): mean ± standard deviation over {comparison.unit}; "
        "average over the six missing conditions.",
        head=["metric", "experiment", *heads],
        rows=rows,
        notes=[*_mark_notes(comparison), *trust_notes(comparison)],
    )


def result_cell(comparison: Comparison, one: ExperimentFacts, condition: str, metric: str) -> Cell:
    """Return one number of the result table."""
    number = one.scores.number(condition, metric)
    if number is None:
        return Cell("–", number=True)
    every = [other.scores.number(condition, metric) for other in comparison.rows]
    means = [round(other.mean, 3) for other in every if other is not None]
    order = sorted(set(means), reverse=metric not in SMALLER_IS_BETTER)
    mark = ""
    if condition in comparison.tested:
        for sign, other in (("*", comparison.opponent(one)), ("▲", comparison.augmented)):
            test = comparison.test(one, other, condition, metric) if other and other is not one else None
            if test is not None and test.significant and test.better:
                mark += sign
    if comparison.below_floor(one, condition, metric):
        mark += BELOW
    return Cell(
        text=f"{number.mean:.3f}",
        spread="" if number.deviation is None else f"{number.deviation:.3f}",
        mark=mark,
        best=len(means) > 1 and round(number.mean, 3) == order[0],
        second=len(means) > 2 and round(number.mean, 3) in order[1:2] and means.count(order[0]) == 1,
        number=True,
    )


def _mark_notes(comparison: Comparison) -> list[str]:
    notes = []
    test = "corrected resampled t-test" if comparison.resampled else "paired t-test"
    words = f"two-tailed {test} over folds and runs, corrected by Holm for {comparison.family} tests"
    pairs = [
        f"{one.name} against {other.name}"
        for one in comparison.evaluated
        if one.name in comparison.against
        and (other := comparison.opponent(one)) is not None
        and other is not comparison.baseline
    ]
    if pairs:
        notes.append(f"* better, p < 0.05 ({words}): {', '.join(pairs)}.")
    for sign, other in (("*", comparison.baseline), ("▲", comparison.augmented)):
        if other is not None:
            notes.append(f"{sign} better than {other.name}, p < 0.05 ({words}).")
    if comparison.floor is None:
        notes.append("There is no linear floor: no evaluated experiment here has the model linear.")
    else:
        elsewhere = comparison.floor.name not in {one.name for one in comparison.evaluated}
        notes.append(
            f"{BELOW} below the linear floor, {comparison.floor.name}"
            f"{', which stands in another section' if elsewhere else ''}."
        )
    if POOLED in comparison.columns:
        notes.append(
            "average: the mean of the six conditions' numbers; pooled: the number of their predictions taken together. "
            "Toolkits differ in which of the two they print."
        )
    if comparison.evaluated and all(len(one.scores.values) == 1 for one in comparison.evaluated):
        notes.append("A single fold and seed each: there is no deviation and no t-test.")
    if lost := lost_numbers(comparison):
        notes.append(f"Not a number, and left out of means and tests: {', '.join(lost)}.")
    for name, parts in comparison.merged.items():
        notes.append(f"{name}: {', '.join(part.name for part in parts)}, a condition each.")
    return notes


def lost_numbers(comparison: Comparison) -> list[str]:
    """Return "experiment (condition metric, n of N folds and runs)" for each mean that leaves out NaN or infinity."""
    found = []
    for one in comparison.evaluated:
        for condition in one.scores.conditions:
            for metric in one.scores.metrics:
                every = [
                    scores[condition][metric]
                    for scores in one.scores.values.values()
                    if metric in scores.get(condition, {})
                ]
                if lost := sum(not isfinite(value) for value in every):
                    found.append(f"{one.name} ({condition} {metric_name(metric)}, {lost} of {len(every)})")
    return found


# What a method may take for granted, in the words of models/base.py (the report imports no model) -> the column's head.
NEEDS = {"the hidden truth": "needs the hidden truth", "a model a condition": "a model a condition"}


def needs_table(comparison: Comparison) -> Table | None:
    """Return what each method takes for granted; None when none takes anything, as far as training wrote it down."""
    if not any(one.needs for one in comparison.evaluated):
        return None

    def answer(one: ExperimentFacts, need: str) -> Cell:
        if one.needs is None:
            return Cell("not recorded")
        return Cell("yes" if need in one.needs else "–")

    return Table(
        name=f"{comparison.name}-needs",
        caption=f"What the methods of {comparison.dataset.words} need. The hidden truth: in training the method sees "
        "what its samples hide, as the target of a reconstruction or by a network trained on complete samples before. "
        "A model a condition: each missing condition has a network of its own.",
        head=["experiment", "model", *NEEDS.values()],
        rows=[
            [Cell(one.name, flag=one.flag), Cell(one.model), *(answer(one, need) for need in NEEDS)]
            for one in comparison.evaluated
        ],
    )


def test_table(comparison: Comparison) -> Table | None:
    """Return the t-tests of every experiment against all of :meth:`Comparison.opponents`; None without any."""
    rows = []
    for one in comparison.evaluated:
        for other in comparison.opponents(one):
            for condition in comparison.tested:
                for metric in comparison.metrics:
                    test = comparison.test(one, other, condition, metric)
                    if test is not None:
                        rows.append(
                            [
                                Cell(one.name, flag=one.flag),
                                Cell(other.name, flag=other.flag),
                                Cell(
                                    "average of six" if condition == AVERAGE else condition_words(condition)
                                ),
                                *_test_cells(test, metric),
                            ]
                        )
    if not rows:
        return None
    return Table(
        name=f"{comparison.name}-tests",
        caption=f"Each experiment against those that it is tested against, on {comparison.dataset.words}: "
        "difference of the means and two-tailed paired t-test.",
        head=[
            "experiment",
            "against",
            "condition",
            "metric",
            "difference",
            "t",
            "p",
            "p (Holm)",
            "p (resampled)",
            "pairs",
        ],
        rows=rows,
        notes=[
            f"Bold: below 0.05, in either direction. p: uncorrected. Holm: corrected for the {comparison.family} "
            f"tests of this section, from the {'resampled' if comparison.resampled else 'plain'} p; stars and "
            "verdicts go by it.",
            "Folds share training data, so p is somewhat too small. p (resampled) allows for that: the corrected "
            "resampled t-test of Nadeau and Bengio (2003), with 1/n + n_test/n_train in the place of 1/n; a dash where "
            "the sizes of the folds are not known. report.test: resampled in params.yaml lets it decide.",
            *(
                ["One split of the data: the pairs are seeds, so the tests say nothing about other data."]
                if len({fold for one in comparison.evaluated for fold, _ in one.scores.values}) == 1
                else []
            ),
        ],
    )


def _test_cells(test: PairedTest, metric: str) -> list[Cell]:
    return [
        Cell(metric_name(metric)),
        Cell(signed(test.difference), number=True),
        Cell("–" if test.t is None else f"{test.t:.2f}".replace("-", "−"), number=True),
        *(
            Cell(
                "–" if p is None else "<0.0001" if p < 0.00005 else f"{p:.4f}",
                best=p is not None and p < ALPHA,
                number=True,
            )
            for p in (test.p, test.holm, test.resampled_p)
        ),
        Cell(str(test.pairs), number=True),
    ]


def selection_table(comparison: Comparison) -> Table | None:
    """Return what it gains that the test part chose the epochs (``selection: test-paper``).

    Each such experiment stands beside the one that differs in nothing but that validation chose; where there is none, a
    note says that the gain is not known. None without such experiments.
    """
    rows, notes = [], []
    for one in comparison.real:
        if not one.flag:
            continue
        honest = next((other for other in comparison.real if _same_but_selection(one, other)), None)
        if honest is None:
            notes.append(
                f"{one.name}: what the choice by the test part gains is not known: no experiment here is the same with "
                "selection: validation."
            )
            continue
        for condition in comparison.conditions:
            for metric in comparison.metrics:
                test = paired_test(one.scores, honest.scores, condition, metric)
                pair = one.scores.number(condition, metric), honest.scores.number(condition, metric)
                if test is None or pair[0] is None or pair[1] is None:
                    continue
                rows.append(
                    [
                        Cell(one.name, flag=one.flag),
                        Cell(honest.name),
                        Cell("average of six" if condition == AVERAGE else condition_words(condition)),
                        Cell(metric_name(metric)),
                        *(Cell(f"{number.mean:.3f}", number=True) for number in pair if number is not None),
                        Cell(signed(test.difference), number=True),
                        Cell(str(test.pairs), number=True),
                    ]
                )
    if not rows and not notes:
        return None
    return Table(
        name=f"{comparison.name}-selection",
        caption="What it gains that the test part chose the epochs, as in some public codes: the same experiments on "
        f"{comparison.dataset.words}, chosen by test and by validation.",
        head=["experiment", "beside", "condition", "metric", "by test", "by validation", "gain", "pairs"],
        rows=rows,
        notes=notes,
    )


def _same_but_selection(one: ExperimentFacts, other: ExperimentFacts) -> bool:
    """Return whether two experiments are trained alike, but for who chooses the epochs."""
    free = ("selection", "watch_test", "keep_hidden", "evaluate_on", "evaluate_conditions", "runs")
    alike = [{key: value for key, value in two.trained.items() if key not in free} for two in (one, other)]
    return alike[0] == alike[1] and not other.flag


def confusion_table(comparison: Comparison) -> Table:
    """Return every confusion matrix, one row for each label under each condition."""
    classes = list(dict.fromkeys(c for one in comparison.evaluated for c in one.classes))
    rows = []
    for one in comparison.evaluated:
        for condition, counts in one.confusion.items():
            for label in one.classes:
                row = [_count(counts.get((label, predicted), 0)) for predicted in classes]
                rows.append([Cell(one.name, flag=one.flag), Cell(condition), Cell(label), *row])
    return Table(
        name=f"{comparison.name}-confusion",
        caption=f"Confusion matrices on {comparison.dataset.words}, all folds and runs together: "
        "rows are labels, columns predictions.",
        head=["experiment", "condition", "label", *classes],
        rows=rows,
    )


def _count(value: int) -> Cell:
    return Cell(str(value), number=True)
