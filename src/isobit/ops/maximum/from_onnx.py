"""ONNX's Max and Min."""

from __future__ import annotations

import numpy as np

from isobit.ops.foreign import onnx
from isobit.ops.logical import Elementwise, LogicalCall, View
from isobit.ops.maximum.op import MaximumAttrs, MaximumInputs
from isobit.ops.onnx import finished, recoded


@onnx("Max", "Min")
def extremes(call: LogicalCall) -> None:
    """Any number of operands, broadcast as NumPy does, two by two.

    Integer graphs compare codes of the result's encoding, which rounding does not reorder.
    """
    operands = [call.operand(index) for index in range(len(call.inputs))]
    if not operands:
        raise call.unsupported("inputs", "at least 1", "0")
    y, kind = call.output(), call.output().type
    if call.inherits and len({x.type.encoding for x in operands}) > 1:
        raise call.unsupported(
            "operands", "one encoding: the result is not quantised", "several", "Quantise it."
        )
    if len(operands) == 1:
        if call.is_float:
            call.step(View(), operands)
        else:
            finished(call, operands[0])
        return
    left = recoded(call, operands[0], kind)
    attrs = MaximumAttrs(smallest=call.code == "Min")
    for position, operand in enumerate(operands[1:], start=2):
        right = recoded(call, operand, kind)
        shape = tuple(np.broadcast_shapes(left.shape, right.shape))
        aim = y if position == len(operands) else call.temp("partial", shape, kind)
        call.step(
            Elementwise("maximum", lambda n: MaximumInputs(n[0], n[1]), attrs), [left, right], aim
        )
        left = aim
