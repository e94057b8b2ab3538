"""Do the tests see a wrong operator, comparison or constant? ``python benchmarks/mutation.py [--count 200]``.

Draws mutants of the code that makes numbers (models, regimes, metrics, masks, folds, samples, batches), one small
change each, and runs the tests of the changed file on each, in a copy of the tree: first its own, then those of the
models that import and name what was changed, up to the first that fails. A mutant is caught when a test fails or the
tests do not end in time. Those in :data:`EQUIVALENT` change nothing that a test could see, and are not drawn.

With ``--results FILE`` each outcome is a line of that file at once, and mutants that it has are not tried again, so
that a run may be stopped and taken up; what it has done by then is a draw of its own. ``--only`` takes beginnings of a
mutant's name, which is its file and its change: ``--only models/mmim.py``, or ``--only "models/mmim.py: a -> b"``.

Run by hand, not in CI: 200 mutants take about half an hour on a core. The result belongs in benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import multiprocessing
import os
import random
import re
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
# The tests of models/<name>.py are tests/models/test_<name>.py, but for these, and then that of the settings' list,
# where their defaults stand.
TESTS_OF_MODELS = {"cra": "test_ae.py"}
MORE_TESTS = {
    "base": ("tests/models/test_contract.py",),
    "parts": (
        "tests/pipeline/extraction/test_incomplete_encoders.py",
        "tests/pipeline/extraction/test_text_tokens.py",
    ),
}
TEST_OF_SETTINGS = "tests/pipeline/commands/test_params_list.py"
LIMITS = ("Size", "Share", "Weight", "Count", "Window")  # of settings
TESTS = {
    "pipeline/training/regimes/*.py": ("tests/pipeline/training/test_regimes.py", TEST_OF_SETTINGS),
    "pipeline/training/metrics.py": ("tests/pipeline/training/test_metrics.py",),
    "pipeline/training/folds.py": (
        "tests/pipeline/training/test_folds.py",
        "tests/pipeline/training/test_folds_by_chance.py",
    ),
    "pipeline/training/samples.py": (
        "tests/pipeline/training/test_samples.py",
        "tests/pipeline/training/test_regression.py",
    ),
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
    "pipeline/training/sequences.py: deviation <= 1e-06 * np.maximum(np.abs(mean), 1e-06) -> "
    "deviation < 1e-06 * np.maximum(np.abs(mean), 1e-06)": "no deviation of float32 frames is exactly a millionth of "
    "their mean",
    "pipeline/training/sequences.py: np.where(constant, 1.0, deviation) -> np.where(constant, 2.0, deviation)": "what "
    "stands for a constant's deviation is not read",
    "pipeline/data/masks.py: uniforms(starts, 0) < rate -> uniforms(starts, 0) <= rate": "no draw is exactly the rate",
    "pipeline/training/metrics.py: confusion_matrix(np.clip(truth, -1, 1) > 0, np.clip(predicted, -1, 1) > 0, 2) -> "
    "confusion_matrix(np.clip(truth, -1, 1) > 0, np.clip(predicted, -1, 1) > 0, 3)": "a class of nobody weighs nothing",
    "pipeline/training/regimes/m3s.py: zip(adapted.items(), rates.values(), gradients, strict=True) -> "
    "zip(adapted.items(), rates.values(), gradients, strict=False)": "they are always as many",
    "models/parts.py: (short := (length - frames.shape[1])) > 0 -> (short := (length - frames.shape[1])) >= 0": "then "
    "nothing is filled in",
    "models/self_mm.py: squares / math.sqrt(values.shape[1]) -> squares * math.sqrt(values.shape[1])": "a ratio of two "
    "distances has no unit, but for the 1e-8 under it",
    "models/layers.py: values.new_zeros(1, 1, values.shape[2]) -> values.new_zeros(1, 2, values.shape[2])": "the "
    "encoder is told that one frame counts",
    "models/smil.py: mean + (noise if self.spread is None else noise * torch.sigmoid(self.spread(values))) -> "
    "mean - (noise if self.spread is None else noise * torch.sigmoid(self.spread(values)))": "normal noise has no sign",
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
    part: str = ""  # the function, class or constant that holds it

    @property
    def name(self) -> str:
        return f"{self.file}: {self.change}"

    @property
    def key(self) -> str:
        """The name with its place, so that the same change in two places is told apart."""
        return f"{self.file}:{self.line} ({self.number}): {self.change}"


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
    """Return the first line of code, decorators aside."""
    return next(line for line in ast.unparse(shown).strip().split("\n") if not line.startswith("@"))


def mutants(file: str) -> Iterator[tuple[Mutant, str]]:
    """Yield every mutant of a file with its source."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    for number in range(len(list(sites(tree)))):
        changed = copy.deepcopy(tree)
        node, shown = list(sites(changed))[number]
        before = _line(shown)
        change(node)
        line, described = getattr(node, "lineno", 0), f"{before} -> {_line(shown)}"
        yield Mutant(file, number, line, described, _part(tree, line)), ast.unparse(changed)


def _part(tree: ast.Module, line: int) -> str:
    """Return the name of what stands at a line, at the module's level."""
    for statement in tree.body:
        if statement.lineno <= line <= (statement.end_lineno or 0):
            if isinstance(statement, ast.Assign):
                return ast.unparse(statement.targets[0])
            return str(getattr(statement, "name", ""))
    return ""


