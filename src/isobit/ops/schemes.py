"""From ranges to encodings: the two native number systems (docs/numerics.md).

Steps are chosen in float64 from frozen ranges; training and export read the same objects, so there
is one choice.
"""

from __future__ import annotations

import math
from enum import Enum

import numpy as np

from isobit.core.types import Affine, Encoding, FloatArray, Pow2, scale_of


class Scheme(Enum):
    """A number system for native models (docs/numerics.md)."""

    POW2 = "pow2"
    """Symmetric, steps that are powers of two; requantisation is one rounding shift."""
    AFFINE = "affine"
    """Asymmetric activations, symmetric per-channel weights; requantisation is multiply and shift.
    """


GRID = 65536.0
COARSEST_ON_GRID = 32
"""Multipliers k * 2^-16 with k below this are too coarse (over 3 %); such layers use 15-bit
multipliers.
"""

LEAST_SPAN = 1e-9
"""affine: a range no wider than this is taken for one in which nothing flows."""
WIDER = 256.0
"""How many steps of 16-bit codes one of 8-bit codes is."""
COARSEST_FRAC, FINEST_FRAC = -16, 24
"""pow2: the fracs that ranges lead to."""


def activation(scheme: Scheme, low: float, high: float, finest: int | None = None) -> Encoding:
    """Return the encoding of an activation in `[low, high]`, widened to hold 0.

    pow2: the largest frac with `max|r| * 2^frac <= 127`, at most `finest` (so that no shift is
    negative). affine: 255 steps, the zero point an integer (nudged as in Jacob et al. 2018, section
    3).
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if scheme is Scheme.POW2:
        frac = fraction_bits(max(-low, high))
        return Pow2((frac if finest is None else min(frac, finest),))
    # Nothing ever flowed (a dead ReLU): any step is right, but a tiny one makes multipliers too
    # large.
    span = high - low if high - low > LEAST_SPAN else 1.0
    scale = span / 255.0
    zero = math.floor(-128.0 - low / scale + 0.5)
    return Affine((scale,), max(-128, min(127, zero)))


def wide_activation(scheme: Scheme, low: float, high: float) -> Encoding:
    """Return the encoding of 16-bit codes for an activation in `[low, high]`; zero point 0.

    pow2: the largest frac with `max|r| * 2^frac <= 32640`. affine: symmetric as TFLite's int16,
    32767 steps up to the largest magnitude; of 16 bits the unused half of one is no loss.
    """
    largest = max(-low, high)
    if scheme is Scheme.POW2:
        return Pow2((fraction_bits(largest / WIDER),))
    return Affine(((largest if largest > LEAST_SPAN else 1.0) / 32767.0,), 0)


def usable_range(scheme: Scheme, low: float, high: float) -> bool:
    """Return whether codes can tell values of `[low, high]` apart, in finite reals.

    A range of nothing but 0 counts: nothing flows there, and nothing is lost. Otherwise affine: a
    span from `LEAST_SPAN` on. pow2: a largest magnitude that does not round to 0 at the finest frac
    and does not clip at the coarsest.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return True
    if scheme is Scheme.AFFINE:
        return LEAST_SPAN < high - low < math.inf
    return 0.5 * 2.0**-FINEST_FRAC <= max(-low, high) <= 128.0 * 2.0**-COARSEST_FRAC


def fraction_bits(largest: float) -> int:
    """Return the largest frac in -16..24 with `largest * 2^frac <= 127.5`, so that nothing clips by
    more than rounding.
    """
    if largest <= 0:
        return 7
    return max(COARSEST_FRAC, min(FINEST_FRAC, math.floor(math.log2(127.5 / largest))))


def pixel_step(scheme: Scheme, low: float, high: float, log2_scale: int) -> Encoding:
    """Return the encoding of standardised pixels: a power-of-two step that never splits a pixel
    level.

    Pixels are integers `2^-log2_scale` apart; the step is that or a coarser power of two.
    """
    frac = min(
        fraction_bits((high - low) / 2 if scheme is Scheme.AFFINE else max(-low, high)), log2_scale
    )
    if scheme is Scheme.POW2:
        return Pow2((frac,))
    step = 2.0**-frac
    zero = math.floor(-128.0 - low / step + 0.5)
    return Affine((step,), max(-128, min(127, zero)))


def weights(scheme: Scheme, largest: FloatArray, x: Encoding, y: Encoding | None) -> Encoding:
    """Return the encoding of weights whose magnitudes per output channel are `largest`; axis 0.

    pow2: one frac for all. affine: 127 steps per channel; where the output encoding `y` is known,
    steps are rounded up so that `Sx*Sw/Sy` lies on the 2^-16 grid exactly and weights never clip.
    Without it (not decided yet, or a batch norm will enter the multiplier) they stay as they are.
    """
    if scheme is Scheme.POW2:
        return Pow2((fraction_bits(float(largest.max(initial=0.0))),))
    step = np.maximum(largest, 1e-8) / 127.0
    if y is not None:
        ratio = float(scale_of(x)[0]) / float(scale_of(y)[0])
        k = np.ceil(step * ratio * GRID)
        if k.min() >= COARSEST_ON_GRID and k.max() < 1 << 24:
            step = k / GRID / ratio
    return Affine(tuple(float(s) for s in step), 0, 0)
