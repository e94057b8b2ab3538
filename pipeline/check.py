"""Stage ``check``: params.yaml is checked whole, before DVC touches anything for another stage.

DVC removes what a stage wrote before it runs the stage, at the places that dvc.yaml makes of the names in
params.yaml. A name that leads elsewhere (``../../mine``) must be refused before that: the stages that come first
depend on this one's output. It always says the same, so that a changed params.yaml costs this check alone.

DVC also stops at the first stage that compares a section which params.yaml lacks, and that may be the last one, after
hours. So this is said here as well.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.data.files import write_whole
from pipeline.errors import ParamsError
from pipeline.params import Params
from pipeline.params_file import read_params_file
from pipeline.stage import run_stage

CHECKED = Path("data/checked.txt")
MAPPED = ("assets", "train_denseface", "experiments")  # no stage is made of them where they are left out


def main(params: Params) -> None:
    """Say that params.yaml has been checked: ``run_stage`` did the most of it, or this would not run."""
    check_what_dvc_compares(Path("params.yaml"))
    write_whole(CHECKED, "params.yaml is what pipeline/params.py allows.\n")


def check_what_dvc_compares(path: Path) -> None:
    """Check that params.yaml has every section that a stage of the dvc.yaml beside it names.

    Raises:
        ParamsError: some are left out. Lacuna has defaults for them, but DVC compares what the file says.
    """
    stages = path.with_name("dvc.yaml")
    if not stages.is_file():
        return
    given = read_params_file(path)
    bodies = [body.get("do", body) for body in read_params_file(stages)["stages"].values()]
    named = [name.partition(".")[0] for body in bodies for name in body.get("params", ())]
    if lacking := sorted({name for name in named if name not in given and name not in MAPPED}):
        raise ParamsError(
            f"{path}: {', '.join(lacking)}: missing. Lacuna has defaults for it, but DVC compares what the "
            "file says; write it, with {} for all defaults (seed: 0)"
        )


if __name__ == "__main__":
    run_stage(main, models=True)
