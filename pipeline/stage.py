"""What the command of every stage does before and after its own work: read params.yaml, log, report errors."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from pipeline.errors import LacunaError
from pipeline.params import Params, load_params


def run_stage(stage: Callable[..., None]) -> None:
    """Run ``stage(params, *command line arguments)`` and exit: 0, or 1 with the error's message on stderr.

    Used as ``if __name__ == "__main__": run_stage(main)`` by the file of every stage.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        params: Params = load_params()
        stage(params, *sys.argv[1:])
    except LacunaError as error:
        logging.getLogger("lacuna").error("error: %s", error)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        logging.getLogger("lacuna").error("stopped; what is finished is kept")
        raise SystemExit(130) from None
