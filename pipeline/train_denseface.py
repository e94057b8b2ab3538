"""Stage train-denseface: train Denseface's network on FER+, where params.yaml names its two files::

    train_denseface:
      ferplus: {fer2013: /data/fer2013.csv, ferplus: /data/fer2013new.csv}
    extractors:
      video:
        denseface: {weights: data/denseface/ferplus.safetensors}

fer2013.csv (Kaggle, "Challenges in Representation Learning") has 35,887 grey faces of 48 x 48 pixels, as
text; fer2013new.csv (Barsoum et al., ICMI 2016, github.com/microsoft/FERPlus) has ten annotators' votes for
the same rows in the same order. The pictures cannot be fetched automatically.

Rows of the usage ``Training`` are trained on, the accuracy on ``PublicTest`` chooses the epoch, and
``PrivateTest`` is evaluated once, at the end.

pipeline/extraction/ferplus.py reads them and makes the targets; the recipe is in
pipeline/extraction/denseface_training.py.
"""

from __future__ import annotations

import logging
from pathlib import Path

from pipeline.extraction.denseface_training import train
from pipeline.extraction.ferplus import read_faces
from pipeline.params import Params
from pipeline.stage import run_stage

OUT = Path("data/denseface")

log = logging.getLogger("lacuna")


def main(params: Params, name: str) -> None:
    """Train one of params.yaml's networks and write data/denseface/NAME.safetensors.

    Raises:
        ParamsError: there is no training of that name.
        DataError: the files are not FER+'s.
    """
    settings = params.denseface_training(name)
    faces = read_faces(settings.fer2013, settings.ferplus, settings.labels)
    for usage, part in faces.items():
        log.info("%s: %d faces; left out: %s", usage, len(part.pixels), part.left_out or "none")
    out = OUT / f"{name}.safetensors"
    train(faces, settings, out, params.compute.device)
    log.info("wrote %s", out)


if __name__ == "__main__":
    run_stage(main)
