"""`clamp`: `min(max(x, low), high)` on codes; the default (-128,127) changes no s8 code."""

from __future__ import annotations

import numpy as np

from .arrays import filled, positions
from .rounding import clamp


def oracle(inputs, attrs, zeros) -> np.ndarray:
    limits = attrs.get("clamp", (-128, 127))
    x = inputs["x"]
    y = filled(x.shape)
    for index in positions(x.shape):
        y[index] = clamp(int(x[index]), limits)
    return y
