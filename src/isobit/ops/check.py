"""Is a graph legal? Structure, type rules and the proofs that sums fit, all problems at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from isobit.core.errors import BadGraph, BadShape, BadWeights, IsobitError, raise_all
from isobit.core.types import Affine, AnyArray, Pow2, TensorType
from isobit.ir.graph import Graph, Node, Stage, map_inputs, operands
from isobit.ops.base import NodeTypes, Op
from isobit.ops.dynamic import dynamic_problems
from isobit.ops.registry import Registry, load_ops

MOST_ELEMENTS = (1 << 31) - 1
"""Of one tensor: generated code counts in 32 bits."""
MOST_EXPONENT = 1000
"""Of a Pow2 scale, so that float64 holds it."""


def node_types(graph: Graph, node: Node) -> NodeTypes[Any]:
    """Return the types around a node."""
    types = graph.type_map()
    return NodeTypes(
        map_inputs(node.inputs, lambda name: types[name]), tuple(v.type for v in node.outputs)
    )


def node_consts(op: type[Op[Any, Any]], node: Node, graph: Graph) -> Any:
    """Return the operator's Inputs with the constants' data; activations are `None`."""
    data: dict[str, AnyArray] = {const.name: const.data for const in graph.consts}
    found = {}
    for item in fields(node.inputs):
        name = getattr(node.inputs, item.name)
        found[item.name] = (
            data.get(name) if item.name in op.constants and name is not None else None
        )
    return type(node.inputs)(**found)


def activations(op: type[Op[Any, Any]], node: Node) -> tuple[str, ...]:
    """Return the operands that kernels take as activations, in call order.

    A stored tensor may stand there too, such as the second operand of an imported add: it is a
    constant of the graph, and the kernel reads it from flash.
    """
    found: list[str] = []
    for item in fields(node.inputs):
        value = getattr(node.inputs, item.name)
        if item.name not in op.constants and value is not None:
            found.extend(value if isinstance(value, tuple) else (value,))
    return tuple(found)


def kernel_inputs(op: type[Op[Any, Any]], node: Node) -> tuple[str, ...]:
    """Return the activations that kernels only read: all but the states that the operator
    updates, which kernels get as outputs.
    """
    updated = {getattr(node.inputs, name) for name in op.updates}
    return tuple(name for name in activations(op, node) if name not in updated)


def where(node: Node) -> str:
    """How errors name a node: operator, value, source line."""
    place = f" ({node.location})" if str(node.location) else ""
    return f'{node.op} "{node.outputs[0].name}"{place}'


def check(graph: Graph) -> None:
    """Raise every problem of a graph at once; return for a legal one."""
    structural = list(_structure(graph))
    raise_all(structural)
    raise_all(list(_values(graph)))
    registry = load_ops()
    raise_all(list(_types(graph, registry)))
    raise_all(dynamic_problems(graph, registry))


def _structure(graph: Graph) -> Iterator[IsobitError]:
    known: set[str] = set()
    for name in [
        *(v.name for v in graph.inputs),
        *(c.name for c in graph.consts),
        *(s.name for s in graph.states),
    ]:
        if name in known:
            yield _broken(graph.name, f"%{name}", "a name used once", "declared twice")
        known.add(name)
    for node in graph.nodes:
        for name in operands(node.inputs):
            if name not in known:
                yield _broken(
                    where(node), f"operand %{name}", "a value defined before", "undefined"
                )
        for value in node.outputs:
            if value.name in known:
                yield _broken(where(node), f"%{value.name}", "a name used once", "defined twice")
            known.add(value.name)
    consts = {const.name for const in graph.consts}
    states = {state.name for state in graph.states}
    for name in graph.outputs:
        if name not in known or name in consts | states:
            got = "a constant" if name in consts else "a state" if name in states else "undefined"
            yield _broken(graph.name, f"output %{name}", "a value that the network computes", got)
    if not graph.inputs or not graph.outputs:
        yield _broken(graph.name, "inputs and outputs", "at least one of each", "none")
    yield from _states(graph)


def _states(graph: Graph) -> Iterator[IsobitError]:
    """A state is read once, by the operator that computes its next value in the same place: so the
    order of nodes decides nothing, and no copy is ever needed.
    """
    registry = load_ops()
    states = {state.name: state for state in graph.states}
    readers: dict[str, list[str]] = {name: [] for name in states}
    for node in graph.nodes:
        op = registry.op(node.op)
        for item in fields(node.inputs):
            value = getattr(node.inputs, item.name)
            for name in value if isinstance(value, tuple) else (value,):
                position = op.updates.get(item.name)
                into = None if position is None else node.outputs[position : position + 1]
                if name in states:
                    readers[name].append(into[0].name if into else "")
                elif position is not None and name is not None:
                    what = f"operand {item.name}"
                    yield _broken(where(node), what, "a state", f"%{name}")
    types = graph.const_map()
    for name, state in states.items():
        if readers[name] != [state.next]:
            want = f"one operator that reads it and updates it to %{state.next}"
            got = ", ".join(f"%{r}" if r else "a reader" for r in readers[name]) or "no reader"
            yield _broken(graph.name, f"state %{name}", want, got)
        reset = types.get(state.reset)
        if state.reset and (reset is None or reset.type != state.type):
            got = "undefined" if reset is None else "one of another type"
            yield _broken(graph.name, f"reset of %{name}", "a constant of its type", got)


def _broken(place: str, what: str, want: str, got: str) -> BadGraph:
    return BadGraph(where=place, what=what, want=want, got=got, fix="Export the model again.")


def _values(graph: Graph) -> Iterator[IsobitError]:
    """Refuse tensors that nothing can hold and codes that stand for no number; every type rule and
    proof builds on these ranges.
    """
    stored = graph.const_map()
    for name, kind in graph.type_map().items():
        found = _size_problem(kind) or _encoding_problem(kind, name in stored)
        if found:
            what, want, got = found
            yield BadShape(
                where=f"{graph.name} %{name}",
                what=what,
                want=want,
                got=got,
                fix="The file is damaged; export or convert the model again.",
            )
    for const in graph.consts:
        if const.data.dtype.kind == "f" and bool(np.isnan(const.data).any()):
            yield BadWeights(
                where=f"{graph.name} %{const.name}",
                what="stored values",
                want="numbers",
                got="NaN",
                fix="The file is damaged, or the training diverged.",
            )


def _size_problem(kind: TensorType) -> tuple[str, str, str] | None:
    if min(kind.shape, default=1) >= 1 and kind.elements <= MOST_ELEMENTS:
        return None
    return "shape", f"every size >= 1, at most {MOST_ELEMENTS:,} elements", str(list(kind.shape))


def _encoding_problem(kind: TensorType, is_stored: bool) -> tuple[str, str, str] | None:
    """Return (what, want, got)."""
    shown = str(kind.encoding)[:200]
    match kind.encoding:
        case Affine(scale=scale, zero=zero):
            if not all(math.isfinite(s) and s > 0 for s in scale):
                return "scales", "finite, > 0", shown
            low, high = (kind.dtype.low, kind.dtype.high) if kind.dtype.is_integer else (0, 0)
            if not low <= zero <= high:
                return "zero point", f"{low}..{high}", shown
        case Pow2(frac=frac):
            if not all(abs(f) <= MOST_EXPONENT for f in frac):
                return "exponents", f"-{MOST_EXPONENT}..{MOST_EXPONENT}", shown
        case _:
            return None
    if kind.encoding.axis is not None and not is_stored:
        return "encoding", "one scale: only stored tensors have one per channel", shown
    return None


def _types(graph: Graph, registry: Registry) -> Iterator[IsobitError]:
    for node in graph.nodes:
        yield from node_problems(graph, node, registry)


def node_problems(graph: Graph, node: Node, registry: Registry) -> Iterator[IsobitError]:
    """Yield what is wrong with the types around one node, and what cannot be proven of it."""
    op, q = registry.op(node.op), node_types(graph, node)
    try:
        inferred = op.outputs_of(node.attrs, q.inputs)
    except IsobitError as error:
        yield error
        return
    if len(inferred) != len(node.outputs):
        yield _mistyped(node, "results", str(len(inferred)), str(len(node.outputs)))
        return
    for value, want in zip(node.outputs, inferred, strict=True):
        got = value.type
        same = (want.shape, want.dtype) == (got.shape, got.dtype)
        if not same or want.encoding not in (None, got.encoding):
            yield _mistyped(
                node,
                "type of the result",
                f"{want.dtype.value}{list(want.shape)} {want.encoding or ''}".strip(),
                f"{got.dtype.value}{list(got.shape)} {got.encoding}",
            )
    if graph.stage is Stage.INT:
        if _mixes_floats(graph, node, op):
            yield _mistyped(node, "operands", "integers in a network of integers", "floats")
            return
        yield from op.prove(node.attrs, q, node_consts(op, node, graph), where(node))


def _mixes_floats(graph: Graph, node: Node, op: type[Op[Any, Any]]) -> bool:
    """Whether an operator whose integer sums must be proven computes with floats: in a network of
    integers these may only be moved, or turned into codes and back.
    """
    types = graph.type_map()
    ins = {types[name].dtype.is_integer for name in activations(op, node)}
    if len(ins) > 1:
        return True
    outs = {value.type.dtype.is_integer for value in node.outputs}
    stored = {types[name].dtype.is_integer for name in operands(node.inputs)}
    proves = any("prove" in vars(base) for base in op.__mro__[: op.__mro__.index(Op)])
    converts = len(ins) == len(outs) == 1 and ins != outs
    return proves and not converts and stored | outs != {True}


def _mistyped(node: Node, what: str, want: str, got: str) -> BadShape:
    return BadShape(
        where=where(node),
        what=what,
        want=want,
        got=got,
        fix="The graph was edited inconsistently; export the model again.",
    )
