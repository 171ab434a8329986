"""`avg_pool2d`: `clamp(D(sum of taps, their count))`, D the rule `away`, `trunc` or `half_up`.

The sum is of codes, without their zero point. Only the taps on the input are summed and counted;
with `count_include_pad` every tap on padding adds Zx (real 0) and is counted too. `extension`
rows and columns follow the padding at the bottom and right; windows reach them, but nothing
there counts.
x is [N,H,W,C]; `kernel` and `stride` (height, width) are required. Defaults: pad 0,
extension 0, count_include_pad False, clamp (-128,127), round away. A window with nothing to count
is illegal.
"""

from __future__ import annotations

import numpy as np

from .arrays import filled, integers
from .rounding import MEANS, accumulate, clamp
from .windows import output_size, taps_on_input


def oracle(inputs, attrs, zeros) -> np.ndarray:
    (KH, KW), (stride_h, stride_w) = attrs["kernel"], attrs["stride"]
    top, left, bottom, right = attrs.get("pad", (0, 0, 0, 0))
    below, beside = attrs.get("extension", (0, 0))
    include_pad = attrs.get("count_include_pad", False)
    limits, mean = attrs.get("clamp", (-128, 127)), MEANS[attrs.get("round", "away")]
    zx = zeros.get("x", 0)
    N, H, W, C = inputs["x"].shape
    x = integers(inputs["x"])

    out_h = output_size(H, top, bottom + below, KH, stride_h, 1)
    out_w = output_size(W, left, right + beside, KW, stride_w, 1)
    y = filled((N, out_h, out_w, C))
    for n in range(N):
        for i in range(out_h):
            rows = taps_on_input(i * stride_h - top, KH, 1, H)
            for j in range(out_w):
                columns = taps_on_input(j * stride_w - left, KW, 1, W)
                for c in range(C):
                    taps = [x[n][p][q][c] for _, p in rows for _, q in columns]
                    if include_pad:
                        high = sum(-top <= i * stride_h - top + u < H + bottom for u in range(KH))
                        wide = sum(-left <= j * stride_w - left + v < W + right for v in range(KW))
                        taps += [zx] * (high * wide - len(taps))
                    assert taps, "a window without a tap on the input"
                    y[n, i, j, c] = clamp(mean(accumulate(0, taps), len(taps)), limits)
    return y
