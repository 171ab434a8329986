"""`prelu`: `clamp(Zy + R(v))` for v = x - Zx >= 0, `clamp(Zy + Rneg(v * (slope - Zs)))` below.

slope is broadcast to x. R has mult and shift, Rneg mult_neg and shift_neg, one entry each.
Defaults: clamp (-128,127), round half_up.
"""

from __future__ import annotations

import numpy as np

from .arrays import broadcast_index, filled, integers, positions
from .rounding import clamp, rescale


def oracle(inputs, attrs, zeros) -> np.ndarray:
    limits, rule = attrs.get("clamp", (-128, 127)), attrs.get("round", "half_up")
    zx, zs, zy = (zeros.get(field, 0) for field in ("x", "slope", "y"))
    x, slope = inputs["x"], inputs["slope"]
    mult, shift, mult_neg, shift_neg = (
        integers(inputs[field]) for field in ("mult", "shift", "mult_neg", "shift_neg")
    )
    y = filled(x.shape)
    for index in positions(x.shape):
        v = int(x[index]) - zx
        if v >= 0:
            scaled = rescale(v, rule, mult, shift, 0)
        else:
            factor = int(slope[broadcast_index(index, slope.shape)]) - zs
            scaled = rescale(v * factor, rule, mult_neg, shift_neg, 0)
        y[index] = clamp(zy + scaled, limits)
    return y
