"""`factors` in torch, for a batch at once: int64 throughout."""

from __future__ import annotations

import torch
from torch import Tensor


def variances(x: Tensor, least: int) -> tuple[Tensor, Tensor]:
    """As `factors.variances`; x: int64."""
    axes = list(range(1, x.dim()))
    pixels = x[0].numel()
    total = x.sum(axes, keepdim=True)
    variance = pixels * x.square().sum(axes, keepdim=True) - total.square()
    return pixels * x - total, variance.clamp_min(least)


def reciprocal(variance: Tensor, frac: int) -> tuple[Tensor, Tensor]:
    """As `factors.reciprocal`, elementwise.

    A float64 root of a number below 2^62 is off by less than one, which its square shows.
    """
    k = torch.zeros_like(variance)
    for _ in range(30):
        small = variance < 1 << 60
        variance = torch.where(small, variance * 4, variance)
        k += small
    root = variance.double().sqrt().long()
    root = root - (root.square() > variance).long()
    root = root + ((root + 1).square() <= variance).long()
    return (1 << 60) // root, 60 - k - frac
