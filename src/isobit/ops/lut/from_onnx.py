"""ONNX's functions of one number: exact tables of codes, or float functions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from isobit.ops.add.op import AddAttrs, AddInputs
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.foreign import Operand, onnx
from isobit.ops.logical import Elementwise, LogicalCall, View
from isobit.ops.lut.functions import EXACT, SELU_ALPHA, SELU_SCALE
from isobit.ops.lut.op import LutAttrs, LutInputs
from isobit.ops.mul.op import MulAttrs, MulInputs
from isobit.ops.onnx import tabulated
from isobit.ops.onnx_compose import times, unary

PLAIN = {
    "Abs": "abs",
    "Ceil": "ceil",
    "Cos": "cos",
    "Erf": "erf",
    "Exp": "exp",
    "Floor": "floor",
    "HardSwish": "hardswish",
    "Log": "log",
    "Mish": "mish",
    "Neg": "neg",
    "Round": "round",
    "Sigmoid": "sigmoid",
    "Sin": "sin",
    "Softsign": "softsign",
    "Sqrt": "sqrt",
    "Tanh": "tanh",
}
NAMED = {4: "square", 1: "sqrt", -1: "rsqrt", -2: "reciprocal"}
"""Functions that are powers, by twice the exponent."""
HUGE = Fraction(1 << 200)
"""A real beyond the codes of every scale."""
UNBOUNDED = 1e9
"""A threshold that no argument reaches: ONNX's Softplus has none."""


@onnx(*PLAIN, "QLinearSigmoid")
def function(call: LogicalCall) -> None:
    """x: any shape."""
    record(call, LutAttrs(PLAIN[call.code]))


@onnx("Elu", "Celu", "LeakyRelu", "Softplus", "Gelu", "Selu", "Swish", "QLinearLeakyRelu")
def parametric(call: LogicalCall) -> None:
    """x: any shape; Selu with its own constants, Swish with alpha 1."""
    alpha = float(call.option("alpha", 0.01 if call.code == "LeakyRelu" else 1.0))
    match call.code:
        case "Elu":
            attrs = LutAttrs("elu", alpha=alpha)
        case "Celu":
            attrs = LutAttrs("celu", alpha=alpha)
        case "LeakyRelu":
            attrs = LutAttrs("leaky_relu", negative_slope=alpha)
        case "Softplus":
            attrs = LutAttrs("softplus", threshold=UNBOUNDED)
        case "Gelu":
            exact = call.option("approximate", "none") == "none"
            attrs = LutAttrs("gelu" if exact else "gelu_tanh")
        case "Swish":
            _require(call, "alpha", 1.0, alpha)
            attrs = LutAttrs("silu")
        case _:
            _require(call, "alpha", float(SELU_ALPHA), call.option("alpha", float(SELU_ALPHA)))
            _require(call, "gamma", float(SELU_SCALE), call.option("gamma", float(SELU_SCALE)))
            attrs = LutAttrs("selu")
    record(call, attrs)


@onnx("HardSigmoid")
def hard_sigmoid(call: LogicalCall) -> None:
    """Y = clip(alpha * x + beta, 0, 1); torch's has alpha 1/6."""
    alpha, beta = float(call.option("alpha", 0.2)), float(call.option("beta", 0.5))
    if abs(alpha - 1 / 6) < 1e-7 and beta == 0.5:
        record(call, LutAttrs("hardsigmoid"))
        return
    if not call.is_float:
        a, b = Fraction(alpha), Fraction(beta)
        tabulated(call, lambda v: min(max(a * v + b, Fraction(0)), Fraction(1)))
        return
    x, y = call.activation(), call.output()
    steep, raised = (call.temp(name, x.shape, x.type) for name in ("steep", "raised"))
    mul = Elementwise("mul", lambda n: MulInputs(n[0], n[1]), MulAttrs())
    call.step(mul, [x, _number(call, "alpha", alpha)], steep)
    add = Elementwise("add", lambda n: AddInputs(n[0], n[1]), AddAttrs())
    call.step(add, [steep, _number(call, "beta", beta)], raised)
    call.step(Elementwise("clamp", lambda n: ClampInputs(n[0]), ClampAttrs(0.0, 1.0)), [raised], y)


