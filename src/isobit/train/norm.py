"""Batch norm inside the requantisation: what is done per element, and its gradient.

The arithmetic per channel is `channels`'.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from isobit.core import torch_scratch as scratch
from isobit.core.fixed_torch import (
    F32_EXACT,
    addcmul_is_fused,
    floor_clamp,
    gradient_bounds,
    where_inside,
)
from isobit.core.torch_sums import NOTHING, Between
from isobit.core.types import AnyArray, FloatArray
from isobit.train.channels import (
    Affine,
    Arrays,
    Folded,
    Moments,
    Statistics,
    host,
    sign_of,
    tensor,
)
from isobit.train.moments import channels_last, channels_second, processes
from isobit.train.native import Kernels, Packed


@dataclass(frozen=True, slots=True)
class Gradient:
    """The line `z = weight * (acc - mean) * inverse + offset` whose gradient sums get, [C] each, in
    units of output codes. turn, lift: what gamma and beta get of the gradients to weight and
    offset; moving: mean and inverse deviation are the batch's own, over all processes.
    """

    weight: Tensor
    mean: Tensor
    inverse: Tensor
    turn: Tensor
    lift: Tensor
    moving: bool


@dataclass(frozen=True, slots=True)
class Line:
    """How sums become codes: `clamp(floor((x + add) * mult + half))`, or without a half, which
    `add` then holds, `clamp(floor(x * mult + add))`. add, mult: [C], of the dtype that is exact.
    """

    add: Tensor
    mult: Tensor
    half: float | None
    bounds: tuple[int, int]
    soft: tuple[bool, bool]

    @property
    def gradient_bounds(self) -> tuple[float, float]:
        """The open interval of codes that a gradient passes."""
        return gradient_bounds(*self.bounds, self.soft)

    @property
    def inside(self) -> tuple[int, int]:
        """The same of packed codes, which count from the lower bound."""
        low, high = self.bounds
        return -1 if self.soft[0] else 0, 256 if self.soft[1] else high - low

    def values(self, x: Tensor) -> Tensor:
        """Return what is floored, fresh."""
        add, mult = self.add, self.mult
        if x.dtype is not add.dtype:
            wide = torch.promote_types(x.dtype, add.dtype)
            x, add, mult = x.to(wide), add.to(wide), mult.to(wide)
        y = scratch.empty_like(x)
        if self.half is None:
            return torch.addcmul(add, x, mult, out=y)
        return torch.add(x, add, out=y).mul_(mult).add_(self.half)

    def floored(self, x: Tensor) -> Tensor:
        """Return centred codes, float32."""
        low, high = self.bounds
        y = self.values(x).floor_().clamp_(low, high)
        return y if y.dtype is torch.float32 else y.float()


def _parameter_gradients(
    inside: Tensor, acc: Tensor, line: Gradient
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients to acc, gamma, beta and the layer's own bias.

    The norm subtracts that bias again: it gets zeros rather than nothing, because data-parallel
    training waits for every parameter.
    """
    to_acc, to_weight, to_offset = norm_gradients(inside, acc, line)
    to_beta = to_offset.mul(line.lift).float()
    return to_acc, to_weight.mul(line.turn).float(), to_beta, torch.zeros_like(to_beta)


