"""DVCLive's files beside trainings, for running curves in VS Code's DVC extension and in DVC Studio.

The extra ``live`` and ``compute.dvclive: true``. The files are nobody's output: a stage's bytes are the same with them
and without, git does not see them, and an experiment that is trained again writes them anew.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ParamsError
from pipeline.training.progress import Told

if TYPE_CHECKING:
    from dvclive import Live

_log = logging.getLogger(__name__)


class LiveFiles:
    """data/live/<experiment>/<fold>-<seed>/ of each training: metrics.json, plots/metrics/*.tsv and a dvc.yaml."""

    def __init__(self, folder: Path) -> None:
        """Write nothing yet; the first epoch removes what is in ``folder``, data/live/<experiment>/.

        Raises:
            ParamsError: DVCLive is not installed.
        """
        try:
            import dvclive
        except ImportError as error:
            raise ParamsError(
                "compute.dvclive: DVCLive is not installed: pip install -e '.[live]'"
            ) from error
        logging.getLogger("dvclive").setLevel(logging.ERROR)
        self._live, self._folder = dvclive.Live, folder
        self._open: dict[tuple[int, int], Live] = {}
        self._broken = False

    def tell(self, told: Told) -> None:
        """Write the value of an epoch, and the best so far, of one training.

        What DVCLive cannot write (it asks for a commit, for instance) is said once and ends the curves, no training.
        """
        if self._broken:
            return
        try:
            self._write(told)
        except Exception as error:  # noqa: BLE001 another project's, and beside the point
            self._broken = True
            _log.warning("no more live curves: DVCLive says %s: %s", type(error).__name__, error)

    def _write(self, told: Told) -> None:
        where = told.fold, told.seed
        if not self._open:
            shutil.rmtree(self._folder, ignore_errors=True)  # of an earlier training
        if where not in self._open:
            here = self._folder / f"{told.fold}-{told.seed}"
            # A dvc.yaml of its own: the project's is not DVCLive's to write. `dvc repro` makes no experiment of it.
            self._open[where] = self._live(str(here), save_dvc_exp=False, dvcyaml=str(here / "dvc.yaml"))
        live = self._open[where]
        metric = told.metric.replace(" ", "_")
        live.step = told.epoch
        live.log_metric(metric, told.value)
        live.log_metric(f"best_{metric}", told.best)
        live.make_summary()
        live.make_dvcyaml()

    def close(self) -> None:
        """End all; a training that was broken off keeps its curve."""
        for live in self._open.values():
            if not self._broken:
                live.end()
        self._open.clear()
