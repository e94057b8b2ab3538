"""GCNet, the graph completion network: whole dialogues, in which what is missing is filled in from other turns.

Paper: Lian, Chen, Sun, Liu, Tao, "GCNet: Graph Completion Network for Incomplete Multimodal Learning in
Conversation", IEEE TPAMI 2023. Every turn is one vector, its three modalities side by side, zeros where one is
missing. Two bidirectional LSTMs run over the turns of a dialogue. Then come two graphs, whose results are added: in
one the relation between turns is time (past, now, future), in the other who speaks to whom. In each, a relational
graph convolution and a plain one run over the turns within a window, two more bidirectional LSTMs over the result,
and one layer. From the sum the class of each turn is read, and the turn's features are reconstructed. Loss: the task's
plus the squared error of the reconstruction, of the missing parts alone.

From the authors' code (zeroQiaoba/GCNet): the layers and their order, hidden size 200 in its command (the graphs'
half of that), window 2 and 2, dropout 0.5 between LSTMs, Adam 1e-3 with weight decay 1e-5, 100 epochs, batches of 32
dialogues, the squared error for scores; of a turn, the reconstruction's error is the mean over the columns of each
missing modality, added over the three; of a batch, the mean over turns. Its nodal attention, off there, is not here.

What its code does and this file does not:
- The ids of relations follow the order of a Python set, so that a saved network reads other relations when it is
  loaded into another process. Here they are fixed: past, now, future are 0, 1, 2; speaker s to speaker t is t S + s.
- A turn hands on to those from ``past`` turns before it to ``future`` behind it, so that it *hears* from ``future``
  before and ``past`` behind. Here it hears from ``past`` before and ``future`` behind. With 2 and 2 it is the same.
- Its LSTMs run backwards through the padding of shorter dialogues; here padding has no place.
- IEMOCAP's validation part is its test part there, and masks are redrawn at test. Not here.

Deviations:
- A turn's vector is the mean of its observed frames; there the features are means made beforehand. What was missing of
  it is judged by the frames: a modality of which frames are missing is reconstructed, too.
- There the speakers of a dialogue are two. Here ``speakers`` says how many are told apart; further ones count as
  the last.
- Without dialogues (a sample by itself), a sample is a dialogue of one turn.

In training the network sees what the batch hides, as the target of the reconstruction (the view ``whole``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from models.base import MODALITIES, Batch, Dialogues, ModelSettings, Network, Output, View
from models.layers import observed_counts, observed_mean, task_loss
from models.parts import BiLstm

PAST, NOW, FUTURE = range(3)
WHOLE = "whole"

Window = Annotated[int, Field(ge=-1)]


class GCNetSettings(ModelSettings):
    """Choices of GCNet; the defaults are those of the authors' command.

    Attributes:
        hidden: of the first LSTMs, a direction.
        graph_hidden: of the graph convolutions; none: half of that.
        past, future: how many turns before and behind a turn are heard; -1: all.
        speakers: S, how many speakers of a dialogue are told apart.
        dropout: between LSTMs.
        reconstruction_weight: of the reconstruction's loss; 0 leaves it out.
    """

    hidden: Annotated[int, Field(ge=2)] = 200
    graph_hidden: Annotated[int, Field(ge=1)] | None = None
    past: Window = 2
    future: Window = 2
    speakers: Annotated[int, Field(ge=1)] = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    reconstruction_weight: Annotated[float, Field(ge=0)] = 1.0


class Turns(nn.Module):
    """Two bidirectional LSTMs over the turns of dialogues: (D, U, columns) -> (D, U, 2 hidden)."""

    def __init__(self, columns: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.first = BiLstm(columns, hidden)
        self.dropout = nn.Dropout(dropout)
        self.second = BiLstm(2 * hidden, hidden)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Return the states; what stands behind a dialogue's last turn changes nothing before it."""
        return self.second(self.dropout(self.first(values, lengths)[0]), lengths)[0]


