"""EMMR: key detection and the ensemble's equations by hand, and that the ensemble is really there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from models.base import MODALITIES, Batch, View, drop_frames
from models.emmr import EMMRSettings, Model, inconsistent
from models.layers import Attention, sequence_distance
from tests.batches import DIMS, PATTERNS, hide, hide_each, lengthen, make_batch, one_of, reorder, train

SMALL = {"size": 12, "heads": 2, "inner": 16}
MIXED = [[True] * 3, [False, True, True], [True, False, True], [True, True, False], [False, False, True]] * 4


def make(outputs: int = 3, seed: int = 0, **settings: Any) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Model(EMMRSettings.model_validate({**SMALL, **settings}), DIMS, outputs)


def mixed(outputs: int = 3, seed: int = 0, whole: bool = False) -> Batch:
    """Return 20 samples: complete, each modality missing, and two missing, in turn."""
    return hide_each(make_batch(len(MIXED), outputs, seed), MIXED, whole=whole)


def parts(network: Model, *names: str) -> list[nn.Parameter]:
    return [p for name, p in network.named_parameters() if name.startswith(names)]


# The equations.


def test_key_detection_by_hand() -> None:
    every = torch.tensor([[0.1, 2.0, 0.3], [1.0, 0.0, 0.0]])  # classes 1 and 0
    pairs = torch.tensor(
        [
            [[0.0, 1.0, 0.0], [5.0, 1.0, 0.0], [0.0, 0.0, 3.0]],  # 1, 0, 2
            [[1.0, 0.0, 0.0], [2.0, 1.9, 0.0], [0.0, 0.1, 0.0]],  # 0, 0, 1
        ]
    )
    assert inconsistent(every, pairs).tolist() == [[False, True, True], [False, False, True]]
    signs = inconsistent(torch.tensor([[0.4], [-0.1]]), torch.tensor([[[0.1], [-2.0]], [[-3.0], [0.0]]]))
    assert signs.tolist() == [[False, True], [False, False]]
    assert inconsistent(torch.tensor([[0.0]]), torch.tensor([[[-1.0], [1.0]]])).tolist() == [[False, True]]


def test_only_a_missing_modality_can_be_key() -> None:
    network = make()
    every = torch.tensor([[0.0, 1.0, 0.0]] * 5)
    pairs = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]] * 5)  # text, video disagree
    there = torch.tensor(MIXED[:5])  # all; without text, audio, video; video alone
    key, absent = network._key(make_batch(5, 3), there, every, pairs)
    assert key.tolist() == [False, True, False, True, False]
    assert absent.tolist() == [-1, 0, 1, 2, -1]


def test_equations_10_and_11_by_hand() -> None:
    network = make(outputs=2)
    log3, log4 = float(torch.tensor(3.0).log()), float(torch.tensor(4.0).log())
    pairs = torch.tensor([[[[0.0, log3], [0.0, 0.0], [log4, 0.0]]]])  # one branch, one sample
    confidence = torch.tensor([0.75, 0.5, 0.8])  # the larger of 1/4, 3/4; 1/2, 1/2; 4/5, 1/5
    alpha = confidence.exp() / confidence.exp().sum()
    found = network.key_vectors(pairs, torch.zeros(1, 1, 3, 12))
    expected = torch.tensor([0.0, alpha[0] * log3, 0.0, 0.0, alpha[2] * log4, 0.0])
    torch.testing.assert_close(found, expected[None, None])
    vectors = torch.eye(3, 12)[None, None]
    adding = make(outputs=2, key_vector="vectors").key_vectors(pairs, vectors)
    torch.testing.assert_close(adding[0, 0, :3], alpha)
    scores = make(outputs=1).key_vectors(torch.tensor([[[[log3], [0.0], [-log4]]]]), vectors)
    torch.testing.assert_close(scores, torch.tensor([[[alpha[0] * log3, 0.0, -alpha[2] * log4]]]))


def test_equation_12_by_hand() -> None:
    network = make(outputs=2)
    assert network.mix is not None
    with torch.no_grad():
        network.mix.weight.copy_(torch.tensor([[1.0, 2.0, 0.0, 0.0, 0.0, 0.0]]))
    h = torch.zeros(3, 1, 6)  # TF, AE, MMIN
    h[:, 0, 0], h[:, 0, 1] = torch.tensor([0.5, -1.0, 0.0]), torch.tensor([0.0, 0.25, 2.0])
    scores = h[:, 0, 0].tanh() + 2 * h[:, 0, 1].tanh()
    beta = scores.exp() / scores.exp().sum()
    expected = torch.tensor([0.5 * beta[0] - beta[1], 0.25 * beta[1] + 2 * beta[2], 0.0, 0.0, 0.0, 0.0])
    torch.testing.assert_close(network.combine(h), expected[None])
    most = make(outputs=2, combine="max").combine(h)[0, :2]
    mean = make(outputs=2, combine="average").combine(h)[0, :2]
    assert most.tolist() == [0.5, 2.0] and mean.tolist() == pytest.approx([-0.5 / 3, 2.25 / 3])


def test_equation_13_the_ensemble_decides_on_key_samples_and_tf_on_the_others() -> None:
    network = make().eval()
    output = network(mixed())
    key = output.hidden["key"]
    assert key.any() and not key.all()
    for row, is_key in enumerate(key.tolist()):
        wanted = output.hidden["ensemble" if is_key else "backbone"][row]
        assert torch.equal(output.prediction[row], wanted)
        assert not torch.equal(output.hidden["ensemble"][row], output.hidden["backbone"][row])
    torch.testing.assert_close(network.head(output.hidden["joint"]), output.prediction)


@pytest.mark.parametrize("residual", [True, False])
def test_an_opinion_is_the_mean_of_multi_head_attention_over_a_subset_of_positions(residual: bool) -> None:
    network = make(residual=residual).eval()
    opinions = network.opinions
    values, members = torch.randn(4, 9, 12), torch.rand(4, 3, 9) < 0.6
    members[:, :, 2] = True
    found = opinions.vectors(values, members)
    mha = Attention(12, 2)
    mha.load_state_dict(opinions.attention.state_dict())
    for row in range(4):
        for subset in range(3):
            x = values[row : row + 1, members[row, subset]]
            expected = mha(x, x, torch.ones(x.shape[:2], dtype=torch.bool)).mean(dim=1)
            if opinions.norm is not None:
                expected = opinions.norm(x.mean(dim=1) + expected)
            torch.testing.assert_close(found[row, subset], expected[0])


def test_what_is_said_of_each_branch_is_said_of_its_own_recovered_input() -> None:
    """Written once more, sample by sample: the branch's recovered modality in the place of the missing one."""
    network = make(missing_frames=2).eval()
    batch = mixed()
    tokens = network.encoder(batch)
    joined, keep = tokens.joined()
    decoded = network._decode(tokens, joined, keep, network.tf_encoder(joined, keep))
    every, pairs, vectors = network._opinions(tokens, decoded)
    for row in range(len(batch)):
        for number, branch in enumerate(decoded):
            parts = tokens.split(branch)
            input_of = {
                m: (tokens.values if tokens.there[row, i] else parts)[m][row][tokens.keep[m][row]]
                for i, m in enumerate(MODALITIES)
            }
            for left_out in (None, *MODALITIES):
                x = torch.cat([v for m, v in input_of.items() if m != left_out])[None]
                (vector,) = network.opinions.vectors(x, torch.ones(1, 1, x.shape[1], dtype=torch.bool))[0]
                if left_out is None:
                    if number == 0:
                        torch.testing.assert_close(every[0, row], network.opinions.all(vector))
                    continue
                place = MODALITIES.index(left_out)
                torch.testing.assert_close(vectors[number, row, place], vector)
                said = network.opinions.without[left_out](vector)
                torch.testing.assert_close(pairs[number, row, place], said)


