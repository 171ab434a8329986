"""Operators that become several of ours, weights of nine bits, reals of every channel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .base import Case, Code, Stored, cases, codes, ints, qdq, reals, single

IMAGE = (1, 3, 4, 5)
X = Code(scale=0.047, zero=9)
Y = Code(scale=0.11, zero=5)
U = Code(scale=0.031, zero=121, dtype="uint8")


@cases("Reciprocal")
def inverse(code: str) -> Iterator[Case]:
    shapes = (IMAGE, (1, 7), (4, 3), (6,), (1, 2, 5), (2, 3, 2))
    for opset, shape in zip((7, 11, 13, 17, 17, 17), shapes, strict=True):
        yield single(code, f"{shape}", [shape], opset=opset, positive=True)
    yield qdq(code, "of 0 too", [(IMAGE, X)], Code(scale=0.3, zero=-11))


@cases("Div")
def quotients(code: str) -> Iterator[Case]:
    yield single(code, "two", [IMAGE, IMAGE], positive=True)
    yield single(code, "of a number", [np.asarray(1.0, np.float32), IMAGE], positive=True)
    yield single(code, "of channels", [reals("dc", 3, 1, 1), IMAGE], positive=True)
    # No code stands for 0: the sign of a zero is float's own.
    odd = Code(scale=0.1, zero=-128)
    number = np.asarray(-2.5, np.float32)
    yield qdq(code, "of a number", [number, ((1, 9), odd)], Code(scale=0.2, zero=100))
    yield qdq(code, "by reals of channels", [(IMAGE, X), reals("dr", 3, 1, 1)], Y)


@cases("Pow")
def powers(code: str) -> Iterator[Case]:
    for exponent in (3.0, -1.0, -2.0, 1.5, -0.5, 5.0):
        one = np.asarray(exponent, np.float32)
        yield single(code, f"{exponent}", [IMAGE, one], positive=True)
    yield qdq(code, "3", [(IMAGE, Code(scale=0.02, zero=9)), np.asarray(3.0, np.float32)], Y)


@cases("ThresholdedRelu")
def thresholded(code: str) -> Iterator[Case]:
    for opset, shape in zip((10, 13, 17, 22), (IMAGE, (1, 7), (4, 3), (6,)), strict=True):
        yield single(code, f"{shape}", [shape], opset=opset, alpha=0.0)
    yield qdq(code, "table", [(IMAGE, X)], Y, alpha=0.7)
    yield qdq(code, "table, 1", [(IMAGE, X)], Y)


@cases("LogSoftmax")
def log_softmax(code: str) -> Iterator[Case]:
    for opset, axis in ((13, -1), (13, 1), (17, 2), (17, 3)):
        yield single(code, f"axis {axis}", [IMAGE], opset=opset, axis=axis)
    yield single(code, "rows", [(4, 3)])
    yield single(code, "vector", [(1, 7)], opset=11)


@cases("ReduceL1", "ReduceL2", "ReduceSumSquare")
def norms(code: str) -> Iterator[Case]:
    for opset in (11, 13):
        yield single(code, "space", [IMAGE], opset=opset, axes=[2, 3], keepdims=0)
    yield single(code, "channels", [IMAGE, ints(1)], opset=18)
    yield single(code, "last", [(1, 7), ints(-1)], opset=18)
    yield single(code, "all", [(4, 3)])
    yield single(code, "of one", [(1, 1, 4), ints(1)], opset=18)


@cases("LayerNormalization")
def layers(code: str) -> Iterator[Case]:
    yield single(code, "last", [(1, 4, 6), reals("s", 6), reals("b", 6)])
    yield single(code, "no bias", [(1, 4, 6), reals("s", 6)], axis=-1, epsilon=0.01)
    yield single(code, "from 1", [IMAGE, reals("w", 3, 4, 5), reals("v", 3, 4, 5)], axis=1)
    yield single(code, "from 2", [IMAGE, reals("w", 4, 5), reals("v", 4, 5)], axis=2)
    yield single(code, "vector", [(1, 9), reals("n", 9), reals("m", 9)])
    yield single(code, "without batch", [(4, 3), reals("t", 3), reals("u", 3)])


@cases("InstanceNormalization")
def instances(code: str) -> Iterator[Case]:
    for opset in (7, 13, 22):
        yield single(code, "image", [IMAGE, reals("i", 3), reals("j", 3)], opset=opset)
    yield single(code, "row", [(1, 3, 11), reals("i", 3), reals("j", 3)], epsilon=0.1)
    yield single(code, "tall", [(1, 2, 9, 1), reals("k", 2), reals("l", 2)])
    yield single(code, "one channel", [(1, 1, 4, 5), reals("o", 1), reals("p", 1)])


@cases("GroupNormalization")
def groups(code: str) -> Iterator[Case]:
    image, s, b = (1, 6, 4, 5), reals("gs", 6), reals("gb", 6)
    for count in (1, 2, 3, 6):
        yield single(code, f"{count} groups", [image, s, b], opset=21, num_groups=count)
    yield single(code, "row", [(1, 6, 7), s, b], opset=21, num_groups=2)
    yield single(code, "wide", [(1, 6, 1, 9), s, b], opset=21, num_groups=3, epsilon=0.1)


@cases("Expand", "Tile")
def repeats(code: str) -> Iterator[Case]:
    tile = code == "Tile"
    for label, shape, wanted in (
        ("channels", (1, 1, 4, 5), (1, 3, 4, 5)),
        ("image", (1, 3, 1, 1), (1, 3, 4, 5)),
        ("rows", (1, 3, 1, 5), (1, 3, 4, 5)),
        ("vector", (1, 1), (1, 7)),
        ("nothing", (1, 3, 2), (1, 3, 2)),
        ("all", (1, 1, 1), (1, 4, 3)),
    ):
        given = ints(*(w // s for s, w in zip(shape, wanted, strict=True))) if tile else wanted
        yield single(code, label, [shape, np.asarray(given, np.int64)])
        if label in ("image", "vector"):
            yield qdq(code, label, [(shape, X), np.asarray(given, np.int64)], Y)
    if tile:
        yield single(code, "copies", [IMAGE, ints(1, 2, 1, 3)])
        yield qdq(code, "copies", [(IMAGE, X), ints(1, 2, 1, 3)], X)
    else:
        yield single(code, "new axes", [(3, 1), ints(2, 3, 5)])


@cases("BatchNormalization")
def quantised_norm(code: str) -> Iterator[Case]:
    numbers = [reals("g", 3), reals("h", 3), reals("m", 3), np.abs(reals("v", 3)) + 0.5]
    yield qdq(code, "image", [(IMAGE, X), *numbers], Y)
    yield qdq(code, "row", [((1, 3, 7), X), *numbers], Y)
    yield qdq(code, "vector", [((1, 3), X), *numbers], Y)


@cases("Resize")
def quantised_linear(code: str) -> Iterator[Case]:
    twice = np.asarray([1, 1, 2, 2], np.float32)
    for mode in ("half_pixel", "align_corners", "asymmetric"):
        for y in (X, Y):
            label = f"linear {mode} to {y.scale}"
            options = {"mode": "linear", "coordinate_transformation_mode": mode}
            yield qdq(code, label, [(IMAGE, X), None, twice], y, **options)


@cases("ConvTranspose")
def transposed(code: str) -> Iterator[Case]:
    x = (1, 4, 4, 3)
    for group, outputs in ((2, 3), (4, 1), (4, 2)):
        w = reals(f"t{group}{outputs}", 4, outputs, 3, 2)
        label = f"group {group}, {outputs} each"
        yield single(code, label, [x, w, reals("b", group * outputs)], group=group, strides=[2, 2])
    yield single(
        code, "dilations", [x, reals("d", 4, 2, 2, 3)], dilations=[2, 3], pads=[1, 0, 1, 2]
    )
    w = Stored(data=codes("tq", 4, 2, 2, 2), scale=0.02)
    yield qdq(code, "group 2", [(x, X), w], Y, group=2, dilations=[1, 2])


def nine(label: str, *shape: int) -> Stored:
    return Stored(data=codes(label, *shape, dtype="uint8"), scale=0.0071, zero=93)


@cases("Conv")
def wide_conv(code: str) -> Iterator[Case]:
    """Weights of uint8 with a zero point far from 128, as onnxruntime chooses it."""
    shape = (1, 4, 6, 5)
    yield qdq(code, "9 bits", [(shape, U), nine("w", 4, 4, 3, 3)], U, pads=[1, 1, 1, 1])
    some = nine("s", 4, 4, 1, 1)
    some.data[:, :2] = 100
    yield qdq(code, "9 bits, some channels", [(shape, U), some], U)
    yield qdq(code, "9 bits, groups", [(shape, U), nine("g", 6, 2, 3, 3)], U, group=2)
    yield qdq(code, "9 bits, depthwise", [(shape, X), nine("d", 4, 1, 3, 3)], Y, group=4)
    yield qdq(code, "9 bits, multiplier", [(shape, X), nine("m", 8, 1, 3, 3)], Y, group=4)
    yield qdq(code, "9 bits, row", [((1, 4, 9), X), nine("r", 5, 4, 3)], Y, strides=[2])
    most = Stored(data=np.asarray([0, 255], np.uint8).reshape(2, 1, 1, 1), scale=0.01, zero=0)
    yield qdq(code, "255", [((1, 1, 3, 3), X), most], Code(scale=0.3))
    signed = Stored(data=codes("n", 4, 4, 2, 2), scale=0.01, zero=-77)
    yield qdq(code, "int8 with a zero point", [(shape, X), signed], Y)


@cases("Gemm", "MatMul")
def wide_products(code: str) -> Iterator[Case]:
    yield qdq(code, "9 bits", [((1, 9), U), nine("p", 9, 5)], U)
    yield qdq(code, "9 bits, int8", [((1, 9), X), nine("q", 9, 5)], Y)
    if code == "MatMul":
        yield qdq(code, "9 bits, rows", [((1, 4, 9), X), nine("o", 9, 5)], Y)


@cases("Add", "Sub", "Mul")
def channel_reals(code: str) -> Iterator[Case]:
    for shape, stored in ((IMAGE, (3, 1, 1)), ((1, 3, 7), (1, 3, 1)), ((1, 3), (3,))):
        yield qdq(code, f"reals of channels {shape}", [(shape, X), reals("a", *stored)], Y)
        yield qdq(code, f"reals first {shape}", [reals("f", *stored), (shape, X)], Y)
    zeros = np.asarray([0.0, -1.5, 2.0], np.float32).reshape(3, 1, 1)
    yield qdq(code, "reals, one 0", [(IMAGE, X), zeros], Y)
