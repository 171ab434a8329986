"""The arithmetic of a batch norm on its channels: [C] numbers, in NumPy on the host.

What is done per element is `norm`'s. Per channel there is too little to do for torch, whose calls
cost more than that; and a device would have to be asked for it in every layer anyway.

With batch or running statistics (mu, sigma^2) of a convolution's output c = s * acc (s = Sx * Sw,
weights carrying the sign of gamma so that the slope is positive):

    y / Sy = |gamma| s / (sigma Sy) * acc + (beta - gamma mu / sigma) / Sy = M * (acc + bias)

affine: M becomes the integer multiplier, bias an integer in units of acc; both are computed from
float32 statistics in float64, so the frozen forward and the export see the same numbers. pow2:
gamma / sigma scales the weights before they are quantised, with running statistics, and nothing is
left at run time (docs/numerics.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isobit.core.types import AnyArray, FloatArray

LEAST_MULTIPLIER = 2.0**-20
"""Channels whose gamma vanishes keep this slope, so that their bias stays far inside int32."""
LEAST_SLOPE = 1e-4
"""Of gamma / sigma, below which folded sums say nothing of the statistics before the norm."""
MOST_BIAS = 2.0**29
"""No integer bias is further from 0."""


@dataclass(frozen=True, slots=True)
class Affine:
    """Learned slope and offset, and the convolution's own bias (zeros where it has none): tensors
    [C].
    """

    gamma: Tensor
    beta: Tensor
    bias: Tensor
    eps: float

    @property
    def arrays(self) -> Arrays:
        """The same in NumPy."""
        return Arrays(host(self.gamma), host(self.beta), host(self.bias), self.eps)


@dataclass(frozen=True, slots=True)
class Arrays:
    """`Affine` in NumPy: float32 [C]; eps a number or [C]."""

    gamma: AnyArray
    beta: AnyArray
    bias: AnyArray
    eps: float | FloatArray


@dataclass(frozen=True, slots=True)
class Statistics:
    """Mean and biased variance of a layer's output before the norm, real units: float32 [C]."""

    mean: AnyArray
    var: AnyArray


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and biased variance of sums, in their steps, over all processes: float64 [C]."""

    mean: FloatArray
    var: FloatArray


@dataclass(frozen=True, slots=True)
class Gains:
    """What of an `affine` norm does not depend on statistics: float64 [C]. gain, lift, turn:
    |gamma| Sx Sw, beta and gamma in steps of the output; unit, squared: of the sums and their
    squares, with the sign of gamma. `kernels/statistics.c` takes them in this order.
    """

    gain: FloatArray
    lift: FloatArray
    turn: FloatArray
    bias: FloatArray
    eps: FloatArray
    unit: FloatArray
    squared: FloatArray


@dataclass(frozen=True, slots=True)
class Folded:
    """`R(mult * 2^-shift * (acc + bias))`: integers, as float64 [C]. real: mult * 2^-shift;
    on_grid: every shift is 16 and every multiplier below 2^24.
    """

    mult: FloatArray
    shift: FloatArray
    real: FloatArray
    bias: FloatArray
    on_grid: bool


def host(values: Tensor) -> AnyArray:
    """Return a tensor's values; of one on the CPU the very memory."""
    found: AnyArray = values.detach().numpy(force=True)
    return found


def tensor(values: AnyArray, like: Tensor) -> Tensor:
    """Return [C] numbers as a tensor of the dtype and on the device of another."""
    return torch.from_numpy(values).to(like)


def sign_of(gamma: AnyArray) -> AnyArray:
    """+1 where gamma >= 0, else -1; of gamma's dtype."""
    found: AnyArray = np.where(gamma < 0, gamma.dtype.type(-1), gamma.dtype.type(1))
    return found


def slope(learned: Arrays, statistics: Statistics) -> AnyArray:
    """Return gamma / sigma, float32 as `normalised.slope` has it."""
    eps = np.asarray(learned.eps, np.float32)
    found: AnyArray = learned.gamma / np.sqrt(statistics.var + eps)
    return found


def folded_bias(
    learned: Arrays, running: Statistics, factor: AnyArray, inverse: AnyArray
) -> AnyArray:
    """Return the integer bias of a `pow2` batch norm, float32 as `weights.folded_bias` has it.
    factor: `slope`; inverse: 1 / step of the sums.
    """
    real = learned.beta + (learned.bias - running.mean) * factor
    return _bounded(np.rint(real * inverse))


