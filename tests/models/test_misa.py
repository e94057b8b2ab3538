"""MISA: its losses by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.misa import Model, cmd, overlap, similarity
from tests.batches import DIMS, hide, make_batch, reorder


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


def test_every_loss_by_hand() -> None:
    """Two samples; what each part gives is fixed, so that only the losses are computed."""
    network = Model(Model.Settings(hidden=2), DIMS, 1).eval()
    network.project = _fixed(
        {
            "text": [[1.0, 0.0], [0.0, 1.0]],
            "audio": [[2.0, 0.0], [0.0, 2.0]],
            "video": [[0.0, 0.0], [4.0, 0.0]],
        }
    )
    network.private = _fixed(
        {
            "text": [[1.0, 0.0], [0.0, 0.0]],
            "audio": [[1.0, 0.0], [0.0, 0.0]],
            "video": [[0.0, 1.0], [0.0, 0.0]],
        }
    )
    shared = iter([[[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    network.shared = _Fixed(lambda: next(shared))
    network.reconstruct = _fixed(
        {
            "text": [[1.0, 1.0], [0.0, 1.0]],
            "audio": [[2.0, 0.0], [0.0, 0.0]],
            "video": [[0.0, 0.0], [4.0, 0.0]],
        }
    )
    network.attend = nn.Identity()
    network.head = _Fixed(lambda: [[1.0], [-1.0]])
    batch = replace(make_batch(2, outputs=1), scores=torch.tensor([3.0, -2.0]))
    losses = {name: loss.item() for name, loss in network(batch).losses.items()}
    assert losses["regression"] == pytest.approx((2**2 + 1**2) / 2)
    # Without its mean every private of text and audio is (+-1/2, 0), of video (0, +-1/2); of length 1: (+-1, 0) and (0,
    # +-1). Shared: audio alone, (-+1, 0). A^T B has one entry of +-2 where both have a length. So 4 each for audio with
    # its shared part, text with audio, text with video, audio with video.
    assert losses["difference"] == pytest.approx(0.3 * 16)
    # CMD of {0, 1} against {0, 0}: 1/2 + 1/4 + 1/16; two pairs have it, text with video has 0
    assert losses["similarity"] == pytest.approx(1.0 * 2 * 0.8125 / 3)
    # squared errors of 1 in text, 4 in audio, 0 in video, each over four numbers
    assert losses["reconstruction"] == pytest.approx(1.0 * (1 / 4 + 4 / 4 + 0) / 3)


class _Fixed(nn.Module):
    """Gives what it is told to, whatever it is given."""

    def __init__(self, values: Callable[[], object]) -> None:
        super().__init__()
        self.values = values

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return torch.tensor(self.values())


def _fixed(values: dict[str, list[list[float]]]) -> nn.ModuleDict:
    return nn.ModuleDict({name: _Fixed(lambda rows=rows: rows) for name, rows in values.items()})


def test_what_is_rebuilt_is_the_sum_of_private_and_shared() -> None:
    network = Model(Model.Settings(hidden=4), DIMS, 1).eval()
    for layer in network.reconstruct.values():
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    output = network(make_batch(3, outputs=1))
    kept: list[torch.Tensor] = []
    network.project["text"].register_forward_hook(lambda _, __, value: kept.append(value))
    network.project["audio"].register_forward_hook(lambda _, __, value: kept.append(value))
    network.project["video"].register_forward_hook(lambda _, __, value: kept.append(value))
    network(make_batch(3, outputs=1))
    hidden = output.hidden
    errors = [
        (hidden[f"{m}_private"] + hidden[f"{m}_shared"] - projected).square().mean()
        for m, projected in zip(("text", "audio", "video"), kept, strict=True)
    ]
    assert output.losses["reconstruction"].item() == pytest.approx(sum(errors).item() / 3, rel=1e-5)


def test_similarity_is_the_mean_over_the_three_pairs() -> None:
    zero, half = torch.zeros(2, 1), torch.tensor([[0.0], [1.0]])
    assert similarity({"text": half, "audio": zero, "video": zero}).item() == pytest.approx(2 * 0.8125 / 3)


@pytest.mark.parametrize("outputs", [1, 4])
@pytest.mark.parametrize("case", ["one sample", "no audio", "equal samples"])
def test_the_second_gradient_is_a_number_where_a_norm_is_zero(outputs: int, case: str) -> None:
    torch.manual_seed(0)
    network = Model(Model.Settings(hidden=8, dropout=0.0), DIMS, outputs).train()
    batch = make_batch(1 if case == "one sample" else 4, outputs)
    if case == "no audio":
        batch = hide(batch, [True, False, True])
    if case == "equal samples":
        batch = reorder(batch, torch.tensor([0, 0, 0, 0]))
    weights = [p for p in network.parameters() if p.requires_grad]
    with sdpa_kernel(SDPBackend.MATH):
        loss = torch.stack(list(network(batch).losses.values())).sum()
        first = torch.autograd.grad(loss, weights, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), weights, allow_unused=True)
    assert all(torch.isfinite(g).all() for g in first)
    assert all(g is None or torch.isfinite(g).all() for g in second)
    assert max(float(g.detach().abs().max()) for g in first) < 1e3


def test_its_losses_are_those_of_float32_under_autocast() -> None:
    torch.manual_seed(0)
    first, second = torch.rand(6, 8), torch.rand(6, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = overlap(first, second, "sum"), cmd(first, second)
    assert [x.item() for x in found] == [overlap(first, second, "sum").item(), cmd(first, second).item()]


def test_its_training_is_the_authors() -> None:
    assert Model.recipe(Model.Settings()) == {
        "learning_rate": 1e-4,
        "batch_size": 64,
        "patience": 7,  # their patience of 6 stops after the seventh epoch that is not better
        "clip_value": 1.0,
    }


def test_recurrent_weights_are_orthogonal_at_the_start() -> None:
    network = Model(Model.Settings(hidden=8, audio_hidden=3), DIMS, 1)
    found = [w for n, w in network.named_parameters() if "weight_hh" in n]
    assert len(found) == 8  # two modalities, two layers, two directions
    for weight in found:
        torch.testing.assert_close(weight.T @ weight, torch.eye(weight.shape[1]), rtol=0, atol=1e-5)


def test_the_settings_are_the_authors() -> None:
    assert Model.Settings().model_dump(exclude={"encoder"}) == {
        "text": "features", "frozen_layers": 0, "train_embeddings": False, "audio_hidden": None, "video_hidden": None,
        "hidden": 128, "dropout": 0.5, "variant": "paper", "difference": None, "difference_weight": 0.3,
        "similarity_weight": 1.0, "reconstruction_weight": 1.0,
    }  # fmt: skip
    network = Model(Model.Settings(hidden=8), DIMS, 3)
    assert (network.audio.first.forwards.hidden_size, network.video.second.forwards.hidden_size) == (5, 4)
    assert network.attend.self_attn.num_heads == 2
    head = [(x.in_features, x.out_features) for x in network.head if isinstance(x, nn.Linear)]
    assert head == [(48, 24), (24, 3)]


def test_a_classification_learns_no_scores() -> None:
    network = Model(Model.Settings(hidden=8), DIMS, 4).eval()
    batch = replace(make_batch(5, outputs=4), scores=torch.ones(5))
    expected = ["classification", "difference", "similarity", "reconstruction"]
    assert list(network(batch).losses) == expected
    assert network(replace(batch, labels=None, scores=None)).losses == {}


def test_the_text_is_the_mean_of_its_states() -> None:
    network, batch = Model(Model.Settings(hidden=8), DIMS, 1).eval(), make_batch(3, outputs=1)
    first, mean = torch.randn(3, DIMS["text"]), torch.randn(3, DIMS["text"])
    network.text.forward = lambda _: (first, mean)  # type: ignore[method-assign]
    expected = network.private["text"](network.project["text"](mean))
    torch.testing.assert_close(network(batch).hidden["text_private"], expected)
