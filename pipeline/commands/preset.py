"""Presets: the experiments that make one table or figure of a paper, and their table of the report, in params.yaml.

A preset is a file pipeline/commands/presets/<name>.yaml; its name is the file's. To add one, write such a file::

    what: one line for `lacuna preset`
    title: the section's
    paper: mmin                      whose numbers in published.csv and whose data in papers.yml
    baseline: full-modality          the experiment that the report tests the others against, or null
    features: {text: ..., audio: ..., video: ...}    the paper's extractors: a name, or {extractor, settings}
    masks: {NAME: {...}}             what the experiments are trained and evaluated under, beside `conditions`
    protocols:                       by the dataset's loader
      iemocap: {folds: ..., labels: [...], fields: {what every experiment gets there}}
      mosi: {..., features: {audio: ...}}    instead of those above
      demo: {fields: {...}}          without folds: the dataset's own
    experiments:                     in the order of the paper's rows
      NAME: {experiment: {fields of an experiment}, published: {table: "5", model: ..., conditions: [...]}}
        and where the paper needs it
        where: {mosi: {fields, merged into the above, on this dataset}}    only on these loaders
        against: NAME                the experiment that it is tested against, instead of the baseline
        p_values: {table: ..., model: ...}    the published p-values of that test

On a dataset a preset becomes a table of ``report.tables`` named <name>-<dataset>. ``--write`` adds it to params.yaml,
with the experiments and masks that are not there yet; an experiment that is there with the same fields is used, not
added again. ``--remove`` takes it out. Neither changes anything else in the file (params_text.py).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, model_validator

from pipeline.commands.params_text import WIDTH, add_entries, remove_entries
from pipeline.errors import ParamsError, nearest
from pipeline.params import MODALITIES, PARAMS_FILE, Mask, Modality, Params, Section, load_params

FOLDER = Path(__file__).parent / "presets"


class Row(Section):
    """The row of a published table that an experiment reproduces."""

    table: str
    model: str
    conditions: tuple[str, ...] = ()


class PaperExtractor(Section):
    """One modality's extractor, and those of its settings that the paper says."""

    extractor: str
    settings: Annotated[dict[str, Any], Field(default_factory=dict)]

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, given: Any) -> Any:
        return {"extractor": given} if isinstance(given, str) else given


class Protocol(Section):
    """How the paper splits and trains on one dataset."""

    folds: dict[str, Any] | None = None
    labels: tuple[str, ...] = ()
    options: Annotated[dict[str, Any], Field(default_factory=dict)]  # the loader's
    fields: Annotated[dict[str, Any], Field(default_factory=dict)]
    features: Annotated[dict[Modality, PaperExtractor], Field(default_factory=dict)]


class PresetExperiment(Section):
    """One experiment: its fields, and what stands beside it."""

    experiment: dict[str, Any]
    published: Row | None = None
    where: Annotated[dict[str, dict[str, Any] | None], Field(default_factory=dict)]
    against: str | None = None
    p_values: Row | None = None


class Preset(Section):
    """A file of pipeline/commands/presets/."""

    what: str
    title: str
    paper: str
    baseline: str | None
    features: dict[Modality, PaperExtractor]
    masks: Annotated[dict[str, dict[str, Any]], Field(default_factory=dict)]
    protocols: Annotated[dict[str, Protocol], Field(min_length=1)]
    experiments: Annotated[dict[str, PresetExperiment], Field(min_length=1)]


