"""ONNX's LpNormalization."""

from __future__ import annotations

from isobit.ops.foreign import onnx
from isobit.ops.l2_normalization.op import L2NormalizationAttrs, L2NormalizationInputs
from isobit.ops.logical import Last, LogicalCall


@onnx("LpNormalization")
def lp_normalization(call: LogicalCall) -> None:
    """x: any shape, along any axis, p = 2. Float graphs."""
    x = call.activation()
    axis, p = call.axis(int(call.option("axis", -1)), len(x.shape)), int(call.option("p", 2))
    if p != 2 or not call.is_float:
        got = f"p={p} in a graph of {'reals' if call.is_float else 'codes'}"
        raise call.unsupported("p", "2 in a float graph", got, "Normalise after the network.")
    kind = Last(
        "l2_normalization", lambda n: L2NormalizationInputs(n[0]), L2NormalizationAttrs(), axis
    )
    call.step(kind, [x])