@onnx("Pow")
def power(call: LogicalCall) -> None:
    """X to one stored power: a whole number up to 8, or a half more than one; in quantised graphs
    a table.
    """
    x, y = call.activation(), call.output()
    exponent = call.constant(1, "exponent").reshape(-1)
    twice = round(2 * float(exponent[0])) if exponent.size else 0
    wanted = exponent.size == 1 and twice == 2 * float(exponent[0]) and 0 < abs(twice) <= 16
    if not wanted or (twice < -1 and twice % 2):
        got = str(exponent[:3].tolist())
        raise call.unsupported(
            "exponent", "one whole or half number within -8..8, not 0", got, "Write it as products."
        )
    if twice in NAMED and (call.is_float or twice > 0):
        record(call, LutAttrs(NAMED[twice]))
    elif not call.is_float and twice % 2 == 0:
        tabulated(call, lambda v: _whole(v, twice // 2))
    elif not call.is_float:
        root = EXACT["sqrt"]
        numbers = LutAttrs("sqrt").parameters()
        tabulated(call, lambda v: max(v, Fraction(0)) ** (twice // 2) * root(v, numbers))
    elif twice == 2:
        call.step(View(), [x])
    elif twice > 0:
        _product(call, [x] * (twice // 2) + ([unary(call, "sqrt", x)] if twice % 2 else []), y)
    else:
        unary(call, "reciprocal", _product(call, [x] * (-twice // 2)), y)


def _product(call: LogicalCall, factors: list[Operand], y: Operand | None = None) -> Operand:
    """Record the product of two or more factors."""
    found = factors[0]
    for position, factor in enumerate(factors[1:], start=2):
        found = times(call, found, factor, y if position == len(factors) else None)
    return found


def _whole(v: Fraction, power: int) -> Fraction:
    """Return v to a whole power; a division by 0 is beyond every code, as infinity is."""
    if v or power > 0:
        return Fraction(v**power)
    return HUGE


@onnx("Reciprocal")
def reciprocal(call: LogicalCall) -> None:
    """x: any shape. Codes of 0 give the largest code, as infinity does."""
    if call.is_float:
        unary(call, "reciprocal", call.activation(), call.output())
    else:
        tabulated(call, lambda v: _whole(v, -1))


@onnx("ThresholdedRelu")
def thresholded(call: LogicalCall) -> None:
    """Y = x where x > alpha, else 0: alpha 0 in float graphs, any in quantised ones, a table."""
    alpha = Fraction(float(call.option("alpha", 1.0)))
    if not call.is_float:
        tabulated(call, lambda v: v if v > alpha else Fraction(0))
        return
    if alpha:
        raise call.unsupported(
            "alpha", "0 in a float graph", str(float(alpha)), "Use Relu(x - alpha) and train again."
        )
    step = Elementwise("clamp", lambda n: ClampInputs(n[0]), ClampAttrs(0.0, math.inf))
    call.step(step, [call.activation()])


@onnx("QuantizeLinear", "DequantizeLinear")
def requantize(call: LogicalCall) -> None:
    """Codes in one encoding to codes in another: a table."""
    x, y = call.activation(), call.output()
    if x.type.encoding == y.type.encoding:
        call.step(View(), [x])
    else:
        tabulated(call, lambda v: v)


@onnx("Cast")
def cast(call: LogicalCall) -> None:
    """Between kinds of float: nothing here, where reals are float64."""
    if not call.is_float:
        raise call.unsupported(
            "operator", "no Cast of codes", "one", "Leave element types to QuantizeLinear."
        )
    call.step(View(), [call.activation()])


def record(call: LogicalCall, attrs: LutAttrs) -> None:
    """Record a named function; integer graphs get its table, rounded to even."""
    if call.is_float:
        step = Elementwise("lut", lambda n: LutInputs(n[0]), attrs)
        call.step(step, [call.activation()])
        return
    exact, numbers = EXACT[attrs.function], attrs.parameters()
    tabulated(call, lambda v: exact(v, numbers))


def _number(call: LogicalCall, wanted: str, value: float) -> Operand:
    kind = call.output().type.with_shape(())
    return Operand("", (), kind, f"{call.output().value}_{wanted}", np.asarray(value))


def _require(call: LogicalCall, name: str, want: float, got: float) -> None:
    if not math.isclose(want, got, rel_tol=1e-6):
        raise call.unsupported(name, str(want), str(got), "Use the function's own constants.")
