"""`standardize`: `clamp(Zy + half_up((x - mean[c]) * 2^left, 1, right))`, x u8.

mean has one entry, or one per channel (last axis). Defaults: left 0, right 0, clamp (-128,127).
"""

from __future__ import annotations

import numpy as np

from .arrays import filled, integers, positions
from .rounding import clamp, half_up, int32, of_channel


def oracle(inputs, attrs, zeros) -> np.ndarray:
    left, right = attrs.get("left", 0), attrs.get("right", 0)
    limits, zy = attrs.get("clamp", (-128, 127)), zeros.get("y", 0)
    x, mean = inputs["x"], integers(inputs["mean"])
    y = filled(x.shape)
    for index in positions(x.shape):
        code = int(x[index])
        assert 0 <= code <= 255
        shifted = int32((code - of_channel(mean, index[-1])) * 2**left)
        y[index] = clamp(zy + half_up(shifted, 1, right), limits)
    return y
