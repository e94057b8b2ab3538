"""EMMR's key modalities (Zeng, Zhou, Liu 2022, section 3.6): which were judged key, and what the ensemble made of them.

Two tables. One says how often a modality that is absent was judged key, and how often TF alone and the ensemble are
right on these samples and on the others. The other stands where the dataset knows which modalities are key (the
constructed demo does: :attr:`pipeline.data.manifest.Sample.facts`): how often the detector says so of these samples and
of the others, with Fisher's exact test.

Shares are means over runs, with the deviation between runs. The test takes each sample once, as most of the runs judge
it: the runs share their samples, so that their judgements are no independent draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from pipeline.data.manifest import MODALITIES
from pipeline.data.shown import for_spreadsheet
from pipeline.reporting.comparison import Comparison, p_value
from pipeline.reporting.facts import ExperimentFacts
from pipeline.reporting.judgements import Judged
from pipeline.reporting.tables import Cell, Table
from pipeline.training.metrics import mean_and_deviation

ANY = "one of the three"
NOTHING = Cell("–", number=True)
RIGHT = ("TF right", "ensemble right")
DECIDED = ("right, TF for all", "right, detector decides", "right, truth decides")


def key_table(comparison: Comparison) -> Table | None:
    """Return how many samples were judged key, by what they lack and how they were shown; None without such a model."""
    rows = []
    for one, condition, absent, judged in _groups(comparison):
        key, others = [j for j in judged if j.key], [j for j in judged if not j.key]
        shares = [share(judged, lambda j: j.key), *_right(key), *_right(others)]
        rows.append([*_named(one, condition, absent), _count(len({j.id for j in judged})), *shares])
    if not rows:
        return None
    groups = [f"{group}, {who}" for group in ("key", "others") for who in RIGHT]
    return Table(
        name=f"{comparison.name}-key",
        caption=f"Samples of {comparison.dataset.words} that lack one modality: the share that was judged key, and how "
        "often TF alone and the ensemble are right on these and on the others (mean over runs ± deviation).",
        head=["experiment", "shown as", "absent", "samples", "judged key", *groups],
        rows=rows,
        notes=[
            "The network's answer is the ensemble's on samples that are judged key, TF's on the others (EMMR, Eq. 13)."
        ],
    )


def key_truth_table(comparison: Comparison) -> Table | None:
    """Return the detector beside what the dataset knows of key modalities; None where it knows nothing."""
    truth = key_modalities(comparison)
    rows = []
    for one, condition, absent, judged in _groups(comparison) if truth else ():
        key = [j for j in judged if j.absent in truth.get(j.id, ())]
        others = [j for j in judged if j.absent not in truth.get(j.id, ())]
        told = one.trained.get("settings", {}).get("key") == "oracle"
        p = Cell("told", number=True) if told else _fisher(key, others)
        cells: list[Cell] = []
        for part in (key, others):
            cells += [_count(len({j.id for j in part})), share(part, lambda j: j.key)]
        known = frozenset(j.id for j in key)
        decided = [
            share(judged, lambda j: j.backbone),
            share(judged, lambda j: j.ensemble if j.key else j.backbone),
            share(judged, lambda j, known=known: j.ensemble if j.id in known else j.backbone),  # type: ignore[misc]
        ]
        rows.append([*_named(one, condition, absent), *cells, p, *_right(key), *_right(others), *decided])
    if not rows:
        return None
    groups = [f"{group}, {who}" for group in ("key", "others") for who in RIGHT]
    return Table(
        name=f"{comparison.name}-key-truth",
        caption=f"The detector beside what {comparison.dataset.words} knows of its samples: how many lack a modality "
        "that is key in truth, and the share of these and of the others that was judged key (mean over runs ± "
        "deviation).",
        head=[
            "experiment", "shown as", "absent", "key in truth", "judged key", "others", "others judged key", "Fisher",
            *groups, *DECIDED,
        ],
        rows=rows,
        notes=[
            "Right, of all samples of a row: where TF decides on all of them; where the detector says on which the "
            "ensemble decides (the network's answer); where the truth says it. Where the last is no better than the "
            "first, the combination loses; where it is better and the second is not, the detector does.",
            "Fisher's exact test, two-sided, of each sample once, as most of the runs judge it. Told: the experiment "
            "gets the true flags (key: oracle).",
        ],
    )  # fmt: skip


def key_modalities(comparison: Comparison) -> Mapping[str, Sequence[str]]:
    """Return sample -> the modalities that are key by what the dataset knows; nothing where it does not."""
    samples = comparison.dataset.samples or ()
    return {
        for_spreadsheet(sample.id): [
            m for m, flag in zip(MODALITIES, sample.facts["key"], strict=True) if flag
        ]
        for sample in samples
        if "key" in sample.facts
    }


def share(judged: Sequence[Judged], of: Callable[[Judged], bool]) -> Cell:
    """Return the share of what was judged, mean over the runs that have any ± deviation."""
    by_run: dict[int, list[bool]] = {}
    for one in judged:
        by_run.setdefault(one.run, []).append(of(one))
    if not by_run:
        return NOTHING
    mean, deviation = mean_and_deviation([sum(run) / len(run) for run in by_run.values()])
    return Cell(f"{mean:.3f}", "" if deviation is None else f"{deviation:.3f}", number=True)


def fisher(key: Sequence[Judged], others: Sequence[Judged]) -> float | None:
    """Return the p-value of Fisher's exact test that key samples are judged key as often as others are.

    Each sample counts once, as more than half of its runs judge it. None where one of the groups is empty.
    """
    if not key or not others:
        return None
    from scipy.stats import fisher_exact

    table = [[sum(votes), len(votes) - sum(votes)] for votes in (_votes(key), _votes(others))]
    return float(fisher_exact(table).pvalue)


def _votes(judged: Sequence[Judged]) -> list[bool]:
    by_sample: dict[tuple[str, str], list[bool]] = {}
    for one in judged:
        by_sample.setdefault((one.id, one.absent), []).append(one.key)
    return [2 * sum(votes) > len(votes) for votes in by_sample.values()]


def _fisher(key: Sequence[Judged], others: Sequence[Judged]) -> Cell:
    p = fisher(key, others)
    return NOTHING if p is None else Cell(p_value(p), number=True)


def _groups(comparison: Comparison) -> Iterator[tuple[ExperimentFacts, str, str, list[Judged]]]:
    """Yield (experiment, condition, absent modality, what was judged); first of all modalities, where several are."""
    for one in comparison.experiments:
        conditions: dict[str, list[Judged]] = {}
        for judged in one.judgements:
            conditions.setdefault(judged.condition, []).append(judged)
        for condition, every in conditions.items():
            there = [m for m in MODALITIES if any(j.absent == m for j in every)]
            if len(there) > 1:
                yield one, condition, ANY, every
            for modality in there:
                yield one, condition, modality, [j for j in every if j.absent == modality]


def _named(one: ExperimentFacts, condition: str, absent: str) -> list[Cell]:
    return [Cell(one.name, flag=one.flag), Cell(condition), Cell(absent)]


def _right(judged: Sequence[Judged]) -> list[Cell]:
    return [share(judged, lambda j: j.backbone), share(judged, lambda j: j.ensemble)]


def _count(value: int) -> Cell:
    return Cell(str(value), number=True)
