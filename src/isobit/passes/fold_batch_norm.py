"""Folds batch normalisation into the weights before it (Jacob et al. 2018, section 3.2), or makes
it a depthwise convolution of one tap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from isobit.core.types import FloatArray
from isobit.ir.edit import Editor, insert_on
from isobit.ir.graph import Const, Graph, Node, Stage, Value
from isobit.ops.batch_norm.op import BatchNormAttrs, BatchNormInputs
from isobit.ops.depthwise_conv2d.op import DepthwiseConv2dAttrs
from isobit.ops.registry import load_ops
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
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
        touched: set[str] = set()
        done: list[Step] = []
        kept: list[Step] = []
        for node in graph.nodes:
            norm = node.inputs
            if not isinstance(norm, BatchNormInputs) or not isinstance(node.attrs, BatchNormAttrs):
                continue
            name = node.output.name
            if norm.x in touched:  # folded in this round; the next one goes on
                continue
            before = producers.get(norm.x)
            op = None if before is None else registry.op(before.op)
            if before is None or op is None or not issubclass(op, WeightedOp):
                what = "an input of the network" if before is None else f"a {before.op}"
                step = _alone(edit, node, consts, f"it follows {what}, which has no weights")
                (kept if len(node.output.type.shape) > 4 else done).append(step)
                touched.add(name)
                continue
            if norm.x in graph.outputs or len(consumers[norm.x]) > 1:
                reason = f"%{norm.x} before it is read elsewhere too"
                step = _alone(edit, node, consts, reason)
                (kept if len(node.output.type.shape) > 4 else done).append(step)
                touched.add(name)
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


def _alone(edit: Editor, node: Node, consts: Mapping[str, Const], reason: str) -> Step:
    """Put `y = x * s + (beta - mean * s)` in the place of a norm that has no weights to fold into;
    the convolution reads an image, of one row or one pixel where there is none. More axes than
    four stay as they are.
    """
    norm, out = node.inputs, node.output
    assert isinstance(norm, BatchNormInputs) and isinstance(node.attrs, BatchNormAttrs)
    shape, kind = out.type.shape, consts[norm.gamma].type
    if len(shape) > 4:
        return Step(node=out.name, text=reason)
    data = {key: consts[key].data.astype(np.float64) for key in _numbers(norm)}
    scale = data[norm.gamma] / np.sqrt(data[norm.var] + node.attrs.eps)
    w = edit.const(f"{out.name}.w", kind, scale.reshape(1, 1, -1))
    b = edit.const(f"{out.name}.b", kind, data[norm.beta] - data[norm.mean] * scale)
    form = out.type.with_shape((shape[0], *(1,) * (4 - len(shape)), *shape[1:]))
    source, result, around = norm.x, out, False
    if form.shape != shape:
        source, around = edit.fresh(f"{out.name}.image"), True
        result = Value(edit.fresh(f"{out.name}.result"), form)
    inputs = WeightedInputs(source, w, b)
    conv = Node("depthwise_conv2d", inputs, DepthwiseConv2dAttrs(), (result,), node.location)
    if around:
        into = ReshapeAttrs(form.shape[1:])
        edit.replace(
            node,
            Node("reshape", ReshapeInputs(norm.x), into, (Value(source, form),)),
            conv,
            Node("reshape", ReshapeInputs(result.name), ReshapeAttrs(shape[1:]), (out,)),
        )
    else:
        edit.replace(node, conv)
    return Step(node=out.name, text=f"a depthwise convolution of one tap: {reason}")


def _numbers(norm: BatchNormInputs[str]) -> list[str]:
    return [norm.gamma, norm.beta, norm.mean, norm.var]


def _constants(norm: BatchNormInputs[str], weights: WeightedInputs[str]) -> list[str]:
    found = [*_numbers(norm), weights.w]
    return found if weights.b is None else [*found, weights.b]
