"""Numbers for samples: informative ones, because a saturated or constant output hides every
fault.
"""

from __future__ import annotations

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.fixed import Rounding, multiplier_half_up, multiplier_q31
from isobit.core.types import Affine, AnyArray, Encoding, IntArray, Pow2, Raw, TensorType

Rng = np.random.Generator


def codes(rng: Rng, shape: tuple[int, ...], low: int = -128, high: int = 127) -> IntArray:
    """Uniform integers in `[low, high]`."""
    return rng.integers(low, high + 1, size=shape, dtype=np.int64)


def kind(shape: tuple[int, ...], encoding: Encoding, dtype: DType = DType.S8) -> TensorType:
    """A tensor type."""
    return TensorType(shape, dtype, encoding)


def raw32(size: int) -> TensorType:
    """The type of a multiplier, shift or bias constant."""
    return TensorType((size,), DType.S32, Raw())


def numbers(
    rng: Rng, spread: float, channels: int, rounding: Rounding | None
) -> tuple[AnyArray | None, AnyArray]:
    """Return (mult, shift) that bring sums of standard deviation `spread` to about 40 codes.

    `rounding=None`: a plain shift. Odd multipliers, so that low bits matter.
    """
    if rounding is None:
        return None, np.full(1, max(0, round(np.log2(max(spread, 1) / 40))), dtype=np.int64)
    real = 40.0 / max(spread, 1.0) * rng.uniform(0.7, 1.4, size=channels)
    if rounding is Rounding.HALF_UP:
        found = [multiplier_half_up(min(float(r), 100.0)) for r in real]
    else:
        found = [multiplier_q31(min(float(r), 100.0)) for r in real]
    mult = np.asarray([m | 1 for m, _ in found], dtype=np.int64)
    return mult, np.asarray([s for _, s in found], dtype=np.int64)


def encodings(rounding: Rounding | None, rng: Rng) -> tuple[Encoding, Encoding, Encoding]:
    """Encodings of x, w and y: Pow2 for a plain shift, else Affine with odd zero points."""
    if rounding is None:
        return Pow2((6,)), Pow2((7,)), Pow2((5,))
    zero_x, zero_y = (int(z) for z in rng.integers(-20, 21, size=2))
    return Affine((0.05,), zero_x), Affine((0.01,), 0), Affine((0.1,), zero_y)
