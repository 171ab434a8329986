"""The fixed-point functions of gemmlowp that TensorFlow Lite's softmax, logistic and tanh use, in
int64 NumPy, elementwise.

Qm.n is an int32 whose unit is 2^-n; one in Q0.31 is 2^31 - 1. Every intermediate fits int32 and
every product int64. Source: gemmlowp `fixedpoint/fixedpoint.h`; TensorFlow Lite
`kernels/internal/common.h` (GetReciprocal) and `kernels/internal/reference/softmax.h`.
"""

from __future__ import annotations

import math

import numpy as np

from isobit.core.fixed import INT32_MAX, multiplier_q31
from isobit.core.types import IntArray

EXP_OF_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
"""exp(-2^k) in Q0.31 for k = -2..4."""
EXP_OF_MINUS_EIGHTH = 1895147668
ONE_THIRD = 715827883
FORTY_EIGHT_OVER_17 = 1515870810
MINUS_THIRTY_TWO_OVER_17 = -1010580540
ONE_Q2 = 1 << 29


def parameters(scale: float) -> tuple[int, int, int]:
    """Return (mult, shift, diff_min) for exponents of step `scale` = beta * Sx.

    `real = min(scale * 2^26, 2^31 - 1) = mult * 2^(shift - 31)`; `diff_min = -floor(31 * 2^26 /
    2^shift)`: below it an exponent leaves Q5.26. Steps under 2^-27 have no shift to the left: then
    shift = 0 and mult is rounded again.
    """
    real = min(scale * 2.0**26, 2.0**31 - 1)
    mult, shift = multiplier_q31(real)
    if shift < 0:
        mult, shift = math.floor(real * 2.0**31 + 0.5), 0
    return mult, shift, -((31 << 26) >> shift)


def product(a: IntArray, b: IntArray | int) -> IntArray:
    """`floor(a * b * 2^-31 + 1/2)`: Qm times Qn in Q(m+n) (SaturatingRoundingDoublingHighMul)."""
    result: IntArray = (a * np.int64(b) + (1 << 30)) >> 31
    return result


def divide_by_power(a: IntArray, power: IntArray | int) -> IntArray:
    """`a * 2^-power` to the nearest integer, ties away from zero (RoundingDivideByPOT)."""
    power = np.asarray(power, dtype=np.int64)
    half = np.where(power > 0, np.int64(1) << np.maximum(power - 1, 0), 0)
    result: IntArray = np.sign(a) * ((np.abs(a) + half) >> power)
    return result


def exp_of_negative(a: IntArray, integer_bits: int = 5) -> IntArray:
    """`exp(a)` in Q0.31 for a <= 0 in Q(m).(31 - m), m = `integer_bits` (exp_on_negative_values).

    `a = near - rest`, near in [-1/4, 0) and rest a multiple of 1/4: a Taylor series around -1/8
    times one constant per bit of rest.
    """
    quarter = 1 << (29 - integer_bits)
    near = (a & (quarter - 1)) - quarter
    rest = near - a
    x = (near << integer_bits) + (1 << 28)
    x2 = product(x, x)
    x3, x4 = product(x2, x), product(x2, x2)
    tail = divide_by_power(product(divide_by_power(x4, 2) + x3, ONE_THIRD) + x2, 1)
    result = EXP_OF_MINUS_EIGHTH + product(x + tail, EXP_OF_MINUS_EIGHTH)
    for bit, constant in enumerate(EXP_OF_POWERS[: integer_bits + 2], start=29 - integer_bits):
        result = np.where((rest >> bit) & 1 == 1, product(result, constant), result)
    return np.where(a == 0, INT32_MAX, result)


def two_over_one_plus(a: IntArray) -> IntArray:
    """`2 / (1 + a)` in Q2.29 for a in Q0.31, 0 <= a < 1: three Newton steps."""
    half = (a + (1 << 31)) >> 1
    x = FORTY_EIGHT_OVER_17 + product(half, MINUS_THIRTY_TWO_OVER_17)
    for _ in range(3):
        x = x + 4 * product(x, ONE_Q2 - product(half, x))
    return x


def reciprocal(total: IntArray) -> tuple[IntArray, IntArray]:
    """Return (r, bits) with `1 / total = r * 2^-bits`: total in Q12.19, 0 < total < 2^31; r in
    Q0.31.

    `r = 1 / (1 + a)`, where total = (1 + a) * 2^(31 - leading zeros).
    """
    zeros = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)
    x = two_over_one_plus((total << zeros) - (1 << 31))
    return np.minimum(2 * x, INT32_MAX), 12 - zeros


def logistic(a: IntArray) -> IntArray:
    """`1 / (1 + exp(-a))` in Q0.31 for a in Q4.27."""
    above = np.minimum(2 * two_over_one_plus(exp_of_negative(-np.abs(a), 4)), INT32_MAX)
    return np.where(a == 0, 1 << 30, np.where(a > 0, above, INT32_MAX - above))


def tanh(a: IntArray) -> IntArray:
    """`(1 - e) / (1 + e)`, e = exp(-2 a), in Q0.31 for a in Q4.27; the same raw number in Q5.26 is
    2 a.
    """
    quotient = 4 * (two_over_one_plus(exp_of_negative(-np.abs(a), 5)) - ONE_Q2)
    return np.sign(a) * np.clip(quotient, -INT32_MAX - 1, INT32_MAX)
