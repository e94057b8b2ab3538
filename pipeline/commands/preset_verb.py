"""``lacuna preset``: list the presets, print one, or write it into params.yaml.

What a preset is and how it is written into params.yaml is in preset.py.
"""

from __future__ import annotations

import argparse

from pipeline.commands.output import say, say_rows
from pipeline.commands.parsing import Commands

EPILOG = """\
Without a name: the presets there are. --write replaces the sections experiments and report of params.yaml, adds
the dataset when it is not there yet, and leaves the rest as it is. It refuses where an experiment would take the
name of one on another dataset, whose runs would be written over; --replace does it all the same. On several
datasets at once, a name that two would have gets the dataset's behind it: mmin-iemocap, mmin-msp_improv.

examples:
  lacuna preset
  lacuna preset mmin-table5
  lacuna preset mmin-table5 --dataset iemocap msp_improv --write --replace
  lacuna preset m3s-table2 --dataset iemocap mosi sims --write
"""


def add(commands: Commands) -> None:
    """Add the command ``preset``."""
    preset = commands.add("preset", "The experiments of a paper's table or figure.", EPILOG, run)
    preset.add_argument("name", nargs="?", metavar="NAME", help="of the preset; none: list them")
    preset.add_argument(
        "--dataset", default=["demo"], nargs="+", metavar="DATASET", help="one or more; default: demo"
    )
    preset.add_argument("--write", action="store_true", help="put it into params.yaml")
    preset.add_argument(
        "--replace", action="store_true", help="even where other datasets' experiments have the names"
    )


def run(options: argparse.Namespace) -> int:
    """List the presets, print one, or put it into params.yaml."""
    from pipeline.commands.preset import join, load_preset, make_blocks, preset_names, render, write_blocks
    from pipeline.params import PARAMS_FILE, load_params

    if options.name is None:
        say_rows([(name, load_preset(name).what) for name in preset_names()])
        return 0
    params = load_params()
    preset = load_preset(options.name)
    blocks = join([make_blocks(preset, dataset, params) for dataset in dict.fromkeys(options.dataset)])
    if not options.write:
        say(render(blocks).removesuffix("\n"))
        return 0
    write_blocks(blocks, replace_others=options.replace)
    gone = [
        name
        for name, one in params.experiments.items()
        if blocks.experiments.get(name, {}).get("dataset") != one.dataset
    ]
    say(f"{PARAMS_FILE}: now has the experiments {', '.join(blocks.experiments)}")
    if gone:
        say(f"{PARAMS_FILE}: replaced the experiments {', '.join(gone)}")
    for name in blocks.dataset:
        say(
            f"{PARAMS_FILE}: now has the dataset {name}; give its root, then run: lacuna dataset check {name}"
        )
    for note in blocks.notes:
        say(f"note: {note}")
    return 0
