"""Presets: the experiments that make one table or figure of a paper, as sections of params.yaml.

A preset is a file pipeline/presets/<name>.yaml; its name is the file's. To add one, write such a file::

    what: one line for `lacuna preset`
    title: the report's
    paper: mmin                      whose numbers in published.csv and whose data in papers.yml (default mmin)
    baseline: full-modality          the experiment that the report tests the others against, or null
    features: {text: ..., audio: ..., video: ...}    the paper's extractors
    masks: {NAME: {...}}             what the experiments are evaluated under, beside those of params.yaml
    protocols:                       by the dataset's loader
      iemocap: {folds: ..., labels: [...], fields: {what every experiment gets there}}
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError

from pipeline.errors import ParamsError, nearest
from pipeline.params import MODALITIES, PARAMS_FILE, Modality, Params, Section, load_params

FOLDER = Path(__file__).parent / "presets"


class Row(Section):
    """The row of a published table that an experiment reproduces."""

    table: str
    model: str
    conditions: tuple[str, ...] = ()


class Protocol(Section):
    """How the paper splits and trains on one dataset."""

    folds: dict[str, Any] | None = None
    labels: tuple[str, ...] = ()
    fields: Annotated[dict[str, Any], Field(default_factory=dict)]


class PresetExperiment(Section):
    """One experiment: its fields, and what stands beside it."""

    experiment: dict[str, Any]
    published: Row | None = None
    where: Annotated[dict[str, dict[str, Any] | None], Field(default_factory=dict)]
    against: str | None = None
    p_values: Row | None = None


class Preset(Section):
    """A file of pipeline/presets/."""

    what: str
    title: str
    paper: str = "mmin"
    baseline: str | None
    features: dict[Modality, str]
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

    def joined(self, other: Blocks) -> Blocks:
        """Return both together: one preset on several datasets."""
        report = {**self.report, **other.report}
        for key in ("published", "against", "p_values"):
            if both := {**self.report.get(key, {}), **other.report.get(key, {})}:
                report[key] = both
        report["title"] = f"{self.report['title']} and {other.report['title'].rpartition(' on ')[2]}"
        return Blocks(
            {**self.experiments, **other.experiments},
            report,
            {**self.dataset, **other.dataset},
            (*self.notes, *other.notes),
            {**self.masks, **other.masks},
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
            **{modality: {"extractor": preset.features[modality]} for modality in MODALITIES},
        }
        return Blocks(experiments, report, {dataset: entry}, (), masks)
    notes = []
    folds = known.folds.model_dump(mode="json", exclude_defaults=True)
    if protocol.folds is not None and folds != protocol.folds:
        notes.append(f"datasets.{dataset}.folds is {folds}; the paper's is {protocol.folds}")
    for modality in MODALITIES:
        chosen = known.extraction(modality).extractor
        if chosen != preset.features[modality]:
            notes.append(
                f"datasets.{dataset}.{modality}.extractor is {chosen}; the paper's is "
                f"{preset.features[modality]}"
            )
    return Blocks(experiments, report, {}, tuple(notes), masks)


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


def write_blocks(blocks: Blocks, path: Path = PARAMS_FILE) -> None:
    """Put the sections into params.yaml: ``experiments`` and ``report`` are replaced, the rest stays as it is.

    Comments outside these two sections stay. The new file is checked before it takes the old one's place.

    Raises:
        ParamsError: the result would not be a valid params.yaml; the file is left as it was.
    """
    text = path.read_text(encoding="utf-8")
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
