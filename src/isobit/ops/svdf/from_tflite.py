"""TFLite's SVDF."""

from __future__ import annotations

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import Affine
from isobit.ir.graph import Value
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.foreign import Call, Runtime, tflite
from isobit.ops.svdf.op import SvdfAttrs, SvdfInputs
from isobit.ops.tflite import quantized, real_bounds, require_types

NONE, RELU = 0, 1


@tflite("SVDF")
def svdf(call: Call) -> None:
    """Inputs: x [B,I], w [F,I], t [F,M], b [F/rank], the variable [B,F*M]; y [B,F/rank]. Source:
    TFLM `kernels/svdf_common.cc`.

    The runtime reads and writes the rows of a batch alike, so each is a row of one sample here.
    """
    require_types(call, "s8")
    x, y = call.operand(0), call.output()
    if call.optional(3) is None:
        raise call.unsupported(
            "bias", "a constant [U]", "none", "The runtime reads one always; store zeros."
        )
    w, t = call.constant(1, "feature weights"), call.constant(2, "time weights")
    bias, rank = call.constant(3, "bias").reshape(-1), int(call.option("rank", 1))
    if rank < 1 or w.ndim != 2 or t.ndim != 2 or len(x.shape) != 2 or w.shape[0] % rank:
        got = f"{list(x.shape)}, {list(w.shape)}, {list(t.shape)}, rank {rank}"
        raise call.unsupported("shapes", "[B,I], [F,I], [F,M], rank a divisor of F", got, "")
    if not call.is_float:
        _require_integers(call)
    state, after = call.state(4, "state", (*x.type.shape[:-1], *t.shape))
    b = call.const("b", bias, call.operand(3).type if call.is_float else None)
    time = call.stored(call.operand(2))
    inputs = SvdfInputs(call.value(x), state, call.stored(call.operand(1)), time, b)
    if not call.is_float:
        inputs = SvdfInputs(inputs.x, state, inputs.w, inputs.t, b, **_factors(call))
        kind = after.type.dtype
        attrs = SvdfAttrs(rank, feature_clamp=(kind.low, kind.high))
        call.build.node("svdf", inputs, attrs, Value(y.value, y.type), after)
        return
    bounds = ClampAttrs(*real_bounds(call))
    if bounds == ClampAttrs():
        call.build.node("svdf", inputs, SvdfAttrs(rank), Value(y.value, y.type), after)
        return
    name = call.build.fresh(f"{y.value}_svdf")
    call.build.node("svdf", inputs, SvdfAttrs(rank), Value(name, y.type), after)
    call.result("clamp", ClampInputs(name), bounds)


def _factors(call: Call) -> dict[str, str]:
    """The runtime computes both ratios in float32."""
    x, w, t, _, state = (np.float32(call.operand(i).scale) for i in range(5))
    with np.errstate(all="ignore"):  # what a damaged file makes infinite saturates
        reals = (x * w / state, state * t / np.float32(call.output().scale))
    pairs = [quantized(float(real)) for real in reals]
    return {
        "mult": call.const("mult", np.asarray([m for m, _ in pairs], dtype=np.int32)),
        "shift": call.const("shift", np.asarray([s for _, s in pairs], dtype=np.int32)),
    }


def _require_integers(call: Call) -> None:
    """Refuse what runtimes do not agree about."""
    state, t = call.operand(4).type, call.operand(2).type
    same = state.dtype is t.dtype and state.dtype in (DType.S8, DType.S16)
    single = isinstance(state.encoding, Affine) and state.zero == 0
    if not same or not single:
        raise call.unsupported(
            "types of state and time weights",
            "both int8 or both int16, the state's zero point 0",
            f"{state.dtype.value} {state.encoding} and {t.dtype.value}",
            "Versions of the runtime saturate a state with a zero point differently; convert the "
            "model again, with a symmetric state.",
        )
    for index in (1, 2):
        if len(call.operand(index).scales) > 1:
            raise call.unsupported(
                "weights", "one scale", "one for every filter", "The runtime reads the first alone."
            )
    if call.runtime is not Runtime.TFLM:
        raise call.unsupported(
            "runtime", "tflm", call.runtime.value, "Import it with --runtime tflm, as int8."
        )
    # An int8 SVDF has no fused activation in the runtime: it saturates, and converters give the
    # output of a ReLU the zero point -128, so that saturation is the ReLU.
    if call.option("fused_activation_function", NONE) not in (NONE, RELU):
        raise call.unsupported(
            "fused activation",
            "NONE or RELU",
            str(call.option("fused_activation_function")),
            "The runtime would leave it out; convert it as an operator of its own.",
        )
