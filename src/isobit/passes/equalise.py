"""Cross-layer range equalisation: channels of neighbouring layers get like ranges (Nagel et al.
2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", eq. 8-11).

Between two layers with weights stands f with f(s x) = s f(x) for s > 0: ReLU, pools, nothing. Then
output channel i of the first may be divided by s_i and input channel i of the second multiplied by
it. With r1_i and r2_i the largest weights of the two, s_i = sqrt(r1_i / r2_i) makes both
sqrt(r1_i r2_i): a channel whose weights were small uses as many codes as the others.

Changing one pair changes the next one's ranges, so pairs are swept until no channel moves by more
than `SETTLED`: O(sweeps x weights). The limit does not depend on where sweeps start, but they stop
near it, not at it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from isobit.core.types import FloatArray, TensorType
from isobit.ir.edit import Editor, insert_on
from isobit.ir.graph import Const, Graph, Node, Stage, Value, map_inputs, operands
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.conv2d.op import Conv2dAttrs
from isobit.ops.linear.op import LinearAttrs
from isobit.ops.pad.op import PadAttrs
from isobit.ops.registry import load_ops
from isobit.ops.weighted import WeightedInputs, WeightedOp
from isobit.passes.base import Claim, Pass, Rewrite, Step

SETTLED = 2.0**-6
"""Changes of a channel's scale below this (1 %) are less than one code in 64."""
DEAD = 2.0**-16
"""A channel whose weights are below this part of the layer's largest is one that training gave up.
Scaling it up would only blow up its bias.
"""
SWEEPS = 200
POOLS = frozenset({"max_pool2d", "avg_pool2d", "global_avg_pool"})
INTO = frozenset({"conv2d", "depthwise_conv2d", "linear"})
"""Operators whose input channels are understood below."""


