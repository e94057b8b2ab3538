"""Draw the missing-modality masks of a dataset: ``python -m pipeline.mask DATASET`` -> data/masks/DATASET.h5.

pipeline/data/masks.py says what the protocols are and what the file holds.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from models import MODALITIES
from pipeline.data.manifest import manifest_checksum, read_manifest
from pipeline.data.masks import write_masks
from pipeline.data.store import FeatureStore, Status
from pipeline.params import Params
from pipeline.stage import run_stage

_log = logging.getLogger("lacuna")


def main(params: Params, dataset: str) -> None:
    """Draw the masks of one dataset.

    Raises:
        ParamsError: there is no such dataset.
        DataError, StoreError: the manifest or a feature store cannot be used.
    """
    params.dataset(dataset)
    manifest = Path("data/manifests") / f"{dataset}.csv"
    ids = [sample.id for sample in read_manifest(manifest)]
    lengths, dims = np.zeros((len(ids), 3), np.int64), []
    for index, modality in enumerate(MODALITIES):
        with FeatureStore(Path("data/features") / dataset / f"{modality}.h5", ids) as store:
            lengths[:, index] = np.where(store.status == Status.OK, store.lengths, 0)
            dims.append(len(store.info.columns))
    path = Path("data/masks") / f"{dataset}.h5"
    sums = write_masks(
        path, dataset, params.all_masks, params.seed, ids, lengths, dims, manifest_checksum(manifest)
    )
    for name, value in sums.items():
        _log.info("%s: %s, %s", name, params.all_masks[name].protocol, value[:12])
    _log.info("%s: %d samples, %d masks", path, len(ids), len(sums))


if __name__ == "__main__":
    run_stage(main)
