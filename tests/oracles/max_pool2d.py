"""`max_pool2d`: the largest code among the taps of the window that lie on the input.

x is [N,H,W,C]; `kernel` and `stride` (height, width) are required, `pad` defaults to 0. A window
without any tap on the input has no value and is illegal.
"""

from __future__ import annotations

import numpy as np

from .arrays import filled, integers
from .windows import output_size, taps_on_input


def oracle(inputs, attrs, zeros) -> np.ndarray:
    (KH, KW), (stride_h, stride_w) = attrs["kernel"], attrs["stride"]
    top, left, bottom, right = attrs.get("pad", (0, 0, 0, 0))
    N, H, W, C = inputs["x"].shape
    x = integers(inputs["x"])

    out_h = output_size(H, top, bottom, KH, stride_h, 1)
    out_w = output_size(W, left, right, KW, stride_w, 1)
    y = filled((N, out_h, out_w, C))
    for n in range(N):
        for i in range(out_h):
            rows = taps_on_input(i * stride_h - top, KH, 1, H)
            for j in range(out_w):
                columns = taps_on_input(j * stride_w - left, KW, 1, W)
                assert rows and columns, "a window without a tap on the input"
                for c in range(C):
                    y[n, i, j, c] = max(x[n][p][q][c] for _, p in rows for _, q in columns)
    return y
