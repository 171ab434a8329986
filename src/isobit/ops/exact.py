"""Integer multipliers for an exact real scale: equal for every accumulator, or proven how unequal.

A format such as ONNX defines a quantised operator by real numbers: the result is
`clamp(Zy + round_half_even(M * (acc + beta)))` with rational M and beta. Here it is computed as
`clamp(Zy + half_up(acc + b, k, e))`. Both are step functions of the integer acc that rise through
at most 255 codes, so they are equal exactly if all their thresholds in the accumulator's range are.
Everything is computed in Python's integers and `Fraction`; no float decides.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from isobit.core.fixed import half_up
from isobit.core.types import IntArray

LARGEST = 1 << 31
"""Multipliers of `half_up` are below it."""
MOST_BITS = 62
"""The largest shift of `half_up`."""


@dataclass(frozen=True, slots=True)
class Factor:
    """`half_up(acc + offset, mult, shift)` and by how many codes it may differ."""

    mult: int
    shift: int
    offset: int
    lsb: int


@dataclass(frozen=True, slots=True)
class SumFactor:
    """`half_up(mult_a * a + mult_b * b, 1, shift)` and by how many codes it may differ."""

    mult_a: int
    mult_b: int
    shift: int
    lsb: int


def half_even(value: Fraction) -> int:
    """Return the nearest integer, ties to the even one: ONNX's rounding."""
    return round(value)


def match(real: Fraction, beta: Fraction, codes: tuple[int, int], zero: int, bound: int) -> Factor:
    """Return the factor that agrees with `real * (acc + beta)` for all |acc| <= bound.

    codes: the output's clamp, zero: its zero point. Where no factor agrees everywhere (a tie that
    half_even rounds down, or a bias between two integers), the nearest one is returned with its
    largest difference, found at the thresholds of both.
    """
    steps = range(codes[0] - zero + 1, codes[1] - zero + 1)
    if not real or not steps:
        # Constant: every sum gives the code of 0, or there is only one code.
        return Factor(0, 0, 0, 0)
    aim = [_first(real, beta, n) for n in steps]
    best: Factor | None = None
    for offset in sorted({math.floor(beta), math.ceil(beta)}, key=lambda v: abs(v - beta)):
        inside = [_clipped(t + offset, bound, offset) for t in aim]
        for mult, shift in _candidates(real, inside, steps, bound, offset):
            ours = [_clipped(_half_up_first(mult, shift, n), bound, offset) for n in steps]
            lsb = largest_gap(inside, ours)
            if best is None or lsb < best.lsb:
                best = Factor(mult, shift, offset, lsb)
            if lsb == 0:
                return best
    assert best is not None, "the nearest multiplier is always a candidate"
    return best


def _first(real: Fraction, beta: Fraction, n: int) -> int:
    """Return the smallest acc with `round_half_even(real * (acc + beta)) >= n`."""
    edge = Fraction(2 * n - 1, 2) / real - beta
    first = math.ceil(edge)
    # On a tie half_even chooses the even neighbour: n itself only if n is even.
    return first + 1 if first == edge and n % 2 else first


