"""`linear`: `y[n,o] = clamp(Zy + R(b[o] + sum_i (x[n,i] - Zx) * w[o,i]))`.

x is [N,I], w is [O,I], b [O] or None, mult and shift have 1 or O entries.
Defaults: clamp (-128,127), round half_up.
"""

from __future__ import annotations

import numpy as np

from .arrays import filled, integers
from .rounding import accumulate, clamp, is_wide, rescale


def oracle(inputs, attrs, zeros) -> np.ndarray:
    limits, rule = attrs.get("clamp", (-128, 127)), attrs.get("round", "half_up")
    zx, zw, zy = (zeros.get(field, 0) for field in ("x", "w", "y"))
    N, Ci = inputs["x"].shape
    Co = inputs["w"].shape[0]
    assert inputs["w"].shape == (Co, Ci)
    x, w, b = integers(inputs["x"]), integers(inputs["w"]), integers(inputs.get("b"))
    wide = is_wide(limits, rule)
    mult, shift = integers(inputs.get("mult")), integers(inputs["shift"])

    y = filled((N, Co))
    for n in range(N):
        for o in range(Co):
            terms = ((x[n][i] - zx) * (w[o][i] - zw) for i in range(Ci))
            acc = accumulate(b[o] if b is not None else 0, terms, wide)
            y[n, o] = clamp(zy + rescale(acc, rule, mult, shift, o, wide), limits)
    return y
