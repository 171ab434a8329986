"""`reduce_sum`: `clamp(Zy + R(sum of (x - Zx) over axes))`, size 1 on the reduced axes.

mult (or None) and shift have one entry. `mean` says where the multiplier came from and changes
nothing here. Defaults: clamp (-128,127), round half_up.
"""

from __future__ import annotations

import numpy as np

from .arrays import filled, integers, positions
from .rounding import accumulate, clamp, rescale


def oracle(inputs, attrs, zeros) -> np.ndarray:
    x, axes = inputs["x"], attrs["axes"]
    limits, rule = attrs.get("clamp", (-128, 127)), attrs.get("round", "half_up")
    zx, zy = zeros.get("x", 0), zeros.get("y", 0)
    mult, shift = integers(inputs.get("mult")), integers(inputs["shift"])
    assert 0 not in axes, "the batch axis stays whole and first"
    terms: dict[tuple[int, ...], list[int]] = {}
    for index in positions(x.shape):
        kept = tuple(0 if axis in axes else i for axis, i in enumerate(index))
        terms.setdefault(kept, []).append(int(x[index]) - zx)
    y = filled(tuple(1 if axis in axes else size for axis, size in enumerate(x.shape)))
    for index, own in terms.items():
        y[index] = clamp(zy + rescale(accumulate(0, own), rule, mult, shift, 0), limits)
    return y
