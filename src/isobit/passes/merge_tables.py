"""Two tables in a row become one: `b[a[x]]` is a table of its own."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import Raw, TensorType
from isobit.ir.edit import Editor, insert_on
from isobit.ir.graph import Const, Graph, Node, Stage, Value
from isobit.ops.lut.op import LutAttrs, LutInputs
from isobit.passes.base import Pass, Rewrite, Step


class MergeTables(Pass):
    """`lut(lut(x, a), b) -> lut(x, b[a])`, where nothing else reads the value between."""

    stages = frozenset({Stage.INT})
    after = ("drop_noop",)

    @staticmethod
    def run(graph: Graph) -> Rewrite:
        producers, consumers, consts = graph.producers(), graph.consumers(), graph.const_map()
        edit, done, kept = Editor(graph), [], []
        merged: set[str] = set()
        for node in graph.nodes:
            own = node.inputs
            if not isinstance(own, LutInputs) or own.x not in producers:
                continue
            before = producers[own.x]
            first = before.inputs
            if not isinstance(first, LutInputs):
                continue
            name = node.output.name
            if own.x in graph.kept:
                role = "an output of the network"
                role = role if own.x in graph.outputs else "what a state becomes"
                kept.append(Step(node=name, text=f"%{own.x} before it is {role}"))
                continue
            if len(consumers[own.x]) > 1:
                readers = len(consumers[own.x])
                kept.append(Step(node=name, text=f"%{own.x} before it is read {readers} times"))
                continue
            if own.x in merged:  # the next round sees it as one table
                continue
            assert first.table is not None and own.table is not None
            inner, outer = consts[first.table].data, consts[own.table].data
            table = outer[inner.astype(np.int64) + 128]
            stored = edit.const(f"{name}.table", consts[own.table].type, table)
            inputs = LutInputs(first.x, table=stored)
            edit.replace(node, replace(node, inputs=inputs, attrs=LutAttrs("")))
            merged.add(name)
            done.append(Step(node=name, text=f'merged with the table of "{own.x}"'))
        if not done:
            return Rewrite(graph=graph, kept=tuple(kept))
        return Rewrite(graph=edit.result(), done=tuple(done), kept=tuple(kept))

    @staticmethod
    def plant(graph: Graph, rng: np.random.Generator) -> Graph | None:
        """Put two or three tables behind a value of int8."""
        values = [v for node in graph.nodes for v in node.outputs if v.type.dtype is DType.S8]
        if not values:
            return None
        value = values[int(rng.integers(len(values)))]
        edit, kind = Editor(graph), TensorType((256,), DType.S8, Raw())
        consts: list[Const] = []

        def make(out: str) -> list[Node]:
            count = int(rng.integers(2, 4))
            names = [value.name, *(edit.fresh(f"{out}.{i}") for i in range(count - 1)), out]
            nodes = []
            for source, result in pairwise(names):
                table = rng.integers(-128, 128, size=256)
                consts.append(Const(edit.fresh(f"{result}.table"), kind, table))
                inputs = LutInputs(source, table=consts[-1].name)
                nodes.append(Node("lut", inputs, LutAttrs(""), (Value(result, value.type),)))
            return nodes

        graph = insert_on(graph, value.name, make)
        return replace(graph, consts=(*graph.consts, *consts))
