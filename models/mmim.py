"""MMIM: multimodal InfoMax (Han, Chen, Poria 2021, EMNLP).

Text, audio and video are summarised to one vector each and fused. Two lower bounds are maximised beside the
task: of the mutual information between text and audio, and text and video (Barber-Agakov: E[log q(y|x)] +
H(y), with a Gaussian q), and, by contrastive predictive coding, of that between the fusion and each modality.

Each epoch has two phases (:attr:`Model.phases`). ``bound`` fits q alone, by its likelihood. ``main`` trains
all the rest on task + alpha * CPC - beta * (E[log q] + H), with q as it is.

Taken from the authors' code (declare-lab/Multimodal-Infomax) where the paper leaves it open: one-directional
audio and video LSTMs of size 16, each with a Linear behind and no dropout (the code's is 0 with one layer);
ReLU in q (``bound_activation``), tanh in the fusion; the entropy's projection to a quarter; H as 1/4 (logdet of
the covariance among positive + among negative samples), that is the mean of 1/2 logdet over the two, where a
score of 0 is neither; weights at the start xavier-normal, all matrices but BERT's.

Deviations:
- The code's likelihood leaves out log sigma^2 and the constant in both phases, so that nothing keeps the
  variance from growing; here it is the Gaussian's whole density, as in the paper.
- The code clips one norm over all weights, in ``main`` with q's gradients and in ``bound`` with the encoders',
  which its optimiser does not move then. Here a phase's norm is that of the weights it moves.
- The code never halves the rate of q; here ``halve_after`` halves every rate. Of CMU-MOSEI its ``bound`` sees half
  of the batches; here all.
- In the code the entropy's projection belongs to the optimiser of a phase in which it has no gradient: it
  never trains. Here it is trained in ``main``.
- The history of the entropy term is a window of the last ``memory`` samples (the paper's one batch of 32),
  kept as buffers, so that it survives a resume and a short last batch; the code starts an empty one every
  epoch, and counts the entropy from the epoch's third batch on.
- A covariance gets ``ridge`` on its diagonal, and a class of fewer than two samples is left out: the code's
  logdet of a singular matrix is -inf or NaN. Entropy, likelihood and CPC are computed in float32, whatever the
  experiment's precision: in bfloat16 the ridge protects nothing.
- For classification H is the mean of 1/2 logdet over the classes, which for two classes is the same formula.
- The authors report the lowest test error among the epochs that improve validation; here validation alone
  chooses.
- With frozen text features there is no [CLS]: their mean over time stands for it.
- In ``bound`` the encoders run without a gradient, since nothing there uses it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from models.base import MODALITIES, Batch, Network, Output
from models.layers import full_precision, mlp, task_loss, unit_rows
from models.parts import LastState, TextEncoder, TextSettings, encoder_files, split_parameters

PARTNERS = ("audio", "video")  # the modalities whose information with text is bounded
NO_CLASS = -1  # of an empty place in the entropy's memory, and of a score of 0


class MMIMSettings(TextSettings):
    """MMIM's settings; the defaults are the authors' for CMU-MOSI.

    Attributes:
        audio_hidden, video_hidden: the size of the LSTMs and of what they give.
        fusion: the width of the fusion.
        dropout: before the fusion.
        bound_activation: between the two layers of q's networks.
        cpc_weight: alpha.
        bound_weight: beta, of the likelihood and of the entropy.
        memory: the samples that the entropy looks back on.
        ridge: added to the diagonal of a covariance.
    """

    audio_hidden: Annotated[int, Field(ge=4)] = 16
    video_hidden: Annotated[int, Field(ge=4)] = 16
    fusion: Annotated[int, Field(ge=1)] = 128
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    bound_activation: Literal["relu", "tanh"] = "relu"
    cpc_weight: Annotated[float, Field(ge=0)] = 0.1
    bound_weight: Annotated[float, Field(ge=0)] = 0.1
    memory: Annotated[int, Field(ge=1)] = 32
    ridge: Annotated[float, Field(gt=0)] = 1e-4


class Model(Network):
    """MMIM. ``outputs`` is the number of classes, or 1 for a regression."""

    Settings = MMIMSettings
    phases: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "bound": ("bound",),
        "main": ("text", "audio", "video", "rest"),
    }
    history_class: Tensor

    def __init__(self, settings: MMIMSettings, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__(settings, dims, outputs)
        self.outputs = outputs
        self.phase = "main"
        self.text = TextEncoder(settings, dims["text"])
        sizes = {"text": self.text.size, "audio": settings.audio_hidden, "video": settings.video_hidden}
        self.audio = Summary(dims["audio"], settings.audio_hidden)
        self.video = Summary(dims["video"], settings.video_hidden)
        self.fuse = nn.Sequential(
            nn.Dropout(settings.dropout),
            nn.Linear(sum(sizes.values()), settings.fusion),
            nn.Tanh(),
            nn.Linear(settings.fusion, settings.fusion),
            nn.Tanh(),
        )
        self.head = nn.Linear(settings.fusion, outputs)
        activation = nn.ReLU if settings.bound_activation == "relu" else nn.Tanh
        self.bound = nn.ModuleDict({m: Gaussian(sizes["text"], sizes[m], activation) for m in PARTNERS})
        self.project = nn.ModuleDict(
            {m: nn.Sequential(nn.Linear(sizes[m], sizes[m] // 4), nn.Tanh()) for m in PARTNERS}
        )
        self.predict = nn.ModuleDict({m: nn.Linear(settings.fusion, sizes[m]) for m in MODALITIES})
        for m in PARTNERS:
            self.register_buffer(f"history_{m}", torch.zeros(settings.memory, sizes[m] // 4))
        self.register_buffer("history_class", torch.full((settings.memory,), NO_CLASS))
        for name, weight in self.named_parameters():
            if weight.dim() > 1 and not name.startswith("text."):
                nn.init.xavier_normal_(weight)

    @classmethod
    def recipe(cls, settings: MMIMSettings) -> dict[str, Any]:
        """Return the authors' training for CMU-MOSI; BERT has a rate of its own."""
        rates = {"learning_rates": {"text": 5e-5}} if settings.text == "tokens" else {}
        common = {"weight_decay": 1e-4, "batch_size": 32, "epochs": 40, "patience": 10, "clip_norm": 1.0}
        common["halve_after"] = 20
        return {"learning_rate": 1e-3, **rates, **common}

    @classmethod
    def files(cls, settings: MMIMSettings) -> Sequence[Path]:
        """Return the text encoder's files, when it is trained along."""
        return encoder_files(settings)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the groups text, audio, video (the encoders), bound (q) and rest, but no empty one."""
        parts = {"text": self.text, "audio": self.audio, "video": self.video, "bound": self.bound}
        return split_parameters(self, parts)

    def phase_start(self, phase: str) -> None:
        """Switch to the losses of a phase."""
        self.phase = phase

    def forward(self, batch: Batch) -> Output:
        """Return prediction, the phase's losses and the fusion (B, 128)."""
        if self.training and self.phase == "bound":
            with torch.no_grad():
                summary = self._summarise(batch)
                fusion = self.fuse(torch.cat([summary[m] for m in MODALITIES], dim=1))
                prediction = self.head(fusion)
            likelihoods = [self.bound[m](summary["text"], summary[m]) for m in PARTNERS]
            return Output(prediction, {"likelihood": -torch.stack(likelihoods).sum()}, {"fusion": fusion})
        summary = self._summarise(batch)
        fusion = self.fuse(torch.cat([summary[m] for m in MODALITIES], dim=1))
        prediction = self.head(fusion)
        losses = task_loss(prediction, batch)
        if losses:
            contrast = [cpc(self.predict[m](fusion), summary[m]) for m in MODALITIES]
            losses["cpc"] = self.settings.cpc_weight * torch.stack(contrast).sum()
            likelihoods = [self.bound[m](summary["text"], summary[m]) for m in PARTNERS]
            losses["bound"] = -self.settings.bound_weight * torch.stack(likelihoods).sum()
            losses["entropy"] = -self.settings.bound_weight * self._entropy(summary, self._sides(batch))
        return Output(prediction, losses, {"fusion": fusion})

    def _summarise(self, batch: Batch) -> dict[str, Tensor]:
        return {
            "text": self.text(batch)[0],
            "audio": self.audio(batch.features["audio"], batch.lengths["audio"]),
            "video": self.video(batch.features["video"], batch.lengths["video"]),
        }

    def _entropy(self, summary: Mapping[str, Tensor], classes: Tensor) -> Tensor:
        """Return H(audio) + H(video), and remember the batch when training."""
        now = {m: self.project[m](summary[m]) for m in PARTNERS}
        past: Tensor = self.history_class
        every = torch.cat([past, classes])
        total = [
            entropy(
                torch.cat([getattr(self, f"history_{m}"), now[m]]), every, self._classes, self.settings.ridge
            )
            for m in PARTNERS
        ]
        if self.training:
            size = self.settings.memory
            self.history_class = every[-size:].clone()
            for m in PARTNERS:
                joined = torch.cat([getattr(self, f"history_{m}"), now[m].detach().float()])
                setattr(self, f"history_{m}", joined[-size:].clone())
        return torch.stack(total).sum()

    def _sides(self, batch: Batch) -> Tensor:
        """Return (B,) the class of each sample: its label, or 1 for a positive score, 0 for a negative one and
        :data:`NO_CLASS` for 0."""
        known = batch.scores if self.outputs == 1 else batch.labels
        if known is None:
            raise ValueError(
                "found neither labels nor scores, expected them: the entropy is that of the classes"
            )
        return torch.where(known == 0, NO_CLASS, (known > 0).long()) if self.outputs == 1 else known

    @property
    def _classes(self) -> int:
        return max(self.outputs, 2)


