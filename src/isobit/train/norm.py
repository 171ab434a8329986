"""Batch norm inside the requantisation.

With batch or running statistics (mu, sigma^2) of a convolution's output c = s * acc (s = Sx * Sw,
weights carrying the sign of gamma so that the slope is positive):

    y / Sy = |gamma| s / (sigma Sy) * acc + (beta - gamma mu / sigma) / Sy = M * (acc + bias)

affine: M becomes the integer multiplier, bias an integer in units of acc; both are computed from
float32 statistics in float64, so the frozen forward and the export see the same numbers. pow2:
gamma / sigma scales the weights before they are quantised, with running statistics, and nothing is
left at run time (docs/numerics.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from isobit.core.fixed_torch import gradient_bounds

LEAST_MULTIPLIER = 2.0**-20
"""Channels whose gamma vanishes keep this slope, so that their bias stays far inside int32."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Mean and biased variance of a layer's output before the norm, real units, float32 [C]."""

    mean: Tensor
    var: Tensor


@dataclass(frozen=True, slots=True)
class Affine:
    """Learned slope and offset, and the convolution's own bias (zeros where it has none): [C]."""

    gamma: Tensor
    beta: Tensor
    bias: Tensor
    eps: float


@dataclass(frozen=True, slots=True)
class Folded:
    """`R(mult * 2^-shift * (acc + bias))`: integers, float64 and int64 tensors [C]."""

    mult: Tensor
    shift: Tensor
    bias: Tensor


def sign_of(gamma: Tensor) -> Tensor:
    """+1 where gamma >= 0, else -1."""
    return torch.where(gamma < 0, -1.0, 1.0)


@torch.no_grad()
def fold(learned: Affine, statistics: Statistics, step: Tensor, y_step: float) -> Folded:
    """Return the integer multiplier, shift and bias; `step` = Sx * Sw[c] in float64."""
    gamma, beta = learned.gamma.double(), learned.beta.double()
    sigma = (statistics.var.double() + learned.eps).sqrt()
    slope = (gamma.abs() * step / (sigma * y_step)).clamp_min(LEAST_MULTIPLIER)
    grid = (slope * 65536.0).round()
    if float(grid.min()) >= 32 and float(grid.max()) < 1 << 24:
        mult, shift = grid, torch.full_like(grid, 16.0)
    else:
        _, exponent = torch.frexp(slope)
        shift = (15.0 - exponent.double()).clamp(0, 46)
        mult = (slope * torch.exp2(shift)).round().clamp_max(32767.0)
    offset = beta + gamma * (learned.bias.double() - statistics.mean.double()) / sigma
    bias = (offset / (y_step * mult * torch.exp2(-shift))).round().clamp(-(2.0**29), 2.0**29)
    return Folded(mult.long(), shift.long(), bias)


