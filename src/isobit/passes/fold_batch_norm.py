"""Folds batch normalisation into the weights before it (Jacob et al. 2018, section 3.2)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from isobit.core.types import FloatArray
from isobit.ir.edit import Editor, insert_on
from isobit.ir.graph import Const, Graph, Node, Stage, Value
from isobit.ops.batch_norm.op import BatchNormAttrs, BatchNormInputs
from isobit.ops.registry import load_ops
from isobit.ops.weighted import WeightedInputs, WeightedOp
from isobit.passes.base import Claim, Pass, Rewrite, Step


class FoldBatchNorm(Pass):
    """`w' = w * s`, `b' = (b - mean) * s + beta` with `s = gamma / sqrt(var + eps)`, per channel.

    Float graphs of foreign models; a network of `isobit.nn` keeps its batch norm while it trains.
    """

    claim = Claim.ROUNDING
    stages = frozenset({Stage.FLOAT})
    after = ("drop_noop",)

    @staticmethod
    def run(graph: Graph) -> Rewrite:
        registry, edit = load_ops(), Editor(graph)
        producers, consumers, consts = graph.producers(), graph.consumers(), graph.const_map()
        done, kept, touched = [], [], set()
        for node in graph.nodes:
            norm = node.inputs
            if not isinstance(norm, BatchNormInputs) or not isinstance(node.attrs, BatchNormAttrs):
                continue
            name = node.output.name
            before = producers.get(norm.x)
            op = None if before is None else registry.op(before.op)
            if norm.x in touched:  # folded in this round; the next one goes on
                continue
            if before is None or op is None or not issubclass(op, WeightedOp):
                what = "an input of the network" if before is None else f"a {before.op}"
                kept.append(Step(node=name, text=f"it follows {what}, which has no weights"))
                continue
            if norm.x in graph.outputs or len(consumers[norm.x]) > 1:
                kept.append(Step(node=name, text=f"%{norm.x} before it is read elsewhere too"))
                continue
            weights = before.inputs
            assert isinstance(weights, WeightedInputs)
            data = {key: consts[key].data.astype(np.float64) for key in _constants(norm, weights)}
            scale: FloatArray = data[norm.gamma] / np.sqrt(data[norm.var] + node.attrs.eps)
            along = [-1 if i == op.channel_axis else 1 for i in range(data[weights.w].ndim)]
            bias = data[weights.b] if weights.b is not None else np.zeros_like(scale)
            w = edit.const(
                f"{weights.w}.folded",
                consts[weights.w].type,
                data[weights.w] * scale.reshape(along),
                consts[weights.w].label,
            )
            kind = consts[norm.beta].type if weights.b is None else consts[weights.b].type
            b = edit.const(
                f"{weights.w}.bias", kind, (bias - data[norm.mean]) * scale + data[norm.beta]
            )
            inputs = replace(weights, w=w, b=b)
            edit.replace(before, replace(before, inputs=inputs, outputs=node.outputs))
            edit.remove(node)
            touched.add(name)
            done.append(Step(node=name, text=f'folded into {before.op} "{norm.x}"'))
        if not done:
            return Rewrite(graph=graph, kept=tuple(kept))
        return Rewrite(graph=edit.result(), done=tuple(done), kept=tuple(kept))

    @staticmethod
    def plant(graph: Graph, rng: np.random.Generator) -> Graph | None:
        """Put a batch norm behind an operator with weights."""
        registry = load_ops()
        places = [n.output for n in graph.nodes if issubclass(registry.op(n.op), WeightedOp)]
        if not places:
            return None
        value = places[int(rng.integers(len(places)))]
        channels, edit = value.type.shape[-1], Editor(graph)
        numbers = {
            "gamma": rng.normal(size=channels),
            "beta": rng.normal(size=channels),
            "mean": rng.normal(size=channels),
            "var": rng.uniform(0.1, 2.0, size=channels),
        }
        consts = {
            key: Const(edit.fresh(f"{value.name}.{key}"), value.type.with_shape((channels,)), data)
            for key, data in numbers.items()
        }
        inputs: Any = BatchNormInputs(value.name, **{key: c.name for key, c in consts.items()})
        graph = insert_on(
            graph,
            value.name,
            lambda out: [Node("batch_norm", inputs, BatchNormAttrs(), (Value(out, value.type),))],
        )
        return replace(graph, consts=(*graph.consts, *consts.values()))


def _constants(norm: BatchNormInputs[str], weights: WeightedInputs[str]) -> list[str]:
    found = [norm.gamma, norm.beta, norm.mean, norm.var, weights.w]
    return found if weights.b is None else [*found, weights.b]
