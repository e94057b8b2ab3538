"""Presets: the experiments that make one table or figure of a paper, as sections of params.yaml.

A preset is a file pipeline/commands/presets/<name>.yaml; its name is the file's. To add one, write such a file::

    what: one line for `lacuna preset`
    title: the report's
    paper: mmin                      whose numbers in published.csv and whose data in papers.yml (default mmin)
    baseline: full-modality          the experiment that the report tests the others against, or null
    features: {text: ..., audio: ..., video: ...}    the paper's extractors: a name, or {extractor, settings}
    masks: {NAME: {...}}             what the experiments are evaluated under, beside those of params.yaml
    protocols:                       by the dataset's loader
      iemocap: {folds: ..., labels: [...], fields: {what every experiment gets there}}
      mosi: {..., features: {audio: ...}}    instead of those above
      demo: {fields: {...}}          without folds: the dataset's own
    experiments:
      NAME: {experiment: {fields of an experiment}, published: {table: "5", model: ..., conditions: [...]}}
        and where the paper needs it
        where: {mosi: {fields, merged into the above, on this dataset}}    only on these loaders
        against: NAME                whom the report tests it against, instead of the baseline
        p_values: {table: ..., model: ...}    the published p-values of that test

``lacuna preset NAME`` prints the sections; ``--write`` puts them into params.yaml.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, model_validator

from pipeline.errors import ParamsError, nearest
from pipeline.params import MODALITIES, PARAMS_FILE, Modality, Params, Section, load_params

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
    paper: str = "mmin"
    baseline: str | None
    features: dict[Modality, PaperExtractor]
    masks: Annotated[dict[str, dict[str, Any]], Field(default_factory=dict)]
    protocols: Annotated[dict[str, Protocol], Field(min_length=1)]
    experiments: Annotated[dict[str, PresetExperiment], Field(min_length=1)]


@dataclass(frozen=True)
class Blocks:
    """What a preset puts into params.yaml.

    Attributes:
        experiments, report: the sections.
        dataset: its entry under ``datasets``, where params.yaml has none of that name; else empty.
        masks: entries under ``masks`` that params.yaml does not have.
        notes: in words, what of the dataset is not the paper's and must be changed by hand.
    """

    experiments: dict[str, Any]
    report: dict[str, Any]
    dataset: dict[str, Any]
    notes: tuple[str, ...]
    masks: dict[str, Any] = field(default_factory=dict)

    def renamed(self, names: Mapping[str, str]) -> Blocks:
        """Return the same with other names of experiments, old -> new, wherever they stand."""

        def keys(content: Mapping[str, Any]) -> dict[str, Any]:
            return {names.get(name, name): value for name, value in content.items()}

        report = dict(self.report)
        for key in ("published", "p_values"):
            if key in report:
                report[key] = keys(report[key])
        if "against" in report:
            report["against"] = {
                name: names.get(other, other) for name, other in keys(report["against"]).items()
            }
        if "baseline" in report:
            report["baseline"] = names.get(report["baseline"], report["baseline"])
        return replace(self, experiments=keys(self.experiments), report=report)


def join(parts: Sequence[Blocks]) -> Blocks:
    """Return one preset on several datasets, each part on one of them.

    An experiment whose name another part has as well gets its dataset's name behind it, and where there is more
    than one baseline, every experiment is tested against that of its own dataset.

    Args:
        parts: one or more; their datasets differ.
    """
    if len(parts) == 1:
        return parts[0]
    counts = Counter(name for part in parts for name in part.experiments)
    renamed = [
        part.renamed(
            {name: f"{name}-{one['dataset']}" for name, one in part.experiments.items() if counts[name] > 1}
        )
        for part in parts
    ]
    report: dict[str, Any] = {}
    titles = [str(part.report["title"]) for part in renamed]
    report["title"] = " and ".join([titles[0], *(title.rpartition(" on ")[2] for title in titles[1:])])
    baselines = {part.report["baseline"] for part in renamed if "baseline" in part.report}
    if len(baselines) == 1:
        report["baseline"] = baselines.pop()
    for part in renamed:
        for key in ("published", "p_values"):
            if part.report.get(key):
                report.setdefault(key, {}).update(part.report[key])
        against = dict(part.report.get("against", {}))
        if baselines and "baseline" in part.report:
            own = part.report["baseline"]
            against = {**{name: own for name in part.experiments if name != own}, **against}
        if against:
            report.setdefault("against", {}).update(against)
    return Blocks(
        {name: one for part in renamed for name, one in part.experiments.items()},
        report,
        {name: entry for part in renamed for name, entry in part.dataset.items()},
        tuple(note for part in renamed for note in part.notes),
        {name: mask for part in renamed for name, mask in part.masks.items()},
    )


def preset_names() -> list[str]:
    """Return the presets there are."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


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


