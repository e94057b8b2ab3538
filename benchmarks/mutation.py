"""Do the tests see a wrong operator, comparison or constant? ``python benchmarks/mutation.py [--count 200]``.

Draws mutants of the code that makes numbers (models, regimes, metrics, masks, folds, samples, batches), one small
change each, and runs the tests of the changed file on each, in a copy of the tree. A mutant is caught when a test
fails or the tests do not end in time. Those in :data:`EQUIVALENT` change nothing that a test could see, and are not
drawn.

Run by hand, not in CI: 200 mutants take about an hour. The result belongs in benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "numpy", "pydantic", "scipy.stats", "pytest", "torch.func", "transformers")  # imported once
# The tests of what is not models/<name>.py, whose tests are tests/models/test_<name>.py.
TESTS = {
    "pipeline/training/regimes/*.py": ("tests/pipeline/training/test_regimes.py",),
    "pipeline/training/metrics.py": ("tests/pipeline/training/test_metrics.py",),
    "pipeline/training/folds.py": (
        "tests/pipeline/training/test_folds.py",
        "tests/pipeline/training/test_folds_by_chance.py",
    ),
    "pipeline/training/samples.py": ("tests/pipeline/training/test_samples.py",),
    "pipeline/training/sequences.py": ("tests/pipeline/training/test_samples.py",),
    "pipeline/training/batching.py": (
        "tests/pipeline/training/test_samples.py",
        "tests/pipeline/training/test_training_set.py",
    ),
    "pipeline/training/masking.py": ("tests/pipeline/training/test_masking.py",),
    "pipeline/data/masks.py": ("tests/pipeline/test_mask.py",),
}
OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or,
    ast.Or: ast.And, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
SKIPPED = ("annotation", "returns", "decorator_list")
SLACK_S, FACTOR = 60.0, 5.0  # a mutant's tests may take so much longer than the unchanged file's

# "file: before -> after": why no test can tell them apart.
EQUIVALENT: dict[str, str] = {
    "pipeline/data/masks.py: mask.range or (0.0, 0.0) -> mask.range or (1.0, 0.0)": "a block always has a range",
    "pipeline/data/masks.py: mask.range or (0.0, 0.0) -> mask.range or (0.0, 1.0)": "the same",
    "pipeline/training/metrics.py: all_of_it > 0 -> all_of_it > 1": "with one in all nothing is right: 0 either way",
    "pipeline/training/batching.py: (ends - begins).max(initial=0) -> (ends - begins).max(initial=1)": "a row that is "
    "averaged has a frame, and without rows nothing is gathered",
    "models/mmim.py: known > 0 -> known >= 0": "a score of 0 has no class by then",
    "models/mmim.py: sizes.clamp(min=1) -> sizes.clamp(min=2)": "a class of fewer than two samples is left out",
}


@dataclass(frozen=True)
class Mutant:
    """One change: the ``number``-th site of a file."""

    file: str
    number: int
    line: int
    change: str  # before -> after

    @property
    def name(self) -> str:
        return f"{self.file}: {self.change}"


def sites(tree: ast.Module) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Yield what can be changed, each with what shows it, in a fixed order; nothing in annotations and messages."""
    waiting: list[tuple[ast.AST, ast.AST]] = [(tree, tree)]
    while waiting:
        node, shown = waiting.pop()
        if _changes(node):
            yield node, shown if isinstance(node, ast.Constant) else node
        if isinstance(node, ast.expr | ast.stmt) and not isinstance(node, ast.Tuple | ast.Slice):
            shown = node
        for name, value in ast.iter_fields(node):
            if name in SKIPPED or isinstance(node, ast.Raise | ast.JoinedStr):
                continue
            children = value if isinstance(value, list) else [value]
            waiting += [(child, shown) for child in children if isinstance(child, ast.AST)]


def _changes(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp):
        return type(node.op) in OPERATORS and not _of_types(node)
    if isinstance(node, ast.Compare):
        return type(node.ops[0]) in OPERATORS
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub | ast.Not | ast.Invert)
    return isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float)


def _of_types(node: ast.AST) -> bool:
    """Return whether this is ``int | None`` or the like."""
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and ast.unparse(node)[:1].isupper()


