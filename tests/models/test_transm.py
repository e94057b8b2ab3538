"""TransM: the translations' losses by hand, what is translated, and that the label needs no target."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from models.base import MODALITIES, Batch
from models.transm import BACKWARD, FORWARD, Model, TransMSettings, translation_error
from tests.batches import DIMS, PATTERNS, hide, hide_each, lengthen, make_batch, one_of, reorder, train


def make(outputs: int = 3, **settings: Any) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        given = TransMSettings.model_validate({"size": 12, "heads": 2, "inner": 16, **settings})
        return Model(given, DIMS, outputs)


def test_a_translations_error_by_hand() -> None:
    found = torch.zeros(3, 3, 2)
    target = torch.tensor(
        [
            [[1.0, 1.0], [2.0, 0.0], [99.0, 99.0]],  # 1 and 2, the third frame was not observed: 1.5
            [[3.0, 1.0], [0.0, 0.0], [0.0, 0.0]],  # 5 and 0 and 0: 5/3
            [[7.0, 7.0], [7.0, 7.0], [7.0, 7.0]],  # one of the two modalities is missing
        ]
    )
    keep = torch.tensor([[True, True, False], [True] * 3, [True] * 3])
    counts = torch.tensor([True, True, False])
    assert translation_error(found, target, keep, counts).item() == pytest.approx((1.5 + 5 / 3) / 2)
    alone = torch.tensor([True, False, False])
    assert translation_error(found, target, keep, alone).item() == pytest.approx(1.5)
    one_frame = torch.tensor([[False, True, False]] * 3)
    assert translation_error(found, target, one_frame, alone).item() == pytest.approx(2)
    assert translation_error(found, target, keep, torch.zeros(3, dtype=torch.bool)).item() == 0


def test_the_losses_are_those_of_four_translations_from_what_is_shown_into_the_whole() -> None:
    network = make(forward_weight=0.5, backward_weight=0.25).eval()
    patterns = [[True] * 3, [False, True, True], [True, False, True], [True, True, False]]
    batch = hide_each(make_batch(4, 3), patterns, whole=True)
    whole = batch.views["whole"]

    def sent(value: float) -> Any:
        def decode(states: Tensor, states_keep: Tensor, keep: Tensor) -> Tensor:
            return torch.full((len(keep), keep.shape[1], 1), value)

        return decode

    for number, pair in enumerate(FORWARD + BACKWARD):
        network._translation(*pair).decode = sent(float(number))  # type: ignore[method-assign]
    losses = network(batch).losses

    def expected(pairs: tuple[tuple[str, str], ...]) -> float:
        total = 0.0
        for source, target in pairs:
            number = (FORWARD + BACKWARD).index((source, target))
            rows = [row for row in range(4) if patterns[row][MODALITIES.index(source)]]
            assert len(rows) == 3  # the target is there in the whole sample, even where the batch hides it
            errors = []
            for row in rows:
                frames = whole.features[target][row, : int(whole.lengths[target][row])]
                errors.append(float((frames - number).square().mean()))
            total += sum(errors) / 3
        return total

    assert losses["forward"].item() == pytest.approx(0.5 * expected(FORWARD), rel=1e-5)
    assert losses["backward"].item() == pytest.approx(0.25 * expected(BACKWARD), rel=1e-5)
    assert set(losses) == {"classification", "forward", "backward"}
    assert set(network(replace(batch, views={})).losses) == {"classification"}


def test_the_label_needs_neither_target_nor_decoder() -> None:
    network = make().eval()
    batch = hide(make_batch(4, 3), [True, False, True], whole=True)
    before = network(batch)
    with torch.no_grad():
        for name, p in network.named_parameters():
            if name.split(".")[2:3] in (["decoder"], ["output"], ["begin"]):
                p.add_(1.0)
    after = network(replace(batch, views={}))
    torch.testing.assert_close(after.prediction, before.prediction)
    assert before.hidden["joint"].shape == (4, 48)
    torch.testing.assert_close(before.prediction, network.head(before.hidden["joint"]))


def test_the_order_of_frames_counts() -> None:
    network, batch = make().eval(), make_batch(2, 3)
    text = batch.features["text"].clone()
    length = int(batch.lengths["text"][0])
    text[0, :length] = text[0, :length].flip(0)
    turned = network(replace(batch, features={**batch.features, "text": text})).prediction
    plain = network(batch).prediction
    assert not torch.allclose(turned[0], plain[0])
    torch.testing.assert_close(turned[1], plain[1])


@pytest.mark.parametrize("outputs", [1, 3])
def test_gradients_patterns_padding_and_order(outputs: int) -> None:
    network = make(outputs, layers=2)
    reached = set()
    for pattern in (*PATTERNS, [False] * 3):
        network.zero_grad()
        output = network(hide(make_batch(12, outputs), pattern, whole=True))
        torch.stack(list(output.losses.values())).sum().backward()
        assert torch.isfinite(output.prediction).all()
        assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
        reached |= {n for n, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {n for n, _ in network.named_parameters()}
    network.eval()
    batch = hide(make_batch(5, outputs), [True, True, False], whole=True)
    plain = network(batch)

    def same(other: Batch, order: Tensor) -> None:
        found = network(other)
        torch.testing.assert_close(found.prediction, plain.prediction[order])
        torch.testing.assert_close(found.losses, plain.losses)

    same(replace(lengthen(batch, 4), views={"whole": lengthen(batch.views["whole"], 3)}), torch.arange(5))
    order = torch.tensor([3, 0, 4, 1, 2])
    same(reorder(batch, order), order)
    alone = torch.cat([network(one_of(batch, row)).prediction for row in range(5)])
    torch.testing.assert_close(alone, plain.prediction)


def test_a_modality_that_nobody_has_is_no_target_and_leaves_finite_gradients() -> None:
    """Its one zero frame must be there for the decoder to attend to: a softmax over nothing is not a number."""
    network, recorded = make(), hide(make_batch(4, 3), [True, False, True])
    assert recorded.features["audio"].shape[1] == 1
    losses = network(replace(recorded, views={"whole": recorded})).losses
    torch.stack(list(losses.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    assert not any(p.grad.any() for p in network._translation("text", "audio").output.parameters())


def test_one_batch_overfits_and_the_translations_improve() -> None:
    network = make(dropout=0.0)
    history = train(network, hide(make_batch(8, 3), [True, True, True], whole=True), 60, rate=5e-3)
    for name, value in history[0].items():
        assert history[-1][name] < 0.8 * value, name
    assert Model.recipe(network.settings) == {
        "train_on": "random-condition", "learning_rate": 1e-3, "epochs": 20, "batch_size": 32
    }  # fmt: skip


def test_heads_that_do_not_fit() -> None:
    with pytest.raises(ValidationError, match="multiple of the heads"):
        TransMSettings(size=10, heads=4)
