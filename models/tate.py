"""TATE, the Tag-Assisted Transformer Encoder.

Paper: Zeng, Liu, Zhou, "Tag-assisted Multimodal Sentiment Analysis under Uncertain Missing Modalities", SIGIR 2022
(arXiv 2204.13707). Attention within each modality, a common space in which each pair of modalities shares a matrix,
all behind each other in time, and at every position a *tag* of four numbers that says which modalities are missing.
A Transformer encoder-decoder works on these 304 columns; the label is read from the encoder.

Loss: task + 0.1 * symmetric KL(encoder, the same of a frozen network trained on complete samples) + 0.1 * symmetric
KL(decoder, what the encoder got) + 0.1 * mean |tag - sigmoid(the last four of the pooled encoder)|. 15 epochs, batches
of 32, Adam 1e-3, size 300.

The public code (JaydenZeng/TATE, no licence; not a line of it is here) compares a tensor with an int while the graph is
built: never true, so every sample gets the last branch's tag, "audio and video are missing". Here the tag carries
the real pattern; ``variant: code`` is the network that was trained: the constant tag, the KLs without their half, the
pretrained network on the same incomplete input, dropout 0.2 on attention weights. (Left out of it: dropout at test, a
weight decay of 1e-4 on the last layer.)

Written from the paper's abstract, EMMR's account of it and what the public code does, not from the paper's full text.
Chosen here, or taken from the code where it is the only word on it:

- The tag: (nothing is missing, text is, audio is, video is), 1 or 0; two missing modalities set two numbers.
- Pooling by gated attention, then 304 -> 300 -> C without an activation between, as in the code.
- What the pretrained network sees: the whole sample (``teacher_sees: shown``: the incomplete one); the position of a
  missing modality is compared with the mean of the frames it would have had. Its tag is its own: nothing is missing.
- KL: softmax over the features of each position; mean over positions, then samples. Gradients go into both sides,
  except into the frozen network.
- A missing modality is one position; modalities stand in the order text, audio, video.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.base import MODALITIES, Batch, ModelSettings, Network, Output, Pretraining, View
from models.layers import GatedPooling, TransformerLayer, sequence_distance, task_loss
from models.parts import CommonSpace, ModalityAttention, Tokens, aligned

TAG = 1 + len(MODALITIES)
CONSTANT = (0.0, 0.0, 1.0, 1.0)  # the reference's: audio and video are missing

Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class TATESettings(ModelSettings):
    """Choices of TATE; None takes what the variant has.

    Attributes:
        variant: the tag of the real pattern, or the constant one of the code, with what else was trained there.
        role: ``pretrain`` is the network with full modalities that ``main`` starts from.
        tag: what each sample is told: its pattern, or always the same.
        teacher_sees: what the pretrained network gets.
        forward_weight, backward_weight, tag_weight: of the three losses beside the task's; without a forward loss
            nothing is pretrained.
        size, heads, inner: of the modalities' vectors, and of the attention; size + 4 is a multiple of the heads, too.
        dropout: of attention weights and hidden layers.
    """

    variant: Literal["paper", "code"] = "paper"
    role: Literal["main", "pretrain"] = "main"
    tag: Literal["pattern", "constant"] | None = None
    teacher_sees: Literal["whole", "shown"] | None = None
    forward_weight: Weight = 0.1
    backward_weight: Weight = 0.1
    tag_weight: Weight = 0.1
    size: Annotated[int, Field(ge=2, multiple_of=2)] = 300
    heads: Count = 4
    inner: Count = 1216
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _heads_divide_the_sizes(self) -> TATESettings:
        if self.size % self.heads or (self.size + TAG) % self.heads:
            raise ValueError(
                f"found size {self.size} and {self.heads} heads, expected size and size + {TAG} to be multiples of "
                "the heads"
            )
        return self

    @property
    def code(self) -> bool:
        """Whether it is the network of the authors' code."""
        return self.variant == "code"

    @property
    def sight(self) -> str:
        """What the pretrained network sees."""
        return self.teacher_sees or ("shown" if self.code else "whole")


