"""Elementary functions that imported float graphs use: exactly, in NumPy and in torch.

Where a function has no finite value, an integer table needs one all the same, and so do ranges and
gradients: there `sqrt` takes its argument as 0, `log` and `rsqrt` as 2^-20 (`LEAST`). `float64` is
IEEE's: NaN and infinities, as every runtime computes them.
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
"""The smallest argument of `log` and `rsqrt` in a table."""
PI = Fraction(Decimal("3.14159265358979323846264338327950288419716939937510582097494459"))


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


ELEMENTARY: dict[str, Callable[[Fraction], Fraction]] = {
    "abs": abs,
    "ceil": lambda x: Fraction(math.ceil(x)),
    "cos": _cos,
    "floor": lambda x: Fraction(math.floor(x)),
    "log": _log,
    "neg": lambda x: -x,
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
    "floor": np.floor,
    "log": np.log,
    "neg": np.negative,
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

    least = {"sqrt": 0.0, "log": float(LEAST), "rsqrt": float(LEAST)}.get(name)
    result: Tensor = getattr(torch, name)(x if least is None else x.clamp(min=least))
    return result
