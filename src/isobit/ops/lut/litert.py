"""Tables of LiteRT's reference kernels where they differ from TFLM's: float32, rounded once.

Functions as in `ops/lut/tflm.py`: int64 [256], the results for the codes -128..127. exp, tanh
and GELU are the float32 nearest to them. Source: LiteRT `kernels/internal/reference/lut.h`
(LUTPopulate), `kernels/activations.cc`, `kernels/internal/reference/concatenation.h`.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from isobit.core import fixed
from isobit.core.types import AnyArray, IntArray
from isobit.ops.dequantize.op import nearest_float32
from isobit.ops.lut.functions import EXACT, Parameters
from isobit.ops.lut.tflm import Quantised

ONE = np.float32(1.0)


def logistic(q: Quantised) -> IntArray:
    """The logistic function, `1 / (1 + exp(-x))`."""
    return _populated(q, lambda x: ONE / (ONE + _nearest("exp", -x)))


def tanh(q: Quantised) -> IntArray:
    """The hyperbolic tangent."""
    return _populated(q, lambda x: _nearest("tanh", x))


def gelu(q: Quantised, name: str) -> IntArray:
    """GELU; name: `gelu`, or `gelu_tanh` for the approximation."""
    return _populated(q, lambda x: _nearest(name, x))


def moved(q: Quantised) -> IntArray:
    """The same reals in another encoding, as CONCATENATION of uint8 rescales: zero points count as
    uint8's, from 0.
    """
    inverse = ONE / np.float32(q.sy)
    scale = np.float32(q.sx) * inverse
    bias = np.float32(-(q.zx + 128)) * scale
    codes = np.arange(256, dtype=np.float32)
    return q.codes(_rounded(codes * scale + bias))


def _populated(q: Quantised, function: Callable[[AnyArray], AnyArray]) -> IntArray:
    inverse = ONE / np.float32(q.sy)
    x = np.float32(q.sx) * q.centred.astype(np.float32)
    return q.codes(_rounded(function(x) * inverse))


def _nearest(name: str, x: AnyArray) -> AnyArray:
    found = [nearest_float32(EXACT[name](Fraction(float(v)), Parameters())) for v in x]
    with np.errstate(over="ignore"):  # exp beyond float32 is infinity there too
        return np.asarray(found, dtype=np.float32)


def _rounded(values: AnyArray) -> IntArray:
    limited = np.clip(values, -(2.0**30), 2.0**30)
    return np.asarray([fixed.round_half_away(float(v)) for v in limited], dtype=np.int64)
