"""`resize_bilinear`: four pixels, weighted in units of 2^-10 along each axis, rounded once.

Along an axis, in units of 2^-10 pixel, output i lies at `p = i * s` with `s = size * 2^10 / out`
rounded to the nearest integer, ties up (aligned corners and out > 1: of size - 1 and out - 1);
with half-pixel centres at `p = i * s + floor(s / 2) - 2^9`. It lies between the pixels `p0 = max(0,
floor(p / 2^10))` and `p1 = min(size - 1, ceil(p / 2^10))`, the second one with weight `p - 2^10 *
p0`, the first one with 2^10 less that. y is the sum of products over 2^20, ties away from zero.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from .arrays import filled, positions
from .rounding import int32, round_half_away, round_half_up


def place(i: int, size: int, out: int, corners: bool, centres: bool) -> tuple[int, int, Fraction]:
    """(first pixel, second pixel, weight of the second) of output i."""
    assert not (corners and centres)
    aligned = corners and out > 1
    ratio = Fraction(size - 1, out - 1) if aligned else Fraction(size, out)
    step = round_half_up(ratio * 1024)
    position = Fraction(i * step + (step // 2 - 512 if centres else 0), 1024)
    first, second = max(0, math.floor(position)), min(size - 1, math.ceil(position))
    assert first < size, "a source outside the image"
    return first, second, position - first


def oracle(inputs, attrs, zeros) -> np.ndarray:
    x, (rows, columns) = inputs["x"], attrs["size"]
    options = (attrs.get("align_corners", False), attrs.get("half_pixel_centers", False))
    n, height, width, channels = x.shape
    y = filled((n, rows, columns, channels))
    for b, i, j, c in positions(y.shape):
        top, bottom, down = place(i, height, rows, *options)
        left, right, over = place(j, width, columns, *options)
        total = Fraction(0)
        for p, weight_p in ((top, 1 - down), (bottom, down)):
            for q, weight_q in ((left, 1 - over), (right, over)):
                total += int(x[b, p, q, c]) * weight_p * weight_q
                int32(int(total * 2**20))
        y[b, i, j, c] = round_half_away(total)
    return y
