"""Operators that take every element by itself, or two at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import TensorProto, helper

from .base import (
    Case,
    Code,
    Port,
    Stored,
    cases,
    codes,
    info,
    qdq,
    reals,
    serialised,
    single,
)

SHAPES = ((1, 3, 4, 5), (1, 7), (4, 3), (1, 2, 5), (2, 3, 2), (6,))
X = Code(scale=0.047, zero=9)
PLAIN = (
    "Abs",
    "Ceil",
    "Cos",
    "Erf",
    "Exp",
    "Floor",
    "Log",
    "Neg",
    "Round",
    "Sigmoid",
    "Sin",
    "Softsign",
)
PLAIN += ("Sqrt", "Tanh")


@cases(*PLAIN)
def functions(code: str) -> Iterator[Case]:
    positive = code in ("Log", "Sqrt")
    oldest = {"Round": 11, "Erf": 9}.get(code, 7)
    for opset, shape in zip((oldest, 11, 13, 17, 17, 17), SHAPES, strict=True):
        yield single(code, f"{shape}", [shape], opset=opset, positive=positive)
    if not positive:
        yield qdq(code, "table", [((1, 3, 4, 2), X)], Code(scale=0.013, zero=-30))
        unsigned = Code(scale=0.03, zero=128, dtype="uint8")
        yield qdq(code, "uint8", [((1, 9), unsigned)], Code(scale=0.008, zero=100, dtype="uint8"))


@cases("Relu", "HardSwish", "Mish", "Selu", "Softplus")
def activations(code: str) -> Iterator[Case]:
    least = {"HardSwish": 14, "Mish": 18}.get(code, 7)
    for opset, shape in zip((least, 14, 14, 18, 18, 18), SHAPES, strict=True):
        yield single(code, f"{shape}", [shape], opset=max(opset, least))
    yield qdq(code, "table", [((1, 3, 4, 2), X)], Code(scale=0.02, zero=-30), opset=max(17, least))
    yield qdq(code, "same encoding", [((1, 9), X)], X, opset=max(17, least))
    if code == "Relu":
        yield qdq(code, "no quantisation of its own", [((1, 9), X)], None)


@cases("Elu", "Celu", "LeakyRelu", "Swish")
def sloped(code: str) -> Iterator[Case]:
    least = {"Celu": 12, "Swish": 24}.get(code, 7)
    for opset, shape in zip((least, 12, 17, 17), SHAPES, strict=False):
        yield single(code, f"{shape}", [shape], opset=max(least, opset))
    for alpha in (0.3, 1.5) if code != "Swish" else (1.0,):
        yield single(code, f"alpha {alpha}", [(1, 2, 3, 4)], alpha=alpha, opset=max(17, least))
        y = Code(scale=0.03, zero=-12)
        yield qdq(code, f"alpha {alpha}", [((1, 8), X)], y, alpha=alpha, opset=max(17, least))


@cases("Gelu")
def gelu(code: str) -> Iterator[Case]:
    for shape in SHAPES[:4]:
        yield single(code, f"exact {shape}", [shape], opset=20)
    yield single(code, "tanh", [(1, 2, 3, 4)], opset=20, approximate="tanh")
    yield qdq(code, "table", [((1, 8), X)], Code(scale=0.03, zero=-100), opset=20)


@cases("HardSigmoid")
def hard_sigmoid(code: str) -> Iterator[Case]:
    for opset, shape in zip((7, 11, 17, 22), SHAPES, strict=False):
        yield single(code, f"{shape}", [shape], opset=opset)
    yield single(code, "torch's", [(1, 9)], alpha=1 / 6, beta=0.5)
    yield single(code, "steep", [(1, 3, 2, 2)], alpha=0.7, beta=-0.1)
    yield qdq(code, "table", [((1, 8), X)], Code(scale=1 / 256, zero=-128))


@cases("Clip")
def clip(code: str) -> Iterator[Case]:
    yield single(code, "old", [(1, 3, 2, 2)], opset=7, min=-0.5, max=1.5)
    yield single(code, "old, no bounds", [(1, 7)], opset=10)
    low, high = np.float32(-0.75), np.float32(2.0)
    for opset in (11, 13):
        yield single(code, "both", [(1, 3, 2, 2), np.asarray(low), np.asarray(high)], opset=opset)
    yield single(code, "low", [(1, 9), np.asarray(low)])
    yield single(code, "high", [(1, 9), None, np.asarray(high)])
    six = [np.asarray(0.0, np.float32), np.asarray(6.0, np.float32)]
    yield qdq(code, "table", [((1, 8), X), *six], Code(scale=0.03, zero=-128))
    yield qdq(code, "same encoding", [((1, 8), X), *six], X)
    on_grid = [np.asarray(-0.5, np.float32), np.asarray(1.0, np.float32)]
    yield qdq(code, "on the grid", [((1, 40), Code(scale=1 / 64)), *on_grid], None)


@cases("Pow")
def power(code: str) -> Iterator[Case]:
    for exponent in (1.0, 2.0, 0.5):
        for opset in (7, 13):
            yield single(
                code,
                f"{exponent}",
                [(1, 3, 2, 2), np.asarray(exponent, np.float32)],
                opset=opset,
                positive=exponent == 0.5,
            )


@cases("Cast")
def cast(code: str) -> Iterator[Case]:
    for opset in (9, 13, 19):
        for shape in ((1, 3, 2), (4, 3)):
            yield single(code, f"to float {shape}", [shape], opset=opset, to=1)
    nodes = [helper.make_node("Cast", ["x"], ["f"], to=1), helper.make_node("Neg", ["f"], ["y"])]
    given = [info("x", (1, 3, 2), TensorProto.UINT8)]
    blob = serialised(nodes, given, [info("y", None)], {})
    port = Port(name="x", shape=(1, 3, 2), scale=1.0, dtype="uint8")
    yield Case(label="from uint8", blob=blob, inputs=(port,))


@cases("QuantizeLinear", "DequantizeLinear")
def requantize(code: str) -> Iterator[Case]:
    pairs = [(0.05, 3, 0.05, 3), (0.0513, 3, 0.02, -9), (0.01, 0, 0.3, 0), (0.5, -4, 0.25, 4)]
    for s, z, t, u in pairs:
        label = f"{s},{z} to {t},{u}"
        yield qdq("Identity", label, [((1, 3, 4), Code(scale=s, zero=z))], Code(scale=t, zero=u))
    to = Code(scale=0.02, zero=128, dtype="uint8")
    yield qdq("Identity", "to uint8", [((1, 9), Code(scale=0.04))], to)
    yield qdq("Identity", "from uint8", [((1, 9), to)], Code(scale=0.0413, zero=5))


@cases("Add", "Sub", "Mul")
def pairs(code: str) -> Iterator[Case]:
    image = (1, 3, 4, 5)
    for opset in (7, 13, 14):
        yield single(code, "two", [image, image], opset=opset)
    yield single(code, "channels", [image, reals("c", 1, 3, 1, 1)])
    yield single(code, "rank 3", [image, reals("c", 3, 1, 1)])
    yield single(code, "last axis", [image, reals("l", 5)])
    yield single(code, "number", [image, np.asarray(1.7, np.float32)])
    yield single(code, "constant first", [reals("whole", *image), image])
    yield single(code, "gate", [image, (1, 3, 1, 1)])
    yield single(code, "both grow", [(1, 3, 1, 5), (1, 1, 4, 5)])
    yield single(code, "without batch", [(4, 3), (3,)])
    a, b, y = Code(scale=0.05, zero=3), Code(scale=0.021, zero=-40), Code(scale=0.071, zero=11)
    yield qdq(code, "two", [(image, a), (image, b)], y)
    yield qdq(code, "gate", [(image, a), ((1, 3, 1, 1), b)], y)
    stored = Stored(data=codes("pair", 1, 3, 1, 1), scale=0.013, zero=0)
    yield qdq(code, "stored", [(image, a), stored], y)
    u = Code(scale=0.04, zero=120, dtype="uint8")
    yield qdq(code, "uint8", [((1, 9), u), ((1, 9), u)], Code(scale=0.09, zero=99, dtype="uint8"))


@cases("Div")
def div(code: str) -> Iterator[Case]:
    image = (1, 3, 4, 5)
    for opset in (7, 13, 14):
        yield single(code, "channels", [image, reals("c", 1, 3, 1, 1)], opset=opset)
    yield single(code, "number", [(1, 7), np.asarray(-3.0, np.float32)])
    yield single(code, "whole", [image, np.abs(reals("w", *image)) + 0.5])
    divisor = Stored(data=np.asarray(50, np.int8), scale=0.1)
    yield qdq(code, "number", [((1, 9), X), divisor], Code(scale=0.02))
    relu = [helper.make_node("Relu", ["y0"], ["r0"])]
    yield qdq(code, "number, relu", [((1, 9), X), divisor], Code(scale=0.02), after=relu)


@cases("Sum", "Mean", "Max", "Min")
def several(code: str) -> Iterator[Case]:
    image = (1, 3, 4, 5)
    for opset in (8, 13):
        yield single(code, "two", [image, image], opset=opset)
        yield single(code, "three", [image, (1, 3, 1, 1), image], opset=opset)
    yield single(code, "stored", [image, reals("c", 3, 1, 1)])
    yield single(code, "rows", [(4, 3), (4, 3)])
    a, b = Code(scale=0.05, zero=3), Code(scale=0.021, zero=-40)
    if code != "Mean":
        yield qdq(code, "two", [(image, a), (image, b)], Code(scale=0.0613, zero=-3))


@cases("PRelu")
def prelu(code: str) -> Iterator[Case]:
    for opset in (7, 9, 16):
        yield single(code, "channels", [(1, 3, 4, 5), np.abs(reals("s", 3, 1, 1))], opset=opset)
    yield single(code, "number", [(1, 3, 4, 5), reals("s", 1)])
    yield single(code, "features", [(1, 7), reals("s", 7)])
    yield single(code, "whole", [(1, 3, 2, 2), reals("s", 1, 3, 2, 2)])
    slope = Stored(data=codes("slope", 3, 1, 1), scale=0.004)
    yield qdq(code, "channels", [((1, 3, 4, 5), X), slope], Code(scale=0.05, zero=-20))
