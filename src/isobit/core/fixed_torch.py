"""Requantisation in torch: exact on float carriers, with straight-through gradients.

Activations travel as integer-valued floats `q - zero`. Every function returns the integers of
`core/fixed`; the derivations of what float32 and float64 hold exactly are in docs/training.md and
repeated where they are used. Nothing but surrogates and `train` loads it.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

from isobit.core import torch_scratch as scratch
from isobit.core.fixed import Average, Rounding

F32_EXACT = 1 << 24
"""Integers up to here, and sums whose partial sums stay below, are exact in float32 in any order.
"""


MOST_S8 = 255
"""No centred int8 code is further from 0."""
Soft = tuple[bool, bool]
"""Whether the gradient passes the (low, high) clamp; see `NodeTypes.soft`."""
HARD: Soft = (False, False)


def gradient_bounds(low: float, high: float, soft: Soft) -> tuple[float, float]:
    """Return the open interval of results that a gradient passes."""
    return -math.inf if soft[0] else float(low), math.inf if soft[1] else float(high)


@cache
def addcmul_is_fused(device: str) -> bool:
    """Whether `torch.addcmul` on the CPU rounds `a + x * m` once, not the product, too.

    Its vectorised loops are compiled to fused multiply-add where the CPU has it, for whole vectors
    and for what is left over; this tries both, on numbers whose product float32 does not hold.
    """
    if device != "cpu":
        return False
    generator = torch.Generator().manual_seed(0)
    for rows, channels in ((64, 64), (9, 33), (77, 7), (1, 1), (5, 3), (1, 13), (40000, 24)):
        x = torch.randint(-(1 << 20), 1 << 20, (rows, channels), generator=generator)
        m = torch.randint(1 << 15, 1 << 16, (channels,), generator=generator)
        a = torch.randint(-(1 << 23), 1 << 23, (channels,), generator=generator) - x[0] * m
        a = (a // 4096 * 4096).clamp(-(1 << 35), 1 << 35)  # float32 holds it
        want = (x * m + a).double().mul(2.0**-16).float()  # one rounding: 37 bits are exact before
        found = torch.empty(rows, channels)
        torch.addcmul((a * 2.0**-16).float(), x.float(), m * 2.0**-16, out=found)
        if not torch.equal(found, want):
            return False
    return True


def where_inside(grad: Tensor, y: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Return the gradient where results y are strictly inside bounds, elsewhere 0."""
    if torch.is_grad_enabled():  # this gradient's own gradient is wanted: out= has none
        own: Tensor = torch.ops.aten.hardtanh_backward(grad, y, *bounds)
        return own
    found = scratch.empty_like(y, grad.dtype)
    torch.ops.aten.hardtanh_backward.grad_input(grad, y, *bounds, grad_input=found)
    return found


class _FloorClamp(torch.autograd.Function):
    """clamp(floor(x), low, high), in place; the gradient passes where the result is strictly
    inside.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float, soft: Soft) -> Tensor:
        x.floor_().clamp_(low, high)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        ctx.bounds = gradient_bounds(low, high, soft)
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        return where_inside(grads[0], y, ctx.bounds), None, None, None


class _MulFloorClamp(torch.autograd.Function):
    """clamp(floor(x * m + 1/2), low, high), in place on x; the gradient is m where strictly
    inside.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, m: Tensor, low: float, high: float, soft: Soft) -> Tensor:
        x.mul_(m).add_(0.5).floor_().clamp_(low, high)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x, m)
        ctx.bounds = gradient_bounds(low, high, soft)
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        y, m = ctx.saved_tensors
        inside = where_inside(grads[0], y, ctx.bounds)
        return inside.mul_(m), None, None, None, None


class _WideRequantize(torch.autograd.Function):
    """Any rule through float64 or int64; the gradient is the real multiplier where strictly
    inside.
    """

    @staticmethod
    def forward(
        ctx: Any,
        acc: Tensor,
        mult: Tensor,
        shift: Tensor,
        rounding: Rounding,
        low: float,
        high: float,
        soft: Soft,
    ) -> Tensor:
        # Codes of 16 bits have sums beyond int32: their products need all 64 bits.
        narrow = max(-low, high) <= MOST_S8
        if rounding is Rounding.HALF_UP and narrow and _fits_f64(acc, mult, shift):
            real = mult.double() * torch.exp2(-shift.double())
            y = (acc.double() * real).add_(0.5).floor_()
        else:
            y = integers(acc.to(torch.int64), mult.long(), shift.long(), rounding).double()
            sign = -1.0 if rounding is Rounding.HALF_UP else 1.0
            less = 0.0 if rounding is Rounding.HALF_UP else 31.0
            real = mult.double() * torch.exp2(sign * shift.double() - less)
        y = y.clamp_(low, high).to(torch.float32)
        ctx.save_for_backward(y, real.float())
        ctx.bounds = gradient_bounds(low, high, soft)
        ctx.dtype = acc.dtype
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        y, real = ctx.saved_tensors
        grad = where_inside(grads[0], y, ctx.bounds).mul_(real)
        return grad.to(ctx.dtype), None, None, None, None, None, None


