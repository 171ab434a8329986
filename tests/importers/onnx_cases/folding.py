"""What is computed when the file is read: constants, and shapes on their way to a Reshape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from .base import Case, Port, cases, codes, info, ints, reals, serialised

IMAGE = (1, 3, 4, 5)


def network(
    label: str,
    nodes: list[Any],
    shape: tuple[int, ...] = IMAGE,
    constants: dict[str, np.ndarray] | None = None,
    opset: int = 17,
    given: list[Any] | None = None,
) -> Case:
    """Nodes from "x" to "y"; `given`: the input's shape in the file, with names of axes."""
    blob = serialised(nodes, [info("x", given or shape)], [info("y", None)], constants or {}, opset)
    ports = (Port(name="x", shape=shape),)
    return Case(label=f"{label}, opset {opset}", blob=blob, inputs=ports)


def constant(name: str, value: Any) -> Any:
    return helper.make_node(
        "Constant", [], [name], value=numpy_helper.from_array(np.asarray(value))
    )


@cases("Constant")
def constants(code: str) -> Iterator[Case]:
    add = helper.make_node("Add", ["x", "c"], ["y"])
    for opset in (7, 11, 13):
        yield network("tensor", [constant("c", reals("c", 3, 1, 1)), add], opset=opset)
    numbers = helper.make_node("Constant", [], ["c"], value_floats=[1.0, 2.0, 3.0, 4.0, 5.0])
    yield network("numbers", [numbers, add])
    yield network("number", [helper.make_node("Constant", [], ["c"], value_float=0.5), add])
    half = helper.make_node("Cast", ["h"], ["c"], to=1)
    yield network("half", [constant("h", reals("h", 5).astype(np.float16)), half, add])
    chain = [
        constant("a", reals("a", 3, 2)),
        constant("b", reals("b", 2, 5)),
        helper.make_node("MatMul", ["a", "b"], ["ab"]),
        helper.make_node("Sin", ["ab"], ["s"]),
        helper.make_node("Unsqueeze", ["s", "one"], ["c"]),
    ]
    yield network("chain", [*chain, add], constants={"one": ints(1)})


@cases("Shape")
def shapes(code: str) -> Iterator[Case]:
    gather = helper.make_node("Gather", ["s", "zero"], ["n"], axis=0)
    join = helper.make_node("Concat", ["n1", "rest"], ["to"], axis=0)
    reshape = helper.make_node("Reshape", ["x", "to"], ["y"])
    shape = helper.make_node("Shape", ["x"], ["s"])
    stored = {"zero": np.asarray(0, np.int64), "rest": ints(-1)}
    for opset in (7, 11):
        wrap = helper.make_node("Unsqueeze", ["n"], ["n1"], axes=[0])
        nodes = [shape, gather, wrap, join, reshape]
        yield network("torch's flatten", nodes, constants=stored, opset=opset)
    for given in (list(IMAGE), ["batch", *IMAGE[1:]]):
        wrap = helper.make_node("Unsqueeze", ["n", "axis"], ["n1"])
        nodes = [shape, gather, wrap, join, reshape]
        yield network(
            f"torch's flatten {given[0]}", nodes, constants={**stored, "axis": ints(0)}, given=given
        )
    part = helper.make_node("Shape", ["x"], ["s"], start=1, end=3)
    yield network(
        "part",
        [part, helper.make_node("Concat", ["rest", "s", "five"], ["to"], axis=0), reshape],
        constants={"rest": ints(1), "five": ints(5)},
    )
    back = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Shape", ["x"], ["to"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Reshape", ["f", "to"], ["y"]),
    ]
    yield network("back", back)


