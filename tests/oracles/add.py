"""`add`: `clamp(Zy + half_up(ka*(a - Za) + kb*(b - Zb), 1, e))`, NumPy broadcasting.

`subtract`: the second product counts negative. `round=tflite_double`: with T the double rounding,
`clamp(Zy + T(T((a - Za) * 2^L, ma, sa) +- T((b - Zb) * 2^L, mb, sb), m, s))`, L = 20, of
16-bit codes, which a clamp outside int8 shows, 15.

ka = mult_a[0], kb = mult_b[0] are int32, e = shift[0]; both products and their sum are int32.
Default: clamp (-128,127).
"""

from __future__ import annotations

import numpy as np

from .arrays import broadcast_index, broadcast_shape, filled, positions
from .rounding import clamp, half_up, int32, tflite_double


def oracle(inputs, attrs, zeros) -> np.ndarray:
    limits = attrs.get("clamp", (-128, 127))
    za, zb, zy = (zeros.get(field, 0) for field in ("a", "b", "y"))
    a, b = inputs["a"], inputs["b"]
    bits = 20 if limits[0] >= -128 and limits[1] <= 127 else 15
    sign = -1 if attrs.get("subtract", False) else 1
    three = attrs.get("round", "half_up") == "tflite_double"
    (ka,), (kb,), (e,) = (inputs[field].tolist() for field in ("mult_a", "mult_b", "shift"))
    y = filled(broadcast_shape(a.shape, b.shape))
    for index in positions(y.shape):
        left = int(a[broadcast_index(index, a.shape)]) - za
        right = int(b[broadcast_index(index, b.shape)]) - zb
        if three:
            (sa,), (sb,), (m,) = (inputs[f].tolist() for f in ("shift_a", "shift_b", "mult"))
            left = tflite_double(int32(left << bits), ka, sa)
            right = tflite_double(int32(right << bits), kb, sb)
            total = tflite_double(int32(left + sign * right), m, e)
        else:
            left, right = int32(int32(ka) * left), int32(int32(kb) * right)
            total = half_up(int32(left + sign * right), 1, e)
        y[index] = clamp(zy + total, limits)
    return y
