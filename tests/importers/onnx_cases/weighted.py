"""Convolutions and matrix products."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import helper

from .base import Case, Code, Stored, cases, codes, qdq, reals, single


@cases("Conv")
def conv(code: str) -> Iterator[Case]:
    x, w, b = (1, 3, 7, 6), reals("w", 4, 3, 3, 3), reals("b", 4)
    for opset in (7, 11, 13, 22):
        yield single(code, "plain", [x, w, b], opset=opset)
    yield single(code, "no bias, pads", [x, w], pads=[1, 0, 2, 1])
    yield single(code, "strides", [x, w, b], strides=[2, 3], pads=[1, 1, 1, 1])
    yield single(code, "dilations", [x, w, b], dilations=[2, 2])
    for mode in ("VALID", "SAME_UPPER", "SAME_LOWER"):
        yield single(code, f"auto_pad {mode}", [x, w, b], auto_pad=mode, strides=[2, 2])
        cut = [(1, 3, 12, 4), reals("w1", 4, 3, 1, 1)]  # a negative padding would be -1 and -1
        yield single(code, f"auto_pad {mode}, 1x1", cut, auto_pad=mode, strides=[3, 1])
    yield single(code, "groups", [(1, 6, 5, 5), reals("g", 4, 3, 3, 3), b], group=2)
    yield single(code, "depthwise", [(1, 4, 5, 5), reals("d", 4, 1, 3, 3), b], group=4)
    yield single(code, "multiplier 2", [(1, 4, 5, 5), reals("d", 8, 1, 3, 2)], group=4)
    yield single(code, "1x1 of one channel", [(1, 1, 4, 5), reals("o", 2, 1, 1, 1)])
    yield single(code, "row", [(1, 3, 11), reals("r", 5, 3, 4), reals("rb", 5)], strides=[2])
    yield single(
        code,
        "row, depthwise, SAME",
        [(1, 3, 11), reals("r", 3, 1, 4)],
        group=3,
        auto_pad="SAME_UPPER",
    )
    yield from _quantised_conv(code)


def _quantised_conv(code: str) -> Iterator[Case]:
    x, y = Code(scale=0.031, zero=-7), Code(scale=0.11, zero=5)
    w = Stored(data=codes("w", 4, 3, 3, 3), scale=0.0071)
    bias = Stored(
        data=codes("b", 4, dtype="int32") % 4000, scale=np.float32(0.031) * np.float32(0.0071)
    )
    shape = (1, 3, 6, 5)
    yield qdq(code, "per tensor", [(shape, x), w, bias], y)
    each = np.asarray([0.004, 0.011, 0.0021, 0.03])
    channels = Stored(data=w.data, scale=each)
    yield qdq(code, "per channel", [(shape, x), channels], y, pads=[1, 1, 1, 1])
    real = reals("real", 4)
    yield qdq(code, "bias of reals", [(shape, x), channels, real], y)
    relu = [helper.make_node("Relu", ["y0"], ["r0"])]
    yield qdq(code, "relu", [(shape, x), w, bias], y, after=relu)
    limits = {"low": np.float32(-1.0), "high": np.float32(3.3)}
    clip = [helper.make_node("Clip", ["y0", "low", "high"], ["r0"])]
    yield qdq(code, "clip", [(shape, x), w], y, after=clip, constants=limits)
    unsigned = Code(scale=0.031, zero=121, dtype="uint8")
    yield qdq(code, "uint8", [(shape, unsigned), w, bias], Code(scale=0.1, zero=3, dtype="uint8"))
    plus = Stored(data=codes("u", 4, 3, 3, 3, dtype="uint8") // 2 + 64, scale=0.0071, zero=128)
    yield qdq(code, "uint8 weights", [(shape, unsigned), plus], unsigned)
    depth = Stored(data=codes("d", 3, 1, 3, 3), scale=np.asarray([0.01, 0.02, 0.003]))
    yield qdq(code, "depthwise", [(shape, x), depth], y, group=3)
    yield qdq(
        code,
        "ties",
        [(shape, Code(scale=0.5)), Stored(data=codes("t", 2, 3, 1, 1), scale=0.25)],
        Code(scale=8.0),
    )


@cases("ConvTranspose")
def conv_transpose(code: str) -> Iterator[Case]:
    x, w, b = (1, 3, 4, 5), reals("tw", 3, 4, 3, 3), reals("tb", 4)
    for opset in (7, 11, 17):
        yield single(code, "plain", [x, w, b], opset=opset)
    yield single(code, "strides", [x, w, b], strides=[2, 3])
    yield single(code, "pads", [x, w], strides=[2, 2], pads=[1, 0, 1, 2])
    yield single(
        code, "output_padding", [x, w, b], strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]
    )
    yield single(code, "SAME_UPPER", [x, w, b], strides=[2, 2], auto_pad="SAME_UPPER")
    yield single(
        code, "SAME_LOWER", [x, reals("t2", 3, 2, 3, 2)], strides=[2, 3], auto_pad="SAME_LOWER"
    )
    yield single(code, "output_shape", [x, w], strides=[2, 2], output_shape=[8, 10])
    yield single(code, "row", [(1, 3, 6), reals("tr", 3, 2, 4)], strides=[2])
    weights = Stored(data=codes("tq", 3, 4, 3, 3), scale=0.01)
    yield qdq(
        code,
        "strides",
        [(x, Code(scale=0.05, zero=3)), weights],
        Code(scale=0.2, zero=-9),
        strides=[2, 2],
    )


@cases("Gemm")
def gemm(code: str) -> Iterator[Case]:
    w, b = reals("gw", 6, 4), reals("gb", 4)
    for opset in (7, 9, 11, 13):
        yield single(code, "plain", [(1, 6), w, b], opset=opset)
    yield single(code, "transB", [(1, 6), np.ascontiguousarray(w.T), b], transB=1)
    yield single(code, "no c", [(1, 6), w])
    yield single(code, "alpha, beta", [(1, 6), w, b], alpha=0.5, beta=-2.0)
    yield single(code, "rows", [(3, 6), w, b])
    yield single(code, "rows, transA", [(6, 3), w, b], transA=1)
    yield single(code, "c of rows", [(3, 6), w, reals("c", 3, 4)])
    yield single(code, "c of columns", [(3, 6), w, reals("c", 3, 1)])
    yield single(code, "c of columns, square", [(4, 6), w, reals("c", 4, 1)])
    yield single(code, "c computed", [(1, 6), w, (1, 4)])
    yield single(code, "c one number", [(1, 6), w, reals("one", 1)])
    q = Stored(data=codes("gq", 4, 6), scale=np.asarray([0.01, 0.02, 0.005, 0.03]))
    x, y = Code(scale=0.04, zero=11), Code(scale=0.2, zero=-20)
    yield qdq(code, "per channel", [((1, 6), x), q], y, transB=1)
    turned = Stored(data=codes("gq", 6, 4), scale=0.013)
    bias = Stored(
        data=codes("qb", 4, dtype="int32") % 999, scale=np.float32(0.04) * np.float32(0.013)
    )
    yield qdq(code, "bias", [((1, 6), x), turned, bias], y)
    yield qdq(code, "rows", [((5, 6), x), turned], y)


@cases("MatMul")
def matmul(code: str) -> Iterator[Case]:
    w = reals("mw", 5, 3)
    for opset in (7, 9, 13):
        yield single(code, "row", [(1, 5), w], opset=opset)
    yield single(code, "rows", [(4, 5), w])
    yield single(code, "batch of rows", [(1, 4, 5), w])
    yield single(code, "four axes", [(1, 2, 4, 5), w])
    yield single(code, "vector", [(1, 4, 5), reals("v", 5)])
    yield single(code, "from the left", [reals("l", 6, 4), (1, 4, 5)])
    yield single(code, "batch of one matrix", [(1, 4, 5), w[None]])
    x, y = Code(scale=0.03, zero=-100), Code(scale=0.3, zero=17)
    yield qdq(code, "row", [((1, 5), x), Stored(data=codes("mq", 5, 3), scale=0.02)], y)
    yield qdq(code, "rows", [((1, 4, 5), x), Stored(data=codes("mq", 5, 3), scale=0.02)], y)


@cases("BatchNormalization")
def batch_norm(code: str) -> Iterator[Case]:
    numbers = [reals(f"bn{i}", 3) for i in range(3)] + [np.abs(reals("bn4", 3)) + 0.1]
    for opset in (7, 9, 14, 15):
        yield single(code, "image", [(1, 3, 4, 5), *numbers], opset=opset)
    yield single(code, "features", [(1, 3), *numbers])
    yield single(code, "row", [(1, 3, 7), *numbers])
    yield single(code, "epsilon", [(1, 3, 2, 2), *numbers], epsilon=0.25)
