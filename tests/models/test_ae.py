"""AE and CRA: what they are given, what they are compared with, and where the label is read from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from models import ae, cra
from models.base import MODALITIES, View
from models.parts import Imputer
from tests.batches import DIMS, PATTERNS, hide, lengthen, make_batch, one_of, reorder, train

KINDS = {"ae": (ae.Model, 64), "cra": (cra.Model, 320)}
over_kinds = pytest.mark.parametrize("kind", KINDS)


def make(kind: str, outputs: int = 3, **settings: Any) -> Imputer:
    owner, _ = KINDS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        given = owner.Settings.model_validate({"size": 12, "heads": 2, **settings})
        return owner(given, DIMS, outputs)


def test_sizes_of_emmrs_appendix() -> None:
    network = ae.Model(ae.AESettings(), DIMS, 3)
    linears = [x for x in network.autoencoder.modules() if isinstance(x, nn.Linear)]
    assert [x.in_features for x in linears] + [300] == [300, 256, 128, 64, 128, 256, 300]
    cascade = cra.Model(cra.CRASettings(), DIMS, 3).autoencoder
    assert len(cascade.blocks) == 5
    assert len(cra.Model(cra.CRASettings(blocks=2), DIMS, 3).autoencoder.blocks) == 2
    assert ae.Model.recipe(ae.AESettings()) == {
        "train_on": "random-condition", "learning_rate": 1e-3, "epochs": 20, "batch_size": 32
    }  # fmt: skip


class Fixed(nn.Module):
    """Gives what it was told to."""

    def __init__(self, *results: Tensor) -> None:
        super().__init__()
        self.results = results

    def forward(self, _: Tensor) -> tuple[Tensor, ...]:
        return self.results


@over_kinds
def test_the_reconstruction_loss_by_hand(kind: str) -> None:
    network = make(kind, reconstruction_weight=0.5).eval()
    batch = hide(make_batch(2, 3), [True, False, True], whole=True)
    target = network.embed(batch.views["whole"])
    off = torch.zeros(2, 36)
    off[0, 0], off[1, 5] = 3.0, -1.0
    network.autoencoder = Fixed(target.detach() + off, torch.zeros(2, KINDS[kind][1]))
    assert network(batch).losses["reconstruction"].item() == pytest.approx(0.5 * (9 + 1) / 72)


@over_kinds
def test_the_embedding_is_each_modalitys_mean_and_the_target_takes_no_gradient(kind: str) -> None:
    network = make(kind).eval()
    batch = make_batch(4, 3)
    without = network.embed(hide(batch, [True, False, True]))
    whole = network.embed(batch)
    torch.testing.assert_close(without[:, :12], whole[:, :12])  # text
    torch.testing.assert_close(
        without[:, 12:24], without[:1, 12:24].expand(4, -1)
    )  # no audio, for all the same
    tokens = network.encoder(batch)
    frames = tokens.values["video"][1][batch.observed["video"][1]]
    torch.testing.assert_close(whole[1, 24:], frames.mean(dim=0))
    network.autoencoder = Fixed(torch.zeros(4, 36), torch.zeros(4, KINDS[kind][1]))
    loss = network(replace(batch, views={"whole": batch})).losses["reconstruction"]
    assert not loss.requires_grad


@over_kinds
def test_the_label_is_read_from_the_latent_vectors(kind: str) -> None:
    network = make(kind).eval()
    output = network(make_batch(4, 3))
    assert output.hidden["joint"].shape == (4, KINDS[kind][1])
    torch.testing.assert_close(output.prediction, network.head(output.hidden["joint"]))
    assert output.hidden["imagined"].shape == output.hidden["embedding"].shape == (4, 36)
    assert list(output.losses) == ["classification"]
    assert network.views(network.settings) == {"whole": View("whole")}


@over_kinds
@pytest.mark.parametrize("outputs", [1, 3])
def test_gradients_patterns_padding_and_order(kind: str, outputs: int) -> None:
    network = make(kind, outputs)
    reached = set()
    for pattern in (*PATTERNS, [False] * 3):
        network.zero_grad()
        output = network(hide(make_batch(12, outputs), pattern, whole=True))
        torch.stack(list(output.losses.values())).sum().backward()
        assert torch.isfinite(output.prediction).all()
        reached |= {n for n, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {n for n, _ in network.named_parameters()}
    network.eval()
    batch = hide(make_batch(5, outputs), [True, True, False], whole=True)
    plain = network(batch)
    padded = network(replace(lengthen(batch, 4), views={"whole": lengthen(batch.views["whole"], 3)}))
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(padded.prediction, plain.prediction)
    torch.testing.assert_close(padded.losses, plain.losses)
    torch.testing.assert_close(network(reorder(batch, order)).prediction, plain.prediction[order])
    alone = torch.cat([network(one_of(batch, row)).prediction for row in range(5)])
    torch.testing.assert_close(alone, plain.prediction)


@over_kinds
def test_one_batch_overfits_and_the_reconstruction_improves(kind: str) -> None:
    network = make(kind, dropout=0.0)
    history = train(network, hide(make_batch(8, 3), [True, False, True], whole=True), 60, rate=5e-3)
    assert history[-1]["classification"] < 0.5 * history[0]["classification"]


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(ValidationError, match="multiple of the heads"):
        ae.AESettings(size=10, heads=4)
    with pytest.raises(ValidationError, match="Extra inputs"):
        ae.AESettings.model_validate({"blocks": 2})
    assert set(MODALITIES) == set(make("ae").encoder.projections)
