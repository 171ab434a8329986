"""Quantised ONNX graphs as operators on codes: QuantizeLinear and DequantizeLinear disappear.

A graph in QDQ form computes with reals between a DequantizeLinear and the next QuantizeLinear; in
QOperator form one node (QLinearConv) is such a group. Both say the same: an operator of real
arithmetic from codes with exact scales to codes with exact scales. So both become the float
operator's name with operands that have an encoding, and the rules see one form.

The real input of a network becomes its codes, and so do real outputs: a QuantizeLinear at the
border is left to whoever fills the input buffer, in the encoding that the input's type states.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from isobit.core.errors import IsobitError, Unsupported
from isobit.core.types import AnyArray
from isobit.importers.onnx_file import FileModel, FileNode
from isobit.importers.onnx_names import INTEGER, QLINEAR, operands


@dataclass(frozen=True, slots=True)
class Coding:
    """What codes stand for: `scale * (q - zero)`, one scale or one per index of `axis`."""

    scale: tuple[float, ...]
    zero: int
    axis: int = 0
    dtype: str = "int8"
    """NumPy's name of the codes' type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """An operator to import. `bounds`: of the activation behind it, which it computes as well."""

    node: FileNode
    code: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: Mapping[str, Any]
    bounds: tuple[float, float] = (-math.inf, math.inf)


@dataclass(slots=True, kw_only=True)
class Coded:
    """A graph of operators on codes."""

    work: list[Work]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    codings: dict[str, Coding]
    borders: dict[str, str] = field(default_factory=dict)
    """Codes that are an input or output -> the real tensor of the file that they stand for."""
    problems: list[IsobitError] = field(default_factory=list)


def plain(model: FileModel) -> Coded:
    """Return a float graph in the same form."""
    work = [
        Work(node=n, code=n.code, inputs=n.inputs, outputs=n.outputs, options=n.options)
        for n in model.nodes
    ]
    return Coded(work=work, inputs=model.inputs, outputs=model.outputs, codings={})


def on_codes(model: FileModel, fuses: frozenset[str]) -> Coded:
    """Return a quantised graph as operators on codes; refusals are in `problems`.

    fuses: operators that compute the activation behind them as well.
    """
    return _Coder(model, fuses).run()


