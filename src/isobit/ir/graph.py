"""The graph: inputs, constants, states and nodes in execution order. Everything is immutable.

A node's `inputs` is its operator's frozen `Inputs` dataclass filled with value names, so that
passes read `node.inputs.w` and mypy knows the field. A field is a name, `None` (absent optional) or
a tuple of names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, Generic, TypeVar

import numpy as np

from isobit.core.errors import BadWeights
from isobit.core.types import AnyArray, Storage, TensorType

T = TypeVar("T")
U = TypeVar("U")


class Stage(Enum):
    """What the numbers of a graph are."""

    FLOAT = "float"
    """Real values: what a user or a foreign file specified."""
    INT = "int"
    """Integers with named multipliers and shifts: what the chip computes."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where the user wrote something."""

    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.file else ""


@dataclass(frozen=True, slots=True)
class Inputs(Generic[T]):
    """Base of every operator's `Inputs`: fields hold value names, types, arrays or torch
    tensors.
    """


@dataclass(frozen=True, slots=True)
class Attrs:
    """Base of every operator's attributes: int, bool, str, float, Enum, or (nested) tuples of
    int.
    """


def operands(inputs: Inputs[T]) -> Iterator[T]:
    """Yield every present operand in field order, variadic fields flattened."""
    for item in fields(inputs):
        value = getattr(inputs, item.name)
        if isinstance(value, tuple):
            yield from value
        elif value is not None:
            yield value


def map_inputs(inputs: Inputs[T], function: Callable[[T], U]) -> Any:
    """Return the same `Inputs` dataclass with `function` applied to every present operand."""

    def apply(value: Any) -> Any:
        if value is None:
            return None
        return tuple(map(function, value)) if isinstance(value, tuple) else function(value)

    return type(inputs)(**{f.name: apply(getattr(inputs, f.name)) for f in fields(inputs)})


@dataclass(frozen=True, slots=True)
class Value:
    """A named tensor that exists at run time."""

    name: str
    type: TensorType


@dataclass(frozen=True, slots=True, eq=False)
class Const:
    """A constant: logical integers (or reals, in float graphs), how they are stored, and the user's
    name for them.

    `data` is read-only, of `type.shape` and `type.dtype`. Raises `BadWeights` for fractions under
    an integer type, which would be cut off.
    """

    name: str
    type: TensorType
    data: AnyArray
    label: str = ""
    storage: Storage = Storage.DENSE

    def __post_init__(self) -> None:
        given = np.asarray(self.data)
        if self.type.dtype.is_integer and given.dtype.kind == "f":
            off = given[given != np.rint(given)]
            if off.size:
                raise BadWeights(
                    where=f"%{self.name}",
                    what="stored values",
                    want=f"whole numbers, as {self.type.dtype.value} holds",
                    got=f"{off.size} of {given.size} with a fraction, such as {off[0]:g}",
                    fix="Quantise them: divide by the step of the encoding and round.",
                )
        data = np.ascontiguousarray(self.data, dtype=self.type.dtype.numpy).reshape(self.type.shape)
        if data.flags.writeable:
            data = data.copy() if data is self.data else data
            data.flags.writeable = False
        object.__setattr__(self, "data", data)

    @property
    def digest(self) -> str:
        """SHA-256 of the little-endian bytes."""
        little = self.data.astype(self.data.dtype.newbyteorder("<"), copy=False)
        return hashlib.sha256(little.tobytes()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Const)
            and (self.name, self.type, self.label, self.storage)
            == (other.name, other.type, other.label, other.storage)
            and self.data.tobytes() == other.data.tobytes()
        )

    def __hash__(self) -> int:
        return hash((self.name, self.digest))


@dataclass(frozen=True, slots=True)
class State:
    """A value that lives from one run to the next.

    A run reads its value from before; `next` names the value that a node computes from it (an
    operator with `Op.updates`) and that the next run reads. `reset` names the constant that the
    first run reads, "" for the code of the real number 0 everywhere.
    """

    name: str
    type: TensorType
    reset: str = ""
    next: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """One operator applied once."""

    op: str
    inputs: Inputs[str]
    attrs: Attrs
    outputs: tuple[Value, ...]
    location: Location = field(default=Location(), compare=False)

    @property
    def output(self) -> Value:
        """The only output; most operators have one."""
        (value,) = self.outputs
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A network at one stage. Nodes are in execution order, which the planner keeps."""

    name: str
    stage: Stage
    target: str = ""
    inputs: tuple[Value, ...]
    consts: tuple[Const, ...] = ()
    states: tuple[State, ...] = ()
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    @property
    def kept(self) -> tuple[str, ...]:
        """The values that a run is for: the outputs, and what states become."""
        return (*self.outputs, *(state.next for state in self.states))

    def const_map(self) -> dict[str, Const]:
        """Constants by name."""
        return {const.name: const for const in self.consts}

    def type_map(self) -> dict[str, TensorType]:
        """The type of every value and constant by name."""
        types = {value.name: value.type for value in self.inputs}
        types.update((const.name, const.type) for const in self.consts)
        types.update((state.name, state.type) for state in self.states)
        types.update((v.name, v.type) for node in self.nodes for v in node.outputs)
        return types

    def producers(self) -> dict[str, Node]:
        """The node that computes each value."""
        return {value.name: node for node in self.nodes for value in node.outputs}

    def consumers(self) -> dict[str, tuple[Node, ...]]:
        """The nodes that read each value or constant, in execution order."""
        found: dict[str, list[Node]] = {name: [] for name in self.type_map()}
        for node in self.nodes:
            for name in dict.fromkeys(operands(node.inputs)):
                found[name].append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}
