"""MMIN: the cascade, both imaginations and the teacher, on numbers worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from models import baseline, mmin
from models.base import Pretraining
from models.baseline import BaselineSettings
from models.layers import CascadeResidualAutoencoder, ResidualAutoencoder
from models.mmin import AUTOENCODER, MMINSettings, Model
from tests.batches import DIMS, PATTERNS, hide, make_batch, train


def make(seed: int = 0, **settings: object) -> Model:
    torch.manual_seed(seed)
    return Model(MMINSettings.model_validate(settings), DIMS, 4)


def constant_autoencoder(out: float, latent: float) -> ResidualAutoencoder:
    """Return phi with phi(x) = out + 0.5 mean(x) and c = relu(latent + mean(x)), in every element."""
    block = ResidualAutoencoder(AUTOENCODER)
    linears = [layer for layer in block.modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for layer in linears:
            layer.weight.fill_(1 / layer.in_features)
            layer.bias.zero_()
        linears[2].bias.fill_(latent)  # 128 -> 64: the latent vector
        linears[3].bias.fill_(-latent)
        linears[5].weight.fill_(0.5 / linears[5].in_features)
        linears[5].bias.fill_(out)
    return block


def test_sizes_are_those_of_table_3() -> None:
    block = ResidualAutoencoder(AUTOENCODER)
    sizes = [
        (layer.in_features, layer.out_features) for layer in block.modules() if isinstance(layer, nn.Linear)
    ]
    assert sizes == [(384, 256), (256, 128), (128, 64), (64, 128), (128, 256), (256, 384)]
    network = make()
    assert len(network.imagine_forward.blocks) == 5
    assert [(x.in_features, x.out_features) for x in network.classifier if isinstance(x, nn.Linear)] == [
        (320, 128),
        (128, 64),
        (64, 4),
    ]


def test_the_cascade_is_equations_2_and_3() -> None:
    cascade = CascadeResidualAutoencoder(3, AUTOENCODER)
    cascade.blocks = nn.ModuleList(
        [constant_autoencoder(1.0, 2.0), constant_autoencoder(0.0, 0.0), constant_autoencoder(2.0, 1.0)]
    )
    h = torch.full((1, 384), 4.0)
    # dz1 = 1 + 4/2 = 3, c1 = 2 + 4 = 6; dz2 = 7/2, c2 = 7; dz3 = 2 + 10.5/2 = 7.25, c3 = 1 + 10.5
    imagined, joint = cascade(h)
    torch.testing.assert_close(imagined, torch.full((1, 384), 4 + 3 + 3.5 + 7.25))
    torch.testing.assert_close(joint, torch.tensor([6.0, 7.0, 11.5]).repeat_interleave(64)[None])


def test_the_activations_of_the_paper_and_of_the_code() -> None:
    """Every layer takes the mean of its input; the input is -1."""
    paper, code = ResidualAutoencoder(AUTOENCODER), ResidualAutoencoder(AUTOENCODER, leaky=True)
    for block in (paper, code):
        with torch.no_grad():
            for layer in block.modules():
                if isinstance(layer, nn.Linear):
                    layer.weight.fill_(1 / layer.in_features)
                    layer.bias.zero_()
    x = torch.full((1, 384), -1.0)
    # ReLU: 0 everywhere. LeakyReLU twice in the encoder, nothing on the latent vector, ReLU in the decoder.
    for block, latent, output in ((paper, 0.0, 0.0), (code, -(0.01**2), 0.0)):
        found = block(x)
        torch.testing.assert_close(found[1], torch.full((1, 64), latent))
        torch.testing.assert_close(found[0], torch.full((1, 384), output))
    assert [type(x).__name__ for x in code.encoder[0]] == [
        "Linear",
        "LeakyReLU",
        "Linear",
        "LeakyReLU",
        "Linear",
    ]
    for variant, kinds in (("paper", {"ReLU"}), ("code", {"ReLU", "LeakyReLU"})):
        for imagination in ("cra", "ae"):
            network = make(variant=variant, imagination=imagination).imagine_forward
            found = {type(x).__name__ for x in network.modules() if "ReLU" in type(x).__name__}
            assert found == kinds


class Fixed(nn.Module):
    """Stands for encoders (of a batch) or an imagination (of an embedding) with a known result."""

    def __init__(self, *results: torch.Tensor) -> None:
        super().__init__()
        self.results = results

    def forward(self, _: object) -> torch.Tensor | tuple[torch.Tensor, ...]:
        return self.results[0] if len(self.results) == 1 else self.results


@pytest.mark.parametrize(
    ("kind", "forward", "backward"), [("norm", 0.3 * 40.0, 0.2 * 13.0), ("mean", 0.3 * 10.0, 0.2 * 3.25)]
)
def test_both_imagination_losses_by_hand(kind: str, forward: float, backward: float) -> None:
    network = make(imagination_loss=kind, forward_weight=0.3, backward_weight=0.2)
    batch = hide(make_batch(2, 4), [True, False, True], complement=True)
    h = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0]])
    target = torch.tensor([[0.0, 0.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0]])
    imagined = torch.tensor([[2.0, 4.0, 6.0, 2.0], [0.0, 0.0, 0.0, 4.0]])
    again = torch.tensor([[0.0, 2.0, 0.0, 4.0], [0.0, 4.0, 0.0, 0.0]])
    network.encoders = Fixed(h)  # type: ignore[assignment]
    network.teacher = Fixed(target)  # type: ignore[assignment]
    network.imagine_forward = Fixed(imagined, torch.zeros(2, 320))
    network.imagine_backward = Fixed(again, torch.zeros(2, 320))
    # forward: 4+16+36+4 = 60 and 4+16 = 20; backward: 1+9 = 10 and 16: means of 40 and 13 a sample
    with torch.no_grad():
        for parameter in network.classifier.parameters():
            parameter.zero_()
    losses = network(batch).losses
    assert losses["classification"].item() == pytest.approx(math.log(4))
    assert losses["forward"].item() == pytest.approx(forward)
    assert losses["backward"].item() == pytest.approx(backward)


def test_the_backward_target_takes_no_gradient() -> None:
    network = make(cycle=True)
    network.imagine_forward = Fixed(torch.zeros(3, 384), torch.zeros(3, 320))
    batch = hide(make_batch(3, 4), [False, True, True], complement=True)
    network(batch).losses["backward"].backward()
    assert all(parameter.grad is None for parameter in network.encoders.parameters())
    assert all(parameter.grad is not None for parameter in network.imagine_backward.parameters())


def test_the_targets_are_the_teachers_view_of_the_complement() -> None:
    network, batch = make(), make_batch(4, 4)
    output = network(hide(batch, [True, False, False], complement=True))
    with torch.no_grad():
        whole = network.teacher(batch)
        nothing = network.teacher(hide(batch, [False, False, False]))
    expected = torch.cat([nothing[:, :128], whole[:, 128:]], dim=1)  # text is missing in the complement
    torch.testing.assert_close(output.hidden["target"], expected)


def test_the_teacher_is_a_frozen_copy_of_the_pretrained_network() -> None:
    torch.manual_seed(5)
    source = baseline.Model(BaselineSettings(), DIMS, 4)
    network = make()
    network.load_pretrained(source)
    wanted = source.encoders.state_dict()
    for encoders in (network.encoders, network.teacher):
        for name, value in encoders.state_dict().items():
            assert torch.equal(value, wanted[name])
    batch = hide(make_batch(6, 4), [True, True, False], complement=True)
    train(network, batch, steps=3)
    assert network.training and not network.teacher.training
    assert all(torch.equal(value, wanted[name]) for name, value in network.teacher.state_dict().items())
    assert any(not torch.equal(value, wanted[name]) for name, value in network.encoders.state_dict().items())
    with pytest.raises(TypeError, match="found Linear"):
        network.load_pretrained(nn.Linear(1, 1))


def test_without_a_complement_there_is_only_the_tasks_loss() -> None:
    network = make().eval()
    output = network(hide(make_batch(3, 4), [True, False, True]))
    assert list(output.losses) == ["classification"]
    assert output.prediction.shape == (3, 4)


def test_every_trainable_parameter_is_in_a_group_and_gets_a_gradient() -> None:
    for settings in (
        {},
        {"variant": "code"},
        {"imagination": "ae"},
        {"cycle": False},
        {"share_imagination": True},
    ):
        network = make(**settings)
        grouped = [parameter for group in network.parameter_groups().values() for parameter in group]
        trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
        assert {id(p) for p in grouped} == {id(p) for p in trainable} and len(grouped) == len(trainable)
        for pattern in PATTERNS[:-1]:
            batch = make_batch(16, 4, seed=sum(pattern))
            torch.stack(list(network(hide(batch, pattern, complement=True)).losses.values())).sum().backward()
        lacking = [
            name
            for name, p in network.named_parameters()
            if p.requires_grad and (p.grad is None or not p.grad.any())
        ]
        # of the code's transition the forward one has no classifier behind it, yet the losses reach it
        assert not lacking


def test_the_variant_of_the_code_switches_each_line_of_the_table() -> None:
    paper, code = make(), make(variant="code")
    assert (paper.forward_weight, paper.backward_weight) == (0.1, 0.1)
    assert (code.forward_weight, code.backward_weight) == (4.0, 2.0)
    assert paper.loss_kind == code.loss_kind == "mean"
    assert [x.p for x in code.classifier if isinstance(x, nn.Dropout)] == [0.5, 0.5]
    assert (code.encoders.text.dropout.p, code.teacher.text.dropout.p, paper.encoders.text.dropout.p) == (
        0.5,
        0,
        0,
    )
    linear = make(variant="code", initialisation="kaiming").imagine_forward.blocks[0].decoder[-1]
    assert linear.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.03) and not linear.bias.any()
    assert paper.imagine_forward.blocks[0].decoder[-1].bias.any()
    for name, value in code.teacher.state_dict().items():
        assert torch.equal(value, code.encoders.state_dict()[name]), name
    assert [x.out_features for x in code.classifier if isinstance(x, nn.Linear)] == [128, 128, 4]
    assert Model.pretraining(MMINSettings()) == Pretraining("baseline")
    assert Model.pretraining(MMINSettings(variant="code")) == Pretraining("baseline", {"variant": "code"})
    assert not [x for x in paper.classifier if isinstance(x, nn.Dropout)]
    assert isinstance(paper.imagine_forward.transition, nn.Identity)
    kinds = [type(x).__name__ for x in code.imagine_forward.transition]
    assert kinds == ["Linear", "ReLU", "Linear"]
    recipe = Model.recipe(MMINSettings(variant="code"))
    assert recipe == {
        "train_on": "random-condition",
        "learning_rate": 2e-4,
        "beta1": 0.5,
        "epochs": 60,
        "decay_epochs": 30,
        "batch_size": 128,
        "clip_norm": 1.0,
        "clip_groups": True,
    }
    assert Model.recipe(MMINSettings()) == {"train_on": "missing"}


def test_settings_go_before_the_variant() -> None:
    network = make(variant="code", forward_weight=0.0, dropout=0.0, imagination_loss="norm")
    assert network.forward_weight == 0.0 and network.backward_weight == 2.0 and network.loss_kind == "norm"
    assert not [x for x in network.classifier if isinstance(x, nn.Dropout)]


def test_the_plain_autoencoder_is_as_large_as_the_cascade() -> None:
    def count(network: nn.Module) -> int:
        return sum(parameter.numel() for parameter in network.parameters())

    cascade, plain = make().imagine_forward, make(imagination="ae").imagine_forward
    assert count(cascade) == 1_398_720 and count(plain) == 1_397_036
    output, latent = plain(torch.zeros(2, 384))
    assert output.shape == (2, 384) and latent.shape == (2, 320)


def test_without_the_cycle_there_is_no_backward_network() -> None:
    network = make(cycle=False)
    losses = network(hide(make_batch(3, 4), [True, False, True], complement=True)).losses
    assert list(losses) == ["classification", "forward"]
    assert network.imagine_backward is None


def test_shared_weights_imagine_both_ways() -> None:
    shared, two = make(share_imagination=True), make()
    two.load_state_dict({**two.state_dict(), **shared.state_dict()})
    two.imagine_backward.load_state_dict(two.imagine_forward.state_dict())
    assert shared.imagine_backward is None
    batch = hide(make_batch(3, 4), [True, False, True], complement=True)
    found, expected = shared(batch).losses, two(batch).losses
    assert list(found) == ["classification", "forward", "backward"]
    torch.testing.assert_close(found, expected)
    found["backward"].backward()
    expected["backward"].backward()
    first, twice = next(shared.imagine_forward.parameters()), next(two.imagine_backward.parameters())
    other = next(two.imagine_forward.parameters())
    torch.testing.assert_close(first.grad, twice.grad + other.grad)


def test_the_joint_representation_is_read_from_the_forward_latents() -> None:
    network = make().eval()
    output = network(hide(make_batch(3, 4), [True, False, True]))
    torch.testing.assert_close(output.prediction, network.classifier(output.hidden["joint"]))
    assert output.hidden["joint"].shape == (3, mmin.BLOCKS * mmin.LATENT)
    assert output.hidden["imagined"].shape == output.hidden["embedding"].shape == (3, 384)


def test_scores_train_as_well() -> None:
    torch.manual_seed(0)
    network = Model(MMINSettings(), DIMS, 1)
    batch = hide(make_batch(8, 1), [True, True, False], complement=True)
    history = train(network, batch, steps=30)
    assert history[-1]["regression"] < history[0]["regression"] / 2


def test_one_batch_can_be_learnt_by_heart() -> None:
    network, batch = make(), make_batch(12, 4)
    history = train(network, hide(replace(batch), [True, False, True], complement=True), steps=150)
    assert history[-1]["classification"] < 0.05
