"""Stage ``assets@NAME``: what ``assets.NAME`` of params.yaml pins -> data/assets/NAME/.

pipeline/data/fetching.py fills the folder; pipeline/data/assets.py finds a file in it and checks its bytes.
"""

from __future__ import annotations

import logging

from pipeline.data.assets import ASSETS, read_record
from pipeline.data.fetching import fetch
from pipeline.params import Params
from pipeline.stage import run_stage

log = logging.getLogger("lacuna")


def main(params: Params, name: str) -> None:
    """Fetch one asset into data/assets/<name>/."""
    folder = fetch(name, params.asset(name), ASSETS / name)
    record = read_record(folder)
    log.info("%s: %s %s, %d file(s)", name, record["source"], record["version"], len(record["files"]))


if __name__ == "__main__":
    run_stage(main)