def test_the_missing_modality_alone_is_recovered_by_each_branch_from_its_own_decoder() -> None:
    network = make().eval()
    batch = hide(make_batch(4, 3), [True, False, True])  # no audio
    tokens = network.encoder(batch)
    joined, keep = tokens.joined()
    decoded = network._decode(tokens, joined, keep, network.tf_encoder(joined, keep))
    assert len(decoded) == 3
    _, pairs, _ = network._opinions(tokens, decoded)
    # without audio, nothing recovered is in the pair: all branches say the same
    torch.testing.assert_close(pairs[:, :, 1], pairs[:1, :, 1].expand(3, -1, -1))
    changed = [one.clone() for one in decoded]
    text = tokens.values["text"].shape[1]
    changed[1][:, :text] += 5.0  # what AE says of a modality that is there: not looked at
    torch.testing.assert_close(network._opinions(tokens, changed)[1], pairs)
    changed[1][:, text : text + 1] += torch.randn(12)  # what it puts in audio's place
    again = network._opinions(tokens, changed)[1]
    assert not torch.allclose(again[1, :, 0], pairs[1, :, 0])
    torch.testing.assert_close(again[[0, 2]], pairs[[0, 2]])


def test_sizes_of_the_appendix() -> None:
    network = Model(EMMRSettings(), DIMS, 3)
    assert network.ae is not None and network.mmin is not None
    linears = [x for x in network.ae.modules() if isinstance(x, nn.Linear)]
    assert [x.out_features for x in linears] == [300, 256, 128, 64, 128, 256, 300]
    assert linears[0].in_features == 300 and len(network.mmin.blocks) == 5
    assert isinstance(network.ae.decoder[-1], nn.ReLU)
    assert isinstance(make(positive_output=False).ae.decoder[-1], nn.Linear)  # type: ignore[union-attr]


