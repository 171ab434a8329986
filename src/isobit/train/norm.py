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

from isobit.core import torch_scratch as scratch
from isobit.core.fixed_torch import F32_EXACT, floor_clamp, gradient_bounds, where_inside
from isobit.core.torch_sums import NOTHING, Between

MOST_OFFSET = 64.0
"""Squared mean over variance up to which a variance is taken as a difference of two means: what
that loses, 6 bits, a sum of rounded float32 squares would have lost, too."""

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


def slope(learned: Affine, statistics: Statistics) -> Tensor:
    """Return gamma / sigma [C]."""
    return learned.gamma / (statistics.var + learned.eps).sqrt()


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


Moments = tuple[Tensor, Tensor]
"""Mean and biased variance of sums, float64 [C], of all processes."""


@torch.no_grad()
def mean_and_variance(values: Tensor) -> Moments:
    """Return mean and biased variance over all but the last axis of values [N,...,C], of all
    processes that share a batch; rounded to float32 they are what one with the whole batch finds.

    Sums within an image are of the dtype of `values`: in float32 exact for integers up to 2^24, and
    beyond that the same wherever the image is. Sums over images and processes are of float64, where
    their order changes 2^-53 of a sum at most.
    """
    images = values.reshape(len(values), -1, values.shape[-1])
    mean, square = _power_means(images)
    offset = mean.square()
    var = square.sub_(offset)
    if bool((offset > MOST_OFFSET * var).any()):  # the difference lost digits
        pivot = mean.to(images.dtype)
        rest, square = _power_means(torch.sub(images, pivot, out=_unset(images)))
        mean, var = pivot + rest, (square - rest.square()).clamp_min_(0)
    return mean, var


