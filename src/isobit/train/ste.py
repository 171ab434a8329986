"""Straight-through rounding: real parameters and inputs to integers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from isobit.core.types import TensorType, scale_of


def quantize_real(x: Tensor, kind: TensorType) -> Tensor:
    """Return `clamp(floor(x / S + 1/2) + Z)` in float64: how a real input becomes codes."""
    codes = x.detach().to(torch.float64, copy=True).div_(float(scale_of(kind.encoding)[0]))
    codes.add_(0.5).floor_()
    return (codes.add_(kind.zero) if kind.zero else codes).clamp_(kind.dtype.low, kind.dtype.high)


class _SteRound(torch.autograd.Function):
    """round(x / step) clamped; the gradient is 1 / step (ranges follow the weights, so clipping is
    rare).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, low: float, high: float) -> Tensor:
        inverse = (1.0 / step).to(x.dtype)
        ctx.save_for_backward(inverse)
        out = torch.empty_like(x)
        return torch.mul(x, inverse, out=out).round_().clamp_(low, high)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (inverse,) = ctx.saved_tensors
        return grads[0] * inverse, None, None, None


def ste_round(x: Tensor, step: Tensor, low: float, high: float) -> Tensor:
    """Return `clamp(round(x / step), low, high)`; the gradient is 1 / step."""
    result: Tensor = _SteRound.apply(x, step, low, high)  # type: ignore[no-untyped-call]  # torch's apply is untyped
    return result
