"""What the command of every stage does before and after its own work: read params.yaml, log, report errors."""

from __future__ import annotations

import atexit
import inspect
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.data.files import remove_leftovers, temporary_folder_of_its_own
from pipeline.errors import LacunaError, ParamsError
from pipeline.logs import log_to_stderr
from pipeline.params import Params, load_params

TIMES = "LACUNA_TIMES"  # variable with the name of a file, to which every stage adds what it took (benchmarks/demo.py)
NAME_BY_DVC = "@"  # an argument that stands for the name behind the @ of the stage that DVC runs


def run_stage(stage: Callable[..., None], models: bool = False) -> None:
    """Run ``stage(params, *command line arguments)`` and exit: 0, or 1 with the error's message on stderr.

    Used as ``if __name__ == "__main__": run_stage(main)`` by the file of every stage.

    Args:
        stage: its function.
        models: check the settings of models and regimes as well, for which PyTorch must load. The stage ``check`` has
            done it for every other.
    """
    log_to_stderr()
    try:
        params: Params = load_params(models=models)
        arguments = arguments_for(stage, sys.argv[1:], os.environ)
        if left := remove_leftovers(Path("data")):
            logging.getLogger("lacuna").info(
                "removed %d leftover(s) of processes that were killed", len(left)
            )
        if place := os.environ.get(TIMES):
            atexit.register(_write_times, Path(place), time.process_time(), time.time())
        with temporary_folder_of_its_own():
            stage(params, *arguments)
    except LacunaError as error:
        logging.getLogger("lacuna").error("error: %s", error)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        logging.getLogger("lacuna").error("stopped; what is finished is kept")
        raise SystemExit(130) from None


def _write_times(path: Path, start_cpu_s: float, began: float) -> None:
    """Add a line of JSON: CPU seconds before the stage's own work, and user and system seconds with its processes'."""
    spent = os.times()
    line = {
        "stage": os.environ.get("DVC_STAGE", sys.argv[0]),
        "start_cpu_s": round(start_cpu_s, 2),
        "user_s": round(spent.user + spent.children_user, 2),
        "system_s": round(spent.system + spent.children_system, 2),
        "work_wall_s": round(time.time() - began, 2),
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def arguments_for(
    stage: Callable[..., None], given: Sequence[str], environment: Mapping[str, str]
) -> list[str]:
    """Return the arguments for a stage's function, ``@`` replaced by the name that DVC gave the stage.

    A name of params.yaml thus never stands in a command that a shell reads: DVC puts ``train@mmin`` (from another
    folder ``../dvc.yaml:train@mmin``) into the environment variable DVC_STAGE.

    Raises:
        ParamsError: ``@`` where DVC runs no stage of that kind, or another number of arguments than the stage has.
    """
    arguments = []
    for argument in given:
        if argument == NAME_BY_DVC:
            _, at, argument = environment.get("DVC_STAGE", "").rpartition("@")
            if not at:
                raise ParamsError(
                    f"found {NAME_BY_DVC}, which stands for the name of the stage that DVC runs, but DVC runs none. "
                    "Write the name, or run the stage by dvc repro"
                )
        arguments.append(argument)
    wanted = list(inspect.signature(stage).parameters)[1:]
    if len(arguments) != len(wanted):
        raise ParamsError(
            f"found {len(arguments)} argument(s), expected {len(wanted)}: {' '.join(wanted) or 'none'}"
        )
    return arguments
