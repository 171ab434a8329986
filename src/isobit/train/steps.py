"""Grouping a float graph into steps: what becomes one integer node.

A step is an operator with the batch norm and the activation clamp that follow it, when nothing else
reads the values between. A clamp also moves up through max pools, with which it commutes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from isobit.core.errors import NoKernel
from isobit.ir.graph import Attrs, Graph, Inputs, Location, Node, Value, operands
from isobit.ops.base import Op
from isobit.ops.batch_norm.op import BatchNormAttrs
from isobit.ops.clamp.op import ClampAttrs
from isobit.ops.registry import Registry
from isobit.ops.weighted import WeightedOp


@dataclass(frozen=True, slots=True)
class Norm:
    """An absorbed batch norm: names of its float constants, and its numbers."""

    gamma: str
    beta: str
    mean: str
    var: str
    eps: float
    momentum: float


@dataclass(frozen=True, slots=True)
class Step:
    """One future integer node. `low`, `high`: the absorbed clamp in real units."""

    op: type[Op[Any, Any]]
    inputs: Inputs[str]
    attrs: Attrs
    outputs: tuple[Value, ...]
    location: Location
    low: float = -math.inf
    high: float = math.inf
    norm: Norm | None = None
    absorbed: tuple[str, ...] = ()
    """Float values that ended up inside this step, for names.json and `explain`."""

    @property
    def name(self) -> str:
        """The first output's name, which names the step."""
        return self.outputs[0].name

    @property
    def activations(self) -> tuple[str, ...]:
        """Names of the activation operands, in field order."""
        consts = {
            name for field in self.op.constants for name in _names(getattr(self.inputs, field))
        }
        return tuple(name for name in operands(self.inputs) if name not in consts)


def last_read(steps: Sequence[Step]) -> tuple[tuple[str, ...], ...]:
    """Return, for every step, the activations that no step behind it reads."""
    last = {name: index for index, step in enumerate(steps) for name in step.activations}
    found: list[list[str]] = [[] for _ in steps]
    for name, index in last.items():
        found[index].append(name)
    return tuple(map(tuple, found))


def pools_of(
    steps: Sequence[Step], outputs: Sequence[str], dropouts: Collection[str]
) -> dict[str, Step]:
    """Return, by the name of a step that sums products, the pool that alone reads it and may run
    before its requantisation: max pooling commutes with it.

    Not where the step's own value is wanted: by the network's outputs or by a dropout on it.
    """
    readers: dict[str, list[Step]] = {}
    for step in steps:
        for name in step.activations:
            readers.setdefault(name, []).append(step)
    found = {}
    for step in steps:
        match readers.get(step.name, ()):
            case [pool] if (
                pool.op.selects
                and issubclass(step.op, WeightedOp)
                and len(step.outputs) == 1
                and step.name not in outputs
                and step.name not in dropouts
            ):
                found[step.name] = pool
    return found


def _what_is_before(step: Step | None, *, alone: bool) -> str:
    """Say why a batch norm cannot fold into the step that computes its input."""
    if step is None:
        return "at the network input"
    if not issubclass(step.op, WeightedOp):
        return f"after {step.op.name}"
    if step.absorbed:
        return f"after {step.op.name} and {' and '.join(step.absorbed)}, already folded into it"
    return f"after {step.op.name}" if alone else f"after {step.op.name}, whose output has readers"


def _names(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def group(graph: Graph, registry: Registry) -> tuple[tuple[Step, ...], dict[str, str]]:
    """Return the steps in order, and for every float value the step output that now carries it."""
    grouping = _Grouping(graph, registry)
    for node in graph.nodes:
        grouping.add(node)
    return tuple(grouping.steps.values()), grouping.carried


class _Grouping:
    def __init__(self, graph: Graph, registry: Registry) -> None:
        self.registry = registry
        self.readers = graph.consumers()
        self.results = set(graph.outputs)
        self.steps: dict[str, Step] = {}
        self.carried: dict[str, str] = {}

    def add(self, node: Node) -> None:
        if node.op == "clamp" and self._absorb_clamp(node):
            return
        if node.op == "batch_norm":
            self._absorb_norm(node)
            return
        step = Step(
            op=self.registry.op(node.op),
            inputs=self._rename(node.inputs),
            attrs=node.attrs,
            outputs=node.outputs,
            location=node.location,
        )
        self.steps[step.name] = step
        for value in node.outputs:
            self.carried[value.name] = value.name

    def _absorb_norm(self, node: Node) -> None:
        """Give the batch norm to the weighted operator that computes its input; nothing else can
        hold it.
        """
        inputs: Any = node.inputs
        assert isinstance(node.attrs, BatchNormAttrs)
        step = self.steps.get(self.carried.get(inputs.x, ""))
        alone = len(self.readers[inputs.x]) == 1 and inputs.x not in self.results
        if (
            step is None
            or not issubclass(step.op, WeightedOp)
            or step.norm is not None
            or step.absorbed
            or not alone
        ):
            raise NoKernel(
                where=f'batch_norm "{node.output.name}" ({node.location})',
                what="place of the batch norm",
                want="directly after a convolution or linear layer that only it reads",
                got=_what_is_before(step, alone=alone),
                fix="Move it behind a convolution: on the chip it folds into that layer.",
            )
        norm = Norm(
            inputs.gamma, inputs.beta, inputs.mean, inputs.var, node.attrs.eps, node.attrs.momentum
        )
        name = node.output.name
        self.steps[step.name] = replace(step, norm=norm, absorbed=(*step.absorbed, name))
        self.carried[name] = step.name

    def _absorb_clamp(self, node: Node) -> bool:
        """Give the clamp to the step that computes its input, possibly through max pools."""
        (source,) = operands(node.inputs)
        assert isinstance(node.attrs, ClampAttrs)
        if len(self.readers[source]) != 1 or source in self.results:
            return False
        holder = self.carried.get(source)
        while holder is not None and holder in self.steps:
            step = self.steps[holder]
            if step.op.absorbs_clamp:
                self.steps[holder] = replace(
                    step,
                    low=max(step.low, node.attrs.low),
                    high=min(step.high, node.attrs.high),
                    absorbed=(*step.absorbed, node.output.name),
                )
                self.carried[node.output.name] = self.carried[source]
                return True
            (above,) = step.activations if step.op.selects else (None,)
            if above is None or len(self.readers[above]) != 1 or above in self.results:
                return False
            holder = above
        return False

    def _rename(self, inputs: Inputs[str]) -> Inputs[str]:
        from isobit.ir.graph import map_inputs

        renamed: Inputs[str] = map_inputs(inputs, lambda name: self.carried.get(name, name))
        return renamed
