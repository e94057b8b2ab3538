"""The training loop: best epoch, early stop, rates, clipping, resuming, one result for one seed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from models.base import Batch, ModelSettings, Network, Output
from pipeline.data.masks import CONDITIONS, read_masks
from pipeline.errors import TrainingError
from pipeline.params import Experiment
from pipeline.training.batching import DeviceSamples
from pipeline.training.experiment import resolve
from pipeline.training.folds import Fold, make_folds
from pipeline.training.kept_runs import build
from pipeline.training.loop import (
    Fit,
    by_length,
    choose_device,
    decay,
    deterministic,
    fit,
    halvings,
    onednn_has_lstm,
    predict,
    save_tensors,
)
from pipeline.training.metrics import Scale
from pipeline.training.regimes.base import Step, Stream
from pipeline.training.regimes.standard import Regime, StandardSettings
from pipeline.training.samples import derive_seed, read_samples
from pipeline.training.training_set import Pairs, relative_lengths, showings, validation_showings
from tests import small_world

CPU = torch.device("cpu")
World = tuple[DeviceSamples, Fold, dict[str, int]]


class TinyModel(Network):
    """Means over time, dropout, one layer: quick, and uses PyTorch's generator in training."""

    Settings = ModelSettings

    def __init__(self, settings: object, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__(settings, dims, outputs)
        self.layer = nn.Sequential(nn.Linear(sum(dims.values()), 16), nn.Dropout(0.3), nn.Linear(16, outputs))
        self.seen: list[int] = []
        self.register_buffer("epochs_seen", torch.zeros(()))

    def epoch_start(self, epoch: int) -> None:
        self.seen.append(epoch)
        self.epochs_seen += 1

    def forward(self, batch: Batch) -> Output:
        means = [values.mean(dim=1) for values in batch.features.values()]
        logits = self.layer(torch.cat(means, dim=1))
        loss = nn.functional.cross_entropy(logits, batch.labels)
        return Output(logits, {"classification": loss})

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"first": list(self.layer[0].parameters()), "last": list(self.layer[2].parameters())}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("data")
    small_world.write(folder, 60)
    samples = read_samples("small", small_world.dataset(), {"audio": 10}, folder)
    fold = make_folds(samples.samples, small_world.dataset().folds)[0]
    return samples.prepare(samples.fit_normalisers(fold.train), CPU), fold, samples.dims


def experiment(**settings: object) -> Experiment:
    given = {"dataset": "small", "model": "baseline", "epochs": 6, "batch_size": 16, "train_on": "missing"}
    return Experiment.model_validate({**given, **settings})


def make(dims: dict[str, int], seed: int = 0) -> TinyModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return TinyModel(None, dims, 4)


def run(world: World, seed: int = 3, **how: object) -> tuple[Fit, TinyModel]:
    samples, fold, dims = world
    settings = how.pop("experiment", None) or experiment()
    network = make(dims)
    result = fit(network, Regime(StandardSettings()), samples, fold, settings, seed, 4, **how)  # type: ignore[arg-type]
    return result, network


def resumed(world: World, folder: Path, settings: Experiment) -> Fit:
    """Return what a run gives that was stopped after three epochs."""

    class Stopped(Exception):
        pass

    def stop(epoch: int) -> None:
        if epoch == 3:
            raise Stopped

    state = folder / "state"
    with pytest.raises(Stopped):
        run(world, experiment=settings, state=state, save_every_s=0, after_epoch=stop)
    return run(world, experiment=settings, state=state)[0]


def assert_same(first: Network, second: Network) -> None:
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_one_seed_is_one_result_whatever_the_global_generator(world: World) -> None:
    torch.manual_seed(1)
    one, first = run(world)
    torch.manual_seed(2)
    torch.rand(5)
    two, second = run(world)
    assert one == two
    assert_same(first, second)
    other, _ = run(world, seed=4)
    assert other.history != one.history


