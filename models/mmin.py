"""MMIN, the Missing Modality Imagination Network.

Paper: Zhao, Li, Jin, "Missing Modality Imagination Network for Emotion Recognition with Uncertain Missing
Modalities", ACL 2021. From the *available* modalities the network imagines the embedding of the *missing*
ones (forward), and from that again the one of the available (backward); the latent vectors on the way are
what the emotion is read from.

Where the paper and its reference code (AIM3-RUC/MMIN, MIT) differ, the paper is the default; with
``variant: code`` each of these is the reference's choice:

=================== ================================== ==========================================
..                  paper                              code
=================== ================================== ==========================================
lambda 1, lambda 2  0.1, 0.1                           4.0, 2.0 (its IEMOCAP script)
learning rate       1e-3, Adam                         2e-4, Adam with beta1 0.5
epochs              at most 100                        30, then 30 of linear decay
clipping            none                               norm 1.0, each sub-network by itself
classifier          128, 64, C                         128, 128, C with dropout 0.5
text encoder        no dropout named: none             dropout 0.5 behind the maxima
autoencoders        ReLU in encoder and decoder        LeakyReLU (0.01) in the encoder, ReLU in the decoder
latent vectors      not said: ReLU                     no activation
weights at start    not named: PyTorch's               PyTorch's (see below)
training set        six conditions of every sample     one of the six, drawn anew every epoch
cascade             5 residual autoencoders            Linear-ReLU-Linear after them as well
audio               as extracted, 100 frames/s         resampled to 10 frames/s
=================== ================================== ==========================================

Rate, epochs, clipping and training set belong to the experiment (:meth:`Model.recipe`): they hold where
params.yaml does not give them itself, so leave out ``train_on`` for the code's training set.

The reference draws its weights kaiming-normal, with zero biases (LSTMs PyTorch's). Its cascade then makes an embedding
a hundred times as large, and its first losses are of the order 1e8: Adam with clipping lives with that, M3S's plain
inner steps do not. So it is a setting of its own, ``initialisation: kaiming``, and neither variant's.

The last row is in no variant: the reference resamples through a low-pass filter, of which the paper says nothing.
``frame_rate_hz: {audio: 10}`` of the experiment averages ten neighbours into one instead. The presets of the
paper's tables have it for either variant, as an LSTM over every frame is ten times the work; without it the
audio is the paper's.

Eq. 6 writes the imagination losses as squared L2 norms over all 384 elements. At that scale the paper's
lambdas do not work: with 0.1 the forward loss starts fifty times as large as the cross-entropy, which then
stays at the logarithm of the number of classes for more than ten epochs (demo corpus). The reference takes
the mean over the elements, like every framework's "MSE loss", and that is what both variants do here;
``imagination_loss: norm`` is the equation's letter.

From the reference: the target h of the backward loss is taken as it is, without a gradient (the paper calls
it ground truth). What closes a latent vector the paper does not say; a ReLU, as behind every other layer, is a
choice of ours.

The reference's own MMIN-AE has other sizes (512-450-384-256 and back), a ReLU on its output and a training of
its own. ``imagination: ae`` is the paper's, a plain autoencoder with as many weights as the cascade, with the
variant's activations.

Deviations: padding never wins the maximum over time (the reference pools over zero padding); a missing
modality is one zero frame; modalities stand in the order text, audio, video. The reference normalises audio
alone, and on MSP-IMPROV its normaliser saw the test speakers; here every modality is normalised by the
training part. Its script names a weight decay of 1e-5 that its optimiser never gets: none here. Its MSP-IMPROV
script has other choices than the one for IEMOCAP: ``forward_weight: 2.0``, ``backward_weight: 0.5``,
``share_imagination: true`` and, of the experiment, ``learning_rate: 5.0e-4``.

The encoders start from the full-modality baseline of the same fold and seed, and a frozen copy of it makes
the targets (section 3.1.1). pipeline/train.py says with which settings that is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from models import baseline
from models.base import MODALITIES, Batch, ModelSettings, Network, Output, Pretraining, View
from models.layers import (
    CascadeResidualAutoencoder,
    ResidualAutoencoder,
    initialise,
    mlp,
    task_loss,
)

AUTOENCODER = (baseline.JOINT, 256, 128, 64)  # and back: 384-256-128-64-128-256-384 (Table 3)
BLOCKS = 5
LATENT = AUTOENCODER[-1]
# MMIN-AE: the sizes of one plain autoencoder with the parameters of five of the above (1,398,720; these:
# 1,397,036), whose latent vector is as long as their five together.
WIDE_AUTOENCODER = (baseline.JOINT, 756, 378, BLOCKS * LATENT)

Weight = Annotated[float, Field(ge=0)]


class MMINSettings(ModelSettings):
    """Choices of MMIN; None takes what the variant has."""

    # the paper's network, or the public code's where they differ
    variant: Literal["paper", "code"] = "paper"
    imagination: Literal["cra", "ae"] = "cra"  # ae: MMIN-AE, one plain autoencoder as large as the cascade
    cycle: bool = True  # False: MMIN-NoCycle, without the backward imagination
    share_imagination: bool = False  # True: forward and backward imagination have the same weights
    forward_weight: Weight | None = None  # lambda 1
    backward_weight: Weight | None = None  # lambda 2
    imagination_loss: Literal["mean", "norm"] = "mean"  # over the embedding's elements; norm: Eq. 6's sum
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None  # between the classifier's layers
    text_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None  # in the text encoder
    initialisation: Literal["pytorch", "kaiming"] = "pytorch"  # kaiming: the reference's weights at the start


class Model(Network):
    """Fig. 2(a) in training, Fig. 2(c) afterwards."""

    Settings = MMINSettings

    def __init__(self, settings: MMINSettings, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__(settings, dims, outputs)
        code = settings.variant == "code"

        def choose(given: Any, paper: Any, reference: Any) -> Any:
            return (reference if code else paper) if given is None else given

        self.forward_weight = choose(settings.forward_weight, 0.1, 4.0)
        self.backward_weight = choose(settings.backward_weight, 0.1, 2.0)
        self.loss_kind = settings.imagination_loss
        self.encoders = baseline.Encoders(
            dims, baseline.text_dropout(settings.variant, settings.text_dropout)
        )
        self.teacher = baseline.Encoders(dims).requires_grad_(False).eval()
        self.imagine_forward = self._imagination(settings)
        self.cycle, own = settings.cycle, settings.cycle and not settings.share_imagination
        self.imagine_backward = self._imagination(settings) if own else None  # None: shared, or no cycle
        hidden = 128 if code else 64
        self.classifier = mlp((BLOCKS * LATENT, 128, hidden, outputs), choose(settings.dropout, 0.0, 0.5))
        if settings.initialisation == "kaiming":
            initialise(self, nn.init.kaiming_normal_)
        self.teacher.load_state_dict(self.encoders.state_dict())

    @staticmethod
    def _imagination(settings: MMINSettings) -> nn.Module:
        code = settings.variant == "code"
        if settings.imagination == "ae":
            return ResidualAutoencoder(
                WIDE_AUTOENCODER, leaky=code
            )  # its output is h' itself, not a residual
        return CascadeResidualAutoencoder(BLOCKS, AUTOENCODER, leaky=code, transition=code)

    @classmethod
    def recipe(cls, settings: MMINSettings) -> dict[str, Any]:
        """Return the paper's training set, or the reference's training for ``variant: code``."""
        if settings.variant == "paper":
            return {"train_on": "missing"}
        return {
            "train_on": "random-condition",
            "learning_rate": 2e-4,
            "beta1": 0.5,
            "epochs": 60,
            "decay_epochs": 30,
            "batch_size": 128,
            "clip_norm": 1.0,
            "clip_groups": True,
        }

    @classmethod
    def views(cls, settings: MMINSettings) -> Mapping[str, View]:
        """Return the complement of Eq. 1: what the batch hides is what is imagined."""
        return {"complement": View("complement")}

    @classmethod
    def pretraining(cls, settings: MMINSettings) -> Pretraining:
        """Return the full-modality baseline, of the same variant."""
        return Pretraining("baseline", {"variant": "code"} if settings.variant == "code" else {})

    def load_pretrained(self, network: nn.Module) -> None:
        """Start the encoders from a trained full-modality baseline; a frozen copy is the teacher."""
        if not isinstance(network, baseline.Model):
            raise TypeError(f"MMIN starts from the baseline's encoders, found {type(network).__name__}")
        for encoders in (self.encoders, self.teacher):
            encoders.load_state_dict(network.encoders.state_dict())

    def train(self, mode: bool = True) -> Model:
        """Set the mode of everything but the teacher, which never trains."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, batch: Batch) -> Output:
        """Return logits (B, C), the losses of Eq. 7, and embeddings.

        The two losses of the imagination need the batch's complement: they are there in training only.
        """
        h = self.encoders(batch)  # Eq. 1
        imagined, joint = self.imagine_forward(h)  # h' and R, Eqs. 2 and 3
        logits = self.classifier(joint)  # Eq. 5, without its softmax
        losses = task_loss(logits, batch)
        hidden = {"embedding": h, "imagined": imagined, "joint": joint}
        if "complement" in batch.views:
            with torch.no_grad():
                target = self.teacher(batch.views["complement"])  # h with a hat, Eq. 1
            losses["forward"] = self.forward_weight * self._distance(target, imagined)
            if self.cycle:
                again, _ = (self.imagine_backward or self.imagine_forward)(imagined)  # h'', Eq. 4
                losses["backward"] = self.backward_weight * self._distance(h.detach(), again)
            hidden["target"] = target
        return Output(logits, losses, hidden)

    def _distance(self, target: Tensor, imagined: Tensor) -> Tensor:
        """Return Eq. 6: the mean over samples of the squared error, averaged or summed over elements."""
        squares = (target.float() - imagined.float()).square()
        return squares.sum(dim=1).mean() if self.loss_kind == "norm" else squares.mean()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the groups text, audio, video, imagination, imagination_backward and classifier."""
        groups: dict[str, list[nn.Parameter]] = {
            m: list(getattr(self.encoders, m).parameters()) for m in MODALITIES
        }
        groups["imagination"] = list(self.imagine_forward.parameters())
        if self.imagine_backward is not None:
            groups["imagination_backward"] = list(self.imagine_backward.parameters())
        groups["classifier"] = list(self.classifier.parameters())
        return groups
