"""Drops nodes whose output is their input: identity chains, pads by nothing, transposes that move
no axis, clamps at the carrier's own bounds, concatenations and splits of one tensor.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from isobit.core.types import TensorType
from isobit.ir.edit import Editor, insert_on
from isobit.ir.graph import Graph, Node, Stage, Value, operands
from isobit.ops.check import node_types
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.pad.op import PadAttrs, PadInputs
from isobit.ops.registry import load_ops
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
from isobit.ops.transpose.op import TransposeAttrs, TransposeInputs
from isobit.passes.base import Pass, Rewrite, Step


class DropNoop(Pass):
    """Every operator says itself when it is the identity (`Op.identity`)."""

    @staticmethod
    def run(graph: Graph) -> Rewrite:
        registry, edit = load_ops(), Editor(graph)
        done, kept = [], []
        for node in graph.nodes:
            why = registry.op(node.op).identity(node.attrs, node_types(graph, node))
            if not why:
                continue
            source, name = edit.resolved(next(operands(node.inputs))), node.output.name
            blocked = edit.refusal(name, source)
            if blocked:
                kept.append(Step(node=name, text=f"{node.op} {why}, but {blocked}"))
                continue
            edit.remove(node)
            edit.alias(name, source)
            done.append(Step(node=name, text=f"dropped: {node.op} {why}"))
        if not done:
            return Rewrite(graph=graph, kept=tuple(kept))
        return Rewrite(graph=edit.result(), done=tuple(done), kept=tuple(kept))

    @staticmethod
    def plant(graph: Graph, rng: np.random.Generator) -> Graph | None:
        """Put one to three such nodes behind values that a node computes."""
        names = [v.name for node in graph.nodes for v in node.outputs]
        for _ in range(int(rng.integers(1, 4))):
            name = names[int(rng.integers(len(names)))]
            kind = graph.type_map()[name]
            # Floats of an integer graph are bits on their way to quantize: no clamp takes them.
            clamps = kind.dtype.is_integer or graph.stage is Stage.FLOAT
            choice = _NOOPS[int(rng.integers(len(_NOOPS) if clamps else len(_NOOPS) - 1))]
            graph = insert_on(graph, name, partial(_noop, name, kind, choice))
        return graph


_NOOPS = ("reshape", "pad", "transpose", "clamp")


def _noop(name: str, kind: TensorType, operator: str, out: str) -> list[Node]:
    return [_node(name, kind, operator, (Value(out, kind),))]


def _node(name: str, kind: TensorType, operator: str, values: tuple[Value, ...]) -> Node:
    match operator:
        case "reshape":
            return Node("reshape", ReshapeInputs(name), ReshapeAttrs(kind.shape[1:]), values)
        case "pad":
            pads = ((0, 0),) * (len(kind.shape) - 1)
            return Node("pad", PadInputs(name), PadAttrs(pads), values)
        case "transpose":
            perm = tuple(range(len(kind.shape)))
            return Node("transpose", TransposeInputs(name), TransposeAttrs(perm), values)
        case _ if kind.dtype.is_integer:
            bounds = ClampAttrs(clamp=(kind.dtype.low, kind.dtype.high))
            return Node("clamp", ClampInputs(name), bounds, values)
        case _:
            return Node("clamp", ClampInputs(name), ClampAttrs(), values)