def _half_up_first(mult: int, shift: int, n: int) -> int:
    """Return the smallest v with `half_up(v, mult, shift) >= n`."""
    if shift == 0:
        return -((-n) // mult)
    return -((-(2 * n - 1) << (shift - 1)) // mult)


def _clipped(first: int, bound: int, offset: int) -> int:
    return min(max(first, offset - bound), offset + bound + 1)


def nearest(real: Fraction) -> tuple[int, int]:
    """Return the multiplier below 2^31 with most bits, and its shift."""
    shift = min(max(31 - _bits(real), 0), MOST_BITS)
    mult = round(real * (1 << shift))
    if mult >= LARGEST and shift:
        mult, shift = round(real * (1 << shift - 1)), shift - 1
    return min(mult, LARGEST - 1), shift


def _bits(real: Fraction) -> int:
    """Return e with 2^(e-1) <= real < 2^e."""
    e = real.numerator.bit_length() - real.denominator.bit_length()
    return e + 1 if real >= _power(e) else e


def _power(e: int) -> Fraction:
    return Fraction(1 << e) if e >= 0 else Fraction(1, 1 << -e)


def _candidates(
    real: Fraction, aim: Sequence[int], steps: range, bound: int, offset: int
) -> list[tuple[int, int]]:
    """Return multipliers to try: the nearest, then one inside the interval that all thresholds
    leave open.
    """
    mult, shift = nearest(real)
    if not mult:
        return [(1, MOST_BITS)]
    found = [(mult, shift)]
    low, high = Fraction(0), Fraction(LARGEST)
    for n, t in zip(steps, aim, strict=True):
        r = Fraction(2 * n - 1, 2)
        if t <= offset + bound:  # t * m >= r
            if r > 0 and t > 0:
                low = max(low, r / t)
            elif t < 0:
                high = min(high, r / t)
        if t - 1 >= offset - bound:  # (t - 1) * m < r
            if r > 0 and t > 1:
                high = min(high, r / (t - 1))
            elif r < 0 and t < 1:
                low = max(low, r / (t - 1))
    for value in (low, (low + high) / 2, high):
        if 0 < value < LARGEST:
            own, places = nearest(value)
            found.extend((own + step, places) for step in (0, 1, -1) if 0 < own + step < LARGEST)
    return found


def largest_gap(aim: Sequence[int], ours: Sequence[int]) -> int:
    """Return the largest difference of two step functions, given by their thresholds."""
    gap = 0
    for at in {*aim, *ours}:
        gap = max(gap, abs(bisect_right(aim, at) - bisect_right(ours, at)))
    return gap


def match_sum(
    real_a: Fraction,
    real_b: Fraction,
    a: IntArray,
    b: IntArray,
    codes: tuple[int, int],
    zero: int,
    reach: tuple[int, int] = (255, 255),
) -> SumFactor:
    """Return factors for `clamp(Zy + round_half_even(real_a * a + real_b * b))`, compared on every
    pair of centred operands `a` and `b`.

    real_b may be negative, for a difference; `mult_b` then is the factor of its amount. Of all
    shifts whose sums fit int32 for operands up to `reach` the one with the smallest largest
    difference is taken.
    """
    low, high = codes[0] - zero, codes[1] - zero
    common = math.lcm(real_a.denominator, real_b.denominator)
    num_a, num_b = int(real_a * common), int(real_b * common)
    total = np.add.outer(a.astype(object) * num_a, b.astype(object) * num_b)
    # floor(x + 1/2), less one on a tie whose upper neighbour is odd
    upper, rest = (2 * total + common) // (2 * common), (2 * total + common) % (2 * common)
    wide = upper - ((rest == 0) & (upper % 2 != 0))
    want = np.clip(wide, low - 1, high + 1).astype(np.int64)
    sign = -1 if real_b < 0 else 1
    best: SumFactor | None = None
    for shift in range(30, -1, -1):
        ka, kb = (round(abs(real) * (1 << shift)) for real in (real_a, real_b))
        if (ka + 1) * reach[0] + (kb + 1) * reach[1] + (1 << shift >> 1) >= LARGEST:
            continue
        for step_a, step_b in _STEPS:
            mults = max(ka + step_a, 0), max(kb + step_b, 0)
            sums = np.add.outer(a * mults[0], sign * b * mults[1])
            ours = np.clip(half_up(sums, 1, shift), low, high)
            lsb = int(np.abs(ours - np.clip(want, low, high)).max())
            if best is None or lsb < best.lsb:
                best = SumFactor(*mults, shift, lsb)
            if lsb == 0:
                return best
        if shift and ka + kb < 64:
            break
    assert best is not None, "shift 0 always fits operands of 8 bits"
    return best


_STEPS = tuple((i, j) for i in (0, 1, -1) for j in (0, 1, -1))
