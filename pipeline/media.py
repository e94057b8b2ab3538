"""Stage ``media@NAME``: a folder of media outside of the project -> data/media/NAME, the list of its files.

A dataset whose ``root`` is data/media/NAME depends on this list, not on the place: nothing of the place is in
dvc.lock. The stage looks at the folder at every ``dvc repro``, which costs a look at each file, and the reading of
those that are new. Where there is no such folder, and a list has come by ``dvc pull``, the list stays.
"""

from __future__ import annotations

import logging
from pathlib import Path

from pipeline.data.media_list import PLACES, files_below, write_list
from pipeline.errors import DataError
from pipeline.params import Params
from pipeline.stage import run_stage

CHECKSUMS = Path("data/cache/checksums")

log = logging.getLogger("lacuna")


def main(params: Params, name: str) -> None:
    """List the files of one folder; keep the list when the folder is not on this machine."""
    place, written = params.media_place(name), PLACES / name
    if place is not None and place.is_dir():
        log.info("%s: %d files in %s", name, write_list(written, place, files_below(place), CHECKSUMS), place)
        return
    if not written.is_file():
        raise DataError(params.no_media(name))
    log.info(
        "%s: the media are not on this machine (%s); their list stays as it was pulled",
        name,
        place or "no place given",
    )


if __name__ == "__main__":
    run_stage(main)
