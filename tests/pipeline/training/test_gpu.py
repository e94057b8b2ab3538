"""What holds on a CUDA device: the numbers of the CPU, bfloat16 within its precision, training that learns."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import torch

from pipeline.data.masks import CONDITIONS, read_masks
from pipeline.params import Experiment, module_names
from pipeline.training.experiment import resolve
from pipeline.training.folds import make_folds
from pipeline.training.kept_runs import build
from pipeline.training.loop import Run, autocast, deterministic, fit
from pipeline.training.regimes import m3s
from pipeline.training.regimes.base import Step
from pipeline.training.regimes.standard import Regime, StandardSettings
from pipeline.training.samples import read_samples
from tests import small_world

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
MODELS = module_names("models")


def experiment(model: str, **settings: object) -> Experiment:
    train_on = "full" if model == "mctn" else "missing"
    given = {"dataset": "small", "model": model, "epochs": 8, "batch_size": 16, "train_on": train_on}
    return resolve(Experiment.model_validate({**given, **settings}))


@pytest.mark.parametrize("model", MODELS)
def test_forward_on_the_gpu_is_that_of_the_cpu(model: str, tmp_path: Path) -> None:
    small_world.write(tmp_path, 40)
    data = read_samples("small", small_world.dataset(), {"audio": 10}, tmp_path)
    fold = make_folds(data.samples, small_world.dataset().folds)[0]
    normalisers = data.fit_normalisers(fold.train)
    with deterministic(CPU, 0):
        network = build(experiment(model), data.dims, len(data.classes)).eval()
    found = {}
    for device in (CPU, CUDA):
        samples = data.prepare(normalisers, device)
        network.to(device)
        patterns = torch.tensor([CONDITIONS["at"]]).repeat(16, 1)
        with torch.no_grad():
            found[device.type] = network(samples.collate(torch.arange(16), patterns)).prediction.cpu()
    torch.testing.assert_close(found["cuda"], found["cpu"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_bfloat16_agrees_within_its_precision(model: str, tmp_path: Path) -> None:
    small_world.write(tmp_path, 40)
    data = read_samples("small", small_world.dataset(), {"audio": 10}, tmp_path)
    fold = make_folds(data.samples, small_world.dataset().folds)[0]
    samples = data.prepare(data.fit_normalisers(fold.train), CUDA)
    chosen = experiment(model, precision="bfloat16")
    with deterministic(CUDA, 0):
        network = build(chosen, data.dims, len(data.classes)).to(CUDA).eval()
    patterns = torch.tensor([CONDITIONS["avt"]]).repeat(16, 1)
    batch = samples.collate(torch.arange(16), patterns)
    with torch.no_grad():
        exact = network(batch).prediction.float()
        rough = autocast(network, chosen, CUDA)(batch).prediction.float()
    assert not torch.equal(exact, rough), "bfloat16 was not used"
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.05)


def test_one_seed_gives_one_result_and_learns(tmp_path: Path) -> None:
    small_world.write(tmp_path, 60)
    data = read_samples("small", small_world.dataset(), {"audio": 10}, tmp_path)
    fold = make_folds(data.samples, small_world.dataset().folds)[0]
    samples = data.prepare(data.fit_normalisers(fold.train), CUDA)
    histories = []
    for _ in range(2):
        with deterministic(CUDA, 0):
            network = build(experiment("mmin"), data.dims, len(data.classes)).to(CUDA)
        result = fit(
            network,
            Regime(StandardSettings()),
            samples,
            fold,
            experiment("mmin"),
            0,
            len(data.classes),
        )
        histories.append(result.history)
    assert histories[0] == histories[1]
    assert histories[0][-1]["train_loss"] < histories[0][0]["train_loss"]


@pytest.mark.parametrize("regime", module_names("pipeline.training.regimes"))
@pytest.mark.parametrize("model", MODELS)
def test_no_step_waits_for_the_device(model: str, regime: str, tmp_path: Path) -> None:
    """PyTorch itself raises where the host would wait; an epoch's sums are fetched after its steps."""
    small_world.write(tmp_path, 40)
    data = read_samples("small", small_world.dataset(), {"audio": 10}, tmp_path)
    fold = make_folds(data.samples, small_world.dataset().folds)[0]
    samples = data.prepare(data.fit_normalisers(fold.train), CUDA)
    chosen = experiment(model, regime=regime)
    owner = import_module(f"pipeline.training.regimes.{regime}").Regime
    with deterministic(CUDA, 0):
        network = build(chosen, data.dims, len(data.classes)).to(CUDA)
    method = owner(owner.Settings())
    run = Run(network, method, samples, fold, chosen, 0, len(data.classes), {})
    step = Step(network, run.forward, 3, 0, torch.Generator(), network.parameter_groups())
    network.train()
    network.epoch_start(1)
    indices, patterns = torch.arange(16), torch.tensor([CONDITIONS["at"]]).repeat(16, 1)
    optimizer = next(iter(run.optimizers.values()))
    for mode in ("default", "error"):  # the first step sets up what is set up once
        torch.cuda.set_sync_debug_mode(mode)
        try:
            for _ in range(2):
                batches = [samples.collate(indices, patterns, views=run.views)] * len(method.streams)
                method.gradients(step, batches)
                optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", ["block", "sampled", "columns", "frames", "mixed", "one-missing"])
def test_masks_are_those_of_the_cpu(name: str, tmp_path: Path) -> None:
    """Looked up and worked out, with and without an average of frames."""
    small_world.write(tmp_path, 40)
    masks = read_masks(tmp_path / "masks" / "small.h5")
    for rates in ({}, {"audio": 10}):
        data = read_samples("small", small_world.dataset(), rates, tmp_path, hides_frames=True)
        normalisers = data.fit_normalisers(make_folds(data.samples, small_world.dataset().folds)[0].train)
        one = data.named_masks(masks, [name])[name]
        for how in ("first", "hide"):
            left = {}
            for device in (CPU, CUDA):
                hiding = one.first(device) if how == "first" else one.hide(device, 0, 3)
                indices = torch.arange(30)
                patterns = hiding.present[indices]
                left[device.type] = data.prepare(normalisers, device).collate(indices, patterns, hiding)
            for modality, observed in left["cpu"].observed.items():
                found = left["cuda"].observed[modality].cpu()
                assert torch.equal(found, observed), (how, modality, rates)
                torch.testing.assert_close(
                    left["cuda"].features[modality].cpu(), left["cpu"].features[modality]
                )


@pytest.mark.parametrize("model", MODELS)
def test_the_second_order_has_the_kernels_that_it_needs(model: str, tmp_path: Path) -> None:
    small_world.write(tmp_path, 40)
    data = read_samples("small", small_world.dataset(), {"audio": 10}, tmp_path)
    fold = make_folds(data.samples, small_world.dataset().folds)[0]
    samples = data.prepare(data.fit_normalisers(fold.train), CUDA)
    chosen = experiment(model, regime="m3s", epochs=1)
    with deterministic(CUDA, 0):
        network = build(chosen, data.dims, len(data.classes)).to(CUDA)
    regime = m3s.Regime(m3s.M3SSettings(order="second"))
    assert len(fit(network, regime, samples, fold, chosen, 0, len(data.classes)).history) == 1
