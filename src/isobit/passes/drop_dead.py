"""Drops nodes and constants that no output depends on: dead branches of foreign graphs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from isobit.ir.edit import Editor, needed
from isobit.ir.graph import Graph, Node, Value
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
from isobit.passes.base import Pass, Rewrite, Step


class DropDead(Pass):
    """Whatever the outputs do not need goes, with the constants that only it read."""

    after = (
        "drop_noop",
        "elide_softmax",
        "fold_batch_norm",
        "fold_constants",
        "fuse_clamp",
        "fuse_pad",
        "merge_common",
        "merge_tables",
        "merge_views",
        "simplify_scalars",
        "sink_transposes",
        "table_chains",
    )

    @staticmethod
    def run(graph: Graph) -> Rewrite:
        kept = {node.outputs[0].name for node in needed(graph.nodes, graph.kept)}
        dead = [node for node in graph.nodes if node.outputs[0].name not in kept]
        if not dead:
            return Rewrite(graph=graph)
        done = (Step(node=n.outputs[0].name, text="dropped: no output depends on it") for n in dead)
        return Rewrite(graph=Editor(graph).result(), done=tuple(done))

    @staticmethod
    def plant(graph: Graph, rng: np.random.Generator) -> Graph | None:
        """Add a view that nothing reads."""
        types = graph.type_map()
        values = [v.name for node in graph.nodes for v in node.outputs]
        source = values[int(rng.integers(len(values)))]
        edit = Editor(graph)
        kind = types[source].with_shape((1, types[source].elements))
        dead = Node(
            "reshape",
            ReshapeInputs(source),
            ReshapeAttrs(kind.shape[1:]),
            (Value(edit.fresh("dead"), kind),),
        )
        return replace(graph, nodes=(*graph.nodes, dead))
