"""CubeMLP against its equations written out, and what goes into the cube."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from models.base import MODALITIES, drop_frames
from models.cubemlp import CubeMLPSettings, Frames, Mixer, Model
from tests.batches import DIMS, PATTERNS, hide, lengthen, make_batch, reorder, train

SMALL = {"steps": 6, "channels": 8, "blocks": [[4, 3, 6], [2, 2, 5]]}


def make(outputs: int = 4, **settings: object) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Model(CubeMLPSettings.model_validate({**SMALL, **settings}), DIMS, outputs)


def normed(values: Tensor, axis: int, norm: nn.LayerNorm) -> Tensor:
    """Return the LayerNorm along one axis, from its definition."""
    shape = [1] * values.ndim
    shape[axis] = -1
    mean = values.mean(dim=axis, keepdim=True)
    spread = ((values - mean) ** 2).mean(dim=axis, keepdim=True)
    scaled = (values - mean) / (spread + 1e-6).sqrt()
    return scaled * norm.weight.view(shape) + norm.bias.view(shape)


def mixed(cube: Tensor, mixer: Mixer, equation: str, axis: int, first: bool) -> Tensor:
    """Return one mixing with the sums written out, ``equation`` such as "blkc,ml->bmkc"."""
    shape = [1] * 4
    shape[axis] = -1
    inner, outer = mixer.mlp[0], mixer.mlp[2]
    inside = normed(cube, axis, mixer.norm) if first else cube
    hidden = torch.einsum(equation, inside, inner.weight) + inner.bias.view(shape)
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))  # GELU
    result = torch.einsum(equation, hidden, outer.weight) + outer.bias.view(shape)
    result = result + torch.einsum(equation, cube, mixer.residual.weight)
    return result if first else normed(result, axis, mixer.norm)


@pytest.mark.parametrize("norm", ["first", "last"])
@pytest.mark.parametrize("variant", ["paper", "code"])
def test_the_mixing_written_out(norm: str, variant: str) -> None:
    network = make(norm=norm, variant=variant).eval().double()
    for mixer in network.mixers:
        nn.init.normal_(mixer.norm.weight)
        nn.init.normal_(mixer.norm.bias)
    batch = make_batch(5, 4)
    batch = replace(batch, features={m: v.double() for m, v in batch.features.items()})
    cube = network.cube(batch)
    equations = ["blkc,ml->bmkc", "blkc,mk->blmc", "blkc,mc->blkm"]
    for number, mixer in enumerate(network.mixers):
        cube = mixed(cube, mixer, equations[number % 3], number % 3 + 1, norm == "first")
    assert cube.shape == (5, 2, 2, 5)
    joint = cube.reshape(5, -1) if variant == "paper" else cube.mean(dim=1).reshape(5, -1)
    output = network(batch)
    torch.testing.assert_close(output.hidden["joint"], joint, rtol=1e-5, atol=1e-5)
    expected = joint @ network.head.weight.T + network.head.bias
    torch.testing.assert_close(output.prediction, expected, rtol=1e-5, atol=1e-5)


def test_audio_and_video_against_two_packed_grus() -> None:
    encoder = Frames(5, 4).eval()
    values, lengths = torch.randn(3, 7, 5), torch.tensor([7, 1, 4])
    states = values
    for part in (encoder.first, encoder.second):
        both = nn.GRU(states.shape[2], 4, batch_first=True, bidirectional=True)
        both.load_state_dict(
            {
                **dict(part.forwards.state_dict()),
                **{f"{name}_reverse": value for name, value in part.backwards.state_dict().items()},
            }
        )
        packed = nn.utils.rnn.pack_padded_sequence(states, lengths, batch_first=True, enforce_sorted=False)
        states, _ = nn.utils.rnn.pad_packed_sequence(both(packed)[0], batch_first=True)
    expected = torch.relu(encoder.norm(states[:, :, :4] + states[:, :, 4:]))
    found = encoder(values, lengths)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(found[row, :length], expected[row, :length])


def test_what_stands_in_the_cube() -> None:
    network = make().eval()
    batch = make_batch(3, 4)
    cube = network.cube(batch)
    assert cube.shape == (3, 6, 3, 8)
    for index, modality in enumerate(MODALITIES):
        for row, length in enumerate(batch.lengths[modality].tolist()):
            assert (cube[row, min(length, 6) :, index] == 0).all()
    # text of 7 words in 6 steps: the first is the mean of words 0 and 1 (floor 0, ceil 7/6), at once projected
    words = batch.features["text"][0]
    assert batch.lengths["text"][0] == 7
    torch.testing.assert_close(cube[0, 0, 0], (words[0] + words[1]) / 2 @ network.project.weight.T)
    short = next(row for row in range(3) if batch.lengths["text"][row] <= 6)
    length = int(batch.lengths["text"][short])
    torch.testing.assert_close(
        cube[short, :length, 0], batch.features["text"][short, :length] @ network.project.weight.T
    )


@pytest.mark.parametrize("outputs", [1, 4])
@pytest.mark.parametrize("settings", [{}, {"variant": "code"}, {"norm": "last", "blocks": [[20, 3, 8]]}])
def test_every_parameter_gets_a_gradient_and_one_batch_overfits(
    outputs: int, settings: dict[str, object]
) -> None:
    network = make(outputs, dropout=0.0, **settings)
    batch = make_batch(5, outputs)
    first = train(network, batch, 1, rate=1e-2)[0]
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    last = train(network, batch, 60, rate=1e-2)[-1]
    (task,) = first
    assert last[task] < 0.2 * first[task]


def test_more_numbers_than_128_get_a_hidden_layer() -> None:
    assert isinstance(make(blocks=[[20, 3, 3]]).head, nn.Sequential)  # 180
    assert isinstance(make(blocks=[[20, 3, 3]], variant="code").head, nn.Linear)  # 9
    default = Model(CubeMLPSettings(), DIMS, 1)
    assert default.head[0].in_features == 10 * 3 * 32  # type: ignore[index]


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
    gone = drop_frames(batch, {m: torch.zeros_like(batch.observed[m]) for m in MODALITIES})
    missing = hide(batch, [False, False, False])
    torch.testing.assert_close(network(gone).prediction, network(missing).prediction)


def test_a_second_derivative_and_bfloat16() -> None:
    network, batch = make(1), make_batch(4, 1)
    loss = network(batch).losses["regression"]
    first = torch.autograd.grad(loss, list(network.parameters()), create_graph=True)
    torch.stack([g.square().sum() for g in first]).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(hide(batch, [True, False, True]))
    assert torch.isfinite(output.prediction).all() and output.losses["regression"].dtype == torch.float32


def test_its_training_and_its_settings() -> None:
    assert Model.recipe(CubeMLPSettings()) == {
        "learning_rate": 4e-3, "batch_size": 128, "epochs": 70, "decay_epochs": 10, "clip_value": 1.0
    }  # fmt: skip
    assert list(make().parameter_groups()) == ["rest"]
    with pytest.raises(ValidationError, match="blocks"):
        CubeMLPSettings(blocks=())
