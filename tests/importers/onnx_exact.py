"""ONNX's quantised operators by their definition, in exact rationals: an oracle without float.

Codes become `Fraction`s, operators are computed on them with loops, QuantizeLinear rounds to even.
Nothing of isobit is imported.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

Array = np.ndarray


def evaluate(blob: bytes, feeds: dict[str, Array]) -> dict[str, Array]:
    """Return every tensor of a QDQ model; reals are arrays of `Fraction`, codes of int."""
    graph = onnx.load_model_from_string(blob).graph
    values: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    values.update(feeds)
    for node in graph.node:
        options = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        inputs = [values[name] if name else None for name in node.input]
        found = OPERATORS[node.op_type](options, *inputs)
        parts = found if isinstance(found, list) else [found]
        values.update(zip(node.output, parts, strict=True))
    return values


def fractions(array: Array) -> Array:
    exact = [v if isinstance(v, Fraction) else Fraction(float(v)) for v in array.ravel().tolist()]
    found = np.empty(len(exact), dtype=object)
    found[:] = exact
    return found.reshape(array.shape)


def spread(options: dict[str, Any], x: Array, numbers: Array) -> Array:
    """Return scale or zero point in a shape that broadcasts to x."""
    if numbers.ndim == 0 or numbers.size == 1:
        return numbers.reshape(())
    shape = [1] * x.ndim
    shape[options.get("axis", 1)] = -1
    return numbers.reshape(shape)


def dequantize(options: dict[str, Any], x: Array, s: Array, z: Array | None = None) -> Array:
    centred = x.astype(object) - (0 if z is None else spread(options, x, z).astype(object))
    return centred * fractions(np.asarray(spread(options, x, s)))


def quantize(options: dict[str, Any], x: Array, s: Array, z: Array | None = None) -> Array:
    kind = np.iinfo(np.uint8 if z is None else z.dtype)
    zero = 0 if z is None else int(z.reshape(-1)[0])
    step = Fraction(float(np.asarray(s).reshape(-1)[0]))
    flat = [min(max(zero + round(v / step), kind.min), kind.max) for v in fractions(x).ravel()]
    return np.asarray(flat, dtype=np.int64).reshape(x.shape)


def conv(options: dict[str, Any], x: Array, w: Array, b: Array | None = None) -> Array:
    rank = x.ndim - 2
    strides, dilations = (options.get(k, [1] * rank) for k in ("strides", "dilations"))
    pads, groups = options.get("pads", [0] * 2 * rank), options.get("group", 1)
    x, w = fractions(x), fractions(w)
    padded = np.pad(
        x,
        [(0, 0), (0, 0), *((pads[i], pads[rank + i]) for i in range(rank))],
        constant_values=Fraction(0),
    )
    extent = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    sizes = [(padded.shape[2 + i] - extent[i]) // strides[i] + 1 for i in range(rank)]
    y = np.empty((1, w.shape[0], *sizes), dtype=object)
    each, out = w.shape[1], w.shape[0] // groups
    for place in itertools.product(*map(range, sizes)):
        cut = tuple(
            slice(p * s, p * s + e, d)
            for p, s, e, d in zip(place, strides, extent, dilations, strict=True)
        )
        for o in range(w.shape[0]):
            first = o // out * each
            window = padded[(0, slice(first, first + each), *cut)]
            y[(0, o, *place)] = (window * w[o]).sum() + (0 if b is None else fractions(b)[o])
    return y


def gemm(options: dict[str, Any], a: Array, b: Array, c: Array | None = None) -> Array:
    b = b.T if options.get("transB", 0) else b
    y = fractions(a) @ fractions(b)
    return y if c is None else y + fractions(c)


def prelu(options: dict[str, Any], x: Array, slope: Array) -> Array:
    return np.where(fractions(x) >= 0, x, x * slope)


def reduction(mean: bool) -> Callable[..., Array]:
    def reduce(options: dict[str, Any], x: Array, axes: Array | None = None) -> Array:
        chosen = tuple(options["axes"]) if axes is None else tuple(axes.tolist())
        total = fractions(x).sum(axis=chosen, keepdims=bool(options.get("keepdims", 1)))
        return total / math.prod(x.shape[a] for a in chosen) if mean else total

    return reduce


def clip(
    options: dict[str, Any], x: Array, low: Array | None = None, high: Array | None = None
) -> Array:
    x = fractions(x)
    x = x if low is None else np.maximum(x, Fraction(float(low)))
    return x if high is None else np.minimum(x, Fraction(float(high)))


def split(options: dict[str, Any], x: Array, sizes: Array) -> list[Array]:
    return np.split(x, np.cumsum(sizes)[:-1], axis=options["axis"])


def each(function: Callable[[Fraction], int]) -> Callable[..., Array]:
    """Apply a function of one number; Python's `round` takes the even neighbour, as ONNX does."""

    def applied(options: dict[str, Any], x: Array) -> Array:
        return fractions(np.asarray([Fraction(function(v)) for v in x.ravel()])).reshape(x.shape)

    return applied


OPERATORS: dict[str, Callable[..., Any]] = {
    "Abs": lambda o, x: np.abs(x),
    "Add": lambda o, a, b: fractions(a) + fractions(b),
    "Ceil": each(math.ceil),
    "Clip": clip,
    "Concat": lambda o, *xs: np.concatenate([fractions(x) for x in xs], axis=o["axis"]),
    "Conv": conv,
    "DequantizeLinear": dequantize,
    "Gemm": gemm,
    "Floor": each(math.floor),
    "GlobalAveragePool": lambda o, x: reduction(True)({"axes": (2, 3)}, x),
    "Identity": lambda o, x: x,
    "LeakyRelu": lambda o, x: np.where(x >= 0, x, x * Fraction(o["alpha"])),
    "MatMul": gemm,
    "Max": lambda o, a, b: np.maximum(a, b),
    "Min": lambda o, a, b: np.minimum(a, b),
    "Mul": lambda o, a, b: fractions(a) * fractions(b),
    "Neg": lambda o, x: -x,
    "PRelu": prelu,
    "QuantizeLinear": quantize,
    "ReduceMean": reduction(True),
    "ReduceSum": reduction(False),
    "Relu": lambda o, x: np.maximum(x, Fraction(0)),
    "Reshape": lambda o, x, shape: x.reshape(shape),
    "Round": each(round),
    "Split": split,
    "Sub": lambda o, a, b: fractions(a) - fractions(b),
    "Transpose": lambda o, x: x.transpose(o.get("perm")),
}


def covers(blob: bytes, outputs: Any) -> bool:
    """Whether a case has outputs that stand for codes, and operators that are all known here."""
    nodes = onnx.load_model_from_string(blob).graph.node
    return bool(outputs) and {node.op_type for node in nodes} <= set(OPERATORS)


def codes(blob: bytes, inputs: Any, feed: Any, port: Any) -> Array:
    """Return the codes that the dequantised output `port` stands for, input codes being `feed`."""
    reals = {
        source.name: (x.astype(object) - source.zero)
        * fractions(np.asarray(np.float32(source.scale)))
        for source, x in zip(inputs, feed, strict=True)
    }
    steps = evaluate(blob, reals)[port.name] / fractions(np.asarray(np.float32(port.scale)))
    return np.asarray([int(v) for v in steps.ravel()]).reshape(steps.shape) + port.zero
