"""Does dvc.yaml name the code that each stage's output is shaped by, and only files that there are?"""

from __future__ import annotations

import ast
from functools import cache
from typing import Any

import pytest
import yaml

from tests.project import ROOT

KINDS = (
    "pipeline/data/datasets/",
    "pipeline/extraction/extractors/",
    "pipeline/extraction/importers/",
    "pipeline/extraction/extractors/_foreign.py",
)
NOT_SEEN = {  # siblings: to name them would let an edit of the one run the stages of the others
    "pipeline/extraction/extractors/text/word2vec.py": {"pipeline/extraction/extractors/text/glove.py"},
    "pipeline/extraction/extractors/video/facet35.py": {
        "pipeline/extraction/extractors/video/facelandmarker.py"
    },
}
# What a reader or extractor is, not how one works: an edit of these has a schema's number to raise.
CONTRACTS = {"pipeline/extraction/extractors/base.py"}


@cache
def stages() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return found


def dependencies(stage: str) -> list[str]:
    body = stages()[stage]
    return list(body.get("do", body)["deps"])


@cache
def imported(file: str) -> frozenset[str]:
    """Return the project's files that a file imports, and that these import, down to the last."""
    found: set[str] = set()
    waiting = [file]
    while waiting:
        tree = ast.parse((ROOT / waiting.pop()).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                path = name.replace(".", "/") + ".py"
                if path.startswith(KINDS) and (ROOT / path).is_file() and path not in found:
                    found.add(path)
                    waiting.append(path)
    return frozenset(found)


def selectable(folder: str) -> list[str]:
    files = sorted((ROOT / folder).glob("*.py"))
    return [f"{folder}/{f.name}" for f in files if f.stem != "base" and not f.stem.startswith("_")]


CASES = [("prepare", file) for file in selectable("pipeline/data/datasets")] + [
    (f"extract-{modality}", file)
    for modality in ("text", "audio", "video")
    for file in selectable(f"pipeline/extraction/extractors/{modality}")
]


@pytest.mark.parametrize(("stage", "file"), CASES)
def test_a_stage_depends_on_all_that_shapes_what_it_selects(stage: str, file: str) -> None:
    named = [path for path in dependencies(stage) if "${" not in path]
    needed = {file, *imported(file)}
    if file.endswith("/import.py"):  # readers are chosen by name
        needed |= {
            path
            for reader in selectable("pipeline/extraction/importers")
            for path in (reader, *imported(reader))
        }
    seen = {path for path in needed if any(path == name or path.startswith(f"{name}/") for name in named)}
    assert needed - seen - CONTRACTS == {file, *NOT_SEEN.get(file, ())}
    kind = file.rpartition("/")[0]
    assert any(path.startswith(f"{kind}/${{") and path.endswith("}.py") for path in dependencies(stage))


def test_what_is_said_not_to_be_seen_is_still_so() -> None:
    for file, others in NOT_SEEN.items():
        assert others <= imported(file)


@pytest.mark.parametrize("stage", list(stages()))
def test_every_file_that_a_stage_names_is_there(stage: str) -> None:
    for path in dependencies(stage):
        if "${" not in path and not path.startswith("data/"):
            assert (ROOT / path).exists(), path
