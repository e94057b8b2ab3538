"""MMIM: its bounds by hand, its two phases, its history."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from models.mmim import Gaussian, Model, cpc, entropy, log_density
from tests.batches import DIMS, make_batch, train


def test_the_gaussian_density_by_hand() -> None:
    # one value at its mean, one a unit off; unit variances
    density = log_density(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2))
    assert density.item() == pytest.approx(-0.5 - math.log(2 * math.pi))
    # variance 4, three units off: -1/2 (log 4 + 9/4 + log 2 pi)
    wide = log_density(torch.tensor([[3.0]]), torch.tensor([[0.0]]), torch.tensor([[math.log(4)]]))
    assert wide.item() == pytest.approx(-0.5 * (math.log(4) + 2.25 + math.log(2 * math.pi)))


def test_cpc_by_hand() -> None:
    same = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert cpc(same, 3 * same).item() == pytest.approx(math.log(math.e + 1) - 1)
    crossed = cpc(same.flip(0), same)
    assert crossed.item() == pytest.approx(math.log(math.e + 1))
    assert cpc(same[:1], same[:1]).item() == pytest.approx(0, abs=1e-6), "one sample has no negatives"


def test_the_entropy_by_hand() -> None:
    # variances 1 and 4: 1/4 (log 1 + log 4); a class of one sample and the number -1 are left out
    values = torch.tensor([[0.0], [2.0], [0.0], [4.0], [7.0], [90.0], [91.0]])
    classes = torch.tensor([0, 0, 1, 1, 2, -1, -1])
    assert entropy(values, classes, 3, ridge=1e-9).item() == pytest.approx(0.25 * math.log(4), abs=1e-6)
    assert entropy(values[:1], classes[:1], 2, ridge=1e-9).item() == 0


def test_the_entropy_of_correlated_columns_by_hand() -> None:
    # {(1, 1), (-1, -1), (1, -1)...}: covariance [[1, 1/2], [1/2, 1]], determinant 3/4
    values = torch.tensor([[1.0, 1], [1, 1], [1, 1], [-1, -1], [-1, -1], [-1, -1], [1, -1], [-1, 1]])
    classes = torch.zeros(8, dtype=torch.int64)
    assert entropy(values, classes, 1, ridge=1e-9).item() == pytest.approx(0.5 * math.log(0.75), abs=1e-5)


def test_a_singular_covariance_gives_a_number_and_a_gradient() -> None:
    values = torch.ones(4, 3, requires_grad=True)
    result = entropy(values, torch.tensor([0, 0, 1, 1]), 2, ridge=1e-4)
    result.backward()
    assert result.item() == pytest.approx(1.5 * math.log(1e-4), rel=1e-4)
    assert values.grad is not None and torch.isfinite(values.grad).all()


def test_each_stage_trains_its_own_groups() -> None:
    torch.manual_seed(0)
    network = Model(Model.Settings(), DIMS, 1).train()
    batch = make_batch(6, outputs=1)
    network.phase_start("bound")
    bound = network(batch).losses
    assert list(bound) == ["likelihood"]
    bound["likelihood"].backward()
    reached = {name for name, p in network.named_parameters() if p.grad is not None}
    assert reached == {name for name, _ in network.named_parameters() if name.startswith("bound.")}
    network.phase_start("main")
    assert list(network(batch).losses) == ["regression", "cpc", "bound", "entropy"]
    named = [name for wanted in Model.phases.values() for name in wanted]
    assert set(network.parameter_groups()) <= set(named) and len(named) == len(set(named))


def test_the_bound_stage_raises_the_likelihood() -> None:
    torch.manual_seed(0)
    network = Model(Model.Settings(dropout=0.0), DIMS, 1).train()
    batch = make_batch(6, outputs=1)
    network.phase_start("bound")
    optimizer = torch.optim.Adam(network.parameter_groups()["bound"], 1e-2)
    values = []
    for _ in range(30):
        loss = network(batch).losses["likelihood"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < values[0] - 1


def test_the_history_is_a_window_over_training_batches() -> None:
    torch.manual_seed(0)
    network = Model(Model.Settings(memory=8), DIMS, 3)
    first, second = make_batch(6, outputs=3), make_batch(5, outputs=3, seed=1)
    assert first.labels is not None and second.labels is not None
    network.eval()
    network(first)
    network.train()
    network.phase_start("bound")
    network(first)
    assert network.history_class.tolist() == [-1] * 8, (
        "neither evaluation nor the bound's phase is remembered"
    )
    network.phase_start("main")
    network(first)
    assert network.history_class.tolist() == [-1, -1, *first.labels.tolist()]
    network(second)
    assert network.history_class.tolist() == [*first.labels[-3:].tolist(), *second.labels.tolist()]
    other = Model(Model.Settings(memory=8), DIMS, 3)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.history_audio, network.history_audio) and network.history_audio.abs().sum() > 0


def test_the_task_is_learnt_in_both_stages() -> None:
    torch.manual_seed(0)
    network = Model(Model.Settings(), DIMS, 1)
    history = train(network, make_batch(6, outputs=1), 150)
    assert history[-1]["regression"] < 0.3 * history[0]["regression"]


class Fixed(nn.Module):
    """Gives what it is told to, whatever it is given."""

    def __init__(self, values: object) -> None:
        super().__init__()
        self.values = values

    def forward(self, *_: object) -> object:
        return self.values


def of_two_columns(outputs: int, **settings: object) -> Model:
    """Return a network whose parts give known values for four samples."""
    network = Model(Model.Settings.model_validate({"ridge": 1e-9, "memory": 4, **settings}), DIMS, outputs)
    one, other = (
        torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]]),
        torch.tensor([[0.0, 2], [2, 0], [0, 2], [2, 0]]),
    )
    network.text = Fixed((one, one))  # type: ignore[assignment]
    network.audio, network.video = Fixed(3 * one), Fixed(other)  # type: ignore[assignment]
    network.fuse = Fixed(one)  # type: ignore[assignment]
    network.head = nn.Linear(2, outputs)
    network.predict = nn.ModuleDict({m: nn.Identity() for m in ("text", "audio", "video")})
    network.bound = nn.ModuleDict({"audio": Fixed(torch.tensor(-2.5)), "video": Fixed(torch.tensor(0.5))})
    network.project = nn.ModuleDict(
        {
            "audio": Fixed(torch.tensor([[0.0], [2.0], [0.0], [4.0]])),
            "video": Fixed(torch.tensor([[0.0], [4.0], [0.0], [4.0]])),
        }
    )
    for m in ("audio", "video"):
        setattr(network, f"history_{m}", torch.zeros(4, 1))
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.fill_(1.0)
    return network


def test_every_loss_by_hand_with_its_weight_and_sign() -> None:
    network = of_two_columns(1, cpc_weight=0.3, bound_weight=0.2).train()
    batch = replace(make_batch(4, outputs=1), scores=torch.tensor([2.0, 0.5, -1.0, -3.0]))
    losses = {name: loss.item() for name, loss in network(batch).losses.items()}
    assert losses["regression"] == pytest.approx((1 + 0.5 + 2 + 4) / 4)
    # The fusion is text's and audio's direction, and at right angles to video's: with two of four samples in each
    # direction log(2 e + 2) - 1, the same, and log(2 e + 2).
    assert losses["cpc"] == pytest.approx(0.3 * (3 * math.log(2 * math.e + 2) - 2))
    assert losses["bound"] == pytest.approx(-0.2 * (-2.5 + 0.5))
    # audio: variances 1 of the positive and 4 of the negative samples, video: 4 and 4; half the logarithms, their mean
    assert losses["entropy"] == pytest.approx(-0.2 * (0.25 * math.log(4) + 0.5 * math.log(4)), rel=1e-5)
    network.phase_start("bound")
    assert {n: x.item() for n, x in network(batch).losses.items()} == {"likelihood": pytest.approx(2.5 - 0.5)}


def test_a_score_of_zero_is_of_neither_class() -> None:
    network = of_two_columns(1)
    scores = torch.tensor([2.0, 0.0, -1.0, -0.0])
    assert network._sides(SimpleNamespace(scores=scores, labels=None)).tolist() == [1, -1, 0, -1]
    batch = replace(make_batch(4, outputs=1), scores=torch.tensor([2.0, 1.0, 0.0, 0.0]))
    # two positive samples alone: audio has the variance 1, video 4
    assert network.eval()(batch).losses["entropy"].item() == pytest.approx(-0.1 * 0.5 * math.log(4), rel=1e-5)


def test_the_networks_of_q_have_relu_by_default() -> None:
    by_hand = {"relu": Gaussian(1, 1), "tanh": Gaussian(1, 1, nn.Tanh)}
    for q in by_hand.values():
        for parameter in q.parameters():
            nn.init.constant_(parameter, 1.0 if parameter.dim() > 1 else 0.0)
    x, y = torch.tensor([[-2.0]]), torch.tensor([[1.0]])
    # ReLU: mean 0, log variance 0. tanh: both t = tanh(-2).
    assert by_hand["relu"](x, y).item() == pytest.approx(-0.5 * (1 + math.log(2 * math.pi)))
    t = math.tanh(-2)
    expected = -0.5 * (t + (1 - t) ** 2 / math.exp(t) + math.log(2 * math.pi))
    assert by_hand["tanh"](x, y).item() == pytest.approx(expected)
    kinds = [
        {type(layer).__name__ for layer in Model(Model.Settings(**given), DIMS, 1).bound.modules()}
        for given in ({}, {"bound_activation": "tanh"})
    ]
    assert "ReLU" in kinds[0] and "Tanh" not in kinds[0] and "Tanh" in kinds[1] and "ReLU" not in kinds[1]


def test_dropout_stands_before_the_fusion_alone() -> None:
    found = [
        name
        for name, layer in Model(Model.Settings(), DIMS, 1).named_modules()
        if isinstance(layer, nn.Dropout)
    ]
    assert found == ["fuse.0"]


def test_matrices_start_xavier_normal() -> None:
    torch.manual_seed(0)
    network = Model(Model.Settings(audio_hidden=64, fusion=256), DIMS, 1)
    for weight in (
        network.fuse[3].weight,
        network.audio.last.lstm.weight_hh_l0,
        network.project["audio"][0].weight,
    ):
        rows, columns = weight.shape
        assert weight.std().item() == pytest.approx((2 / (rows + columns)) ** 0.5, rel=0.04)


def test_the_entropy_of_nearly_collinear_rows_under_autocast_is_that_of_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    classes = torch.tensor([0, 1]).repeat(16)
    for _ in range(50):
        along = torch.randn(32, 1, generator=generator) @ torch.randn(1, 4, generator=generator)
        values = torch.tanh(along + 1e-3 * torch.randn(32, 4, generator=generator))
        with torch.autocast("cpu", torch.bfloat16):
            found = entropy(values, classes, 2, ridge=1e-4)
        assert torch.isfinite(found) and found.item() == entropy(values, classes, 2, ridge=1e-4).item()


def test_cpc_under_autocast_is_that_of_float32_and_a_row_of_zeros_scores_nothing() -> None:
    torch.manual_seed(0)
    predicted, actual = torch.randn(5, 3), torch.randn(5, 3)
    with torch.autocast("cpu", torch.bfloat16):
        found = cpc(predicted, actual)
    assert found.item() == cpc(predicted, actual).item()
    nothing = torch.zeros(2, 3, requires_grad=True)
    lost = cpc(predicted[:2], nothing)
    assert lost.item() == pytest.approx(math.log(2))
    lost.backward()
    assert nothing.grad is not None and not nothing.grad.any()


def test_its_training_is_the_authors() -> None:
    common = {"weight_decay": 1e-4, "batch_size": 32, "epochs": 40, "patience": 10, "clip_norm": 1.0}
    common |= {"learning_rate": 1e-3, "halve_after": 20}
    assert Model.recipe(Model.Settings()) == common
    assert Model.recipe(Model.Settings(text="tokens")) == {**common, "learning_rates": {"text": 5e-5}}


def test_the_settings_are_the_authors() -> None:
    assert Model.Settings().model_dump(exclude={"encoder"}) == {
        "text": "features", "frozen_layers": 0, "train_embeddings": False, "audio_hidden": 16, "video_hidden": 16,
        "fusion": 128, "dropout": 0.1, "bound_activation": "relu", "cpc_weight": 0.1, "bound_weight": 0.1,
        "memory": 32, "ridge": 1e-4,
    }  # fmt: skip


def test_the_text_is_read_at_cls() -> None:
    network = of_two_columns(1)
    first, mean = torch.full((4, 2), 3.0), torch.full((4, 2), 7.0)
    network.text = Fixed((first, mean))  # type: ignore[assignment]
    assert torch.equal(network._summarise(make_batch(4, outputs=1))["text"], first)
