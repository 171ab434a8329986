"""Moves an activation clamp into the operator before it: ReLU, ReLU6 and Hardtanh cost nothing.

Integer graphs only: in float graphs calibration and training do it when they choose codes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.ir.edit import Editor, insert_on
from isobit.ir.graph import Graph, Node, Stage, Value, operands
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.registry import load_ops
from isobit.passes.base import Pass, Rewrite, Step


class FuseClamp(Pass):
    """`clamp(op(x) clamp=a) -> op(x) clamp=intersection`, where nothing else reads the
    unclamped value.
    """

    stages = frozenset({Stage.INT})
    after = ("drop_noop",)

    @staticmethod
    def run(graph: Graph) -> Rewrite:
        registry, edit = load_ops(), Editor(graph)
        producers, consumers = graph.producers(), graph.consumers()
        done, kept, touched = [], [], set()
        for node in graph.nodes:
            if node.op != "clamp":
                continue
            name, source = node.output.name, next(operands(node.inputs))
            before = producers.get(source)
            reason = _obstacle(graph, before, source, len(consumers[source]), node)
            if not reason and before is not None and not registry.op(before.op).absorbs_clamp:
                reason = f"{before.op} has no clamp"
            if not reason and source in touched:
                reason = "its producer was just rewritten"
            if reason or before is None:
                kept.append(Step(node=name, text=reason))
                continue
            attrs: Any = before.attrs
            joined = replace(attrs, clamp=_meet(attrs.clamp, _clamp(node)))
            edit.replace(before, replace(before, attrs=joined, outputs=node.outputs))
            edit.remove(node)
            touched.add(name)
            done.append(Step(node=name, text=f"fused into {before.op} as clamp={joined.clamp}"))
        if not done:
            return Rewrite(graph=graph, kept=tuple(kept))
        return Rewrite(graph=edit.result(), done=tuple(done), kept=tuple(kept))

    @staticmethod
    def plant(graph: Graph, rng: np.random.Generator) -> Graph | None:
        """Put a clamp behind an operator that could do it."""
        registry = load_ops()
        places = [
            n.output
            for n in graph.nodes
            if registry.op(n.op).absorbs_clamp and n.output.type.dtype is DType.S8
        ]
        if not places:
            return None
        value = places[int(rng.integers(len(places)))]
        before: Any = graph.producers()[value.name].attrs
        low, high = before.clamp
        bounds = (int(rng.integers(-128, high + 1)), int(rng.integers(max(low, -128), 128)))
        attrs = ClampAttrs(clamp=(min(bounds), max(bounds)))
        return insert_on(
            graph,
            value.name,
            lambda out: [Node("clamp", ClampInputs(value.name), attrs, (Value(out, value.type),))],
        )


def _clamp(node: Node) -> tuple[int, int]:
    assert isinstance(node.attrs, ClampAttrs)
    return node.attrs.clamp


def _meet(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return max(a[0], b[0]), min(a[1], b[1])


def _role(graph: Graph, name: str) -> str:
    return "an output of the network" if name in graph.outputs else "what a state becomes"


def _obstacle(graph: Graph, before: Node | None, source: str, readers: int, node: Node) -> str:
    if before is None:
        return "no node computes its input"
    if source in graph.kept:
        return f"%{source} before it is {_role(graph, source)}"
    if readers > 1:
        return f"%{source} before it is read {readers} times"
    own: Any = before.attrs
    low, high = _meet(getattr(own, "clamp", (-128, 127)), _clamp(node))
    return "" if low <= high else f"its bounds and those of {before.op} have no common code"