# What the reference's defect would fail.


@pytest.mark.parametrize("branch", ["ae", "mmin"])
def test_a_branchs_weights_change_the_answer_for_key_samples_and_for_no_other(branch: str) -> None:
    network, batch = make().eval(), mixed()
    before = network(batch)
    with torch.no_grad():
        for p in parts(network, branch):
            p.add_(torch.randn_like(p))
    after = network(batch)
    key = before.hidden["key"]
    assert torch.equal(after.hidden["key"], key) and key.any()
    changed = (after.prediction != before.prediction).any(dim=1)
    assert torch.equal(changed, key)


def test_the_branches_get_gradients_from_the_task_through_key_samples() -> None:
    network = make(label_weight=0, backward_weight=0, forward_weight=0)
    batch = mixed()
    network(batch).losses["classification"].backward()
    for name in ("ae.", "mmin.", "mix", "to_joint", "tf_decoder"):
        assert all(p.grad is not None and p.grad.any() for p in parts(network, name)), name
    assert all(p.grad is None for p in parts(network, "opinions.all"))


def test_dropout_is_off_at_test_and_on_in_training() -> None:
    network, batch = make(), mixed()
    network.eval()
    assert torch.equal(network(batch).prediction, network(batch).prediction)
    network.train()
    assert not torch.equal(network(batch).prediction, network(batch).prediction)


def test_key_and_other_samples_together_are_as_one_by_one() -> None:
    network, batch = make().eval(), mixed(whole=True)
    together = network(batch)
    assert together.hidden["key"].any() and not together.hidden["key"].all()
    alone = [network(one_of(batch, row)) for row in range(len(batch))]
    for name, values in {"prediction": together.prediction, **together.hidden}.items():
        each = torch.cat([one.prediction if name == "prediction" else one.hidden[name] for one in alone])
        torch.testing.assert_close(each, values)
    for name, loss in together.losses.items():
        torch.testing.assert_close(torch.stack([one.losses[name] for one in alone]).mean(), loss)


# Choices.


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"key": "always"}, [True] * 5),
        ({"several_missing": "ensemble", "key": "oracle"}, [False, True, False, True, True]),
        ({"key": "oracle"}, [False, True, False, True, False]),
    ],
)
def test_who_else_may_say_what_is_key(settings: dict[str, Any], expected: list[bool]) -> None:
    network, batch = make(**settings).eval(), mixed()
    flags = torch.tensor([[True, False, True]] * len(batch))  # text and video are key, audio is not
    assert network.facts(network.settings) == (("key",) if settings["key"] == "oracle" else ())
    if settings["key"] == "oracle":
        with pytest.raises(ValueError, match='no fact "key"'):
            network(batch)
    found = network(replace(batch, facts={"key": flags})).hidden["key"]
    assert found[:5].tolist() == expected


def test_without_an_ensemble_there_is_the_backbone_alone() -> None:
    network = make(key="never")
    assert {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad} == {
        "encoder",
        "tf_encoder",
        "tf_decoder",
        "head",
    }
    assert set(network(mixed()).hidden) == {"joint"}
    whole = make().eval()
    network.load_state_dict(whole.state_dict(), strict=False)
    batch = mixed()
    torch.testing.assert_close(network.eval()(batch).prediction, whole(batch).hidden["backbone"])
    assert make(modalities=["text"]).ensemble == ()
    assert make(branches=["mmin", "tf"]).ensemble == ("tf", "mmin")