class _Coder:
    def __init__(self, model: FileModel, fuses: frozenset[str]) -> None:
        self.model, self.fuses = model, fuses
        self.result = Coded(work=[], inputs=(), outputs=(), codings={})
        self.alias: dict[str, str] = {}
        """Real tensor -> the codes that it is the value of."""
        self.producer = {name: node for node in model.nodes for name in node.outputs}
        self.readers: dict[str, list[FileNode]] = {}
        for node in model.nodes:
            for name in dict.fromkeys(node.inputs):
                self.readers.setdefault(name, []).append(node)
        self.fused: dict[int, tuple[float, float]] = {}
        """Nodes that compute the activation behind them: its bounds, by position."""
        self.gone: set[int] = set()
        self.first: dict[str, str] = {}
        """Real value -> its codes, written by the operator that computes it."""
        self.chained: dict[int, tuple[AnyArray, str, str]] = {}
        """Integer products: the scale of their sums, the real bias, the real result."""

    def run(self) -> Coded:
        """Return the result."""
        for node in self.model.nodes:
            try:
                self.collect(node)
            except IsobitError as error:
                self.result.problems.append(error)
        for node in self.model.nodes:
            if node.position not in self.gone:
                self.result.work.append(self.work(node))
        self.result.inputs = self.border(self.model.inputs)
        self.result.outputs = self.border(self.model.outputs)
        self.model.absorbed.update(self.alias)
        return self.result

    def border(self, names: tuple[str, ...]) -> tuple[str, ...]:
        found = tuple(self.resolved(name) for name in names)
        pairs = zip(found, names, strict=True)
        self.result.borders.update((codes, name) for codes, name in pairs if codes != name)
        return found

    def resolved(self, name: str) -> str:
        """Return the codes that a real tensor is the value of, or the tensor itself."""
        while name in self.alias:
            name = self.alias[name]
        return name

    def collect(self, node: FileNode) -> None:
        """Note what a node says about encodings."""
        if node.code == "DequantizeLinear":
            self.encode(node, node.inputs[0], node.inputs[1:])
            self.alias[node.outputs[0]] = node.inputs[0]
            self.gone.add(node.position)
        elif node.code == "QuantizeLinear":
            self.encode(node, node.outputs[0], node.inputs[1:])
            self.quantised(node)
        elif node.code in QLINEAR:
            self.qlinear(node)
        elif node.code in INTEGER:
            self.integer(node)

    def encode(self, node: FileNode, name: str, numbers: tuple[str, ...]) -> None:
        """Give codes their encoding: `numbers` are the names of scale and zero point."""
        scale = self.number(node, numbers[0], "scale").astype(np.float32).reshape(-1)
        zeros = np.zeros(1, np.int64)
        if len(numbers) > 1 and numbers[1]:
            zeros = np.unique(self.number(node, numbers[1], "zero point").astype(np.int64))
        sound = bool(np.isfinite(scale).all() and (scale > 0).all() and zeros.size == 1)
        if not sound or node.options.get("block_size", 0):
            raise self.refuse(
                node,
                "quantisation",
                "finite scales > 0, one zero point, no blocks",
                f"scales {scale[:3].tolist()}, zero points {zeros[:3].tolist()}",
                "Quantise weights symmetrically, per tensor or per channel.",
            )
        value = self.model.values.get(name)
        stored = self.model.constants.get(name)
        rank = len(value.shape) if value else (stored.ndim if stored is not None else 1)
        axis = int(node.options.get("axis", 1))
        if node.code in QLINEAR:  # one scale for every output
            last = node.code == "QLinearMatMul" or not node.options.get(
                "transB", 0 if node.code == "QGemm" else 1
            )
            axis = rank - 1 if last else 0
        coding = Coding(
            tuple(float(s) for s in scale),
            int(zeros[0]),
            axis % rank if scale.size > 1 else 0,
            self.dtype(node, name, numbers),
        )
        if self.result.codings.setdefault(name, coding) != coding:
            raise self.refuse(
                node,
                f'encodings of "{name}"',
                "one",
                f"{coding} and {self.result.codings[name]}",
                "Let every reader of a tensor use the scale that it was written with.",
            )

    def dtype(self, node: FileNode, name: str, numbers: tuple[str, ...]) -> str:
        """Return the type of codes: of the zero point, of the tensor, or ONNX's default."""
        if name in self.model.constants:
            return self.model.constants[name].dtype.name
        if len(numbers) > 1 and numbers[1]:
            return self.model.constants[numbers[1]].dtype.name
        found = self.model.values.get(name)
        return "uint8" if found is None else found.dtype

    def number(self, node: FileNode, name: str, what: str) -> AnyArray:
        if name not in self.model.constants:
            raise self.refuse(
                node,
                what,
                "a constant",
                f'"{name}", computed at run time',
                "Use static quantisation; dynamic scales need a pass over the data first.",
            )
        return self.model.constants[name]

    def refuse(self, node: FileNode, what: str, want: str, got: str, fix: str) -> Unsupported:
        return Unsupported(where=node.where, what=what, want=want, got=got, fix=fix)

    def quantised(self, node: FileNode) -> None:
        """Let the producer of a real value write its codes."""
        real, codes = node.inputs[0], node.outputs[0]
        if real in self.first:
            first = self.first[real]
            if self.result.codings[first] == self.result.codings[codes]:
                self.gone.add(node.position)
                self.alias[codes] = first
                return
            raise self.refuse(
                node,
                f'quantisation of "{real}"',
                "one encoding for all its readers",
                f"{self.result.codings[first]} and {self.result.codings[codes]}",
                "Give the tensor one QuantizeLinear.",
            )
        others = [reader for reader in self.readers[real] if reader.code != "QuantizeLinear"]
        if real in self.alias or others or real in self.model.outputs:
            return  # codes in another encoding, or of a value that others read as it is
        self.first[real] = self.alias[real] = codes
        self.gone.add(node.position)
        if real in self.producer:
            self.absorb(self.producer[real], real)
            self.before(self.producer[real], self.result.codings[codes])

    def before(self, node: FileNode, coding: Coding) -> None:
        """Let an operator that only moves elements move their codes: what it reads is quantised
        where it comes from, as nothing else reads its reals.
        """
        moved = node.inputs if node.code == "Concat" else node.inputs[:1]
        if node.code not in CARRYING or node.position in self.gone or len(set(moved)) < len(moved):
            return
        if any(not self.is_free(name, node) for name in moved):
            return
        for name in moved:
            codes = f"{name}_codes"
            self.alias[name] = self.first[name] = codes
            self.result.codings[codes] = coding
            self.model.values[codes] = self.model.values[name]
            if name in self.producer:
                self.absorb(self.producer[name], name)
                self.before(self.producer[name], coding)

    def is_free(self, name: str, reader: FileNode) -> bool:
        """Whether a value is real, computed, and read by one operator alone."""
        known = (*self.alias, *self.model.constants, *self.model.outputs, *self.result.codings)
        producer = self.producer.get(name)
        quantised = producer is not None and (
            producer.code == "DequantizeLinear" or producer.code in (*QLINEAR, *INTEGER)
        )
        real = name in self.model.values and self.model.values[name].dtype == "float32"
        taken = f"{name}_codes" in (*self.model.values, *self.model.constants)
        alone = self.readers.get(name, []) == [reader]
        return real and alone and not quantised and not taken and name not in known

    def absorb(self, node: FileNode, real: str) -> None:
        """Fuse Relu and Clip into what computes their input, if nothing else reads that."""
        bounds = self.activation(node)
        inner = node.inputs[0] if node.inputs else ""
        before = self.producer.get(inner)
        if bounds is None or before is None or inner in self.alias or inner in self.model.outputs:
            return
        if len(self.readers[inner]) > 1 or before.code not in self.fuses:
            return
        self.gone.add(node.position)
        self.alias[inner] = self.alias[real]
        self.fused[before.position] = bounds

    def activation(self, node: FileNode) -> tuple[float, float] | None:
        """Return the bounds of Relu or Clip, `None` for anything else."""
        if node.code == "Relu":
            return (0.0, math.inf)
        if node.code != "Clip":
            return None
        found = []
        for index, default in ((1, -math.inf), (2, math.inf)):
            name = node.inputs[index] if index < len(node.inputs) else ""
            if name and name not in self.model.constants:
                return None
            found.append(float(self.model.constants[name].reshape(())) if name else default)
        return (found[0], found[1])

    def qlinear(self, node: FileNode) -> None:
        """Note the encodings that an operator on codes states."""
        _, places, result = QLINEAR[node.code]
        if node.code == "QLinearConcat":
            places = tuple(range(2, len(node.inputs), 3))
        for place in places:
            self.encode(node, node.inputs[place], node.inputs[place + 1 : place + 3])
        if len(node.inputs) <= result or not node.inputs[result]:
            raise self.refuse(
                node,
                "result",
                "int8 or uint8 codes: a scale of the result",
                "reals",
                "Export with the scale of the result.",
            )
        self.encode(node, node.outputs[0], node.inputs[result : result + 2])

    def integer(self, node: FileNode) -> None:
        """MatMulInteger or ConvInteger, then Cast, Mul by a constant, maybe Add, QuantizeLinear."""
        chain, name = [], node.outputs[0]
        scale: AnyArray | None = None
        bias = ""
        for wanted in ("Cast", "Mul", "Add"):
            readers = self.readers.get(name, [])
            if len(readers) != 1 or readers[0].code != wanted:
                if wanted == "Add":
                    break
                raise self.refuse(
                    node,
                    "result",
                    "Cast, Mul by a constant and QuantizeLinear behind it",
                    f"{readers[0].code if readers else 'an output'} instead of {wanted}",
                    "Use static quantisation, which rounds every result to int8.",
                )
            step = readers[0]
            others = [other for other in step.inputs if other and other != name]
            if wanted == "Mul":
                scale = self.number(node, others[0], "scale")
            if wanted == "Add":
                self.number(node, others[0], "bias")
                bias = others[0]
            chain.append(step)
            name = step.outputs[0]
        assert scale is not None
        self.gone.update(step.position for step in chain)
        zeros = (*node.inputs[2:4], "", "")
        self.chained[node.position] = (scale, bias, name)
        inner = (node.outputs[0], *(step.outputs[0] for step in chain[:-1]))
        self.model.absorbed.update((other, name) for other in inner)
        for operand, zero in zip(node.inputs[:2], zeros, strict=False):
            self.zeros(node, operand, zero)

    def zeros(self, node: FileNode, operand: str, zero: str) -> None:
        zeros = self.number(node, zero, "zero point") if zero else np.zeros(1, np.int64)
        if np.unique(zeros).size != 1:
            raise self.refuse(
                node, "zero point", "one", "one per channel", "Quantise weights symmetrically."
            )
        stored = self.model.constants.get(operand)
        found = self.model.values.get(operand)
        dtype = stored.dtype.name if stored is not None else found.dtype if found else "uint8"
        coding = Coding((1.0,), int(zeros.reshape(-1)[0]), dtype=dtype)
        self.result.codings.setdefault(operand, coding)

    def work(self, node: FileNode) -> Work:
        """Return a node with codes for its operands."""
        code, inputs, options = node.code, node.inputs, dict(node.options)
        outputs = node.outputs
        if code in QLINEAR:
            code, inputs = QLINEAR[code][0], operands(code, inputs)
            if node.code == "QLinearConcat" or options.get("channels_last"):
                options = {k: v for k, v in options.items() if k != "channels_last"}
        elif node.position in self.chained:
            scale, bias, name = self.chained[node.position]
            code, outputs = INTEGER[code], (name,)
            inputs = (*inputs[:2], *((bias,) if bias else ()))
            options["accumulator_scale"] = scale
        return Work(
            node=node,
            code=code,
            inputs=tuple(map(self.resolved, inputs)),
            outputs=tuple(map(self.resolved, outputs)),
            options=options,
            bounds=self.fused.get(node.position, (-math.inf, math.inf)),
        )


CARRYING = frozenset(
    {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Transpose", "Tile", "Expand"}
    | {"Slice", "Gather", "DepthToSpace", "SpaceToDepth", "Concat"}
)
"""Operators that commute with QuantizeLinear: they move elements."""
FUSES = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "BatchNormalization"}
    | {"AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "MatMulInteger"}
    | {"ConvInteger"}
)
"""Operators whose result is rounded to codes, so that bounds are code bounds."""
