"""Elementary functions that imported float graphs use: exactly, in NumPy and in torch.

Where a function has no finite value, an integer table needs one all the same, and so do ranges and
gradients: there `sqrt` takes its argument as 0, `log` and `rsqrt` as 2^-20 (`LEAST`), and
`reciprocal` as that of the argument's sign. `float64` is IEEE's: NaN and infinities, as every
runtime computes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from isobit.core.types import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

_CONTEXT = Context(prec=60)
LEAST = Fraction(1, 1 << 20)
"""The smallest argument of `log` and `rsqrt` in a table, and magnitude of `reciprocal`'s."""
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
PI = Fraction(_PI)
TWO_OVER_ROOT_PI = _CONTEXT.divide(Decimal(2), _CONTEXT.sqrt(_PI))
ERF_ONE = 10
"""1 - erf(10) < 2^-148."""


def _decimal(x: Fraction) -> Decimal:
    return _CONTEXT.divide(Decimal(x.numerator), Decimal(x.denominator))


def _sin(x: Fraction) -> Fraction:
    """The Taylor series after reduction to [-pi, pi]; terms fall from the fourth on."""
    reduced = x - 2 * PI * round(x / (2 * PI))
    term = total = _decimal(reduced)
    square = _CONTEXT.multiply(term, term)
    n = 1
    while abs(term) > Decimal(10) ** -60:
        term = _CONTEXT.divide(_CONTEXT.multiply(-square, term), Decimal((n + 1) * (n + 2)))
        total = _CONTEXT.add(total, term)
        n += 2
    return Fraction(total)


def _cos(x: Fraction) -> Fraction:
    return _sin(x + PI / 2)


def _log(x: Fraction) -> Fraction:
    return Fraction(_CONTEXT.ln(_decimal(max(x, LEAST))))


def _sqrt(x: Fraction) -> Fraction:
    return Fraction(_CONTEXT.sqrt(_decimal(max(x, Fraction(0)))))


def _rsqrt(x: Fraction) -> Fraction:
    return 1 / _sqrt(max(x, LEAST))


def erf(z: Fraction) -> Fraction:
    """`2/sqrt(pi) * exp(-z^2) * sum 2^n z^(2n+1) / (2n+1)!!`: one sign, so no digit cancels."""
    if abs(z) > ERF_ONE:
        return Fraction(1 if z > 0 else -1)
    x = _decimal(z)
    square = _CONTEXT.multiply(x, x)
    term = total = x
    n = 0
    while abs(term) > abs(total) * Decimal(10) ** -60:
        n += 1
        term = _CONTEXT.divide(_CONTEXT.multiply(term, 2 * square), Decimal(2 * n + 1))
        total = _CONTEXT.add(total, term)
    factor = _CONTEXT.multiply(_CONTEXT.exp(-square), TWO_OVER_ROOT_PI)
    return Fraction(_CONTEXT.multiply(factor, total))


def _reciprocal(x: Fraction) -> Fraction:
    return 1 / (max(x, LEAST) if x >= 0 else min(x, -LEAST))


ELEMENTARY: dict[str, Callable[[Fraction], Fraction]] = {
    "abs": abs,
    "ceil": lambda x: Fraction(math.ceil(x)),
    "cos": _cos,
    "erf": erf,
    "floor": lambda x: Fraction(math.floor(x)),
    "log": _log,
    "neg": lambda x: -x,
    "reciprocal": _reciprocal,
    "round": lambda x: Fraction(round(x)),
    "rsqrt": _rsqrt,
    "sin": _sin,
    "sqrt": _sqrt,
    "square": lambda x: x * x,
}
"""Every function by its name, which is torch's; `round` takes ties to the even number."""

_NUMPY: dict[str, Callable[[FloatArray], FloatArray]] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "cos": np.cos,
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
    "floor": np.floor,
    "log": np.log,
    "neg": np.negative,
    "reciprocal": np.reciprocal,
    "round": np.round,
    "rsqrt": lambda x: 1.0 / np.sqrt(x),
    "sin": np.sin,
    "sqrt": np.sqrt,
    "square": np.square,
}


def float64(name: str, x: FloatArray) -> FloatArray:
    """Return the function as libm computes it on this machine; NaN where it has no value."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return _NUMPY[name](x)


def smooth(name: str, x: Tensor) -> Tensor:
    """Return the function in torch, differentiable, within its domain as tables are."""
    import torch

    if name == "reciprocal":
        size = x.abs().clamp(min=float(LEAST))
        return torch.reciprocal(torch.where(x < 0, -size, size))
    least = {"sqrt": 0.0, "log": float(LEAST), "rsqrt": float(LEAST)}.get(name)
    result: Tensor = getattr(torch, name)(x if least is None else x.clamp(min=least))
    return result