@pytest.mark.parametrize("used", [["text"], ["video", "audio"], ["text", "video"]])
def test_modalities_that_are_not_used_are_not_looked_at(used: list[str]) -> None:
    network = make(modalities=used).eval()
    first, second = make_batch(4, 3, seed=0), make_batch(4, 3, seed=1)
    others = {m: second.features[m] for m in MODALITIES if m not in used}
    mix = replace(first, features={**first.features, **others})
    torch.testing.assert_close(network(mix).prediction, network(first).prediction)
    output = network(hide(first, [m == used[0] for m in MODALITIES]))
    if len(used) == 2:  # one of the two is missing
        missing = MODALITIES.index(used[1])
        wanted = torch.where(output.hidden["key"], missing, -1)
        assert torch.equal(output.hidden["key_modality"], wanted)


def test_the_network_with_full_modalities_is_of_the_same_kind_and_ends_the_chain() -> None:
    wanted = Model.pretraining(EMMRSettings(size=24, branches=("tf", "ae"), dropout=0.1))
    assert wanted is not None and wanted.model == "emmr" and wanted.fields == {"train_on": "full"}
    assert wanted.settings == {"role": "pretrain", "size": 24, "dropout": 0.1}
    own = EMMRSettings.model_validate(wanted.settings)
    assert Model.pretraining(own) is None and Model.views(own) == {}
    assert Model.recipe(own)["train_on"] == "full"
    assert Model.pretraining(EMMRSettings(forward_weight=0)) is None
    assert Model.views(EMMRSettings()) == {"whole": View("whole")}
    assert Model.views(EMMRSettings(variant="code")) == {}


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_the_pretrained_network_is_taken_over_and_stays_as_it_is(variant: str) -> None:
    teacher, network = make(role="pretrain", variant=variant, seed=1), make(variant=variant)
    train(teacher, make_batch(8, 3), 3)
    before = network.encoder.state_dict()["attention.projections.text.weight"].clone()
    network.load_pretrained(teacher)
    wanted = teacher.state_dict()
    batch = mixed(whole=True)
    train(network, batch, 3)
    for name, value in network.pretrained.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(value, wanted[f"pretrained.{name}"])
    assert network.training and not network.pretrained.training  # type: ignore[union-attr]
    fresh = make(variant=variant, start="pretrained")
    fresh.load_pretrained(teacher)
    copied = fresh.encoder.state_dict()["attention.projections.text.weight"]
    assert torch.equal(copied, wanted["pretrained.encoder.attention.projections.text.weight"])
    assert not torch.equal(copied, before)
    with pytest.raises(TypeError, match="found Linear"):
        network.load_pretrained(nn.Linear(1, 1))
    with pytest.raises(TypeError, match="role: pretrain"):
        network.load_pretrained(fresh)
    with pytest.raises(ValueError, match="forward_weight 0"):
        make(forward_weight=0).load_pretrained(teacher)


def test_the_losses_are_those_of_equation_14() -> None:
    network, batch = make(forward_weight=0.3, backward_weight=0.2, label_weight=0.5).eval(), mixed(whole=True)
    output = network(batch)
    assert set(output.losses) == {"classification", "labels", "forward", "backward"}
    tokens = network.encoder(batch)
    joined, keep = tokens.joined()
    encoded = network.tf_encoder(joined, keep)
    decoded = network._decode(tokens, joined, keep, encoded)
    apart = torch.stack([sequence_distance(one, joined, keep) for one in decoded])
    torch.testing.assert_close(output.losses["backward"], 0.2 * apart.mean())
    backbone = make(backward_on="backbone", backward_weight=1.0).eval()
    torch.testing.assert_close(backbone(batch).losses["backward"], apart[0])
    every, pairs, _ = network._opinions(tokens, decoded)
    said = torch.cat([every, pairs.permute(0, 2, 1, 3).flatten(0, 1)])  # 1 + 3 branches x 3 pairs
    assert len(said) == 10 and batch.labels is not None
    losses = [nn.functional.cross_entropy(one, batch.labels) for one in said]
    torch.testing.assert_close(output.losses["labels"], 0.5 * torch.stack(losses).mean())
    # the whole samples' E_pre: frames of what is there, their mean for what is not
    own = network.pretrained.encoder(batch.views["whole"])  # type: ignore[union-attr]
    total = torch.zeros(())
    for row in range(len(batch)):
        found, target = [], []
        for index, m in enumerate(MODALITIES):
            values = encoded[row, sum(tokens.values[x].shape[1] for x in MODALITIES[:index]) :]
            frames = own.values[m][row][own.keep[m][row]]
            seen = bool(batch.present[row, index])
            found.append(values[: len(frames) if seen else 1])
            target.append(frames if seen else frames.mean(dim=0, keepdim=True))
        p, q = torch.cat(found).softmax(dim=1), torch.cat(target).softmax(dim=1)
        divergence = (p * (p / q).log()).sum(dim=1) + (q * (q / p).log()).sum(dim=1)
        total = total + divergence.mean() / 2
    torch.testing.assert_close(output.losses["forward"], 0.3 * total / len(batch))


