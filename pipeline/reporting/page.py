"""The page: what the templates show, gathered from facts, comparisons and figures."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.data.store import Status
from pipeline.params import Params
from pipeline.reporting import figures
from pipeline.reporting.breakdown import (
    DRAWN,
    calibration_table,
    class_table,
    drawn,
    floor_words,
    rate_tables,
    shares_table,
    speaker_table,
)
from pipeline.reporting.browser import BUDGET, as_script, browser_data
from pipeline.reporting.comparison import (
    METRIC_WORDS,
    Comparison,
    Section,
    Verdict,
    confusion_table,
    metric_name,
    needs_table,
    p_value,
    result_table,
    selection_table,
    signed,
    single_modalities,
    test_table,
    verdicts,
)
from pipeline.reporting.drawing import (
    curve_groups,
    curves_part,
    embeddings_part,
    joint_parts,
    rates_parts,
    reliability_part,
    result_figure,
    span,
    together_part,
)
from pipeline.reporting.facts import (
    DatasetFacts,
    ExperimentFacts,
    cautions,
    length_table,
    mask_table,
    modality_table,
    skipped_table,
)
from pipeline.reporting.key_modality import key_table, key_truth_table
from pipeline.reporting.overview import overview, went_wrong
from pipeline.reporting.published import p_value_table, published_number, published_table
from pipeline.reporting.statistics import AVERAGE, CONDITIONS, FULL, POOLED, condition_words
from pipeline.reporting.tables import Cell, Table

OPEN_SECTIONS = 4  # sections whose results stand open; of more only what they say
VERDICTS = 5  # that a section shows before a click
PAGE = Path("data/report")  # where the page will lie, from which its links to the media lead
NAMED = 20  # samples that the page names for each reason; the table in a file of its own names all
TEMPLATES = Path(__file__).parent / "templates"
LIBRARIES = (
    "torch",
    "numpy",
    "av",
    "opensmile",
    "librosa",
    "mediapipe",
    "transformers",
    "scikit-learn",
    "h5py",
    "dvc",
)


@dataclass(frozen=True)
class Tables:
    """The tables of one comparison, for the page and for files; None where there is nothing to show."""

    results: Table | None
    needs: Table | None
    tests: Table | None
    selection: Table | None
    published: Table | None
    p_values: Table | None
    confusion: Table | None
    classes: Table | None = None
    speakers: Table | None = None
    calibration: Table | None = None
    shares: Table | None = None
    rates: Sequence[Table] = ()
    key: Table | None = None
    key_truth: Table | None = None

    @classmethod
    def of(cls, params: Params, comparison: Comparison) -> Tables:
        """Build the tables of a comparison."""
        evaluated = bool(comparison.evaluated)
        return cls(
            results=result_table(comparison) if evaluated else None,
            needs=needs_table(comparison),
            tests=test_table(comparison) if evaluated else None,
            selection=selection_table(comparison) if evaluated else None,
            published=published_table(params, comparison),
            p_values=p_value_table(comparison),
            confusion=confusion_table(comparison) if any(e.confusion for e in comparison.evaluated) else None,
            classes=class_table(comparison),
            speakers=speaker_table(comparison, comparison.rows),
            calibration=calibration_table(comparison),
            shares=shares_table(comparison) if evaluated else None,
            rates=rate_tables(comparison),
            key=key_table(comparison),
            key_truth=key_truth_table(comparison),
        )

    @property
    def every(self) -> list[Table]:
        """All that there are."""
        found = [one for one in vars(self).values() if isinstance(one, Table)]
        return [*found, *self.rates]


def render(
    params: Params,
    datasets: Sequence[DatasetFacts],
    experiments: Sequence[ExperimentFacts],
    sections: Sequence[tuple[Section, Sequence[tuple[Comparison, Tables]]]],
    pictures: dict[str, str],
) -> str:
    """Return the page, and put its figures into ``pictures``, name -> SVG."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    environment.filters["metric_name"] = metric_name
    environment.globals.update(
        condition_words=condition_words,
        modalities=CONDITIONS,
        metric_name=metric_name,
        colours=figures.page_colours(),
        script=Markup(script),  # noqa: S704 - our own
        script_hash=base64.b64encode(hashlib.sha256(f"\n{script}\n".encode()).digest()).decode(),
    )
    share = BUDGET // max(1, sum(len(parts) for _, parts in sections))
    return environment.get_template("report.html.j2").render(
        title=params.report.title,
        overview=overview([section for section, _ in sections]),
        wrong=went_wrong(datasets, experiments, [section for section, _ in sections]),
        sections=[
            {
                "name": section.name,
                "title": section.title,
                "constructed": section.parts[0].dataset.constructed,
                "parts": [
                    _part(params, comparison, tables, pictures, len(sections) <= OPEN_SECTIONS, share)
                    for comparison, tables in parts
                ],
            }
            for section, parts in sections
        ],
        datasets=[_dataset_part(dataset) for dataset in datasets],
        experiments=[_experiment_part(one) for one in experiments],
        constructed=[dataset.name for dataset in datasets if dataset.constructed],
        seed=params.seed,
        versions=_versions(),
    )