def norm_gradients(inside: Tensor, acc: Tensor, line: Gradient) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of a line: to acc, to weight and to the offset. inside: the gradient of
    its value z [N,...,C].
    """
    weight, mean, inverse, moving = line.weight, line.mean, line.inverse, line.moving
    if moving and processes() > 1:
        return _shared_gradients(inside, acc, weight, mean, inverse)
    to_acc, to_weight, to_offset = torch.ops.aten.native_batch_norm_backward(
        channels_second(inside.to(acc.dtype)),
        channels_second(acc),
        weight,
        None if moving else mean,
        None if moving else inverse.square().reciprocal(),
        mean,
        inverse,
        moving,
        0.0,
        [True, True, True],
    )
    return channels_last(to_acc), to_weight, to_offset


def _shared_gradients(
    inside: Tensor, acc: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`norm_gradients` for statistics of all processes: the two means of the gradient that batch
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


class _NormGradient(torch.autograd.Function):
    """The identity on sums, whose gradient is that of a batch norm in units of output codes.

    What requantises its result then passes gradients on as they are, masked where it clamped.
    """

    @staticmethod
    def forward(
        ctx: Any,
        acc: Tensor,
        gamma: Tensor,
        beta: Tensor,
        own_bias: Tensor,
        gradient: Gradient,
    ) -> Tensor:
        ctx.save_for_backward(acc)
        ctx.gradient = gradient
        return acc.view_as(acc)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (acc,) = ctx.saved_tensors
        return *_parameter_gradients(grads[0], acc, ctx.gradient), None


class _Requantized(torch.autograd.Function):
    """`_NormGradient` and what requantises its result, in one."""

    @staticmethod
    def forward(
        ctx: Any,
        acc: Tensor,
        gamma: Tensor,
        beta: Tensor,
        own_bias: Tensor,
        gradient: Gradient,
        line: Line,
    ) -> Tensor:
        y = line.floored(acc)
        ctx.save_for_backward(acc, y)
        ctx.gradient, ctx.bounds = gradient, line.gradient_bounds
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        acc, y = ctx.saved_tensors
        inside = where_inside(grads[0], y, ctx.bounds)
        return *_parameter_gradients(inside, acc, ctx.gradient), None, None


class _MaskedFloor(torch.autograd.Function):
    """`Line.floored`; the gradient passes as it is where the result is strictly inside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, line: Line, kernels: Kernels | None) -> Tensor:
        y = codes_of(x, line, kernels)[0]
        ctx.save_for_backward(y)
        ctx.bounds = line.gradient_bounds
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        return where_inside(grads[0], y, ctx.bounds), None, None


def codes_of(acc: Tensor, line: Line, kernels: Kernels | None) -> tuple[Tensor, Packed | None]:
    """Return the codes of sums, and packed where kernels can do the line: one multiply-add, to
    codes of a byte.
    """
    low, high = line.bounds
    if kernels is None or line.half is not None or high - low > 255 or not acc.is_contiguous():
        return line.floored(acc), None
    if acc.dtype is not torch.float32:
        return line.floored(acc), None
    return kernels.codes(acc, line.add, line.mult, low, high)


