"""How an operator of a foreign format becomes nodes: a rule beside the operator it maps to.

A rule is a function in `ops/<name>/from_<format>.py`, decorated with the foreign name::

    @tflite("CONV_2D")
    def conv_2d(call: Call) -> None: ...

It reads the `Call`, emits nodes through it and ends with `call.result(...)` for every output. What
it cannot map exactly it refuses with `raise call.unsupported(...)`; the importer goes on, so that a
user sees every refusal of a model at once. `isobit.ops.registry` finds the rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.errors import IsobitError, Unsupported
from isobit.core.fixed import BadMultiplier
from isobit.core.types import Affine, AnyArray, Raw, Real, Shape, TensorType
from isobit.ir.builder import GraphBuilder
from isobit.ir.graph import Attrs, Inputs, Stage, Value
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs

Rule = Callable[[Any], None]
"""Takes a `Call` (TFLite) or a `LogicalCall` (formats whose axes are not ours)."""
R = TypeVar("R", bound=Rule)


class Runtime(Enum):
    """Whose arithmetic a TFLite file means."""

    TFLM = "tflm"
    """TensorFlow Lite for Microcontrollers, and CMSIS-NN, which computes the same."""
    LITERT = "litert"
    """LiteRT's reference kernels (BUILTIN_REF)."""


def tflite(*codes: str) -> Callable[[R], R]:
    """Mark a function as the rule of builtin operators, e.g. `CONV_2D`."""
    return _mark("tflite", codes)


def onnx(*names: str) -> Callable[[R], R]:
    """Mark a function as the rule of ONNX operators, e.g. `Conv`."""
    return _mark("onnx", names)


def aten(*names: str) -> Callable[[R], R]:
    """Mark a function as the rule of PyTorch operators, e.g. `conv2d.default`."""
    return _mark("torch", names)


def _mark(source: str, names: tuple[str, ...]) -> Callable[[R], R]:
    def mark(rule: R) -> R:
        found = (*getattr(rule, "foreign", ()), *((source, name) for name in names))
        rule.foreign = found  # type: ignore[attr-defined]  # read by the registry's scan
        return rule

    return mark


