"""EMMR: Ensemble-based Missing Modality Reconstruction.

Paper: Zeng, Zhou, Liu, "Mitigating Inconsistencies in Multimodal Sentiment Analysis under Uncertain Missing
Modalities", EMNLP 2022. A Transformer encoder-decoder (TF) recovers the absent modality; where the sentiment
with the recovered modality is not that of what is available, the absent modality is *key*, and three branches
(TF, an autoencoder, the cascade of residual autoencoders of MMIN) decide together. Otherwise TF alone decides.

What the equations say, in the order of the code::

    E_m = MHA(X_m, X_m, X_m), X = [E_t || E_a || E_v] along time                (1, 2)
    E_pre = the same of a network trained on complete samples, then frozen      (3)
    AE 300-300-256-128-64-128-256-300 at each position, ReLU behind each        (5)
    MMIN: five of these; D = X + their outputs                                  (6)
    TF: F = FFN(MHA(X, X, X)), D = FFN(MHA(F, F, F))                            (7)
    L_all of the recovered input, L_mn of each pair in it: FC(MHA(.))           (8, 9)
    key: exactly one modality k is absent, and L_all and L_(all but k) name other classes
    alpha = softmax over the pairs of max softmax(L_mn); E_key = [alpha_mn L_mn], a vector a branch  (10, 11)
    H = the branches' E_key; beta = softmax(w tanh(H)); r = H beta              (12)
    R = r for key samples, F for the others; the label from FC(R)               (13, 17)
    loss = task + 0.1 * distance(F, E_pre) + 0.1 * distance(D, X), symmetric KL (14 to 16, 18)

The public code (JaydenZeng/EMMR, no licence; not a line of it is here) compares a tensor with an int while the graph
is built. That is never true, so **recovery and ensemble never existed in what was trained**. ``variant: code`` is
that network, as it was trained: TATE's common space without its tag, TF, attention pooling, two layers to the
label, the KL without its half, the outputs of a pretrained TF encoder on the same incomplete input as the forward
target, dropout 0.2 on attention weights, 10 epochs. Left out of it: dropout at test, the lost last batch, a weight
decay of 1e-5 on the last layer, losses summed instead of averaged over a batch (Adam does not see a factor).

What the paper leaves open, what is done here, and the setting that changes it:

======================================= ===================================================== =====================
question                                choice, and why                                       setting
======================================= ===================================================== =====================
what trains L_all and L_mn?             a loss of their own: the sample's label, the only     ``label_weight`` (0:
                                        one there is; mean over heads and branches, weight    nothing but Eq. 11;
                                        0.1 as the others. No equation reaches L_all          L_all stays as drawn)
the heads' weights                      one MHA for all, an FC for each pair (and all),
                                        shared by the branches: all are asked the same
KL of what are no distributions         softmax over the features of each position, as in     ``softmax_over``
                                        the code; mean over positions, then samples
which distance                          KL; Figure 5 has the others                           ``distance``
E_key (3 times C logits) beside F       Eq. 11 by the letter, and a Linear to F's size; the   ``key_vector:
                                        code adds up the pairs' hidden vectors                vectors``
F (a sequence) to a vector              mean over the positions that count                    ``pooling: gated``
nothing is missing                      TF decides: Eq. 13, otherwise                         ``key: always``
two or three are missing                TF decides: the paper has one missing                 ``several_missing:
                                                                                              ensemble``
what E_pre sees                         the whole sample: "three full modalities". A missing  ``teacher_sees:
                                        modality's position is compared with the mean of the  shown``
                                        frames it would have had
what D is compared with                 X, as the equation says: the encoding of what is      ``backward_target:
                                        shown. So nothing but the labels teaches what to put  whole``
                                        in the place of the missing modality; ``whole`` does
whose decoder output that is            every branch's, the mean over branches: Eq. 4 is      ``backward_on:
                                        about any encoder-decoder                             backbone``
gradient into X and E_pre               into X as into D, as the code does; E_pre is frozen   ``detach_target``
how long a recovered modality is        one position. A missing modality is one zero frame    ``missing_frames``
                                        here; the paper's n zero frames, without positions,
                                        all become the same vector
positions                               none, as in the equations                             ``positions``
residual connections                    LayerNorm(x + ...) around MHA and FFN, as in the      ``residual``
                                        Transformer and the code; the equations have none
the Transformer's inner size, heads     1200 and 4, as in the code                            ``inner``, ``heads``
ReLU behind the decoders (Eq. 5: i = 7) by the letter                                         ``positive_output``
what AE and MMIN see of a missing       its zero frame's encoding: by Eqs. 5 and 6 they go    ``branch_input:
modality                                position by position, so that what they recover is    mean``
                                        the same vector for all samples. ``mean`` puts the
                                        mean of what is available there
does MHA start from the pretrained one? no                                                    ``start: pretrained``
E^AE and E^MMIN                         feed nothing in the paper; the FC of Eq. 6 is not built
a regression                            the class is the sign, the logits are (0, score)
======================================= ===================================================== =====================

By Eq. 13 a test without missing modalities has no key samples, so that the ensemble changes nothing there; the paper's
Table 3 has 58.43 for TF and 68.08 for the ensemble at the missing rate 0. ``key: always`` is the one reading of our
settings under which the two can differ.

Deviations: dropout is off at test; modalities stand in the order text, audio, video; a frame that was not observed
is not attended to. Where fewer than three ``modalities`` are used (Table 2), "pair" means all of them but one; a
single one has no ensemble.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

import models
from models import Modality
from models.base import MODALITIES, Batch, Judgement, ModelSettings, Network, Output, Pretraining, View
from models.layers import (
    Attention,
    CascadeResidualAutoencoder,
    GatedPooling,
    ResidualAutoencoder,
    TransformerLayer,
    mlp,
    sequence_distance,
    task_loss,
)
from models.parts import CommonSpace, ModalityAttention, Tokens, aligned, masked_mean

ENCODER = (256, 128, 64)  # behind the first layer, as wide as the input
BLOCKS = 5
SCORE_LIMIT = 25.0  # of the opinions' attention: exp(25) cubed is still a float32, for second derivatives

Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class EMMRSettings(ModelSettings):
    """Choices of EMMR; None takes what the variant has. The module's table says why each default was chosen.

    Attributes:
        variant: the paper's network, or the one that its authors' code trained.
        role: ``pretrain`` is the network with full modalities that ``main`` starts from (section 3.4).
        modalities: those that are looked at (Table 2).
        branches: of the ensemble, TF among them (Table 3).
        combine: the branches' vectors, by Eq. 12, or their maximum or mean (Table 3).
        key: who says that a modality is key: the detector; the dataset (``oracle``: :attr:`Batch.facts`, ``key``);
            nobody, so that there is no ensemble; or it always is, whatever is missing.
    """

    variant: Literal["paper", "code"] = "paper"
    role: Literal["main", "pretrain"] = "main"
    modalities: tuple[Modality, ...] = models.MODALITIES
    branches: tuple[Literal["tf", "ae", "mmin"], ...] = ("tf", "ae", "mmin")
    combine: Literal["attention", "max", "average"] = "attention"
    key: Literal["detected", "oracle", "never", "always"] = "detected"
    several_missing: Literal["backbone", "ensemble"] = (
        "backbone"  # who decides where two or three are missing
    )
    key_vector: Literal["logits", "vectors"] = "logits"  # Eq. 11's, or the sum of what they are read from
    label_weight: Weight = 0.1  # of the opinions' own loss
    forward_weight: Weight = 0.1  # lambda 1; 0: without the pretrained network
    backward_weight: Weight = 0.1  # lambda 2
    distance: Literal["kl", "mae", "cosine"] = "kl"  # of both losses (Figure 5)
    softmax_over: Literal["features", "time"] = "features"  # what makes a distribution of a vector, for kl
    teacher_sees: Literal["whole", "shown"] | None = None  # the whole sample; the code: what is left of it
    backward_target: Literal["shown", "whole"] = "shown"  # Eq. 16: X of what is left, or of the whole sample
    backward_on: Literal["branches", "backbone"] = "branches"  # whose decoder output Eq. 16 is about
    detach_target: bool = False  # no gradient into X of Eq. 16
    branch_input: Literal["shown", "mean"] = "shown"  # to AE and MMIN, in the place of what is missing
    start: Literal["fresh", "pretrained"] = "fresh"  # the weights of Eq. 1
    size: Annotated[int, Field(ge=2, multiple_of=2)] = 300
    heads: Count = 4
    inner: Count = 1200  # the FFN's hidden layer
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None  # 0.3; the code: 0.2
    residual: bool = True  # around attention and FFN, with a LayerNorm
    positions: bool = False  # the Transformer's sinusoids on each modality's frames
    missing_frames: Count = 1  # how long a missing modality is, and what is recovered of it
    positive_output: bool = True  # ReLU behind the decoders of AE and MMIN (Eq. 5)
    pooling: Literal["mean", "gated"] | None = None  # of F over time: mean; the code: gated attention

    @model_validator(mode="after")
    def _fits(self) -> EMMRSettings:
        if not self.modalities or len(set(self.modalities)) < len(self.modalities):
            raise ValueError(
                f"found the modalities {list(self.modalities)}, expected one or more different ones"
            )
        if "tf" not in self.branches or len(set(self.branches)) < len(self.branches):
            raise ValueError(
                f"found the branches {list(self.branches)}, expected tf and others, each once: key samples are "
                f"told by TF's labels"
            )
        if self.size % self.heads:
            raise ValueError(
                f"found size {self.size} and {self.heads} heads, expected a multiple of the heads"
            )
        if self.variant == "code" and set(self.modalities) != set(MODALITIES):
            raise ValueError("variant: code has all three modalities; take variant: paper for fewer")
        return self

    @property
    def code(self) -> bool:
        """Whether it is the network of the authors' code."""
        return self.variant == "code"

    @property
    def used(self) -> tuple[str, ...]:
        """The modalities in their usual order."""
        return tuple(m for m in MODALITIES if m in self.modalities)

    @property
    def ensemble(self) -> tuple[str, ...]:
        """The branches that decide on key samples; empty where there are no such samples."""
        if self.code or self.role == "pretrain" or self.key == "never" or len(self.modalities) == 1:
            return ()
        return tuple(name for name in ("tf", "ae", "mmin") if name in self.branches)

    @property
    def sight(self) -> str:
        """What the pretrained network sees."""
        return self.teacher_sees or ("shown" if self.code else "whole")

    @property
    def drops(self) -> float:
        """The dropout's rate."""
        return (0.2 if self.code else 0.3) if self.dropout is None else self.dropout


