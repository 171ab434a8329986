"""`add`: `clamp(Zy + half_up(ka*(a - Za) + kb*(b - Zb), 1, e))`, NumPy broadcasting.

ka = mult_a[0], kb = mult_b[0] are int32, e = shift[0]; both products and their sum are int32.
Default: clamp (-128,127).
"""

from __future__ import annotations

import numpy as np

from .arrays import broadcast_index, broadcast_shape, filled, positions
from .rounding import clamp, half_up, int32


def oracle(inputs, attrs, zeros) -> np.ndarray:
    limits = attrs.get("clamp", (-128, 127))
    za, zb, zy = (zeros.get(field, 0) for field in ("a", "b", "y"))
    a, b = inputs["a"], inputs["b"]
    (ka,), (kb,), (e,) = (inputs[field].tolist() for field in ("mult_a", "mult_b", "shift"))
    y = filled(broadcast_shape(a.shape, b.shape))
    for index in positions(y.shape):
        left = int32(int32(ka) * (int(a[broadcast_index(index, a.shape)]) - za))
        right = int32(int32(kb) * (int(b[broadcast_index(index, b.shape)]) - zb))
        y[index] = clamp(zy + half_up(int32(left + right), 1, e), limits)
    return y