def canonical(shape: Shape) -> Shape:
    """Return our shape for a foreign one: the batch is axis 0 and has size 1.

    A foreign shape that starts with 1 and has another axis keeps its axes; any other gets a batch
    axis in front. Both forms have the same elements in the same order.
    """
    return shape if len(shape) >= 2 and shape[0] == 1 else (1, *(shape or (1,)))


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor of the foreign model."""

    label: str
    """Its name in the file."""
    shape: Shape
    """Its shape in the file; `type.shape` is the canonical one."""
    type: TensorType
    value: str
    """The name of the value in our graph; of constants, the name they would get."""
    data: AnyArray | None = None
    """Constants only: codes or reals of `shape`."""
    is_variable: bool = False
    """Whether it lives from one run to the next; `value` is then its name after the operator that
    updates it.
    """

    @property
    def is_const(self) -> bool:
        """Whether the file stores it."""
        return self.data is not None

    @property
    def scale(self) -> float:
        """The only scale; 1.0 without an encoding."""
        encoding = self.type.encoding
        return encoding.scale[0] if isinstance(encoding, Affine) else 1.0

    @property
    def scales(self) -> tuple[float, ...]:
        """One scale, or one per channel."""
        encoding = self.type.encoding
        return encoding.scale if isinstance(encoding, Affine) else (1.0,)

    @property
    def zero(self) -> int:
        """The zero point."""
        return self.type.zero

    @property
    def is_float(self) -> bool:
        """Whether it holds reals."""
        return isinstance(self.type.encoding, Real)


@dataclass(slots=True)
class Call:
    """One operator of the foreign model, and the way to answer it."""

    code: str
    where: str
    """How errors name it: position, operator, first output."""
    inputs: tuple[Operand | None, ...]
    outputs: tuple[Operand, ...]
    options: Mapping[str, Any]
    runtime: Runtime
    build: GraphBuilder
    known: dict[str, str] = field(default_factory=dict)
    """Constants that already are in the graph, by the operand's value name."""
    is_uint8: bool = False
    """Whether the file has uint8 here; the operands have its codes less 128, as int8."""

    @property
    def is_float(self) -> bool:
        """Whether the graph computes with reals."""
        return self.build.stage is Stage.FLOAT

    def operand(self, index: int) -> Operand:
        """Return a required input."""
        found = self.optional(index)
        if found is None:
            raise self.unsupported(
                "inputs", f"an input {index}", f"{len(self.inputs)} inputs", "The file is damaged."
            )
        return found

    def optional(self, index: int) -> Operand | None:
        """Return an input, `None` where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def output(self, index: int = 0) -> Operand:
        """Return an output."""
        if index >= len(self.outputs):
            raise self.unsupported("outputs", f"an output {index}", str(len(self.outputs)), "")
        return self.outputs[index]

    def constant(self, index: int, what: str) -> AnyArray:
        """Return the data of an input that must be stored in the file."""
        data = self.operand(index).data
        if data is None:
            raise self.unsupported(
                what, "a constant", "a value computed at run time", "Fix it when you convert."
            )
        return data

    def integers(self, index: int, what: str) -> tuple[int, ...]:
        """Return the entries of an input that must be stored integers, such as axes or a shape."""
        data = self.constant(index, what)
        if data.dtype.kind not in "iu":
            raise self.unsupported(what, "integers", data.dtype.name, "")
        return tuple(int(v) for v in data.reshape(-1))

    def option(self, name: str, default: Any = None) -> Any:
        """Return an option; raises `Unsupported` where it is missing and has no default."""
        value = self.options.get(name, default)
        if value is None:
            raise self.unsupported(
                f"option {name}", "a value", "none in the file", "Convert the model again."
            )
        return value

    def unsupported(self, what: str, want: str, got: str, fix: str) -> IsobitError:
        """Return the refusal of this operator; without a `fix` the file contradicts itself."""
        cure = fix or "The file is damaged, or its converter is; convert the model again."
        return Unsupported(where=self.where, what=what, want=want, got=got or "nothing", fix=cure)

    def answer(self, rule: Rule) -> None:
        """Let a rule emit its nodes; scales too far apart for a multiplier are refused here."""
        try:
            rule(self)
        except BadMultiplier as error:
            raise self.unsupported("scales", "a quotient below 2^31", str(error), "") from error

    def const(self, wanted: str, data: AnyArray, kind: TensorType | None = None) -> str:
        """Add a constant, by default raw int32."""
        raw = TensorType((), DType.S32, Raw())
        return self.build.const(f"{self.outputs[0].value}_{wanted}", kind or raw, np.asarray(data))

    def stored(self, operand: Operand, data: AnyArray | None = None, tag: str = "") -> str:
        """Return the graph's constant for a stored tensor, or for `data` made from it under a
        `tag`.
        """
        assert operand.data is not None
        key = f"{operand.value}/{tag}"
        if key not in self.known:
            chosen = operand.data if data is None else data
            name = f"{operand.value}_{tag}" if tag else operand.value
            self.known[key] = self.build.const(name, operand.type, chosen, operand.label)
        return self.known[key]

    def value(self, operand: Operand) -> str:
        """Return the name of an activation; a stored tensor becomes a constant of canonical
        shape.
        """
        if operand.data is None:
            return operand.value
        return self.stored(operand, operand.data.reshape(operand.type.shape), "value")

    def state(self, index: int, what: str, shape: Shape) -> tuple[str, Value]:
        """Return the state that a variable of the file is, and the value that it becomes, which the
        node must compute. shape: with the batch, of the same elements.
        """
        operand = self.operand(index)
        kind = operand.type.with_shape(shape)
        key = f"{operand.value}/state"
        if not operand.is_variable or operand.is_const or kind.elements != operand.type.elements:
            got = "a variable" if operand.is_variable else "another tensor"
            want = f"a variable of {kind.elements} elements that starts from zero"
            raise self.unsupported(what, want, f"{got} {list(operand.shape)}", "")
        if key in self.known:
            raise self.unsupported(
                what, "a variable of its own", "one that two operators update", ""
            )
        name = self.build.fresh(f"{operand.value}_before")
        self.known[key] = self.build.state(name, kind, next=operand.value)
        return name, Value(operand.value, kind)

    def emit(self, op: str, inputs: Inputs[str], attrs: Attrs, kind: TensorType) -> str:
        """Append a node whose result only this operator reads."""
        name = self.build.fresh(f"{self.outputs[0].value}_{op}")
        return self.build.node(op, inputs, attrs, Value(name, kind))

    def result(self, op: str, inputs: Inputs[str], attrs: Attrs) -> None:
        """Append the node that computes all outputs."""
        values = (Value(o.value, o.type) for o in self.outputs)
        self.build.node(op, inputs, attrs, *values)

    def viewed(self, name: str, shape: Shape) -> str:
        """Return a value of another shape with the same elements; `shape` includes the batch."""
        kind = self.build.type_of(name)
        if kind.shape == shape:
            return name
        if kind.elements != math.prod(shape):
            raise self.unsupported(
                "elements", str(kind.elements), f"{math.prod(shape)} in {list(shape)}", ""
            )
        stored = self.build.data_of(name)
        if stored is not None:
            return self.build.const(f"{name}_view", kind, stored.reshape(shape))
        attrs = ReshapeAttrs(shape[1:])
        return self.emit("reshape", ReshapeInputs(name), attrs, kind.with_shape(shape))

    def boxed(self, operand: Operand) -> str:
        """Return the value with a batch axis before all of the foreign axes: axis k is k + 1."""
        return self.viewed(self.value(operand), (1, *(operand.shape or (1,))))

    def unboxed(self, name: str, index: int = 0) -> None:
        """Make a value in any shape the output `index`."""
        output = self.output(index)
        kind = self.build.type_of(name)
        if kind.elements != output.type.elements:
            raise self.unsupported(
                "shape of the output", f"{kind.elements} elements", str(list(output.shape)), ""
            )
        attrs = ReshapeAttrs(output.type.shape[1:])
        self.build.node("reshape", ReshapeInputs(name), attrs, Value(output.value, output.type))

    def axis(self, value: int, operand: Operand) -> int:
        """Return a foreign axis, negative ones counted from the end, as an axis of `boxed`."""
        rank = max(len(operand.shape), 1)
        if not -rank <= value < rank:
            raise self.unsupported("axis", f"{-rank}..{rank - 1}", str(value), "")
        return value % rank + 1