class Tagged(nn.Module):
    """Modalities, common space, tag and Transformer encoder, and the label: also the whole pretrained network."""

    def __init__(self, settings: TATESettings, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__()
        size, wide = settings.size, settings.size + TAG
        dropout = (0.2 if settings.code else 0.3) if settings.dropout is None else settings.dropout
        self.constant = settings.code if settings.tag is None else settings.tag == "constant"
        self.always: Tensor
        self.register_buffer("always", torch.tensor(CONSTANT) > 0, persistent=False)
        self.attention = ModalityAttention(dims, MODALITIES, size, settings.heads, dropout)
        self.common = CommonSpace(size)

        def transformer() -> TransformerLayer:
            hidden = 0.0 if settings.code else None
            return TransformerLayer(wide, settings.heads, settings.inner, dropout, hidden_dropout=hidden)

        self.transformer = transformer()
        self.decoder = transformer() if settings.role == "main" and settings.backward_weight else None
        self.pooling = GatedPooling(wide)
        self.head = nn.Sequential(nn.Linear(wide, size, bias=False), nn.Linear(size, outputs))

    def tag(self, there: Tensor) -> Tensor:
        """Return (B, 4) float of (B, 3) bool, which modalities are there."""
        pattern = torch.cat([there.all(dim=1, keepdim=True), ~there], dim=1).float()
        if not self.constant:
            return pattern
        return pattern.new_zeros(TAG).masked_fill(self.always, 1.0).expand_as(pattern)

    def forward(self, batch: Batch) -> tuple[Tokens, Tensor, Tensor, Tensor]:
        """Return the tokens, the tag (B, 4), the encoder's input and its output, both (B, T, D + 4)."""
        tokens: Tokens = self.attention(batch)
        tokens = Tokens(self.common(tokens.values), tokens.keep, tokens.there)
        joined, keep = tokens.joined()
        tag = self.tag(tokens.there)
        given = torch.cat([joined, tag[:, None].expand(-1, joined.shape[1], -1).to(joined.dtype)], dim=2)
        return tokens, tag, given, self.transformer(given, keep)


class Model(Network):
    """TATE, or with ``role: pretrain`` the network that it starts from."""

    Settings = TATESettings

    def __init__(self, settings: TATESettings, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__(settings, dims, outputs)
        self.settings = settings
        self.network = Tagged(settings, dims, outputs)
        self.pretrained: Tagged | None = None
        if settings.role == "main" and settings.forward_weight:
            self.pretrained = Tagged(settings.model_copy(update={"role": "pretrain"}), dims, outputs)
            self.pretrained.requires_grad_(False)

    @classmethod
    def recipe(cls, settings: TATESettings) -> dict[str, Any]:
        """Return the authors' training; the missing rate is a mask of params.yaml, which ``train_on`` names."""
        train_on = "full" if settings.role == "pretrain" else "random-condition"
        return {"train_on": train_on, "learning_rate": 1e-3, "epochs": 15, "batch_size": 32}

    @classmethod
    def views(cls, settings: TATESettings) -> Mapping[str, View]:
        """Return the whole samples, where the pretrained network looks at them."""
        wanted = settings.role == "main" and settings.forward_weight and settings.sight == "whole"
        return {"whole": View("whole")} if wanted else {}

    @classmethod
    def pretraining(cls, settings: TATESettings) -> Pretraining | None:
        """Return the network with full modalities, of the same sizes; None for itself, and without its loss."""
        if settings.role == "pretrain" or not settings.forward_weight:
            return None
        shared = {"variant", "tag", "size", "heads", "inner", "dropout"}
        given = settings.model_dump(mode="json", include=shared, exclude_defaults=True)
        return Pretraining("tate", {"role": "pretrain", **given}, {"train_on": "full"})

    def load_pretrained(self, network: nn.Module) -> None:
        """Take the trained network with full modalities as the frozen one."""
        if not isinstance(network, Model) or network.settings.role != "pretrain":
            raise TypeError(
                f"TATE starts from a network of its own with role: pretrain, found {type(network).__name__}"
            )
        if self.pretrained is None:
            raise ValueError("found forward_weight 0, expected more: without that loss nothing is pretrained")
        self.pretrained.load_state_dict(network.network.state_dict())

    def train(self, mode: bool = True) -> Model:
        """Set the mode of everything but the frozen network."""
        super().train(mode)
        if self.pretrained is not None:
            self.pretrained.eval()
        return self

    def forward(self, batch: Batch) -> Output:
        """Return logits (B, C), the losses, and the pooled encoder output (``joint``) and the ``tag``."""
        tokens, tag, given, encoded = self.network(batch)
        keep = tokens.joined()[1]
        joint = self.network.pooling(encoded, keep)
        logits = self.network.head(joint)
        losses = task_loss(logits, batch)
        if losses and self.settings.role == "main":
            losses |= self._forward_loss(batch, tokens, encoded)
            if self.network.decoder is not None:
                decoded = self.network.decoder(encoded, keep)
                losses["backward"] = self.settings.backward_weight * self._distance(decoded, given, keep)
            if self.settings.tag_weight:
                losses["tag"] = self.settings.tag_weight * tag_error(joint, tag)
        return Output(logits, losses, {"joint": joint, "tag": tag})

    def _forward_loss(self, batch: Batch, tokens: Tokens, encoded: Tensor) -> dict[str, Tensor]:
        """Return the distance to the pretrained encoder's output, where what it is to see is in the batch."""
        sight = self.settings.sight
        if self.pretrained is None or (sight == "whole" and "whole" not in batch.views):
            return {}
        with torch.no_grad():
            seen, _, _, target = self.pretrained(batch.views["whole"] if sight == "whole" else batch)
            counts = tokens.joined()[1]
            if sight == "whole":
                target, counts = aligned(seen, seen.split(target), tokens)
        return {"forward": self.settings.forward_weight * self._distance(encoded, target, counts)}

    def _distance(self, found: Tensor, target: Tensor, counts: Tensor) -> Tensor:
        return (2 if self.settings.code else 1) * sequence_distance(found, target, counts)


def tag_error(joint: Tensor, tag: Tensor) -> Tensor:
    """Return the mean absolute error of the tag (B, 4) that the last four of (B, D + 4) say."""
    return (tag - torch.sigmoid(joint[:, -TAG:].float())).abs().mean()
