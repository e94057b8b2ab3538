"""Stages ``extract-<modality>@<dataset>``: a manifest and its media -> data/features/<dataset>/<modality>.h5.

pipeline/extraction/dataset.py does the work; unchanged clips come from data/cache/.
"""

from __future__ import annotations

import logging
from pathlib import Path

from models import MODALITIES
from pipeline.errors import ParamsError, nearest
from pipeline.extraction.dataset import extract
from pipeline.params import Params
from pipeline.stage import run_stage

log = logging.getLogger("lacuna")


def main(params: Params, dataset: str, modality: str) -> None:
    """Extract one modality of one dataset as params.yaml says."""
    if modality not in MODALITIES:
        raise ParamsError(
            f'found the modality "{modality}"; expected one of {MODALITIES}.{nearest(modality, MODALITIES)}'
        )
    chosen = params.dataset(dataset)
    name = chosen.extraction(modality).extractor
    summary = extract(
        dataset=dataset,
        modality=modality,
        manifest=Path("data/manifests") / f"{dataset}.csv",
        root=params.root(dataset),
        extractor=name,
        settings=params.extractor_settings(dataset, modality),
        assets=Path("data/assets") / name,
        store=Path("data/features") / dataset / f"{modality}.h5",
        workers=params.compute.workers,
        engine=params.compute.engine,
        address=params.compute.address,
        clip_timeout_s=params.compute.clip_timeout_s,
        max_failed_share=params.compute.max_failed_share,
        align=chosen.extraction(modality).align,
    )
    log.info("%s %s by %s: %s", dataset, modality, name, summary)


if __name__ == "__main__":
    run_stage(main)
