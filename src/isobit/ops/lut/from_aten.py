"""PyTorch's functions of one number."""

from __future__ import annotations

from isobit.ops.aten import as_onnx, real
from isobit.ops.foreign import aten
from isobit.ops.logical import Elementwise, LogicalCall
from isobit.ops.lut.from_onnx import UNBOUNDED, power, record
from isobit.ops.lut.functions import EXACT
from isobit.ops.lut.op import LutAttrs, LutInputs
from isobit.ops.onnx import tabulated

FUNCTIONS = {
    "abs.default": "abs",
    "ceil.default": "ceil",
    "cos.default": "cos",
    "erf.default": "erf",
    "exp.default": "exp",
    "floor.default": "floor",
    "hardsigmoid.default": "hardsigmoid",
    "hardswish.default": "hardswish",
    "log.default": "log",
    "mish.default": "mish",
    "neg.default": "neg",
    "reciprocal.default": "reciprocal",
    "round.default": "round",
    "rsqrt.default": "rsqrt",
    "selu.default": "selu",
    "sigmoid.default": "sigmoid",
    "silu.default": "silu",
    "sin.default": "sin",
    "sqrt.default": "sqrt",
    "square.default": "square",
    "tanh.default": "tanh",
}


@aten(*FUNCTIONS)
def function(call: LogicalCall) -> None:
    """Functions without a parameter."""
    record(call, LutAttrs(FUNCTIONS[call.code]))


@aten("gelu.default")
def gelu(call: LogicalCall) -> None:
    """`approximate`: "none" or "tanh"."""
    exact = call.option("approximate", "none") == "none"
    record(call, LutAttrs("gelu" if exact else "gelu_tanh"))


@aten("leaky_relu.default")
def leaky_relu(call: LogicalCall) -> None:
    """`x if x > 0 else negative_slope * x`."""
    record(call, LutAttrs("leaky_relu", negative_slope=float(call.option("negative_slope", 0.01))))


@aten("rrelu.default")
def rrelu(call: LogicalCall) -> None:
    """In eval mode a leaky ReLU with the mean slope."""
    slope = (float(call.option("lower")) + float(call.option("upper"))) / 2
    record(call, LutAttrs("leaky_relu", negative_slope=slope))


@aten("elu.default")
def elu(call: LogicalCall) -> None:
    """`x if x > 0 else alpha * (exp(x) - 1)`; `scale` and `input_scale` are 1."""
    scales = float(call.option("scale", 1)), float(call.option("input_scale", 1))
    if scales != (1.0, 1.0):
        raise call.unsupported("scale, input_scale", "1, 1", str(scales), "Use SELU or CELU.")
    record(call, LutAttrs("elu", alpha=float(call.option("alpha", 1.0))))


@aten("celu.default")
def celu(call: LogicalCall) -> None:
    """`x if x > 0 else alpha * (exp(x / alpha) - 1)`."""
    record(call, LutAttrs("celu", alpha=float(call.option("alpha", 1.0))))


@aten("softplus.default")
def softplus(call: LogicalCall) -> None:
    """`ln(1 + exp(beta * x)) / beta`, x itself beyond the threshold."""
    beta, threshold = float(call.option("beta", 1)), float(call.option("threshold", 20))
    record(call, LutAttrs("softplus", beta=beta, threshold=threshold))


@aten("log_sigmoid.default")
def log_sigmoid(call: LogicalCall) -> None:
    """`-softplus(-x)`; in float graphs three functions, of which calibration makes one table."""
    if not call.is_float:
        soft = LutAttrs("softplus", threshold=UNBOUNDED)
        exact, numbers = EXACT["softplus"], soft.parameters()
        tabulated(call, lambda v: -exact(-v, numbers))
        return
    x, y = call.activation(), call.output()
    below, soft_of = (call.temp(name, x.shape, x.type) for name in ("negated", "softplus"))
    call.step(_kind("neg"), [x], below)
    call.step(_kind("softplus"), [below], soft_of)
    call.step(_kind("neg"), [soft_of], y)


@aten("pow.Tensor_Scalar")
def powers(call: LogicalCall) -> None:
    """Exponents 2, 0.5, -0.5 and 1."""
    exponent = float(call.option("exponent"))
    if exponent == -0.5:
        record(call, LutAttrs("rsqrt"))
        return
    power(as_onnx(call, "Pow", [call.activation(), real(call, "exponent", (), exponent)]))


def _kind(name: str) -> Elementwise:
    return Elementwise("lut", lambda n: LutInputs(n[0]), LutAttrs(name))
