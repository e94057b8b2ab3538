"""Stage ``check``: params.yaml is checked whole, before DVC touches anything for another stage.

DVC removes what a stage wrote before it runs the stage, at the places that dvc.yaml makes of the names in
params.yaml. A name that leads elsewhere (``../../mine``) must be refused before that: the stages that come first
depend on this one's output. It always says the same, so that a changed params.yaml costs this check alone.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.data.files import write_whole
from pipeline.params import Params
from pipeline.stage import run_stage

CHECKED = Path("data/checked.txt")


def main(params: Params) -> None:
    """Say that params.yaml has been checked: ``run_stage`` did it, or this would not run."""
    write_whole(CHECKED, "params.yaml is what pipeline/params.py allows.\n")


if __name__ == "__main__":
    run_stage(main, models=True)
