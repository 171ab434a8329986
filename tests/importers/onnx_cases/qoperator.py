"""Operators on codes (QOperator form), under the names of the rules that import them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from .base import Case, Code, Port, Stored, cases, codes, info, rng, serialised

X = Code(scale=0.041, zero=9)
W = Code(scale=0.023, zero=-17)
Y = Code(scale=0.113, zero=-11)
U = Code(scale=0.041, zero=137, dtype="uint8")
V = Code(scale=0.107, zero=100, dtype="uint8")
KINDS = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8}
MICROSOFT = "com.microsoft"

Given = tuple[tuple[int, ...], Code] | Stored | np.ndarray | None


def qoperator(
    code: str,
    label: str,
    given: Sequence[Given],
    result: Code,
    *,
    domain: str = "",
    before: bool = False,
    last: Sequence[np.ndarray] = (),
    **options: Any,
) -> Case:
    """One operator: every operand followed by its scale and zero point, then the result's.

    before: the result's come first (QLinearConcat). last: plain constants behind them.
    """
    kept: dict[str, np.ndarray] = {
        "y_s": np.asarray(result.scale, np.float32),
        "y_z": np.asarray(result.zero, result.dtype),
    }
    names: list[str] = ["y_s", "y_z"] if before else []
    ports = []
    for index, what in enumerate(given):
        name = f"x{index}"
        if isinstance(what, Stored):
            scale = np.asarray(what.scale, np.float32)
            kept |= {name: what.data, f"{name}_s": scale}
            kept[f"{name}_z"] = np.full(scale.shape, what.zero, what.data.dtype)
        elif isinstance(what, np.ndarray):
            kept[name] = what
            names.append(name)
            continue
        else:
            assert what is not None
            shape, own = what
            kept |= {
                f"{name}_s": np.asarray(own.scale, np.float32),
                f"{name}_z": np.asarray(own.zero, own.dtype),
            }
            ports.append(
                Port(name=name, shape=shape, scale=own.scale, zero=own.zero, dtype=own.dtype)
            )
        names += [name, f"{name}_s", f"{name}_z"]
    if not before:
        names += ["y_s", "y_z"]
    for index, array in enumerate(last):
        kept[f"last{index}"] = array
        names.append(f"last{index}")
    node = helper.make_node(code, names, ["y"], domain=domain, **options)
    blob = serialised(
        [node],
        [info(p.name, p.shape, KINDS[p.dtype]) for p in ports],
        [info("y", None, KINDS[result.dtype])],
        kept,
    )
    out = Port(name="y", scale=result.scale, zero=result.zero, dtype=result.dtype)
    return Case(label=f"{code} {label}", blob=blob, inputs=tuple(ports), outputs=(out,))


def biases(label: str, count: int) -> np.ndarray:
    return rng(label).integers(-3000, 3000, count).astype(np.int32)


@cases("QLinearConv")
def qlinear_conv(code: str) -> Iterator[Case]:
    x, image = (1, 3, 6, 5), codes("qw", 4, 3, 3, 3)
    w, b = Stored(data=image, scale=0.013), biases("qb", 4)
    each = Stored(data=image, scale=np.asarray([0.01, 0.02, 0.005, 0.03]))
    name = "QLinearConv"
    yield qoperator(name, "plain", [(x, X), w], Y)
    yield qoperator(name, "bias", [(x, X), w], Y, last=[b], pads=[1, 1, 1, 1])
    yield qoperator(name, "per channel", [(x, X), each], Y, last=[b], strides=[2, 1])
    unsigned = Stored(data=codes("qu", 4, 3, 3, 3, dtype="uint8") // 2 + 64, scale=0.013, zero=128)
    yield qoperator(name, "uint8", [(x, U), unsigned], V, last=[b])
    depth = Stored(data=codes("qd", 3, 1, 3, 3), scale=0.02)
    yield qoperator(name, "depthwise", [(x, X), depth], Y, group=3)
    row = Stored(data=codes("qr", 4, 3, 3), scale=0.02)
    yield qoperator(name, "row", [((1, 3, 9), X), row], Y)


@cases("QLinearMatMul")
def qlinear_matmul(code: str) -> Iterator[Case]:
    w = Stored(data=codes("qm", 6, 4), scale=0.017)
    name = "QLinearMatMul"
    yield qoperator(name, "row", [((1, 6), X), w], Y)
    yield qoperator(name, "rows", [((5, 6), X), w], Y)
    yield qoperator(name, "batch", [((1, 5, 6), X), w], Y)
    each = Stored(data=codes("qm", 6, 4), scale=np.asarray([0.01, 0.02, 0.005, 0.03]))
    yield qoperator(name, "per channel", [((1, 6), X), each], Y)
    unsigned = Stored(data=codes("qn", 6, 4, dtype="uint8") // 2 + 64, scale=0.013, zero=128)
    yield qoperator(name, "uint8", [((1, 6), U), unsigned], V)


@cases("QGemm")
def qgemm(code: str) -> Iterator[Case]:
    w = Stored(data=codes("qg", 4, 6), scale=0.017)
    b = biases("qgb", 4)
    yield qoperator("QGemm", "bias", [((1, 6), X), w, b], Y, domain=MICROSOFT, transB=1, alpha=1.0)
    yield qoperator("QGemm", "rows", [((3, 6), X), w, b], Y, domain=MICROSOFT, transB=1, alpha=1.0)
    turned = Stored(data=codes("qt", 6, 4), scale=np.asarray([0.01, 0.02, 0.005, 0.03]))
    options = {"domain": MICROSOFT, "alpha": 1.0}
    yield qoperator("QGemm", "per channel", [((1, 6), X), turned, b], Y, **options)
    unsigned = Stored(data=codes("qv", 6, 4, dtype="uint8") // 2 + 64, scale=0.01, zero=128)
    yield qoperator("QGemm", "uint8", [((1, 6), U), unsigned, b], V, **options)


@cases("QLinearAdd", "QLinearMul")
def qlinear_pairs(code: str) -> Iterator[Case]:
    image, name = (1, 3, 4, 5), code
    yield qoperator(name, "two", [(image, X), (image, W)], Y, domain=MICROSOFT)
    yield qoperator(name, "gate", [(image, X), ((1, 3, 1, 1), W)], Y, domain=MICROSOFT)
    yield qoperator(name, "uint8", [(image, U), (image, V)], U, domain=MICROSOFT)
    stored = Stored(data=codes("qs", 3, 1, 1), scale=0.02)
    yield qoperator(name, "stored", [(image, X), stored], Y, domain=MICROSOFT)


@cases("QLinearSigmoid", "QLinearLeakyRelu")
def qlinear_functions(code: str) -> Iterator[Case]:
    name = code
    y = Code(scale=1 / 256, zero=-128) if code == "QLinearSigmoid" else Y
    yield qoperator(name, "int8", [((1, 3, 4, 5), X)], y, domain=MICROSOFT)
    yield qoperator(name, "uint8", [((1, 9), U)], V, domain=MICROSOFT)


@cases("QLinearGlobalAveragePool", "QLinearAveragePool")
def qlinear_pools(code: str) -> Iterator[Case]:
    options: dict[str, Any] = {"kernel_shape": [3, 3]} if code == "QLinearAveragePool" else {}
    name, image = code, (1, 3, 5, 6)
    yield qoperator(name, "same", [(image, X)], X, domain=MICROSOFT, **options)
    yield qoperator(name, "recoded", [(image, X)], Y, domain=MICROSOFT, **options)
    yield qoperator(name, "uint8", [(image, U)], V, domain=MICROSOFT, **options)


@cases("QLinearConcat")
def qlinear_concat(code: str) -> Iterator[Case]:
    image = (1, 3, 4, 5)
    given = [(image, X), (image, W)]
    yield qoperator("QLinearConcat", "int8", given, Y, domain=MICROSOFT, before=True, axis=1)
    given = [(image, U), (image, V)]
    yield qoperator("QLinearConcat", "uint8", given, V, domain=MICROSOFT, before=True, axis=3)


@cases("QLinearSoftmax")
def qlinear_softmax(code: str) -> Iterator[Case]:
    y = Code(scale=1 / 256, zero=0, dtype="uint8")
    options = {"domain": MICROSOFT, "axis": -1, "opset": 13}
    yield qoperator("QLinearSoftmax", "uint8", [((1, 10), U)], y, **options)
    z = Code(scale=1 / 256, zero=-128)
    yield qoperator("QLinearSoftmax", "int8", [((1, 4, 10), X)], z, **options)


@cases("MatMulInteger", "ConvInteger")
def integer_products(code: str) -> Iterator[Case]:
    """MatMulInteger and ConvInteger with everything that makes codes of their sums."""
    name = code
    weights = codes("mi", 6, 4) if code == "MatMulInteger" else codes("ci", 4, 3, 3, 3)
    shape = (1, 6) if code == "MatMulInteger" else (1, 3, 5, 5)
    for label, bias in (("no bias", False), ("bias", True)):
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "x_s", "x_z"], ["xq"]),
            helper.make_node(name, ["xq", "w", "x_z", "w_z"], ["sums"]),
            helper.make_node("Cast", ["sums"], ["reals"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["reals", "s"], ["scaled"]),
        ]
        if bias:
            nodes.append(helper.make_node("Add", ["scaled", "b"], ["biased"]))
        nodes.append(
            helper.make_node(
                "QuantizeLinear", ["biased" if bias else "scaled", "y_s", "y_z"], ["y"]
            )
        )
        constants = {
            "x_s": np.float32(0.04),
            "x_z": np.asarray(131, np.uint8),
            "w": weights,
            "w_z": np.asarray(0, np.int8),
            "s": np.float32(0.04 * 0.013),
            "y_s": np.float32(0.117),
            "y_z": np.asarray(120, np.uint8),
        }
        if bias:
            constants["b"] = (
                rng("ib")
                .normal(size=4)
                .astype(np.float32)
                .reshape((4,) if code == "MatMulInteger" else (1, 4, 1, 1))
            )
        blob = serialised(
            nodes, [info("x", shape)], [info("y", None, TensorProto.UINT8)], constants
        )
        yield Case(
            label=f"{name} {label}",
            blob=blob,
            inputs=(Port(name="x", shape=shape, scale=0.04, zero=131, dtype="uint8"),),
            outputs=(Port(name="y", scale=0.117, zero=120, dtype="uint8"),),
        )
