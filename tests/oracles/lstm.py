"""`lstm`: x [N,B,T,I] (time_major: [N,T,B,I]) through gates input, forget, cell, output.

`a[k] = sat16(sat16(R_k(b + w (x - Zx))) + sat16(R_4+k(r (h - Zh))))`, k the gate;
`c = cell_clamp(sat16(R_8(f c)) + sat16(R_9(i g)))`, `h = sat8(Zh + R_10(tanh(c) o))`, with
`i, f, o = sigmoid(a)` and `g = tanh(a)`. R_k is tflite_double with mult[k], shift[k]. sigmoid and
tanh interpolate a table of sigmoid(i/24), raised against the chord's error. Returns y, h and c.
Defaults: time_major false, cell_clamp (-32768,32767), cell_frac 12.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from .arrays import filled, integers
from .rounding import accumulate, clamp, int32, rescale

INT8, INT16 = (-128, 127), (-32768, 32767)


def entry(i: int) -> int:
    """`65536 (s + h^2/16 |s''|)`, s = sigmoid(i h), h = 1/24."""
    s = 1 / (1 + math.exp(-i / 24))
    bend = s * (1 - s) * (2 * s - 1)
    return round(65536 * (s + bend / 24**2 / 16))


TABLE = [*(entry(i) for i in range(255)), 65535]


def oracle(inputs, attrs, zeros) -> list[np.ndarray]:
    x, w, r = inputs["x"], integers(inputs["w"]), integers(inputs["r"])
    b, mult, shift = (integers(inputs[field]) for field in ("b", "mult", "shift"))
    first, ends = attrs.get("time_major", False), attrs.get("cell_clamp", INT16)
    frac = attrs.get("cell_frac", 12)
    zx, zh = zeros.get("x", 0), zeros.get("y", 0)
    size = len(r[0])
    if inputs.get("h") is None:  # a sequence of its own starts from real zeros
        h = filled((x.shape[0], x.shape[2 if first else 1], size))
        c = filled(h.shape)
        h[...] = zh
    else:
        h, c = inputs["h"].copy(), inputs["c"].copy()
    y = filled((*x.shape[:3], size))

    def scaled(value, k) -> int:
        return rescale(value, "tflite_double", mult, shift, k)

    for n in range(x.shape[0]):
        for row in range(h.shape[1]):
            for step in range(x.shape[1 if first else 2]):
                at = (n, step, row) if first else (n, row, step)
                before = [int(v) - zh for v in h[n, row]]
                now = [int(v) - zx for v in x[at]]
                for u in range(size):
                    gate = []
                    for k in range(4):
                        line = k * size + u
                        fresh = accumulate(
                            b[line], (p * q for p, q in zip(w[line], now, strict=True))
                        )
                        kept = accumulate(0, (p * q for p, q in zip(r[line], before, strict=True)))
                        parts = clamp(scaled(fresh, k), INT16), clamp(scaled(kept, 4 + k), INT16)
                        gate.append(clamp(sum(parts), INT16))
                    i, f, o = (sigmoid(gate[k]) for k in (0, 1, 3))
                    g = tanh(gate[2], 12)
                    old = clamp(scaled(int32(f * int(c[n, row, u])), 8), INT16)
                    cell = clamp(old + clamp(scaled(int32(i * g), 9), INT16), ends)
                    c[n, row, u] = cell
                    top = scaled(int32(tanh(cell, frac) * o), 10)
                    h[n, row, u] = y[(*at, u)] = clamp(zh + top, INT8)
    return [y, h, c]


def interpolated(place: Fraction, whole: int) -> Fraction:
    """The table at a place between its entries; `whole` from its last entry on."""
    low = math.floor(place)
    if low >= 255:
        return Fraction(whole)
    return TABLE[low] + (place - low) * (TABLE[low + 1] - TABLE[low])


def sigmoid(code: int) -> int:
    """At scales 2^-12 and 2^-15: half of the table to nearest; mirrored below zero."""
    value = interpolated(Fraction(3 * abs(code), 2**9), 2 * 0x7FFF) / 2
    return mirrored(value, code < 0, 2**15)


def tanh(code: int, frac: int) -> int:
    """At scales 2^-frac and 2^-15: the table at twice the argument, less 2^15; mirrored below."""
    scaled = math.floor(3 * code * Fraction(2) ** (12 - frac) + Fraction(1, 2))
    value = interpolated(Fraction(abs(scaled), 2**8), 0xFFFF) - 2**15
    return mirrored(value, scaled < 0, 0)


def mirrored(value: Fraction, negative: bool, total: int) -> int:
    """To nearest, ties up; `total - value` with ties down where the argument is negative."""
    nearest = math.floor(value + Fraction(1, 2))
    return total - nearest if negative else nearest