def test_training_leaves_the_global_state_as_it_was(world: World) -> None:
    torch.manual_seed(11)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    run(world)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads and not torch.are_deterministic_algorithms_enabled()


class Killed(Exception):
    """Stands for a kill between two epochs."""


@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_killed_run_goes_on_bit_for_bit(world: World, tmp_path: Path, at: int) -> None:
    whole, unbroken = run(world)
    state = tmp_path / "state"

    def kill(epoch: int) -> None:
        if epoch == at:
            raise Killed

    with pytest.raises(Killed):
        run(world, state=state, save_every_s=0.0, after_epoch=kill)
    assert state.is_file()
    resumed, network = run(world, state=state)
    assert network.seen == list(range(at + 1, 7))
    assert resumed == whole
    assert_same(unbroken, network)
    assert not state.exists()


def test_a_state_that_was_cut_short_starts_anew(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, _ = run(world)
    state = tmp_path / "state"
    save_tensors(state, {"network.x": torch.zeros(100)})
    state.write_bytes(state.read_bytes()[:-50])
    result, network = run(world, state=state)
    assert "starts from the beginning" in caplog.text
    assert network.seen[0] == 1 and result == whole


def test_the_best_epoch_is_kept(world: World) -> None:
    result, network = run(world, experiment=experiment(epochs=8))
    scores = [(row["valid_ua"], -row["valid_loss"]) for row in result.history]
    assert result.best_epoch == scores.index(max(scores)) + 1
    better = [score > max(scores[:index], default=(-1.0, 0.0)) for index, score in enumerate(scores)]
    assert [row["best"] for row in result.history] == [int(is_better) for is_better in better]
    samples, fold, _ = world
    ways = validation_showings("missing", None, {}, CPU, 3)
    logits = predict(network, network, samples, fold.valid, ways)
    right = logits.argmax(dim=2) == samples.labels[torch.from_numpy(fold.valid)][:, None]
    assert right.double().mean().item() == pytest.approx(result.history[result.best_epoch - 1]["valid_wa"])


def test_history_has_a_row_an_epoch_and_its_losses_fall(world: World) -> None:
    result, _ = run(world, experiment=experiment(epochs=30))
    assert [row["epoch"] for row in result.history] == list(range(1, 31))
    assert list(result.history[0]) == [
        "epoch",
        "learning_rate",
        "train_loss",
        "train_classification",
        "valid_loss",
        "valid_wa",
        "valid_ua",
        "valid_macro_f1",
        "valid_weighted_f1",
        "best",
    ]
    assert result.history[-1]["train_loss"] < 0.7 * result.history[0]["train_loss"]


def test_patience_ends_a_run(world: World) -> None:
    result, network = run(world, experiment=experiment(epochs=200, patience=2, learning_rate=0.03))
    assert len(result.history) == result.best_epoch + 2 < 200
    assert network.seen == list(range(1, result.best_epoch + 3))


def test_full_training_is_validated_whole_the_rest_under_six_conditions() -> None:
    def shown(train_on: str) -> dict[str, list[list[bool]]]:
        ways = validation_showings(train_on, None, {}, CPU, 0)
        assert all(way.hiding is None for way in ways)
        return {way.name: way.patterns.tolist() for way in ways}

    assert shown("full") == {"avt": [[True, True, True]]}
    for train_on in ("missing", "augmented", "random-condition"):
        assert shown(train_on) == {
            name: [list(pattern)] for name, pattern in CONDITIONS.items() if name != "avt"
        }
    assert shown("at") == {"at": [[True, True, False]]}


def test_a_loss_that_is_no_number_stops_the_run(world: World) -> None:
    samples, fold, dims = world
    flat = dict(samples.flat)
    values = flat["audio"].values.clone()
    values[flat["audio"].starts[fold.train[0]]] = float("nan")
    flat["audio"] = replace(flat["audio"], values=values)
    broken = replace(samples, flat=flat)
    with pytest.raises(TrainingError, match=r"epoch 1, fold 1: the losses are .*nan.*learning_rate"):
        fit(make(dims), Regime(StandardSettings()), broken, fold, experiment(), 0, 4)


def test_epochs_are_selected_by_a_metric_of_the_task(world: World) -> None:
    with pytest.raises(ValidationError, match='found select_by "mae"; a classification has: wa, ua'):
        experiment(select_by="mae")
    with pytest.raises(ValidationError, match='found select_by "ua"; a regression has: mae, loss, r'):
        experiment(task="regression", select_by="ua")
    assert experiment(task="regression").select_by == "mae"
    found, _ = run(world, experiment=experiment(select_by="loss"))
    losses = [row["valid_loss"] for row in found.history]
    assert found.best_score == min(losses) and found.best_epoch == losses.index(min(losses)) + 1


def test_halvings_by_hand() -> None:
    for losses, expected in (
        ([], 0),
        ([3, 2, 1], 0),
        ([3, 3, 3], 0),  # two epochs without a lower loss are waited for
        ([3, 3, 3, 3], 1),
        ([3, 4, 2, 2, 2, 2, 2, 2, 2], 2),
        ([3, 2.9999, 2.9998, 2.9997], 1),  # lower, but not by a ten-thousandth
    ):
        assert halvings(losses, 2) == expected
    assert [halvings([1.0] * epochs, 20) for epochs in (21, 22, 42, 43)] == [0, 1, 1, 2]


def test_halvings_are_those_of_reduce_on_plateau() -> None:
    generator = np.random.default_rng(0)
    losses = (1 + generator.random(200) / (1 + np.arange(200) / 50)).tolist()
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(()))], 1.0)
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=3, eps=0.0)
    for epoch, loss in enumerate(losses, start=1):
        peer.step(loss)
        assert optimizer.param_groups[0]["lr"] == 0.5 ** halvings(losses[:epoch], 3)