def subjects() -> dict[str, tuple[str, ...]]:
    """Return the files that are changed, and their tests, the nearest first."""
    found: dict[str, tuple[str, ...]] = {}
    sources = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "models").glob("[!_]*.py")}
    tests = {name: f"tests/models/{TESTS_OF_MODELS.get(name, f'test_{name}.py')}" for name in sources}
    for name in sorted(sources):
        imported = re.compile(rf"^from (models\.{name} import|models import (.*, )?{name}\b)", re.MULTILINE)
        users = [user for user in sorted(sources) if imported.search(sources[user])]
        more = MORE_TESTS.get(name, ())
        each = dict.fromkeys((tests[name], TEST_OF_SETTINGS, *(tests[user] for user in users), *more))
        found[f"models/{name}.py"] = tuple(each)
    for pattern, given in TESTS.items():
        for path in sorted(ROOT.glob(pattern)):
            if not path.name.startswith("_"):
                found[path.relative_to(ROOT).as_posix()] = given
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


def _child(tree: Path, test: str) -> None:
    import pytest

    os.chdir(tree)
    sys.path.insert(0, str(tree))
    sys.dont_write_bytecode = True
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    given = ["-x", "-m", "not slow and not gpu", "-p", "no:cacheprovider"]
    given += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # what is imported already
    os._exit(int(pytest.main([*given, test])))


def outcome(tree: Path, test: str, limit_s: float) -> str:
    """Run a file of tests in a fork of this process; return passed, failed, or timed out."""
    child = multiprocessing.get_context("fork").Process(target=_child, args=(tree, test))
    child.start()
    child.join(limit_s)
    if child.is_alive():
        child.kill()
        child.join()
        return "timed out"
    return "failed" if child.exitcode else "passed"


class Trial:
    """A copy of the tree in which mutants are tried, one after the other.

    Args:
        tree: the copy.
    """

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.limits: dict[str, float] = {}  # test -> seconds

    def limit(self, test: str) -> float:
        """Return how long a mutant's tests may take, by how long they take without any change."""
        if test not in self.limits:
            begun = time.monotonic()
            if (found := outcome(self.tree, test, 600.0)) != "passed":
                raise SystemExit(f"{test}: {found} without any change; expected them to pass")
            self.limits[test] = SLACK_S + FACTOR * (time.monotonic() - begun)
        return self.limits[test]

    def run(self, mutant: Mutant, source: str, tests: tuple[str, ...]) -> tuple[str, str]:
        """Return passed, failed or timed out, and the tests that caught the mutant.

        After the file's own tests come those that name what was changed, or whose models do; a setting is in the
        settings' list.
        """
        own, *others = tests
        if mutant.file.startswith("models/"):
            others = [test for test in others if self._names(test, mutant.part)]
        changed = self.tree / mutant.file
        original = changed.read_bytes()
        for test in (own, *others):
            limit_s = self.limit(test)
            changed.write_text(source, encoding="utf-8")
            found = outcome(self.tree, test, limit_s)
            changed.write_bytes(original)
            if found != "passed":
                return found, test
        return "passed", ""

    def _names(self, test: str, part: str) -> bool:
        if test == TEST_OF_SETTINGS:
            return not part or part.endswith("Settings") or part in LIMITS
        if not test.startswith("tests/models/"):
            return True
        model = self.tree / "models" / Path(test).name.removeprefix("test_")
        texts = [path.read_text(encoding="utf-8") for path in (self.tree / test, model) if path.exists()]
        return not part or any(re.search(rf"\b{re.escape(part)}\b", text) for text in texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[""], help="mutants whose name begins with one of these")
    parser.add_argument("--results", type=Path, help="a file that takes the outcomes, and may have some")
    parser.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    options = parser.parse_args()
    tests = subjects()
    every = [pair for file in tests for pair in mutants(file) if pair[0].name.startswith(tuple(options.only))]
    shuffled = random.Random(options.seed).sample(every, len(every))  # noqa: S311 - no secret
    drawn = [pair for pair in shuffled if pair[0].name not in EQUIVALENT][: options.count]
    outcomes: dict[str, str] = {}
    if options.results and options.results.exists():
        kept = options.results.read_text(encoding="utf-8").splitlines()
        outcomes = {name: found for found, _, name in (line.split("\t") for line in kept)}
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in HEAVY:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder))
        copy_tree(trial.tree)
        for place, (mutant, source) in enumerate(drawn, start=1):
            if options.list:
                print(mutant.key)
            if options.list or mutant.key in outcomes:
                continue
            found, test = trial.run(mutant, source, tests[mutant.file])
            outcomes[mutant.key] = found
            print(f"{place}/{len(drawn)} {found:9} {mutant.key} {test}", flush=True)
            if options.results:
                with options.results.open("a", encoding="utf-8") as file:
                    file.write(f"{found}\t{test}\t{mutant.key}\n")
    if options.list:
        return
    survived = [mutant for mutant, _ in drawn if outcomes[mutant.key] == "passed"]
    caught = len(drawn) - len(survived)
    print(f"caught {caught} of {len(drawn)} ({caught / len(drawn):.1%}) of {len(every)}, seed {options.seed}")
    for mutant in survived:
        print(f"survived: {mutant.key}")


if __name__ == "__main__":
    main()
