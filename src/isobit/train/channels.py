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
class Folded:
    """`R(mult * 2^-shift * (acc + bias))`: integers, as float64 [C]."""

    mult: FloatArray
    shift: FloatArray
    bias: FloatArray


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


def slope(learned: Affine, statistics: Statistics) -> AnyArray:
    """Return gamma / sigma, float32 as `normalised.slope` has it."""
    found: AnyArray = host(learned.gamma) / np.sqrt(statistics.var + np.float32(learned.eps))
    return found


def folded_bias(
    learned: Affine, running: Statistics, factor: AnyArray, inverse: AnyArray
) -> AnyArray:
    """Return the integer bias of a `pow2` batch norm, float32 as `weights.folded_bias` has it.
    factor: `slope`; inverse: 1 / step of the sums.
    """
    real = host(learned.beta) + (host(learned.bias) - running.mean) * factor
    found: AnyArray = np.clip(np.rint(real * inverse), -MOST_BIAS, MOST_BIAS)
    return found


def fold(learned: Affine, statistics: Statistics, step: FloatArray, y_step: float) -> Folded:
    """Return the integer multiplier, shift and bias; `step` = Sx * Sw[c]."""
    gamma, beta = host(learned.gamma).astype(np.float64), host(learned.beta)
    sigma = np.sqrt(statistics.var.astype(np.float64) + learned.eps)
    slope = np.maximum(np.abs(gamma) * step / (sigma * y_step), LEAST_MULTIPLIER)
    grid = np.rint(slope * 65536.0)
    if grid.min() >= 32 and grid.max() < 1 << 24:
        mult, shift = grid, np.full_like(grid, 16.0)
    else:
        _, exponent = np.frexp(slope)
        shift = np.clip(15.0 - exponent, 0.0, 46.0)
        mult = np.minimum(np.rint(slope * np.exp2(shift)), 32767.0)
    offset = beta + gamma * (host(learned.bias).astype(np.float64) - statistics.mean) / sigma
    bias = np.clip(np.rint(offset / (y_step * mult * np.exp2(-shift))), -MOST_BIAS, MOST_BIAS)
    return Folded(mult, shift, bias)


def statistics_of(moments: Moments, learned: Affine, step: FloatArray) -> Statistics:
    """Return the statistics of a layer's output from those of its sums, whose unit is `step`."""
    mean = sign_of(host(learned.gamma)) * moments.mean * step + host(learned.bias)
    return Statistics(mean.astype(np.float32), (moments.var * step * step).astype(np.float32))


def before_norm(
    moments: Moments, learned: Affine, running: Statistics, factor: AnyArray, step: FloatArray
) -> Statistics:
    """Undo factor = gamma / sigma in the moments of folded sums to see the statistics before the
    norm; where gamma is 0 they are the running ones.
    """
    usable = np.abs(factor) > LEAST_SLOPE
    scale = step / np.where(usable, factor, 1.0).astype(np.float64)
    mean = np.where(usable, moments.mean * scale + host(learned.bias), running.mean)
    var = np.where(usable, moments.var * scale * scale, running.var)
    return Statistics(mean.astype(np.float32), var.astype(np.float32))


@torch.no_grad()
def update_running(modules: Sequence[Any], moves: Sequence[tuple[float, Statistics, int]]) -> None:
    """Move the running statistics of torch batch norms towards a batch's; its variance unbiased, as
    torch does. moves: of each the momentum, the statistics, and how many values of a channel all
    processes saw. A norm that several layers share moves once for each, in their order.
    """
    if len(set(map(id, modules))) < len(modules):
        for module, move in zip(modules, moves, strict=True):
            update_running([module], [move])
        return
    buffers, targets, weights = [], [], []
    for module, (momentum, found, count) in zip(modules, moves, strict=True):
        unbiased = found.var * np.float32(count / max(count - 1, 1))
        weight = 1.0 if int(module.num_batches_tracked) == 0 else momentum
        for buffer, target in ((module.running_mean, found.mean), (module.running_var, unbiased)):
            buffers.append(buffer)
            targets.append(tensor(target, buffer))
            weights.append(weight)
    for weight in set(weights):
        chosen = [i for i, own in enumerate(weights) if own == weight]
        torch._foreach_lerp_([buffers[i] for i in chosen], [targets[i] for i in chosen], weight)
    torch._foreach_add_([module.num_batches_tracked for module in modules], 1)