def test_rates_are_halved_on_a_plateau_and_a_resume_knows(world: World, tmp_path: Path) -> None:
    def rates(found: Fit) -> list[float]:
        return [row["learning_rate"] for row in found.history]

    settings = experiment(learning_rate=0.5, halve_after=1)  # too fast: the loss goes up and down
    found, _ = run(world, experiment=settings)
    losses = [row["valid_loss"] for row in found.history]
    wanted = [0.5 * 0.5 ** halvings(losses[:epoch], 1) for epoch in range(6)]
    assert rates(found) == wanted and wanted[-1] < 0.5
    assert resumed(world, tmp_path, settings) == found


def test_accumulated_gradients_are_the_mean_of_the_batches(world: World) -> None:
    """With equal batches and no dropout, two of 8 make the step of one of 16."""

    class Sums(TinyModel):  # padding is nothing to a sum
        def forward(self, batch: Batch) -> Output:
            logits = self.layer(torch.cat([values.sum(dim=1) for values in batch.features.values()], dim=1))
            return Output(logits, {"classification": nn.functional.cross_entropy(logits, batch.labels)})

    samples, fold, dims = world
    fold = replace(fold, train=fold.train[:32])
    given = {"train_on": "full", "epochs": 2, "clip_norm": 0.1}
    networks = []
    for batches in ({"batch_size": 16}, {"batch_size": 8, "accumulate": 2}):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = Sums(None, dims, 4)
        network.layer[1].p = 0.0
        fit(network, Regime(StandardSettings()), samples, fold, experiment(**given, **batches), 0, 4)
        networks.append(network)
    for one, other in zip(*(n.parameters() for n in networks), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_last_step_takes_the_batches_that_are_left(world: World) -> None:
    samples, fold, dims = world
    fold = replace(fold, train=fold.train[:20])
    given = {"train_on": "full", "epochs": 1, "batch_size": 8}
    whole, rest = make(dims), make(dims)
    for network, accumulate in ((whole, 3), (rest, 50)):
        settings = experiment(**given, accumulate=accumulate)
        fit(network, Regime(StandardSettings()), samples, fold, settings, 0, 4)
    assert_same(whole, rest)


def test_clipping_by_value(world: World) -> None:
    seen: list[float] = []

    class Watched(torch.optim.Adam):
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            every = [p.grad for group in self.param_groups for p in group["params"]]
            seen.append(max(float(g.abs().max()) for g in every))
            super().step()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.optim, "Adam", Watched)
        run(world, experiment=experiment(clip_value=0.001, epochs=1))
    assert seen and max(seen) == pytest.approx(0.001)


