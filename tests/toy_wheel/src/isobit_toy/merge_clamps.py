"""Two clamps in a row become one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from isobit.ir.edit import Editor, insert_on
from isobit.ir.graph import Graph, Node, Stage, Value
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.passes.base import Claim, Pass, Rewrite, Step


class MergeClamps(Pass):
    """`clamp(clamp(x, a), b) -> clamp(x, a and b)`, where nothing else reads the value between."""

    claim = Claim.BITS
    stages = frozenset({Stage.INT})
    after = ("drop_noop", "fuse_clamp")

    @staticmethod
    def run(graph: Graph) -> Rewrite:
        producers, consumers = graph.producers(), graph.consumers()
        edit, done, kept = Editor(graph), [], []
        for node in graph.nodes:
            before = producers.get(node.inputs.x) if isinstance(node.inputs, ClampInputs) else None
            if before is None or not isinstance(before.inputs, ClampInputs):
                continue
            between, name = before.output.name, node.output.name
            if between in graph.outputs or len(consumers[between]) > 1:
                kept.append(Step(node=name, text=f"%{between} before it is read elsewhere too"))
                continue
            (a, b), (c, d) = before.attrs.clamp, node.attrs.clamp
            both = ClampAttrs(clamp=(min(max(a, c), d), max(min(b, d), c)))
            edit.replace(node, replace(node, inputs=before.inputs, attrs=both))
            done.append(Step(node=name, text=f'merged with "{between}" as clamp={both.clamp}'))
            break  # the next round sees the graph without it
        if not done:
            return Rewrite(graph=graph, kept=tuple(kept))
        return Rewrite(graph=edit.result(), done=tuple(done), kept=tuple(kept))

    @staticmethod
    def plant(graph: Graph, rng: np.random.Generator) -> Graph | None:
        """Put two clamps behind a value of int8."""
        values = [v for n in graph.nodes for v in n.outputs if v.type.dtype.value == "s8"]
        if not values:
            return None
        value = values[int(rng.integers(len(values)))]
        first = Editor(graph).fresh("first")

        def make(out: str) -> list[Node]:
            pairs = np.sort(rng.integers(-128, 128, size=(2, 2)), axis=1).tolist()
            one, two = (ClampAttrs(clamp=(low, high)) for low, high in pairs)
            return [
                Node("clamp", ClampInputs(value.name), one, (Value(first, value.type),)),
                Node("clamp", ClampInputs(first), two, (Value(out, value.type),)),
            ]

        return insert_on(graph, value.name, make)