class Summary(nn.Module):
    """Audio or video to one vector: an LSTM's last state, Linear."""

    def __init__(self, columns: int, hidden: int) -> None:
        super().__init__()
        self.last = LastState(columns, hidden)
        self.linear = nn.Linear(hidden, hidden)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) values and (B,) lengths -> (B, H)."""
        out: Tensor = self.linear(self.last(values, lengths))
        return out


class Gaussian(nn.Module):
    """q(y|x), a Gaussian; one small network for its means, one for its variances (section 3.4)."""

    def __init__(self, given: int, size: int, activation: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.mean = mlp((given, size, size), activation=activation)
        self.log_variance = mlp((given, size, size), activation=activation)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean over the batch of log q(y|x), for (B, X) and (B, Y)."""
        return log_density(y, self.mean(x), self.log_variance(x)).mean()


def log_density(y: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return (B,) the log density of (B, Y) values under independent Gaussians."""
    y, mean, log_variance = y.float(), mean.float(), log_variance.float()
    terms = log_variance + (y - mean).square() / log_variance.exp() + math.log(2 * math.pi)
    return -0.5 * terms.sum(dim=1)


def cpc(predicted: Tensor, actual: Tensor) -> Tensor:
    """Return the InfoNCE loss of (B, D) predictions against (B, D) representations of the same samples (Eq.
    10).

    Both are brought to length 1; the other samples of the batch are the negatives. What has no length (a text
    that is missing) scores 0 with everything.
    """
    with full_precision(actual):
        scores = unit_rows(actual) @ unit_rows(predicted).T
    return (scores.logsumexp(dim=1) - scores.diagonal()).mean()


def entropy(values: Tensor, classes: Tensor, count: int, ridge: float) -> Tensor:
    """Return the mean over classes of 1/2 logdet of their covariances, without the constants.

    Args:
        values: (N, D).
        classes: (N,) int64 in 0 ... count - 1; other numbers (:data:`NO_CLASS`) are left out.
        count: how many classes there may be.
        ridge: added to the diagonal.

    Returns:
        A scalar; 0 where no class has two samples.
    """
    with full_precision(values):
        values = values.float()
        members = classes[None, :] == torch.arange(count, device=classes.device)[:, None]
        weights = members.to(values.dtype)  # (C, N)
        sizes = weights.sum(dim=1)
        means = weights @ values / sizes.clamp(min=1)[:, None]
        centred = (values[None] - means[:, None]) * weights[:, :, None]  # (C, N, D)
        covariance = centred.transpose(1, 2) @ centred / sizes.clamp(min=1)[:, None, None]
        covariance = covariance + ridge * torch.eye(values.shape[1], device=values.device)
        enough = sizes >= 2
        halves = torch.where(enough, 0.5 * torch.logdet(covariance), torch.zeros_like(sizes))
        return halves.sum() / enough.sum().clamp(min=1)
