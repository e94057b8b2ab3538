"""The linear floor: what it reads, and its one layer, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.linear import LinearSettings, Model
from tests.batches import DIMS, hide, make_batch


def test_it_reads_means_and_deviations_of_the_observed_frames() -> None:
    batch = make_batch(2, outputs=1)
    audio, seen = torch.zeros(2, 3, DIMS["audio"]), torch.tensor([[True, False, True], [False] * 3])
    audio[0, :, 1] = torch.tensor([1.0, 99.0, 5.0])  # mean 3, deviation 2
    batch = replace(
        batch,
        features={**batch.features, "audio": audio},
        observed={**batch.observed, "audio": seen},
    )
    joint = Model(LinearSettings(deviation=True), DIMS, 1)(batch).hidden["joint"]
    assert joint.shape == (2, 2 * 15)
    text, means, video, _, deviations, _ = joint.split([6, 5, 4, 6, 5, 4], dim=1)
    assert means[0].tolist() == [0.0, 3.0, 0.0, 0.0, 0.0]
    assert deviations[0].tolist() == pytest.approx([1e-6, 2.0, 1e-6, 1e-6, 1e-6])  # 1e-12 under the root
    assert not means[1].any() and not deviations[1].any()
    for found, m in ((text, "text"), (video, "video")):
        expected = batch.features[m].sum(dim=1) / batch.lengths[m][:, None]
        torch.testing.assert_close(found, expected)
    assert Model(LinearSettings(), DIMS, 1)(batch).hidden["joint"].shape == (2, 15)


def test_its_answer_and_its_loss_by_hand() -> None:
    network = Model(LinearSettings(), DIMS, 1)
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.fill_(0.5)
    output = network(replace(hide(make_batch(2, 1), [True, False, True]), scores=torch.tensor([2.0, 0.0])))
    assert output.prediction.tolist() == [[0.5], [0.5]]
    assert output.losses["regression"].item() == pytest.approx((1.5 + 0.5) / 2)
    assert Model.recipe(LinearSettings()) == {"learning_rate": 3e-3, "weight_decay": 0.01}
    assert LinearSettings().deviation is False
