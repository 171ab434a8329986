"""The requantisation that equals a given function of int8 codes, if there is one.

Every code but the ends says between which reals the multiplier lies: `T - Zy - 1/2 <= M (q - Zx) <
T - Zy + 1/2`. The middle of the intersection of these intervals, and the ratio of the two scales,
are the multipliers tried. (Where a rule rounds twice, the intersection may be empty; its middle is
near the multiplier still.) One counts only if `Requantize.integer` gives all 256 codes with it, so
what is found is exact; a requantisation that has no multiplier of 15 or 31 bits near may be missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from isobit.core import fixed
from isobit.core.errors import IsobitError
from isobit.core.fixed import Rounding
from isobit.core.types import Affine, AnyArray, IntArray, Pow2, TensorType, scale_of
from isobit.ops.base import NodeTypes
from isobit.ops.requantize.op import Requantize, RequantizeAttrs, RequantizeInputs
from isobit.ops.sampling import raw32
from isobit.ops.schemes import Scheme
from isobit.ops.weighted import SATURATING

Found = tuple[RequantizeAttrs, dict[str, AnyArray]]


def equal_to(table: IntArray, x: TensorType, y: TensorType) -> Found | None:
    """Return attributes and constants (int32 [1]) of a requantisation with `table`, [256] by code
    -128..127, as its result; `None` where none was found. x, y: s8.
    """
    codes = np.arange(-128, 128, dtype=np.int64)
    low, high = int(table.min()), int(table.max())
    for rule, factors in _candidates(table, x, y):
        for clamp in ((-128, 127), (low, high)):
            attrs = RequantizeAttrs(clamp, rule)
            types: RequantizeInputs[TensorType] = RequantizeInputs(
                x.with_shape((1, 1)), **dict.fromkeys(factors, raw32(1))
            )
            q = NodeTypes(types, (y.with_shape((1, 1)),))
            exact = {name: data.astype(np.int64) for name, data in factors.items()}
            inputs: RequantizeInputs[IntArray] = RequantizeInputs(codes[:, None], **exact)
            if Requantize.prove(attrs, q, inputs, "requantize"):
                continue
            if np.array_equal(Requantize.integer(attrs, q, inputs)[:, 0], table):
                return attrs, factors
    return None


def _candidates(
    table: IntArray, x: TensorType, y: TensorType
) -> Iterator[tuple[Rounding, dict[str, AnyArray]]]:
    """Yield rules and factors that may do, a plain shift first."""
    scheme = Scheme.POW2 if isinstance(x.encoding, Pow2) else Scheme.AFFINE
    if type(x.encoding) is type(y.encoding) and isinstance(x.encoding, Affine | Pow2):
        q = NodeTypes(RequantizeInputs(x), (y,))
        with suppress(IsobitError):  # the scales may have no factor of this scheme
            yield Rounding.HALF_UP, dict(Requantize.derive(RequantizeAttrs(), q, scheme, None)[1])
    ratio = float(scale_of(x.encoding)[0] / scale_of(y.encoding)[0])
    for real in (ratio, _middle(table - y.zero, x.zero)):
        if not 0 < real < SATURATING:
            continue
        for rule, multiplier in (
            (Rounding.HALF_UP, fixed.multiplier_half_up),
            (Rounding.TFLITE_DOUBLE, fixed.multiplier_q31),
        ):
            pair = zip(("mult", "shift"), multiplier(real), strict=True)
            yield rule, {name: np.asarray([number], dtype=np.int32) for name, number in pair}


def _middle(centred: IntArray, zero: int) -> float:
    """Return the middle of the multipliers that all codes allow."""
    d = np.arange(-128, 128, dtype=np.float64) - zero
    least, most = centred - 0.5, centred + 0.5
    # What stands at an end may have been beyond it.
    least = np.where(centred == centred.min(), -np.inf, least)
    most = np.where(centred == centred.max(), np.inf, most)
    right, left = d > 0, d < 0
    low = max([0.0, *(least[right] / d[right]), *(most[left] / d[left])])
    high = min([SATURATING, *(most[right] / d[right]), *(least[left] / d[left])])
    return float(low + high) / 2