def norm_requantize(
    acc: Tensor,
    learned: Affine,
    folded: Folded,
    statistics: Statistics,
    step: FloatArray,
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
    own = learned.arrays
    gradient = gradient_of(acc, *affine_line(own, statistics, step, y_step), own.gamma, y_step)
    line = line_of(folded, acc, bounds, soft)
    return _requantized(acc, learned, replace(gradient, moving=moving), line, between)


def affine_line(
    own: Arrays, statistics: Statistics, step: FloatArray, y_step: float | FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return weight, mean and inverse deviation of an `affine` norm's `Gradient`, float64 [C]."""
    mean = (statistics.mean.astype(np.float64) - own.bias) * sign_of(own.gamma) / step
    inverse = step / np.sqrt(statistics.var.astype(np.float64) + own.eps)
    return np.abs(own.gamma) / y_step, mean, inverse


def line_of(folded: Folded, acc: Tensor, bounds: tuple[int, int], soft: tuple[bool, bool]) -> Line:
    """Return how sums become the codes of a folded norm, exactly.

    On the grid `v = (acc + bias) * mult * 2^-16 + 1/2` is a multiple of 2^-16, which float32 holds
    up to 256: further than any threshold. So float32 finds the code where it rounds nothing but v:
    where acc + bias is exact, or where one operation multiplies and adds an offset that it holds.
    """
    if folded.on_grid:
        offset = folded.bias * folded.mult + 2.0**15  # in 2^-16
        if np.abs(offset).max() <= F32_EXACT and addcmul_is_fused(acc.device.type):
            add, mult = tensor(np.array((offset * 2.0**-16, folded.real)), acc).unbind()
            return Line(add, mult, None, bounds, soft)
        if np.abs(folded.bias).max() <= F32_EXACT // 2:
            return Line(tensor(folded.bias, acc), tensor(folded.real, acc), 0.5, bounds, soft)
    # Off the grid mult has 15 bits and |acc + bias| < 2^31; on it |acc| and mult are below 2^24,
    # |bias| below 2^29. So float64 holds products and offset, and their sum near a threshold.
    wide = acc.new_empty(0, dtype=torch.float64)
    offset = folded.bias * folded.real + 0.5
    return Line(tensor(offset, wide), tensor(folded.real, wide), None, bounds, soft)


def shift_requantize(
    acc: Tensor,
    moments: Moments,
    learned: Affine,
    bias: AnyArray,
    shift: AnyArray,
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
    behaves as with batch statistics. bias: integers.
    """
    own = learned.arrays
    gradient = gradient_of(acc, *shift_line(moments, shift), own.gamma, y_step)
    largest = float(np.abs(bias).max()) + 0.5 * 2.0 ** float(shift.max())
    carrier = acc if largest <= F32_EXACT // 2 else acc.new_empty(0, dtype=torch.float64)
    real = np.exp2(-shift.astype(np.float64)) * np.ones(bias.shape)
    offset = bias.astype(np.float64) * real + 0.5
    line = Line(tensor(offset, carrier), tensor(real, carrier), None, bounds, soft)
    return _requantized(acc, learned, gradient, line, between)


def shift_line(moments: Moments, shift: AnyArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return weight, mean and inverse deviation of a `pow2` norm's `Gradient`, float64 [C]."""
    deviation = np.sqrt(moments.var + 1e-3)
    return np.exp2(-shift.astype(np.float64)) * deviation, moments.mean, 1.0 / deviation


def _requantized(
    acc: Tensor, learned: Affine, gradient: Gradient, line: Line, between: Between
) -> Tensor:
    own = (learned.gamma, learned.beta, learned.bias)
    if between.watch is None and between.select is None:
        return requantized(acc, *own, gradient, line)
    return selected(normed(acc, *own, gradient), line, between)


def selected(sums: Tensor, line: Line, between: Between, kernels: Kernels | None = None) -> Tensor:
    """Return the codes of sums that already have the norm's gradient, after what is between."""
    sums = between.selected(sums)
    if between.watch is not None:
        between.watch(line.values(sums.detach()) - 0.5)
    result: Tensor = _MaskedFloor.apply(sums, line, kernels)  # type: ignore[no-untyped-call]  # torch's apply is untyped
    return result


def requantized(
    acc: Tensor, gamma: Tensor, beta: Tensor, bias: Tensor, gradient: Gradient, line: Line
) -> Tensor:
    """Return the codes of sums, with the norm's gradient where they were not clamped."""
    result: Tensor = _Requantized.apply(acc, gamma, beta, bias, gradient, line)  # type: ignore[no-untyped-call]  # torch's apply is untyped
    return result


def normed(acc: Tensor, gamma: Tensor, beta: Tensor, bias: Tensor, gradient: Gradient) -> Tensor:
    """Return sums as they are, with the norm's gradient."""
    result: Tensor = _NormGradient.apply(acc, gamma, beta, bias, gradient)  # type: ignore[no-untyped-call]  # torch's apply is untyped
    return result


def with_batch_gradient(
    reals: Tensor, moments: Moments, learned: Affine, factor: AnyArray
) -> Tensor:
    """Return real sums [N,...,C] of weights that already hold `factor` = gamma / sigma as they are,
    with the gradient of `shift_requantize`: that of a batch norm with the batch's own statistics,
    `moments`.
    """
    # The norm's eps in the unit of these sums; nothing is divided by 0 where gamma is 0.
    least = np.maximum(learned.eps * np.square(factor.astype(np.float64)), 1e-30)
    inverse = 1.0 / np.sqrt(moments.var + least)
    line = (1.0 / inverse, moments.mean, inverse)
    gradient = gradient_of(reals, *line, host(learned.gamma), 1.0)
    return normed(reals, learned.gamma, learned.beta, learned.bias, gradient)


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
    sums = between.selected((acc + bias) * torch.exp2(-shift.to(acc.dtype)) + 0.5)
    if between.watch is not None:
        between.watch(sums.detach() - 0.5)
    return floor_clamp(sums, *bounds, soft).float()


def gradient_of(
    acc: Tensor,
    weight: FloatArray,
    mean: FloatArray,
    inverse: FloatArray,
    gamma: AnyArray,
    y_step: float | FloatArray,
) -> Gradient:
    """Return the gradient of a norm with the batch's own statistics, of the dtype of its sums."""
    lift = np.broadcast_to(np.divide(1.0, y_step), gamma.shape)
    rows = tensor(np.array([weight, mean, inverse, sign_of(gamma) * lift, lift]), acc)
    return Gradient(rows[0], rows[1], rows[2], rows[3], rows[4], moving=True)
