"""Groups of ONNX nodes that mean one operator: biases added after a product, GELU by Erf, vectors
divided by their length; and Expand before operators that broadcast anyway.

Both say the same real function, so nothing is lost; in quantised graphs the group then has no
value in between that would have no encoding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from isobit.core.types import AnyArray
from isobit.importers.onnx_file import FileModel, FileNode

PRODUCTS = {"Conv": 1, "ConvTranspose": 1, "MatMul": 0}
"""Operators that take a bias, and the axis of their result that it runs along, from the left or,
for MatMul, the last one.
"""


BROADCASTING = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min"})
MOST_FACTORS = 4
"""Of GELU there are three."""
LARGEST_FLOOR = 1e-6
"""The floor of a length that our own operator has; a lower one differs for shorter vectors only."""


def fuse(model: FileModel) -> None:
    """Rewrite the nodes of a model in place."""
    _skip_expansions(model)
    _Fuser(model).run()


def _skip_expansions(model: FileModel) -> None:
    """Let operators that broadcast read what an Expand reads."""
    readers: dict[str, list[FileNode]] = {}
    for node in model.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    instead: dict[str, str] = {}
    for node in model.nodes:
        if node.code != "Expand" or node.domain or node.outputs[0] in model.outputs:
            continue
        behind = readers.get(node.outputs[0], [])
        if behind and all(_broadcasts(model, reader, node) for reader in behind):
            instead[node.outputs[0]] = node.inputs[0]
    model.absorbed.update(instead)
    model.nodes = [
        replace(node, inputs=tuple(_origin(instead, name) for name in node.inputs))
        for node in model.nodes
        if not (node.code == "Expand" and node.outputs[0] in instead)
    ]


def _origin(instead: dict[str, str], name: str) -> str:
    while name in instead:
        name = instead[name]
    return name


def _broadcasts(model: FileModel, reader: FileNode, expand: FileNode) -> bool:
    """Whether a reader gives a result of the same shape without the Expand."""
    if reader.code not in BROADCASTING or reader.domain or reader.outputs[0] not in model.values:
        return False
    names = [expand.inputs[0] if n == expand.outputs[0] else n for n in reader.inputs]
    shapes = [
        model.constants[n].shape if n in model.constants else model.values[n].shape
        for n in names
        if n in model.constants or n in model.values
    ]
    full = model.values[reader.outputs[0]].shape
    return len(shapes) == len(names) and tuple(np.broadcast_shapes(*shapes)) == full


class _Fuser:
    def __init__(self, model: FileModel) -> None:
        self.model = model
        self.producer = {name: node for node in model.nodes for name in node.outputs}
        self.readers: dict[str, int] = {}
        for node in model.nodes:
            for name in node.inputs:
                self.readers[name] = self.readers.get(name, 0) + 1
        self.instead: dict[int, FileNode | None] = {}

    def run(self) -> None:
        """Find and replace all groups."""
        for node in self.model.nodes:
            if node.domain or len(node.inputs) != 2:
                continue
            if node.code == "Add":
                self.bias(node)
            elif node.code == "Mul":
                self.gelu(node)
            elif node.code == "Div":
                self.normalised(node)
        found = [self.instead.get(node.position, node) for node in self.model.nodes]
        self.model.nodes = [node for node in found if node is not None]

    def drop(self, node: FileNode, into: FileNode) -> None:
        """Take a node away that another one computes on its way."""
        self.instead[node.position] = None
        if node is not into:
            self.model.absorbed.update((name, into.outputs[0]) for name in node.outputs)

    def before(self, name: str, *codes: str) -> FileNode | None:
        """Return the node that computes a value which nothing else reads, if it is one of these."""
        node = self.producer.get(name)
        hidden = self.readers.get(name) == 1 and name not in self.model.outputs
        fits = node is not None and node.domain == "" and node.code in codes and hidden
        return node if fits and node is not None and node.position not in self.instead else None

    def bias(self, add: FileNode) -> None:
        """Move a stored operand of an Add into the product before it."""
        for name, other in _both(add):
            product = self.before(name, *PRODUCTS)
            if product is None or not self.fits(product, name, other):
                continue
            inputs = (*product.inputs[:2], self.flat(other))
            self.drop(product, into=add)
            self.instead[add.position] = replace(
                product, position=add.position, inputs=inputs, outputs=add.outputs
            )
            return

    def fits(self, product: FileNode, result: str, bias: str) -> bool:
        """Whether a bias has one entry per channel, and the product none yet."""
        value, data = self.model.values.get(result), self.stored(bias)
        if value is None or data is None or any(product.inputs[2:]):
            return False
        if product.code == "MatMul":
            weights = self.stored(product.inputs[1])
            row = data.shape == (*(1,) * (data.ndim - 1), value.shape[-1])
            same_rank = data.ndim <= len(value.shape)
            return weights is not None and row and same_rank and self.may_flatten(data, bias)
        channels = value.shape[PRODUCTS[product.code]]
        image = (channels, *(1,) * (len(value.shape) - 2))
        return data.shape in (image, (1, *image)) and self.may_flatten(data, bias)

    def may_flatten(self, data: AnyArray, name: str) -> bool:
        return data.ndim == 1 or name in self.model.constants

    def stored(self, name: str) -> AnyArray | None:
        """Return the data of a constant, or of the codes that a DequantizeLinear makes reals."""
        if name in self.model.constants:
            return self.model.constants[name]
        node = self.producer.get(name)
        if node is not None and node.code == "DequantizeLinear":
            return self.model.constants.get(node.inputs[0])
        return None

    def flat(self, name: str) -> str:
        """Return a constant of one axis."""
        if name not in self.model.constants or self.model.constants[name].ndim == 1:
            return name
        own = f"{name}_flat"
        while own in self.model.constants or own in self.model.values or own in self.producer:
            own += "_"
        self.model.constants[own] = self.model.constants[name].reshape(-1)
        return own

    def gelu(self, last: FileNode) -> None:
        """X * 1/2 * (1 + erf(x / sqrt(2))), the factors in any order."""
        nodes, leaves = self.factors(last)
        half = [name for name in leaves if self.is_number(name, 0.5)]
        adds = [(name, self.before(name, "Add")) for name in leaves]
        found = [(name, add) for name, add in adds if add is not None]
        rest = [name for name in leaves if name not in (*half, *(n for n, _ in found))]
        if len(half) != 1 or len(found) != 1 or len(rest) != 1:
            return
        erf = next(
            (
                self.before(name, "Erf")
                for name, other in _both(found[0][1])
                if self.is_number(other, 1.0)
            ),
            None,
        )
        scaled = None if erf is None else self.before(erf.inputs[0], "Div", "Mul")
        if erf is None or scaled is None or not self.is_scaled(scaled, rest[0]):
            return
        for node in (*nodes, found[0][1], erf, scaled):
            self.drop(node, into=last)
        self.instead[last.position] = replace(
            last, code="Gelu", inputs=(rest[0],), options={"approximate": "none"}
        )

    def normalised(self, last: FileNode) -> None:
        """X / max(|x|, a small number), with the length along one axis: torch's `normalize`."""
        x, name = last.inputs
        floor = self.before(name, "Clip", "Max")
        length = None if floor is None else self.before(floor.inputs[0], "ReduceL2")
        if floor is None or length is None or length.inputs[0] != x or len(floor.inputs) < 2:
            return
        low = self.model.constants.get(floor.inputs[1])
        high = self.model.constants.get(floor.inputs[2]) if len(floor.inputs) > 2 else None
        bounded = len(floor.inputs) > 2 and floor.inputs[2] and not _is_huge(high)
        bounded = bounded or (floor.code == "Max" and len(floor.inputs) != 2)
        given = length.options.get("axes")
        if given is None and len(length.inputs) > 1:
            given = self.model.constants.get(length.inputs[1])
        axes = [] if given is None else np.asarray(given).reshape(-1).tolist()
        small = low is not None and low.size == 1 and 0 < float(low.reshape(())) <= LARGEST_FLOOR
        if bounded or not small or len(axes) != 1 or not length.options.get("keepdims", 1):
            return
        for node in (floor, length):
            self.drop(node, into=last)
        self.instead[last.position] = replace(
            last, code="LpNormalization", inputs=(x,), options={"axis": int(axes[0]), "p": 2}
        )

    def factors(self, last: FileNode) -> tuple[list[FileNode], list[str]]:
        """Return the nodes of a product of products, and what they multiply; nothing of a product
        of more than `MOST_FACTORS`.
        """
        nodes, leaves = [last], []
        for node in nodes:
            if len(nodes) >= MOST_FACTORS:
                return [], []
            for operand in node.inputs:
                inner = self.before(operand, "Mul")
                if inner is None:
                    leaves.append(operand)
                else:
                    nodes.append(inner)
        return nodes, leaves

    def is_scaled(self, node: FileNode, x: str) -> bool:
        """Whether a node is x / sqrt(2)."""
        if node.code == "Div":
            return node.inputs[0] == x and self.is_number(node.inputs[1], math.sqrt(2.0))
        return any(
            name == x and self.is_number(other, math.sqrt(0.5)) for name, other in _both(node)
        )

    def is_number(self, name: str, value: float) -> bool:
        data = self.model.constants.get(name)
        # Files hold sqrt(2) in float32, 6e-8 from the number; a part in 1e6 is far below the 1e-5
        # that float graphs are held to.
        return data is not None and data.size == 1 and bool(np.isclose(data, value, rtol=1e-6))


def _is_huge(number: AnyArray | None) -> bool:
    return number is not None and number.size == 1 and float(number.reshape(())) >= 1e30


def _both(node: FileNode) -> Iterator[tuple[str, str]]:
    """Yield the two operands in both orders."""
    a, b = node.inputs
    yield a, b
    yield b, a
