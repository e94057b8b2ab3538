"""M3S, meta-sampling (Zhou et al. 2022, "Missing Modality meets Meta Sampling", Algorithm 1), over any model.

Each step takes two batches, whose missing parts are drawn independently: ``train_on`` names a block mask with
``draw: sampled`` (or ``train_mask`` does, over an enumeration of conditions), and each stream draws for itself.
From the weights theta, K steps of plain gradient descent (rate alpha) on the first give theta* (Eq. 1). The
gradient of the second batch's loss *at theta** is applied to theta by the experiment's optimiser, at its rate beta
(Eq. 2): first order, as the paper writes it. With ``order: second`` the gradient is taken with respect to theta,
through the inner steps (MAML, Finn et al. 2017).

The paper does not give K: 1 by default. What it leaves open besides, and how it is here:

- The inner steps use neither the optimiser, nor its state, nor clipping: these belong to the outer step.
  theta itself is as it was, bit for bit, when the optimiser steps.
- Dropout is on in the inner steps, with a mask of its own in each.
- What the inner steps write into buffers (running statistics, Self-MM's labels, MMIM's history) is thrown
  away: these take in the second batch alone. So no sample counts twice an epoch.
- Only the weights that the current phase trains are adapted (MMIM has two phases).
- With K = 0 this is the regime ``standard`` on the same mask, exactly (the paper's SPL-TRN; with a fixed mask, ORIG):
  the second batch of the paper is the loop's first here.
- The inner rate stays as it is while the experiment's rates fall; ``inner_decay: true`` takes it down with them.

SMIL's meta-step (models/smil.py) is this regime with ``inner_views: false`` (the inner steps see the task's loss
alone), ``inner_groups`` (they adapt some weights alone) and ``add_inner_loss`` (the outer step minimises theirs, too).

The second order needs kernels that can be differentiated twice: attention by plain matrix products, and
recurrent layers without cuDNN. They are chosen here, for the step alone. It is slower, and does
not go with ``compile``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.base import Batch, Output
from pipeline.errors import TrainingError, nearest
from pipeline.training.regimes import standard
from pipeline.training.regimes.base import BaseRegime, RegimeSettings, Step, Stream


class M3SSettings(RegimeSettings):
    """The inner loop.

    Attributes:
        inner_steps: K.
        inner_rate: alpha.
        inner_rates: parameter group -> its own alpha.
        order: of the gradient.
        inner_on, inner_mask: another ``train_on`` and ``train_mask`` for the inner batches than the experiment's
            (SMIL adapts on samples that lack a modality, and takes the outer gradient on complete ones).
        inner_views: whether the inner batches carry the views that the model asks for. Without, the losses that are
            made of these are not there in the inner steps.
        inner_groups: the parameter groups that the inner steps adapt; empty: all that train.
        inner_decay: whether alpha falls with the experiment's rates (``decay_epochs``, ``halve_after``).
        add_inner_loss: the outer step minimises, beside its own loss at theta*, the inner batch's loss at theta: that
            of the first inner step.
    """

    inner_steps: Annotated[int, Field(ge=0)] = 1
    inner_rate: Annotated[float, Field(gt=0)] = 1e-3
    inner_rates: dict[str, Annotated[float, Field(gt=0)]] = Field(default={})
    order: Literal["first", "second"] = "first"
    inner_on: str | None = None
    inner_mask: str | None = None
    inner_views: bool = True
    inner_groups: tuple[str, ...] = ()
    inner_decay: bool = False
    add_inner_loss: bool = False

    @model_validator(mode="after")
    def _an_inner_loss_needs_an_inner_step(self) -> M3SSettings:
        if self.add_inner_loss and not self.inner_steps:
            raise ValueError("add_inner_loss means nothing to inner_steps: 0, which look at no inner batch")
        return self


class Regime(BaseRegime):
    """Two batches, K inner steps, one backward pass."""

    Settings = M3SSettings

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The batches whose gradient is applied, and those that the weights are adapted on."""
        settings = self.settings
        inner = Stream("inner", settings.inner_on, settings.inner_mask, settings.inner_views)
        return (Stream("outer"), inner)

    @property
    def named_groups(self) -> Mapping[str, Collection[str]]:
        """The groups with a rate of their own, and those that the inner steps adapt."""
        return {"inner_rates": self.settings.inner_rates, "inner_groups": self.settings.inner_groups}

    def gradients(self, step: Step, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Leave the meta-gradient; the returned losses are the second batch's at the adapted weights, and with
        ``add_inner_loss`` one more, ``inner``.

        Raises:
            TrainingError: the model gave no loss, or has no parameter group of a name in ``inner_rates`` or
                ``inner_groups``.
        """
        outer, inner = batches
        if self.settings.inner_steps == 0:
            return standard.descend(step, outer)
        rates = inner_rates(step, self.settings)
        if self.settings.order == "first":
            return self._first_order(step, inner, outer, rates)
        with twice_differentiable():
            return self._second_order(step, inner, outer, rates)

    def _first_order(
        self, step: Step, inner: Batch, outer: Batch, rates: dict[nn.Parameter, float]
    ) -> dict[str, Tensor]:
        weights = [weight for group in step.trained.values() for weight in group]
        originals = [weight.detach().clone() for weight in weights]
        added: dict[str, Tensor] = {}
        try:
            with scratch_buffers(step.network):
                for number in range(self.settings.inner_steps):
                    loss = standard.total(step.forward(inner))
                    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
                    kept = self.settings.add_inner_loss and number == 0
                    with torch.no_grad():
                        for weight, gradient in zip(weights, gradients, strict=True):
                            if gradient is not None and kept:
                                weight.grad = gradient if weight.grad is None else weight.grad + gradient
                            if gradient is not None and weight in rates:
                                weight.sub_(gradient, alpha=rates[weight])
                    if kept:
                        added["inner"] = loss.detach()
            return standard.descend(step, outer) | added
        finally:
            with torch.no_grad():
                for weight, original in zip(weights, originals, strict=True):
                    weight.copy_(original)

    def _second_order(
        self, step: Step, inner: Batch, outer: Batch, rates: dict[nn.Parameter, float]
    ) -> dict[str, Tensor]:
        names = {weight: name for name, weight in step.network.named_parameters()}
        adapted: dict[str, Tensor] = {names[weight]: weight for weight in rates}
        called = _Called(step)
        added: dict[str, Tensor] = {}
        with scratch_buffers(step.network):
            for number in range(self.settings.inner_steps):
                loss = standard.total(called.at(adapted, inner))
                if self.settings.add_inner_loss and number == 0:
                    added["inner"] = loss
                if not adapted:  # this phase trains none of inner_groups
                    break
                gradients = torch.autograd.grad(
                    loss, list(adapted.values()), create_graph=True, allow_unused=True
                )
                adapted = {
                    name: value if gradient is None else value - rate * gradient
                    for (name, value), rate, gradient in zip(
                        adapted.items(), rates.values(), gradients, strict=True
                    )
                }
        output = called.at(adapted, outer)
        losses = output.losses | added
        standard.total(replace(output, losses=losses)).backward()
        return {name: loss.detach() for name, loss in losses.items()}


def inner_rates(step: Step, settings: M3SSettings) -> dict[nn.Parameter, float]:
    """Return the weights that the inner steps adapt, and at what rates.

    Raises:
        TrainingError: ``inner_rates`` or ``inner_groups`` names a group that the model does not have.
    """
    named = Regime(settings).named_groups
    groups = step.network.parameter_groups() if any(named.values()) else {}
    for key, names in named.items():
        for name in names:
            if name not in groups:
                raise TrainingError(
                    f'regime_settings.{key}: there is no parameter group "{name}"; the model has '
                    f"{', '.join(groups)}.{nearest(name, groups)}"
                )
    factor = step.factor if settings.inner_decay else 1.0
    return {
        weight: settings.inner_rates.get(name, settings.inner_rate) * factor
        for name, group in step.trained.items()
        for weight in group
        if not settings.inner_groups or name in settings.inner_groups
    }


@contextmanager
def scratch_buffers(network: nn.Module) -> Iterator[None]:
    """Let a block of code write into copies of a network's buffers; the buffers stay as they are."""
    before = [(module, dict(module._buffers)) for module in network.modules() if module._buffers]
    try:
        for module, buffers in before:
            for name, buffer in buffers.items():
                if buffer is not None:
                    module._buffers[name] = buffer.clone()
        yield
    finally:
        for module, buffers in before:
            module._buffers.update(buffers)


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Take kernels whose gradient has a gradient: attention by matrix products, and no cuDNN."""
    with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
        yield


class _Called(nn.Module):
    """The step's forward as a module around the network, whose weights can be exchanged for one call."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.network = step.network
        self.step = step  # not its forward itself, which may be the network once more

    def forward(self, batch: Batch) -> Output:
        """Call the network as the step does."""
        return self.step.forward(batch)

    def at(self, weights: Mapping[str, Tensor], batch: Batch) -> Output:
        """Call the network with other weights; those not named are its own."""
        output: Output = functional_call(self, {f"network.{n}": w for n, w in weights.items()}, (batch,))
        return output
