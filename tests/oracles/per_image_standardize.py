"""`per_image_standardize`: of every image with N values x, `V = max(sum over all pairs i < j of
(x_i - x_j)^2, least)`, `d = floor(2^k * sqrt(V))` with the k that makes it 2^30..2^31-1, `y =
clamp(Zy + half_up(N*x - sum, floor(2^60 / d), 60 - k - frac))`.

The sum over pairs is N^2 times the variance, by definition; here it is counted by value.
Defaults: clamp (-128,127).
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from .arrays import filled, positions
from .rounding import clamp, half_up, int32, int64


def oracle(inputs, attrs, zeros) -> np.ndarray:
    limits, zy = attrs.get("clamp", (-128, 127)), zeros.get("y", 0)
    x = inputs["x"]
    y = filled(x.shape)
    for n in range(x.shape[0]):
        values = [int(x[n][index]) for index in positions(x.shape[1:])]
        assert all(-128 <= value <= 255 for value in values)
        count, total = len(values), sum(values)
        assert 2 <= count <= 2**20
        seen = sorted(Counter(values).items())
        pairs = sum(
            times * others * (b - a) ** 2
            for i, (a, times) in enumerate(seen)
            for b, others in seen[i + 1 :]
        )
        variance = int64(max(pairs, attrs["least"]))
        k, root = scaled_root(variance)
        mult = 2**60 // root
        for index in positions(x.shape[1:]):
            distance = int32(count * int(x[n][index]) - total)
            y[n][index] = clamp(zy + half_up(distance, mult, 60 - k - attrs["frac"]), limits)
    return y


def scaled_root(variance: int) -> tuple[int, int]:
    """The k for which `floor(2^k * sqrt(variance))` lies in 2^30..2^31-1, and that number."""
    for k in range(31):
        root = math.isqrt(variance * 4**k)
        if 2**30 <= root < 2**31:
            return k, root
    raise AssertionError(f"{variance} is no variance of up to 2^20 bytes")
