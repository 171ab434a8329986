"""`depthwise_conv2d`: each output channel sums a window of one input channel.

`y[n,i,j,o] = clamp(Zy + R(b[o] + sum_{u,v} (x[n,p,q,o // multiplier] - Zx) * w[u,v,o]))` with
`p = i*sh - top + u*dh`, `q = j*sw - left + v*dw`; taps on padding contribute 0.
x is [N,H,W,C], w is [KH,KW,O] with O = C * multiplier; all else as in `conv2d`.
"""

from __future__ import annotations

import numpy as np

from .arrays import filled, integers
from .rounding import accumulate, clamp, is_wide, rescale
from .windows import output_size, taps_on_input


def oracle(inputs, attrs, zeros) -> np.ndarray:
    stride_h, stride_w = attrs.get("stride", (1, 1))
    top, left, bottom, right = attrs.get("pad", (0, 0, 0, 0))
    dilation_h, dilation_w = attrs.get("dilation", (1, 1))
    limits, rule = attrs.get("clamp", (-128, 127)), attrs.get("round", "half_up")
    zx, zw, zy = (zeros.get(field, 0) for field in ("x", "w", "y"))
    N, H, W, C = inputs["x"].shape
    KH, KW, Co = inputs["w"].shape
    assert Co % C == 0
    multiplier = Co // C
    x, w, b = integers(inputs["x"]), integers(inputs["w"]), integers(inputs.get("b"))
    wide = is_wide(limits, rule)
    mult, shift = integers(inputs.get("mult")), integers(inputs["shift"])

    out_h = output_size(H, top, bottom, KH, stride_h, dilation_h)
    out_w = output_size(W, left, right, KW, stride_w, dilation_w)
    y = filled((N, out_h, out_w, Co))
    for n in range(N):
        for i in range(out_h):
            rows = taps_on_input(i * stride_h - top, KH, dilation_h, H)
            for j in range(out_w):
                columns = taps_on_input(j * stride_w - left, KW, dilation_w, W)
                for o in range(Co):
                    acc = accumulate(
                        b[o] if b is not None else 0,
                        (
                            (x[n][p][q][o // multiplier] - zx) * (w[u][v][o] - zw)
                            for u, p in rows
                            for v, q in columns
                        ),
                        wide,
                    )
                    y[n, i, j, o] = clamp(zy + rescale(acc, rule, mult, shift, o, wide), limits)
    return y
