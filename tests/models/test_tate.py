"""TATE: the tag, its loss, the common space in it, and the frozen network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from models.base import Batch, View
from models.layers import sequence_distance
from models.parts import aligned
from models.tate import Model, TATESettings, tag_error
from tests.batches import DIMS, PATTERNS, hide, hide_each, lengthen, make_batch, one_of, reorder, train

PATTERN_OF_TAG = {
    (True, True, True): [1.0, 0.0, 0.0, 0.0],
    (False, True, True): [0.0, 1.0, 0.0, 0.0],
    (True, False, True): [0.0, 0.0, 1.0, 0.0],
    (True, True, False): [0.0, 0.0, 0.0, 1.0],
    (False, False, True): [0.0, 1.0, 1.0, 0.0],
    (False, True, False): [0.0, 1.0, 0.0, 1.0],
    (True, False, False): [0.0, 0.0, 1.0, 1.0],
    (False, False, False): [0.0, 1.0, 1.0, 1.0],
}
MIXED = [list(pattern) for pattern in PATTERN_OF_TAG]


def make(outputs: int = 3, seed: int = 0, **settings: Any) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        given = TATESettings.model_validate({"size": 12, "heads": 2, "inner": 16, **settings})
        return Model(given, DIMS, outputs)


def mixed(outputs: int = 3, whole: bool = True) -> Batch:
    return hide_each(make_batch(len(MIXED), outputs), MIXED, whole=whole)


def test_the_tag_carries_the_real_pattern() -> None:
    network = make().eval()
    output = network(mixed())
    assert output.hidden["tag"].tolist() == list(PATTERN_OF_TAG.values())
    _, tag, given, _ = network.network(mixed())
    for position in (0, -1):
        assert torch.equal(given[:, position, -4:], tag)
    assert given.shape[2] == 16


def test_the_tag_of_the_code_is_the_same_for_every_sample() -> None:
    for settings in ({"variant": "code"}, {"tag": "constant"}):
        found = make(**settings).eval()(mixed()).hidden["tag"]
        assert found.tolist() == [[0.0, 0.0, 1.0, 1.0]] * len(MIXED)
    both = make(variant="code", tag="pattern").eval()(mixed()).hidden["tag"]
    assert both.tolist() == list(PATTERN_OF_TAG.values())


def test_the_tag_is_what_tells_a_missing_modality_from_one_whose_vector_is_the_same() -> None:
    batch = make_batch(4, 3)
    with_tag, without = make().eval(), make(tag="constant").eval()
    for network, differs in ((with_tag, True), (without, False)):
        # the same tokens, but one sample is said to lack audio
        tokens, _, _, encoded = network.network(batch)
        said = tokens.there.clone()
        said[0, 1] = False
        own = network.network.tag(said)
        assert torch.equal(own[0], network.network.tag(tokens.there)[0]) is not differs
        assert encoded.shape == (4, 21, 16)


def test_the_tags_loss_by_hand() -> None:
    joint = torch.tensor([[9.0, 0.0, torch.tensor(3.0).log(), -torch.tensor(3.0).log(), 0.0]])
    # sigmoid: 1/2, 3/4, 1/4, 1/2 against 1, 0, 0, 0
    found = tag_error(joint, torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    assert found.item() == pytest.approx((0.5 + 0.75 + 0.25 + 0.5) / 4)
    network = make(tag_weight=0.4).eval()
    output = network(mixed())
    expected = 0.4 * tag_error(output.hidden["joint"], output.hidden["tag"])
    torch.testing.assert_close(output.losses["tag"], expected)


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_the_other_losses(variant: str) -> None:
    network, batch = make(variant=variant, forward_weight=0.3, backward_weight=0.2).eval(), mixed()
    output = network(batch)
    assert list(output.losses) == ["classification", "forward", "backward", "tag"]
    tokens, _, given, encoded = network.network(batch)
    keep = tokens.joined()[1]
    assert network.network.decoder is not None and network.pretrained is not None
    factor = 1 if variant == "paper" else 2
    decoded = network.network.decoder(encoded, keep)
    torch.testing.assert_close(
        output.losses["backward"], 0.2 * factor * sequence_distance(decoded, given, keep)
    )
    seen, _, _, target = network.pretrained(batch.views["whole"] if variant == "paper" else batch)
    counts = keep
    if variant == "paper":
        target, counts = aligned(seen, seen.split(target), tokens)
    torch.testing.assert_close(
        output.losses["forward"], 0.3 * factor * sequence_distance(encoded, target, counts)
    )
    assert "forward" not in make().eval()(mixed(whole=False)).losses
    assert make().eval()(replace(batch, labels=None)).losses == {}


def test_the_pretrained_network_is_of_the_same_kind_frozen_and_ends_the_chain() -> None:
    wanted = Model.pretraining(TATESettings(size=24, heads=2, tag="constant", forward_weight=0.2))
    assert wanted is not None and wanted.model == "tate" and wanted.fields == {"train_on": "full"}
    assert wanted.settings == {"role": "pretrain", "size": 24, "heads": 2, "tag": "constant"}
    own = TATESettings.model_validate(wanted.settings)
    assert Model.pretraining(own) is None and Model.views(own) == {}
    training = {"learning_rate": 1e-3, "epochs": 15, "batch_size": 32}
    assert Model.recipe(own) == {"train_on": "full", **training}
    assert Model.recipe(TATESettings()) == {"train_on": "random-condition", **training}
    assert Model.pretraining(TATESettings(forward_weight=0)) is None
    assert Model.views(TATESettings()) == {"whole": View("whole")}
    teacher, network = make(role="pretrain", seed=1), make()
    assert list(teacher(mixed()).losses) == ["classification"]
    train(teacher, make_batch(8, 3), 3)
    network.load_pretrained(teacher)
    train(network, mixed(), 3)
    assert network.pretrained is not None and not network.pretrained.training and network.training
    for name, value in network.pretrained.state_dict().items():
        assert torch.equal(value, teacher.network.state_dict()[name])
    with pytest.raises(TypeError, match="found Linear"):
        network.load_pretrained(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="forward_weight 0"):
        make(forward_weight=0).load_pretrained(teacher)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"variant": "code"},
        {"role": "pretrain"},
        {"forward_weight": 0, "backward_weight": 0, "tag_weight": 0},
    ],
)
@pytest.mark.parametrize("outputs", [1, 3])
def test_gradients_patterns_padding_and_order(settings: dict[str, Any], outputs: int) -> None:
    network = make(outputs, **settings)
    trainable = {n for n, p in network.named_parameters() if p.requires_grad}
    assert sum(len(group) for group in network.parameter_groups().values()) == len(trainable)
    reached = set()
    for pattern in (*PATTERNS, [False] * 3):
        network.zero_grad()
        output = network(hide(make_batch(12, outputs), pattern, whole=True))
        torch.stack(list(output.losses.values())).sum().backward()
        assert torch.isfinite(output.prediction).all()
        reached |= {n for n, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == trainable
    network.eval()
    batch = mixed(outputs)
    plain = network(batch)
    padded = network(replace(lengthen(batch, 4), views={"whole": lengthen(batch.views["whole"], 3)}))
    torch.testing.assert_close(padded.prediction, plain.prediction)
    torch.testing.assert_close(padded.losses, plain.losses)
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(0))
    turned = network(reorder(batch, order))
    torch.testing.assert_close(turned.prediction, plain.prediction[order])
    torch.testing.assert_close(turned.losses, plain.losses)
    alone = torch.cat([network(one_of(batch, row)).prediction for row in range(len(batch))])
    torch.testing.assert_close(alone, plain.prediction)


def test_one_batch_overfits() -> None:
    history = train(make(dropout=0.0, tag_weight=3.0), mixed(), 60, rate=5e-3)
    assert history[-1]["classification"] < 0.5 * history[0]["classification"]
    assert history[-1]["tag"] < 0.5 * history[0]["tag"]


def test_heads_that_do_not_fit() -> None:
    with pytest.raises(ValidationError, match="size and size"):
        TATESettings(size=300, heads=3)