def test_losses_need_their_views_and_labels() -> None:
    network = make().eval()
    assert set(network(mixed()).losses) == {"classification", "labels", "backward"}
    assert network(replace(mixed(), labels=None)).losses == {}
    to_whole = make(backward_target="whole").eval()
    assert set(to_whole(mixed()).losses) == {"classification", "labels"}
    assert "backward" in to_whole(mixed(whole=True)).losses
    assert set(make(outputs=1)(mixed(1, whole=True)).losses) == {
        "regression",
        "labels",
        "forward",
        "backward",
    }


def test_the_target_of_the_backward_loss_may_be_left_alone() -> None:
    for detach in (False, True):
        network = make(detach_target=detach)
        batch = mixed()
        tokens = network.encoder(batch)
        joined, keep = tokens.joined()
        outside = torch.randn(joined.shape)
        network._backward_loss(batch, tokens, joined, keep, [outside.requires_grad_()])["backward"].backward()
        got = any(p.grad is not None and p.grad.any() for p in network.encoder.parameters())
        assert got is not detach


def test_what_a_position_by_position_branch_recovers_depends_on_the_sample_only_with_the_mean() -> None:
    def recovered(**settings: Any) -> Tensor:
        network = make(**settings).eval()
        tokens = network.encoder(hide(make_batch(4, 3), [True, True, False]))
        joined, keep = tokens.joined()
        decoded = network._decode(tokens, joined, keep, network.tf_encoder(joined, keep))
        return torch.stack(decoded)[:, :, -1]  # video's only position

    shown, mean = recovered(), recovered(branch_input="mean")
    for branch, alone, with_mean in zip(("tf", "ae", "mmin"), shown, mean, strict=True):
        assert torch.allclose(alone, alone[:1].expand(4, -1)) is (branch != "tf")
        assert not torch.allclose(with_mean, with_mean[:1].expand(4, -1))


def test_the_variant_of_the_code_is_the_network_that_was_trained() -> None:
    network = make(variant="code")
    assert network.ensemble == () and network.ae is None
    assert network.encoder.common is not None and network.head.pooling is not None
    linears = [x for x in network.head.output if isinstance(x, nn.Linear)]
    assert [x.bias is None for x in linears] == [True, False]
    assert network.encoder.attention.layers["text"].attention.dropout.p == 0.2
    assert make().encoder.attention.layers["text"].attention.dropout.p == 0.3
    assert network.tf_encoder.feed_forward.layers[2].p == 0.0
    assert make().tf_encoder.feed_forward.layers[2].p == 0.3
    training = {"train_on": "random-condition", "learning_rate": 1e-3, "batch_size": 32}
    assert Model.recipe(network.settings) == {**training, "epochs": 10}
    assert Model.recipe(EMMRSettings()) == {**training, "epochs": 20}
    batch = mixed()
    network.eval()
    tokens = network.encoder(batch)
    joined, keep = tokens.joined()
    own, target = network.pretrained(batch)  # type: ignore[misc]
    encoded = network.tf_encoder(joined, keep)
    expected = 0.1 * 2 * sequence_distance(encoded, target, keep)
    torch.testing.assert_close(network(batch).losses["forward"], expected)
    assert own.values.keys() == tokens.values.keys()


# What is asked of every model.

