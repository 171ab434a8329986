"""Moves a pad of height and width by zeros into the convolution that reads it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from isobit.ir.edit import Editor, needed
from isobit.ir.graph import Graph, Node, Value, operands
from isobit.ops.base import is_float
from isobit.ops.pad.op import PadAttrs, PadInputs
from isobit.ops.registry import load_ops
from isobit.passes.base import Pass, Rewrite, Step


class FusePad(Pass):
    """`conv(pad(x)) -> conv(x) pad=sum`; the pad stays for readers that have no padding of their
    own.
    """

    after = ("drop_noop",)

    @staticmethod
    def run(graph: Graph) -> Rewrite:
        registry, edit = load_ops(), Editor(graph)
        producers, done, kept = graph.producers(), [], []
        for node in graph.nodes:
            before = producers.get(next(operands(node.inputs), ""))
            if before is None or not isinstance(before.attrs, PadAttrs):
                continue
            name = before.output.name
            if not registry.op(node.op).absorbs_pad:
                kept.append(Step(node=name, text=f"{node.op} that reads it has no padding"))
                continue
            reason = _obstacle(before.attrs, before.output)
            if reason:
                kept.append(Step(node=name, text=reason))
                continue
            attrs: Any = node.attrs
            (top, bottom), (left, right), _ = before.attrs.pads
            own = attrs.pad
            pad = (own[0] + top, own[1] + left, own[2] + bottom, own[3] + right)
            own_inputs: Any = node.inputs  # of an operator that absorbs pads: it has a field x
            inputs = replace(own_inputs, x=next(operands(before.inputs)))
            edit.replace(node, replace(node, inputs=inputs, attrs=replace(attrs, pad=pad)))
            done.append(Step(node=name, text=f'fused into {node.op} "{node.output.name}"'))
        if not done:
            return Rewrite(graph=graph, kept=tuple(kept))
        return Rewrite(graph=edit.result(), done=tuple(done), kept=tuple(kept))

    @staticmethod
    def plant(graph: Graph, rng: np.random.Generator) -> Graph | None:
        """Take the padding out of a convolution again."""
        registry, types = load_ops(), graph.type_map()
        places = [
            node
            for node in needed(graph.nodes, graph.kept)
            if registry.op(node.op).absorbs_pad and any(_pad_of(node.attrs))
        ]
        if not places:
            return None
        node = places[int(rng.integers(len(places)))]
        attrs: Any = node.attrs
        top, left, bottom, right = attrs.pad
        source = next(operands(node.inputs))
        kind, edit = types[source], Editor(graph)
        n, h, w, c = kind.shape
        padded = Value(
            edit.fresh("padded"), kind.with_shape((n, h + top + bottom, w + left + right, c))
        )
        pads = ((top, bottom), (left, right), (0, 0))
        value = None if rng.random() < 0.5 or not kind.dtype.is_integer else kind.zero
        pad = Node("pad", PadInputs(source), PadAttrs(pads, value), (padded,))
        own_inputs: Any = node.inputs  # of an operator that absorbs pads: it has a field x
        inputs = replace(own_inputs, x=padded.name)
        edit.replace(
            node, pad, replace(node, inputs=inputs, attrs=replace(attrs, pad=(0, 0, 0, 0)))
        )
        return edit.result()


def _pad_of(attrs: Any) -> tuple[int, ...]:
    pad: tuple[int, ...] = attrs.pad
    return pad


def _obstacle(attrs: PadAttrs, padded: Value) -> str:
    if len(attrs.pads) != 3 or attrs.pads[2] != (0, 0):
        return "it pads more than height and width"
    if attrs.value is None and attrs.real != 0:
        return f"it pads with {attrs.real}, a convolution with 0"
    if is_float(padded.type) and attrs.real != 0.0:
        return f"it pads with {attrs.real}, a convolution with 0"
    if attrs.value not in (None, padded.type.zero):
        return f"it pads with {attrs.value}, a convolution with {padded.type.zero}"
    return ""
