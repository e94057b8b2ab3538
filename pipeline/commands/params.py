"""``lacuna params check`` and ``lacuna params list``: params.yaml checked, and its keys described."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands.output import say
from pipeline.commands.parsing import Commands
from pipeline.errors import ParamsError

if TYPE_CHECKING:
    from pipeline.params import Params

MAPPED = ("assets", "train_denseface", "experiments")  # no stage is made of them where they are left out
EPILOG = """\
examples:
  lacuna params check
  lacuna params check other/params.yaml
  lacuna params list > docs/params.md
"""


def add(commands: Commands) -> None:
    """Add the group ``params``."""
    group = commands.add_group("params", "Check params.yaml, or list its keys.", EPILOG)
    check = group.add("check", "Check params.yaml and list every mistake.", EPILOG, run_check)
    check.add_argument("file", nargs="?", type=Path, default=Path("params.yaml"), metavar="FILE")
    group.add("list", "Print every key, what it takes and its default.", EPILOG, run_list)


def run_check(options: argparse.Namespace) -> int:
    """Check a parameters' file."""
    from pipeline.params import load_params

    params = load_params(options.file)
    if lacking := what_dvc_lacks(options.file):
        raise ParamsError(
            f"{options.file}: {', '.join(lacking)}: missing. Lacuna has defaults for it, but DVC compares what the "
            "file says; write it, with {} for all defaults (seed: 0)"
        )
    say(f"{options.file}: {count_sections(params)}")
    return 0


def what_dvc_lacks(path: Path) -> list[str]:
    """Return the sections that a stage of the dvc.yaml beside params.yaml names and params.yaml lacks."""
    from pipeline.params_file import read_params_file

    stages = path.with_name("dvc.yaml")
    if not stages.is_file():
        return []
    given = read_params_file(path)
    bodies = [body.get("do", body) for body in read_params_file(stages)["stages"].values()]
    named = [name.partition(".")[0] for body in bodies for name in body.get("params", ())]
    return sorted({name for name in named if name not in given and name not in MAPPED})


def run_list(_: argparse.Namespace) -> int:
    """Print docs/params.md."""
    from pipeline.commands.params_list import describe

    say(describe().rstrip("\n"))
    return 0


def count_sections(params: Params) -> str:
    """Return how many assets, datasets, masks and experiments a correct params.yaml names, in words."""
    counts = [f"{len(getattr(params, key))} {key}" for key in ("assets", "datasets", "masks", "experiments")]
    return f"correct: {', '.join(counts)}"
