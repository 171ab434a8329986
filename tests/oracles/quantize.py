"""`quantize`: float32 to codes in integers, `clamp(Zy + round_half_away(x * k * 2^-e))`.

A float32 is `(-1)^s * m * 2^t` with m < 2^24: its bits are read, not its value. NaN counts as 0;
infinity saturates to the end of the clamp. k = mult[0] < 2^31, e = shift[0].
With `divisor`, `clamp(round_half_away(x / divisor))` of 16-bit codes, the quotient a float32.
With `thresholds`, 255 float32 values, the code is -128 plus how many of them x is not below; NaN
counts as 0.
Default: clamp (-128,127).
"""

from __future__ import annotations

import struct
from fractions import Fraction

import numpy as np

from .arrays import filled, positions
from .rounding import clamp, round_half_away

SPECIAL = 255  # the exponent field of infinities and NaN


def fields_of(value: np.float32) -> tuple[int, int, int]:
    """Sign (0 or 1), exponent field (8 bits) and fraction field (23 bits)."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    return bits >> 31, bits >> 23 & 0xFF, bits & 0x7FFFFF


def finite_value(sign: int, exponent: int, fraction: int) -> Fraction:
    """`(-1)^s * m * 2^t`: subnormal numbers have exponent field 0 and no hidden bit."""
    m, t = (fraction, -149) if exponent == 0 else (fraction + 2**23, exponent - 150)
    return (-1) ** sign * m * Fraction(2) ** t


def oracle(inputs, attrs, zeros) -> np.ndarray:
    limits, zy = attrs.get("clamp", (-128, 127)), zeros.get("y", 0)
    x = inputs["x"]
    assert x.dtype == np.float32
    if inputs.get("thresholds") is not None:
        return by_thresholds(x, [float(t) for t in inputs["thresholds"]], limits)
    if inputs.get("divisor") is not None:
        return by_division(x, inputs["divisor"][0], limits)
    (k,), (e,) = inputs["mult"].tolist(), inputs["shift"].tolist()
    assert 0 <= k < 2**31
    y = filled(x.shape)
    for index in positions(x.shape):
        sign, exponent, fraction = fields_of(x[index])
        if exponent == SPECIAL and fraction == 0:
            y[index] = limits[0] if sign else limits[1]
            continue
        real = Fraction(0) if exponent == SPECIAL else finite_value(sign, exponent, fraction)
        y[index] = clamp(zy + round_half_away(real * k / Fraction(2) ** e), limits)
    return y


def by_division(x: np.ndarray, divisor: np.float32, limits: tuple[int, int]) -> np.ndarray:
    """The quotient as the nearest float32, ties to even, then as an integer, ties away."""
    scale = finite_value(*fields_of(divisor))
    y = filled(x.shape)
    for index in positions(x.shape):
        sign, exponent, fraction = fields_of(x[index])
        if exponent == SPECIAL:
            y[index] = 0 if fraction else limits[0] if sign else limits[1]
            continue
        quotient = finite_value(sign, exponent, fraction) / scale
        y[index] = clamp(round_half_away(nearest_float(quotient)), limits)
    return y


def nearest_float(value: Fraction) -> Fraction:
    """`value` to 24 significant bits, ties to even; numbers far below 1 as they are."""
    if abs(value) < Fraction(1, 4):
        return value
    unit = Fraction(2) ** -23
    while abs(value) / unit >= 2**24:
        unit *= 2
    while abs(value) / unit < 2**23:
        unit /= 2
    return round(value / unit) * unit


def by_thresholds(x: np.ndarray, steps: list[float], limits: tuple[int, int]) -> np.ndarray:
    assert len(steps) == 255
    y = filled(x.shape)
    for index in positions(x.shape):
        value = float(x[index])
        reached = sum(step <= (0.0 if value != value else value) for step in steps)
        y[index] = clamp(reached - 128, limits)
    return y