def make_blocks(preset: Preset, dataset: str, params: Params) -> Blocks:
    """Return what the preset puts into params.yaml for a dataset.

    Args:
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
            f'this preset knows no protocol for the dataset "{dataset}" (loader {loader}); expected one with '
            f"the loader: {', '.join(preset.protocols)}.{nearest(loader, preset.protocols)}"
        )
    protocol = preset.protocols[loader]
    features = {modality: {**preset.features, **protocol.features}[modality] for modality in MODALITIES}
    experiments: dict[str, Any] = {}
    published: dict[str, Any] = {}
    against: dict[str, str] = {}
    p_values: dict[str, Any] = {}
    for name, one in preset.experiments.items():
        if one.where and loader not in one.where:
            continue
        first = {"dataset": dataset, "model": one.experiment["model"], "regime": "standard"}
        last = {"evaluate_on": "conditions", **protocol.fields}
        experiments[name] = _merge(
            copy.deepcopy({**first, **last, **one.experiment}), one.where.get(loader) or {}
        )
        whose = loader if protocol.folds is not None else next(iter(one.where or preset.protocols))
        for rows, row in ((published, one.published), (p_values, one.p_values)):
            if row is not None:
                said = row.model_dump(mode="json", exclude_defaults=True)
                rows[name] = {"paper": preset.paper, "dataset": whose, **said}
        if one.against is not None:
            against[name] = one.against
    report: dict[str, Any] = {"title": f"{preset.title} on {dataset}"}
    if preset.baseline is not None:
        report["baseline"] = preset.baseline
    for key, content in (("published", published), ("against", against), ("p_values", p_values)):
        if content:
            report[key] = content
    masks = {name: mask for name, mask in preset.masks.items() if name not in params.masks}
    if known is None:
        entry: dict[str, Any] = {
            "loader": loader,
            "root": f"data/raw/{loader}",
            "options": {},
            "labels": list(protocol.labels),
            "folds": protocol.folds or {"scheme": "official"},
            **{modality: features[modality].model_dump(exclude_defaults=True) for modality in MODALITIES},
        }
        return Blocks(experiments, report, {dataset: entry}, (), masks)
    notes = _dataset_notes(dataset, protocol, features, params)
    return Blocks(experiments, report, {}, tuple(notes), masks)


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


def render(blocks: Blocks) -> str:
    """Return the sections as YAML, with what differs from the paper in comments above."""
    parts = [f"# {note}\n" for note in blocks.notes]
    for name, content in (("datasets", blocks.dataset), ("masks", blocks.masks)):
        if content:
            parts.append(_section(name, content))
    parts += [_section("experiments", blocks.experiments), _section("report", blocks.report)]
    return "\n".join(parts)


def _section(name: str, content: dict[str, Any]) -> str:
    return yaml.safe_dump({name: content}, sort_keys=False, default_flow_style=None, width=105)


def write_blocks(blocks: Blocks, path: Path = PARAMS_FILE, replace_others: bool = False) -> None:
    """Put the sections into params.yaml: ``experiments`` and ``report`` are replaced, the rest stays as it is.

    Comments outside these two sections stay. The new file is checked before it takes the old one's place.

    Args:
        blocks: the sections.
        path: params.yaml.
        replace_others: whether an experiment may take the place of one of the same name on another dataset.

    Raises:
        ParamsError: the result would not be a valid params.yaml, or would take an experiment of another dataset
            away; the file is left as it was.
    """
    text = path.read_text(encoding="utf-8")
    if not replace_others:
        _refuse_others(blocks, path)
    for name, entries in (("datasets", blocks.dataset), ("masks", blocks.masks)):
        begin, end = _span(text, name)
        if entries and begin < end:
            entry = _section(name, entries).partition("\n")[2]
            text = text[:end].rstrip("\n") + "\n" + entry + text[end:]
        elif entries:
            text = text.rstrip("\n") + "\n\n" + _section(name, entries)
    for name, content in (("experiments", blocks.experiments), ("report", blocks.report)):
        begin, end = _span(text, name)
        before = text[:begin]
        if begin == len(text):  # not there yet: it goes to the end, after a blank line
            before = before.rstrip("\n") + "\n\n"
        after = text[end:].lstrip("\n")
        text = before + _section(name, content) + ("\n" + after if after else "")
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, encoding="utf-8")
    try:
        load_params(beside)
    except ParamsError as error:
        beside.unlink()
        raise ParamsError(
            f"{path} is left as it was: with the preset it would not be valid. {error}"
        ) from error
    beside.replace(path)


def _refuse_others(blocks: Blocks, path: Path) -> None:
    """Raise where an experiment would take the name, and with it the folders, of one on another dataset."""
    before = load_params(path).experiments
    taken = {
        name: before[name].dataset
        for name, one in blocks.experiments.items()
        if name in before and before[name].dataset != one["dataset"]
    }
    if taken:
        listed = ", ".join(f"{name} (on {dataset})" for name, dataset in taken.items())
        datasets = " ".join(
            dict.fromkeys([*taken.values(), *(e["dataset"] for e in blocks.experiments.values())])
        )
        raise ParamsError(
            f"{path} is left as it was: it has experiments of the same names on another dataset: {listed}. Their "
            f"runs and results would be written over. To have the preset on both, name both: --dataset {datasets}; to "
            "have it instead of them: --replace"
        )


def _span(text: str, section: str) -> tuple[int, int]:
    """Return where a top-level section begins and ends; comments before the next one are that one's.

    A section that is not there is an empty span at the end.
    """
    found = re.search(rf"(?m)^{section}[ \t]*:", text)
    if found is None:
        return len(text), len(text)
    line = text.find("\n", found.start()) + 1 or len(text)
    end = line
    while line < len(text):
        after = text.find("\n", line) + 1 or len(text)
        if text[line] in " \t":
            end = after
        elif text[line] not in "#\r\n":
            break
        line = after
    return found.start(), end
