"""`strided_slice`: y[i] = x[begin + stride * i] along every axis after the batch.

`begin`, `stride` and `size` have one entry for each of these axes; every index lies on x.
"""

from __future__ import annotations

import numpy as np

from .arrays import filled, positions


def oracle(inputs, attrs, zeros) -> np.ndarray:
    x = inputs["x"]
    begin, stride, size = attrs["begin"], attrs["stride"], attrs["size"]
    assert len(begin) == len(stride) == len(size) == x.ndim - 1
    y = filled((x.shape[0], *size))
    for n, *index in positions(y.shape):
        source = [n]
        for b, s, i in zip(begin, stride, index, strict=True):
            source.append(b + s * i)
        assert all(0 <= i < whole for i, whole in zip(source, x.shape, strict=True))
        y[(n, *index)] = x[tuple(source)]
    return y
