"""GCNet against a loop over edges, its window, its relations, and what padding and cuts do to a dialogue."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from models.base import MODALITIES, NO_LABEL, Batch, View, drop_frames, drop_modalities
from models.gcnet import (
    FUTURE,
    NOW,
    PAST,
    GCNetSettings,
    Graph,
    Model,
    speaker_relations,
    temporal_relations,
    window,
)
from tests.batches import DIMS, PATTERNS, hide, in_dialogues, lengthen, make_batch, reorder, train

SMALL = {"hidden": 6, "graph_hidden": 4}
ROOT = Path(__file__).parents[2]


def make(outputs: int = 4, **settings: object) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Model(GCNetSettings.model_validate({**SMALL, **settings}), DIMS, outputs)


def shown(outputs: int, pattern: list[bool], sizes: list[int]) -> Batch:
    """Return dialogues as the loop gives them in training: some of it hidden, and the whole beside it."""
    whole = make_batch(sum(sizes), outputs)
    return in_dialogues(replace(hide(whole, pattern), views={"whole": whole}), sizes)


def by_edges(graph: Graph, values: Tensor, kinds: dict[tuple[int, int], int], relations: int) -> Tensor:
    """Return what a graph gives for one dialogue (U, columns), turn by turn and edge by edge.

    Args:
        kinds: (i, j) -> relation, of each edge: turn i hears turn j.
    """
    first, hidden = graph.relational, graph.root.in_features
    weights = first.neighbours.weight.view(relations, hidden, -1)
    inner = []
    for i in range(len(values)):
        total = first.root.weight @ values[i] + first.root.bias
        for relation in range(relations):
            heard = [j for j in range(len(values)) if kinds.get((i, j)) == relation]
            for j in heard:
                total = total + weights[relation] @ values[j] / len(heard)
        inner.append(total)
    out = []
    for i in range(len(values)):
        total = graph.root.weight @ inner[i] + graph.neighbours.bias
        for (at, j), _ in kinds.items():
            if at == i:
                total = total + graph.neighbours.weight @ inner[j]
        out.append(total)
    return torch.stack(out)


@pytest.mark.parametrize(("past", "future"), [(2, 2), (1, 3), (0, 0), (-1, -1), (-1, 0)])
@pytest.mark.parametrize("kind", ["temporal", "speaker"])
def test_a_graph_is_a_loop_over_its_edges(past: int, future: int, kind: str) -> None:
    torch.manual_seed(0)
    sizes, longest = [5, 1, 7], 7
    turns = torch.arange(longest) < torch.tensor(sizes)[:, None]
    speakers = torch.tensor([[0, 1, 1, 0, 1, 0, 0], [0] * 7, [0, 1, 0, 2, 1, 0, 1]])
    values = torch.randn(3, longest, 5)
    relations = 3 if kind == "temporal" else 4
    graph = Graph(5, 4, relations)
    edges = window(turns, past, future)
    time = temporal_relations(longest, values.device).expand_as(edges)
    found = graph(values, edges, time if kind == "temporal" else speaker_relations(speakers, 2))
    for number, size in enumerate(sizes):
        kinds = {}
        for i in range(size):
            for j in range(size):
                if (past != -1 and i - j > past) or (future != -1 and j - i > future):
                    continue
                s = [min(int(speakers[number, turn]), 1) for turn in (i, j)]
                order = PAST if j < i else NOW if j == i else FUTURE
                kinds[i, j] = (
                    order if kind == "temporal" else {(0, 0): 0, (0, 1): 1, (1, 0): 2, (1, 1): 3}[s[0], s[1]]
                )
        expected = by_edges(graph, values[number, :size], kinds, relations)
        torch.testing.assert_close(found[number, :size], expected, rtol=1e-5, atol=1e-5)


def test_the_window_by_hand() -> None:
    turns = torch.tensor([[True, True, True, False]])
    assert window(turns, past=1, future=0)[0].int().tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],  # turn 1 hears turn 0 and itself
        [0, 1, 1, 0],
        [0, 0, 0, 0],
    ]
    assert window(turns, past=0, future=-1)[0].int().tolist() == [
        [1, 1, 1, 0],
        [0, 1, 1, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 0],
    ]
    assert temporal_relations(3, torch.device("cpu")).tolist() == [
        [NOW, FUTURE, FUTURE],
        [PAST, NOW, FUTURE],
        [PAST, PAST, NOW],
    ]
    # speaker 1 hears speaker 0: 1 * 2 + 0; a third speaker counts as the second
    assert speaker_relations(torch.tensor([[0, 1, 2]]), 2)[0].tolist() == [[0, 1, 1], [2, 3, 3], [2, 3, 3]]


@pytest.mark.slow
def test_relations_do_not_hang_on_the_order_of_sets() -> None:
    """Strings in a set stand in another order in each process; a saved network must not notice."""
    code = (
        "import torch; from models.gcnet import *; "
        "print(temporal_relations(3, torch.device('cpu')).tolist(), "
        "speaker_relations(torch.tensor([[0, 1, 1]]), 2).tolist())"
    )
    answers = set()
    for seed in ("1", "2"):
        surroundings = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        run = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=surroundings,
            cwd=ROOT,
        )
        answers.add(run.stdout)
    assert answers == {"[[1, 2, 2], [0, 1, 2], [0, 0, 1]] [[[0, 1, 1], [2, 3, 3], [2, 3, 3]]]\n"}


def test_a_dialogue_cut_in_two_hears_what_the_window_says() -> None:
    """Two convolutions hear two windows far; what lies farther from the cut than that does not notice it."""
    torch.manual_seed(0)
    values, past, future = torch.randn(1, 20, 5), 2, 1
    graph = Graph(5, 4, 3)

    def run(part: Tensor) -> Tensor:
        edges = window(torch.ones(1, part.shape[1], dtype=torch.bool), past, future)
        return graph(part, edges, temporal_relations(part.shape[1], part.device).expand_as(edges))

    whole, halves = run(values), torch.cat([run(values[:, :10]), run(values[:, 10:])], dim=1)
    same = (whole - halves).abs().amax(dim=2)[0] < 1e-6
    # before the cut future turns are lost, 2 * 1 of them; behind it past ones, 2 * 2
    assert same.tolist() == [True] * 8 + [False] * 6 + [True] * 6


def test_cutting_a_dialogue_changes_what_its_turns_say_and_dialogues_do_not_mix() -> None:
    network, whole = make().eval(), make_batch(8, 4)
    one = network(in_dialogues(whole, [8])).prediction
    two = network(in_dialogues(whole, [4, 4])).prediction
    assert (one - two).abs().max() > 1e-4
    first = network(in_dialogues(reorder(whole, torch.arange(4)), [4])).prediction
    torch.testing.assert_close(two[:4], first)


@pytest.mark.parametrize("pattern", [*PATTERNS, [False, False, False]])
def test_padding_and_other_dialogues_change_nothing(pattern: list[bool]) -> None:
    network = make().eval()
    batch = shown(4, pattern, [3, 1, 4])
    plain = network(batch)
    assert torch.isfinite(plain.prediction).all()
    padded = replace(lengthen(batch, 4), views={"whole": lengthen(batch.views["whole"], 2)})
    torch.testing.assert_close(network(padded).prediction, plain.prediction)
    for name, loss in plain.losses.items():
        torch.testing.assert_close(network(padded).losses[name], loss)
    batch = replace(batch, views={})
    for begin, size in ((0, 3), (3, 1), (4, 4)):
        rows = torch.arange(begin, begin + size)
        alone = network(in_dialogues(reorder(batch, rows), [size])).prediction
        torch.testing.assert_close(alone, plain.prediction[rows])
    order = torch.tensor([4, 5, 6, 7, 0, 1, 2, 3])
    moved = network(in_dialogues(reorder(batch, order), [4, 3, 1])).prediction
    torch.testing.assert_close(moved, plain.prediction[order])


def test_a_long_dialogue_beside_a_short_one_leaves_it_as_it_was() -> None:
    network = make().eval()
    few, many = make_batch(3, 4), make_batch(13, 4)
    both = reorder(many, torch.arange(13))
    both = replace(
        both, features={m: torch.cat([few.features[m], v[3:]]) for m, v in both.features.items()},
        lengths={m: torch.cat([few.lengths[m], v[3:]]) for m, v in both.lengths.items()},
        observed={m: torch.cat([few.observed[m], v[3:]]) for m, v in both.observed.items()},
    )  # fmt: skip
    alone = network(in_dialogues(few, [3])).prediction
    torch.testing.assert_close(network(in_dialogues(both, [3, 10])).prediction[:3], alone)


@pytest.mark.parametrize("outputs", [1, 4])
def test_every_parameter_gets_a_gradient_and_one_batch_overfits(outputs: int) -> None:
    network = make(outputs, dropout=0.0)
    batch = shown(outputs, [True, False, True], [4, 3])
    first = train(network, batch, 1)[0]
    train(network, shown(outputs, [False, True, False], [4, 3]), 1)
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    last = train(network, batch, 60, rate=1e-2)[-1]
    assert set(first) == {"regression" if outputs == 1 else "classification", "reconstruction"}
    for name, value in first.items():
        assert last[name] < 0.5 * value, name


def test_the_reconstruction_counts_what_is_missing_alone() -> None:
    network = make(reconstruction_weight=0.5).eval()
    whole = make_batch(3, 4)
    leave = torch.tensor([[True, True, True], [True, False, True], [False, True, False]])
    batch = in_dialogues(
        replace(hide(whole, [True, True, True]), views={"whole": whole}, labels=torch.tensor([0, 1, 2])), [3]
    )
    batch = replace(drop_modalities(batch, leave), views=batch.views)
    output = network(batch)
    text, audio, video = output.hidden["reconstructed"].split([6, 5, 4], dim=1)
    means = {
        m: torch.stack([v[row, : int(whole.lengths[m][row])].mean(dim=0) for row in range(3)])
        for m, v in whole.features.items()
    }
    error = (
        ((audio[1] - means["audio"][1]) ** 2).mean()
        + ((text[2] - means["text"][2]) ** 2).mean()
        + ((video[2] - means["video"][2]) ** 2).mean()
    ) / 3
    torch.testing.assert_close(output.losses["reconstruction"], 0.5 * error)
    assert set(network(replace(batch, views={})).losses) == {"classification"}
    assert network(replace(batch, labels=None)).losses == {}


def test_missing_frames_are_reconstructed_too_and_all_of_them_are_the_modality() -> None:
    network = make().eval()
    whole = in_dialogues(make_batch(6, 4), [6])
    keep = torch.ones_like(whole.observed["audio"])
    keep[:, 0] = False
    fewer = drop_frames(replace(whole, views={"whole": whole}), {"audio": keep})
    assert network(fewer).losses["reconstruction"].item() > 0
    same = replace(whole, views={"whole": whole})
    assert network(same).losses["reconstruction"].item() == 0
    gone = drop_frames(whole, {m: torch.zeros_like(whole.observed[m]) for m in MODALITIES})
    torch.testing.assert_close(network(gone).prediction, network(hide(whole, [False] * 3)).prediction)


def test_turns_that_are_context_only_do_not_count_in_the_tasks_loss() -> None:
    network = make().eval()
    batch = in_dialogues(make_batch(4, 4), [4])
    assert batch.dialogues is not None and batch.labels is not None
    labels = batch.labels.clone()
    labels[1] = NO_LABEL
    talk = replace(batch.dialogues, labelled=torch.tensor([True, False, True, True]))
    output = network(replace(batch, dialogues=talk, labels=labels))
    rows = [0, 2, 3]
    expected = torch.nn.functional.cross_entropy(output.prediction[rows], labels[rows])
    torch.testing.assert_close(output.losses["classification"], expected)


def test_a_sample_by_itself_is_a_dialogue_of_one_turn() -> None:
    network, batch = make().eval(), make_batch(3, 4)
    torch.testing.assert_close(network(batch).prediction, network(in_dialogues(batch, [1, 1, 1])).prediction)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # said by the switch below
def test_a_second_derivative_and_bfloat16() -> None:
    network, batch = make(1), shown(1, [True, True, False], [4, 2])
    total = torch.stack(list(network(batch).losses.values())).sum()
    first = torch.autograd.grad(total, list(network.parameters()), create_graph=True, allow_unused=True)
    torch.stack([g.square().sum() for g in first if g is not None]).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    # oneDNN has no bfloat16 LSTM for processors without such instructions
    with torch.backends.mkldnn.flags(enabled=False), torch.autocast("cpu", torch.bfloat16):
        output = network(batch)
    assert torch.isfinite(output.prediction).all()
    assert all(torch.isfinite(loss) for loss in output.losses.values())


def test_what_it_asks_for() -> None:
    assert Model.dialogues
    assert Model.views(GCNetSettings()) == {"whole": View("whole")}
    assert Model.views(GCNetSettings(reconstruction_weight=0)) == {}
    assert make(reconstruction_weight=0).reconstruct is None
    assert Model.recipe(GCNetSettings()) == {
        "train_on": "random-condition", "learning_rate": 1e-3, "weight_decay": 1e-5, "epochs": 100, "batch_size": 32
    }  # fmt: skip
    with pytest.raises(ValidationError, match="past"):
        GCNetSettings(past=-2)


def test_there_is_a_relation_for_each_time_and_each_pair_of_speakers() -> None:
    network = make(speakers=3)
    assert network.temporal.graph.relational.relations == 3
    assert network.speaker.graph.relational.relations == 3 * 3


def test_scores_are_learnt_by_their_squared_error() -> None:
    network, batch = make(1).eval(), in_dialogues(make_batch(3, 1), [3])
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.fill_(0.5)
    scores = torch.tensor([2.5, 0.5, -0.5])
    loss = network(replace(batch, scores=scores)).losses["regression"]
    assert loss.item() == pytest.approx((4 + 0 + 1) / 3)
