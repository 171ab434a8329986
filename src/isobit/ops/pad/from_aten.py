"""PyTorch's padding: with a constant, and mirrored."""

from __future__ import annotations

from isobit.ops.aten import as_onnx, integers, real
from isobit.ops.foreign import aten
from isobit.ops.logical import LogicalCall
from isobit.ops.pad.from_onnx import pad as onnx_pad


@aten("pad.default", "constant_pad_nd.default")
@aten("reflection_pad1d.default", "reflection_pad2d.default")
def pad(call: LogicalCall) -> None:
    """`pad`: before and after, the last axis first. Modes: constant, reflect."""
    x = call.activation()
    given = [int(v) for v in call.options.get("pad", call.options.get("padding", ()))]
    mode = "reflect" if call.code.startswith("reflection") else call.option("mode", "constant")
    before, after = [0] * len(x.shape), [0] * len(x.shape)
    for k in range(len(given) // 2):
        before[-1 - k], after[-1 - k] = given[2 * k], given[2 * k + 1]
    value = float(call.options.get("value") or 0.0)
    inputs = [x, integers(call, before + after), real(call, "value", (), value)]
    onnx_pad(as_onnx(call, "Pad", inputs, mode=mode))
