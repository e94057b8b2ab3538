"""MISA: its losses by hand."""

from __future__ import annotations

import math

import pytest
import torch

from models.misa import Model, cmd, overlap
from tests.batches import DIMS, make_batch


def test_cmd_by_hand() -> None:
    # means 1/2 and 0; central moments 2 to 5 of {0, 1}: 1/4, 0, 1/16, 0; of {0, 0}: none
    first, second = torch.tensor([[0.0], [1.0]]), torch.zeros(2, 1)
    assert cmd(first, second).item() == pytest.approx(0.5 + 0.25 + 0.0625)
    both = cmd(first.repeat(1, 2), second.repeat(1, 2))
    assert both.item() == pytest.approx(0.8125 * math.sqrt(2))
    assert cmd(first, first.flip(0)).item() == 0


def test_cmd_of_equal_samples_has_a_gradient_that_is_a_number() -> None:
    same = torch.full((3, 2), 0.5, requires_grad=True)
    cmd(same, torch.full((3, 2), 0.5)).backward()
    assert same.grad is not None and same.grad.tolist() == [[0.0, 0.0]] * 3


def test_overlap_by_hand() -> None:
    first = torch.tensor(
        [[5.0, 3.0], [1.0, 3.0]]
    )  # without the mean (2, 0), (-2, 0); length 1: (1, 0), (-1, 0)
    second = torch.tensor([[0.0, 7.0], [0.0, 1.0]])  # (0, 1), (0, -1)
    # A^T B = [[0, 2], [0, 0]]
    assert overlap(first, second, "sum").item() == pytest.approx(4)
    assert overlap(first, second, "mean").item() == pytest.approx(1)


def test_overlap_of_orthogonal_subspaces_is_zero() -> None:
    first = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]]) * torch.tensor([[1.0, 0.0]])
    second = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]) * torch.tensor([[0.0, 1.0]])
    assert overlap(first, second, "sum").item() == 0
    assert overlap(first, first, "sum").item() == pytest.approx(16)


def test_the_losses_carry_their_weights() -> None:
    torch.manual_seed(0)
    network = Model(Model.Settings(hidden=8), DIMS, 1).eval()
    doubled = Model(
        Model.Settings(hidden=8, difference_weight=0.6, similarity_weight=2, reconstruction_weight=2), DIMS, 1
    ).eval()
    doubled.load_state_dict(network.state_dict())
    batch = make_batch(5, outputs=1)
    once, twice = network(batch).losses, doubled(batch).losses
    assert once["regression"].item() == twice["regression"].item()
    for name in ("difference", "similarity", "reconstruction"):
        assert twice[name].item() == pytest.approx(2 * once[name].item(), rel=1e-5)
    assert batch.scores is not None
    squared = (network(batch).prediction[:, 0] - batch.scores).square().mean()
    assert once["regression"].item() == pytest.approx(squared.item(), rel=1e-5)


def test_the_papers_letter_sums_where_the_code_takes_the_mean() -> None:
    torch.manual_seed(0)
    network = Model(Model.Settings(hidden=8, variant="code"), DIMS, 1).eval()
    letter = Model(Model.Settings(hidden=8), DIMS, 1).eval()
    letter.load_state_dict(network.state_dict())
    batch = make_batch(5, outputs=1)
    mean, total = network(batch).losses["difference"], letter(batch).losses["difference"]
    assert total.item() == pytest.approx(64 * mean.item(), rel=1e-4)


def test_the_difference_is_the_variants_unless_it_is_given() -> None:
    chosen = [Model(Model.Settings(hidden=8, **given), DIMS, 1).reduce for given in (
        {}, {"variant": "code"}, {"difference": "mean"}, {"variant": "code", "difference": "sum"},
    )]  # fmt: skip
    assert chosen == ["sum", "mean", "mean", "sum"]