@cases("Size")
def sizes(code: str) -> Iterator[Case]:
    nodes = [
        helper.make_node("Size", ["x"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axis"], ["n1"]),
        helper.make_node("Concat", ["one", "n1"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["y"]),
    ]
    for opset in (13, 14, 17):
        for shape in (IMAGE, (1, 2, 3)):
            stored = {"axis": ints(0), "one": ints(1)}
            yield network(f"{shape}", nodes, shape, stored, opset)


@cases("ConstantOfShape")
def constants_of_shape(code: str) -> Iterator[Case]:
    for opset in (9, 13, 17):
        for value in (0.0, 1.5):
            filled = helper.make_node(
                "ConstantOfShape",
                ["s"],
                ["c"],
                value=numpy_helper.from_array(np.asarray([value], np.float32)),
            )
            nodes = [
                helper.make_node("Shape", ["x"], ["s"]),
                filled,
                helper.make_node("Add", ["x", "c"], ["y"]),
            ]
            yield network(f"{value}", nodes, opset=opset)


@cases("Range")
def ranges(code: str) -> Iterator[Case]:
    for opset in (11, 13):
        for first, step in ((0.0, 1.0), (-2.0, 0.5), (4.0, -1.0)):
            last = first + 5 * step
            stored = {
                "first": np.float32(first),
                "last": np.float32(last),
                "step": np.float32(step),
            }
            nodes = [
                helper.make_node("Range", ["first", "last", "step"], ["c"]),
                helper.make_node("Mul", ["x", "c"], ["y"]),
            ]
            constants_ = {name: np.asarray(value) for name, value in stored.items()}
            yield network(f"{first} by {step}", nodes, constants=constants_, opset=opset)


def gelu_nodes(first_half: bool) -> list[Any]:
    """As torch exports GELU before opset 20, or with the half first."""
    nodes = [
        helper.make_node("Div", ["x", "root"], ["d"]),
        helper.make_node("Erf", ["d"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["a"]),
    ]
    if first_half:
        halves = helper.make_node("Mul", ["x", "half"], ["h"])
        return [halves, *nodes, helper.make_node("Mul", ["h", "a"], ["y"])]
    product = helper.make_node("Mul", ["x", "a"], ["m"])
    return [*nodes, product, helper.make_node("Mul", ["m", "half"], ["y"])]


@cases("Gelu")
def gelu_by_erf(code: str) -> Iterator[Case]:
    stored = {
        "root": np.asarray(np.sqrt(2), np.float32),
        "one": np.asarray(1, np.float32),
        "half": np.asarray(0.5, np.float32),
    }
    for opset in (9, 13, 17):
        for first in (False, True):
            label = f"by Erf, half {'first' if first else 'last'}"
            yield network(label, gelu_nodes(first), constants=stored, opset=opset)


@cases("DequantizeLinear")
def weights_alone(code: str) -> Iterator[Case]:
    """A float network whose file keeps weights as codes, per tensor or per channel."""
    conv = helper.make_node("Conv", ["x", "w"], ["y"])
    for opset in (10, 13, 19):
        stored = {
            "q": codes("alone", 4, 3, 2, 2),
            "s": np.asarray(0.02, np.float32),
            "z": np.asarray(3, np.int8),
        }
        nodes = [helper.make_node(code, ["q", "s", "z"], ["w"]), conv]
        yield network("weights alone", nodes, constants=stored, opset=opset)
    stored = {"q": codes("alone", 4, 3, 2, 2), "s": np.asarray([0.1, 0.2, 0.05, 1], np.float32)}
    nodes = [helper.make_node(code, ["q", "s"], ["w"], axis=0), conv]
    yield network("weights alone, per channel", nodes, constants=stored)


@cases("Add")
def biases(code: str) -> Iterator[Case]:
    """Added after a product: one operator with the product."""
    conv = helper.make_node("Conv", ["x", "w"], ["p"])
    add = helper.make_node("Add", ["p", "b"], ["y"])
    weights = reals("bw", 4, 3, 2, 2)
    for shape in ((4, 1, 1), (1, 4, 1, 1)):
        stored = {"w": weights, "b": reals("b", *shape)}
        yield network(f"bias of Conv {shape}", [conv, add], constants=stored)
    along = {"w": weights, "b": reals("b", 4)}
    yield network("along columns, no bias", [conv, add], constants=along)
    matmul = helper.make_node("MatMul", ["x", "w"], ["p"])
    reverse = helper.make_node("Add", ["b", "p"], ["y"])
    stored = {"w": reals("mw", 5, 3), "b": reals("mb", 3)}
    yield network("bias of MatMul", [matmul, reverse], (1, 4, 5), stored)
    twice = [conv, add, helper.make_node("Relu", ["p"], ["r"])]
    stored = {"w": weights, "b": reals("b", 4, 1, 1)}
    both = [*twice[:1], twice[2], helper.make_node("Add", ["p", "b"], ["q"])]
    joined = [*both, helper.make_node("Mul", ["q", "r"], ["y"])]
    yield network("read twice", joined, constants=stored)
