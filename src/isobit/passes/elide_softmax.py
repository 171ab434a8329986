"""Leaves out a softmax in front of an output: the class is known before it.

Whoever asks only which class it is saves the exponentials and the division. On request, because the
output then holds logits, in their own encoding, and no probabilities.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import scale_of
from isobit.ir.edit import Editor, insert_on, may_alias
from isobit.ir.graph import Graph, Node, Stage, Value, operands
from isobit.ops.base import is_float
from isobit.ops.check import node_types
from isobit.ops.registry import load_ops
from isobit.ops.softmax import gemmlowp
from isobit.ops.softmax.op import OUTPUT, SoftmaxAttrs, SoftmaxInputs
from isobit.passes.base import Claim, Pass, Rewrite, Step


class ElideSoftmax(Pass):
    """`softmax(x) -> x` where nothing but the outputs reads it.

    Softmax is monotone, in integers too: a larger logit never gets a smaller probability. Equal
    probabilities may come from unequal logits, so the largest logit decides some ties that the
    smallest index decided before; it always is one of the most probable classes.
    """

    claim = Claim.ORDER
    default = False
    after = ("drop_noop", "merge_views")

    @staticmethod
    def run(graph: Graph) -> Rewrite:
        registry, consumers, edit = load_ops(), graph.consumers(), Editor(graph)
        done, kept = [], []
        for node in graph.nodes:
            if not registry.op(node.op).keeps_order(node.attrs, node_types(graph, node)):
                continue
            source, name = next(operands(node.inputs)), node.output.name
            readers = consumers[name]
            reason = may_alias(graph, name, source)
            if readers:
                reason = f'{readers[0].op} "{readers[0].outputs[0].name}" reads it'
            if not reason and edit.resolved(source) in {edit.resolved(o) for o in graph.outputs}:
                reason = f"%{source} became another output"
            if reason:
                kept.append(Step(node=name, text=reason))
                continue
            edit.remove(node)
            edit.alias(name, source)
            kind = graph.type_map()[source]
            data = {"scale": float(scale_of(kind.encoding)[0]), "zero": kind.zero}
            text = f"left out: the output is what {node.op} read, in the same order"
            done.append(Step(node=name, text=text, data={} if is_float(kind) else data))
        if not done:
            return Rewrite(graph=graph, kept=tuple(kept))
        return Rewrite(graph=edit.result(), done=tuple(done), kept=tuple(kept))

    @staticmethod
    def plant(graph: Graph, rng: np.random.Generator) -> Graph | None:
        """Put a softmax behind an output."""
        float_graph = graph.stage is Stage.FLOAT
        places = [
            node.output
            for node in graph.nodes
            if len(node.outputs) == 1
            and node.output.name in graph.outputs
            and not graph.consumers()[node.output.name]
            and len(node.output.type.shape) > 1
            and (float_graph or node.output.type.dtype is DType.S8)
        ]
        if not places:
            return None
        value = places[int(rng.integers(len(places)))]
        beta = float(rng.uniform(0.2, 2.0))
        attrs, kind = SoftmaxAttrs(beta), value.type
        if not float_graph:
            scale = float(scale_of(kind.encoding)[0])
            mult, shift, diff_min = gemmlowp.parameters(beta * scale)
            attrs = SoftmaxAttrs(beta, mult, shift, diff_min)
            kind = replace(kind, encoding=OUTPUT)

        def make(out: str) -> list[Node]:
            inputs: Any = SoftmaxInputs(value.name)
            return [Node("softmax", inputs, attrs, (Value(out, kind),))]

        return insert_on(graph, value.name, make)
