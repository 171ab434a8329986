"""TFLite's softmax of int16: two tables of 513 entries, interpolated (docs/numerics.md).

Source: TensorFlow Lite `reference/softmax.h` (SoftmaxInt16), `internal/common.h` (LUTPopulate,
LUTLookup); tflite-micro `kernels/softmax_common.cc` for the ranges of the tables.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache

import numpy as np

from isobit.core import fixed
from isobit.core.types import Affine, IntArray
from isobit.ops.dequantize.op import nearest_float32
from isobit.ops.lut.functions import EXACT, Parameters

OUTPUT = Affine((1 / 32768,), 0)
STEPS = 512
CODES = 65535
RANGE = 10.0
"""Exponents below -10 count as -10."""
F32 = np.float32


def parameters(scale: float) -> tuple[int, int]:
    """Return mult and shift of `tflite_double` that bring a difference of codes to units of
    10 / 65535; scale: beta * Sx.
    """
    return fixed.multiplier_q31(scale / (RANGE / CODES))


@cache
def tables() -> tuple[IntArray, IntArray]:
    """Return exp over [-10, 0] and 1 / (1 + x) over [0, 1], int64 [513] in units of 2^-15, at
    512 even steps and the end.
    """
    steps = F32(CODES)
    exponentials = _populated(F32(RANGE) / steps, 32767, _exp)
    return exponentials, _populated(F32(1.0) / steps, -32768, lambda x: F32(1.0) / (F32(1.0) + x))


def _exp(x: np.float32) -> np.float32:
    return F32(nearest_float32(EXACT["exp"](Fraction(float(x)), Parameters())))


def _populated(
    scale: np.float32, zero: int, function: Callable[[np.float32], np.float32]
) -> IntArray:
    """LUTPopulate: every entry is lowered by half the error of interpolation after it. float32."""
    first, last = scale * F32(-32768 - zero), scale * F32(32767 - zero)
    output = F32(2.0) / F32(CODES)
    inverse = F32(CODES + 1) / (output * F32(32767) - output * F32(-32768))
    step = (last - first) / F32(STEPS)
    half, found = step / F32(2.0), []
    for i in range(STEPS):
        start = first + F32(i) * step
        value, middle = function(start), function(start + half)
        following = function(first + F32(i + 1) * step)
        sample = _round(value * inverse)
        interpolated = _round((following * inverse + _round(value * inverse)) / F32(2.0))
        error = interpolated - _round(middle * inverse)
        found.append(min(max(int(sample - _round(error / F32(2.0))), -32768), 32767))
    found.append(min(max(int(_round(function(last) * inverse)), -32768), 32767))
    return np.asarray(found, dtype=np.int64)


def _round(value: np.float32) -> np.float32:
    return F32(fixed.round_half_away(float(value)))


def interpolated(value: IntArray, table: IntArray) -> IntArray:
    """LUTLookup: value in -32768..32767; 7 bits between two entries, rounded half up."""
    index, rest = (value >> 7) + 256, value & 127
    result: IntArray = table[index] + (((table[index + 1] - table[index]) * rest + 64) >> 7)
    return result


def softmax(x: IntArray, mult: int, shift: int) -> IntArray:
    """Return codes 0..32767 over the last axis."""
    exponentials, reciprocals = tables()
    difference = x - x.max(axis=-1, keepdims=True)
    scaled = fixed.tflite_double(difference, mult, shift) + 32767
    e = interpolated(np.clip(scaled, -32768, 32767), exponentials)
    total = e.sum(axis=-1, keepdims=True)
    bits = np.frexp(total.astype(np.float64))[1].astype(np.int64) - 1
    mantissa = ((total << (30 - bits)) + (1 << 13)) >> 14
    r = interpolated(np.clip(mantissa - 3 * (1 << 15), -32768, 32767), reciprocals)
    y = (e * r + (np.int64(1) << (bits - 1))) >> bits  # the largest e alone is 32767
    codes: IntArray = np.clip(y, 0, 32767)
    return codes