@dataclass(frozen=True)
class Draft:
    """One preset on one dataset, under the names of its file.

    Attributes:
        name: of its table in the report: <preset>-<dataset>.
        dataset: its name.
        paper: the preset's.
        experiments: name -> fields.
        table: its section of ``report.tables``.
        masks: those that the experiments name, as the preset's file has them.
        entry: of the dataset; None when params.yaml has it.
        notes: in words, what of the dataset is not the paper's and must be changed by hand.
    """

    name: str
    dataset: str
    paper: str
    experiments: Mapping[str, dict[str, Any]]
    table: Mapping[str, Any]
    masks: Mapping[str, dict[str, Any]]
    entry: Mapping[str, Any] | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What presets add to params.yaml.

    Attributes:
        tables, experiments, masks, datasets: the entries to add, by name.
        shared: the experiments of the tables that are there already.
        notes: in words, what of the datasets is not the papers'.
    """

    tables: Mapping[str, Any]
    experiments: Mapping[str, Any]
    masks: Mapping[str, Any]
    datasets: Mapping[str, Any]
    shared: Mapping[str, Any]
    notes: tuple[str, ...]


def preset_names(paper: str | None = None) -> list[str]:
    """Return the presets there are, or those of a paper: its tables by their numbers, then its figures.

    Raises:
        ParamsError: there is none of that paper.
    """

    def order(name: str) -> tuple[str, bool, int, str]:
        source, _, part = name.partition("-")
        number = re.search(r"\d+$", part)
        return source, part.startswith("fig"), int(number[0]) if number else 0, part

    names = sorted((path.stem for path in FOLDER.glob("*.yaml")), key=order)
    if paper is None:
        return names
    papers = {name: load_preset(name).paper for name in names}
    if paper not in papers.values():
        known = sorted(set(papers.values()))
        raise ParamsError(
            f'there is no preset of a paper "{paper}"; expected one of: {", ".join(known)}.{nearest(paper, known)}'
        )
    return [name for name in names if papers[name] == paper]


def load_preset(name: str) -> Preset:
    """Read one preset.

    Raises:
        ParamsError: there is none of that name, or its file says what is not allowed.
    """
    if name not in preset_names():
        listed = ", ".join(preset_names())
        raise ParamsError(
            f'there is no preset "{name}"; expected one of: {listed}.{nearest(name, preset_names())}'
        )
    path = FOLDER / f"{name}.yaml"
    try:
        return Preset.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError) as error:
        raise ParamsError(f"{path}: {error}. Correct the preset's file") from error


def make_draft(name: str, preset: Preset, dataset: str, params: Params) -> Draft:
    """Return a preset on a dataset.

    Args:
        name: the preset's.
        preset: the preset.
        dataset: a name under ``datasets``; of one that is not there, the loader's name, for a new entry.
        params: params.yaml as it stands.

    Raises:
        ParamsError: the paper has no protocol for that dataset.
    """
    known = params.datasets.get(dataset)
    loader = dataset if known is None else known.loader
    if loader not in preset.protocols:
        raise ParamsError(
            f'{name} knows no protocol for the dataset "{dataset}" (loader {loader}); expected one with the loader: '
            f"{', '.join(preset.protocols)}.{nearest(loader, preset.protocols)}"
        )
    protocol = preset.protocols[loader]
    features = {modality: {**preset.features, **protocol.features}[modality] for modality in MODALITIES}
    experiments: dict[str, dict[str, Any]] = {}
    rows: dict[str, dict[str, Any]] = {"published": {}, "against": {}, "p_values": {}}
    for key, one in preset.experiments.items():
        if one.where and loader not in one.where:
            continue
        first = {"dataset": dataset, "model": one.experiment["model"], "regime": "standard"}
        last = {"evaluate_on": "conditions", **protocol.fields}
        experiments[key] = _merge(
            copy.deepcopy({**first, **last, **one.experiment}), one.where.get(loader) or {}
        )
        whose = loader if protocol.folds is not None else next(iter(one.where or preset.protocols))
        for kind, row in (("published", one.published), ("p_values", one.p_values)):
            if row is not None:
                said = row.model_dump(mode="json", exclude_defaults=True)
                rows[kind][key] = {"paper": preset.paper, "dataset": whose, **said}
        if one.against is not None:
            rows["against"][key] = one.against
    table: dict[str, Any] = {"title": f"{preset.title} on {dataset}", "experiments": list(experiments)}
    if preset.baseline is not None:
        table["baseline"] = preset.baseline
    for kind, content in rows.items():
        if content:
            table[kind] = content
    used = set().union(*(_masks_of(one) for one in experiments.values()))
    masks = {
        mask: settings
        for mask, settings in preset.masks.items()
        if used & {mask, *Mask.model_validate(settings).members(mask)}
    }
    entry: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    if known is None:
        entry = {
            "loader": loader,
            "root": f"data/raw/{loader}",
            "options": protocol.options,
            "labels": list(protocol.labels),
            "folds": protocol.folds or {"scheme": "official"},
            **{modality: features[modality].model_dump(exclude_defaults=True) for modality in MODALITIES},
        }
    else:
        notes = tuple(_dataset_notes(dataset, protocol, features, params))
    return Draft(f"{name}-{dataset}", dataset, preset.paper, experiments, table, masks, entry, notes)


def _masks_of(experiment: Mapping[str, Any]) -> set[str]:
    """Return the masks that an experiment may name; a training set such as ``full`` is among them."""
    found = {experiment.get("train_on"), experiment.get("train_mask")}
    evaluated = experiment.get("evaluate_on") or ()
    found.update([evaluated] if isinstance(evaluated, str) else evaluated)
    return {name for name in found if isinstance(name, str)}


def make_plan(drafts: Sequence[Draft], params: Params, raw: Mapping[str, Any]) -> Plan:
    """Return what presets on datasets add, with each training once.

    An experiment with the fields of one that is there, or that another preset adds, becomes that one. An experiment
    whose name is taken gets the dataset's name behind its own, then the paper's, then both, then a number.

    Args:
        drafts: the presets, in the order in which they are to stand.
        params: params.yaml as it stands.
        raw: the same as plain data, without defaults.

    Raises:
        ParamsError: a mask's name is taken by another mask, or two rows of a preset are the same experiment.
    """
    there: Mapping[str, Any] = raw.get("experiments") or {}
    every: dict[str, Any] = dict(there)
    tables: dict[str, Any] = {}
    masks: dict[str, Any] = {}
    for draft in drafts:
        names: dict[str, str] = {}
        for wanted, fields in draft.experiments.items():
            names[wanted] = name = _name_for(wanted, fields, draft, every)
            every[name] = fields
        if len(set(names.values())) < len(names):
            same = [wanted for wanted, name in names.items() if list(names.values()).count(name) > 1]
            raise ParamsError(f"{draft.name}: {' and '.join(same)} are the same experiment. Keep one of them")
        tables[draft.name] = _renamed(draft.table, names)
        for mask, settings in draft.masks.items():
            if mask not in params.masks:
                masks[mask] = settings
            elif params.masks[mask].model_dump() != Mask.model_validate(settings).model_dump():
                found = params.masks[mask].model_dump(mode="json", exclude_defaults=True)
                raise ParamsError(f"masks.{mask}: found {found}, {draft.name} needs {settings}. Rename yours")
    used = dict.fromkeys(name for table in tables.values() for name in table["experiments"])
    return Plan(
        tables=tables,
        experiments={name: every[name] for name in used if name not in there},
        masks=masks,
        datasets={draft.dataset: draft.entry for draft in drafts if draft.entry is not None},
        shared={name: every[name] for name in used if name in there},
        notes=tuple(dict.fromkeys(note for draft in drafts for note in draft.notes)),
    )


def _name_for(wanted: str, fields: Mapping[str, Any], draft: Draft, taken: Mapping[str, Any]) -> str:
    """Return the name of the experiment with these fields, or a free one."""
    if taken.get(wanted) == fields:
        return wanted
    same = next((name for name, other in taken.items() if other == fields), None)
    if same is not None:
        return same
    whole = f"{wanted}-{draft.paper}-{draft.dataset}"
    names = [wanted, f"{wanted}-{draft.dataset}", f"{wanted}-{draft.paper}", whole]
    names += [f"{whole}-{number}" for number in range(2, len(taken) + 3)]
    return next(name for name in names if name not in taken)


def _renamed(table: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a table with other names of its experiments, wherever they stand."""
    found = dict(table)
    found["experiments"] = [names[name] for name in table["experiments"]]
    if "baseline" in table:
        found["baseline"] = names[table["baseline"]]
    if "against" in table:
        found["against"] = {names[name]: names[other] for name, other in table["against"].items()}
    for kind in ("published", "p_values"):
        if kind in table:
            found[kind] = {names[name]: row for name, row in table[kind].items()}
    return found


