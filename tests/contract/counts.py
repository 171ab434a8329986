"""Multiply-accumulates by direct counting: one loop iteration, one count.

Taps on padding count (docs: the field's convention), so the loops run over every output and every
weight it sees.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

from isobit.ops.base import NodeTypes


def count(ranges: tuple[int, ...]) -> int:
    """Iterations of nested loops."""
    return sum(1 for _ in product(*map(range, ranges)))


def conv2d(attrs: Any, q: NodeTypes[Any]) -> int:
    """Every output pixel, every output channel, every tap of its group."""
    _, rows, cols, channels = q.outputs[0].shape
    _, kernel_h, kernel_w, _ = q.inputs.w.shape
    macs = 0
    for _ in product(range(rows), range(cols), range(channels)):
        macs += kernel_h * kernel_w * (q.inputs.x.shape[3] // attrs.groups)
    return macs


def depthwise_conv2d(attrs: Any, q: NodeTypes[Any]) -> int:
    """Every output reads one channel."""
    _, rows, cols, channels = q.outputs[0].shape
    kernel_h, kernel_w = q.inputs.w.shape[:2]
    return count((rows, cols, channels, kernel_h, kernel_w))


def linear(attrs: Any, q: NodeTypes[Any]) -> int:
    """Every output, every input."""
    return count((q.outputs[0].shape[1], q.inputs.x.shape[1]))


def transpose_conv2d(attrs: Any, q: NodeTypes[Any]) -> int:
    """Every input element, every tap of every output channel, even what lands outside."""
    outputs, kernel_h, kernel_w, _ = q.inputs.w.shape
    return count((*q.inputs.x.shape[1:], outputs, kernel_h, kernel_w))


def svdf(attrs: Any, q: NodeTypes[Any]) -> int:
    """Per row: every filter's feature, and its memory weighted in time."""
    rows = q.inputs.state.shape[1:-2]
    filters, memory = q.inputs.t.shape
    return count((*rows, filters, q.inputs.x.shape[-1])) + count((*rows, filters, memory))


def lstm(attrs: Any, q: NodeTypes[Any]) -> int:
    """Per step and row: every gate of every cell reads the input and all hidden values."""
    _, first, second, inputs = q.inputs.x.shape
    cells = q.outputs[1].shape[2]
    return count((first, second, 4, cells, inputs)) + count((first, second, 4, cells, cells))


MACS: dict[str, Callable[[Any, NodeTypes[Any]], int]] = {
    "conv2d": conv2d,
    "depthwise_conv2d": depthwise_conv2d,
    "dynamic_conv2d": conv2d,
    "dynamic_depthwise_conv2d": depthwise_conv2d,
    "dynamic_linear": linear,
    "linear": linear,
    "lstm": lstm,
    "svdf": svdf,
    "transpose_conv2d": transpose_conv2d,
}
"""Operators that multiply and accumulate; all others must say 0."""
