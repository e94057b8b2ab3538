"""Stage ``prepare@NAME``: an owner's layout -> data/manifests/NAME.csv and a report of counts, NAME.json.

The loader (pipeline/data/datasets/<loader>.py) knows the layout; pipeline/data/preparation.py writes and counts what
it yields.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from pipeline.data.manifest import read_manifest
from pipeline.data.media_list import PLACES
from pipeline.data.preparation import prepare
from pipeline.params import Params
from pipeline.stage import run_stage
from pipeline.training.split_check import dataset_findings

MANIFESTS = Path("data/manifests")
CHECKSUMS = Path("data/cache/checksums")

log = logging.getLogger("lacuna")


def main(params: Params, name: str) -> None:
    """Write one dataset's manifest and its report."""
    if _is_kept(params, name):
        log.warning("%s: the media are not on this machine; the manifest stays as it was pulled", name)
        return
    report = prepare(name, params.loader(name), MANIFESTS, named=params.dataset(name).root, cache=CHECKSUMS)
    log.info("%s: %d samples%s", name, report["samples"], " (CONSTRUCTED)" if report["constructed"] else "")
    for key, words in (("skipped", "left out"), ("missing_files", "file(s) not there"), ("notes", "noted")):
        if found := report[key]:
            log.warning(
                "%s: %d %s; the first: %s", name, len(found), words, json.dumps(found[0], ensure_ascii=False)
            )
    for finding in dataset_findings(params, name, read_manifest(MANIFESTS / f"{name}.csv")):
        log.warning("%s: %s", name, finding)
    for difference in report["differences"]:
        log.warning(
            "%s: %s: found %s, %s says %s",
            name,
            *(difference[k] for k in ("count", "found", "source", "expected")),
        )


def _is_kept(params: Params, name: str) -> bool:
    """Whether the media are not on this machine, so that the manifest that was pulled stays."""
    if params.dataset(name).root.parent != PLACES or params.root(name).is_dir():
        return False
    return all((MANIFESTS / f"{name}.{end}").is_file() for end in ("csv", "json", "sha256"))


if __name__ == "__main__":
    run_stage(main)
