"""TFLite's UNIDIRECTIONAL_SEQUENCE_LSTM."""

from __future__ import annotations

import math

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import Affine, AnyArray, Shape, TensorType
from isobit.ir.graph import Value
from isobit.ops.foreign import Call, Operand, Runtime, tflite
from isobit.ops.lstm.op import FRACS, GATES, LstmAttrs, LstmInputs, factors
from isobit.ops.tflite import require_types

INPUT, WEIGHTS, RECURRENT, PEEPHOLES, BIASES, PROJECTION = 0, 1, 5, (9, 10, 11), 12, (16, 17)
HIDDEN, CELL, NORMS = 18, 19, (20, 21, 22, 23)
TANH = 4


@tflite("UNIDIRECTIONAL_SEQUENCE_LSTM")
def unidirectional_sequence_lstm(call: Call) -> None:
    """Inputs: x [B,T,I], or [T,B,I] where time_major; weights [U,I] and [U,U] and biases [U] of the
    gates input, forget, cell, output; the variables h and c.

    Source: TFLM `kernels/lstm_eval_common.cc`.
    """
    require_types(call, "s8")
    _require_plain(call)
    x, y, h = call.operand(INPUT), call.output(), call.operand(HIDDEN)
    major = bool(call.option("time_major", False))
    weights, recurrent, biases = (_stacked(call, n) for n in (WEIGHTS, RECURRENT, BIASES))
    size = biases.size // GATES
    wanted = ((GATES * size, x.shape[-1] if x.shape else 0), (GATES * size, size))
    if (
        len(x.shape) != 3
        or y.shape != (*x.shape[:2], size)
        or ((weights.shape, recurrent.shape) != wanted)
    ):
        got = f"{list(x.shape)}, {list(weights.shape)}, {list(recurrent.shape)}, {list(y.shape)}"
        raise call.unsupported("shapes", "[B,T,I], four [U,I] and [U,U], [B,T,U]", got, "")
    rows = x.shape[1 if major else 0]
    attrs = LstmAttrs(major, _clip(call))
    if not call.is_float:
        _require_integers(call)
        attrs = LstmAttrs(major, attrs.cell_clip, *_cell(call, attrs.cell_clip))
    hidden, after_h = call.state(HIDDEN, "hidden state", (1, rows, size))
    cell, after_c = call.state(CELL, "cell state", (1, rows, size))
    inputs = LstmInputs(
        call.viewed(call.value(x), (1, *x.shape)),
        hidden,
        cell,
        call.const("w", weights, _kind(call, WEIGHTS, size)),
        call.const("r", recurrent, _kind(call, RECURRENT, size)),
        call.const("b", biases.reshape(-1), call.operand(BIASES).type if call.is_float else None),
    )
    if not call.is_float:
        inputs = LstmInputs(
            *(inputs.x, hidden, cell, inputs.w, inputs.r, inputs.b),
            **_factors(call, x.scale, h.scale, attrs.cell_frac),
        )
    shape: Shape = (1, *y.shape)
    if shape == y.type.shape:
        call.build.node("lstm", inputs, attrs, Value(y.value, y.type), after_h, after_c)
        return
    name = call.build.fresh(f"{y.value}_lstm")
    value = Value(name, y.type.with_shape(shape))
    call.build.node("lstm", inputs, attrs, value, after_h, after_c)
    call.unboxed(name)


def _gates(call: Call, first: int) -> list[Operand]:
    return [call.operand(first + k) for k in range(GATES)]


def _stacked(call: Call, first: int) -> AnyArray:
    """Return the four gates' tensors, one below the other."""
    parts = [call.constant(first + k, "weights and biases") for k in range(GATES)]
    if len({part.shape for part in parts}) != 1 or not parts[0].shape:
        got = ", ".join(str(list(part.shape)) for part in parts)
        raise call.unsupported("shapes of the gates", "the same for all four", got, "")
    return np.concatenate(parts)


