"""What the rules of TFLite operators share: fused activations, padding, multipliers.

Formulas: TensorFlow Lite `kernels/kernel_util.cc` (CalculateActivationRangeQuantized) and
`kernels/padding.h`; numbers are float32 there, and here, where the last bit decides.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from isobit.core import fixed
from isobit.core.dtypes import DType
from isobit.core.types import Affine, Raw, Real, Shape, TensorType
from isobit.ir.graph import Attrs, Inputs
from isobit.ops.broadcast import broadcast_shape
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.foreign import Call, Operand, Runtime
from isobit.ops.window import Pair, Quad, Window

ACTIVATIONS: dict[int, tuple[str, float, float]] = {
    0: ("NONE", -math.inf, math.inf),
    1: ("RELU", 0.0, math.inf),
    2: ("RELU_N1_TO_1", -1.0, 1.0),
    3: ("RELU6", 0.0, 6.0),
}
"""Fused activations that are clamps, by the schema's number: name, low, high."""
NAMES = {4: "TANH", 5: "SIGN_BIT"}


def real_bounds(call: Call) -> tuple[float, float]:
    """Return the bounds of the fused activation; refuses TANH and SIGN_BIT, as every runtime
    does.
    """
    number = call.option("fused_activation_function", 0)
    if number not in ACTIVATIONS:
        raise call.unsupported(
            "fused activation",
            ", ".join(name for name, _, _ in ACTIVATIONS.values()),
            NAMES.get(number, str(number)),
            "Convert the model with the activation as an operator of its own.",
        )
    _, low, high = ACTIVATIONS[number]
    return low, high


def code_bounds(call: Call, output: Operand) -> tuple[int, int]:
    """Return the fused activation as codes of the output: `zero + round(bound / scale)` in
    float32, ties away.
    """
    return codes_of(output, *real_bounds(call))


def codes_of(output: Operand, low: float, high: float) -> tuple[int, int]:
    """Return real bounds as codes of `output`, within its carrier."""
    dtype, scale = output.type.dtype, np.float32(output.scale)

    def code(bound: float) -> int:
        return output.zero + fixed.round_half_away(float(np.float32(bound) / scale))

    first = dtype.low if math.isinf(low) else max(dtype.low, code(low))
    last = dtype.high if math.isinf(high) else min(dtype.high, code(high))
    return first, last


