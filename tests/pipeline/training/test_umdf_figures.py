"""UMDF's Figures 3 to 6 end to end at a tiny size: trained once, tested on every rate, joint representations kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.data.masks import CONDITIONS
from pipeline.evaluate import write_arrays
from pipeline.params import Compute, Experiment
from pipeline.reporting.joint_space import joint_plane, read_joint
from pipeline.training.all_runs import train_experiment
from pipeline.training.evaluation import ScoreResult, evaluate_experiment
from pipeline.training.folds import make_folds
from pipeline.training.predictor import load_run
from pipeline.training.samples import read_samples
from tests import small_world
from tests.batches import SMALL

CPU = Compute(workers=1, device="cpu")
ONE = small_world.dataset(folds={"scheme": "session", "count": 1})
RATES = ("share-0", "share-25", "share-50", "share-100")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures") / "data"
    small_world.write(folder, 60)
    return folder


def experiment(model: str, **given: object) -> Experiment:
    settings: dict[str, object] = {"dataset": "small", "model": model, "task": "regression", "epochs": 1}
    settings |= {"batch_size": 16, "train_on": "mixed", "frame_rate_hz": {"audio": 10}}
    return Experiment.model_validate({**settings, "settings": SMALL.get(model, {}), **given})


@pytest.mark.parametrize("model", ["umdf", "gcnet", "cubemlp"])
def test_a_rate_of_0_is_the_whole_sample_and_a_rate_of_1_nothing_of_it(model: str, data: Path) -> None:
    train_experiment(model, experiment(model), ONE, 0, CPU, data)
    asked = ("conditions", "share-0", "share-25", "share-50", "share-100")
    (found,) = evaluate_experiment(model, ONE, experiment(model), asked, CPU, data).results
    assert isinstance(found, ScoreResult) and set(RATES) <= set(found.predicted)
    np.testing.assert_allclose(found.predicted["share-0"], found.predicted["avt"], rtol=1e-5, atol=1e-6)
    gone = found.predicted["share-100"]
    assert np.isfinite(gone).all()
    if model != "gcnet":  # whose turns still have a place in their dialogue
        np.testing.assert_allclose(gone, gone[0], rtol=1e-5, atol=1e-6)
    assert not np.allclose(found.predicted["share-50"], found.predicted["share-0"], atol=1e-6)


def test_joint_representations_of_half_a_text(data: Path) -> None:
    settings = experiment("umdf", evaluate_on="share-50", evaluate_conditions=True, keep_hidden=["joint"])
    train_experiment("hidden", settings, ONE, 0, CPU, data)
    kept = evaluate_experiment("hidden", ONE, settings, ("share-50",), CPU, data).hidden
    write_arrays(data / "hidden.npz", dict(kept))
    found = read_joint(data / "hidden.npz")
    assert found is not None and list(found.vectors) == list(CONDITIONS)
    samples = read_samples("small", ONE, {"audio": 10}, data, target="score")
    (fold,) = make_folds(samples.samples, ONE.folds)
    assert list(found.ids) == [samples.samples[index].id for index in fold.test]
    assert found.vectors["t"].shape == (len(found.ids), 120)
    assert joint_plane(found.vectors["t"]).shape == (len(found.ids), 2)
    assert not np.allclose(found.vectors["t"], found.vectors["at"], atol=1e-4)
    # in use the sample stands in both streams: the same without a second version
    predictor = load_run(data / "runs" / "hidden" / "1-1")
    prepared = samples.prepare(predictor.normalisers, torch.device("cpu"))
    whole = torch.tensor([[True, True, True]] * len(fold.test))
    with torch.no_grad():
        batch = prepared.collate(torch.from_numpy(fold.test), whole)
        again = replace(batch, views={"second": batch})
        alone, both = (predictor.network(one).hidden["joint"] for one in (batch, again))
    torch.testing.assert_close(alone, both)
