"""A trained run as a predictor: features in, class probabilities (of a regression, a score) out.

``load_run(folder)`` opens data/runs/EXPERIMENT/<fold>-<run>/, which holds all that is needed: weights, the
fold's statistics, and which extractors made the features. A modality that is missing is simply not given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.base import Network
from pipeline.data.manifest import MODALITIES, Sample, Word
from pipeline.data.store import FeatureInfo, FeatureSequence, Status
from pipeline.errors import StoreError
from pipeline.extraction.alignment import Align, aligned
from pipeline.params import Experiment, Length
from pipeline.training.experiment import recorded
from pipeline.training.kept_runs import FORMAT, build, load_normalisers, load_weights
from pipeline.training.loop import deterministic
from pipeline.training.metrics import Scale
from pipeline.training.samples import SampleSet
from pipeline.training.sequences import Normaliser, Sequences, read_frames


@dataclass(frozen=True)
class Predictor:
    """A trained network with its normalisation.

    Attributes:
        facts: run.json. ``facts["features"][modality]`` names the extractor, its settings and its columns.
        experiment: what was trained, by the record in run.json.
        network: in evaluation mode, on the CPU.
        normalisers: modality -> the statistics of the training part.
    """

    facts: Mapping[str, Any]
    experiment: Experiment
    network: Network
    normalisers: Mapping[str, Normaliser]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; none of a regression."""
        return tuple(self.facts["classes"])

    @property
    def regression(self) -> bool:
        """Whether it predicts a score."""
        return bool(self.facts.get("task", "classification") == "regression")

    @property
    def scale(self) -> Scale:
        """The scale of a regression's target.

        Raises:
            StoreError: the run was trained by a version that did not write them down.
        """
        try:
            return Scale(**self.facts["scale"])
        except (KeyError, TypeError) as error:
            raise StoreError(
                f"{self.facts['experiment']}: run.json has no scale of what was learnt. Run: dvc repro -f -s train"
            ) from error

    def align(self, modality: str, sequence: FeatureSequence, words: Sequence[Word] = ()) -> FeatureSequence:
        """Return what an extractor made, averaged over words or resampled as the run's features were.

        Args:
            modality: text, audio or video.
            sequence: as extracted.
            words: with times from the sample's start; needed where the run's features are aligned with words:
                without them the modality is missing.
        """
        return aligned(sequence, words, self._align(modality))

    def predict(self, features: Mapping[str, FeatureSequence | None]) -> dict[str, float]:
        """Return class -> probability for one sample, or, of a regression, its target -> the score.

        Args:
            features: modality -> what the run's own extractor made of it, through :meth:`align`. A modality
                that is not named, is None, or whose status is not ok, is missing.

        Raises:
            StoreError: features have another number of columns, or of rows, than the run was trained with.
        """
        asked = self.network.facts(self.network.settings)
        if asked:
            raise StoreError(
                f"{self.facts['experiment']}: its {self.facts['model']} must be told {', '.join(asked)} of each "
                "sample, which nobody knows of a new one. Predict with an experiment without such settings"
            )
        modalities = {m: self._sequences(m, features.get(m)) for m in MODALITIES}
        samples = SampleSet((Sample(id="given"),), self.classes, np.zeros(1, np.int64), modalities, {})
        # To a model that reads dialogues, the sample is one of a single turn.
        turns = (torch.ones(1, dtype=torch.int64), np.ones(1, bool)) if self.network.dialogues else None
        batch = samples.prepare(self.normalisers, torch.device("cpu")).collate(
            torch.zeros(1, dtype=torch.int64), turns=turns
        )
        with deterministic(torch.device("cpu"), 0), torch.no_grad():
            prediction = self.network(replace(batch, labels=None)).prediction.double()  # there are none
        if self.regression:
            return {str(self.facts["target"]): float(prediction) + self.scale.centre}
        chances = torch.softmax(prediction, dim=1)[0]
        return dict(zip(self.classes, chances.tolist(), strict=True))

    def _align(self, modality: str) -> Align:
        found: Align = self.facts["features"][modality]["settings"].get("align", "none")
        return found

    def _sequences(self, modality: str, given: FeatureSequence | None) -> Sequences:
        about = self.facts["features"][modality]
        dims = len(about["columns"])
        info = FeatureInfo(
            str(self.facts["dataset"]),
            modality,
            about["extractor"],
            about["settings"],
            tuple(about["columns"]),
            about["frame_period_s"],
            "",
        )
        if given is None or given.status is not Status.OK:
            given = FeatureSequence.absent(dims, Status.MISSING, "not given")
        given.check(
            dims, f"the {modality} features given to {self.facts['experiment']} ({about['extractor']})"
        )
        align = self._align(modality)
        if isinstance(align, int) and given.status is Status.OK and len(given.times) != align:
            raise StoreError(
                f"{self.facts['experiment']} was trained on {align} rows of {modality} a sample, found "
                f"{len(given.times)}. Align what the extractor made with Predictor.align"
            )
        observed = given.flags > 0
        values = np.where(observed[:, None], given.values, np.float32(0))
        tokens = given.token_ids if given.token_ids is not None and (given.token_ids >= 0).all() else None
        if not len(given.times):  # a model that reads token ids sees one [UNK]
            tokens = np.zeros(0, np.int64)
        return read_frames(
            values,
            observed,
            np.zeros(1, np.int64),
            np.array([len(given.times)]),
            info,
            about["values_sha256"],
            tokens,
            int(about["pool"]),
            None if about["length"] is None else Length.model_validate(about["length"]),
        )


def load_run(folder: Path) -> Predictor:
    """Open a trained run.

    Args:
        folder: data/runs/EXPERIMENT/<fold>-<run>.

    Raises:
        StoreError: a file is absent, damaged, or of another version.
    """
    path = folder / "run.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({error}). Make it with: dvc repro train") from error
    if facts.get("format") != FORMAT:
        raise StoreError(
            f"{path}: found format {facts.get('format')}, expected {FORMAT}. Run: dvc repro -f -s train"
        )
    experiment = recorded(facts, path)
    dims = {modality: len(facts["features"][modality]["columns"]) for modality in MODALITIES}
    with deterministic(torch.device("cpu"), 0):
        network = build(experiment, dims, len(facts["classes"]) or 1)
    load_weights(network, folder / "weights.safetensors")
    return Predictor(facts, experiment, network.eval(), load_normalisers(folder / "normaliser.safetensors"))


def predict(
    predictors: Sequence[Predictor], features: Mapping[str, FeatureSequence | None]
) -> dict[str, float]:
    """Return class -> mean probability over several runs, such as all folds of an experiment; of a
    regression, target -> mean score.

    Raises:
        StoreError: features do not fit a run, or there is no run.
    """
    if not predictors:
        raise StoreError("there is no run to predict with. Make one with: dvc repro train")
    each = [predictor.predict(features) for predictor in predictors]
    return {name: sum(one[name] for one in each) / len(each) for name in each[0]}
