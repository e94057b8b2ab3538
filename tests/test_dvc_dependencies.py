"""Does every stage of dvc.yaml name all that its result depends on, and nothing else?

A stage's code is its file in pipeline/ and what this imports, down to the last: within functions, too, and by
name (``importlib.import_module``) with every plug-in that params.yaml may select for the stage. It is compared
with the stage's ``deps`` both ways. Files that are no code are compared as well: those that lie beside the code
and are named in it, and those under data/, by the table :data:`DATA`.

dvc.yaml can only put strings together, so that it names one plug-in by its name (``models/${item.model}.py``) and
whatever the others of its kind share for the whole kind. docs/ARCHITECTURE.md says what DVC cannot see.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.data.datasets import base as loaders
from pipeline.extraction.extractors import base as extractors
from pipeline.params import module_names
from tests.project import ROOT

# Code that may be read and need not be named: an edit of it changes no byte of a result.
INFRASTRUCTURE = {
    "pipeline/errors.py": "kinds of errors; what is raised writes no result",
    "pipeline/stage.py": "runs a stage: reads params.yaml, logs, ends with an exit code",
    "pipeline/logs.py": "what a terminal shows",
    "pipeline/params.py": "checks params.yaml, whose values DVC compares by `params`",
    "pipeline/training/progress.py": "says on the terminal how far a training is",
    "pipeline/training/live.py": "writes DVCLive's files, which are no output",
    "pipeline/machine.py": "counts cores; no result depends on how many workers there are",
    "pipeline/data/files.py": "renames what is whole; the bytes are the caller's",
    "pipeline/data/assets.py": "for other stages: returns the path of a file with the right checksum, or stops",
    "pipeline/extraction/engines.py": "says where clips are extracted; what comes of one is its extractor's",
    "pipeline/extraction/offline.py": "keeps MediaPipe from reporting that it is used",
    "pipeline/extraction/kept_clips.py": "gives back what was extracted; its keys hold the code's checksums",
}
# Its imports serve to check params.yaml: every loader, extractor, model and regime that there is.
NOT_FOLLOWED = {"pipeline/params.py"}

# Where code imports a plug-in by name, {} for what is only known when it runs -> the plug-ins.
SITES = {
    "pipeline.data.datasets.{}": lambda stage: loaders.names(),
    "pipeline.extraction.extractors.{}.{}": lambda stage: extractors.names(stage.removeprefix("extract-")),
    "pipeline.extraction.importers.{}": lambda stage: module_names("pipeline.extraction.importers"),
    "models.{}": lambda stage: module_names("models"),
    "pipeline.training.regimes.{}": lambda stage: module_names("pipeline.training.regimes"),
}
LOADER, MODEL, REGIME = "pipeline.data.datasets.{}", "models.{}", "pipeline.training.regimes.{}"
EXTRACTOR, READER = "pipeline.extraction.extractors.{}.{}", "pipeline.extraction.importers.{}"

# Stage -> what it selects, and how dvc.yaml names the selected one; None: it cannot, so that all are named.
SELECTED: dict[str, dict[str, str | None]] = {
    "prepare": {LOADER: "pipeline/data/datasets/${item.loader}.py"},
    **{
        f"extract-{m}": {
            EXTRACTOR: f"pipeline/extraction/extractors/{m}/${{item.{m}.extractor}}.py",
            READER: None,
        }
        for m in ("text", "audio", "video")
    },
    "train": {
        MODEL: "models/${item.model}.py",
        REGIME: None,
    },
    "evaluate": {
        MODEL: "models/${item.model}.py",
    },
    "report": {EXTRACTOR: None, READER: None},  # for what extractors say of their columns
}
# Stages whose code comes by such a place, and which select nothing there.
SELECTS_NOTHING = {
    ("corpus", LOADER): "takes from the demo's loader what its table is called and has as columns",
    ("evaluate", REGIME): "reads the record of an experiment, and trains nothing",
}

# Stage -> what it reads that is no code: path as dvc.yaml has it -> the file of its code, or the setting, that
# names it.
MEDIA = "${item.root}"
CHECKED = {"data/checked.txt": "pipeline/check.py"}  # what DVC waits for; nobody reads it
DATA: dict[str, dict[str, str]] = {
    "check": {"params.yaml": "pipeline/params.py"},
    "assets": CHECKED,  # besides the package index, or assets.NAME.path
    "corpus": {
        "data/assets/cremad": "pipeline/data/assets.py",
        "data/assets/sentences": "pipeline/data/assets.py",
    },
    "media": CHECKED,  # besides the folder of media.NAME, at every run
    "prepare": {**CHECKED, MEDIA: "pipeline/prepare.py"},
    "train-denseface": {
        **CHECKED,
        "${item.fer2013}": "pipeline/train_denseface.py",
        "${item.ferplus}": "pipeline/train_denseface.py",
    },
    "extract-text": {
        "data/manifests/${key}.csv": "pipeline/extract.py",
        "data/assets/${item.text.extractor}": "pipeline/extract.py",
    },
    **{
        f"extract-{m}": {
            "data/manifests/${key}.csv": "pipeline/extract.py",
            f"data/assets/${{item.{m}.extractor}}": "pipeline/extract.py",
            "data/manifests/${key}.sha256": "pipeline/extract.py",
        }
        for m in ("audio", "video")
    },
    "mask": {"data/manifests/${key}.csv": "pipeline/mask.py", "data/features/${key}": "pipeline/mask.py"},
    "train": {
        **CHECKED,
        "data/manifests/${item.dataset}.csv": "pipeline/training/samples.py",
        "data/manifests/${item.dataset}.json": "pipeline/training/samples.py",
        "data/features/${item.dataset}": "pipeline/training/samples.py",
        "data/masks/${item.dataset}.h5": "pipeline/training/all_runs.py",
    },
    "evaluate": {
        "data/manifests/${item.dataset}.csv": "pipeline/training/evaluation.py",
        "data/manifests/${item.dataset}.json": "pipeline/training/samples.py",
        "data/features/${item.dataset}": "pipeline/training/samples.py",
        "data/masks/${item.dataset}.h5": "pipeline/training/evaluation.py",
        "data/runs/${key}": "pipeline/training/evaluation.py",
    },
    "report": {
        f"data/{folder}": "pipeline/reporting/facts.py"
        for folder in ("manifests", "features", "masks", "runs", "results")
    },
}
DATA["report"]["data/predictions"] = "pipeline/reporting/foreign.py"
DATA["extract-video"]["data/denseface"] = "the setting denseface.weights"
# (stage, folder of data/) that its code names, and dvc.yaml does not.
NOT_SEEN = {
    (
        "train",
        "assets",
    ): "where settings.encoder of a model usually points, which no line of dvc.yaml can follow",
    (
        "evaluate",
        "assets",
    ): "where settings.encoder of a model usually points, which no line of dvc.yaml can follow",
    ("report", "assets"): "extractors name it; the report asks them for what they say of columns alone",
}
FOLDERS = {
    "raw",
    "assets",
    "manifests",
    "features",
    "masks",
    "runs",
    "results",
    "report",
    "denseface",
    "predictions",
}


@cache
def stages() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return {name: body.get("do", body) for name, body in found.items()}


# --- what a file says -----------------------------------------------------------------


@dataclass
class Source:
    """What one file of the project names.

    Attributes:
        imports: files of the project that it imports, by statements or by a whole name.
        sites: places where it imports by a name that is only known when it runs, {} for what is not known.
        beside: files and folders that are no code, lie beside it, and are named in it.
        texts: all its strings but docstrings.
    """

    imports: set[str] = field(default_factory=set)
    sites: set[str] = field(default_factory=set)
    beside: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)


@cache
def read(path: str) -> Source:
    source = Source()
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inner = {id(node.left) for node in ast.walk(tree) if isinstance(node, ast.BinOp)}
    for node in running(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                source.imports |= files_of(alias.name)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise AssertionError(f"{path}, line {node.lineno}: a relative import; write the whole name")
            for alias in node.names:
                source.imports |= files_of(str(node.module)) | files_of(f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Call) and called(node) == "import_module":
            name = pattern(node.args[0])
            if "{}" in name:
                source.sites.add(name)
            else:
                source.imports |= files_of(name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            source.texts.add(node.value)
            beside = Path(path).parent / node.value
            if (
                re.fullmatch(r"[\w-]+\.\w+", node.value)
                and beside.suffix != ".py"
                and (ROOT / beside).is_file()
            ):
                source.beside.add(beside.as_posix())
        elif isinstance(node, ast.BinOp) and id(node) not in inner and (found := beside_code(path, node)):
            source.beside.add(found)
    return source


def beside_code(path: str, node: ast.expr) -> str:
    """Return what ``Path(__file__).parent / "a" / "b"`` names, or nothing for another expression."""
    parts: list[str] = []
    while (
        isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant)
    ):
        parts.insert(0, str(node.right.value))
        node = node.left
    if not parts or ast.unparse(node) != "Path(__file__).parent":
        return ""
    found = Path(path).parent.joinpath(*parts).as_posix()
    return found if (ROOT / found).exists() else ""


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield a tree's nodes but those that only a type checker sees."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def pattern(node: ast.expr) -> str:
    """Return a string's text, {} for each part that is only known when it runs."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return "{}"


