"""ONNX's GlobalAveragePool."""

from __future__ import annotations

from isobit.ops.foreign import onnx
from isobit.ops.global_avg_pool.op import GlobalAvgPoolAttrs, GlobalAvgPoolInputs
from isobit.ops.logical import Fixed, LogicalCall
from isobit.ops.onnx import done, image, target
from isobit.ops.reduce_sum.from_onnx import reduced


@onnx("GlobalAveragePool", "QLinearGlobalAveragePool")
def global_average_pool(call: LogicalCall) -> None:
    """x: [1,C,H,W] or [1,C,L]. Integer graphs: the mean as a reduction, which has an exact
    multiplier.
    """
    x = image(call, call.activation())
    if not call.is_float:
        reduced(call, x, (2, 3), mean=True)
        return
    y = target(call, (1, x.shape[1], 1, 1))
    kind = Fixed("global_avg_pool", lambda n: GlobalAvgPoolInputs(n[0]), GlobalAvgPoolAttrs())
    call.step(kind, [x], y)
    done(call, y)
