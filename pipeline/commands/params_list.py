"""docs/params.md, the description of every key of params.yaml (``lacuna params list``), made from the schemas.

Types, bounds and defaults are those that pydantic checks; the notes are the comments beside the fields.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import json
import re
import textwrap
import tokenize
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from pipeline import params
from pipeline.data.datasets import base as loaders
from pipeline.extraction.extractors import base as extractors

SECTIONS = (
    ("compute", params.Compute),
    ("corpus", params.Corpus),
    ("corpus.contradict", params.Contradict),
    ("corpus.dialogues", params.CorpusDialogues),
    ("assets.NAME", params.Asset),
    ("datasets.NAME", params.Dataset),
    ("datasets.NAME.folds", params.Folds),
    ("datasets.NAME.MODALITY", params.Extraction),
    ("train_denseface.NAME", params.DensefaceTraining),
    ("predictions.NAME", params.ForeignPredictions),
    ("masks.NAME", params.Mask),
    ("experiments.NAME", params.Experiment),
    ("report", params.Report),
    ("report.tables.NAME", params.ReportTable),
    ("report.tables.NAME.published.EXPERIMENT", params.PublishedRow),
)
BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}
TYPES = {
    "integer": "integer",
    "number": "number",
    "boolean": "true or false",
    "string": "text",
    "null": "null",
}


def describe() -> str:
    """Return the whole of docs/params.md."""
    parts = [
        "# The keys of params.yaml",
        "Made by `lacuna params list` from the schemas that check the file; a test keeps it true. The order of the "
        "modalities is always text, audio, video. NAME is yours to choose.",
        "A key with a default may be left out, but for `seed`, `corpus`, `masks`, `predictions` and `report`: DVC "
        "stops at a stage that compares a section which the file lacks. `{}` stands for all defaults. `lacuna params "
        "check` and the first stage of `dvc repro` name what is missing.",
        _section("the top level", params.Params),
        *(_section(f"`{key}`", model) for key, model in SECTIONS),
        "# What single parts take",
        *(
            _section(f"`datasets.NAME.options` of the loader `{name}`", loaders.find(name).Settings)
            for name in sorted(loaders.names())
        ),
    ]
    for modality in params.MODALITIES:
        for name in sorted(extractors.names(modality)):
            settings = extractors.find(modality, name).Settings
            parts.append(_section(f"`extractors.{modality}.{name}`", settings))
    for package, word, key in (
        ("models", "model", "settings"),
        ("pipeline.training.regimes", "regime", "regime_settings"),
    ):
        for name in params.module_names(package):
            module = importlib.import_module(f"{package}.{name}")
            owner = module.Model if word == "model" else module.Regime
            parts.append(_section(f"`experiments.NAME.{key}` of the {word} `{name}`", owner.Settings))
    return "\n\n".join(parts) + "\n"


def _section(title: str, model: type[BaseModel]) -> str:
    text = (inspect.getdoc(model) or "").partition("\nAttributes:\n")[0]
    lines = [f"## {title}", ""]
    if text:
        lines += [" ".join(text.split()), ""]
    rows = list(_rows(model))
    if not rows:
        return "\n".join([*lines, "No settings."])
    lines += ["| key | what it takes | default | |", "| --- | --- | --- | --- |"]
    return "\n".join([*lines, *("| " + " | ".join(map(_cell, row)) + " |" for row in rows)])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _rows(model: type[BaseModel]) -> Iterator[tuple[str, str, str, str]]:
    schema = model.model_json_schema()
    if "$ref" in schema:  # a section that holds sections of its own kind
        schema = {"$defs": schema["$defs"], **schema["$defs"][schema["$ref"].rpartition("/")[2]]}
    notes: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if owner is not BaseModel and issubclass(owner, BaseModel):
            notes.update(_attributes(owner))
            notes.update(_comments(owner))
    required = schema.get("required", [])
    for name, what in schema.get("properties", {}).items():
        nested = "$ref" in what or "allOf" in what
        if name in required:
            default = "none: it must be given"
        else:
            default = "" if nested else f"`{json.dumps(what.get('default'), ensure_ascii=False)}`"
        yield f"`{name}`", _words(what, schema.get("$defs", {})), default, notes.get(name, "")


def _words(what: dict[str, Any], parts: dict[str, Any]) -> str:
    """Return one property's JSON schema in words; ``parts`` are the schema's $defs."""
    if "$ref" in what:
        return "a section, see below"
    if "anyOf" in what:
        return " or ".join(dict.fromkeys(_words(one, parts) for one in what["anyOf"]))
    if "enum" in what:
        return "one of " + ", ".join(f"`{value}`" for value in what["enum"])
    if "const" in what:
        return f"`{what['const']}`"
    kind = what.get("type")
    if kind == "array":
        if "prefixItems" in what:
            return "[" + ", ".join(_words(one, parts) for one in what["prefixItems"]) + "]"
        return f"list of {_words(what.get('items', {}), parts)}"
    if kind == "object":
        values = what.get("additionalProperties")
        if isinstance(values, dict) and values:
            return f"name: {_words(values, parts)}"
        return "keys and values"
    if kind == "string" and what.get("format") == "path":
        return "path"
    bounds = [f"{word} {what[key]}" for key, word in BOUNDS.items() if key in what]
    if "pattern" in what:
        bounds.append(f"like `{what['pattern']}`")
    return ", ".join([TYPES.get(str(kind), "anything"), *bounds])


def _attributes(model: type[BaseModel]) -> dict[str, str]:
    """Return field -> what the section Attributes of its class's own docstring says."""
    _, _, block = inspect.cleandoc(model.__doc__ or "").partition("\nAttributes:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in block.splitlines():
        if begins := re.match(r"    (\w+(?:, \w+)*): +(.*)", line):
            names = begins[1].split(", ")
            found.update(dict.fromkeys(names, begins[2]))
        elif line.startswith("        ") and names:
            found.update({name: f"{found[name]} {line.strip()}" for name in names})
        else:
            names = []
    return found


_FOR_TOOLS = re.compile(r"#\s*(?:noqa|type:\s*ignore|mypy|ruff)\b.*")


def _comments(model: type[BaseModel]) -> dict[str, str]:
    """Return field -> its comment: the comment lines directly above it, and those on its own lines."""
    source = textwrap.dedent(inspect.getsource(model))
    comments: dict[int, str] = {}
    alone: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and (words := _FOR_TOOLS.sub("", token.string).lstrip("# ")):
            comments[token.start[0]] = words
            if not token.line[: token.start[1]].strip():
                alone.add(token.start[0])
    found: dict[str, str] = {}
    body = ast.parse(source).body[0]
    for node in body.body if isinstance(body, ast.ClassDef) else ():
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        begin = node.lineno
        while begin - 1 in alone:
            begin -= 1
        lines = [
            comments[line] for line in range(begin, (node.end_lineno or node.lineno) + 1) if line in comments
        ]
        if lines:
            found[node.target.id] = " ".join(lines)
    return found