def _dataset_notes(
    name: str, protocol: Protocol, features: Mapping[Modality, PaperExtractor], params: Params
) -> list[str]:
    """Say what of a dataset's section in params.yaml is not the paper's."""
    known, notes = params.datasets[name], []
    folds = known.folds.model_dump(mode="json", exclude_defaults=True)
    if protocol.folds is not None and folds != protocol.folds:
        notes.append(f"datasets.{name}.folds is {folds}; the paper's is {protocol.folds}")
    if protocol.labels and set(known.labels) != set(protocol.labels):
        notes.append(
            f"datasets.{name}.labels are {', '.join(known.labels) or 'none'}; the paper's are "
            f"{', '.join(protocol.labels)}"
        )
    for modality, paper in features.items():
        chosen = known.extraction(modality).extractor
        if chosen != paper.extractor:
            notes.append(
                f"datasets.{name}.{modality}.extractor is {chosen}; the paper's is {paper.extractor}"
            )
            continue
        settings = params.extractor_settings(name, modality).model_dump(mode="json")
        for key, value in paper.settings.items():
            if settings.get(key) != value:
                notes.append(
                    f"datasets.{name}.{modality}: {key} of {chosen} is {settings.get(key)}; the paper's is {value}"
                )
    return notes


def _merge(given: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with others put into them; sections are merged."""
    for key, value in more.items():
        old = given.get(key)
        given[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return copy.deepcopy(given)


def render(plan: Plan) -> str:
    """Return the sections as YAML, with what differs from the paper in comments above."""
    parts = [f"# {note}\n" for note in plan.notes]
    for name, content in (
        ("datasets", plan.datasets),
        ("masks", plan.masks),
        ("experiments", {**plan.shared, **plan.experiments}),
        ("report", {"tables": dict(plan.tables)}),
    ):
        if content:
            section = {name: dict(content)}
            parts.append(yaml.safe_dump(section, sort_keys=False, default_flow_style=None, width=WIDTH))
    return "\n".join(parts)


def write_plan(plan: Plan, path: Path = PARAMS_FILE) -> None:
    """Add a plan's entries to params.yaml; everything else in the file stays as it is.

    Raises:
        ParamsError: the result would not be a valid params.yaml, or the file is written in a way that does not allow
            it; the file is left as it was.
    """
    text = _read(path)
    for keys, entries in (
        (("datasets",), plan.datasets),
        (("masks",), plan.masks),
        (("experiments",), plan.experiments),
        (("report", "tables"), plan.tables),
    ):
        text = add_entries(text, keys, entries)
    _save(path, text)


@dataclass(frozen=True)
class Removed:
    """What was taken out of params.yaml, and what stays although a removed table named it, because it was changed."""

    tables: list[str]
    experiments: list[str]
    masks: list[str]
    datasets: list[str]
    changed: list[str]


def remove_tables(names: Iterable[str], path: Path = PARAMS_FILE) -> Removed:
    """Take tables of presets out of params.yaml, with the experiments, masks and datasets that nothing else uses.

    Only what a preset wrote, and nobody changed since, is taken out.

    Args:
        names: of ``report.tables``.
        path: params.yaml.

    Raises:
        ParamsError: params.yaml is not valid, or written in a way that does not allow it; it is left as it was.
    """
    text = _read(path)
    before = _tables(text)
    wanted = [name for name in names if name in before]
    text, changed = remove_entries(text, ("report", "tables"), wanted)
    gone = [name for name in wanted if name not in changed]
    report = yaml.safe_load(text).get("report") or {}
    used = {name for table in _tables(text).values() for name in table["experiments"]} | {
        report.get("baseline")
    }
    orphans = {name: None for table in gone for name in before[table]["experiments"] if name not in used}
    experiments: Mapping[str, Any] = yaml.safe_load(text).get("experiments") or {}
    text, own = remove_entries(text, ("experiments",), orphans)
    removed = {name: experiments[name] for name in orphans if name not in own}
    left = [one for name, one in experiments.items() if name not in removed]
    found: dict[str, list[str]] = {}
    for key, named in (("masks", _masks_of), ("datasets", lambda one: {str(one.get("dataset"))})):
        free = {name for one in removed.values() for name in named(one)}
        free -= {name for one in left for name in named(one)}
        free &= (yaml.safe_load(text).get(key) or {}).keys()
        text, stay = remove_entries(text, (key,), free)
        found[key] = sorted(free.difference(stay))
    _save(path, text)
    return Removed(
        tables=gone,
        experiments=list(removed),
        masks=found["masks"],
        datasets=found["datasets"],
        changed=[f"report.tables.{name}" for name in changed] + [f"experiments.{name}" for name in own],
    )


def _tables(text: str) -> dict[str, Any]:
    report = yaml.safe_load(text).get("report") or {}
    tables: dict[str, Any] = report.get("tables") or {}
    return tables


def _read(path: Path) -> str:
    """Return the text of params.yaml with its own line ends, once it is known to be valid."""
    load_params(path)
    return path.read_bytes().decode("utf-8")


def _save(path: Path, text: str) -> None:
    """Put a text in the place of params.yaml, if it is valid."""
    beside = path.with_name(path.name + ".part")
    beside.write_bytes(text.encode("utf-8"))
    try:
        load_params(beside)
    except ParamsError as error:
        beside.unlink()
        raise ParamsError(f"{path} is left as it was: changed, it would not be valid. {error}") from error
    beside.replace(path)


# --- the command ---


def run(
    name: str | None, paper: str | None, datasets: Sequence[str] | None, write: bool, remove: bool
) -> list[str]:
    """List the presets, print some, or add them to params.yaml or take them out; return the lines to print.

    Args:
        name: of a preset.
        paper: of a paper, instead of a name.
        datasets: on which datasets.
        write: whether to add them.
        remove: whether to take them out.

    Raises:
        ParamsError: nothing is there by that name, or params.yaml cannot be changed so.
    """
    if name is not None and paper is not None:
        raise ParamsError(f"found the preset {name} and the paper {paper}, expected one of them")
    if name is None and paper is None:
        if write or remove:
            raise ParamsError(
                "found no preset, expected a NAME, or a PAPER by --paper. The presets: lacuna preset"
            )
        names = preset_names()
        width = max(map(len, names))
        return [f"{one:<{width}}  {load_preset(one).what}" for one in names]
    names = preset_names(paper) if name is None else [name]
    presets = {one: load_preset(one) for one in names}
    if remove:
        return _remove_lines(presets, datasets)
    params = load_params()
    raw = yaml.safe_load(PARAMS_FILE.read_text(encoding="utf-8"))
    wanted = [(one, dataset) for one in presets for dataset in dict.fromkeys(datasets or ["demo"])]
    lines = []
    if paper is not None:  # not every table of a paper is on every one of its datasets
        fitting = [
            (one, dataset) for one, dataset in wanted if _loader(dataset, params) in presets[one].protocols
        ]
        lines = [
            f"left out: {one}, which has no protocol for {dataset}"
            for one, dataset in wanted
            if (one, dataset) not in fitting
        ]
        wanted = fitting or wanted
    written = {f"{one}-{dataset}" for one, dataset in wanted if f"{one}-{dataset}" in params.report.tables}
    new = [(one, dataset) for one, dataset in wanted if not write or f"{one}-{dataset}" not in written]
    plan = make_plan([make_draft(one, presets[one], dataset, params) for one, dataset in new], params, raw)
    if not write:
        return render(plan).splitlines()
    write_plan(plan)
    for kind, entries in (("tables", plan.tables), ("experiments", plan.experiments), ("masks", plan.masks)):
        if entries:
            lines.append(f"{PARAMS_FILE}: added the {kind} {', '.join(entries)}")
    if plan.shared:
        lines.append(f"{PARAMS_FILE}: used the experiments {', '.join(plan.shared)}, which were there")
    if written:
        lines.append(f"{PARAMS_FILE}: left as they were: {', '.join(sorted(written))}")
    lines += [
        f"{PARAMS_FILE}: added the dataset {one}; give its root, then run: lacuna dataset check {one}"
        for one in plan.datasets
    ]
    return lines + [f"note: {note}" for note in plan.notes]


def _loader(dataset: str, params: Params) -> str:
    known = params.datasets.get(dataset)
    return dataset if known is None else known.loader


def _remove_lines(presets: Mapping[str, Preset], datasets: Sequence[str] | None) -> list[str]:
    there = load_params().report.tables
    on = [*load_params().datasets] if datasets is None else list(datasets)
    names = [f"{preset}-{dataset}" for preset in presets for dataset in on]
    if not any(name in there for name in names):
        listed = ", ".join(there) or "none"
        raise ParamsError(f"{PARAMS_FILE}: there is no table of {', '.join(presets)}; its tables: {listed}")
    removed = remove_tables(names)
    lines = []
    for kind in ("tables", "experiments", "masks", "datasets"):
        gone = getattr(removed, kind)
        if gone:
            lines.append(f"{PARAMS_FILE}: removed the {kind} {', '.join(gone)}")
    if removed.changed:
        lines.append(
            f"{PARAMS_FILE}: not removed, for they are not as a preset wrote them: {', '.join(removed.changed)}"
        )
    return lines
