"""The full-modality network: three encoders, their embeddings side by side, a classifier.

Paper: Zhao, Li, Jin, "Missing Modality Imagination Network for Emotion Recognition with Uncertain Missing
Modalities", ACL 2021, Figure 2(b) and section 4.4. Trained on complete samples it is the *full-modality
baseline* and the network that MMIN starts from; trained on complete samples and all six missing conditions,
the *augmented baseline*.

Audio and video: LSTM of 128, maximum over time. Text: TextCNN, 3 kernels x 128 channels -> 128. Classifier:
128, 64, C.

From the reference code (AIM3-RUC/MMIN, its IEMOCAP scripts): a ReLU closes the text encoder. With ``variant:
code`` each of these is the reference's choice:

=================== ================================== ==========================================
..                  paper                              code
=================== ================================== ==========================================
classifier          128, 64, C                         128, 128, C with dropout 0.3
text encoder        no dropout named: none             dropout 0.5 behind the maxima
learning rate       1e-3, Adam                         2e-4, Adam (beta1 0.9)
epochs              at most 100                        10, then 10 of linear decay; batch 128
clipping            none                               norm 0.5, each sub-network by itself
weights at start    not named: PyTorch's               kaiming-normal, zero biases; LSTMs PyTorch's
=================== ================================== ==========================================

``augmented: true`` is the training of the augmented baseline: on complete samples and the six conditions of
each (``train_on: augmented``). With ``variant: code`` it is the reference's: one random condition a sample and
epoch and no complete samples, 20 epochs and 20 of decay, weights from N(0, 0.012^2).

Two lines of the reference are unclear. It clips at 0.5 in the file of its augmented network; that of its
full-modality network has 5.0 in the versions that we have read. Its scripts for MSP-IMPROV have other choices:
of the experiment ``learning_rate: 5.0e-4``, ``batch_size: 64`` and, augmented, ``epochs: 50``.

Deviations: padding never wins the maximum over time (the reference pools over zero padding); the order of the
modalities is text, audio, video; a missing modality is one zero frame. The reference normalises audio alone,
here every modality is (pipeline/training/samples.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from models.base import MODALITIES, Batch, ModelSettings, Network, Output
from models.layers import LSTMEncoder, TextCNN, encode_present, initialise, mlp, task_loss

HIDDEN = 128
JOINT = HIDDEN * len(MODALITIES)


class BaselineSettings(ModelSettings):
    """Choices of the full-modality network; None takes what the variant has.

    Attributes:
        variant: the paper's network and training, or the reference code's.
        augmented: trained as the augmented baseline.
        dropout: between the classifier's layers.
        text_dropout: in the text encoder.
    """

    variant: Literal["paper", "code"] = "paper"
    augmented: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    text_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None


class Encoders(nn.Module):
    """EncT, EncA and EncV (MMIN section 4.3).

    Args:
        dims: columns of text, audio and video.
        text_dropout: of the text encoder.
    """

    def __init__(self, dims: Mapping[str, int], text_dropout: float = 0.0) -> None:
        super().__init__()
        self.text = TextCNN(dims["text"], HIDDEN, text_dropout)
        self.audio = LSTMEncoder(dims["audio"], HIDDEN)
        self.video = LSTMEncoder(dims["video"], HIDDEN)

    def forward(self, batch: Batch) -> Tensor:
        """Return the multimodal embedding (B, 384) = concat(h_t, h_a, h_v), Eq. 1."""
        embeddings = []
        for index, modality in enumerate(MODALITIES):
            encoder, values, lengths = (
                getattr(self, modality),
                batch.features[modality],
                batch.lengths[modality],
            )
            if modality == "text" and self.training and self.text.dropout.p:  # each sample its own draw
                embeddings.append(encoder(values, lengths))
                continue
            on_cpu = None if batch.present_cpu is None else batch.present_cpu[:, index]
            embeddings.append(encode_present(encoder, values, lengths, batch.present[:, index], on_cpu))
        return torch.cat(embeddings, dim=1)


def text_dropout(variant: str, given: float | None) -> float:
    """Return the text encoder's dropout: the setting, else the variant's."""
    return (0.5 if variant == "code" else 0.0) if given is None else given


class Model(Network):
    """Fig. 2(b): encoders -> (B, 384) -> classifier."""

    Settings = BaselineSettings

    def __init__(self, settings: BaselineSettings, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__(settings, dims, outputs)
        code = settings.variant == "code"
        dropout = (0.3 if code else 0.0) if settings.dropout is None else settings.dropout
        self.encoders = Encoders(dims, text_dropout(settings.variant, settings.text_dropout))
        self.classifier = mlp((JOINT, 128, 128 if code else 64, outputs), dropout)
        if code and settings.augmented:
            initialise(self, partial(nn.init.normal_, std=0.012))
        elif code:
            initialise(self, nn.init.kaiming_normal_)

    @classmethod
    def recipe(cls, settings: BaselineSettings) -> dict[str, Any]:
        """Return the training set of the augmented baseline, and the reference's training for ``variant: code``."""
        if settings.variant == "paper":
            return {"train_on": "augmented"} if settings.augmented else {}
        common = {
            "learning_rate": 2e-4,
            "beta1": 0.9,
            "batch_size": 128,
            "clip_norm": 0.5,
            "clip_groups": True,
        }
        if settings.augmented:
            return {"train_on": "random-condition", "epochs": 40, "decay_epochs": 20, **common}
        return {"epochs": 20, "decay_epochs": 10, **common}

    def forward(self, batch: Batch) -> Output:
        """Return logits (B, C), the cross-entropy, and the embedding."""
        embedding = self.encoders(batch)
        logits = self.classifier(embedding)
        return Output(logits, task_loss(logits, batch), {"embedding": embedding})

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the groups text, audio, video and classifier."""
        return {
            **{modality: list(getattr(self.encoders, modality).parameters()) for modality in MODALITIES},
            "classifier": list(self.classifier.parameters()),
        }
