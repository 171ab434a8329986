"""The one division of a per-image standardisation: 1 / deviation as a Q multiplier and a shift.

With N pixels, S their sum and Q the sum of their squares, `V = N*Q - S^2` is N^2 times the variance
and `N*x - S` is N times a pixel's distance from the mean, both exact. So `(x - mean) / deviation =
(N*x - S) / sqrt(V)`, and only the root and its reciprocal are rounded, both by less than 2^-29 of
themselves.
"""

from __future__ import annotations

import math

import numpy as np

from isobit.core.types import IntArray

MOST_PIXELS = 1 << 20
"""Of an image: then |N*x - S| < 2^28, Q <= 2^36 and V < 2^54."""
MOST_VARIANCE = (1 << 54) - 1
"""Largest V, and largest bound below it."""


def variances(x: IntArray, least: int) -> tuple[IntArray, IntArray]:
    """Return N*x - S and max(V, least) of every image [N,...], the second with size 1 on all other
    axes.
    """
    axes = tuple(range(1, x.ndim))
    pixels = math.prod(x.shape[1:])
    total = x.sum(axis=axes, keepdims=True)
    variance = pixels * np.square(x).sum(axis=axes, keepdims=True) - np.square(total)
    return pixels * x - total, np.maximum(variance, least)


def reciprocal(variance: int, frac: int) -> tuple[int, int]:
    """Return `mult`, `shift` with `mult * 2^-shift` about `2^frac / sqrt(variance)`.

    `root = floor(sqrt(variance * 4^k))` with the k that makes it 2^30..2^31-1, `mult = floor(2^60 /
    root)`, `shift = 60 - k - frac`. For variances 1..2^54-1, k is 4..30.
    """
    k = 0
    while variance < 1 << 60:
        variance *= 4
        k += 1
    return (1 << 60) // math.isqrt(variance), 60 - k - frac
