"""``lacuna masks show FILE``: what a file of missing-modality masks holds."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.commands.output import say, say_json
from pipeline.commands.parsing import Commands

EPILOG = """\
example:
  lacuna masks show data/masks/demo.h5
"""


def add(commands: Commands) -> None:
    """Add the group ``masks``."""
    group = commands.add_group("masks", "Show what a file of missing-modality masks holds.", EPILOG)
    show = group.add("show", "Print what a file of masks holds.", EPILOG, run_show)
    show.add_argument("file", type=Path, metavar="FILE", help="for example data/masks/demo.h5")
    show.add_argument("--json", action="store_true", help="print JSON")


def run_show(options: argparse.Namespace) -> int:
    """Print what a file of masks holds."""
    from pipeline.data.masks import read_masks
    from pipeline.reporting.facts import describe_mask

    masks = read_masks(options.file)
    facts = [describe_mask(masks, name) for name in masks.settings]
    if options.json:
        say_json(
            {
                "file": str(options.file),
                "dataset": masks.dataset,
                "seed": masks.seed,
                "samples": len(masks.ids),
                "masks": {
                    one.name: {
                        **one.settings.model_dump(mode="json", exclude_none=True),
                        "checksum": one.checksum,
                        "modalities_gone": one.modalities_gone,
                        "frames_gone": one.frames_gone,
                    }
                    for one in facts
                },
            }
        )
        return 0
    say(f"masks of {masks.dataset}: {len(masks.ids)} samples, seed {masks.seed}")
    for one in facts:
        say(one.name)
        removed = [
            f"{share:.1%} of the {what}"
            for share, what in ((one.modalities_gone, "modalities"), (one.frames_gone, "frames"))
            if share is not None
        ]
        draw = (
            "sampled; what it removes is counted on one draw" if one.settings.draw == "sampled" else "fixed"
        )
        effect = f"removes   {', '.join(removed)}"
        if one.settings.protocol == "conditions":
            draw, effect = "enumerated", "leaves    each of a, v, t, av, at, vt, avt in turn"
        say(f"  protocol  {one.settings.protocol}{''.join(f', {k} {v}' for k, v in one.said.items())}")
        say(f"  draw      {draw}")
        say(f"  {effect}")
        say(f"  checksum  {one.checksum}")
    return 0
