"""SMIL: its centres, what is imagined from them, the regularisation, and the distances to the whole sample."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from models import baseline
from models.base import MODALITIES, Batch, View, drop_frames, drop_modalities
from models.smil import Model, Normal, Regularisation, SMILSettings, _distance, find_centres
from tests.batches import DIMS, PATTERNS, hide, lengthen, make_batch, reorder, train

SMALL = {"hidden": 5, "centres": 3, "joint": 4}


def make(outputs: int = 4, **settings: object) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Model(SMILSettings.model_validate({**SMALL, **settings}), DIMS, outputs)


def shown(outputs: int, pattern: list[bool], size: int = 6) -> Batch:
    whole = make_batch(size, outputs)
    return replace(hide(whole, pattern), views={"whole": whole})


def test_centres_by_hand() -> None:
    points = np.array([[0.0, 0.0], [0.0, 2.0], [9.0, 9.0], [11.0, 9.0], [-20.0, 0.0]])
    found = find_centres(points, 3, seed=0)
    assert sorted(map(tuple, found.tolist())) == [(-20.0, 0.0), (0.0, 1.0), (10.0, 9.0)]
    assert np.array_equal(found, find_centres(points, 3, seed=0))
    # fewer different points than centres: each in turn
    few = find_centres(np.array([[1.0], [1.0], [5.0]]), 3, seed=0)
    assert few.tolist() == [[1.0], [5.0], [1.0]]


def test_centres_come_from_what_the_training_part_shows_alone() -> None:
    """Modalities that a sample lacks, and any sample that was not handed over, leave no trace."""
    batch = make_batch(8, 4)
    leave = torch.ones(8, 3, dtype=torch.bool)
    leave[3:, 1] = False
    network = make()
    asked: list[int] = []

    def batches() -> list[Batch]:
        asked.append(1)
        return [drop_modalities(reorder(batch, rows), leave[rows]) for rows in torch.arange(8).split(3)]

    before = [network.centres.clone(), torch.get_rng_state()]
    network.look_at_training(batches, seed=7)
    assert len(asked) == 1 and network.training
    assert torch.equal(torch.get_rng_state(), before[1])
    assert not torch.equal(network.centres, before[0])
    with torch.no_grad():
        network.eval()
        for index, modality in enumerate(MODALITIES):
            rows = torch.arange(3 if modality == "audio" else 8)
            encoded = network.encoders[modality](
                batch.features[modality][rows], batch.lengths[modality][rows]
            )
            expected = find_centres(encoded.double().numpy(), 3, 7 + index)
            np.testing.assert_allclose(network.centres[index].numpy(), expected, rtol=1e-5, atol=1e-6)
    again = make()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again.centres, network.centres)
    assert "centres" not in dict(network.named_parameters())


def test_a_modality_that_nobody_has_keeps_the_centres_it_had() -> None:
    network = make()
    before = network.centres.clone()
    network.look_at_training(lambda: [hide(make_batch(6, 4), [True, False, True])], seed=0)
    assert torch.equal(network.centres[1], before[1]) and not torch.equal(network.centres[0], before[0])


def test_what_is_imagined_by_the_definition() -> None:
    network = make().eval()
    batch = hide(make_batch(5, 4), [True, False, False])
    output = network(batch)
    text = network.encoders["text"](batch.features["text"], batch.lengths["text"])
    ones, zeros = torch.ones(5, 1), torch.zeros(5, 1)
    nothing = torch.zeros(5, 5)
    told = {
        "text": torch.cat([nothing, zeros, nothing, zeros], dim=1),
        "audio": torch.cat([text, ones, nothing, zeros], dim=1),
        "video": torch.cat([text, ones, nothing, zeros], dim=1),
    }
    for index, modality in enumerate(MODALITIES):
        part = network.weights[modality]
        assert isinstance(part, Normal)
        raw = functional.softplus(told[modality] @ part.mean.weight.T + part.mean.bias)
        expected = sum(
            raw[:, k : k + 1] / raw.sum(dim=1, keepdim=True) * network.centres[index, k] for k in range(3)
        )
        found = output.hidden["imagined"][:, 5 * index : 5 * index + 5]
        torch.testing.assert_close(found, expected)
        kept = output.hidden["embeddings"][:, 5 * index : 5 * index + 5]
        torch.testing.assert_close(kept, text if modality == "text" else expected)


def test_the_losses_and_their_weights_by_the_definition() -> None:
    network = make(feature_weight=0.3, joint_weight=0.7).eval()
    whole = make_batch(4, 4)
    leave = torch.tensor([[True, True, True], [True, False, True], [False, False, True], [True, True, True]])
    natural = drop_modalities(whole, torch.tensor([[True] * 3] * 3 + [[True, True, False]]))  # never recorded
    batch = replace(drop_modalities(natural, leave), views={"whole": natural})
    output = network(batch)
    clean = torch.cat([network.encoders[m](whole.features[m], whole.lengths[m]) for m in MODALITIES], dim=1)
    filled = output.hidden["embeddings"]
    features = filled * functional.softplus(network.feature_regularisation.factors.mean(filled))
    inner = torch.relu(network.joint(features))
    joint = inner * functional.softplus(network.joint_regularisation.factors.mean(inner))
    rows = [1, 2]  # what lacks something of which the whole is known
    torch.testing.assert_close(output.hidden["joint"][rows], joint[rows])
    torch.testing.assert_close(output.hidden["joint"][0], torch.relu(network.joint(clean))[0])
    expected = (features - clean)[rows].square().mean()
    torch.testing.assert_close(output.losses["features"], 0.3 * expected)
    expected = (joint - torch.relu(network.joint(clean)))[rows].square().mean()
    torch.testing.assert_close(output.losses["joint"], 0.7 * expected)
    assert network(replace(batch, views={"whole": natural}, labels=None)).losses == {}
    assert set(network(replace(batch, views={})).losses) == {"classification"}


def test_a_distance_by_hand() -> None:
    first, second = torch.tensor([[1.0, 3.0], [0.0, 0.0], [9.0, 9.0]]), torch.zeros(3, 2)
    counted = torch.tensor([True, True, False])
    assert _distance(first, second, counted).item() == (5 + 0) / 2
    assert _distance(first, second, torch.tensor([True, False, False])).item() == 5
    assert _distance(first, second, torch.zeros(3, dtype=torch.bool)).item() == 0


def test_complete_samples_meet_neither_centres_nor_regularisation() -> None:
    network = make().eval()
    batch = make_batch(5, 4)
    before = network(replace(batch, views={"whole": batch}))
    assert before.losses["features"].item() == 0 and before.losses["joint"].item() == 0
    with torch.no_grad():
        network.centres.add_(1.0)
        for p in network.parameter_groups()["inference"]:
            p.add_(1.0)
    assert torch.equal(network(batch).prediction, before.prediction)


def test_regularisation_by_hand() -> None:
    values, where = torch.tensor([[2.0], [2.0]]), torch.tensor([True, False])
    for code, expected in ((False, 2 * math.log(1 + math.e)), (True, 2 + math.log(1 + math.e))):
        part = Regularisation(1, code).eval()
        with torch.no_grad():
            part.factors.mean.weight.fill_(0.5)  # r = 2 * 0.5
            part.factors.mean.bias.zero_()
        assert part(values, where)[:, 0].tolist() == pytest.approx([expected, 2.0])


def test_draws_in_training_have_the_deviation_that_the_network_gives() -> None:
    values = torch.ones(20_000, 1)

    def draw(spread: str) -> Tensor:
        part = Normal(1, 1, spread)  # type: ignore[arg-type]
        with torch.no_grad():
            part.mean.weight.fill_(3.0)
            part.mean.bias.zero_()
            if part.spread is not None:
                part.spread.weight.zero_()
                part.spread.bias.fill_(-1.0)
            torch.manual_seed(0)
            drawn: Tensor = part(values)
            assert (part.eval()(values) == 3.0).all()
        return drawn

    for spread, deviation in (("learnt", 1 / (1 + math.e)), ("one", 1.0), ("none", 0.0)):
        drawn = draw(spread)
        assert drawn.mean().item() == pytest.approx(3.0, abs=0.03)
        assert drawn.std().item() == pytest.approx(deviation, rel=0.03)


@pytest.mark.parametrize("variant", ["paper", "code"])
@pytest.mark.parametrize("outputs", [1, 4])
def test_every_parameter_gets_a_gradient_in_one_group_and_one_batch_overfits(
    outputs: int, variant: str
) -> None:
    network = make(outputs, variant=variant, dropout=0.0)
    reached = set()
    for pattern in PATTERNS:
        train(network, shown(outputs, pattern), 1)
        reached |= {n for n, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert reached == {name for name, _ in network.named_parameters()}
    groups = network.parameter_groups()
    assert list(groups) == ["text", "audio", "video", "classifier", "inference"]
    assert sorted(id(p) for group in groups.values() for p in group) == sorted(map(id, network.parameters()))
    history = train(network, shown(outputs, [True, True, True]), 80, rate=1e-2)
    task = "regression" if outputs == 1 else "classification"
    assert history[-1][task] < 0.3 * history[0][task]


@pytest.mark.parametrize("pattern", [*PATTERNS, [False, False, False]])
def test_padding_order_and_company_change_nothing(pattern: list[bool]) -> None:
    network = make().eval()
    batch = hide(make_batch(5, 4), pattern)
    plain = network(batch).prediction
    assert torch.isfinite(plain).all()
    torch.testing.assert_close(network(lengthen(batch, 4)).prediction, plain)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(network(reorder(batch, order)).prediction, plain[order])
    for row in range(5):
        alone = network(reorder(batch, torch.tensor([row]))).prediction
        torch.testing.assert_close(alone, plain[row : row + 1])


def test_a_modality_without_a_frame_is_a_missing_one() -> None:
    network, batch = make().eval(), make_batch(5, 4)
    gone = drop_frames(batch, {"audio": torch.zeros_like(batch.observed["audio"])})
    torch.testing.assert_close(network(gone).prediction, network(hide(batch, [True, False, True])).prediction)


def test_a_second_derivative_and_one_sample() -> None:
    network, batch = make(1), shown(1, [True, False, False], size=1)
    total = torch.stack(list(network(batch).losses.values())).sum()
    first = torch.autograd.grad(total, list(network.parameters()), create_graph=True, allow_unused=True)
    torch.stack([g.square().sum() for g in first if g is not None]).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_it_starts_from_its_own_kind() -> None:
    wanted = Model.pretraining(SMILSettings(hidden=5, variant="code"))
    assert wanted is not None and wanted.model == "smil" and wanted.fields["train_on"] == "full"
    assert wanted.settings == {"hidden": 5, "variant": "code", "pretrained": False}
    assert Model.pretraining(SMILSettings.model_validate(dict(wanted.settings))) is None
    network, other = make(), make()
    nn.init.normal_(other.joint.weight)
    nn.init.normal_(other.weights["text"].mean.weight)  # type: ignore[union-attr,arg-type]
    network.load_pretrained(other)
    assert torch.equal(network.joint.weight, other.joint.weight)
    assert not torch.equal(network.weights["text"].mean.weight, other.weights["text"].mean.weight)  # type: ignore[union-attr,arg-type]
    with pytest.raises(TypeError, match="found Model"):
        network.load_pretrained(baseline.Model(baseline.BaselineSettings(), DIMS, 4))


def test_what_it_asks_for() -> None:
    assert Model.views(SMILSettings()) == {"whole": View("whole")}
    assert Model.views(SMILSettings(feature_weight=0, joint_weight=0)) == {}
    assert Model.recipe(SMILSettings()) == {
        "train_on": "random-condition", "learning_rate": 1e-3, "weight_decay": 1e-4, "batch_size": 128
    }  # fmt: skip
    with pytest.raises(ValidationError, match="centres"):
        SMILSettings(centres=0)