def change(node: ast.AST) -> None:
    """Change a site in place."""
    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp):
        node.op = OPERATORS[type(node.op)]()  # type: ignore[assignment]
    elif isinstance(node, ast.Compare):
        node.ops[0] = OPERATORS[type(node.ops[0])]()  # type: ignore[assignment]
    elif isinstance(node, ast.UnaryOp):
        node.op = ast.Not() if isinstance(node.op, ast.Not) else ast.UAdd()
        if isinstance(node.op, ast.Not):
            node.operand = ast.UnaryOp(ast.Not(), node.operand)
    elif isinstance(node, ast.Constant):
        value = node.value
        node.value = (
            not value
            if isinstance(value, bool)
            else value + 1
            if isinstance(value, int)
            else 2 * value or 1.0
        )


def _line(shown: ast.AST) -> str:
    return ast.unparse(shown).strip().partition("\n")[0]


def mutants(file: str) -> Iterator[tuple[Mutant, str]]:
    """Yield every mutant of a file with its source."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    for number in range(len(list(sites(tree)))):
        changed = copy.deepcopy(tree)
        node, shown = list(sites(changed))[number]
        before = _line(shown)
        change(node)
        described = f"{before} -> {_line(shown)}"
        yield Mutant(file, number, getattr(node, "lineno", 0), described), ast.unparse(changed)


def subjects() -> dict[str, tuple[str, ...]]:
    """Return the files that are changed, and their tests."""
    found = {}
    for path in sorted((ROOT / "models").glob("[!_]*.py")):
        found[f"models/{path.name}"] = (f"tests/models/test_{path.stem}.py",)
    for pattern, tests in TESTS.items():
        for path in sorted(ROOT.glob(pattern)):
            if not path.name.startswith("_"):
                found[path.relative_to(ROOT).as_posix()] = tests
    return found


def copy_tree(target: Path) -> None:
    """Copy what git knows or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def _child(tree: Path, tests: tuple[str, ...]) -> None:
    import pytest

    os.chdir(tree)
    sys.path.insert(0, str(tree))
    sys.dont_write_bytecode = True
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    given = ["-x", "-m", "not slow and not gpu", "-p", "no:cacheprovider"]
    given += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # what is imported already
    os._exit(int(pytest.main([*given, *tests])))


def outcome(tree: Path, tests: tuple[str, ...], limit_s: float) -> str:
    """Run tests in a fork of this process; return passed, failed, or timed out."""
    child = multiprocessing.get_context("fork").Process(target=_child, args=(tree, tests))
    child.start()
    child.join(limit_s)
    if child.is_alive():
        child.kill()
        child.join()
        return "timed out"
    return "failed" if child.exitcode else "passed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="files whose name begins with this")
    options = parser.parse_args()
    tests = {file: found for file, found in subjects().items() if file.startswith(options.only)}
    every = [pair for file in tests for pair in mutants(file) if pair[0].name not in EQUIVALENT]
    drawn = random.Random(options.seed).sample(every, min(options.count, len(every)))  # noqa: S311 - no secret
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in HEAVY:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copy_tree(tree)
        limits = {}
        for file in sorted({mutant.file for mutant, _ in drawn}):
            begun = time.monotonic()
            if (found := outcome(tree, tests[file], 600.0)) != "passed":
                raise SystemExit(
                    f"{' '.join(tests[file])}: {found} without any change; expected them to pass"
                )
            limits[file] = SLACK_S + FACTOR * (time.monotonic() - begun)
        survived = []
        for number, (mutant, source) in enumerate(sorted(drawn, key=lambda pair: pair[0].name), start=1):
            original = (tree / mutant.file).read_bytes()
            (tree / mutant.file).write_text(source, encoding="utf-8")
            found = outcome(tree, tests[mutant.file], limits[mutant.file])
            (tree / mutant.file).write_bytes(original)
            print(f"{number}/{len(drawn)} {found:9} {mutant.file}:{mutant.line}: {mutant.change}", flush=True)
            if found == "passed":
                survived.append(mutant)
    caught = len(drawn) - len(survived)
    print(f"caught {caught} of {len(drawn)} ({caught / len(drawn):.1%}) of {len(every)}, seed {options.seed}")
    for mutant in survived:
        print(f"survived: {mutant.file}:{mutant.line}: {mutant.change}")


if __name__ == "__main__":
    main()