@cache
def files_of(module: str) -> frozenset[str]:
    """Return the project's files that run when a module is imported: its own, and its packages'."""
    parts = module.split(".")
    found = set()
    for end in range(1, len(parts) + 1):
        place = "/".join(parts[:end])
        for path in (f"{place}.py", f"{place}/__init__.py"):
            if (ROOT / path).is_file() and holds_code(path):
                found.add(path)
    return frozenset(found)


@cache
def holds_code(path: str) -> bool:
    """Whether a file says more than its docstring: only then can an edit of it change anything."""
    body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    return any(not isinstance(node, ast.Expr) for node in body)


def closure(start: set[str]) -> set[str]:
    """Return files and all that they import."""
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            if path not in NOT_FOLLOWED:
                waiting += read(path).imports
    return found


# --- what a stage needs ---------------------------------------------------------------


def own_file(stage: str) -> str:
    match = re.match(r"python -m ([\w.]+)", stages()[stage]["cmd"])
    assert match, stages()[stage]["cmd"]
    return match[1].replace(".", "/") + ".py"


@dataclass(frozen=True)
class Needs:
    """What a stage reads.

    Attributes:
        code: files of every selection.
        named_by_selection: those among them that dvc.yaml names by a setting -> how.
        beside: what is no code and lies beside it.
        sites: places that its code comes by where a plug-in is imported by name.
    """

    code: set[str]
    named_by_selection: dict[str, str]
    beside: set[str]
    sites: set[str]