def test_a_rate_for_a_group_that_is_not_there(world: World) -> None:
    with pytest.raises(TrainingError, match=r'no parameter group "lastt"; .* has first, last.*mean "last"'):
        run(world, experiment=experiment(learning_rates={"lastt": 0.1}))
    with pytest.raises(TrainingError, match=r'weight_decays: .*"firstt"; .* has first, last.*mean "first"'):
        run(world, experiment=experiment(weight_decays={"firstt": 0.1}))


def test_batches_by_length_hold_everyone_once_and_like_lengths() -> None:
    count, size = 1000, 16
    cost = torch.rand(count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def draw(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return by_length(torch.randperm(count, generator=generator), cost, size, generator)

    order = draw(1)
    assert sorted(order.tolist()) == list(range(count))
    assert torch.equal(order, draw(1)) and not torch.equal(order, draw(2))
    spread = [float(cost[part].max() - cost[part].min()) for part in order.split(size)[:-1]]
    assert max(spread) < 0.25  # of a shuffled batch it is about 0.9
    begins = [float(cost[part].mean()) for part in order.split(size)[:-1]]
    assert begins != sorted(begins)
    for few in (1, 15, 16, 17):
        assert sorted(by_length(torch.arange(few), cost, size, torch.Generator()).tolist()) == list(
            range(few)
        )


def test_relative_lengths_by_hand(world: World) -> None:
    samples = world[0]
    indices = torch.tensor([0, 1])
    patterns = torch.tensor([[True, False, True], [True, True, False]])
    found = relative_lengths(samples, Pairs(indices, patterns))
    sizes = {m: samples.flat[m].lengths_cpu[indices].tolist() for m in ("text", "audio", "video")}
    text, video, audio = sizes["text"], [sizes["video"][0], 1], [1, sizes["audio"][1]]
    wanted = [sum(2 * one[i] / sum(one) for one in (text, audio, video)) for i in range(2)]
    assert found.tolist() == pytest.approx(wanted)
    dialogue = relative_lengths(samples, Pairs(indices, patterns, sizes=torch.tensor([2])))
    assert dialogue.tolist() == pytest.approx([sum(wanted)])


def test_batches_by_length_resume_bit_for_bit(world: World, tmp_path: Path) -> None:
    settings = experiment(batches="by-length", accumulate=3)
    found, _ = run(world, experiment=settings)
    assert resumed(world, tmp_path, settings) == found
    assert found.history != run(world, experiment=experiment(accumulate=3))[0].history


def test_watching_the_test_part_changes_nothing_but_the_curves(world: World) -> None:
    plain, first = run(world)
    watched, second = run(world, experiment=experiment(watch_test=True))
    assert_same(first, second)
    assert (plain.best_epoch, plain.best_score) == (watched.best_epoch, watched.best_score)
    for one, other in zip(plain.history, watched.history, strict=True):
        extra = {name for name in other if name.startswith("test_")}
        assert extra == {"test_loss", "test_wa", "test_ua", "test_macro_f1", "test_weighted_f1"}
        assert {name: value for name, value in other.items() if name not in extra} == one
    samples, fold, dims = world
    swapped = replace(fold, valid=fold.test)
    first_epoch = fit(make(dims), Regime(StandardSettings()), samples, swapped, experiment(epochs=1), 3, 4)
    assert first_epoch.history[0]["valid_loss"] == watched.history[0]["test_loss"]


def test_scores_are_judged_by_the_mean_absolute_error(world: World) -> None:
    samples, fold, dims = world
    scores = torch.linspace(-3, 3, len(samples.ids))
    given = replace(samples, scores=scores)

    class Regression(TinyModel):
        def forward(self, batch: Batch) -> Output:
            assert batch.labels is None and batch.scores is not None
            means = [values.mean(dim=1) for values in batch.features.values()]
            found = self.layer(torch.cat(means, dim=1))
            return Output(found, {"regression": (found[:, 0] - batch.scores).square().mean()})

    network = Regression(None, dims, 1)
    settings = experiment(task="regression", train_on="full", epochs=4)
    found = fit(network, Regime(StandardSettings()), given, fold, settings, 0, 1)
    answers = predict(network, network, given, fold.valid, showings(["avt"]))[:, 0, 0]
    error = float((answers - scores[torch.from_numpy(fold.valid)]).abs().mean())
    assert found.best_score == pytest.approx(error, rel=1e-6)
    best = found.history[found.best_epoch - 1]
    assert best["valid_loss"] == pytest.approx(best["valid_mae"], rel=1e-6)
    assert best["valid_mae"] == min(row["valid_mae"] for row in found.history)
    assert {"valid_r", "valid_acc2_non0", "valid_acc7"} <= best.keys() and "valid_ua" not in best
    small = fit(
        Regression(None, dims, 1),
        Regime(StandardSettings()),
        replace(given, scale=Scale(-1, 1)),
        fold,
        settings,
        0,
        1,
    )
    assert "valid_sims_acc5" in small.history[0] and "valid_acc7" not in small.history[0]


def test_the_test_part_chooses_only_where_it_is_asked_to(world: World) -> None:
    """As some public codes do: the same epochs, another choice among them."""
    given = {"learning_rate": 0.05, "epochs": 8}
    watched, _ = run(world, experiment=experiment(**given, watch_test=True))
    chosen, network = run(world, experiment=experiment(**given, selection="test-paper"))
    for one, other in zip(watched.history, chosen.history, strict=True):
        assert {**one, "best": 0} == {**other, "best": 0}
    tested = [(row["test_ua"], -row["test_loss"]) for row in chosen.history]
    valid = [(row["valid_ua"], -row["valid_loss"]) for row in watched.history]
    assert chosen.best_epoch == tested.index(max(tested)) + 1
    assert watched.best_epoch == valid.index(max(valid)) + 1 != chosen.best_epoch
    assert chosen.best_score == max(tested)[0]
    samples, fold, _ = world
    answers = predict(network, network, samples, fold.test, validation_showings("missing", None, {}, CPU, 3))
    right = answers.argmax(dim=2) == samples.labels[torch.from_numpy(fold.test)][:, None]
    assert right.double().mean().item() == pytest.approx(chosen.history[chosen.best_epoch - 1]["test_wa"])


class Looking(TinyModel):
    """Keeps what it saw before the first epoch."""

    def __init__(self, settings: object, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__(settings, dims, outputs)
        self.looks: list[tuple[list[str], list[str], int]] = []
        self.register_buffer("kept", torch.zeros(()))

    def look_at_training(self, batches: Callable[[], Iterable[Batch]], seed: int) -> None:
        assert not self.seen, "before the first epoch"
        seen = []
        for _ in range(2):  # each call begins anew
            found = list(batches())
            assert all(batch.present.all() and not batch.views for batch in found)
            seen.append([name for batch in found for name in batch.ids])
        self.looks.append((seen[0], seen[1], seed))
        self.kept += torch.rand(()) + 1


def test_a_network_looks_at_the_training_part_once_and_not_on_resume(world: World, tmp_path: Path) -> None:
    samples, fold, dims = world
    regime, settings = Regime(StandardSettings()), experiment(epochs=3, train_on="missing")

    def new() -> Looking:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Looking(None, dims, 4)

    def stop(epoch: int) -> None:
        if epoch == 2:
            raise Killed

    whole, state = new(), tmp_path / "state"
    expected = fit(whole, regime, samples, fold, settings, 3, 4)
    ids = [samples.ids[index] for index in fold.train]
    assert whole.looks == [(ids, ids, derive_seed(3, "look"))] and whole.kept > 1
    broken, resumed = new(), new()
    with pytest.raises(Killed):
        fit(broken, regime, samples, fold, settings, 3, 4, state=state, save_every_s=0, after_epoch=stop)
    assert len(broken.looks) == 1
    assert fit(resumed, regime, samples, fold, settings, 3, 4, state=state) == expected
    assert resumed.looks == [] and resumed.seen == [3]
    assert_same(whole, resumed)
    again = new()
    fit(again, regime, samples, fold, settings, 4, 4)
    assert again.kept != whole.kept, "what is drawn there is drawn from the run's seed"


class Streams(Regime):
    """Takes batches of two training sets, and notes what they hold."""

    streams = (Stream("outer"), Stream("inner", "t", "one-missing"))

    def __init__(self) -> None:
        super().__init__(StandardSettings())
        self.taken: list[tuple[Batch, Batch]] = []

    def gradients(self, step: Step, batches: Sequence[Batch]) -> dict[str, Tensor]:
        outer, inner = batches
        self.taken.append((outer, inner))
        return super().gradients(step, [outer])


def test_two_streams_have_training_sets_of_their_own(world: World, tmp_path: Path) -> None:
    samples, fold, dims = world
    small_world.write(tmp_path, 60)
    dataset = read_samples("small", small_world.dataset(), {"audio": 10}, tmp_path, hides_frames=True)
    masks = dataset.named_masks(read_masks(tmp_path / "masks" / "small.h5"), ["one-missing", "block"])
    regime, settings = Streams(), experiment(epochs=2, train_on="missing", train_mask="block")
    fit(make(dims), regime, samples, fold, settings, 0, 4, masks)
    pairs, size = len(fold.train) * 6, 16
    steps = -(-pairs // size)
    assert len(regime.taken) == 2 * steps
    kept = masks["one-missing"].first(CPU).present[:, 0]
    texts = [samples.ids[index] for index in fold.train if kept[index]]
    for epoch in (regime.taken[:steps], regime.taken[steps:]):
        outer, inner = ([name for pair in epoch for name in pair[number].ids] for number in (0, 1))
        assert sorted(outer) == sorted(samples.ids[index] for index in fold.train for _ in range(6))
        # The inner one is of text alone, and shorter: it begins again.
        rounds = -(-len(texts) // size)
        assert sorted(set(inner)) == texts and len(texts) < len(outer)
        begun = [list(pair[1].ids) for pair in epoch]
        assert begun[:rounds] == begun[rounds : 2 * rounds]
        for shown, other in epoch:
            assert other.present.tolist() == [[True, False, False]] * len(other)
            assert other.observed["text"].sum() == other.lengths["text"].sum(), "no block lies over it"
            assert len(shown.present.unique(dim=0)) > 1
    first, second = (
        [name for pair in epoch for name in pair[1].ids]
        for epoch in (regime.taken[:steps], regime.taken[steps:])
    )
    assert first != second, "its order is drawn anew"


def test_decay_takes_the_last_epochs_down() -> None:
    settings = experiment(epochs=6, decay_epochs=3)
    assert [decay(epoch, settings) for epoch in range(1, 7)] == [1, 1, 1, 0.75, 0.5, 0.25]
    assert {decay(epoch, experiment(epochs=6)) for epoch in range(1, 7)} == {1.0}


def test_rates_by_group(world: World) -> None:
    _, dims = world[1], world[2]
    start = make(dims).state_dict()
    rates = experiment(epochs=1, learning_rate=1e-9, learning_rates={"last": 0.05})
    _, network = run(world, experiment=rates)
    moved = {name: float((value - start[name]).abs().max()) for name, value in network.state_dict().items()}
    assert moved["layer.0.weight"] < 1e-6 and moved["layer.2.weight"] > 1e-2


class Recording(Regime):
    """Makes gradients of a known size, and looks at them after the loop clipped them."""

    def __init__(self, sizes: Mapping[str, float]) -> None:
        super().__init__(StandardSettings())
        self.sizes = sizes
        self.batches_seen: list[Sequence[str]] = []

    def gradients(self, step: object, batches: Sequence[Batch]) -> dict[str, Tensor]:
        self.batches_seen.append(batches[0].ids)
        for name, parameters in step.trained.items():  # type: ignore[attr-defined]
            count = sum(p.numel() for p in parameters)
            for p in parameters:
                p.grad = torch.full_like(p, self.sizes[name] / count**0.5)
        return {"made": torch.tensor(1.0)}


def test_weight_decay_by_group(world: World) -> None:
    """Adam's first step is the rate times the sign of gradient + decay * weight: without a gradient, each weight goes
    towards 0 by the rate where its group decays, and nowhere else."""
    start = make(world[2]).state_dict()
    given = {"epochs": 1, "batch_size": 1000, "learning_rate": 0.001}
    for decays, usual, first, last in (
        ({"first": 0.5}, 0.0, 0.001, 0.0),
        ({"first": 0.0}, 0.5, 0.0, 0.001),
        ({}, 0.5, 0.001, 0.001),
    ):
        one = experiment(weight_decay=usual, weight_decays=decays, **given)
        network = make(world[2])
        fit(network, Recording({"first": 0.0, "last": 0.0}), world[0], world[1], one, 3, 4)
        for name, step in (("layer.0.weight", first), ("layer.2.weight", last)):
            moved = network.state_dict()[name] - start[name]
            torch.testing.assert_close(moved, -step * start[name].sign(), atol=2e-7, rtol=0.02)


@pytest.mark.parametrize(("groups", "first", "last"), [(False, 0.6, 0.8), (True, 1.0, 1.0)])
def test_clipping_together_or_group_by_group(world: World, groups: bool, first: float, last: float) -> None:
    samples, fold, dims = world
    network = make(dims)
    regime = Recording({"first": 3.0, "last": 4.0})
    settings = experiment(epochs=1, batch_size=1000, clip_norm=1.0, clip_groups=groups)
    fit(network, regime, samples, fold, settings, 0, 4)
    norms = {
        name: torch.cat([p.grad.flatten() for p in group]).norm().item()  # type: ignore[union-attr]
        for name, group in network.parameter_groups().items()
    }
    assert norms == pytest.approx({"first": first, "last": last}, rel=1e-4)


def test_every_epoch_shows_every_pair_once_in_another_order(world: World) -> None:
    samples, fold, dims = world
    regime = Recording({"first": 1.0, "last": 1.0})
    fit(make(dims), regime, samples, fold, experiment(epochs=2), 0, 4)
    pairs = len(fold.train) * 6
    half = -(-pairs // 16)
    parts = regime.batches_seen[:half], regime.batches_seen[half:]
    epochs = [[name for ids in part for name in ids] for part in parts]
    for epoch in epochs:
        assert sorted(epoch) == sorted(samples.ids[i] for i in fold.train for _ in range(6))
    assert epochs[0] != epochs[1]


def test_bfloat16_trains(world: World) -> None:
    result, network = run(world, experiment=experiment(epochs=12, precision="bfloat16"))
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    assert all(p.dtype == torch.float32 for p in network.parameters())


def test_bfloat16_trains_where_onednn_has_no_lstm(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On such a CPU an LSTM under autocast is an error, in training and prediction, unless oneDNN is left out."""
    samples, fold, dims = world
    whole = nn.LSTM.forward
    seen: list[bool] = []

    def refuse(lstm: nn.LSTM, *given: Tensor) -> object:
        seen.append(torch.is_autocast_enabled("cpu"))
        if torch.is_autocast_enabled("cpu") and torch.backends.mkldnn.enabled:
            raise RuntimeError("could not create a primitive descriptor for an LSTM forward propagation")
        return whole(lstm, *given)

    monkeypatch.setattr(nn.LSTM, "forward", refuse)
    settings = resolve(experiment(epochs=2, batch_size=64, precision="bfloat16", train_on="full"))
    network = build(settings, dims, 4)
    before = torch.get_rng_state()
    with caplog.at_level("WARNING", "lacuna"):
        result = fit(network, Regime(StandardSettings()), samples, fold, settings, 0, 4)
    assert torch.equal(torch.get_rng_state(), before) and torch.backends.mkldnn.enabled
    assert len(result.history) == 2 and np.isfinite(result.history[-1]["train_loss"]) and all(seen)
    assert "PyTorch's own kernels" in caplog.text and "precision: float32" in caplog.text


def test_a_trial_of_the_lstm_asks_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = nn.LSTM.forward
    for training in (True, False):

        def refuse(lstm: nn.LSTM, *given: Tensor, training: bool = training) -> object:
            if torch.is_autocast_enabled("cpu") and torch.is_grad_enabled() == training:
                raise RuntimeError("could not create a primitive descriptor")
            return whole(lstm, *given)

        monkeypatch.setattr(nn.LSTM, "forward", refuse)
        assert not onednn_has_lstm()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # the tracer's own
def test_a_compiled_network_gives_the_same_numbers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the compiler's tracing alone: writing and building kernels takes minutes, and is PyTorch's matter."""
    samples, fold, dims = world
    traced = []

    def trace(network: Network) -> object:
        traced.append(network)
        return compiler(network, backend="eager")

    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", trace)
    histories = []
    for compile_it in (False, True):
        settings = resolve(experiment(epochs=1, batch_size=64, compile=compile_it))
        with deterministic(CPU, 0):
            network = build(settings, dims, 4)
        histories.append(fit(network, Regime(StandardSettings()), samples, fold, settings, 0, 4).history)
    assert len(traced) == 1
    for name, value in histories[0][0].items():
        assert histories[1][0][name] == pytest.approx(value, rel=1e-5), name


def test_predictions_do_not_depend_on_who_else_is_predicted(world: World) -> None:
    samples, fold, dims = world
    network, ways = make(dims), showings(list(CONDITIONS))
    everyone = predict(network, network, samples, fold.test, ways)
    assert everyone.shape == (len(fold.test), 7, 4)
    order = np.argsort(-fold.test)
    turned = predict(network, network, samples, fold.test[order], ways)
    torch.testing.assert_close(turned, everyone[torch.from_numpy(order)])


def test_devices() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(TrainingError, match=r"compute\.device is cuda:97"):
        choose_device("cuda:97")


def test_determinism_is_scoped_even_when_something_fails() -> None:
    filling = torch.utils.deterministic.fill_uninitialized_memory
    with pytest.raises(ValueError, match="inside"), deterministic(CPU, 0):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
        raise ValueError("inside")
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory == filling


def test_a_batch_is_gone_before_the_next_is_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three at a time would take a third of the memory of a whole corpus of long dialogues."""
    made: list[weakref.ref[Batch]] = []
    collate = DeviceSamples.collate

    def watched(samples: DeviceSamples, *given: object, **named: object) -> Batch:
        if torch.is_grad_enabled():
            assert all(one() is None for one in made), "an earlier batch of the epoch is still there"
        batch = collate(samples, *given, **named)  # type: ignore[arg-type]
        made.append(weakref.ref(batch))
        return batch

    monkeypatch.setattr(DeviceSamples, "collate", watched)
    run(world, experiment=experiment(epochs=2, batch_size=8))
    assert len(made) > 6