class RelationalConvolution(nn.Module):
    """A graph convolution with weights for each relation (RGCN, Schlichtkrull et al. 2018).

    x_i' = W x_i + b + sum over relations r of W_r times the mean of x_j over the neighbours j of i in relation r.

    Edges are a (U, U) matrix a dialogue, not a list: nothing waits for the device to count them, and on 151 dialogues
    of 50 turns a step of both convolutions takes the same time as over lists, and two thirds of PyTorch Geometric's.
    """

    def __init__(self, columns: int, hidden: int, relations: int) -> None:
        super().__init__()
        self.relations = relations
        self.root = nn.Linear(columns, hidden)
        self.neighbours = nn.Linear(columns, relations * hidden, bias=False)

    def forward(self, values: Tensor, edges: Tensor, relation: Tensor) -> Tensor:
        """Return (D, U, hidden).

        Args:
            values: (D, U, columns).
            edges: (D, U, U) bool, [d, i, j]: turn i hears turn j.
            relation: (D, U, U) int64, of each edge.
        """
        total = self.root(values)
        sent = self.neighbours(values).chunk(self.relations, dim=2)
        for number in range(self.relations):
            heard = (edges & (relation == number)).to(total.dtype)
            share = heard / heard.sum(dim=2, keepdim=True).clamp(min=1)
            total = total + torch.bmm(share, sent[number])
        return total


class Graph(nn.Module):
    """The two graph convolutions over one kind of relation: (D, U, columns) -> (D, U, hidden)."""

    def __init__(self, columns: int, hidden: int, relations: int) -> None:
        super().__init__()
        self.relational = RelationalConvolution(columns, hidden, relations)
        self.root = nn.Linear(hidden, hidden, bias=False)
        self.neighbours = nn.Linear(hidden, hidden)

    def forward(self, values: Tensor, edges: Tensor, relation: Tensor) -> Tensor:
        """Return x_i'' = W1 x_i' + W2 (sum of x_j' over all neighbours j) + b of the relational convolution's x'."""
        inner = self.relational(values, edges, relation)
        return self.root(inner) + self.neighbours(torch.bmm(edges.to(inner.dtype), inner))


class GraphNetwork(nn.Module):
    """A graph, the LSTMs over its result beside what went in, and one layer: (D, U, columns) -> (D, U, H)."""

    def __init__(self, columns: int, hidden: int, relations: int, dropout: float) -> None:
        super().__init__()
        self.graph = Graph(columns, hidden, relations)
        self.turns = Turns(columns + hidden, columns + hidden, dropout)
        self.output = nn.Linear(2 * (columns + hidden), columns + hidden)

    def forward(self, values: Tensor, edges: Tensor, relation: Tensor, lengths: Tensor) -> Tensor:
        """Return (D, U, columns + hidden)."""
        found = torch.cat([values, self.graph(values, edges, relation)], dim=2)
        return torch.relu(self.output(self.turns(found, lengths)))


def window(turns: Tensor, past: int, future: int) -> Tensor:
    """Return (D, U, U) bool, [d, i, j]: turn j is at most ``past`` before or ``future`` behind turn i, both are there.

    Args:
        turns: (D, U) bool, which turns there are.
        past, future: -1: all.
    """
    count = turns.shape[1]
    index = torch.arange(count, device=turns.device)
    behind = index[None, :] - index[:, None]  # j - i
    near = (behind >= -(count if past == -1 else past)) & (behind <= (count if future == -1 else future))
    return near & turns[:, :, None] & turns[:, None, :]


def temporal_relations(count: int, device: torch.device) -> Tensor:
    """Return (U, U) int64, [i, j]: what turn j is to turn i: PAST, NOW or FUTURE."""
    index = torch.arange(count, device=device)
    return torch.sign(index[None, :] - index[:, None]) + NOW


def speaker_relations(speakers: Tensor, count: int) -> Tensor:
    """Return (D, U, U) int64, [d, i, j] = s_i S + s_j of the speakers (D, U), those from S on taken as S - 1."""
    known = speakers.clamp(max=count - 1)
    return known[:, :, None] * count + known[:, None, :]