@cache
def needs(stage: str) -> Needs:
    selected = SELECTED.get(stage, {})
    start = {own_file(stage)}
    by_selection: dict[str, str] = {}
    own = stage.removeprefix("extract-")
    for modality in ("text", "audio", "video") if own == stage else (own,):
        for site, template in selected.items():
            package = site.removesuffix(".{}").replace("{}", modality).replace(".", "/")
            for name in SITES[site](modality):
                path = f"{package}/{name}.py"
                start.add(path)
                if template is not None:
                    by_selection[path] = template
    code = closure(start)
    imported = {path for file in code - NOT_FOLLOWED for path in read(file).imports}
    return Needs(
        code=code,
        # one that another imports is needed by more than its own selection
        named_by_selection={path: how for path, how in by_selection.items() if path not in imported},
        beside={path for file in code - NOT_FOLLOWED for path in read(file).beside},
        sites={site for file in code - NOT_FOLLOWED for site in read(file).sites},
    )


def problems(stage: str, named: list[str]) -> list[str]:
    """Return what is wrong with the ``deps`` of a stage, a line for each."""
    need = needs(stage)
    required = (need.code - INFRASTRUCTURE.keys()) | {own_file(stage)} | need.beside
    required = {need.named_by_selection.get(path, path) for path in required}
    required |= {template for template in SELECTED.get(stage, {}).values() if template is not None}
    lacking = {path for path in required if not any(covers(one, path) for one in named)}
    lacking |= DATA[stage].keys() - set(named)
    found = [f"{stage}: lacking: {path}{because(stage, path)}" for path in sorted(lacking)]
    readable = required | need.code
    for one in named:
        if is_data(one):
            unread = [] if one in DATA[stage] else [one]
        elif any(is_below(path, one) for path in readable):
            unread = [path for path in inside(one) if not any(covers(known, path) for known in readable)]
        else:
            unread = [] if any(covers(known, one) for known in readable) else [one]
        for path in unread:
            found.append(f"{stage}: named but not read: {path}" + ("" if path == one else f" (within {one})"))
    for place, one in enumerate(named):
        if one in named[:place]:
            found.append(f"{stage}: named twice: {one}")
        found += [f"{stage}: named twice: {one} (within {other})" for other in named if is_below(one, other)]
    return found


