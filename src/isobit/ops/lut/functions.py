"""The functions a `lut` may hold, to 60 decimal digits: the same table on every operating system.

libm differs between systems in the last bits, which can move a table entry. Here rational functions
are computed exactly with `Fraction` and the others with `decimal`, whose `exp` and `ln` are
correctly rounded. Code that wants speed and no table (ranges, gradients) uses torch or NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction

from isobit.ops.lut.elementary import ELEMENTARY, erf

DIGITS = 60
_CONTEXT = Context(prec=DIGITS)
SATURATED = 200
"""exp(-200) < 2^-288: beyond this argument exponentials are 0, sigmoid and tanh their limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What torch's layers are built with: LeakyReLU, ELU and CELU (`alpha`), Softplus (`beta`,
    `threshold`).
    """

    negative_slope: float = 0.01
    alpha: float = 1.0
    beta: float = 1.0
    threshold: float = 20.0


Exact = Callable[[Fraction, Parameters], Fraction]


def _decimal(x: Fraction) -> Decimal:
    return _CONTEXT.divide(Decimal(x.numerator), Decimal(x.denominator))


def _exp(x: Fraction) -> Fraction:
    if x < -SATURATED:
        return Fraction(0)
    return Fraction(_CONTEXT.exp(_decimal(x)))


def _over(a: Fraction, b: Fraction) -> Fraction:
    """`a / b` to `DIGITS` digits: keeps numerators short where exactness is lost anyway."""
    return Fraction(_decimal(a / b))


def _sigmoid_of(x: Fraction) -> Fraction:
    if abs(x) > SATURATED:
        return Fraction(int(x > 0))
    return _over(Fraction(1), 1 + _exp(-x))


def _tanh_of(x: Fraction) -> Fraction:
    return 2 * _sigmoid_of(2 * x) - 1


PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")


def _sigmoid(x: Fraction, p: Parameters) -> Fraction:
    return _sigmoid_of(x)


def _tanh(x: Fraction, p: Parameters) -> Fraction:
    return _tanh_of(x)


def _hardsigmoid(x: Fraction, p: Parameters) -> Fraction:
    return min(max(x + 3, Fraction(0)), Fraction(6)) / 6


def _hardswish(x: Fraction, p: Parameters) -> Fraction:
    return x * _hardsigmoid(x, p)


def _silu(x: Fraction, p: Parameters) -> Fraction:
    return x * _sigmoid_of(x)


def _gelu(x: Fraction, p: Parameters) -> Fraction:
    root_half = Fraction(_CONTEXT.sqrt(Decimal("0.5")))
    return x * (1 + erf(x * root_half)) / 2


def _gelu_tanh(x: Fraction, p: Parameters) -> Fraction:
    root = Fraction(_CONTEXT.sqrt(_CONTEXT.divide(Decimal(2), PI)))
    return x * (1 + _tanh_of(root * (x + Fraction("0.044715") * x**3))) / 2


def _elu(x: Fraction, p: Parameters) -> Fraction:
    return x if x > 0 else Fraction(p.alpha) * (_exp(x) - 1)


def _celu(x: Fraction, p: Parameters) -> Fraction:
    alpha = Fraction(p.alpha)
    return x if x > 0 else alpha * (_exp(x / alpha) - 1)


SELU_SCALE = Fraction("1.0507009873554804934193349852946")
SELU_ALPHA = Fraction("1.6732632423543772848170429916717")
"""Of Klambauer et al. 2017, with the digits that torch gives; mean 0 and variance 1 stay."""


def _selu(x: Fraction, p: Parameters) -> Fraction:
    return SELU_SCALE * (x if x > 0 else SELU_ALPHA * (_exp(x) - 1))


def _mish(x: Fraction, p: Parameters) -> Fraction:
    """`x * tanh(ln(1 + e^x))` = `x * n / (n + 2)` with `n = e^x (e^x + 2)`."""
    if x > SATURATED:
        return x
    e = _exp(x)
    n = e * (e + 2)
    return x * _over(n, n + 2)


def _softsign(x: Fraction, p: Parameters) -> Fraction:
    return x / (1 + abs(x))


def _leaky_relu(x: Fraction, p: Parameters) -> Fraction:
    return x if x >= 0 else Fraction(p.negative_slope) * x


def _softplus(x: Fraction, p: Parameters) -> Fraction:
    beta = Fraction(p.beta)
    scaled = beta * x
    if scaled > Fraction(p.threshold) or scaled > SATURATED:
        return x
    return Fraction(_CONTEXT.ln(_decimal(1 + _exp(scaled)))) / beta


def _exp_of(x: Fraction, p: Parameters) -> Fraction:
    return _exp(min(x, Fraction(SATURATED)))


def _without_parameters(function: Callable[[Fraction], Fraction]) -> Exact:
    return lambda x, p: function(x)


EXACT: dict[str, Exact] = {
    **{name: _without_parameters(function) for name, function in ELEMENTARY.items()},
    "celu": _celu,
    "elu": _elu,
    "exp": _exp_of,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "hardsigmoid": _hardsigmoid,
    "hardswish": _hardswish,
    "leaky_relu": _leaky_relu,
    "mish": _mish,
    "selu": _selu,
    "sigmoid": _sigmoid,
    "silu": _silu,
    "softplus": _softplus,
    "softsign": _softsign,
    "tanh": _tanh,
}
"""Every function by its name, which is torch's in `torch.nn.functional`; parameters as there."""


def round_half_away(value: Fraction) -> int:
    """Return the nearest integer, ties away from zero."""
    nearest = math.floor(abs(value) + Fraction(1, 2))
    return -nearest if value < 0 else nearest


def table(
    function: str, p: Parameters, x: tuple[float, int], y: tuple[float, int]
) -> tuple[int, ...]:
    """Return `clamp(Zy + round_half_away(f(Sx * (q - Zx)) / Sy), -128, 127)` for q = -128..127.

    x, y: (scale, zero point); scales are taken as the exact rationals that floats are.
    """
    (sx, zx), (sy, zy) = x, y
    step, exact = Fraction(sx), EXACT[function]
    entries = []
    for q in range(-128, 128):
        code = zy + round_half_away(exact(step * (q - zx), p) / Fraction(sy))
        entries.append(min(max(code, -128), 127))
    return tuple(entries)
