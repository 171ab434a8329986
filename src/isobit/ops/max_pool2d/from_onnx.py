"""ONNX's MaxPool."""

from __future__ import annotations

from dataclasses import replace

from isobit.ops.foreign import onnx
from isobit.ops.logical import Fixed, LogicalCall
from isobit.ops.max_pool2d.op import MaxPool2dAttrs, MaxPool2dInputs
from isobit.ops.onnx import done, image, image_shape, padding, pair, require_no_cut, target
from isobit.ops.window import Quad, Window


@onnx("MaxPool")
def max_pool(call: LogicalCall) -> None:
    """x: [1,C,H,W] or [1,C,L]; one output, no dilation."""
    x = image(call, call.activation())
    if len(call.outputs) > 1:
        raise call.unsupported("outputs", "1", "indices too", "Leave the indices out.")
    window = pool_window(call)
    shape = image_shape(call.output().shape)
    y = target(call, (1, x.shape[1], *shape[2:]), like=x)
    attrs = MaxPool2dAttrs(window.kernel, window.stride, exact_pad(window, x.shape, shape))
    call.step(Fixed("max_pool2d", lambda n: MaxPool2dInputs(n[0]), attrs), [x], y)
    done(call, y)


def pool_window(call: LogicalCall) -> Window:
    """Return kernel, stride and padding of a pool; refuses dilations."""
    rank = len(call.activation().shape)
    if pair(call, "dilations", rank) != (1, 1):
        raise call.unsupported(
            "dilations", "1", str(call.options["dilations"]), "Pool without dilation."
        )
    call.option("kernel_shape")
    window = Window(kernel=pair(call, "kernel_shape", rank), stride=pair(call, "strides", rank))
    x = image(call, call.activation())
    require_no_cut(call, x, window)
    return replace(window, pad=padding(call, x, window))


def exact_pad(window: Window, x: tuple[int, ...], y: tuple[int, ...]) -> Quad:
    """Return the padding below and right that gives exactly the output's size: `ceil_mode` adds
    some, and rows that no window reaches need none.
    """
    top, left, _, _ = window.pad
    ends = []
    for axis, before in ((0, top), (1, left)):
        reach = (y[2 + axis] - 1) * window.stride[axis] + window.extent[axis]
        ends.append(max(reach - before - x[2 + axis], 0))
    return (top, left, ends[0], ends[1])
