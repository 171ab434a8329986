"""`reshape`: the same codes in row-major order; `shape` is that of one sample (no batch axis)."""

from __future__ import annotations

import numpy as np

from .arrays import count, filled, from_flat


def oracle(inputs, attrs, zeros) -> np.ndarray:
    x = inputs["x"]
    y = filled((x.shape[0], *attrs["shape"]))
    assert count(x.shape) == count(y.shape)
    for position in range(count(x.shape)):
        y[from_flat(position, y.shape)] = x[from_flat(position, x.shape)]
    return y
