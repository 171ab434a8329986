"""`resize_nearest`: output pixel (i, j) is input pixel (source(i), source(j)).

With F the rounding of a real to float32 and out > 1 or no corners, `source(i) = min(floor(
F(F(i + o) * s)), size - 1)`: o = 1/2 with half-pixel centres, else 0; `s = F(size / out)`, with
aligned corners `F((size - 1) / (out - 1))`, and then the nearest integer, ties away, in floor's
place. Exact fractions carry every number; the float32 between are what TFLite computes.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import numpy as np

from .arrays import filled, positions
from .rounding import round_half_away


def float32(value: Fraction) -> Fraction:
    """The float32 nearest to a fraction of two small integers, or to a product of two float32.

    The double between is exact for the product (48 bits) and cannot hide a tie of the quotient.
    """
    return Fraction(struct.unpack("<f", struct.pack("<f", float(value)))[0])


def source(i: int, size: int, out: int, corners: bool, centres: bool) -> int:
    aligned = corners and out > 1
    scale = float32(Fraction(size - 1, out - 1) if aligned else Fraction(size, out))
    position = float32((i + (Fraction(1, 2) if centres else 0)) * scale)
    nearest = round_half_away(position) if corners else math.floor(position)
    return max(0, min(nearest, size - 1))


def oracle(inputs, attrs, zeros) -> np.ndarray:
    x, (rows, columns) = inputs["x"], attrs["size"]
    options = (attrs.get("align_corners", False), attrs.get("half_pixel_centers", False))
    n, height, width, channels = x.shape
    y = filled((n, rows, columns, channels))
    for b, i, j, c in positions(y.shape):
        p, q = source(i, height, rows, *options), source(j, width, columns, *options)
        y[b, i, j, c] = int(x[b, p, q, c])
    return y
