"""Straight-through rounding: real parameters and inputs to integers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from isobit.core import torch_scratch as scratch
from isobit.core.types import TensorType, scale_of


def quantize_real(x: Tensor, kind: TensorType) -> Tensor:
    """Return `clamp(floor(x / S + 1/2) + Z)` in float64: how a real input becomes codes."""
    codes = scratch.empty_like(x, torch.float64).copy_(x.detach())
    codes.div_(float(scale_of(kind.encoding)[0]))
    codes.add_(0.5).floor_()
    return (codes.add_(kind.zero) if kind.zero else codes).clamp_(kind.dtype.low, kind.dtype.high)


class _SteRound(torch.autograd.Function):
    """round(x * factor * inverse) clamped; the gradient is factor * inverse (ranges follow the
    weights, so clipping is rare).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, inverse: Tensor, low: float, high: float, factor: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(inverse if factor is None else inverse * factor)
        out = scratch.empty_like(x)
        if factor is None:
            torch.mul(x, inverse, out=out)
        else:
            torch.mul(x, factor, out=out).mul_(inverse)
        return out.round_().clamp_(low, high)

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
