"""ONNX's Concat."""

from __future__ import annotations

from isobit.ops.foreign import onnx
from isobit.ops.logical import LogicalCall
from isobit.ops.onnx import finished, recoded
from isobit.ops.onnx_compose import joined


@onnx("Concat", "QLinearConcat")
def concat(call: LogicalCall) -> None:
    """Operands of one rank, computed or stored. Integer graphs bring them to the result's
    encoding first.
    """
    operands = [call.operand(index) for index in range(len(call.inputs))]
    y = call.output()
    axis = call.axis(int(call.option("axis")), len(y.shape))
    if call.inherits and len({x.type.encoding for x in operands}) > 1:
        raise call.unsupported(
            "operands",
            "one encoding: the result is not quantised",
            "several",
            "Quantise the result, or all operands with one scale.",
        )
    present = [recoded(call, x, y.type) for x in operands if x.type.elements]
    if len(present) == 1:
        finished(call, present[0])
        return
    joined(call, present, axis, y)