class Equalise(Pass):
    """`second(f(first(x)))` with weights scaled per channel between them, where nothing else reads
    the values between.
    """

    claim = Claim.ROUNDING
    stages = frozenset({Stage.FLOAT})
    default = False
    after = ("drop_noop", "fold_batch_norm", "fuse_pad")

    @staticmethod
    def run(graph: Graph) -> Rewrite:
        pairs, kept = _pairs(graph)
        weights = _Weights(graph)
        scales = {pair.first.output.name: np.ones(pair.channels) for pair in pairs}
        for _ in range(SWEEPS):
            largest = 0.0
            for pair in pairs:
                s = weights.balance(pair)
                scales[pair.first.output.name] *= s
                largest = max(largest, float(np.abs(np.log2(s)).max()))
            if largest < SETTLED:
                break
        moved = [p for p in pairs if np.abs(np.log2(scales[p.first.output.name])).max() >= SETTLED]
        if not moved:
            return Rewrite(graph=graph, kept=tuple(kept))
        done = [_told(pair, scales[pair.first.output.name]) for pair in moved]
        return Rewrite(graph=_apply(graph, pairs, weights), done=tuple(done), kept=tuple(kept))

    @staticmethod
    def plant(graph: Graph, rng: np.random.Generator) -> Graph | None:
        """Put two layers with a ReLU between them behind a value."""
        values = [v for n in graph.nodes for v in n.outputs if len(v.type.shape) in (2, 4)]
        if not values:
            return None
        value = values[int(rng.integers(len(values)))]
        channels, inner, edit = value.type.shape[-1], int(rng.integers(2, 6)), Editor(graph)
        image = len(value.type.shape) == 4
        names = [edit.fresh(f"{value.name}.{key}") for key in ("w1", "w2", "first", "relu")]
        sizes = [(inner, channels), (channels, inner)]
        shapes = [(o, 1, 1, i) if image else (o, i) for o, i in sizes]
        consts = tuple(
            Const(name, value.type.with_shape(shape), rng.normal(size=shape) * 8.0**place)
            for place, (name, shape) in enumerate(zip(names[:2], shapes, strict=True))
        )
        between = value.type.with_shape((*value.type.shape[:-1], inner))

        def make(out: str) -> list[Node]:
            op = "conv2d" if image else "linear"
            attrs: Any = Conv2dAttrs() if image else LinearAttrs()
            first, relu = Value(names[2], between), Value(names[3], between)
            return [
                Node(op, WeightedInputs(value.name, names[0]), attrs, (first,)),
                Node("clamp", ClampInputs(first.name), ClampAttrs(low=0.0), (relu,)),
                Node(op, WeightedInputs(relu.name, names[1]), attrs, (Value(out, value.type),)),
            ]

        grown = insert_on(graph, value.name, make)
        return replace(grown, consts=(*grown.consts, *consts))


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two layers and the nodes between them, in execution order."""

    first: Node
    between: tuple[Node, ...]
    second: Node
    inputs: int
    """Input channels of the second layer: those of the first, more of them after a flattening."""

    @property
    def channels(self) -> int:
        return self.first.output.type.shape[-1]


class _Weights:
    """Weights and biases in the making, float64, by the node's output name."""

    def __init__(self, graph: Graph) -> None:
        self.w: dict[str, FloatArray] = {}
        self.b: dict[str, FloatArray] = {}
        consts = graph.const_map()
        for node in graph.nodes:
            if isinstance(node.inputs, WeightedInputs) and node.op in INTO:
                name = node.output.name
                self.w[name] = consts[node.inputs.w].data.astype(np.float64)
                if node.inputs.b is not None:
                    self.b[name] = consts[node.inputs.b].data.astype(np.float64)

    def balance(self, pair: _Pair) -> FloatArray:
        """Scale a pair by eq. 11; return s [C], 1 for a channel that is dead on one side."""
        first, second = pair.first.output.name, pair.second.output.name
        axis = _channel_axis(pair.first)
        one = np.abs(np.moveaxis(self.w[first], axis, 0)).reshape(pair.channels, -1).max(axis=1)
        two = _largest_in(pair, self.w[second])
        usable = (one > one.max() * DEAD) & (two > two.max() * DEAD)
        s = np.sqrt(np.where(usable, one, 1.0) / np.where(usable, two, 1.0))
        self.w[first] = self.w[first] / _along(s, axis, self.w[first].ndim)
        if first in self.b:
            self.b[first] = self.b[first] / s
        self.w[second] = self.w[second] * _factors_in(pair, self.w[second], s)
        return s


def _channel_axis(node: Node) -> int:
    op = load_ops().op(node.op)
    assert issubclass(op, WeightedOp)
    return op.channel_axis


def _along(s: FloatArray, axis: int, rank: int) -> FloatArray:
    shaped: FloatArray = s.reshape([-1 if i == axis else 1 for i in range(rank)])
    return shaped


def _channel_of(pair: _Pair, w: FloatArray) -> Any:
    """Return for every weight of the second layer which channel of the first it multiplies, an
    array that broadcasts against `w`.
    """
    attrs = pair.second.attrs
    if isinstance(attrs, Conv2dAttrs):
        group = np.arange(w.shape[0]) // (w.shape[0] // attrs.groups)
        read = group[:, None, None, None] * w.shape[3] + np.arange(w.shape[3])
    elif pair.second.op == "depthwise_conv2d":
        read = np.arange(w.shape[2]) // (w.shape[2] // pair.inputs)
    else:
        read = np.arange(w.shape[1])
    return read % pair.channels  # channels are innermost in what was flattened


def _largest_in(pair: _Pair, w: FloatArray) -> FloatArray:
    """Return the largest magnitude of the second layer's weights for every channel [C]."""
    largest = np.zeros(pair.channels)
    np.maximum.at(largest, np.broadcast_to(_channel_of(pair, w), w.shape), np.abs(w))
    return largest


def _factors_in(pair: _Pair, w: FloatArray, s: FloatArray) -> FloatArray:
    factors: FloatArray = s[_channel_of(pair, w)]
    return factors


