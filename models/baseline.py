"""The full-modality network: three encoders, their embeddings side by side, a classifier.

Paper: Zhao, Li, Jin, "Missing Modality Imagination Network for Emotion Recognition with Uncertain Missing
Modalities", ACL 2021, Figure 2(b) and section 4.4. Trained on complete samples it is the *full-modality
baseline* and the network that MMIN starts from; trained on complete samples and all six missing conditions,
the *augmented baseline*.

Audio and video: LSTM of 128, maximum over time. Text: TextCNN, 3 kernels x 128 channels -> 128. Classifier:
128, 64, C.

From the reference code (AIM3-RUC/MMIN): a ReLU closes the text encoder. ``variant: code`` takes its dropout
of 0.3,
its classifier 128, 128, C, and its training: learning rate 2e-4, Adam's beta1 0.5, 10 epochs and 10 more of
decay.

Deviations: padding never wins the maximum over time (the reference pools over zero padding); the order of the
modalities is text, audio, video; a missing modality is one zero frame. The paper gives no dropout: 0 by
default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from models.base import MODALITIES, Batch, ModelSettings, Network, Output
from models.layers import LSTMEncoder, TextCNN, encode_present, mlp, task_loss

HIDDEN = 128
JOINT = HIDDEN * len(MODALITIES)


class BaselineSettings(ModelSettings):
    """Choices of the full-modality network; None takes what the variant has."""

    variant: Literal["paper", "code"] = "paper"
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None


class Encoders(nn.Module):
    """EncT, EncA and EncV (MMIN section 4.3).

    Args:
        dims: columns of text, audio and video.
    """

    def __init__(self, dims: Mapping[str, int]) -> None:
        super().__init__()
        self.text = TextCNN(dims["text"], HIDDEN)
        self.audio = LSTMEncoder(dims["audio"], HIDDEN)
        self.video = LSTMEncoder(dims["video"], HIDDEN)

    def forward(self, batch: Batch) -> Tensor:
        """Return the multimodal embedding (B, 384) = concat(h_t, h_a, h_v), Eq. 1."""
        embeddings = []
        for index, modality in enumerate(MODALITIES):
            encoder, present = getattr(self, modality), batch.present[:, index]
            on_cpu = None if batch.present_cpu is None else batch.present_cpu[:, index]
            embeddings.append(
                encode_present(encoder, batch.features[modality], batch.lengths[modality], present, on_cpu)
            )
        return torch.cat(embeddings, dim=1)


class Model(Network):
    """Fig. 2(b): encoders -> (B, 384) -> classifier."""

    Settings = BaselineSettings

    def __init__(self, settings: BaselineSettings, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__(settings, dims, outputs)
        code = settings.variant == "code"
        dropout = (0.3 if code else 0.0) if settings.dropout is None else settings.dropout
        self.encoders = Encoders(dims)
        self.classifier = mlp((JOINT, 128, 128 if code else 64, outputs), dropout)

    @classmethod
    def recipe(cls, settings: BaselineSettings) -> dict[str, Any]:
        """Return the reference's training for ``variant: code``."""
        if settings.variant == "paper":
            return {}
        return {"learning_rate": 2e-4, "beta1": 0.5, "epochs": 20, "decay_epochs": 10, "batch_size": 128}

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