def padding(call: Call, size: Pair, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> Quad:
    """Return SAME (0) or VALID (1) padding of an input of `size` (rows, columns)."""
    number = call.option("padding", 0)
    if number == 1:
        return (0, 0, 0, 0)
    if number != 0:
        raise call.unsupported("padding", "SAME or VALID", str(number), "Convert the model again.")
    before, after = [], []
    window = Window(kernel=kernel, dilation=dilation)
    for axis in (0, 1):
        out = -(-size[axis] // stride[axis])
        total = max(0, (out - 1) * stride[axis] + window.extent[axis] - size[axis])
        before.append(total // 2)
        after.append(total - total // 2)
    return (before[0], before[1], after[0], after[1])


def strides(call: Call) -> Pair:
    """Return (rows, columns) of the stride, both at least 1."""
    return _positive(call, "stride", "stride_h", "stride_w")


def dilations(call: Call) -> Pair:
    """Return (rows, columns) of the dilation, both at least 1."""
    return _positive(call, "dilation", "dilation_h_factor", "dilation_w_factor")


def _positive(call: Call, what: str, rows: str, columns: str) -> Pair:
    found = (int(call.option(rows, 1)), int(call.option(columns, 1)))
    if min(found) < 1:
        raise call.unsupported(what, "at least 1", str(found), "The file is damaged.")
    return found


def quantized(real: float) -> tuple[int, int]:
    """TFLite's QuantizeMultiplier; reals from 2^31 on saturate."""
    return fixed.multiplier_q31(min(real, 2.0**31 - 1))


def factors(call: Call, reals: list[float]) -> dict[str, str]:
    """Return the constants `mult` and `shift` for real multipliers, one entry where all are
    equal.
    """
    return stored_factors(call, [quantized(real) for real in reals])


def stored_factors(call: Call, pairs: list[tuple[int, int]]) -> dict[str, str]:
    """Return the constants `mult` and `shift` of pairs, one entry where all are equal."""
    if len(set(pairs)) == 1:
        pairs = pairs[:1]
    return {
        "mult": call.const("mult", np.asarray([m for m, _ in pairs], dtype=np.int32)),
        "shift": call.const("shift", np.asarray([s for _, s in pairs], dtype=np.int32)),
    }


def require_types(call: Call, *allowed: str) -> str:
    """Return the carriers of the first input and of the output, e.g. "s8"; refuses others."""
    x, y = call.operand(0), call.output()
    if call.is_float:
        return "real"
    got = (
        x.type.dtype.value
        if x.type.dtype is y.type.dtype
        else f"{x.type.dtype.value} to {y.type.dtype.value}"
    )
    if got not in allowed or isinstance(x.type.encoding, Real):
        raise call.unsupported("types", " or ".join(allowed), got, "Convert the model to int8.")
    return got


def computed(call: Call) -> str:
    """Return the first input's value; a stored one is what the importer folds. Refuses codes in a
    graph of reals, where the operator would take them for numbers.
    """
    x = call.operand(0)
    if call.is_float and not x.is_float:
        raise call.unsupported(
            "types", "float32 in a float graph", x.type.dtype.value, "Fold it when you convert."
        )
    return call.value(x)


def require_same_encoding(call: Call, *indices: int) -> None:
    """Refuse inputs in another encoding than the output: the runtimes move and compare codes."""
    y = call.output().type.encoding
    for index in indices:
        x = call.operand(index).type.encoding
        if x != y:
            raise call.unsupported(
                f"encoding of input {index}",
                f"the output's, {y}",
                str(x),
                "Runtimes would not rescale it; convert the model again.",
            )


def require_computed(call: Call, *indices: int) -> None:
    """Refuse an operator on stored tensors only, which converters compute."""
    if all(call.operand(index).is_const for index in indices):
        raise call.unsupported(
            "inputs", "a value computed at run time", "constants", "Fold it when you convert."
        )


def finish(
    call: Call,
    op: str,
    inputs: Inputs[str],
    attrs: Attrs,
    *,
    shape: Shape | None = None,
    clamped: bool = False,
) -> None:
    """Emit the node that computes the output, then what of these is needed: the fused activation,
    a view.

    shape: of the node's own result, with the batch; the output's by default. clamped: `attrs`
    already hold the activation.
    """
    y = call.output()
    kind = y.type if shape is None else y.type.with_shape(shape)
    bounds = None if clamped else _clamp(call, y)
    view = kind.shape != y.type.shape
    if bounds is None and not view:
        call.result(op, inputs, attrs)
        return
    name = call.emit(op, inputs, attrs, kind)
    if bounds is not None and view:
        name = call.emit("clamp", ClampInputs(name), bounds, kind)
    if view:
        call.unboxed(name)
    elif bounds is not None:
        call.result("clamp", ClampInputs(name), bounds)


def _clamp(call: Call, y: Operand) -> ClampAttrs | None:
    """Return the fused activation as attributes of `clamp`, `None` where it clamps nothing."""
    low, high = real_bounds(call)
    if call.is_float:
        return None if (low, high) == (-math.inf, math.inf) else ClampAttrs(low, high)
    if y.is_float:  # reals that an integer network only moves
        if (low, high) != (-math.inf, math.inf):
            raise call.unsupported("fused activation", "NONE on float32", f"{low:g}..{high:g}", "")
        return None
    codes = codes_of(y, low, high)
    carrier = (y.type.dtype.low, y.type.dtype.high)
    return None if codes == carrier else ClampAttrs(low, high, codes)


def weighted_reals(x: Operand, w: Operand, y: Operand, *, narrow: bool = False) -> list[float]:
    """Return `Sx * Sw[c] / Sy` in float64, as TFLite computes it from float32 scales.

    narrow: the product of scales is float32, as in convolutions of uint8.
    """
    if narrow:
        return [float(np.float32(x.scale) * np.float32(s)) / y.scale for s in w.scales]
    return [x.scale * scale / y.scale for scale in w.scales]


def quotient(call: Call, *scales: float) -> float:
    """Return the product of scales over the output's, in float64; LiteRT has float32 throughout."""
    if call.runtime is Runtime.TFLM:
        return math.prod(scales) / call.output().scale
    factors = [np.float32(scale) for scale in scales]
    return float(math.prod(factors[1:], start=factors[0]) / np.float32(call.output().scale))


def filters(call: Call, index: int) -> Operand:
    """Return the weights of a convolution; those of uint8 may have a zero point, int8's may not."""
    w = call.operand(index)
    if w.zero and not call.is_uint8:
        raise call.unsupported(
            "zero point of the weights",
            "0",
            str(w.zero),
            "The runtime would not subtract it; converters give int8 weights symmetric ranges.",
        )
    return recentred(w)


def recentred(w: Operand) -> Operand:
    """Return weights with zero point 0 where the centred codes fit int8, else as they are."""
    if w.data is None or not w.zero:
        return w
    centred = w.data.astype(np.int16) - w.zero
    if centred.min() < w.type.dtype.low or centred.max() > w.type.dtype.high:
        return w
    encoding = Affine(w.scales, 0)
    return replace(w, type=replace(w.type, encoding=encoding), data=centred.astype(np.int8))


def bias_constant(call: Call, index: int) -> str | None:
    """Return the constant of a bias [O], `None` where there is none or it is all zeros."""
    b = call.optional(index)
    if b is None:
        return None
    data = call.constant(index, "bias").reshape(-1)
    if not data.any():
        return None
    if call.is_float:
        return call.const("b", data, b.type)
    if np.abs(data).max() < 1 << 31:  # of int16x8 models: int64 that needs no 64 bits
        return call.const("b", data.astype(np.int32))
    return call.const("b", data, TensorType((), DType.S64, Raw()))


def pool_window(call: Call) -> tuple[Pair, Pair, Quad]:
    """Return kernel, stride and padding of a pool over [1,H,W,C]."""
    x = call.operand(0)
    if len(x.shape) != 4 or x.shape[0] != 1:
        raise call.unsupported("shape", "[1,H,W,C]", str(list(x.shape)), "Use a batch of 1.")
    kernel = _positive(call, "filter", "filter_height", "filter_width")
    stride = strides(call)
    return kernel, stride, padding(call, (x.shape[1], x.shape[2]), kernel, stride)


def pair_of(call: Call) -> tuple[str, str, Shape]:
    """Return two operands with ranks made equal, and the broadcast shape, all with the batch."""
    operands = (call.operand(0), call.operand(1))
    if operands[0].type.shape == operands[1].type.shape == call.output().type.shape:
        return call.value(operands[0]), call.value(operands[1]), operands[0].type.shape
    rank = max(len(o.shape) for o in operands)
    boxes = [(1,) * (1 + rank - len(o.shape)) + o.shape for o in operands]
    if all(rank > 1 and box[1] == 1 for box in boxes):  # the foreign batch is one already
        boxes = [box[1:] for box in boxes]
    shape = broadcast_shape(call.where, *boxes)
    first, second = (
        call.viewed(call.value(o), box) for o, box in zip(operands, boxes, strict=True)
    )
    return first, second, shape
