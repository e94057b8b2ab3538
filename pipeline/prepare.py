"""Stage ``prepare@NAME``: an owner's layout -> data/manifests/NAME.csv and a report of counts, NAME.json.

The loader (pipeline/data/datasets/<loader>.py) knows the layout; pipeline/data/preparation.py writes and counts what
it yields.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from pipeline.data.preparation import prepare
from pipeline.params import Params
from pipeline.stage import run_stage

MANIFESTS = Path("data/manifests")

log = logging.getLogger("lacuna")


def main(params: Params, name: str) -> None:
    """Write one dataset's manifest and its report."""
    report = prepare(name, params.loader(name), MANIFESTS)
    log.info("%s: %d samples%s", name, report["samples"], " (CONSTRUCTED)" if report["constructed"] else "")
    for key, words in (("skipped", "left out"), ("missing_files", "file(s) not there"), ("notes", "noted")):
        if found := report[key]:
            log.warning(
                "%s: %d %s; the first: %s", name, len(found), words, json.dumps(found[0], ensure_ascii=False)
            )
    for difference in report["differences"]:
        log.warning(
            "%s: %s: found %s, %s says %s",
            name,
            *(difference[k] for k in ("count", "found", "source", "expected")),
        )


if __name__ == "__main__":
    run_stage(main)
