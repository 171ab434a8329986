"""Computes equal things once: nodes with the same operator, operands and attributes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from isobit.ir.edit import Editor
from isobit.ir.graph import Const, Graph, Value, map_inputs
from isobit.passes.base import Pass, Rewrite, Step


class MergeCommon(Pass):
    """Common subexpressions. Constants count as equal where type and data are."""

    after = ("drop_noop",)

    @staticmethod
    def run(graph: Graph) -> Rewrite:
        edit, done, kept = Editor(graph), [], []
        same = _equal_constants(graph.consts)
        seen: dict[Any, tuple[Value, ...]] = {}
        for node in graph.nodes:
            inputs = map_inputs(node.inputs, lambda n: same.get(edit.resolved(n), edit.resolved(n)))
            key = (node.op, inputs, node.attrs, tuple(v.type for v in node.outputs))
            first = seen.setdefault(key, node.outputs)
            if first is node.outputs:
                continue
            pairs = list(zip(node.outputs, first, strict=True))
            name = node.outputs[0].name
            reasons = [edit.refusal(old.name, new.name) for old, new in pairs]
            if any(reasons):
                kept.append(Step(node=name, text=next(filter(None, reasons))))
                continue
            for old, new in pairs:
                edit.alias(old.name, new.name)
            edit.remove(node)
            done.append(Step(node=name, text=f'merged with "{first[0].name}", which is the same'))
        if not done:
            return Rewrite(graph=graph, kept=tuple(kept))
        return Rewrite(graph=edit.result(), done=tuple(done), kept=tuple(kept))

    @staticmethod
    def plant(graph: Graph, rng: np.random.Generator) -> Graph | None:
        """Compute a node a second time, from constants of its own, as one more output."""
        edit = Editor(graph)
        node = graph.nodes[int(rng.integers(len(graph.nodes)))]
        consts, names = list(graph.consts), {}
        for const in graph.consts:
            if rng.random() < 0.5:
                names[const.name] = edit.fresh(const.name)
                consts.append(replace(const, name=names[const.name]))
        inputs = map_inputs(node.inputs, lambda name: names.get(name, name))
        copies = tuple(replace(v, name=edit.fresh(v.name)) for v in node.outputs)
        if any(value.name in graph.outputs for value in node.outputs):
            return None
        again = replace(node, inputs=inputs, outputs=copies)
        outputs = (*graph.outputs, copies[0].name)
        return replace(graph, nodes=(*graph.nodes, again), consts=tuple(consts), outputs=outputs)


def _equal_constants(consts: tuple[Const, ...]) -> dict[str, str]:
    """Return, for every constant, the first one of its type and data."""
    first: dict[Any, str] = {}
    return {c.name: first.setdefault((c.type, c.storage, c.data.tobytes()), c.name) for c in consts}
