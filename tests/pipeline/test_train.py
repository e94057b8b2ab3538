"""The training stage: what it writes, what it keeps, what it shares, and that a kill loses nothing."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml

from pipeline import train
from pipeline.data.store import FeatureStore, FeatureWriter
from pipeline.errors import StoreError, TrainingError
from pipeline.params import Compute, Experiment, Params
from pipeline.training import experiment as experiments
from pipeline.training import kept_runs, loop
from pipeline.training.all_runs import train_experiment
from pipeline.training.experiment import pretraining, resolve
from pipeline.training.folds import make_folds
from pipeline.training.kept_runs import (
    PlannedRun,
    code_checksums,
    load_normalisers,
    load_weights,
    train_run,
)
from pipeline.training.samples import SampleSet, read_samples
from tests import small_world

REPOSITORY = Path(__file__).parents[2]
TWO = small_world.dataset(folds={"scheme": "session", "count": 2})
FOLDS = TWO.folds
ONE = Compute(workers=1, device="cpu")


def experiment(model: str = "baseline", **settings: object) -> Experiment:
    given = {
        "dataset": "small",
        "model": model,
        "epochs": 2,
        "batch_size": 32,
        "frame_rate_hz": {"audio": 10},
    }
    return Experiment.model_validate({**given, **settings})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    small_world.write(folder, 40, missing=[("video", 3)])
    return folder


@pytest.fixture(scope="module")
def samples(world: Path) -> SampleSet:
    return read_samples("small", small_world.dataset(), {"audio": 10}, world)


@pytest.fixture
def data(world: Path, tmp_path: Path) -> Path:
    """Return a folder with the small dataset and no runs."""
    return laid_out(world, tmp_path)


def laid_out(world: Path, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name in ("manifests", "features", "masks"):
        (folder / name).symlink_to(world / name)
    return folder


def run(name: str, data: Path, compute: Compute = ONE, **settings: Any) -> Path:
    return train_experiment(name, experiment(**settings), TWO, 0, compute, data)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def count_fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let fit() write down whom it trains."""
    trained: list[str] = []
    original = kept_runs.fit

    def counting(network: Any, *arguments: Any, **named: Any) -> Any:
        trained.append(type(network).__module__)
        return original(network, *arguments, **named)

    monkeypatch.setattr(kept_runs, "fit", counting)
    return trained


