"""``lacuna preset``: list the presets, print some, add them to params.yaml or take them out.

What a preset is and how it is written into params.yaml is in preset.py.
"""

from __future__ import annotations

import argparse

from pipeline.commands.output import say
from pipeline.commands.parsing import Commands

EPILOG = """\
Without a name: the presets there are. --write adds a table or figure to params.yaml: its experiments, its masks, the
dataset when it is not there yet, and a table of the report. An experiment that is there with the same fields is used,
not added. Everything else stays as it is, comments and all. --remove takes a table out again, with the experiments and
masks that nothing else uses; what you have changed stays. --paper does either with all tables and figures of a paper.

examples:
  lacuna preset
  lacuna preset mmin-table5
  lacuna preset mmin-table5 --dataset iemocap msp_improv --write
  lacuna preset --paper m3s --dataset iemocap mosi sims --write
  lacuna preset mmin-table5 --remove
"""


def add(commands: Commands) -> None:
    """Add the command ``preset``."""
    preset = commands.add("preset", "The experiments of a paper's table or figure.", EPILOG, run)
    preset.add_argument("name", nargs="?", metavar="NAME", help="of the preset; none: list them")
    preset.add_argument("--paper", metavar="PAPER", help="all presets of a paper: mmin, m3s, emmr, umdf")
    preset.add_argument(
        "--dataset", nargs="+", metavar="DATASET", help="one or more; default: demo, to remove: every one"
    )
    action = preset.add_mutually_exclusive_group()
    action.add_argument("--write", action="store_true", help="add it to params.yaml")
    action.add_argument("--remove", action="store_true", help="take it out of params.yaml")


def run(options: argparse.Namespace) -> int:
    """List the presets, print some, or add them to params.yaml or take them out."""
    from pipeline.commands import preset

    for line in preset.run(options.name, options.paper, options.dataset, options.write, options.remove):
        say(line)
    return 0
