"""ONNX's BatchNormalization."""

from __future__ import annotations

from isobit.ir.graph import Inputs
from isobit.ops.batch_norm.op import BatchNormAttrs, BatchNormInputs
from isobit.ops.foreign import onnx
from isobit.ops.logical import Fixed, Last, LogicalCall, Names


@onnx("BatchNormalization")
def batch_normalization(call: LogicalCall) -> None:
    """x: [1,C,...]; scale, bias, mean and variance [C], stored. Float graphs, where the pass
    `fold_batch_norm` folds it.
    """
    x = call.activation()
    if not call.is_float:
        raise call.unsupported(
            "operator", "folded weights", call.code, "Fold batch normalisation before quantising."
        )
    if call.option("training_mode", 0) or len(call.outputs) > 1:
        raise call.unsupported(
            "training_mode", "0, one output", "1", "Export the model in evaluation mode."
        )
    if len(x.shape) < 2 or x.shape[0] != 1:
        raise call.unsupported("input", "[1,C,...]", str(list(x.shape)), "Use a batch of 1.")
    names = []
    for index, what in enumerate(("scale", "bias", "mean", "variance"), start=1):
        data = call.constant(index, what).reshape(-1)
        if data.size != x.shape[1]:
            raise call.unsupported(what, f"[{x.shape[1]}]", str(list(data.shape)))
        names.append(call.const(what, data))
    gamma, beta, mean, var = names
    attrs = BatchNormAttrs(float(call.option("epsilon", 1e-5)))

    def inputs(found: Names) -> Inputs[str]:
        return BatchNormInputs(found[0], gamma, beta, mean, var)

    if len(x.shape) == 4:
        call.step(Fixed("batch_norm", inputs, attrs), [x])
    else:
        call.step(Last("batch_norm", inputs, attrs, 1), [x])
