"""`lut_interpolated`: sigmoid or tanh of 16-bit codes, as TensorFlow Lite interpolates them.

`a = half_up(x, mult, shift)` is the argument in units of 1 / 12288. The table holds a sigmoid in
units of 2^-16 less 2^15, at multiples of 2^9 such units; with `tanh`, `2 * sigmoid(2 * x) - 1`,
the entries are at multiples of 2^8. Between two entries the value is interpolated without rounding,
from the last one on it is 2^16 - 2 (sigmoid) or 2^16 - 1 (tanh) entries' units. For a < 0 sigmoid
is 1 - v and tanh is -v, less one unit of what interpolation keeps; then codes of 2^-15, ties
upwards.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from .arrays import filled, integers, positions
from .rounding import half_up, round_half_up


def oracle(inputs, attrs, zeros) -> np.ndarray:
    x, table = inputs["x"], [entry + 2**15 for entry in integers(inputs["table"])]
    (mult,), (shift,) = integers(inputs["mult"]), integers(inputs["shift"])
    assert len(table) == 256 and 0 <= mult < 2**15
    tanh = attrs["function"] == "tanh"
    step = 2**8 if tanh else 2**9
    y = filled(x.shape)
    for index in positions(x.shape):
        argument = half_up(int(x[index]), mult, shift)
        entry, rest = divmod(abs(argument), step)
        if entry >= 255:
            value = (2**16 - (1 if tanh else 2)) * step
        else:
            value = table[entry] * step + rest * (table[entry + 1] - table[entry])
        if tanh:
            centred = value - 2**15 * step
            exact = centred if argument >= 0 else -centred - 1
            y[index] = round_half_up(Fraction(exact, step))
        else:
            exact = value if argument >= 0 else 2**16 * step - value - 1
            y[index] = round_half_up(Fraction(exact, 2 * step))
    return y