def single_turns(batch: Batch) -> Dialogues:
    """Return the samples of a batch as dialogues of one turn each."""
    numbers = torch.arange(len(batch), device=batch.present.device)
    nothing = torch.zeros_like(numbers)
    labelled = torch.ones_like(numbers, dtype=torch.bool)
    return Dialogues(numbers, nothing, nothing, labelled, count=len(batch), longest=1)


class Model(Network):
    """GCNet. ``outputs`` is the number of classes, or 1 for a regression."""

    Settings = GCNetSettings
    dialogues = True

    def __init__(self, settings: GCNetSettings, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__(settings, dims, outputs)
        self.settings = settings
        self.columns = [dims[m] for m in MODALITIES]
        graph_hidden = settings.graph_hidden or settings.hidden // 2
        width = 2 * settings.hidden
        self.turns = Turns(sum(self.columns), settings.hidden, settings.dropout)
        self.temporal = GraphNetwork(width, graph_hidden, 3, settings.dropout)
        self.speaker = GraphNetwork(width, graph_hidden, settings.speakers**2, settings.dropout)
        self.head = nn.Linear(width + graph_hidden, outputs)
        self.reconstruct: nn.Linear | None = None
        if settings.reconstruction_weight:
            self.reconstruct = nn.Linear(width + graph_hidden, sum(self.columns))

    @classmethod
    def recipe(cls, settings: GCNetSettings) -> dict[str, Any]:
        """Return the authors' training, on one drawn condition a turn."""
        return {
            "train_on": "random-condition",
            "learning_rate": 1e-3,
            "weight_decay": 1e-5,
            "epochs": 100,
            "batch_size": 32,
        }

    @classmethod
    def views(cls, settings: GCNetSettings) -> Mapping[str, View]:
        """Return the whole sample, the target of the reconstruction."""
        return {WHOLE: View("whole")} if settings.reconstruction_weight else {}

    def forward(self, batch: Batch) -> Output:
        """Return the prediction of every turn, the losses (the reconstruction's where the whole is there), and
        ``joint`` (B, H), with ``reconstructed`` (B, all columns)."""
        talk = single_turns(batch) if batch.dialogues is None else batch.dialogues
        told = torch.cat([observed_mean(batch, m) for m in MODALITIES], dim=1)
        joint = talk.flat(self._joint(talk, talk.padded(told)))
        prediction = self.head(joint)
        losses, hidden = task_loss(prediction, batch, squared=True), {"joint": joint}
        if self.reconstruct is not None:
            hidden["reconstructed"] = self.reconstruct(joint)
            if losses and WHOLE in batch.views:
                error = self._error(batch, hidden["reconstructed"])
                losses["reconstruction"] = self.settings.reconstruction_weight * error
        return Output(prediction, losses, hidden)

    def _joint(self, talk: Dialogues, told: Tensor) -> Tensor:
        """Return (D, U, H), the sum of the two graphs' results."""
        turns = talk.turns
        lengths = turns.sum(dim=1)
        states = self.turns(told, lengths)
        edges = window(turns, self.settings.past, self.settings.future)
        time = temporal_relations(talk.longest, states.device).expand_as(edges)
        spoken = speaker_relations(talk.padded(talk.speaker), self.settings.speakers)
        return self.temporal(states, edges, time, lengths) + self.speaker(states, edges, spoken, lengths)

    def _error(self, batch: Batch, found: Tensor) -> Tensor:
        """Return the mean over turns of the sum over modalities, where something is missing, of the squared error."""
        whole = batch.views[WHOLE]
        missing = observed_counts(batch) < observed_counts(whole)
        errors = [
            (part.float() - observed_mean(whole, m).float()).square().mean(dim=1)
            for m, part in zip(MODALITIES, found.split(self.columns, dim=1), strict=True)
        ]
        return (torch.stack(errors, dim=1) * missing).sum() / len(batch)