def is_data(path: str) -> bool:
    return path.startswith(("data/", "${")) or path == "params.yaml"


def because(stage: str, path: str) -> str:
    """Return who reads a file, for a message."""
    by = [file for file in sorted(needs(stage).code - NOT_FOLLOWED) if path in read(file).imports]
    by += [file for file in sorted(needs(stage).code) if path in read(file).beside]
    by += [DATA[stage][path]] if path in DATA[stage] else []
    return f" (read by {', '.join(by[:3])})" if by else ""


def is_below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")


def covers(one: str, path: str) -> bool:
    return path == one or is_below(path, one)


def inside(folder: str) -> list[str]:
    """Return the files of a folder of code that hold something."""
    files = [path for path in sorted((ROOT / folder).rglob("*")) if path.is_file()]
    files = [path for path in files if "__pycache__" not in path.parts]
    paths = [path.relative_to(ROOT).as_posix() for path in files]
    return [path for path in paths if not path.endswith(".py") or holds_code(path)]


# --- dvc.yaml -------------------------------------------------------------------------


@pytest.mark.parametrize("stage", list(stages()))
def test_a_stage_names_what_it_reads_and_nothing_else(stage: str) -> None:
    found = problems(stage, stages()[stage]["deps"])
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("stage", list(stages()))
def test_any_line_too_few_or_too_many_is_found(stage: str) -> None:
    named = stages()[stage]["deps"]
    for line in named:
        fewer = [one for one in named if one != line]
        assert any("lacking" in problem for problem in problems(stage, fewer)), f"{line} was not missed"
    spare = {"docs/ARCHITECTURE.md", "data/report", "pipeline/commands", "pipeline/commands/cli.py"}
    files = {path for other in stages() for path in needs(other).code}
    for line in sorted((files | spare) - needs(stage).code):
        assert f"{stage}: named but not read: {line}" in problems(stage, [*named, line])
    for other in stages():
        for line in DATA[other].keys() - DATA[stage].keys():
            assert f"{stage}: named but not read: {line}" in problems(stage, [*named, line])
    for line in named:
        assert f"{stage}: named twice: {line}" in problems(stage, [*named, line])


@pytest.mark.parametrize("stage", list(stages()))
def test_every_file_that_a_stage_names_is_there(stage: str) -> None:
    for path in stages()[stage]["deps"]:
        if "${" not in path and not path.startswith("data/"):
            assert (ROOT / path).exists(), path


