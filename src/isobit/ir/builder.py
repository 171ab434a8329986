"""Grows a graph node by node: importers and tests write `builder.node(...)` and get a value's name
back.
"""

from __future__ import annotations

import re

import numpy as np

from isobit.core.types import AnyArray, TensorType
from isobit.ir.graph import (
    Attrs,
    Const,
    Graph,
    Inputs,
    Location,
    Node,
    Stage,
    State,
    Value,
    operands,
)

LONGEST_NAME = 48


def clean_name(wanted: str) -> str:
    """Return a name of letters, digits and underscores made from a foreign one.

    Foreign names are paths, several of them where operators were fused
    (`net/conv1/Relu;net/bn/..`); the last two parts of the first path say most.
    """
    parts = [part for part in re.split(r"[/:]", wanted.split(";")[0]) if part]
    text = re.sub(r"\W+", "_", "_".join(parts[-2:]), flags=re.ASCII).strip("_")
    return text[-LONGEST_NAME:].strip("_") or "value"


class GraphBuilder:
    """A graph in the making. Names are unique without regard to case, as C macros need."""

    def __init__(self, name: str, stage: Stage) -> None:
        self.name, self.stage = name, stage
        self._inputs: list[Value] = []
        self._consts: list[Const] = []
        self._states: list[State] = []
        self._nodes: list[Node] = []
        self._outputs: list[str] = []
        self._taken: set[str] = set()
        self._types: dict[str, TensorType] = {}
        self.location = Location()
        """Of nodes that are appended without one."""

    def fresh(self, wanted: str) -> str:
        """Return an unused name like `wanted`, and remember it as used."""
        base = clean_name(wanted)
        name, count = base, 1
        while name.lower() in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._taken.add(name.lower())
        return name

    def declare(self, name: str, kind: TensorType) -> None:
        """Make the type of a value known before the node that computes it is there."""
        self._types[name] = kind

    def input(self, name: str, kind: TensorType) -> str:
        """Add an input under a name that `fresh` gave."""
        self._inputs.append(Value(name, kind))
        self._types[name] = kind
        return name

    def const(self, wanted: str, kind: TensorType, data: AnyArray, label: str = "") -> str:
        """Add a constant of `kind`, the shape taken from `data`; return its name."""
        name = self.fresh(wanted)
        self._types[name] = kind.with_shape(np.shape(data))
        self._consts.append(Const(name, self._types[name], data, label))
        return name

    def state(self, name: str, kind: TensorType, *, next: str, reset: str = "") -> str:
        """Add a value that lives from run to run, under a name that `fresh` gave; see `State`."""
        self._states.append(State(name, kind, reset, next))
        self._types[name] = kind
        return name

    def node(
        self,
        op: str,
        inputs: Inputs[str],
        attrs: Attrs,
        *outputs: Value,
        file: str = "",
        line: int = 0,
    ) -> str:
        """Append a node; return its first output's name."""
        location = Location(file, line) if file else self.location
        self._nodes.append(Node(op, inputs, attrs, outputs, location))
        self._types.update((value.name, value.type) for value in outputs)
        return outputs[0].name

    def output(self, name: str) -> None:
        """Make a value an output of the network."""
        self._outputs.append(name)

    def type_of(self, name: str) -> TensorType:
        """The type of a value, constant or state so far."""
        return self._types[name]

    def data_of(self, name: str) -> AnyArray | None:
        """The data of a constant, `None` for anything else."""
        return next((const.data for const in self._consts if const.name == name), None)

    def graph(self) -> Graph:
        """Return what was built, without constants that nothing reads; `isobit.ops.check.check`
        says whether it is legal.
        """
        read = {name for node in self._nodes for name in operands(node.inputs)}
        read |= {state.reset for state in self._states}
        return Graph(
            name=self.name,
            stage=self.stage,
            inputs=tuple(self._inputs),
            consts=tuple(const for const in self._consts if const.name in read),
            states=tuple(self._states),
            nodes=tuple(self._nodes),
            outputs=tuple(self._outputs),
        )