@dataclass(frozen=True)
class Headline:
    """A big number at the top of a section, with its spread, its label and a note below."""

    value: str
    spread: str
    label: str
    note: str


def _headlines(comparison: Comparison) -> list[Headline]:
    """Return the numbers at the top, of the experiment that the first verdict is about."""
    judged = verdicts(comparison)
    name = judged[0].name if judged else (comparison.evaluated[0].name if comparison.evaluated else "")
    hero = next((one for one in comparison.evaluated if one.name == name), None)
    found = []
    if hero is not None:
        metric = metric_name(comparison.metric)
        note = f"{hero.name}, {hero.flag}" if hero.flag else hero.name
        shown = [(AVERAGE, "six missing conditions"), (FULL, "nothing missing")]
        if FULL not in hero.scores.conditions:
            shown = [(condition, condition_words(condition)) for condition in hero.scores.conditions]
        for condition, words in shown:
            number = hero.scores.number(condition, comparison.metric)
            if number is not None:
                spread = "" if number.deviation is None else f"{number.deviation:.3f}"
                found.append(Headline(f"{number.mean:.3f}", spread, f"{metric}, {words}", note))
        other = comparison.opponent(hero)
        if other is not None:
            judged_by = comparison.judged(hero)
            test = comparison.test(hero, other, judged_by, comparison.metric)
            if test is not None:
                decides = test.p if test.holm is None else test.holm
                note = "no t-test" if decides is None else p_value(decides)
                words = "six missing conditions" if judged_by == AVERAGE else condition_words(judged_by)
                label = f"against {other.name}"
                found.insert(1, Headline(signed(test.difference), "", label, f"{words}, {note}"))
    if comparison.dataset.samples is not None:
        kind = "constructed utterances" if comparison.dataset.constructed else "utterances"
        note = f"{comparison.unit}" if comparison.evaluated else "not evaluated yet"
        found.append(Headline(f"{len(comparison.dataset.samples):,}".replace(",", "\u202f"), "", kind, note))
    return found


