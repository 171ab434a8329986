"""`softmax` over the last axis: the int8 softmax of TensorFlow Lite Micro in gemmlowp fixed point.

With `m = max(x)`, `d = x - m`, and only over the elements with `d >= diff_min`::

    a      = d * 2^shift * mult * 2^-31        Q5.26, int32, <= 0
    E      = exp(a)                            Q0.31
    S      = sum of E rounded to Q12.19
    r * 2^-bits = 1 / S                        r in Q0.31, bits = 12 - (leading zeros of S)
    y      = clamp(-128 + r * E * 2^-(bits + 31 - 8))

Elements below `diff_min` give -128. y has scale 1/256 and zero point -128. Where the zero point
of y is 0, codes have 16 bits and two tables serve (`softmax_of_wide_row`). Qm.n is an int32 whose
unit is 2^-n. `mult` (Q31), `shift` (to the left) and `diff_min` come from beta * Sx.

Sources: TensorFlow Lite, `kernels/internal/reference/softmax.h` and `kernels/internal/common.h`
(GetReciprocal); gemmlowp, `fixedpoint/fixedpoint.h`. The constants are those of gemmlowp.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import numpy as np

from .arrays import filled, positions
from .rounding import INT32_MAX, clamp, int32, round_half_away, round_half_up, tflite_double

# exp(-2^k) in Q0.31 for k = -2 .. 4. Like all constants here: the nearest integer.
EXP_OF_POWERS = {
    -2: 1672461947,
    -1: 1302514674,
    0: 790015084,
    1: 290630308,
    2: 39332535,
    3: 720401,
    4: 242,
}
EXP_OF_MINUS_EIGHTH = 1895147668  # Q0.31
ONE_THIRD = 715827883  # Q0.31
FORTY_EIGHT_OVER_17 = 1515870810  # Q2.29
MINUS_THIRTY_TWO_OVER_17 = -1010580540  # Q2.29
ONE_Q2 = 2**29
ONE_Q0 = INT32_MAX  # 1 itself is one more than Q0.31 holds


def product(a: int, b: int) -> int:
    """The product of Qm and Qn numbers, in Q(m+n): `a * b * 2^-31` to the nearest, ties up."""
    return int32(round_half_up(Fraction(int32(a) * int32(b), 2**31)))


def divide(a: int, power: int) -> int:
    """`a * 2^-power` to the nearest integer, ties away from zero."""
    return round_half_away(Fraction(int32(a), 2**power))


def multiply(a: int, power: int) -> int:
    """`a * 2^power`, saturating at the ends of int32."""
    return clamp(int32(a) * 2**power, (-(2**31), INT32_MAX))


def exp_near_zero(a: int) -> int:
    """exp(a) for -1/4 <= a < 0, Q0.31: four terms of the Taylor series around -1/8."""
    x = a + 2**28
    x2 = product(x, x)
    x3 = product(x2, x)
    x4 = product(x2, x2)
    tail = divide(product(divide(x4, 2) + x3, ONE_THIRD) + x2, 1)  # x^2/2 + x^3/6 + x^4/24
    return int32(EXP_OF_MINUS_EIGHTH + product(EXP_OF_MINUS_EIGHTH, x + tail))


def exp_of_negative(a: int) -> int:
    """exp(a) for a <= 0 in Q5.26, as Q0.31.

    `a = near - rest`: `near` lies in [-1/4, 0), `rest >= 0` is a multiple of 1/4, and exp(-rest)
    is a product of one constant for every bit that `rest` has set.
    """
    assert a <= 0
    if a == 0:
        return ONE_Q0
    quarter = 2**24
    near = a % quarter - quarter
    rest = near - a
    result = exp_near_zero(multiply(near, 5))
    for k, constant in EXP_OF_POWERS.items():
        bit = 2 ** (26 + k)
        if rest // bit % 2 == 1:
            result = product(result, constant)
    return result


def one_over_one_plus(a: int) -> int:
    """1 / (1 + a) for 0 <= a < 1, Q0.31: three Newton steps for the reciprocal of (1 + a) / 2."""
    half = round_half_away(Fraction(a + ONE_Q0, 2))
    x = int32(FORTY_EIGHT_OVER_17 + product(half, MINUS_THIRTY_TWO_OVER_17))
    for _ in range(3):
        error = ONE_Q2 - product(half, x)
        x = int32(x + multiply(product(x, error), 2))
    return multiply(x, 1)  # half of x (Q2.29 read as Q1.30), then Q1.30 to Q0.31


def reciprocal(total: int) -> tuple[int, int]:
    """(r, bits) with `1 / total = r * 2^-bits`, total > 0 in Q12.19, r in Q0.31."""
    leading_zeros = 32 - total.bit_length()
    mantissa = total * 2**leading_zeros  # in [2^31, 2^32): 1 + a in units of 2^-31
    return one_over_one_plus(mantissa - 2**31), 12 - leading_zeros


def softmax_of_row(
    row: list[int], mult: int, shift: int, diff_min: int, output_bits: int = 8
) -> list[int]:
    """The softmax of one row of codes.

    The operator has 8 output bits. The same arithmetic with 16 shows a test eight more of its bits.
    """
    largest = max(row)
    exps = [
        exp_of_negative(product(int32((code - largest) * 2**shift), mult))
        if code - largest >= diff_min
        else None
        for code in row
    ]
    total = 0
    for exp in exps:
        if exp is not None:
            total = int32(total + divide(exp, 12))
    r, bits = reciprocal(total)
    low, high = -(2 ** (output_bits - 1)), 2 ** (output_bits - 1) - 1
    return [
        low
        if exp is None
        else clamp(low + divide(product(r, exp), bits + 31 - output_bits), (low, high))
        for exp in exps
    ]


def table_of(low: float, high: float, function) -> list[int]:
    """LUTPopulate: 512 even steps from `low` to `high` and the end, in units of 2^-15, each lowered
    by half of what interpolation to the next one is wrong by halfway. All in float32.
    """
    low, high = np.float32(low), np.float32(high)
    step = (high - low) / np.float32(512)
    unit = np.float32(2.0) / np.float32(65535)
    one = np.float32(65536) / (unit * np.float32(32767) - unit * np.float32(-32768))
    entries = []
    for i in range(512):
        x = low + np.float32(i) * step
        here, beyond = function(x) * one, function(low + np.float32(i + 1) * step) * one
        between = (beyond + nearest(here)) / np.float32(2)
        wrong = nearest(between) - nearest(function(x + step / np.float32(2)) * one)
        entry = nearest(here) - nearest(wrong / np.float32(2))
        entries.append(clamp(int(entry), (-32768, 32767)))
    return [*entries, clamp(int(nearest(function(high) * one)), (-32768, 32767))]


def nearest(value) -> np.float32:
    """To an integer, ties away from zero."""
    return np.float32(round_half_away(Fraction(float(value))))


def interpolated(value: int, table: list[int]) -> int:
    """Between entries 128 codes apart, `table[0]` at -32768; rounded half up."""
    index, rest = divmod(value + 32768, 128)
    return table[index] + round_half_up(Fraction((table[index + 1] - table[index]) * rest, 128))


@cache
def exponentials() -> list[int]:
    """Exp over [-10, 0]."""
    scale = np.float32(10.0) / np.float32(65535)
    return table_of(scale * np.float32(-65535), 0.0, lambda x: np.float32(math.exp(x)))


@cache
def reciprocals() -> list[int]:
    """1 / (1 + x) over [0, 1]."""
    scale = np.float32(1.0) / np.float32(65535)
    one = np.float32(1.0)
    return table_of(0.0, scale * np.float32(65535), lambda x: one / (one + x))


def softmax_of_wide_row(row: list[int], mult: int, shift: int) -> list[int]:
    """int16: `exp(d)` and `1 / (1 + f)` from the two tables, where the sum is `(1 + f) * 2^k`."""
    largest, e = max(row), []
    for code in row:
        scaled = tflite_double(code - largest, mult, shift)
        e.append(interpolated(clamp(scaled + 32767, (-32768, 32767)), exponentials()))
    total = int32(sum(e))
    k = total.bit_length() - 1
    f = round_half_up(Fraction(total * 2**30, 2**k * 2**14)) - 2**16  # in units of 2^-16
    r = interpolated(clamp(f - 2**15, (-32768, 32767)), reciprocals())
    return [clamp(round_half_up(Fraction(each * r, 2**k)), (0, 32767)) for each in e]


def oracle(inputs, attrs, zeros) -> np.ndarray:
    mult, shift, diff_min = attrs["mult"], attrs["shift"], attrs["diff_min"]
    x = inputs["x"]
    y = filled(x.shape)
    wide = zeros.get("y", -128) == 0
    assert 0 <= mult < 2**31 and diff_min <= 0 and (shift >= 0 or wide)
    for head in positions(x.shape[:-1]):
        row = x[head].tolist()
        if wide:
            y[head] = softmax_of_wide_row(row, mult, shift)
        else:
            y[head] = softmax_of_row(row, mult, shift, diff_min)
    return y