@torch.no_grad()
def mean_and_variance(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance over all but the last axis, float64 [C], the same on all
    processes.
    """
    var, mean = torch.var_mean(values.reshape(-1, values.shape[-1]), dim=0, correction=0)
    moments = torch.stack([mean.double(), var.double() + mean.double().square()])
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(moments)
        moments /= dist.get_world_size()
    mean64, square = moments
    return mean64, (square - mean64.square()).clamp_min(0)


@torch.no_grad()
def batch_statistics(acc: Tensor, learned: Affine, step: Tensor) -> Statistics:
    """Statistics of one batch of sums [N,...,C], averaged over all processes where there are
    several.
    """
    sign = sign_of(learned.gamma).double()
    mean64, var64 = mean_and_variance(acc)
    return Statistics(
        (sign * mean64 * step + learned.bias.double()).float(), (var64 * step.square()).float()
    )


@torch.no_grad()
def update_running(module: Any, statistics: Statistics, count: int, momentum: float) -> None:
    """Move a torch batch norm's running statistics towards a batch's; its variance unbiased, as
    torch does.
    """
    first = int(module.num_batches_tracked) == 0
    weight = 1.0 if first else momentum
    unbiased = statistics.var * (count / max(count - 1, 1))
    module.running_mean.lerp_(statistics.mean, weight)
    module.running_var.lerp_(unbiased, weight)
    module.num_batches_tracked += 1


def _norm_gradients(
    inside: Tensor,
    acc: Tensor,
    gamma: Tensor,
    slope: Tensor,
    mean: Tensor,
    inverse: Tensor,
    y_step: float,
    *,
    moving: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return a batch norm's gradients: to acc, gamma, beta and the layer's own bias, for
    `y = slope * (acc - mean) * inverse`.

    inside: the gradient of y [N,...,C], zero where y was clamped. `moving`: mean and inverse
    deviation are this batch's own. The bias, which the norm subtracts again, gets zeros rather than
    nothing: data-parallel training waits for every parameter.
    """
    to_acc, to_weight, to_bias = torch.ops.aten.native_batch_norm_backward(
        _channels_second(inside.to(acc.dtype)),
        _channels_second(acc),
        slope,
        None if moving else mean,
        None if moving else inverse.square().reciprocal(),
        mean,
        inverse,
        moving,
        0.0,
        [True, True, True],
    )
    to_gamma = (to_weight * sign_of(gamma) / y_step).to(gamma.dtype)
    to_beta = (to_bias / y_step).to(gamma.dtype)
    return _channels_last(to_acc), to_gamma, to_beta, torch.zeros_like(to_beta)


class _NormRequantize(torch.autograd.Function):
    """clamp(floor(M * (acc + bias) + 1/2)); the gradient is batch norm's, masked where clamped."""

    @staticmethod
    def forward(
        ctx: Any,
        acc: Tensor,
        gamma: Tensor,
        beta: Tensor,
        own_bias: Tensor,
        folded: Folded,
        statistics: Statistics,
        learned: Affine,
        step: Tensor,
        y_step: float,
        bounds: tuple[int, int],
        soft: tuple[bool, bool],
        moving: bool,
    ) -> Tensor:
        real = folded.mult.double() * torch.exp2(-folded.shift.double())
        small = bool((folded.shift == 16).all()) and bool(folded.mult.max() < 1 << 24)
        largest = float(acc.abs().max()) + float(folded.bias.abs().max())
        if acc.dtype == torch.float32 and small and largest <= 1 << 24:
            y = (acc + folded.bias.float()).mul_(real.float()).add_(0.5).floor_()
        else:  # |acc + bias| < 2^31 and mult < 2^21: products below 2^53
            y = (acc.double() + folded.bias).mul_(real).add_(0.5).floor_().float()
        y = y.clamp_(float(bounds[0]), float(bounds[1])).float()
        sign = sign_of(learned.gamma)
        mean = ((statistics.mean.double() - learned.bias.double()) * sign / step).to(acc.dtype)
        inverse = (step / (statistics.var.double() + learned.eps).sqrt()).to(acc.dtype)
        ctx.save_for_backward(acc, y, gamma, mean, inverse)
        ctx.numbers = (y_step, gradient_bounds(*bounds, soft), moving)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        acc, y, gamma, mean, inverse = ctx.saved_tensors
        y_step, (low, high), moving = ctx.numbers
        inside = torch.ops.aten.hardtanh_backward(grads[0], y, low, high)
        slope = gamma.abs().to(acc.dtype) / y_step
        found = _norm_gradients(inside, acc, gamma, slope, mean, inverse, y_step, moving=moving)
        return *found, *(None,) * 8


def norm_requantize(
    acc: Tensor,
    learned: Affine,
    folded: Folded,
    statistics: Statistics,
    step: Tensor,
    y_step: float,
    bounds: tuple[int, int],
    soft: tuple[bool, bool],
    *,
    moving: bool,
) -> Tensor:
    """Return centred codes for sums [N,...,C]; `moving`: the statistics are this batch's own and
    depend on acc.
    """
    result: Tensor = _NormRequantize.apply(  # type: ignore[no-untyped-call]  # torch's apply is untyped
        acc,
        learned.gamma,
        learned.beta,
        learned.bias,
        folded,
        statistics,
        learned,
        step,
        y_step,
        bounds,
        soft,
        moving,
    )
    return result


class _ShiftRequantize(torch.autograd.Function):
    """clamp(floor((acc + bias) * 2^-shift + 1/2)) for weights that already hold gamma / sigma
    (`pow2`).

    The forward uses running statistics. Its own derivative would let the weights' scale drift,
    which the next update of the statistics undoes; the gradient here is batch norm's for the batch
    at hand, which has no component along scale and offset, so training behaves as with batch
    statistics.
    """

    @staticmethod
    def forward(
        ctx: Any,
        acc: Tensor,
        gamma: Tensor,
        beta: Tensor,
        own_bias: Tensor,
        bias: Tensor,
        shift: Tensor,
        y_step: float,
        bounds: tuple[int, int],
        soft: tuple[bool, bool],
    ) -> Tensor:
        real = torch.exp2(-shift.to(acc.dtype))
        y = (
            ((acc + bias) * real)
            .add_(0.5)
            .floor_()
            .clamp_(float(bounds[0]), float(bounds[1]))
            .float()
        )
        var, mean = torch.var_mean(acc.reshape(-1, acc.shape[-1]), dim=0, correction=0)
        ctx.save_for_backward(acc, y, gamma, mean, (var + 1e-3).rsqrt(), real)
        ctx.numbers = (y_step, gradient_bounds(*bounds, soft))
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        acc, y, gamma, mean, inverse, real = ctx.saved_tensors
        y_step, (low, high) = ctx.numbers
        inside = torch.ops.aten.hardtanh_backward(grads[0], y, low, high)
        slope = real.expand_as(inverse) / inverse
        found = _norm_gradients(inside, acc, gamma, slope, mean, inverse, y_step, moving=True)
        return *found, *(None,) * 5


def shift_requantize(
    acc: Tensor,
    learned: Affine,
    bias: Tensor,
    shift: Tensor,
    y_step: float,
    bounds: tuple[int, int],
    soft: tuple[bool, bool],
) -> Tensor:
    """Return centred codes for sums [N,...,C] of folded weights, with the gradient of a batch
    norm.
    """
    result: Tensor = _ShiftRequantize.apply(  # type: ignore[no-untyped-call]  # torch's apply is untyped
        acc,
        learned.gamma,
        learned.beta,
        learned.bias,
        bias.detach(),
        shift,
        y_step,
        bounds,
        soft,
    )
    return result


def _channels_second(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2) if x.dim() == 4 else x


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1) if x.dim() == 4 else x
