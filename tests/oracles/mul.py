"""`mul`: `clamp(Zy + R((a - Za) * (b - Zb)))`, NumPy broadcasting.

mult (or None) and shift have one entry, or one per channel (last axis of the output).
Defaults: clamp (-128,127), round half_up.
"""

from __future__ import annotations

import numpy as np

from .arrays import broadcast_index, broadcast_shape, filled, integers, positions
from .rounding import clamp, rescale


def oracle(inputs, attrs, zeros) -> np.ndarray:
    limits, rule = attrs.get("clamp", (-128, 127)), attrs.get("round", "half_up")
    za, zb, zy = (zeros.get(field, 0) for field in ("a", "b", "y"))
    a, b = inputs["a"], inputs["b"]
    mult, shift = integers(inputs.get("mult")), integers(inputs["shift"])
    y = filled(broadcast_shape(a.shape, b.shape))
    for index in positions(y.shape):
        left = int(a[broadcast_index(index, a.shape)]) - za
        right = int(b[broadcast_index(index, b.shape)]) - zb
        y[index] = clamp(zy + rescale(left * right, rule, mult, shift, index[-1]), limits)
    return y