def _bounded(bias: AnyArray) -> AnyArray:
    # np.clip takes several times as long on so few numbers.
    found: AnyArray = np.minimum(np.maximum(bias, -MOST_BIAS), MOST_BIAS)
    return found


def gains(learned: Arrays, step: FloatArray, y_step: float | FloatArray) -> Gains:
    """Return what `fold` needs of a norm's parameters. step: Sx * Sw[c]; y_step: Sy."""
    gamma = learned.gamma.astype(np.float64)
    size = np.abs(gamma)
    return Gains(
        size * step / y_step,
        learned.beta / np.asarray(y_step, np.float64),
        gamma / y_step,
        learned.bias.astype(np.float64),
        np.broadcast_to(np.asarray(learned.eps, np.float64), gamma.shape),
        sign_of(gamma) * step,
        np.broadcast_to(np.square(step), gamma.shape),
    )


def fold(own: Gains, statistics: Statistics) -> Folded:
    """Return the integer multiplier, shift and bias of a norm with these statistics."""
    sigma = np.sqrt(statistics.var + own.eps)
    slope = np.maximum(own.gain / sigma, LEAST_MULTIPLIER)
    mult = np.rint(slope * 65536.0)
    on_grid = bool(mult.min() >= 32 and mult.max() < 1 << 24)
    if on_grid:
        shift, real = np.full_like(mult, 16.0), mult * 2.0**-16
    else:
        _, exponent = np.frexp(slope)
        shift = np.clip(15.0 - exponent, 0.0, 46.0)
        mult = np.minimum(np.rint(slope * np.exp2(shift)), 32767.0)
        real = mult * np.exp2(-shift)
    offset = own.lift + own.turn * (own.bias - statistics.mean) / sigma
    return Folded(mult, shift, real, _bounded(np.rint(offset / real)), on_grid)


def statistics_of(moments: Moments, own: Gains) -> Statistics:
    """Return the statistics of a layer's output from those of its sums."""
    mean = moments.mean * own.unit + own.bias
    return Statistics(mean.astype(np.float32), (moments.var * own.squared).astype(np.float32))


def before_norm(
    moments: Moments, learned: Arrays, running: Statistics, factor: AnyArray, step: FloatArray
) -> Statistics:
    """Undo factor = gamma / sigma in the moments of folded sums to see the statistics before the
    norm; where gamma is 0 they are the running ones.
    """
    usable = np.abs(factor) > LEAST_SLOPE
    scale = step / np.where(usable, factor, 1.0).astype(np.float64)
    mean = np.where(usable, moments.mean * scale + learned.bias, running.mean)
    var = np.where(usable, moments.var * scale * scale, running.var)
    return Statistics(mean.astype(np.float32), var.astype(np.float32))


@torch.no_grad()
def update_running(
    modules: Sequence[Any],
    momenta: Sequence[float],
    found: Statistics,
    counts: Sequence[int],
) -> None:
    """Move the running statistics of torch batch norms towards a batch's; its variance unbiased, as
    torch does. found: of all of them, one after another; counts: how many values of a channel all
    processes saw, of each. A norm that several layers share moves once for each, in their order.
    """
    buffers = [module._buffers for module in modules]
    sizes = [len(own["running_mean"]) for own in buffers]
    unbiased = np.array([count / max(count - 1, 1) for count in counts], np.float32)
    rows = torch.from_numpy(np.array((found.mean, found.var * np.repeat(unbiased, sizes))))
    targets = torch.split(rows.to(buffers[0]["running_mean"]), sizes, 1)
    if len(set(map(id, modules))) == len(modules):
        _move(buffers, momenta, targets)
        return
    for own, momentum, target in zip(buffers, momenta, targets, strict=True):
        _move([own], [momentum], [target])


def _move(
    buffers: Sequence[dict[str, Any]], momenta: Sequence[float], targets: Sequence[Tensor]
) -> None:
    """Move some norms, all different ones. targets: [2, C] of each."""
    seen = [own["num_batches_tracked"] for own in buffers]
    numbers = torch.stack(seen).tolist()
    groups: dict[float, tuple[list[Tensor], list[Tensor]]] = {}
    for own, number, momentum, target in zip(buffers, numbers, momenta, targets, strict=True):
        moved, wanted = groups.setdefault(momentum if number else 1.0, ([], []))
        moved += (own["running_mean"], own["running_var"])
        wanted += target.unbind()
    for weight, (moved, wanted) in groups.items():
        torch._foreach_lerp_(moved, wanted, weight)
    torch._foreach_add_(seen, 1)
