"""`transpose`: axis k of y is axis `perm[k]` of x; `perm[0]` is 0, the batch."""

from __future__ import annotations

import numpy as np

from .arrays import filled, positions


def oracle(inputs, attrs, zeros) -> np.ndarray:
    x, perm = inputs["x"], attrs["perm"]
    assert perm[0] == 0 and sorted(perm) == list(range(x.ndim))
    y = filled(tuple(x.shape[axis] for axis in perm))
    for index in positions(x.shape):
        y[tuple(index[axis] for axis in perm)] = x[index]
    return y
