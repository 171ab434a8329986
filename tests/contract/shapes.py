"""Output shapes according to torch, on the meta device: nothing is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # torch's own convention
from torch import Tensor

from isobit.ops.base import NodeTypes

Shapes = list[tuple[int, ...]]


def torch_shapes(op: str, attrs: Any, q: NodeTypes[Any]) -> Shapes | None:
    """The shapes of torch's own function for this node; `None` where torch has none."""
    if op not in FUNCTIONS:
        return None
    result = FUNCTIONS[op](attrs, q.inputs)
    return [tuple(t.shape) for t in (result if isinstance(result, list) else [result])]


def empty(kind: Any, *axes: int) -> Tensor:
    """A tensor without data, permuted where axes are given."""
    tensor = torch.empty(kind.shape, device="meta")
    return tensor.permute(axes) if axes else tensor


def image(kind: Any) -> Tensor:
    """NHWC as NCHW."""
    return empty(kind, 0, 3, 1, 2)


def nhwc(y: Tensor) -> Tensor:
    """NCHW as NHWC."""
    return y.permute(0, 2, 3, 1)


def padded(kind: Any, pad: tuple[int, int, int, int]) -> Tensor:
    """An image with (top, left, bottom, right) padding."""
    top, left, bottom, right = pad
    return F.pad(image(kind), (left, right, top, bottom))


def conv2d(attrs: Any, types: Any) -> Tensor:
    weights = empty(types.w, 0, 3, 1, 2)
    x = padded(types.x, attrs.pad)
    return nhwc(F.conv2d(x, weights, None, attrs.stride, 0, attrs.dilation, attrs.groups))


def depthwise(attrs: Any, types: Any) -> Tensor:
    weights = empty(types.w, 2, 0, 1).unsqueeze(1)
    x = padded(types.x, attrs.pad)
    groups = types.x.shape[3]
    return nhwc(F.conv2d(x, weights, None, attrs.stride, 0, getattr(attrs, "dilation", 1), groups))


def max_pool(attrs: Any, types: Any) -> Tensor:
    return nhwc(F.max_pool2d(padded(types.x, attrs.pad), attrs.kernel, attrs.stride))


def avg_pool(attrs: Any, types: Any) -> Tensor:
    top, left, bottom, right = attrs.pad
    more = getattr(attrs, "extension", (0, 0))  # what torch's ceil_mode adds
    x = padded(types.x, (top, left, bottom + more[0], right + more[1]))
    return nhwc(F.avg_pool2d(x, attrs.kernel, attrs.stride))


def resized(attrs: Any, types: Any) -> Tensor:
    return nhwc(F.interpolate(image(types.x), attrs.size))


def transpose_conv(attrs: Any, types: Any) -> Tensor:
    """Cut above and left, then cut or lengthened to the size."""
    weights = empty(types.w, 3, 0, 1, 2)
    full = F.conv_transpose2d(image(types.x), weights, None, attrs.stride)
    (top, left), size = attrs.pad, attrs.size
    below, beside = (size[i] + attrs.pad[i] - full.shape[2 + i] for i in (0, 1))
    return nhwc(F.pad(full, (-left, beside, -top, below)))


def same(attrs: Any, types: Any) -> Tensor:
    return empty(types.x)


FUNCTIONS: dict[str, Callable[[Any, Any], Tensor | list[Tensor]]] = {
    "add": lambda attrs, types: empty(types.a) + empty(types.b),
    "mul": lambda attrs, types: empty(types.a) * empty(types.b),
    "avg_pool2d": avg_pool,
    "clamp": same,
    "concat": lambda attrs, types: torch.cat([empty(x) for x in types.xs], attrs.axis),
    "conv2d": conv2d,
    "depthwise_conv2d": depthwise,
    "global_avg_pool": lambda attrs, types: nhwc(F.adaptive_avg_pool2d(image(types.x), 1)),
    "linear": lambda attrs, types: F.linear(empty(types.x), empty(types.w)),
    "l2_normalization": same,
    "lut": same,
    "lut_interpolated": same,
    "max_pool2d": max_pool,
    "maximum": lambda attrs, types: torch.maximum(empty(types.a), empty(types.b)),
    "pad": lambda attrs, types: F.pad(
        empty(types.x), [n for pair in reversed(attrs.pads) for n in pair]
    ),
    "mirror_pad": lambda attrs, types: F.pad(
        empty(types.x), [n for pair in reversed(attrs.pads) for n in pair]
    ),
    "prelu": same,
    "reduce_max": lambda attrs, types: torch.amax(empty(types.x), attrs.axes, keepdim=True),
    "reduce_sum": lambda attrs, types: torch.sum(empty(types.x), attrs.axes, keepdim=True),
    "resize_bilinear": resized,
    "resize_nearest": resized,
    "reshape": lambda attrs, types: empty(types.x).reshape(-1, *attrs.shape),
    "softmax": lambda attrs, types: F.softmax(empty(types.x), -1),
    "split": lambda attrs, types: list(torch.split(empty(types.x), list(attrs.sizes), attrs.axis)),
    "standardize": same,
    "mean_image": same,
    "per_image_standardize": same,
    "transpose": lambda attrs, types: empty(types.x).permute(attrs.perm),
    "transpose_conv2d": transpose_conv,
}
