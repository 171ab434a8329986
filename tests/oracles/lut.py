"""`lut`: `y = table[x + 128]`, 256 entries for the s8 codes."""

from __future__ import annotations

import numpy as np

from .arrays import filled, integers, positions


def oracle(inputs, attrs, zeros) -> np.ndarray:
    x, table = inputs["x"], integers(inputs["table"])
    assert len(table) == 256
    y = filled(x.shape)
    for index in positions(x.shape):
        code = int(x[index])
        assert -128 <= code <= 127
        y[index] = table[code + 128]
    return y
