"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from pipeline.data.fetching import fetch, is_current
from pipeline.extraction.offline import NO_NETWORK
from pipeline.params import Asset

REPOSITORY = Path(__file__).parents[1]

# One thread a process (torch is not imported yet): tests run in several processes, and threads that wait for
# each other cost more than they give.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


# What the environment says of the network before a test makes an extractor that blocks it for its process.
NETWORK = {name: os.environ.get(name) for name in NO_NETWORK}

# The files that take minutes, the longest first: begun last, they would leave the other processes without work.
LONGEST = (
    "test_end_to_end.py",
    "test_replicas_end_to_end.py",
    "test_every_model_and_regime.py",
    "test_sharing.py",
    "test_own_videos_hour.py",
    "test_damaged_files.py",
    "test_train_denseface.py",
    "test_engines.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Keep pytest-xdist from putting files of few tests last."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes hours, unless asked for by `-m sweep`, and put the longest files first."""
    if "sweep" not in (config.option.markexpr or ""):
        left = [item for item in items if item.get_closest_marker("sweep") is not None]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in set(left)]
    last = len(LONGEST)
    place = {name: index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, last))


@pytest.fixture(scope="session")
def assets(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from an asset's name in params.yaml to a folder like data/assets/<name>/.

    It is data/assets/<name>/ itself when that holds these pins; otherwise the real stage's function fetches
    it, once, into a folder that all test processes share: LACUNA_TEST_CACHE of the environment, or pytest's
    cache.
    The folders are everybody's: copy before you change a byte.
    """
    pinned = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))["assets"]
    if given := os.environ.get("LACUNA_TEST_CACHE"):
        store = Path(given)
    elif (kept := getattr(request.config, "cache", None)) is not None:
        store = kept.mkdir("lacuna-assets")
    else:  # pytest -p no:cacheprovider
        base = tmp_path_factory.getbasetemp()
        store = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "lacuna-assets"
    store.mkdir(parents=True, exist_ok=True)

    @cache
    def folder(name: str) -> Path:
        asset = Asset(**pinned[name])
        for there in (REPOSITORY / "data" / "assets" / name, store / name):
            if is_current(there, asset):
                return there
        with FileLock(store / f"{name}.lock"):
            if not is_current(store / name, asset):
                with pytest.MonkeyPatch.context() as patch:
                    for variable, value in NETWORK.items():
                        if value is None:
                            patch.delenv(variable, raising=False)
                        else:
                            patch.setenv(variable, value)
                    fetch(name, asset, store / name)
        return store / name

    return folder