def _kind(call: Call, first: int, size: int) -> TensorType:
    """Return the type of stacked weights: every gate's rows have its scale."""
    operands = _gates(call, first)
    if call.is_float:
        return operands[0].type
    scales = tuple(o.scale for o in operands for _ in range(size))
    return TensorType((), DType.S8, Affine(scales, 0, 0))


def _clip(call: Call) -> float:
    """Return the largest |c|; options of 0 and below clip nothing."""
    clip = float(call.option("cell_clip", 0.0))
    return clip if clip > 0 else math.inf


def _cell(call: Call, clip: float) -> tuple[tuple[int, int], int]:
    """Return the bounds of c in codes, rounded towards zero, and the exponent of its scale."""
    scale = call.operand(CELL).scale
    mantissa, exponent = math.frexp(scale)
    if mantissa != 0.5 or not FRACS[0] <= 1 - exponent <= FRACS[1]:
        raise call.unsupported(
            "scale of the cell state",
            f"a power of two, 2^-{FRACS[1]} to 2^{-FRACS[0]}",
            repr(scale),
            "Converters choose one; convert the model again.",
        )
    most = int(min(clip / scale, 32767.0))
    return ((-most, most) if clip < math.inf else (-32768, 32767)), 1 - exponent


def _factors(call: Call, x: float, h: float, cell_frac: int) -> dict[str, str]:
    scales = [[o.scale for o in _gates(call, first)] for first in (WEIGHTS, RECURRENT)]
    pairs = factors(x, h, cell_frac, *scales)
    return {
        "mult": call.const("mult", np.asarray([m for m, _ in pairs], dtype=np.int32)),
        "shift": call.const("shift", np.asarray([s for _, s in pairs], dtype=np.int32)),
    }


def _require_plain(call: Call) -> None:
    """Refuse the variants that the runtime refuses."""
    for what, indices in (
        ("peephole weights", PEEPHOLES),
        ("projection", PROJECTION),
        ("layer normalisation", NORMS),
    ):
        if any(call.optional(index) is not None for index in indices):
            raise call.unsupported(
                what, "none", "tensors for it", "The runtime has none; use a plain LSTM."
            )
    if call.optional(WEIGHTS) is None:
        raise call.unsupported(
            "input gate", "weights", "none (CIFG)", "The runtime has none; use a plain LSTM."
        )
    if call.option("fused_activation_function", TANH) != TANH:
        raise call.unsupported(
            "activation", "TANH", str(call.option("fused_activation_function")), "Use tanh."
        )
    if call.option("diagonal_recurrent_tensors", False):
        raise call.unsupported("recurrent weights", "full matrices", "diagonals", "Convert again.")


def _require_integers(call: Call) -> None:
    """Refuse other carriers, and encodings that the runtime would not see."""
    h, c, y = call.operand(HIDDEN).type, call.operand(CELL).type, call.output().type
    weights = [o.type for first in (WEIGHTS, RECURRENT) for o in _gates(call, first)]
    carriers = {kind.dtype for kind in weights}
    if (h.dtype, c.dtype) != (DType.S8, DType.S16) or carriers != {DType.S8}:
        got = f"{h.dtype.value}, {c.dtype.value}, " + ", ".join(sorted(d.value for d in carriers))
        raise call.unsupported(
            "types of h, c and weights", "s8, s16, s8", got, "Convert the model to int8."
        )
    single = all(isinstance(k.encoding, Affine) and len(k.encoding.scale) == 1 for k in weights)
    if not single or any(kind.zero for kind in (c, *weights)):
        raise call.unsupported(
            "encodings", "one scale for each, zero points of c and weights 0", "others", ""
        )
    if y.encoding != h.encoding:
        raise call.unsupported(
            "encoding of the output",
            f"that of the hidden state, {h.encoding}",
            str(y.encoding),
            "The runtime copies its codes; convert the model again.",
        )
    if call.runtime is not Runtime.TFLM:
        raise call.unsupported(
            "runtime", "tflm", call.runtime.value, "Import it with --runtime tflm, as int8."
        )
