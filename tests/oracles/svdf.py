"""`svdf`: filters that remember their last M features, weighted in time; `rank` of them a unit.

`z[f] = clamp(R0(sum_i w[f,i] * (x[i] - Zx)))` to feature_clamp;
`next[f] = (state[f,1..], z[f])`;
`y[u] = clamp(Zy + R1(b[u] + sum t[f,m] * next[f,m]))` over the filters `u*rank .. u*rank+rank-1`.
R0 and R1 are tflite_double with mult[k], shift[k]. Returns y and next. Defaults: rank 1, clamp
(-128,127), feature_clamp (-32768,32767), no bias.
"""

from __future__ import annotations

import numpy as np

from .arrays import filled, integers, positions
from .rounding import accumulate, clamp, rescale


def oracle(inputs, attrs, zeros) -> list[np.ndarray]:
    x, state, w, t = (inputs[field] for field in ("x", "state", "w", "t"))
    bias = None if inputs.get("b") is None else integers(inputs["b"])
    mult, shift = integers(inputs["mult"]), integers(inputs["shift"])
    rank, limits = attrs.get("rank", 1), attrs.get("clamp", (-128, 127))
    ends, zx = attrs.get("feature_clamp", (-32768, 32767)), zeros.get("x", 0)
    filters, memory = t.shape
    y, after = filled((*x.shape[:-1], filters // rank)), filled(state.shape)
    for lead in positions(x.shape[:-1]):
        for f in range(filters):
            terms = ((int(x[(*lead, i)]) - zx) * int(w[f, i]) for i in range(w.shape[1]))
            newest = rescale(accumulate(0, terms), "tflite_double", mult, shift, 0)
            for m in range(memory - 1):
                after[(*lead, f, m)] = state[(*lead, f, m + 1)]
            after[(*lead, f, memory - 1)] = clamp(newest, ends)
        for u in range(filters // rank):
            taps = [(f, m) for f in range(u * rank, (u + 1) * rank) for m in range(memory)]
            terms = (int(t[f, m]) * int(after[(*lead, f, m)]) for f, m in taps)
            acc = accumulate(0 if bias is None else bias[u], terms)
            scaled = rescale(acc, "tflite_double", mult, shift, 1)
            y[(*lead, u)] = clamp(zeros.get("y", 0) + scaled, limits)
    return [y, after]