def _power_means(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means of x and of x^2, of all processes, for images [N, positions, C]: float64
    [C].
    """
    n, positions, channels = images.shape
    parts = images.new_empty(2, n, channels)
    torch.sum(images, 1, out=parts[0])
    torch.sum(torch.square(images, out=_unset(images)), 1, out=parts[1])
    sums, count = parts.sum(1, dtype=torch.float64), n * positions
    if _processes() > 1:
        shared = torch.cat([sums, sums.new_full((1, channels), count)])
        dist.all_reduce(shared)
        sums, count = shared[:2], int(shared[2, 0])
    mean, square = sums.div_(count)
    return mean, square


def _unset(x: Tensor) -> Tensor:
    return scratch.empty(x.shape, x.dtype, x.device)


@torch.no_grad()
def statistics_of(moments: Moments, learned: Affine, step: Tensor) -> Statistics:
    """Return the statistics of a layer's output from those of its sums, whose unit is `step`."""
    mean, var = moments
    return Statistics(
        (sign_of(learned.gamma) * mean * step + learned.bias).float(),
        (var * step.square()).float(),
    )


@torch.no_grad()
def batch_statistics(acc: Tensor, learned: Affine, step: Tensor) -> Statistics:
    """Statistics of one batch of sums [N,...,C], over all processes where there are several."""
    return statistics_of(mean_and_variance(acc), learned, step)


@torch.no_grad()
def update_running(module: Any, statistics: Statistics, count: int, momentum: float) -> None:
    """Move a torch batch norm's running statistics towards a batch's; its variance unbiased, as
    torch does. count: values of a channel that this process saw.
    """
    count *= _processes()
    first = int(module.num_batches_tracked) == 0
    weight = 1.0 if first else momentum
    unbiased = statistics.var * (count / max(count - 1, 1))
    module.running_mean.lerp_(statistics.mean, weight)
    module.running_var.lerp_(unbiased, weight)
    module.num_batches_tracked.add_(1)


def _norm_gradients(
    inside: Tensor,
    acc: Tensor,
    weight: Tensor,
    mean: Tensor,
    inverse: Tensor,
    *,
    moving: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `z = weight * (acc - mean) * inverse + offset`: to acc, to weight and
    to the offset.

    inside: the gradient of z [N,...,C]. `moving`: mean and inverse deviation are the batch's own,
    over all processes.
    """
    if moving and _processes() > 1:
        return _shared_gradients(inside, acc, weight, mean, inverse)
    to_acc, to_weight, to_offset = torch.ops.aten.native_batch_norm_backward(
        _channels_second(inside.to(acc.dtype)),
        _channels_second(acc),
        weight,
        None if moving else mean,
        None if moving else inverse.square().reciprocal(),
        mean,
        inverse,
        moving,
        0.0,
        [True, True, True],
    )
    return _channels_last(to_acc), to_weight, to_offset


def _shared_gradients(
    inside: Tensor, acc: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`_norm_gradients` for statistics of all processes: the two means of the gradient that batch
    norm subtracts are theirs, too (as in SyncBatchNorm).

    Gradients to weight and offset stay this process's: data-parallel training averages them.
    """
    inside = inside.to(acc.dtype)
    normal = (acc - mean) * inverse
    own = torch.stack(
        [
            inside.reshape(-1, inside.shape[-1]).double().sum(0),
            (inside * normal).reshape(-1, inside.shape[-1]).double().sum(0),
        ]
    )
    total = torch.cat([own, own.new_full((1, own.shape[1]), acc.numel() // acc.shape[-1])])
    dist.all_reduce(total)
    mean_of, along = (total[:2] / total[2]).to(acc.dtype)
    to_acc = (inside - mean_of - normal * along) * (inverse * weight)
    to_offset, to_weight = own.to(acc.dtype)
    return to_acc, to_weight, to_offset


def _processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _NormGradient(torch.autograd.Function):
    """The identity on sums, whose gradient is that of a batch norm in units of output codes.

    What requantises its result then passes gradients on as they are, masked where it clamped. The
    layer's own bias, which the norm subtracts again, gets zeros rather than nothing: data-parallel
    training waits for every parameter.
    """

    @staticmethod
    def forward(
        ctx: Any,
        acc: Tensor,
        gamma: Tensor,
        beta: Tensor,
        own_bias: Tensor,
        weight: Tensor,
        mean: Tensor,
        inverse: Tensor,
        y_step: float,
        moving: bool,
    ) -> Tensor:
        ctx.save_for_backward(acc, gamma, weight, mean, inverse)
        ctx.numbers = (y_step, moving)
        return acc.view_as(acc)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        acc, gamma, weight, mean, inverse = ctx.saved_tensors
        y_step, moving = ctx.numbers
        to_acc, to_weight, to_offset = _norm_gradients(
            grads[0], acc, weight, mean, inverse, moving=moving
        )
        to_gamma = (to_weight * sign_of(gamma) / y_step).to(gamma.dtype)
        to_beta = (to_offset / y_step).to(gamma.dtype)
        return to_acc, to_gamma, to_beta, torch.zeros_like(to_beta), *(None,) * 5


class _MaskedFloor(torch.autograd.Function):
    """clamp(floor((x + add) * mult + 1/2)), or clamp(floor(x * mult + add)) where `folded`; the
    gradient passes as it is where the result is strictly inside.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        add: Tensor,
        mult: Tensor,
        folded: bool,
        bounds: tuple[int, int],
        soft: tuple[bool, bool],
    ) -> Tensor:
        y = scratch.empty_like(x)
        if folded:
            torch.addcmul(add, x, mult, out=y)
        else:
            torch.add(x, add, out=y).mul_(mult).add_(0.5)
        y = y.floor_().clamp_(float(bounds[0]), float(bounds[1])).float()
        ctx.save_for_backward(y)
        ctx.bounds = gradient_bounds(*bounds, soft)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        return where_inside(grads[0], y, ctx.bounds), *(None,) * 5


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
    between: Between = NOTHING,
) -> Tensor:
    """Return centred codes `clamp(floor(M * (acc + bias) + 1/2))` for sums [N,...,C]; `moving`: the
    statistics are this batch's own and depend on acc.

    The gradient is batch norm's, masked where clamped. float32 `acc` has magnitudes up to 2^23
    (`torch_sums.exact_sums`).
    """
    sign = sign_of(learned.gamma)
    mean = ((statistics.mean.double() - learned.bias.double()) * sign / step).to(acc.dtype)
    inverse = (step / (statistics.var.double() + learned.eps).sqrt()).to(acc.dtype)
    weight = learned.gamma.detach().abs().to(acc.dtype) / y_step
    sums = _with_gradient(acc, learned, (weight, mean, inverse), y_step, moving, between)
    # Near every threshold |(acc + bias) * k| <= 255.5 * 2^16 < 2^24 is an exact integer.
    small = bool(
        (folded.shift == 16).all()
        & (folded.mult.max() < F32_EXACT)
        & (folded.bias.abs().max() <= F32_EXACT // 2)
    )
    if acc.dtype is not torch.float32 or not small:  # |acc + bias| < 2^31, mult < 2^21: below 2^53
        sums = sums.double()
    real = (folded.mult.double() * torch.exp2(-folded.shift.double())).to(sums.dtype)
    if between.watch is not None:
        between.watch((sums.detach() + folded.bias.to(sums.dtype)) * real)
    result: Tensor = _MaskedFloor.apply(  # type: ignore[no-untyped-call]  # torch's apply is untyped
        sums, folded.bias.to(sums.dtype), real, False, bounds, soft
    )
    return result


def shift_requantize(
    acc: Tensor,
    moments: Moments,
    learned: Affine,
    bias: Tensor,
    shift: Tensor,
    y_step: float,
    bounds: tuple[int, int],
    soft: tuple[bool, bool],
    *,
    between: Between = NOTHING,
) -> Tensor:
    """Return centred codes `clamp(floor((acc + bias) * 2^-shift + 1/2))` for sums [N,...,C] of
    weights that already hold gamma / sigma (`pow2`).

    The forward uses running statistics. Its own derivative would let the weights' scale drift,
    which the next update of the statistics undoes; the gradient here is batch norm's for the batch
    at hand, whose `moments` are given: it has no component along scale and offset, so training
    behaves as with batch statistics. bias: without a gradient.
    """
    mean, var = moments
    inverse = (var + 1e-3).rsqrt()
    real = torch.exp2(-shift.double())
    largest = float(bias.abs().max()) + 0.5 * 2.0 ** float(shift.max())
    numbers = ((real / inverse).to(acc.dtype), mean.to(acc.dtype), inverse.to(acc.dtype))
    sums = _with_gradient(acc, learned, numbers, y_step, True, between)
    if sums.dtype is torch.float32 and largest > F32_EXACT // 2:
        sums = sums.double()
    offset, factor = (bias.double() * real).add_(0.5), real.expand_as(bias)
    if between.watch is not None:
        between.watch(sums.detach() * real.to(sums.dtype) + (offset - 0.5).to(sums.dtype))
    result: Tensor = _MaskedFloor.apply(  # type: ignore[no-untyped-call]  # torch's apply is untyped
        sums, offset.to(sums.dtype), factor.to(sums.dtype), True, bounds, soft
    )
    return result


def with_batch_gradient(reals: Tensor, moments: Moments, learned: Affine, factor: Tensor) -> Tensor:
    """Return real sums [N,...,C] of weights that already hold `factor` = gamma / sigma as they are,
    with the gradient of `shift_requantize`: that of a batch norm with the batch's own statistics,
    `moments`.
    """
    mean, var = moments
    # The norm's eps in the unit of these sums; nothing is divided by 0 where gamma is 0.
    least = (learned.eps * factor.detach().double().square()).clamp_min(1e-30)
    inverse = (var + least).rsqrt()
    numbers = (1 / inverse, mean, inverse)
    return _with_gradient(reals, learned, numbers, 1.0, True, NOTHING)


def frozen_shift(
    acc: Tensor,
    bias: Tensor,
    shift: Tensor,
    bounds: tuple[int, int],
    soft: tuple[bool, bool],
    between: Between = NOTHING,
) -> Tensor:
    """Return centred codes as `shift_requantize` does, for statistics that stand still: with the
    gradient of what it computes.
    """
    if float(bias.detach().abs().max()) > F32_EXACT // 2:  # |acc| is at most that in float32
        acc = acc.double()
    sums = (acc + bias) * torch.exp2(-shift.to(acc.dtype)) + 0.5
    return floor_clamp(between.selected(sums), *bounds, soft).float()


def _with_gradient(
    acc: Tensor,
    learned: Affine,
    numbers: tuple[Tensor, Tensor, Tensor],
    y_step: float,
    moving: bool,
    between: Between,
) -> Tensor:
    sums: Tensor = _NormGradient.apply(  # type: ignore[no-untyped-call]  # torch's apply is untyped
        acc, learned.gamma, learned.beta, learned.bias, *numbers, y_step, moving
    )
    return between.selected(sums)


def _channels_second(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2) if x.dim() == 4 else x


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1) if x.dim() == 4 else x