# --- the tables of this file ----------------------------------------------------------


def test_every_place_that_imports_by_name_is_known() -> None:
    for stage in stages():
        for file in sorted(needs(stage).code - NOT_FOLLOWED - INFRASTRUCTURE.keys()):
            unknown = read(file).sites - SITES.keys()
            assert not unknown, f"{file} imports {unknown} by name: add it to SITES, and to SELECTED"


@pytest.mark.parametrize("stage", list(stages()))
def test_what_a_stage_selects_is_what_its_code_selects(stage: str) -> None:
    nothing = {site for other, site in SELECTS_NOTHING if other == stage}
    sites = needs(stage).sites & SITES.keys()
    assert sites == SELECTED.get(stage, {}).keys() | nothing


def test_infrastructure_is_read_by_some_stage() -> None:
    read_by_some = {path for stage in stages() for path in needs(stage).code}
    assert INFRASTRUCTURE.keys() <= read_by_some


@pytest.mark.parametrize("stage", list(stages()))
def test_the_table_of_data_fits_the_code(stage: str) -> None:
    """Every folder of data/ in the table is in the code that is said to ask for it; and no other is in the code."""
    for path, file in DATA[stage].items():
        if file.startswith("the setting ") or path in CHECKED:
            continue
        assert file in needs(stage).code, f"{stage}: {file} does not belong to the stage"
        if path.startswith("data/"):
            assert path.split("/")[1] in folders_in(file), f"{stage}: {file} does not name {path}"
    own = {folder for file in needs(stage).code for folder in folders_in(file)}
    outs = [*stages()[stage]["outs"], *stages()[stage].get("metrics", ())]
    named = [
        next(iter(out)) if isinstance(out, dict) else out for out in outs
    ]  # one with `persist` is a mapping
    known = {path.split("/")[1] for path in [*DATA[stage], *named] if path.startswith("data/")}
    known |= {folder for other, folder in NOT_SEEN if other == stage}
    assert own <= known, f"{stage}: its code names data/{own - known}, which DATA does not have"


def folders_in(file: str) -> set[str]:
    """Return the folders of data/ that a file's strings name, as "data/masks" or as a part: data / "masks"."""
    if file in NOT_FOLLOWED:
        return set()
    found = {match[1] for text in read(file).texts if (match := re.match(r"data/(\w+)(/[^ ]*)?$", text))}
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            for part in (
                node.right,
                *(ast.walk(node.right) if isinstance(node.right, ast.JoinedStr) else ()),
            ):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    found.add(part.value.split("/")[0])
    return found & FOLDERS


# --- the keys of kept clips -----------------------------------------------------------

# Beside what pipeline/extraction/kept_clips.py puts into every key by itself: they carry clips to an extractor and
# features from it.
CARRIERS = {
    "models/__init__.py",
    "pipeline/data/csv_rows.py",
    "pipeline/data/manifest.py",
    "pipeline/data/store.py",  # a change of its features raises FEATURE_SCHEMA, which is in the key
    "pipeline/extraction/clip.py",
}


@pytest.mark.parametrize(
    ("modality", "name"), [(m, name) for m in ("text", "audio", "video") for name in extractors.names(m)]
)
def test_a_kept_clips_key_holds_the_checksum_of_all_its_extractors_code(modality: str, name: str) -> None:
    owner = extractors.find(modality, name)
    start = {f"pipeline/extraction/extractors/{modality}/{name}.py"}
    if owner.by_id:
        start |= {f"pipeline/extraction/importers/{reader}.py" for reader in SITES[READER]("")}
    shared = {"pipeline/extraction/extractors/base.py"}
    shared |= {"pipeline/extraction/media.py", "pipeline/data/wav_header.py"} if modality != "text" else set()
    parts = {part.replace(".", "/") + ".py" for part in owner.parts}
    assert parts | start | shared == (closure(start) | shared) - CARRIERS - INFRASTRUCTURE.keys()
