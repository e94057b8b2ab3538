"""MMIM: its bounds by hand, its two stages, its history."""

from __future__ import annotations

import math

import pytest
import torch

from models.mmim import Model, cpc, entropy, log_density
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
    network.stage_start("bound")
    bound = network(batch).losses
    assert list(bound) == ["likelihood"]
    bound["likelihood"].backward()
    reached = {name for name, p in network.named_parameters() if p.grad is not None}
    assert reached == {name for name, _ in network.named_parameters() if name.startswith("bound.")}
    network.stage_start("main")
    assert list(network(batch).losses) == ["regression", "cpc", "bound", "entropy"]
    named = [name for wanted in Model.stages.values() for name in wanted]
    assert set(network.parameter_groups()) <= set(named) and len(named) == len(set(named))


def test_the_bound_stage_raises_the_likelihood() -> None:
    torch.manual_seed(0)
    network = Model(Model.Settings(dropout=0.0), DIMS, 1).train()
    batch = make_batch(6, outputs=1)
    network.stage_start("bound")
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
    network.stage_start("bound")
    network(first)
    assert network.history_class.tolist() == [-1] * 8, (
        "neither evaluation nor the bound's stage is remembered"
    )
    network.stage_start("main")
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
