"""The exact forward of `l2_normalization` in int64 tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from isobit.core import fixed_torch as ft
from isobit.core.fixed import INT32_MAX, Rounding
from isobit.ops.l2_normalization.newton import HALF_SQRT_2, ONE, STEPS


def normalized(x: Tensor) -> Tensor:
    """Return the codes of centred carriers, without a gradient."""
    with torch.no_grad():
        codes = x.long()
        total = (codes * codes).sum(-1, keepdim=True)
        v = total.clamp_min(2)
        bits = torch.frexp(v.double()).exponent.long()
        pairs = (31 - bits) // 2
        k = _root(((v << 2 * pairs) >> 2) >> 1)
        shift = 12 - pairs
        tiny = total <= 1
        k = torch.where(tiny, INT32_MAX, k << (-shift).clamp_min(0))
        shift = torch.where(tiny, 0, shift.clamp_min(0))
        result = ft.integers(codes, k, 7 - shift, Rounding.TFLITE_DOUBLE)
        return result.clamp(-128, 127).to(x.dtype)


def _root(a: Tensor) -> Tensor:
    half = (a + 1) >> 1
    x = torch.full_like(a, ONE)
    for _ in range(STEPS):
        cube = _product(_product(x, x), x) << 6
        x = (_product(x, ONE + ONE // 2) - _product(half, cube)) << 3
    return _product(x, HALF_SQRT_2)


def _product(a: Tensor, b: Tensor | int) -> Tensor:
    return (a * b + (1 << 30)) >> 31