def _pairs(graph: Graph) -> tuple[list[_Pair], list[Step]]:
    """Return every pair of layers that may be scaled, and why other layers may not."""
    consumers, types, found, kept = graph.consumers(), graph.type_map(), [], []
    shared = {name for name, nodes in consumers.items() if len(nodes) > 1}
    for node in graph.nodes:
        if not isinstance(node.inputs, WeightedInputs) or node.op not in INTO:
            continue
        between: list[Node] = []
        value, reason = node.output, ""
        while not reason:
            reason = _blocked(graph, value, consumers)
            if reason:
                break
            (reader,) = consumers[value.name]
            if isinstance(reader.inputs, WeightedInputs) and reader.op in INTO:
                inputs = value.type.shape[-1]
                pair = _Pair(node, tuple(between), reader, inputs)
                reason = _shared(pair, shared)
                if not reason:
                    found.append(pair)
                break
            reason = _unscalable(reader, types)
            between.append(reader)
            value = reader.outputs[0]
        if reason:
            kept.append(Step(node=node.output.name, text=reason))
    return found, kept


def _blocked(graph: Graph, value: Value, consumers: Any) -> str:
    if value.name in graph.outputs:
        return f"%{value.name} is an output of the network"
    readers = len(consumers[value.name])
    return "" if readers == 1 else f"%{value.name} is read {readers} times"


def _shared(pair: _Pair, shared: set[str]) -> str:
    inputs: list[Any] = [pair.first.inputs, pair.second.inputs]
    names = [inputs[0].w, inputs[0].b, inputs[1].w]
    several = [name for name in names if name in shared]
    return f"%{several[0]} belongs to several layers" if several else ""


def _unscalable(node: Node, types: Mapping[str, TensorType]) -> str:
    """Return "" where f(s x) = s f(x) for every channel's own s > 0, else why not."""
    attrs, name = node.attrs, node.outputs[0].name
    if node.op in POOLS:
        return ""
    if isinstance(attrs, ClampAttrs):
        ends = [end for end in (attrs.low, attrs.high) if end != 0 and not math.isinf(end)]
        return f'clamp "{name}" ends at {ends[0]:g}, which does not scale' if ends else ""
    if isinstance(attrs, PadAttrs):
        plain = attrs.real == 0 and attrs.pads[-1] == (0, 0)
        return "" if plain else f'pad "{name}" adds channels, or a number that does not scale'
    if node.op == "reshape":
        (source,) = operands(node.inputs)
        nested = node.output.type.shape[-1] % types[source].shape[-1] == 0
        return "" if nested else f'reshape "{name}" mixes channels'
    return f'{node.op} "{name}" does not scale channel by channel'


def _told(pair: _Pair, s: FloatArray) -> Step:
    text = f'balanced with "{pair.second.output.name}": scales {s.min():.3g} to {s.max():.3g}'
    return Step(node=pair.first.output.name, text=text)


def _apply(graph: Graph, pairs: list[_Pair], weights: _Weights) -> Graph:
    """Put the scaled weights in place; values between two layers get new names, as they are other
    numbers now.
    """
    edit, consts = Editor(graph), graph.const_map()
    renamed: dict[str, str] = {}
    touched: dict[str, Node] = {}
    for pair in pairs:
        for node in (pair.first, *pair.between):
            name = node.outputs[0].name
            renamed[name] = edit.fresh(f"{name}_equalised")
        touched.update({n.outputs[0].name: n for n in (pair.first, *pair.between, pair.second)})
    for name, node in touched.items():
        inputs: Any = map_inputs(node.inputs, lambda value: renamed.get(value, value))
        if isinstance(inputs, WeightedInputs):
            found = {"w": weights.w[name]}
            if name in weights.b:
                found["b"] = weights.b[name]
            for field, data in found.items():
                old = consts[getattr(inputs, field)]
                scaled = edit.const(f"{old.name}_equalised", old.type, data, old.label)
                inputs = replace(inputs, **{field: scaled})
        values = tuple(replace(v, name=renamed.get(v.name, v.name)) for v in node.outputs)
        edit.replace(node, replace(node, inputs=inputs, outputs=values))
    return edit.result()
