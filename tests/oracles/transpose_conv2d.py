"""`transpose_conv2d`: `clamp(Zy + R(b[o] + sum of products that land on the output))`.

The product of input pixel (p, q) with tap (u, v) lands at row `p*sh + u - top`, column `q*sw + v -
left` of the output, which has `size` rows and columns; elsewhere it is dropped.
x is [N,H,W,C], w [O,KH,KW,C], b [O] or None; mult (or None) and shift have one entry or one per
output channel. Defaults: stride 1, pad 0, clamp (-128,127), round half_up.
"""

from __future__ import annotations

import numpy as np

from .arrays import filled, integers, positions
from .rounding import accumulate, clamp, is_wide, rescale


def oracle(inputs, attrs, zeros) -> np.ndarray:
    (rows, columns), (sh, sw) = attrs["size"], attrs.get("stride", (1, 1))
    top, left = attrs.get("pad", (0, 0))
    limits, rule = attrs.get("clamp", (-128, 127)), attrs.get("round", "half_up")
    zx, zw, zy = (zeros.get(field, 0) for field in ("x", "w", "y"))
    n, height, width, channels = inputs["x"].shape
    outputs, kernel_h, kernel_w, _ = inputs["w"].shape
    x, w, b = integers(inputs["x"]), integers(inputs["w"]), integers(inputs.get("b"))
    wide = is_wide(limits, rule)
    mult, shift = integers(inputs.get("mult")), integers(inputs["shift"])
    terms: dict[tuple[int, ...], list[int]] = {}
    for k, p, q, o, u, v in positions((n, height, width, outputs, kernel_h, kernel_w)):
        i, j = p * sh + u - top, q * sw + v - left
        if 0 <= i < rows and 0 <= j < columns:
            products = [(x[k][p][q][c] - zx) * (w[o][u][v][c] - zw) for c in range(channels)]
            terms.setdefault((k, i, j, o), []).extend(products)
    y = filled((n, rows, columns, outputs))
    for index in positions(y.shape):
        o = index[-1]
        total = accumulate(0 if b is None else b[o], terms.get(index, []), wide)
        y[index] = clamp(zy + rescale(total, rule, mult, shift, o, wide), limits)
    return y
