"""The rounding rules, as statements about exact rational numbers.

Nothing here shifts: each rule is what `docs/numerics.md` says about the real quotient, evaluated
with `fractions.Fraction`. An implementation that shifts has to agree with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


def int32(v: int) -> int:
    """`v` itself; fails when a 32-bit register could not hold it."""
    assert INT32_MIN <= v <= INT32_MAX, f"{v} leaves int32"
    return v


def int64(v: int) -> int:
    """`v` itself; fails when a 64-bit register could not hold it."""
    assert INT64_MIN <= v <= INT64_MAX, f"{v} leaves int64"
    return v


def round_half_up(r: Fraction) -> int:
    """The nearest integer, ties towards +infinity."""
    return math.floor(r + Fraction(1, 2))


def round_half_away(r: Fraction) -> int:
    """The nearest integer, ties away from zero."""
    nearest = math.floor(abs(r) + Fraction(1, 2))
    return -nearest if r < 0 else nearest


def half_up(v: int, k: int, e: int) -> int:
    """`v * k * 2^-e` to the nearest integer, ties towards +infinity; the product fits 64 bits."""
    assert 0 <= k < 2**31 and 0 <= e <= 62, f"half_up(k={k}, e={e})"
    product = int64(v * k)
    int64(product + 2**e // 2)
    return round_half_up(Fraction(product, 2**e))


def tflite_double(v: int, m: int, s: int) -> int:
    """`v * m * 2^(s - 31)` rounded twice: after `2^-31`, ties up, then the right shift, ties away.

    The left-shifted `v` is the operand of a 32-bit multiplication and has to fit int32.
    """
    assert 0 <= m < 2**31 and s <= 30, f"tflite_double(m={m}, s={s})"
    if s < -31:
        m, s = 0, 0
    shifted = int32(v * 2 ** max(s, 0))
    t = int32(round_half_up(Fraction(shifted * m, 2**31)))
    return round_half_away(Fraction(t, 2 ** max(-s, 0)))


def away(v: int, n: int) -> int:
    """The mean `v / n` to the nearest integer, ties away from zero."""
    assert n >= 1
    return round_half_away(Fraction(v, n))


def trunc(v: int, n: int) -> int:
    """The mean `v / n` without its fraction (towards zero)."""
    assert n >= 1
    return math.trunc(Fraction(v, n))


def mean_half_up(v: int, n: int) -> int:
    """The mean `v / n` to the nearest integer, ties towards +infinity."""
    assert n >= 1
    return round_half_up(Fraction(v, n))


MEANS = {"away": away, "trunc": trunc, "half_up": mean_half_up}


def of_channel(entries: list[int], channel: int) -> int:
    """One entry serves all channels, otherwise each channel has its own."""
    return entries[0] if len(entries) == 1 else entries[channel]


def is_wide(limits: tuple[int, int], rule: str) -> bool:
    """Whether sums have 64 bits: `half_up` of 16-bit codes, which a clamp outside int8 shows."""
    return rule == "half_up" and not (limits[0] >= -128 and limits[1] <= 127)


def rescale(
    v: int, rule: str, mult: list[int] | None, shift: list[int], channel: int, wide: bool = False
) -> int:
    """`R(v)` of the text: the rule `round` with `mult[c]` and `shift[c]`.

    Without `mult`, half_up has k = 1. tflite_double has no meaning without one.
    """
    (int64 if wide else int32)(v)
    s = of_channel(shift, channel)
    if rule == "half_up":
        return half_up(v, 1 if mult is None else of_channel(mult, channel), s)
    assert rule == "tflite_double", f"no rounding rule {rule!r}"
    assert mult is not None, "tflite_double needs a multiplier"
    return tflite_double(v, of_channel(mult, channel), s)


def accumulate(bias: int, terms: Iterable[int], wide: bool = False) -> int:
    """`bias + sum(terms)`; fails unless every partial sum in any order fits int32, or int64."""
    total, magnitude = bias, abs(bias)
    for term in terms:
        total += term
        magnitude += abs(term)
    bits = 64 if wide else 32
    assert magnitude < 2 ** (bits - 1), f"partial sums may reach {magnitude}, outside int{bits}"
    return total


def clamp(v: int, limits: tuple[int, int]) -> int:
    """`min(max(v, low), high)`."""
    low, high = limits
    return min(max(v, low), high)