def _part(
    params: Params,
    comparison: Comparison,
    tables: Tables,
    pictures: dict[str, str],
    open_: bool,
    budget: int,
) -> dict[str, Any]:
    """Return what the template shows of one comparison."""
    from markupsafe import Markup

    judged = verdicts(comparison)
    data = browser_data(comparison, params.datasets[comparison.dataset.name].root, PAGE, budget)
    return {
        "comparison": comparison,
        "name": comparison.name,
        "words": comparison.words,
        "open": open_,
        "headlines": _headlines(comparison),
        "verdicts": judged[:VERDICTS],
        "more_verdicts": judged[VERDICTS:],
        "counted": _counted(judged) if len(judged) > VERDICTS else "",
        "floor": floor_words(comparison) if comparison.evaluated else "",
        "singles": single_modalities(comparison),
        "groups": _result_groups(comparison, tables),
        "tables": tables,
        "tests": _shown_tests(comparison, tables.tests),
        "speakers": speaker_table(comparison, drawn(comparison))
        if len(comparison.rows) > DRAWN
        else tables.speakers,
        "metric_words": [(metric_name(m), METRIC_WORDS[m]) for m in comparison.metrics if m in METRIC_WORDS],
        "together": [
            part for group in curve_groups(comparison) if (part := together_part(comparison, group, pictures))
        ],
        "by_condition": result_figure(comparison, pictures) if comparison.evaluated else None,
        "rates": list(zip(rates_parts(comparison, pictures), tables.rates, strict=False)),
        "reliability": reliability_part(comparison, pictures),
        "embeddings": [
            part for one in comparison.real if (part := embeddings_part(comparison, one, pictures))
        ],
        "curves": [
            part for one in comparison.experiments if (part := curves_part(comparison, one, pictures))
        ],
        "joint": joint_parts(comparison, pictures),
        "confusions": [(one, _confusions(one, comparison)) for one in comparison.evaluated if one.confusion],
        "pending": [
            (one.name, one.state, one.failure) for one in comparison.experiments if not one.scores.values
        ],
        "browser": None
        if data is None
        else {
            "shown": len(data["samples"]),
            "all": data["all"],
            "json": Markup(as_script(data)),  # noqa: S704 - as_script leaves nothing that ends an element
            "root": params.datasets[comparison.dataset.name].root.as_posix(),
        },
    }


def _counted(judged: Sequence[Verdict]) -> str:
    """Return in a sentence how many experiments beat the one that they are tested against."""
    count = Counter(one.outcome for one in judged)
    return (
        f"Of {len(judged)} experiments, {count['better']} beat the one that they are tested against; "
        f"{count['ahead']} are ahead, but not significantly; {count['not better']} are not better."
    )


def _result_groups(comparison: Comparison, tables: Tables) -> list[dict[str, Any]]:
    """Return the result table's rows by metric, the two usual ones open, with the published numbers in their cells."""
    if tables.results is None:
        return []
    count, found = len(comparison.rows), []
    for place, metric in enumerate(comparison.metrics):
        rows = tables.results.rows[place * count : (place + 1) * count]
        cells = [
            (
                one,
                [
                    _beside(comparison, one, c, metric, cell)
                    for c, cell in zip(comparison.columns, row[2:], strict=True)
                ],
            )
            for one, row in zip(comparison.rows, rows, strict=True)
        ]
        found.append({"metric": metric, "open": metric in comparison.open_metrics, "rows": cells})
    return found


def _beside(comparison: Comparison, one: ExperimentFacts, condition: str, metric: str, cell: Cell) -> Cell:
    """Return a cell with the published number and the difference from it, where there is one."""
    theirs = None if condition == POOLED else published_number(comparison, one, condition, metric)
    ours = one.scores.number(condition, metric)
    if theirs is None or ours is None:
        return cell
    return replace(cell, beside=f"paper {theirs:.3f}, {signed(ours.mean - theirs)}")


def _shown_tests(comparison: Comparison, tests: Table | None) -> Table | None:
    """Return the tests on the open metrics alone, where the page would get long; the files have all."""
    if tests is None or len(tests.rows) <= 60:
        return tests
    shown = {metric_name(metric) for metric in comparison.open_metrics}
    rows = [row for row in tests.rows if row[3].text in shown]
    note = f"On {' and '.join(sorted(shown))}; all {len(tests.rows)} tests stand in tables/{tests.name}.csv."
    return replace(tests, rows=rows, notes=[note, *tests.notes])


def _confusions(one: ExperimentFacts, comparison: Comparison) -> list[dict[str, Any]]:
    """Return, for each condition, rows of (label, support, shares of what was predicted)."""
    found = []
    for condition in [c for c in comparison.conditions if c in one.confusion]:
        counts, rows = one.confusion[condition], []
        for label in one.classes:
            row = [counts.get((label, predicted), 0) for predicted in one.classes]
            total = sum(row)
            rows.append((label, total, [value / total if total else 0.0 for value in row]))
        found.append({"condition": condition, "rows": rows})
    return found