def test_what_a_trained_experiment_leaves(data: Path) -> None:
    folder = run("aug", data, train_on="augmented", runs=2)
    assert folder == data / "runs" / "aug"
    assert sorted(path.name for path in folder.iterdir()) == ["1-1", "1-2", "2-1", "2-2", "summary.json"]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["experiment"] == "aug" and summary["classes"] == list(small_world.CLASSES)
    assert summary["modalities"] == {"text": 40, "audio": 40, "video": 39}
    assert (
        summary["needs"] == []
        and summary["runs"] == [0, 1]
        and summary["left_out"] == {}
        and summary["samples"] == 40
    )
    assert summary["folds"][0] == {
        "fold": 1,
        "description": "test Ses01; validate Ses02; train Ses03, Ses04, Ses05",
        "train": 24,
        "valid": 8,
        "test": 8,
    }
    facts = json.loads((folder / "2-2" / "run.json").read_text())
    assert (facts["fold"], facts["run"], facts["seed"], facts["model"]) == (2, 2, 1, "baseline")
    assert facts["features"]["audio"]["pool"] == 10 and facts["features"]["text"]["frame_period_s"] is None
    with (folder / "2-2" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    best = [row for row in rows if row["best"] == "1"][-1]
    assert facts["best_epoch"] == int(best["epoch"])
    assert facts["best_score"] == pytest.approx(float(best["valid_ua"]))
    weights = safetensors.torch.load_file(folder / "2-2" / "weights.safetensors")
    assert summary["parameters"] == facts["parameters"] == sum(value.numel() for value in weights.values())


def test_the_normaliser_is_that_of_the_folds_training_part(samples: SampleSet, data: Path) -> None:
    folder = run("full", data)
    for fold in make_folds(samples.samples, FOLDS):
        kept = load_normalisers(folder / f"{fold.number}-1" / "normaliser.safetensors")
        for modality, wanted in samples.fit_normalisers(fold.train).items():
            assert kept[modality].mean.tolist() == wanted.mean.tolist()
            assert kept[modality].scale.tolist() == wanted.scale.tolist()


def test_two_runs_give_equal_bytes(world: Path, tmp_path: Path) -> None:
    first = run("mmin", laid_out(world, tmp_path / "a"), model="mmin", train_on="missing")
    second = run("mmin", laid_out(world, tmp_path / "b"), model="mmin", train_on="missing")
    assert contents(first) == contents(second)


@pytest.mark.slow
def test_workers_change_no_byte(world: Path, tmp_path: Path) -> None:
    first = run("aug", laid_out(world, tmp_path / "a"), train_on="augmented")
    second = run(
        "aug", laid_out(world, tmp_path / "b"), Compute(workers=2, device="cpu"), train_on="augmented"
    )
    assert contents(first) == contents(second)


def test_what_is_finished_is_not_trained_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = count_fits(monkeypatch)
    before = contents(run("one", data))
    assert len(trained) == 2
    assert contents(run("one", data)) == before
    run("by-another-name", data, evaluate_on=("block",))
    assert len(trained) == 2
    run("one", data, runs=2)
    assert len(trained) == 4
    run("one", data, learning_rate=0.002)
    assert len(trained) == 6


def test_the_pretrained_baseline_is_the_full_modality_experiments(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = count_fits(monkeypatch)
    full = run("full", data)
    assert trained == ["models.baseline"] * 2
    run("mmin", data, model="mmin", train_on="missing")
    assert trained == ["models.baseline"] * 2 + ["models.mmin"] * 2
    for name in ("1-1", "2-1"):
        teacher = safetensors.torch.load_file(data / "runs" / "mmin" / name / "weights.safetensors")
        for key, value in safetensors.torch.load_file(full / name / "weights.safetensors").items():
            if key.startswith("encoders."):
                assert torch.equal(teacher[key.replace("encoders.", "teacher.")], value)


def test_without_that_experiment_the_baseline_is_trained_on_the_way(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = count_fits(monkeypatch)
    run("mmin", data, model="mmin", train_on="missing")
    assert trained == ["models.baseline", "models.mmin"] * 2


def test_what_pretraining_takes_from_the_experiment() -> None:
    given = experiment("mmin", learning_rate=0.01, patience=4, epochs=7, weight_decay=0.1, clip_norm=1.0)
    before = pretraining(resolve(given))
    assert before is not None
    assert (before.model, before.train_on, before.learning_rate) == ("baseline", "full", 1e-3)
    assert (before.patience, before.epochs, before.batch_size) == (4, 7, 32)
    assert before.frame_rate_hz == {"audio": 10} and before.weight_decay == 0 and before.clip_norm is None
    assert pretraining(experiment("baseline")) is None


def test_the_references_variant_starts_from_its_own_baseline() -> None:
    before = pretraining(resolve(Experiment(dataset="small", model="mmin", settings={"variant": "code"})))
    assert before is not None and before.settings == {"variant": "code"}
    assert (before.epochs, before.decay_epochs, before.learning_rate) == (20, 10, 2e-4)  # 10 and 10 more
    short = Experiment(dataset="small", model="mmin", settings={"variant": "code"}, epochs=3)
    before = pretraining(resolve(short))
    assert before is not None and before.epochs == 3


@pytest.mark.parametrize(
    ("epochs", "decay"), [(None, 30), (60, 30), (10, 5), (30, 15), (7, 3), (1, 0), (100, 50)]
)
def test_a_recipes_decay_is_its_share_of_the_epochs(epochs: int | None, decay: int) -> None:
    given = {} if epochs is None else {"epochs": epochs}
    found = resolve(Experiment(dataset="small", model="mmin", settings={"variant": "code"}, **given))
    assert (found.epochs, found.decay_epochs) == (epochs or 60, decay)
    factors = [loop.decay(epoch, found) for epoch in range(1, found.epochs + 1)]
    assert factors[0] == 1 and factors == sorted(factors, reverse=True) and factors[-1] > 0
    before = pretraining(found)
    assert before is not None and loop.decay(1, before) == 1
    own = resolve(
        Experiment(dataset="small", model="mmin", settings={"variant": "code"}, epochs=40, decay_epochs=4)
    )
    assert own.decay_epochs == 4


def test_a_variants_recipe_gives_way_to_the_experiment() -> None:
    code = resolve(Experiment(dataset="small", model="mmin", settings={"variant": "code"}, epochs=5))
    assert (code.epochs, code.train_on, code.learning_rate, code.clip_groups) == (
        5,
        "random-condition",
        2e-4,
        True,
    )
    paper = resolve(Experiment(dataset="small", model="mmin"))
    assert (paper.train_on, paper.learning_rate, paper.beta1) == ("missing", 1e-3, 0.9)
    assert resolve(Experiment(dataset="small", model="mmin", train_on="full")).train_on == "full"


def test_a_key_covers_all_that_changes_the_numbers(samples: SampleSet, tmp_path: Path) -> None:
    folds = make_folds(samples.samples, FOLDS)

    def key(seed: int = 0, fold: int = 0, of: SampleSet = samples, **settings: object) -> str:
        return PlannedRun(resolve(experiment(**settings)), folds[fold], seed, "cpu", tmp_path).key(of)  # type: ignore[arg-type]

    small_world.write(tmp_path, 40, missing=[("video", 3)], noise=0.6)
    others = read_samples("small", small_world.dataset(), {"audio": 10}, tmp_path)
    slower = read_samples("small", small_world.dataset(), {"audio": 5}, tmp_path)
    keys = [
        key(),
        key(seed=1),
        key(fold=1),
        key(of=others),
        key(of=slower),
        key(settings={"dropout": 0.1}),
        key(batch_size=8),
        key(train_on="augmented"),
        key(model="mmin"),
    ]
    assert len(set(keys)) == len(keys)
    assert key(runs=3, evaluate_on=("block",), keep_hidden=["embedding"]) == keys[0]
    assert key(folds={"scheme": "random"}) == keys[0], "what follows from the split is in the key"


def test_a_key_covers_how_the_network_it_starts_from_is_trained(
    samples: SampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = make_folds(samples.samples, FOLDS)[0]

    def keys() -> tuple[str, str]:
        found = [
            PlannedRun(resolve(experiment(m)), fold, 0, "cpu", tmp_path).key(samples)
            for m in ("mmin", "baseline")
        ]
        return found[0], found[1]

    before = keys()
    fewer = tuple(name for name in experiments.INHERITED if name != "epochs")
    monkeypatch.setattr(experiments, "INHERITED", fewer)
    after = keys()
    assert after[0] != before[0]  # its baseline is trained for 100 epochs now
    assert after[1] == before[1]


@pytest.mark.parametrize("when", ["fit", "state", "weights", "history"])
def test_two_processes_that_train_the_same_leave_one_result(
    samples: SampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The second does all its work while the first trains its baseline, or writes its state or its result."""
    fold = make_folds(samples.samples, FOLDS)[0]
    job = PlannedRun(resolve(experiment("mmin", train_on="missing")), fold, 0, "cpu", tmp_path / "cache")
    alone = train_run(PlannedRun(job.experiment, fold, 0, "cpu", tmp_path / "alone"), samples)
    started: list[Path] = []

    def second() -> None:
        if not started:
            started.append(tmp_path)
            with monkeypatch.context() as other:
                other.setattr(os, "getpid", lambda: 1)
                started[0] = train_run(job, samples)

    fitted, written, told = kept_runs.fit, safetensors.torch.save_file, kept_runs._history_csv

    def fit(*arguments: Any, **named: Any) -> Any:
        if when == "fit":
            second()
        return fitted(*arguments, **named, save_every_s=0.0)

    def save(tensors: Any, path: Path, *arguments: Any) -> None:
        written(tensors, path, *arguments)
        if when in ("state", "weights") and (f".{when}" in path.name or path.name.startswith(when)):
            second()

    def tell(history: Any) -> str:
        if when == "history":
            second()
        return told(history)

    monkeypatch.setattr(kept_runs, "fit", fit)
    monkeypatch.setattr(safetensors.torch, "save_file", save)
    monkeypatch.setattr(kept_runs, "_history_csv", tell)
    first = train_run(job, samples)
    assert started == [first] and contents(first) == contents(alone)
    left = [path.name for path in (tmp_path / "cache").iterdir()]
    assert len(left) == 2 and all("." not in name for name in left)  # the baseline and MMIN


def test_a_result_that_cannot_be_put_in_its_place_is_an_error(samples: SampleSet, tmp_path: Path) -> None:
    job = PlannedRun(resolve(experiment(epochs=1)), make_folds(samples.samples, FOLDS)[0], 0, "cpu", tmp_path)
    damaged = tmp_path / job.key(samples)
    damaged.mkdir()
    (damaged / "weights.safetensors").touch()  # but no fit.json
    with pytest.raises(StoreError, match="is there, but not whole"):
        train_run(job, samples)
    assert [path.name for path in tmp_path.iterdir()] == [damaged.name]


def test_other_token_ids_are_another_key(world: Path, samples: SampleSet, tmp_path: Path) -> None:
    shutil.copytree(world, tmp_path / "data")
    with FeatureStore(world / "features/small/text.h5") as store:
        rows = list(zip(store.ids, store, strict=True))
        info = store.info
    keys = []
    for more in (0, 1):
        with FeatureWriter(tmp_path / "data/features/small/text.h5", info) as writer:
            for name, row in rows:
                assert row.token_ids is not None
                writer.append(name, replace(row, token_ids=row.token_ids + more))
        others = read_samples("small", small_world.dataset(), {"audio": 10}, tmp_path / "data")
        fold = make_folds(others.samples, FOLDS)[0]
        keys.append(PlannedRun(resolve(experiment()), fold, 0, "cpu", tmp_path).key(others))
    fold = make_folds(samples.samples, FOLDS)[0]
    assert keys[0] == PlannedRun(resolve(experiment()), fold, 0, "cpu", tmp_path).key(samples) != keys[1]


def test_the_log_says_which_columns_a_model_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    small_world.write(tmp_path / "data", 40)
    monkeypatch.chdir(tmp_path)
    dataset = small_world.dataset(folds={"scheme": "session", "count": 1})
    params = Params(
        datasets={"small": dataset}, experiments={"one": experiment(epochs=1, frame_rate_hz={})}, compute=ONE
    )
    with caplog.at_level(logging.INFO, "lacuna"):
        train.main(params, "one")
    facts = json.loads((tmp_path / "data/runs/one/1-1/run.json").read_text())["features"]
    lines = [record.getMessage() for record in caplog.records]
    for modality, named in (
        ("text", "12 columns, t0 .. t11"),
        ("audio", "8 columns, a0 .. a7"),
        ("video", "6 columns, v0 .. v5"),
    ):
        checksum = facts[modality]["values_sha256"][:12]
        assert lines.count(f"{modality}: made, {named}, sha256 {checksum}") == 1


def test_a_key_stands_on_the_code_that_a_run_uses_and_on_no_other() -> None:
    found = set(code_checksums(["models.mmin", "pipeline.training.regimes.standard"]))
    assert found == {
        "models.base",
        "models.baseline",
        "models.layers",
        "models.mmin",
        "pipeline.training.regimes.base",
        "pipeline.training.regimes.standard",
    }


@pytest.mark.parametrize("model", ["baseline", "mmin"])
def test_a_run_killed_between_epochs_goes_on_bit_for_bit(
    samples: SampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    settings = resolve(experiment(model, epochs=3, train_on="augmented"))
    fold = make_folds(samples.samples, FOLDS)[0]
    whole = train_run(PlannedRun(settings, fold, 0, "cpu", tmp_path / "whole"), samples)
    original = kept_runs.fit

    def killed(network: Any, *arguments: Any, **named: Any) -> Any:
        def kill(epoch: int) -> None:
            if epoch == 2 and type(network).__module__ == f"models.{model}":
                raise KeyboardInterrupt

        return original(network, *arguments, **named, save_every_s=0.0, after_epoch=kill)

    job = PlannedRun(settings, fold, 0, "cpu", tmp_path / "broken")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(kept_runs, "fit", killed)
        train_run(job, samples)
    assert list((tmp_path / "broken").glob("*.state"))
    assert contents(train_run(job, samples)) == contents(whole)
    assert not list((tmp_path / "broken").glob("*.state"))


def test_weights_of_another_network_or_cut_short_are_refused(samples: SampleSet, data: Path) -> None:
    folder = run("full", data)
    weights = folder / "1-1" / "weights.safetensors"
    other = kept_runs.build(experiment("mmin"), samples.dims, 4)
    with pytest.raises(StoreError, match="not the weights of this network"):
        load_weights(other, weights)
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(StoreError, match="not a whole safetensors file"):
        load_weights(kept_runs.build(experiment(), samples.dims, 4), weights)
    with pytest.raises(StoreError, match="not a whole safetensors file"):
        load_normalisers(folder / "no.safetensors")


def write_tree(folder: Path, epochs: int) -> None:
    """Write a project with the small dataset and one experiment on it."""
    small_world.write(folder / "data", 40)
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    folds = {"scheme": "session", "count": 3}
    small = {**params["datasets"]["demo"], "folds": folds, "labels": list(small_world.CLASSES)}
    params["datasets"] = {"small": small}
    settings = {"dataset": "small", "model": "baseline", "train_on": "augmented", "epochs": epochs}
    params["experiments"] = {"aug": settings}
    params["report"] = {}
    params["compute"]["workers"] = 2
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipeline.train", "aug"]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.slow
def test_a_stage_that_was_killed_keeps_what_was_finished(tmp_path: Path) -> None:
    for name in ("whole", "broken"):
        write_tree(tmp_path / name, epochs=15)
    broken = start(tmp_path / "broken")
    cache = tmp_path / "broken" / "data" / "cache" / "runs"
    until = time.monotonic() + 240
    while not finished_in(cache) and broken.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(broken.pid, signal.SIGKILL)
    broken.communicate()
    while workers_of(tmp_path / "broken") and time.monotonic() < until:
        time.sleep(0.05)  # they end by themselves
    assert not workers_of(tmp_path / "broken")
    kept = len(finished_in(cache))
    assert 1 <= kept < 3
    again = start(tmp_path / "broken")
    _, log = again.communicate()
    assert again.returncode == 0, log
    assert f"{kept} of 3 runs are finished already" in log
    whole = start(tmp_path / "whole")
    _, log = whole.communicate()
    assert whole.returncode == 0, log
    assert contents(tmp_path / "broken" / "data" / "runs") == contents(tmp_path / "whole" / "data" / "runs")


def finished_in(cache: Path) -> list[Path]:
    """Return the finished runs of a cache."""
    return [path for path in cache.glob("*/fit.json") if "." not in path.parent.name]


def workers_of(folder: Path) -> list[str]:
    """Return the processes that still work in a folder (Linux)."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == folder.resolve():
                found.append(process.name)
        except OSError:
            continue
    return found


def test_features_that_are_no_use_end_with_a_message(data: Path) -> None:
    with pytest.raises(TrainingError, match="learning_rate"):
        run("full", data, learning_rate=1e30, epochs=4)
    assert not list((data / "cache" / "runs").glob("*/fit.json"))


def test_live_files_change_no_byte(world: Path, tmp_path: Path) -> None:
    pytest.importorskip("dvclive")
    folders = []
    for name, live in (("with", True), ("without", False)):
        data = laid_out(world, tmp_path / name)
        folders.append(run("full", data, Compute(device="cpu", workers=2, dvclive=live)))
        written = sorted(path.name for path in (data / "live/full").glob("*/metrics.json"))
        assert bool(written) is live
    assert contents(folders[0]) == contents(folders[1])
