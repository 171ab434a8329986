"""Functions of one number as bounds see them: value, largest slope, smallest value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Range = tuple[float, float]
"""Smallest and largest real."""
Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """`steepest`: of |f(a) - f(b)| / |a - b|. `least`: of a function that is not monotone but falls
    from 0 to it below 0, rises from there, and is 0 at 0; 0 means monotone.
    """

    value: Callable[[float], float]
    steepest: float
    least: float = 0.0

    @property
    def monotone(self) -> bool:
        """Whether it never falls."""
        return not self.least


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x > -700 else 0.0


def _silu(x: float) -> float:
    return x * _sigmoid(x) if x > -math.inf else 0.0


def _hardsigmoid(x: float) -> float:
    return min(max(x / 6 + 0.5, 0.0), 1.0)


def _hardswish(x: float) -> float:
    return x * _hardsigmoid(x) if x > -math.inf else 0.0


def _gelu(x: float) -> float:
    return 0.5 * x * (1.0 + math.erf(x / math.sqrt(2.0))) if x > -math.inf else 0.0


def _gelu_tanh(x: float) -> float:
    if x == -math.inf:
        return 0.0
    return 0.5 * x * (1.0 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _mish(x: float) -> float:
    return x * math.tanh(_softplus(x)) if x > -math.inf else 0.0


def _fixed(function: Function) -> Callable[[Options], Function]:
    return lambda options: function


def _leaky(options: Options) -> Function:
    slope = float(options.get("negative_slope", 0.01))
    if slope < 0:
        return Function(value=abs, steepest=math.inf, least=-math.inf)
    return Function(
        value=lambda x: x if x > 0 else slope * x if slope else 0.0, steepest=max(slope, 1.0)
    )


def _gelu_of(options: Options) -> Function:
    value = _gelu if options.get("approximate", "none") == "none" else _gelu_tanh
    return Function(value=value, steepest=1.13, least=-0.171)


def _elu(options: Options) -> Function:
    alpha = float(options.get("alpha", 1.0))
    if alpha < 0:
        return Function(value=abs, steepest=math.inf, least=-math.inf)
    return Function(value=lambda x: x if x > 0 else alpha * math.expm1(x), steepest=max(alpha, 1.0))


FUNCTIONS: dict[str, Callable[[Options], Function]] = {
    "elu": _elu,
    "gelu": _gelu_of,
    "hardsigmoid": _fixed(Function(value=_hardsigmoid, steepest=1 / 6)),
    "hardswish": _fixed(Function(value=_hardswish, steepest=1.5, least=-0.375)),
    "leaky_relu": _leaky,
    "mish": _fixed(Function(value=_mish, steepest=1.09, least=-0.309)),
    "sigmoid": _fixed(Function(value=_sigmoid, steepest=0.25)),
    "silu": _fixed(Function(value=_silu, steepest=1.1, least=-0.279)),
    "tanh": _fixed(Function(value=math.tanh, steepest=1.0)),
}
"""By torch's name. Slopes: silu 1.0998, gelu 1.1290 (1.1290 with tanh), mish 1.0884, hardswish 1.5;
minima: silu -0.27846, gelu -0.16997 (-0.17004 with tanh), mish -0.30884.
"""
