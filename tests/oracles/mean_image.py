"""`mean_image`: `clamp(Zy + half_up((x - mean[h,w,c]) * 2^left, 1, right))`, x u8.

mean has one entry 0..255 per value of an example. Defaults: left 0, right 0, clamp (-128,127).
"""

from __future__ import annotations

import numpy as np

from .arrays import filled, positions
from .rounding import clamp, half_up, int32


def oracle(inputs, attrs, zeros) -> np.ndarray:
    left, right = attrs.get("left", 0), attrs.get("right", 0)
    limits, zy = attrs.get("clamp", (-128, 127)), zeros.get("y", 0)
    x, mean = inputs["x"], inputs["mean"]
    y = filled(x.shape)
    for index in positions(x.shape):
        code, average = int(x[index]), int(mean[index[1:]])
        assert 0 <= code <= 255 and 0 <= average <= 255
        y[index] = clamp(zy + half_up(int32((code - average) * 2**left), 1, right), limits)
    return y
