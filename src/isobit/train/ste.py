"""Straight-through rounding: real parameters and inputs to integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from isobit.core import torch_scratch as scratch
from isobit.core.types import TensorType, scale_of


def centred_real(x: Tensor, kind: TensorType) -> Tensor:
    """Return `clamp(floor(x / S + 1/2) + Z) - Z` in float64: real values as centred codes."""
    codes = scratch.empty_like(x, torch.float64).copy_(x.detach())
    codes.div_(float(scale_of(kind.encoding)[0])).add_(0.5).floor_()
    return codes.clamp_(kind.dtype.low - kind.zero, kind.dtype.high - kind.zero)


def quantize_real(x: Tensor, kind: TensorType) -> Tensor:
    """Return `clamp(floor(x / S + 1/2) + Z)` in float64: how a real input becomes codes."""
    return centred_real(x, kind).add_(kind.zero)


ROWS_BYTES = 1 << 19
"""Of a tensor that is rounded, at a time."""


def _rows(values: Tensor, part: slice) -> Tensor:
    """Return what of broadcast values belongs to some rows."""
    return values if values.dim() == 0 or len(values) == 1 else values[part]


class _SteRound(torch.autograd.Function):
    """round(x * factor * inverse) clamped; the gradient is factor * inverse (ranges follow the
    weights, so clipping is rare).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, inverse: Tensor, low: float, high: float, factor: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(inverse if factor is None else inverse * factor)
        out = scratch.empty(x.shape, x.dtype, x.device)  # in the order in which sums read it
        rows = max(1, ROWS_BYTES * len(x) // max(1, x.numel() * x.element_size()))
        for start in range(0, len(x), rows):  # four passes over what stays in a cache
            part = slice(start, start + rows)
            if factor is None:
                torch.mul(x[part], _rows(inverse, part), out=out[part])
            else:
                torch.mul(x[part], _rows(factor, part), out=out[part]).mul_(_rows(inverse, part))
            out[part].round_().clamp_(low, high)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return grads[0] * slope, None, None, None, None


def ste_round(
    x: Tensor, inverse: Tensor, low: float, high: float, factor: Tensor | None = None
) -> Tensor:
    """Return `clamp(round(x * factor * inverse), low, high)` for a step `1 / inverse`; the gradient
    is `factor * inverse`. factor: without a gradient of its own; 1 by default.
    """
    result: Tensor = _SteRound.apply(x, inverse, low, high, factor)  # type: ignore[no-untyped-call]  # torch's apply is untyped
    return result


class _RoundAll(torch.autograd.Function):
    """`_SteRound` of several small tensors, in as few calls as for one."""

    @staticmethod
    def forward(
        ctx: Any, inverses: list[Tensor], factors: list[Tensor], low: float, high: float, *x: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.slopes = torch._foreach_mul(inverses, factors)
        found = torch._foreach_mul(x, factors)
        torch._foreach_mul_(found, inverses)
        torch._foreach_round_(found)
        torch._foreach_clamp_min_(found, low)
        torch._foreach_clamp_max_(found, high)
        wanted = ctx.needs_input_grad[4:]
        ctx.mark_non_differentiable(*(y for y, own in zip(found, wanted, strict=True) if not own))
        ctx.set_materialize_grads(False)  # what no loss depends on gets None, as on its own
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        there = [i for i, grad in enumerate(grads) if grad is not None]
        found: list[Tensor | None] = [None] * len(grads)
        if there:
            scaled = torch._foreach_mul([grads[i] for i in there], [ctx.slopes[i] for i in there])
            for i, grad in zip(there, scaled, strict=True):
                found[i] = grad
        return None, None, None, None, *found


def round_all(
    x: Sequence[Tensor],
    inverses: list[Tensor],
    factors: list[Tensor],
    low: float,
    high: float,
) -> tuple[Tensor, ...]:
    """Return `ste_round` of every x."""
    result: tuple[Tensor, ...] = _RoundAll.apply(inverses, factors, low, high, *x)  # type: ignore[no-untyped-call]  # torch's apply is untyped
    return result
