"""What `dynamic_conv2d`, `dynamic_depthwise_conv2d` and `dynamic_linear` do with exact sums:
`docs/numerics.md`, "Dynamic quantisation", as statements about exact rational numbers.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from .arrays import filled, positions
from .rounding import clamp, int32, round_half_up


def quantized(sums: np.ndarray, inputs, attrs) -> list[np.ndarray]:
    """Codes and exponents of sums [N,...] without bias, the output channel being the last axis."""
    b, e = inputs.get("b"), inputs.get("e")
    y, exponents = filled(sums.shape), filled((sums.shape[0], 1))
    for n in range(sums.shape[0]):
        unit = attrs["product"] + (0 if e is None else int(e[n, 0]))
        totals = {}
        for index in positions(sums.shape[1:]):
            totals[index] = int32(int(sums[n][index]))
        if b is not None:
            coarse = max(unit, attrs["bias"])
            for index, total in totals.items():
                own = in_units(total, unit - coarse) + in_units(
                    int(b[index[-1]]), attrs["bias"] - coarse
                )
                totals[index] = int32(own)
            unit = coarse
        shift = 0
        while not all(-(2 ** (7 + shift)) <= t < 2 ** (7 + shift) for t in totals.values()):
            shift += 1
        for index, total in totals.items():
            y[n][index] = clamp(in_units(total, -shift), (-128, 127))
        exponents[n, 0] = clamp(unit + shift, (-(2**15), 2**15 - 1))
    return [y, exponents]


def in_units(value: int, power: int) -> int:
    """`value * 2^power` to the nearest integer, ties towards +infinity; below 2^-62 as at 2^-62."""
    return round_half_up(Fraction(value) * Fraction(2) ** max(power, -62))
