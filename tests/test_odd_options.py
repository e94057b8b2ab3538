"""Every option of every loader and extractor, given something odd: refused by the schema, or an error in words."""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from models import MODALITIES
from pipeline.data.datasets import base as loaders
from pipeline.errors import LacunaError
from pipeline.extraction.engines import closing
from pipeline.extraction.extractors import base as extractors
from pipeline.params import Params, load_params
from tests.project import ROOT
from tests.replicas import cremad, folder, iemocap, meld, mosei, mosi, msp_improv, ravdess, sims

ODD: tuple[Any, ...] = (
    *(None, "", " ", "xx", ",,", "\0", "\n", '"', "a/../..", "/", "x" * 5000, "é", "\ud800"),
    *(-1, 0, 10**30, -0.5, math.nan, math.inf, -math.inf, True, False),
    *([], [[]], ["x", "x"], [None], {}, {"a": 1}, {"": None}, b"\xff"),
)
TREES: dict[str, Callable[[Path], Path]] = {
    "cremad": cremad.build,
    "folder": folder.build,
    "iemocap": iemocap.build,
    "meld": meld.build,
    "mmsa_layout": sims.build_mmsa,
    "mosei": mosei.build,
    "mosi": mosi.build,
    "msp_improv": msp_improv.build,
    "ravdess": ravdess.build,
    "sims": sims.build,
}


NO_TEXT = ("\0", "\ud800")  # params.yaml holds none: tests/pipeline/test_params_file.py


def settings_with(owner: Any, field: str, value: Any) -> Any:
    """Return the settings, or None where the schema refuses them."""
    try:
        return owner.Settings(**{field: value})
    except ValidationError:
        return None


OPTIONS = [(name, field) for name in loaders.names() for field in loaders.find(name).Settings.model_fields]


def test_every_loader_with_options_has_a_tree() -> None:
    assert {name for name, _ in OPTIONS} <= TREES.keys()


@pytest.mark.parametrize(("name", "field"), OPTIONS)
def test_a_loaders_option(tmp_path: Path, name: str, field: str) -> None:
    root = TREES[name](tmp_path)
    owner = loaders.find(name)
    refused = 0
    for value in ODD:
        settings = settings_with(owner, field, value)
        if settings is None:
            refused += 1
            continue
        try:
            loader = owner(settings, root)
            list(loader.load())
            loader.expected()
        except LacunaError as error:
            assert str(error)  # in words
    assert refused >= 10


SETTINGS = [
    (modality, name, field)
    for modality in MODALITIES
    for name in extractors.names(modality)
    for field in extractors.find(modality, name).Settings.model_fields
]


@pytest.mark.parametrize(("modality", "name", "field"), SETTINGS)
def test_an_extractors_setting(tmp_path: Path, modality: str, name: str, field: str) -> None:
    """Without weights: those of the right form come as far as an error that says that there are none."""
    owner = extractors.find(modality, name)
    refused = 0
    for value in [one for one in ODD if one not in NO_TEXT]:
        settings = settings_with(owner, field, value)
        if settings is None:
            refused += 1
            continue
        try:
            with closing(owner(settings, tmp_path / "none")):
                pass
        except LacunaError as error:
            assert str(error)
    assert refused >= 10


def sections(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    """Return a section of params.yaml and all within it."""
    if model in seen:
        return seen
    seen.add(model)
    waiting: list[Any] = [field.annotation for field in model.model_fields.values()]
    while waiting:
        one = waiting.pop()
        if isinstance(one, type) and issubclass(one, BaseModel):
            sections(one, seen)
        elif get_origin(one) in (Union, types.UnionType, dict, tuple, list) or get_args(one):
            waiting += get_args(one)
    return seen


@pytest.mark.parametrize("model", sorted(sections(Params, set()), key=lambda one: one.__name__))
def test_a_key_of_params(model: type[BaseModel]) -> None:
    """Whatever stands there, checking it ends in a list of mistakes or in a section."""
    for field in model.model_fields:
        for value in ODD:
            try:
                model.model_validate({field: value})
            except ValidationError as error:
                assert error.errors()


@pytest.mark.slow
@pytest.mark.parametrize(
    "section", ["corpus", "compute", "assets", "datasets", "extractors", "masks", "experiments"]
)
def test_an_odd_value_of_the_projects_own_file_is_named(tmp_path: Path, section: str) -> None:
    import yaml

    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    path = tmp_path / "params.yaml"
    entry = raw[section]
    key = next(iter(entry))
    inner = entry[key] if isinstance(entry[key], dict) else entry
    for name, before in list(inner.items()):
        for value in (None, "", [[]], {"a": [None]}, -1, 10**30, math.nan):
            inner[name] = value
            path.write_text(yaml.safe_dump(raw))
            try:
                load_params(path)
            except LacunaError as error:
                assert "mistake(s)" in str(error)
        inner[name] = before
