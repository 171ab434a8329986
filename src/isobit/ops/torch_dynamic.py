"""Dynamic output quantisation in torch: `ops/dynamic.quantized` on float64 carriers."""

from __future__ import annotations

import torch
from torch import Tensor

from isobit.core.fixed_torch import straight_through
from isobit.ops.dynamic import CODE_BITS, LEAST_EXPONENT, MOST_EXPONENT, MOST_SHIFT


def quantized(
    sums: Tensor, b: Tensor | None, e: Tensor | None, product: int, bias: int
) -> tuple[Tensor, Tensor]:
    """Return codes [N,...] and exponents [N,1], float32, for exact sums of products [N,...].

    sums: float64, below 2^30, so products with powers of two are exact, and with a half more
    they are wherever the floor could change: near +-1/2 they are multiples of 2^-31. The gradient
    of a code is that of the sum in steps of the output.
    """
    each = (-1, *[1] * (sums.dim() - 1))
    unit = torch.full((len(sums),), float(product), dtype=torch.float64, device=sums.device)
    if e is not None:
        unit = unit + e.detach().reshape(-1).double()
    smooth = sums
    with torch.no_grad():
        total = sums.detach()
    if b is not None:
        more = unit - bias
        right = torch.exp2(-(-more).clamp(0, MOST_SHIFT)).reshape(each)
        left = torch.exp2(-more.clamp(0, MOST_SHIFT)).reshape(each)
        smooth = sums * right + b.double() * left
        with torch.no_grad():
            total = _half_up(sums.detach() * right) + _half_up(b.detach().double() * left)
        unit = unit.clamp_min(bias)
    with torch.no_grad():
        magnitudes = torch.where(total < 0, -1 - total, total).flatten(1).amax(1)
        bits = torch.frexp(magnitudes).exponent.double()
        shift = (bits - CODE_BITS).clamp_min(0)
        step = torch.exp2(-shift).reshape(each)
        codes = _half_up(total * step).clamp(-128, 127).float()
        exponent = (unit + shift).clamp(LEAST_EXPONENT, MOST_EXPONENT).float().reshape(-1, 1)
    if smooth.requires_grad:
        codes = straight_through(codes, (smooth * step).float())
    if e is not None and e.requires_grad:  # the larger the input's step, the larger the output's
        exponent = straight_through(exponent, e.reshape(-1, 1))
    return codes, exponent


LARGEST_POWER = 500
"""Real numbers are scaled by at most 2^500 either way, so that float64 holds them and their
squares.
"""


def unit(sums: Tensor, product: int, e: Tensor | None) -> Tensor:
    """Return what a unit of the sums [N,...] of each example is worth, [N,1,...], float64: a power
    of two, within `LARGEST_POWER`.
    """
    power = torch.full((len(sums),), float(product), dtype=torch.float64, device=sums.device)
    if e is not None:
        power = power + e.detach().reshape(-1).double()
    each = (-1, *[1] * (sums.dim() - 1))
    return torch.exp2(power.clamp(-LARGEST_POWER, LARGEST_POWER)).reshape(each)


def _half_up(x: Tensor) -> Tensor:
    """Return `floor(x + 1/2)`; overwrites x, which is fresh."""
    return x.add_(0.5).floor_()