CHOICES: list[dict[str, Any]] = [
    {},
    {"variant": "code"},
    {"role": "pretrain"},
    {"role": "pretrain", "variant": "code"},
    {"key": "never"},
    {"key": "never", "backward_weight": 0},
    {"branches": ["tf", "mmin"], "combine": "max"},
    {"key_vector": "vectors", "pooling": "gated", "several_missing": "ensemble"},
    {"positions": True, "missing_frames": 3, "residual": False, "branch_input": "mean"},
    {"backward_target": "whole", "backward_on": "backbone", "distance": "cosine", "teacher_sees": "shown"},
    {"distance": "mae", "modalities": ["audio", "video"]},
    {"softmax_over": "time", "forward_weight": 0, "label_weight": 0, "key": "always"},
]
NAMES = ["-".join(f"{k}={v}" for k, v in one.items()) or "default" for one in CHOICES]
over_choices = pytest.mark.parametrize("settings", CHOICES, ids=NAMES)


@over_choices
@pytest.mark.parametrize("outputs", [1, 3])
def test_every_trainable_parameter_is_in_one_group_and_gets_a_gradient(
    settings: dict[str, Any], outputs: int
) -> None:
    network = make(outputs, **settings)
    grouped = [p for group in network.parameter_groups().values() for p in group]
    trainable = [p for p in network.parameters() if p.requires_grad]
    assert {id(p) for p in grouped} == {id(p) for p in trainable} and len(grouped) == len(trainable)
    reached = set()
    for seed in range(3):
        network.zero_grad()
        losses = network(mixed(outputs, seed, whole=True)).losses
        torch.stack(list(losses.values())).sum().backward()
        reached |= {n for n, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {n for n, p in network.named_parameters() if p.requires_grad}


@over_choices
def test_padding_order_and_what_is_missing_change_nothing(settings: dict[str, Any]) -> None:
    network, batch = make(**settings).eval(), mixed(whole=True)
    plain = network(batch)
    padded = replace(lengthen(batch, 4), views={"whole": lengthen(batch.views["whole"], 3)})
    other = network(padded)
    torch.testing.assert_close(other.prediction, plain.prediction)
    torch.testing.assert_close(other.losses, plain.losses)
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(0))
    turned = network(reorder(batch, order))
    torch.testing.assert_close(turned.prediction, plain.prediction[order])
    torch.testing.assert_close(turned.losses, plain.losses)


@over_choices
def test_every_pattern_of_modalities_and_frames_gives_numbers_and_gradients(settings: dict[str, Any]) -> None:
    network, batch = make(**settings), make_batch(3, 3)
    for pattern in (*PATTERNS, [False] * 3):
        output = network(hide(batch, pattern, whole=True))
        assert torch.isfinite(output.prediction).all()
        assert all(torch.isfinite(loss) for loss in output.losses.values())
    nothing = drop_frames(batch, {m: torch.zeros_like(batch.observed[m]) for m in MODALITIES})
    gone, silent = network.eval()(hide(batch, [False] * 3)).prediction, network(nothing).prediction
    torch.testing.assert_close(silent, gone)  # no frame of a modality is as no modality
    network.train()
    one = replace(one_of(nothing, 0), views={"whole": one_of(batch, 0)})
    torch.stack(list(network(one).losses.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize(("outputs", "settings"), [(1, {}), (3, {}), (3, CHOICES[1]), (3, CHOICES[2])])
def test_one_batch_overfits(outputs: int, settings: dict[str, Any]) -> None:
    history = train(make(outputs, dropout=0.0, **settings), mixed(outputs, whole=True), 40, rate=1e-2)
    task = "regression" if outputs == 1 else "classification"
    assert history[-1][task] < 0.5 * history[0][task]


def test_bfloat16_and_a_second_derivative_are_finite() -> None:
    network, batch = make(), mixed(whole=True)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(batch)
    assert all(torch.isfinite(loss) for loss in output.losses.values())
    for distance in ("kl", "mae", "cosine"):
        network = make(distance=distance)
        total = torch.stack(list(network(batch).losses.values())).sum()
        weights = [p for p in network.parameters() if p.requires_grad]
        first = torch.autograd.grad(total, weights, create_graph=True, allow_unused=True)
        norm = torch.stack([g.square().sum() for g in first if g is not None]).sum()
        second = torch.autograd.grad(norm, weights, allow_unused=True)
        assert all(torch.isfinite(g).all() for g in second if g is not None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modalities": []}, "one or more different"),
        ({"branches": ["ae", "mmin"]}, "tf and others"),
        ({"size": 14, "heads": 4}, "multiple of the heads"),
        ({"variant": "code", "modalities": ["text"]}, "all three"),
        ({"branch": "ae"}, "Extra inputs"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EMMRSettings.model_validate(settings)
