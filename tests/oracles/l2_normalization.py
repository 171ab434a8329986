"""`l2_normalization` over the last axis: the int8 arithmetic of TensorFlow Lite.

With `t = sum (x - Zx)^2` and `(k, s)` so that about `1/sqrt(t) = k * 2^(-31-s)`, `y = clamp(
tflite_double(x - Zx, k, 7 - s))`; y has scale 1/128 and zero point 0. For t <= 1, `k = 2^31 - 1`,
s = 0. Else t is brought to [2^27, 2^29) by a power of 4 (rounding down), read as `2a` with a in
Q3.28, and five steps `x = 3/2 x - a/2 x^3` from x = 1 give `x = 1/sqrt(a)`, in gemmlowp's fixed
point. Qm.n is an int32 whose unit is 2^-n.

Sources: TensorFlow Lite, `integer_ops/l2normalization.h`, `kernels/internal/common.h`
(GetInvSqrtQuantizedMultiplierExp).
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from .arrays import filled, positions
from .rounding import (
    INT32_MAX,
    accumulate,
    clamp,
    int32,
    round_half_away,
    round_half_up,
    tflite_double,
)


def product(a: int, b: int) -> int:
    """The product of Qm and Qn numbers, in Q(m+n): `a * b * 2^-31` to the nearest, ties up."""
    return int32(round_half_up(Fraction(int32(a) * int32(b), 2**31)))


def inverse_root(t: int) -> tuple[int, int]:
    """(k, s) with about `1 / sqrt(t) = k * 2^(-31 - s)`."""
    if t <= 1:
        return INT32_MAX, 0
    s = 11
    while t >= 2**29:
        t, s = t // 4, s + 1
    while t < 2**27:
        t, s = t * 4, s - 1
    a = t // 2
    half = round_half_away(Fraction(a, 2))
    x = 2**28
    for _ in range(5):
        cube = int32(product(product(x, x), x) * 2**6)  # Q9.22 to Q3.28
        x = int32((product(3 * 2**27, x) - product(half, cube)) * 2**3)  # Q6.25 to Q3.28
    k = product(x, 1518500250)  # sqrt(1/2) in Q0.31
    return (int32(k * 2**-s), 0) if s < 0 else (k, s)


def oracle(inputs, attrs, zeros) -> np.ndarray:
    x, zero = inputs["x"], zeros.get("x", 0)
    y = filled(x.shape)
    for head in positions(x.shape[:-1]):
        row = [int(code) - zero for code in x[head]]
        k, s = inverse_root(accumulate(0, [v * v for v in row]))
        y[head] = [clamp(tflite_double(v, k, 7 - s), (-128, 127)) for v in row]
    return y
