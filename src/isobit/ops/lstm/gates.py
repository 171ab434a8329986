"""sigmoid and tanh of 16-bit codes: a table of sigmoid(i / 24), interpolated.

A chord of sigmoid lies below it by up to h^2/8 |sigmoid''|, h = 1/24. TFLite's entries are raised
by half of that, so that the interpolation errs as far above as below; the last one ends the range:

    table[i] = round(65536 (sigmoid(v) + sigmoid(v) (1 - sigmoid(v)) (2 sigmoid(v) - 1) / 9216)),
    v = i / 24;  table[255] = 65535

With tanh(v) = 2 sigmoid(2 v) - 1 one table serves both; arguments beyond its end saturate. Source:
TensorFlow Lite `kernels/internal/reference/integer_ops/logistic.h` and `tanh.h`.
"""

from __future__ import annotations

import numpy as np

from isobit.core.types import IntArray

GATE_FRAC = 12
"""A gate's sum has the scale 2^-12: arguments from -8 to 8."""
UNIT_FRAC = 15
"""What sigmoid and tanh return has the scale 2^-15."""
ENTRIES = 256


def _table() -> IntArray:
    """No entry before rounding is near a tie: the closest is 0.0039 away, so no libm matters."""
    exact = 1.0 / (1.0 + np.exp(-np.arange(ENTRIES) / 24.0))
    raised = exact + exact * (1.0 - exact) * (2.0 * exact - 1.0) / (16 * 24**2)
    entries = np.rint(65536.0 * raised).astype(np.int64)
    entries[-1] = 65535
    return entries


TABLE: IntArray = _table()


def argument(frac: int) -> tuple[int, int]:
    """Return (factor, right shift) that bring codes of scale 2^-frac to 2^-12 / 3: 24 entries of
    the table are 1, and 2^9 (sigmoid) or 2^8 (tanh) lie between two of them.
    """
    left = GATE_FRAC - frac
    return (3 << left, 0) if left >= 0 else (3, -left)


def sigmoid(codes: IntArray) -> IntArray:
    """Return sigmoid of codes of scale 2^-12, scale 2^-15, -32768..32767."""
    scaled = codes * 3
    result = _interpolated(np.abs(scaled), 9)
    result = np.where(np.abs(scaled) >> 9 >= ENTRIES - 1, 0x7FFF << 10, result)
    signed = np.where(scaled >= 0, result + 512, (1 << 25) - result + 511)
    return signed >> 10


def tanh(codes: IntArray, frac: int) -> IntArray:
    """Return tanh of codes of scale 2^-frac, scale 2^-15, -32768..32767."""
    factor, shift = argument(frac)
    scaled = (codes * factor + ((1 << shift) >> 1)) >> shift
    result = _interpolated(np.abs(scaled), 8)
    result = np.where(np.abs(scaled) >> 8 >= ENTRIES - 1, 0xFFFF << 8, result)
    centred = result - (1 << 23)
    signed = np.where(scaled >= 0, centred + 128, -centred + 127)
    return signed >> 8


def _interpolated(magnitude: IntArray, bits: int) -> IntArray:
    """Return the table between its entries, 2^`bits` steps apart."""
    index = np.minimum(magnitude >> bits, ENTRIES - 2)
    low, high = TABLE[index], TABLE[index + 1]
    result: IntArray = (low << bits) + (magnitude & ((1 << bits) - 1)) * (high - low)
    return result