class _Average(torch.autograd.Function):
    """clamp(sign(t) * floor((|t| + half) / count), low, high), without the signs where `up`; the
    gradient is 1 / count where strictly inside.
    """

    @staticmethod
    def forward(
        ctx: Any, total: Tensor, count: Tensor, half: Tensor, low: float, high: float, up: bool
    ) -> Tensor:
        size = total if up else total.abs()
        y = (size + half).div_(count).floor_()
        y = (y if up else y.mul_(total.sign())).clamp_(low, high)
        ctx.save_for_backward(y, count)
        ctx.bounds = (low, high)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        y, count = ctx.saved_tensors
        inside = where_inside(grads[0], y, ctx.bounds)
        return inside.div_(count), None, None, None, None, None


def _fits_f64(acc: Tensor, mult: Tensor, shift: Tensor) -> bool:
    """Whether float64 gives the codes, at most 255 from 0: where `acc * mult + half` leaves 2^53, a
    shift up to 44 leaves at least 2^9, which is clamped. Beyond it, sums of 32 bits do (2^31 * 2^21
    + 2^46 < 2^53).
    """
    if bool(shift.max() <= 44):
        return True
    return bool((mult.max() < 1 << 21) & (shift.max() <= 47) & (acc.detach().abs().max() < 1 << 31))


def integers(acc: Tensor, mult: Tensor, shift: Tensor, rounding: Rounding) -> Tensor:
    """The rules in int64 tensors, as `core/fixed` states them."""
    one = torch.ones((), dtype=torch.int64, device=acc.device)
    if rounding is Rounding.HALF_UP:
        product = acc * mult
        half = torch.where(shift > 0, one << (shift - 1).clamp_min(0), 0)
        return (product >> shift) + (((product & ((one << shift) - 1)) + half) >> shift)
    mult = torch.where(shift < -31, 0, mult)
    right = torch.where(shift < -31, 0, (-shift).clamp_min(0))
    high = ((acc << shift.clamp_min(0)) * mult + (one << 30)) >> 31
    mask = (one << right) - 1
    return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0)).long()


def floor_clamp(x: Tensor, low: int, high: int, soft: Soft = HARD) -> Tensor:
    """`clamp(floor(x), low, high)`; `x` must be a fresh tensor, it is overwritten."""
    result: Tensor = _FloorClamp.apply(x, float(low), float(high), soft)  # type: ignore[no-untyped-call]  # torch's apply is untyped
    return result


def requantize(
    acc: Tensor,
    mult: Tensor,
    shift: Tensor,
    rounding: Rounding,
    low: int,
    high: int,
    soft: Soft = HARD,
) -> Tensor:
    """`clamp(R(acc), low, high)` for integer-valued `acc` of |acc| < 2^31, channels last;
    overwrites `acc`.

    float32 is used where a single product is exact: multipliers k * 2^-16 and a clamp inside [-255,
    255]. Then near every threshold |acc * k| <= 255.5 * 2^16 < 2^24 is an exact integer, and beyond
    them rounding is monotone.
    """
    grid = rounding is Rounding.HALF_UP and acc.dtype == torch.float32 and max(-low, high) <= 255
    if grid and bool((shift == 16).all()) and bool(mult.max() < F32_EXACT):
        m = mult.to(torch.float32) * 2.0**-16
        result: Tensor = _MulFloorClamp.apply(acc, m, float(low), float(high), soft)  # type: ignore[no-untyped-call]  # torch's apply is untyped
        return result
    wide: Tensor = _WideRequantize.apply(acc, mult, shift, rounding, float(low), float(high), soft)  # type: ignore[no-untyped-call]  # torch's apply is untyped
    return wide


def average(total: Tensor, count: Tensor, rounding: Average, low: float, high: float) -> Tensor:
    """`clamp(D(total, count), low, high)` for integer-valued sums of `count` codes each; `count`
    broadcasts.

    A quotient is exact after `floor`: with n = |total| + count // 2 <= 128.5 * count, either n /
    count is an integer, which division returns, or it lies at least 1 / count below the next
    integer q <= 129. Rounding to float32 moves it by at most 2^-17 there, so it cannot reach q
    while count < 2^17; in float64 while count < 2^46.
    """
    half = torch.zeros_like(count) if rounding is Average.TRUNC else torch.floor(count / 2)
    up = rounding is Average.HALF_UP
    result: Tensor = _Average.apply(total, count, half, low, high, up)  # type: ignore[no-untyped-call]  # torch's apply is untyped
    return result


class _StraightThrough(torch.autograd.Function):
    """The value of one tensor with the gradient of another."""

    @staticmethod
    def forward(ctx: Any, exact: Tensor, smooth: Tensor) -> Tensor:
        return exact.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return None, grads[0]


def straight_through(exact: Tensor, smooth: Tensor) -> Tensor:
    """Return `exact` (computed without a gradient) with the gradient of `smooth`, of the same
    shape.
    """
    result: Tensor = _StraightThrough.apply(exact, smooth)  # type: ignore[no-untyped-call]  # torch's apply is untyped
    return result