class Encoder(nn.Module):
    """Eq. 1; the code's network has the common space of TATE behind it."""

    def __init__(self, settings: EMMRSettings, dims: Mapping[str, int]) -> None:
        super().__init__()
        self.attention = ModalityAttention(
            dims,
            settings.used,
            settings.size,
            settings.heads,
            settings.drops,
            settings.residual,
            settings.missing_frames,
            settings.positions,
        )
        self.common = CommonSpace(settings.size) if settings.code else None

    def forward(self, batch: Batch) -> Tokens:
        """Return E_m of every modality."""
        tokens: Tokens = self.attention(batch)
        return (
            tokens if self.common is None else Tokens(self.common(tokens.values), tokens.keep, tokens.there)
        )


class Head(nn.Module):
    """A sequence to the label: pooling, then Eq. 17 without its softmax."""

    def __init__(self, settings: EMMRSettings, outputs: int) -> None:
        super().__init__()
        size = settings.size
        gated = settings.code if settings.pooling is None else settings.pooling == "gated"
        self.pooling = GatedPooling(size) if gated else None
        code = nn.Sequential(nn.Linear(size, size, bias=False), nn.Linear(size, outputs))
        self.output = (
            code if settings.code else nn.Sequential(nn.Dropout(settings.drops), nn.Linear(size, outputs))
        )

    def pool(self, values: Tensor, keep: Tensor) -> Tensor:
        """Return (B, D) of (B, T, D)."""
        return masked_mean(values, keep) if self.pooling is None else self.pooling(values, keep)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return logits (B, C) of (B, D)."""
        logits: Tensor = self.output(pooled)
        return logits


class Pretrained(nn.Module):
    """The network with full modalities (section 3.4): E_pre, and the label from it.

    E_pre is [E_t || E_a || E_v]; in the authors' code what the TF encoder makes of it.
    """

    def __init__(self, settings: EMMRSettings, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__()
        self.encoder = Encoder(settings, dims)
        self.transformer = transformer(settings) if settings.code else None
        self.head = Head(settings, outputs)

    def forward(self, batch: Batch) -> tuple[Tokens, Tensor]:
        """Return the tokens and E_pre (B, T, D)."""
        tokens: Tokens = self.encoder(batch)
        joined, keep = tokens.joined()
        return tokens, joined if self.transformer is None else self.transformer(joined, keep)


def transformer(settings: EMMRSettings) -> TransformerLayer:
    """Return the encoder or the decoder of Eq. 7."""
    sizes = (settings.size, settings.heads, settings.inner)
    hidden = 0.0 if settings.code else None
    return TransformerLayer(*sizes, settings.drops, settings.residual, hidden)


class Opinions(nn.Module):
    """Eqs. 8 and 9: what all modalities, and what all but one of them say.

    The vector of a subset of positions is LayerNorm(mean x + mean MHA(x, x, x)), means over the subset. As the
    subsets share most of their positions, the exponents of all scores are computed once, and each subset sums up
    those of its own; the mean commutes with the last two products of MHA.

    Args:
        settings: of the network.
        outputs: C.
    """

    def __init__(self, settings: EMMRSettings, outputs: int) -> None:
        super().__init__()
        self.attention = Attention(settings.size, settings.heads, settings.drops)
        self.norm = nn.LayerNorm(settings.size) if settings.residual else None
        self.all = nn.Linear(settings.size, outputs)
        self.without = nn.ModuleDict({m: nn.Linear(settings.size, outputs) for m in settings.used})

    def vectors(self, values: Tensor, members: Tensor) -> Tensor:
        """Return (B, S, D): a vector of each subset of the positions.

        Args:
            values: (B, T, D).
            members: (B, S, T) bool, one True in each subset at least.
        """
        mha = self.attention
        queries = mha.split(mha.query(values)) / (values.shape[2] / mha.heads) ** 0.5
        scores = queries @ mha.split(mha.key(values)).transpose(2, 3)  # (B, H, T, T)
        weights = scores.clamp(-SCORE_LIMIT, SCORE_LIMIT).exp()
        of = members.to(weights.dtype)
        asking = of / of.sum(dim=2, keepdim=True)  # each query's part in the mean
        totals = weights @ of.transpose(1, 2)[:, None]  # (B, H, T, S): what each query's weights sum up to
        share = (asking.transpose(1, 2)[:, None] / totals).transpose(2, 3)
        mean = (share @ weights) * of[:, None]  # (B, H, S, T)
        read = mha.dropout(mean) @ values[:, None].to(
            mean.dtype
        )  # (B, H, S, D), before the projection to values
        parts = mha.value.weight.unflatten(0, (mha.heads, -1))
        heads = torch.einsum("bhsd,hed->bshe", read, parts).flatten(2) + mha.value.bias
        vectors: Tensor = mha.output(heads)
        return vectors if self.norm is None else self.norm(asking @ values.to(asking.dtype) + vectors)


class Model(Network):
    """EMMR, or with ``role: pretrain`` the network that it starts from."""

    Settings = EMMRSettings

    def __init__(self, settings: EMMRSettings, dims: Mapping[str, int], outputs: int) -> None:
        super().__init__(settings, dims, outputs)
        self.settings, self.outputs = settings, outputs
        self.ensemble = settings.ensemble
        self.pretrained: Pretrained | None = None
        self.places: Tensor
        self.register_buffer(
            "places", torch.tensor([MODALITIES.index(m) for m in settings.used]), persistent=False
        )
        if settings.role == "pretrain" or settings.forward_weight:
            self.pretrained = Pretrained(settings, dims, outputs)
        if settings.role == "pretrain":
            return
        if self.pretrained is not None:
            self.pretrained.requires_grad_(False)
        size = settings.size
        self.encoder = Encoder(settings, dims)
        self.tf_encoder = transformer(settings)
        self.tf_decoder = transformer(settings) if self.ensemble or settings.backward_weight else None
        self.head = Head(settings, outputs)
        sizes, back = (size, size, *ENCODER), (*ENCODER[::-1], size)
        positive = settings.positive_output
        self.ae = ResidualAutoencoder(sizes, back, positive) if "ae" in self.ensemble else None
        self.mmin: CascadeResidualAutoencoder | None = None
        if "mmin" in self.ensemble:
            self.mmin = CascadeResidualAutoencoder(BLOCKS, sizes, back, positive)
        if self.ensemble:
            self.opinions = Opinions(settings, outputs)
            width = size if settings.key_vector == "vectors" else outputs * len(settings.used)
            self.mix = nn.Linear(width, 1, bias=False) if self._mixes else None  # w of Eq. 12
            self.to_joint = mlp((width, size)) if settings.key_vector == "logits" else nn.Identity()
            if not settings.label_weight:
                self.opinions.all.requires_grad_(False)

    @property
    def _mixes(self) -> bool:
        """Whether Eq. 12 has more than one branch to weigh."""
        return self.settings.combine == "attention" and len(self.ensemble) > 1

    @classmethod
    def recipe(cls, settings: EMMRSettings) -> dict[str, Any]:
        """Return the paper's Table 7; the missing rate is a mask of params.yaml, which ``train_on`` names."""
        train_on = "full" if settings.role == "pretrain" else "random-condition"
        epochs = 10 if settings.code else 20
        return {"train_on": train_on, "learning_rate": 1e-3, "epochs": epochs, "batch_size": 32}

    @classmethod
    def views(cls, settings: EMMRSettings) -> Mapping[str, View]:
        """Return the whole samples, where the pretrained network or the backward loss looks at them."""
        if settings.role == "pretrain":
            return {}
        forward = settings.forward_weight and settings.sight == "whole"
        backward = settings.backward_weight and settings.backward_target == "whole"
        return {"whole": View("whole")} if forward or backward else {}

    @classmethod
    def pretraining(cls, settings: EMMRSettings) -> Pretraining | None:
        """Return the network with full modalities, of the same sizes; None for itself, and without L_forward."""
        if settings.role == "pretrain" or not settings.forward_weight:
            return None
        shared = {
            "variant", "modalities", "size", "heads", "inner", "dropout", "residual", "positions",
            "missing_frames", "pooling",
        }  # fmt: skip
        given = settings.model_dump(mode="json", include=shared, exclude_defaults=True)
        return Pretraining("emmr", {"role": "pretrain", **given}, {"train_on": "full"})

    @classmethod
    def facts(cls, settings: EMMRSettings) -> tuple[str, ...]:
        """Return ``key`` for the oracle: which modalities a sample's meaning hangs on."""
        return ("key",) if settings.ensemble and settings.key == "oracle" else ()

    @classmethod
    def judgements(cls, settings: EMMRSettings) -> Mapping[str, Judgement]:
        """Return which samples were judged key, what they lack, and what TF alone and the ensemble say of each."""
        if not settings.ensemble:
            return {}
        return {"key": "flag", "absent": "modality", "backbone": "prediction", "ensemble": "prediction"}

    def load_pretrained(self, network: nn.Module) -> None:
        """Take the trained network with full modalities as the frozen one."""
        if not isinstance(network, Model) or network.settings.role != "pretrain":
            raise TypeError(
                f"EMMR starts from a network of its own with role: pretrain, found {type(network).__name__}"
            )
        if self.pretrained is None or network.pretrained is None:
            raise ValueError("found forward_weight 0, expected more: without L_forward nothing is pretrained")
        self.pretrained.load_state_dict(network.pretrained.state_dict())
        if self.settings.start == "pretrained":
            self.encoder.load_state_dict(network.pretrained.encoder.state_dict())

    def train(self, mode: bool = True) -> Model:
        """Set the mode of everything but the frozen network."""
        super().train(mode)
        if self.settings.role == "main" and self.pretrained is not None:
            self.pretrained.eval()
        return self

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the groups encoder (the modalities'), tf, branches, opinions (with what follows them) and head."""
        if self.settings.role == "pretrain":
            return super().parameter_groups()
        parts: dict[str, list[nn.Module | None]] = {
            "encoder": [self.encoder],
            "tf": [self.tf_encoder, self.tf_decoder],
            "branches": [self.ae, self.mmin],
            "opinions": [self.opinions, self.mix, self.to_joint] if self.ensemble else [],
            "head": [self.head],
        }
        groups = {
            name: [p for one in ones if one is not None for p in one.parameters() if p.requires_grad]
            for name, ones in parts.items()
        }
        return {name: group for name, group in groups.items() if group}

    def forward(self, batch: Batch) -> Output:
        """Return logits (B, C), the losses of Eq. 14 and of the opinions, and hidden states.

        Hidden: ``joint``, R of Eq. 13, (B, D); with an ensemble also ``key``, (B,) bool, whether it decided;
        ``absent``, (B,) int64, the absent modality's place in text, audio, video where just one is absent, else -1;
        ``key_modality``, (B,) int64, the same for key samples alone; ``backbone`` and ``ensemble``, (B, C), what each
        of the two says of every sample.
        """
        if self.settings.role == "pretrain":
            return self._pretrain(batch)
        tokens: Tokens = self.encoder(batch)
        joined, keep = tokens.joined()
        encoded = self.tf_encoder(joined, keep)
        decoded = self._decode(tokens, joined, keep, encoded)
        joint = self.head.pool(encoded, keep)
        hidden: dict[str, Tensor] = {}
        extra: dict[str, Tensor] = {}
        logits = self.head(joint)
        if self.ensemble:
            backbone = logits
            every, pairs, vectors = self._opinions(tokens, decoded)
            together = self.to_joint(self.combine(self.key_vectors(pairs, vectors)))
            key, absent = self._key(batch, tokens.there, every[0], pairs[0])
            ensemble = self.head(together)
            logits = torch.where(key[:, None], ensemble, backbone)
            joint = torch.where(key[:, None], together, joint)
            modality = torch.where(key, absent, torch.full_like(absent, -1))
            hidden = {"key": key, "absent": absent, "key_modality": modality}
            hidden |= {"backbone": backbone, "ensemble": ensemble}
            if self.settings.label_weight:
                extra = self._label_loss(batch, every, pairs)
        losses = task_loss(logits, batch)
        if losses:
            losses |= extra | self._forward_loss(batch, tokens, encoded)
            losses |= self._backward_loss(batch, tokens, joined, keep, decoded)
        return Output(logits, losses, {"joint": joint, **hidden})

    def _pretrain(self, batch: Batch) -> Output:
        """Return the answer of the network with full modalities (Eq. 3)."""
        if self.pretrained is None:
            raise RuntimeError("found no network, expected one: role pretrain always has it")
        tokens, encoded = self.pretrained(batch)
        joint = self.pretrained.head.pool(encoded, tokens.joined()[1])
        logits = self.pretrained.head(joint)
        return Output(logits, task_loss(logits, batch), {"joint": joint})

    def _decode(self, tokens: Tokens, joined: Tensor, keep: Tensor, encoded: Tensor) -> list[Tensor]:
        """Return D (B, T, D) of the branches, TF's first (Eqs. 5 to 7)."""
        decoded = [] if self.tf_decoder is None else [self.tf_decoder(encoded, keep)]
        if self.ae is None and self.mmin is None:
            return decoded
        given = joined
        if self.settings.branch_input == "mean":
            lengths = [values.shape[1] for values in tokens.values.values()]
            seen = [tokens.there[:, i, None].expand(-1, length) for i, length in enumerate(lengths)]
            there = torch.cat(seen, dim=1)
            mean = masked_mean(joined, keep & there)
            given = torch.where(there[:, :, None], joined, mean[:, None])
        if self.ae is not None:
            decoded.append(self.ae(given)[0])
        if self.mmin is not None:
            decoded.append(self.mmin(given)[0])
        return decoded

    def _opinions(self, tokens: Tokens, decoded: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is said of the recovered inputs, branch by branch (Eqs. 8 and 9).

        Returns:
            L_all of TF, (1, B, C); L without each modality, (N, B, M, C); the vectors behind these, (N, B, M, D).
        """
        frames = self.settings.missing_frames
        names, lengths = list(tokens.values), [v.shape[1] for v in tokens.values.values()]
        joined, keep = tokens.joined()
        there = torch.cat([tokens.there[:, i, None].expand(-1, n) for i, n in enumerate(lengths)], dim=1)
        recovered = [
            tokens.split(one)[m][:, :frames] for one in decoded for m in names
        ]  # by branch, modality
        values = torch.cat([joined, *recovered], dim=1)
        # Which positions are whose: those of what is there are every branch's, the recovered ones its own.
        shown = dict(zip(names, (keep & there).split(lengths, dim=1), strict=True))
        gone = {m: ~tokens.there[:, i, None].expand(-1, frames) for i, m in enumerate(names)}
        nothing = {m: torch.zeros_like(part) for m, part in gone.items()}
        empty = {m: torch.zeros_like(part) for m, part in shown.items()}

        def members(branch: int, left_out: str | None) -> Tensor:
            own = [empty[m] if m == left_out else shown[m] for m in names]
            for other in range(len(decoded)):
                own += [nothing[m] if other != branch or m == left_out else gone[m] for m in names]
            return torch.cat(own, dim=1)

        subsets = [members(0, None), *(members(b, m) for b in range(len(decoded)) for m in names)]
        vectors = self.opinions.vectors(values, torch.stack(subsets, dim=1))
        each = vectors[:, 1:].unflatten(1, (len(decoded), len(names))).transpose(0, 1)  # (N, B, M, D)
        heads = self.opinions.without.values()
        pairs = torch.stack([head(each[:, :, i]) for i, head in enumerate(heads)], dim=2)
        return self.opinions.all(vectors[:, 0])[None], pairs, each

    def key_vectors(self, pairs: Tensor, vectors: Tensor) -> Tensor:
        """Return E_key of each branch (Eqs. 10 and 11): (N, B, M * C), or (N, B, D) with ``key_vector: vectors``.

        Args:
            pairs: (N, B, M, C), what each branch says without each modality.
            vectors: (N, B, M, D), from what.
        """
        logits = pairs
        if self.outputs == 1:
            logits = torch.cat([torch.zeros_like(pairs), pairs], dim=3)
        alpha = logits.float().softmax(dim=3).amax(dim=3, keepdim=True).softmax(dim=2)
        if self.settings.key_vector == "vectors":
            return (alpha * vectors).sum(dim=2)
        return (alpha * pairs).flatten(2)

    def combine(self, branches: Tensor) -> Tensor:
        """Return r (B, K) of the branches' vectors H (N, B, K): Eq. 12, or the maximum or the mean of them."""
        if self.mix is not None:
            beta = self.mix(torch.tanh(branches)).softmax(dim=0)
            return (beta * branches).sum(dim=0)
        return branches.amax(dim=0) if self.settings.combine == "max" else branches.mean(dim=0)

    def _key(self, batch: Batch, there: Tensor, every: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B,) bool, for which samples the ensemble decides (Eq. 13), and (B,) int64, what is absent."""
        absent = ~there
        one, several = absent.sum(dim=1) == 1, absent.sum(dim=1) > 1
        if self.settings.key == "always":
            key = torch.ones_like(one)
        elif self.settings.key == "oracle":
            if "key" not in batch.facts:
                raise ValueError(
                    'found no fact "key" in the batch, expected it: key: oracle needs a dataset that says which '
                    "modalities a sample's meaning hangs on. Set key: detected otherwise"
                )
            flags = [batch.facts["key"][:, MODALITIES.index(m)] for m in self.settings.used]
            key = one & (torch.stack(flags, dim=1) & absent).any(dim=1)
        else:
            key = one & (inconsistent(every, pairs) & absent).any(dim=1)
        if self.settings.several_missing == "ensemble":
            key = key | several
        which = (absent * self.places).sum(dim=1)
        return key, torch.where(one, which, torch.full_like(which, -1))

    def _label_loss(self, batch: Batch, every: Tensor, pairs: Tensor) -> dict[str, Tensor]:
        """Return the mean loss of all opinions against the samples' own labels."""
        said = [*every, *pairs.transpose(1, 2).flatten(0, 1)]
        found = [loss for one in said for loss in task_loss(one, batch).values()]
        return {"labels": self.settings.label_weight * torch.stack(found).mean()} if found else {}

    def _forward_loss(self, batch: Batch, tokens: Tokens, encoded: Tensor) -> dict[str, Tensor]:
        """Return Eq. 15, where what the pretrained network is to see is in the batch."""
        sight = self.settings.sight
        if self.pretrained is None or (sight == "whole" and "whole" not in batch.views):
            return {}
        with torch.no_grad():
            seen, target = self.pretrained(batch.views["whole"] if sight == "whole" else batch)
            counts = tokens.joined()[1]
            if sight == "whole":
                target, counts = aligned(seen, seen.split(target), tokens)
        return {"forward": self.settings.forward_weight * self._distance(encoded, target, counts)}

    def _backward_loss(
        self, batch: Batch, tokens: Tokens, joined: Tensor, keep: Tensor, decoded: list[Tensor]
    ) -> dict[str, Tensor]:
        """Return Eq. 16, the mean over branches."""
        target, counts = joined, keep
        if not self.settings.backward_weight:
            return {}
        if self.settings.backward_target == "whole":
            if "whole" not in batch.views:
                return {}
            whole: Tokens = self.encoder(batch.views["whole"])
            target, counts = aligned(whole, whole.values, tokens)
        if self.settings.detach_target:
            target = target.detach()
        those = decoded if self.settings.backward_on == "branches" else decoded[:1]
        apart = torch.stack([self._distance(one, target, counts) for one in those]).mean()
        return {"backward": self.settings.backward_weight * apart}

    def _distance(self, found: Tensor, target: Tensor, counts: Tensor) -> Tensor:
        apart = sequence_distance(found, target, counts, self.settings.distance, self.settings.softmax_over)
        return 2 * apart if self.settings.code and self.settings.distance == "kl" else apart


def inconsistent(every: Tensor, pairs: Tensor) -> Tensor:
    """Return (B, M) bool: whether all modalities name another class than all but modality k do.

    Args:
        every: (B, C) logits of all modalities, the absent one recovered; or (B, 1) scores, whose class is their sign.
        pairs: (B, M, C), of all but modality k.
    """
    if every.shape[1] == 1:
        return (every > 0) != (pairs > 0).squeeze(2)
    return every.argmax(dim=1)[:, None] != pairs.argmax(dim=2)
