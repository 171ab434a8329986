"""1 / sqrt in fixed point by Newton's iteration, int64 NumPy, elementwise.

Qm.n is an int32 whose unit is 2^-n. Every intermediate fits int32, so gemmlowp's saturations never
act. Source: TensorFlow Lite `kernels/internal/common.h` (GetInvSqrtQuantizedMultiplierExp),
gemmlowp `fixedpoint/fixedpoint.h`.
"""

from __future__ import annotations

import numpy as np

from isobit.core.fixed import INT32_MAX
from isobit.core.types import IntArray

ONE = 1 << 28
"""1 in Q3.28."""
HALF_SQRT_2 = 1518500250
"""sqrt(1/2) in Q0.31."""
STEPS = 5


def inverse_root(total: IntArray) -> tuple[IntArray, IntArray]:
    """Return (k, s) with `1 / sqrt(total) = k * 2^(-31 - s)`, k in Q0.31, 0 <= s <= 11.

    total: 0 <= total < 2^31; 0 counts as 1, whose k is 2^31 - 1.
    """
    total = np.asarray(total, dtype=np.int64)
    v = np.maximum(total, 2)
    bits = np.frexp(v.astype(np.float64))[1].astype(np.int64)  # 2^(bits-1) <= v < 2^bits
    pairs = (31 - bits) // 2
    scaled = (v << 2 * pairs) >> 2  # in [2^27, 2^29)
    x = _root(scaled >> 1)
    shift = 12 - pairs
    k = x << np.maximum(-shift, 0)
    tiny = total <= 1
    return np.where(tiny, INT32_MAX, k), np.where(tiny, 0, np.maximum(shift, 0))


def _root(a: IntArray) -> IntArray:
    """Return sqrt(1/2) / sqrt(a) in Q3.28 of a in [1/4, 1) in Q3.28: x <- 3/2 x - a/2 x^3."""
    half = (a + 1) >> 1
    x: IntArray = np.full_like(a, ONE)
    for _ in range(STEPS):
        cube = product(product(x, x), x) << 6  # Q9.22 to Q3.28
        x = (product(ONE + ONE // 2, x) - product(half, cube)) << 3  # Q6.25 to Q3.28
    return product(x, HALF_SQRT_2)


def product(a: IntArray | int, b: IntArray | int) -> IntArray:
    """`floor(a * b * 2^-31 + 1/2)`: Qm times Qn in Q(m+n) (SaturatingRoundingDoublingHighMul)."""
    wide = np.asarray(a, dtype=np.int64) * np.asarray(b, dtype=np.int64)
    result: IntArray = (wide + (1 << 30)) >> 31
    return result
