"""``lacuna params check`` and ``lacuna params list``: params.yaml checked, and its keys described."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands.output import say
from pipeline.commands.parsing import Commands

if TYPE_CHECKING:
    from pipeline.params import Params

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
    from pipeline.check import check_what_dvc_compares
    from pipeline.params import load_params

    params = load_params(options.file)
    check_what_dvc_compares(options.file)
    say(f"{options.file}: {count_sections(params)}")
    return 0


def run_list(_: argparse.Namespace) -> int:
    """Print docs/params.md."""
    from pipeline.commands.params_list import describe

    say(describe().rstrip("\n"))
    return 0


def count_sections(params: Params) -> str:
    """Return how many assets, datasets, masks and experiments a correct params.yaml names, in words."""
    counts = [f"{len(getattr(params, key))} {key}" for key in ("assets", "datasets", "masks", "experiments")]
    return f"correct: {', '.join(counts)}"
