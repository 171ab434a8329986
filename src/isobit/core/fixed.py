"""Requantisation: every rule by which a wide integer becomes a narrow one, exactly, in int64 NumPy.

The C twin is `codegen/runtime/isobit_rt.h`, the torch twin `core/fixed_torch.py`; tests hold the
three to an oracle that imports none of them. Formulas: `docs/numerics.md`. All functions are
elementwise and broadcast.
"""

from __future__ import annotations

import math
from enum import Enum

import numpy as np

from isobit.core.types import AnyArray, IntArray

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


class Rounding(Enum):
    """How `acc * multiplier * 2**-shift` becomes an integer. Stored in the graph, never implied by
    a target.
    """

    HALF_UP = "half_up"
    """`floor(acc*mult*2^-shift + 1/2)`; `shift` is the total right shift, 0..62."""
    TFLITE_DOUBLE = "tflite_double"
    """Q31 multiplier, then a rounding shift, ties away from zero (gemmlowp); `shift` > 0 shifts
    left.
    """


class Average(Enum):
    """How a sum divided by the number of its terms becomes an integer."""

    AWAY = "away"
    """To nearest, ties away from zero (TFLite)."""
    TRUNC = "trunc"
    """Towards zero (legacy CMSIS-NN)."""
    HALF_UP = "half_up"
    """To nearest, ties towards +infinity (TFLite's pools of uint8, whose sums are never negative).
    """


def half_up(acc: IntArray, mult: IntArray | int, shift: IntArray | int) -> IntArray:
    """`floor(acc * mult * 2**-shift + 1/2)`, ties towards +infinity, with a 64-bit product.

    acc: int32 range; mult: 0..2^31-1; shift: 0..62. The product must fit int64, which those ranges
    guarantee; of wider sums (int16 activations) the exporter proves it.
    """
    acc, mult, shift = (np.asarray(v, dtype=np.int64) for v in (acc, mult, shift))
    product = acc * mult
    half = np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), 0)
    # product + half can leave int64 only if both are near 2^62; split the addition so that it
    # cannot.
    return (product >> shift) + (((product & ((np.int64(1) << shift) - 1)) + half) >> shift)


def tflite_double(acc: IntArray, mult: IntArray | int, shift: IntArray | int) -> IntArray:
    """TFLite's `MultiplyByQuantizedMultiplier` with double rounding.

    `t = (acc * 2^max(shift,0) * mult + 2^30) >> 31` (ties up), then divide by `2^max(-shift,0)` to
    nearest, ties away from zero. mult: Q31 in 0..2^31-1; shift: -31..30, positive is a left shift;
    below -31 the result is 0. Source: TFLite Micro `kernel_util`/gemmlowp
    `SaturatingRoundingDoublingHighMul`, `RoundingDivideByPOT`.
    """
    acc, mult, shift = (np.asarray(v, dtype=np.int64) for v in (acc, mult, shift))
    mult = np.where(shift < -31, 0, mult)
    left = np.maximum(shift, 0)
    right = np.where(shift < -31, 0, np.maximum(-shift, 0))
    wide = (acc << left) * mult
    # gemmlowp nudges by 2^30 or 1-2^30 and truncates towards zero; for any sign this is floor((p +
    # 2^30) / 2^31).
    high = (wide + (np.int64(1) << 30)) >> 31
    mask = (np.int64(1) << right) - 1
    remainder = high & mask
    threshold = (mask >> 1) + (high < 0)
    return (high >> right) + (remainder > threshold)


def requantize(
    acc: IntArray, mult: IntArray | int, shift: IntArray | int, rounding: Rounding
) -> IntArray:
    """Apply one rounding rule; see `half_up` and `tflite_double` for the meaning of mult and
    shift.
    """
    match rounding:
        case Rounding.HALF_UP:
            return half_up(acc, mult, shift)
        case Rounding.TFLITE_DOUBLE:
            return tflite_double(acc, mult, shift)


def divide_round_away(total: IntArray, count: AnyArray | int) -> IntArray:
    """`(total + sign(total) * (count // 2)) / count`, truncating: the average of TFLite pools."""
    total, count = np.asarray(total, dtype=np.int64), np.asarray(count, dtype=np.int64)
    return divide_trunc(total + np.sign(total) * (count // 2), count)


def divide_trunc(total: IntArray, count: AnyArray | int) -> IntArray:
    """C integer division: towards zero."""
    total, count = np.asarray(total, dtype=np.int64), np.asarray(count, dtype=np.int64)
    result: IntArray = np.sign(total) * (np.abs(total) // count)
    return result


def average(total: IntArray, count: AnyArray | int, rounding: Average) -> IntArray:
    """The mean of `count` codes that sum to `total`, by either rule."""
    match rounding:
        case Average.AWAY:
            return divide_round_away(total, count)
        case Average.TRUNC:
            return divide_trunc(total, count)
        case Average.HALF_UP:
            total, count = (np.asarray(v, dtype=np.int64) for v in (total, count))
            nearest: IntArray = (total + count // 2) // count
            return nearest


def saturate(values: IntArray, low: int, high: int) -> IntArray:
    """Clamp to `[low, high]`."""
    return np.clip(values, low, high)


def round_half_away(value: float) -> int:
    """Round a real to the nearest integer, ties away from zero (native tables and constants)."""
    return math.floor(abs(value) + 0.5) * (1 if value >= 0 else -1)


class BadMultiplier(ValueError):
    """A quotient of scales that no multiplier holds; importers refuse the operator."""


def multiplier_q31(real: float) -> tuple[int, int]:
    """TFLite's `QuantizeMultiplier`: real = mult * 2^(shift-31), mult in [2^30, 2^31), 0 for 0.

    Ties of the mantissa round away from zero; shift < -31 becomes (0, 0). Raises BadMultiplier
    outside [0, 2^31).
    """
    if not 0 <= real < 2.0**31:
        raise BadMultiplier(f"multiplier {real} outside [0, 2^31)")
    if real == 0.0:
        return 0, 0
    mantissa, shift = math.frexp(real)
    mult = math.floor(mantissa * 2.0**31 + 0.5)
    if mult == 1 << 31:
        mult, shift = mult // 2, shift + 1
    return (0, 0) if shift < -31 else (mult, shift)


def multiplier_half_up(real: float, bits: int = 15) -> tuple[int, int]:
    """Nearest `mult * 2^-shift` to a positive real with `mult < 2^bits`, largest shift up to 46.

    At most `bits` bits of multiplier keep `acc * mult` below 2^53 for |acc| <= 2^31 when bits <=
    22, so float64 training stays exact. Raises ValueError for a negative, infinite or too large
    real.
    """
    if not (math.isfinite(real) and 0 <= real < 2.0**bits):
        raise BadMultiplier(f"multiplier {real} outside [0, 2^{bits})")
    if real == 0.0:
        return 0, 0
    _, exponent = math.frexp(real)
    shift = min(max(bits - exponent, 0), 46)
    mult = math.floor(math.ldexp(real, shift) + 0.5)
    if mult >= 1 << bits:
        mult, shift = (mult >> 1, shift - 1) if shift > 0 else ((1 << bits) - 1, 0)
    return mult, shift