def _dataset_part(dataset: DatasetFacts) -> dict[str, Any]:
    """Return what the template shows of a dataset."""
    said = dataset.said
    return {
        "facts": dataset,
        "corpus": _corpus_facts(dataset),
        "attribution": str(said.get("attribution", "")),
        "labels": Counter(sample.label or "(no label)" for sample in dataset.samples or ()).most_common(),
        "modalities": modality_table(dataset),
        "cautions": cautions(dataset),
        "lengths": length_table(dataset),
        "bars": [(m, [f.counts[s] for s in Status]) for m, f in dataset.features.items()],
        "skipped": skipped_table(dataset, NAMED),
        "masks": mask_table(dataset),
        "findings": {
            "Left out by the loader": [_finding(one) for one in said.get("skipped", [])],
            "Files that are not there": [_finding(one) for one in said.get("missing_files", [])],
            "Noted by the loader": [_finding(one) for one in said.get("notes", [])],
            "Counts that differ from the published ones": [
                _finding(one) for one in said.get("differences", [])
            ],
        },
    }


def _finding(one: Mapping[str, Any]) -> str:
    return "; ".join(f"{key} {value}" for key, value in one.items() if value not in (None, ""))


def _corpus_facts(dataset: DatasetFacts) -> list[tuple[str, str]]:
    """Return (name, value) of what the manifest holds."""
    if dataset.samples is None:
        return [("state", "not prepared yet")]
    samples = dataset.samples
    facts = [("samples", str(len(samples)))]
    for name in ("speaker", "session", "dialogue"):
        values = {getattr(sample, name) for sample in samples} - {""}
        if values:
            facts.append((f"{name}s", str(len(values))))
    for name, word in (
        ("text", "with a transcript"),
        ("audio_path", "with a sound file"),
        ("video_path", "with a picture file"),
    ):
        facts.append((word, str(sum(bool(getattr(sample, name)) for sample in samples))))
    for word, column in (
        ("scores", "score"),
        *((name, name) for name in ("valence", "activation", "dominance")),
    ):
        numbers = [value for sample in samples if (value := getattr(sample, column)) is not None]
        if numbers:
            facts.append((word, f"{min(numbers):.2f} to {max(numbers):.2f}".replace("-", "−")))
    return facts


def _experiment_part(one: ExperimentFacts) -> dict[str, Any]:
    """Return what the template shows of how an experiment was made."""
    runs = list(one.runs.values())
    first = runs[0] if runs else {}
    networks: list[dict[str, Any]] = []
    network: Mapping[str, Any] | None = one.trained
    while network is not None:
        networks.append({key: value for key, value in network.items() if key != "pretraining"})
        network = network["pretraining"]
    return {
        "facts": one,
        "parameters": f"{first['parameters']:,}".replace(",", "\u202f") if "parameters" in first else "–",
        "seeds": ", ".join(map(str, sorted({int(run["seed"]) for run in runs}))) or "–",
        "epochs": span([int(run["epochs"]) for run in runs if "epochs" in run]),
        "kept": span([int(run["best_epoch"]) for run in runs if "best_epoch" in run]),
        "folds": [(run["fold"], run["description"], run["samples"]) for run in runs if run.get("run") == 1],
        "left_out": dict(one.summary.get("left_out", {})),
        "cut": [
            f"{modality} of {cut['samples']} samples was longer than lengths.{modality} takes: "
            f"{100 * cut['frames']:.1f} % of its frames were cut off"
            for modality, cut in one.summary.get("cut", {}).items()
        ],
        "settings": [json.dumps(network, indent=2, ensure_ascii=False) for network in networks],
    }


def _versions() -> list[tuple[str, str]]:
    """Return (library, version) of the libraries in use."""
    found = [("Lacuna", _version("lacuna")), ("Python", platform.python_version())]
    return found + [(name, _version(name)) for name in LIBRARIES]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
