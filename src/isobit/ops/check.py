"""Is a graph legal? Structure, type rules and the proofs that sums fit, all problems at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from isobit.core.errors import BadGraph, BadShape, IsobitError, raise_all
from isobit.core.types import AnyArray
from isobit.ir.graph import Graph, Node, Stage, map_inputs, operands
from isobit.ops.base import NodeTypes, Op
from isobit.ops.registry import Registry, load_ops


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


def where(node: Node) -> str:
    """How errors name a node: operator, value, source line."""
    place = f" ({node.location})" if str(node.location) else ""
    return f'{node.op} "{node.outputs[0].name}"{place}'


def check(graph: Graph) -> None:
    """Raise every problem of a graph at once; return for a legal one."""
    structural = list(_structure(graph))
    raise_all(structural)
    registry = load_ops()
    raise_all(list(_types(graph, registry)))


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
    for name in graph.outputs:
        if name not in known or name in consts:
            got = "a constant" if name in consts else "undefined"
            yield _broken(graph.name, f"output %{name}", "a value that the network computes", got)
    if not graph.inputs or not graph.outputs:
        yield _broken(graph.name, "inputs and outputs", "at least one of each", "none")


def _broken(place: str, what: str, want: str, got: str) -> BadGraph:
    return BadGraph(where=place, what=what, want=want, got=got, fix="Export the model again.")


def _types(graph: Graph, registry: Registry) -> Iterator[IsobitError]:
    for node in graph.nodes:
        op, q = registry.op(node.op), node_types(graph, node)
        try:
            inferred = op.outputs_of(node.attrs, q.inputs)
        except IsobitError as error:
            yield error
            continue
        for value, want in zip(node.outputs, inferred, strict=True):
            got = value.type
            same = (want.shape, want.dtype) == (got.shape, got.dtype)
            if not same or want.encoding not in (None, got.encoding):
                yield BadShape(
                    where=where(node),
                    what="type of the result",
                    want=f"{want.dtype.value}{list(want.shape)} {want.encoding or ''}".strip(),
                    got=f"{got.dtype.value}{list(got.shape)} {got.encoding}",
                    fix="The graph was edited inconsistently; export the model again.",
                )
        if graph.stage is Stage.INT:
            yield from op.prove(node.attrs, q, node_consts(op, node, graph), where(node))
