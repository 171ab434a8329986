"""Chains of elementwise int8 operators become one table: `x * relu6(x + 3) / 6` is one function of
a code.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import Raw, TensorType
from isobit.ir.edit import Editor, insert_on
from isobit.ir.graph import Const, Graph, Node, Stage, Value
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.codes import Functions
from isobit.ops.lut.op import ENTRIES, LutAttrs, LutInputs
from isobit.ops.mul.op import MulAttrs, MulInputs
from isobit.passes.base import Pass, Rewrite, Step

TABLE = TensorType((ENTRIES,), DType.S8, Raw())


class TableChains(Pass):
    """`op_n(...op_1(x)) -> lut(x)` where at least two operators go: all 256 codes are computed."""

    stages = frozenset({Stage.INT})
    after = ("drop_noop", "fuse_clamp", "merge_common", "merge_tables", "simplify_scalars")

    @staticmethod
    def run(graph: Graph) -> Rewrite:
        functions, edit = Functions(graph), Editor(graph)
        done, kept, gone = [], [], set()
        for node in reversed(graph.nodes):
            name = node.outputs[0].name
            if name in gone:
                continue
            chain = next(functions.chains(name), None)
            if chain is None:
                continue
            if len(chain.nodes) < 2:
                shared = functions.shared(node)
                if shared:
                    kept.append(
                        Step(node=name, text=f"%{shared} before it is needed elsewhere too")
                    )
                continue
            table = edit.const(f"{name}.table", TABLE, chain.table)
            inputs: Any = LutInputs(chain.source, table=table)
            edit.replace(node, replace(node, op="lut", inputs=inputs, attrs=LutAttrs("")))
            gone |= {one.output.name for one in chain.nodes}
            text = f"one table of %{chain.source} for " + ", ".join(n.op for n in chain.nodes)
            done.append(Step(node=name, text=text))
        if not done:
            return Rewrite(graph=graph, kept=tuple(kept[::-1]))
        return Rewrite(graph=edit.result(), done=tuple(done[::-1]), kept=tuple(kept[::-1]))

    @staticmethod
    def plant(graph: Graph, rng: np.random.Generator) -> Graph | None:
        """Put a chain of tables, clamps and products with the value itself behind a value."""
        values = [v for n in graph.nodes for v in n.outputs if v.type.dtype is DType.S8]
        if not values:
            return None
        value, edit = values[int(rng.integers(len(values)))], Editor(graph)
        consts: list[Const] = []

        def const(kind: TensorType, data: np.ndarray) -> str:
            consts.append(Const(edit.fresh("planted"), kind, data))
            return consts[-1].name

        def step(x: str, y: str) -> Node:
            out = (Value(y, value.type),)
            match int(rng.integers(3)):
                case 0:
                    table = const(TABLE, rng.integers(-128, 128, size=ENTRIES))
                    return Node("lut", LutInputs(x, table=table), LutAttrs(""), out)
                case 1:
                    low, high = np.sort(rng.integers(-128, 128, size=2)).tolist()
                    return Node("clamp", ClampInputs(x), ClampAttrs(clamp=(low, high)), out)
                case _:
                    shift = const(TensorType((1,), DType.S32, Raw()), np.asarray([7]))
                    other = value.name if rng.random() < 0.5 else x
                    inputs: Any = MulInputs(x, other, shift=shift)
                    return Node("mul", inputs, MulAttrs(), out)

        def make(out: str) -> list[Node]:
            count = int(rng.integers(2, 5))
            names = [value.name, *(edit.fresh(f"{out}.{i}") for i in range(count - 1)), out]
            return [step(x, y) for x, y in pairwise(names)]

        graph = insert_on(graph, value.name, make)
        return replace(graph, consts=(*graph.consts, *consts))
