"""`dequantize`: `y = table[x + 128]`, 256 float32 values for the s8 codes."""

from __future__ import annotations

import numpy as np

from .arrays import positions


def oracle(inputs, attrs, zeros) -> np.ndarray:
    x, table = inputs["x"], inputs["table"]
    assert table.dtype == np.float32 and table.shape == (256,)
    y = np.zeros(x.shape, dtype=np.float32)
    for index in positions(x.shape):
        code = int(x[index])
        assert -128 <= code <= 127
        y[index] = table[code + 128]
    return y
