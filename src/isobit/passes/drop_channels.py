"""Removes channels that nothing reads and channels that are provably constant.

Forward, exact interval analysis says between which codes every channel of every value lies. A
channel whose ends meet is constant: most often one that a ReLU clamps to 0 whatever the input. A
channel whose readers have only zero weights for it is dead. Channels that only make sense together
(both operands of a residual sum, the two sides of a depthwise convolution, a concatenation) are
removed together or not at all. What a constant contributed moves into the bias of its readers.

Exact for every input. Every removal records its proof: channels kept, and the constants of the
others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import Affine, Encoding, IntArray, Pow2, Raw, TensorType
from isobit.ir.edit import Editor
from isobit.ir.graph import Const, Graph, Node, Stage, Value, map_inputs
from isobit.ops.base import NodeTypes
from isobit.ops.channels import Bounds, Mixing, Removal, full
from isobit.ops.check import activations, node_consts, node_types
from isobit.ops.registry import load_ops
from isobit.ops.weighted import WeightedInputs
from isobit.passes.base import Pass, Rewrite, Step

Key = tuple[str, int]
"""A channel: value or stored operand, and index."""


class DropChannels(Pass):
    """Dead and constant channels, through residual sums, concatenations and depthwise
    convolutions.
    """

    stages = frozenset({Stage.INT})
    after = ("drop_noop", "fuse_clamp", "fuse_pad", "merge_common", "merge_tables")

    @staticmethod
    def run(graph: Graph) -> Rewrite:
        analysis = _Analysis(graph)
        removed = analysis.removable()
        if not removed:
            return Rewrite(graph=graph, kept=tuple(analysis.reasons()))
        return _apply(graph, analysis, removed)

    @staticmethod
    def plant(graph: Graph, rng: np.random.Generator) -> Graph | None:
        """Take the weights and the bias of a channel of an inner convolution or linear layer."""
        registry, consts = load_ops(), graph.const_map()
        analysis = _Analysis(graph)
        places = [
            (node, channel)
            for node in graph.nodes
            if isinstance(registry.op(node.op).channels, Mixing)
            and isinstance(node.inputs, WeightedInputs)
            and node.inputs.b is not None
            for channel in range(node.output.type.shape[-1])
            if not analysis.blocked_for_ever((node.output.name, channel))
        ]
        if not places:
            return None
        node, channel = places[int(rng.integers(len(places)))]
        weights: Any = node.inputs
        w, b = consts[weights.w].data.copy(), consts[weights.b].data.copy()
        w[channel], b[channel] = 0, 0
        # Without weights and bias the code is the zero point, clamped: a constant.
        edit = Editor(graph)
        inputs = replace(
            weights,
            w=edit.const(weights.w, consts[weights.w].type, w),
            b=edit.const(weights.b, consts[weights.b].type, b),
        )
        edit.replace(node, replace(node, inputs=inputs))
        planted = edit.result()
        return planted if _Analysis(planted).removable() else None


@dataclass
class _Analysis:
    """Bounds of every channel, and which of them belong together."""

    graph: Graph
    types: Mapping[str, TensorType] = field(init=False)
    bounds: dict[str, Bounds] = field(init=False, default_factory=dict)
    parent: dict[Key, Key] = field(init=False, default_factory=dict)
    stuck: dict[Key, str] = field(init=False, default_factory=dict)
    """Channels that must stay, whatever their value, and why."""

    def __post_init__(self) -> None:
        self.types = self.graph.type_map()
        given = [(v.name, v.type) for v in self.graph.inputs]
        for name, kind in [*given, *((s.name, s.type) for s in self.graph.states)]:
            self._stay(name, kind, "it is an input of the network")
        for node in self.graph.nodes:
            self._visit(node)
        for name in self.graph.outputs:
            self._stay(name, self.types[name], "it is an output of the network", known=True)

    def _stay(self, name: str, kind: TensorType, why: str, *, known: bool = False) -> None:
        if not known:
            self.bounds[name] = _carrier(kind)
        for channel in range(kind.shape[-1]):
            self.stuck.setdefault((name, channel), why)

    def _visit(self, node: Node) -> None:
        op = load_ops().op(node.op)
        q = node_types(self.graph, node)
        sources = activations(op, node)
        for name in sources:
            if name not in self.bounds:
                self.bounds[name] = _of_constant(self.graph.const_map()[name])
        rule = op.channels
        integers = all(self.types[n].dtype is DType.S8 for n in sources)
        why = (
            f"{node.op} has no rule for channels" if rule is None else rule.obstacle(node.attrs, q)
        )
        if rule is None or why or not integers or len(node.outputs) != 1:
            for value in node.outputs:
                self._stay(value.name, value.type, why or f"{node.op} computes it")
            for name in sources:
                self._stay(name, self.types[name], why or f"{node.op} reads it", known=True)
            return
        consts = node_consts(op, node, self.graph)
        inputs = tuple(self.bounds[name] for name in sources)
        self.bounds[node.output.name] = rule.bounds(op, node.attrs, q, consts, inputs)
        for tie in rule.ties(node.attrs, q):
            self._join((sources[tie.index], tie.channel), (node.output.name, tie.output))
        if not isinstance(rule, Mixing):
            return
        (source,) = sources
        for channel in range(self.types[source].shape[-1]):
            code = self.constant((source, channel))
            why = rule.may_drop(node.attrs, q, consts, channel, code)
            if why:
                self.stuck.setdefault((source, channel), why)

    def constant(self, key: Key) -> int | None:
        """The code of a channel that is always the same."""
        low, high = (int(end[key[1]]) for end in self.bounds[key[0]])
        return low if low == high else None

    def root(self, key: Key) -> Key:
        """The representative of all channels that go with this one."""
        while self.parent.get(key, key) != key:
            self.parent[key] = self.parent.get(self.parent[key], self.parent[key])
            key = self.parent[key]
        return key

    def _join(self, one: Key, other: Key) -> None:
        self.parent[self.root(one)] = self.root(other)

    def groups(self) -> dict[Key, list[Key]]:
        """All channels by representative, in order of the graph."""
        found: dict[Key, list[Key]] = defaultdict(list)
        for name in self.bounds:
            for channel in range(self.types[name].shape[-1]):
                found[self.root((name, channel))].append((name, channel))
        return found

    def removable(self) -> dict[str, set[int]]:
        """Channels that go, by value. No value loses its last channel."""
        groups = [g for g in self.groups().values() if not any(key in self.stuck for key in g)]
        left = {name: self.types[name].shape[-1] for name in self.bounds}
        removed: dict[str, set[int]] = defaultdict(set)
        for group in groups:
            counts: dict[str, int] = defaultdict(int)
            for name, _ in group:
                counts[name] += 1
            if any(counts[name] >= left[name] for name in counts):
                continue
            for name, channel in group:
                removed[name].add(channel)
                left[name] -= 1
        return removed

    def reasons(self) -> Iterator[Step]:
        """Why constant channels stay, one step per value."""
        groups = self.groups()
        for node in self.graph.nodes:
            for value in node.outputs:
                held: dict[str, int] = defaultdict(int)
                for channel in range(value.type.shape[-1]):
                    key = (value.name, channel)
                    if self.constant(key) is not None:
                        held[self._why(groups[self.root(key)])] += 1
                for why, count in held.items():
                    yield Step(node=value.name, text=f"{count} constant channels stay: {why}")

    def _why(self, group: list[Key]) -> str:
        for key in group:
            if key in self.stuck:
                return self.stuck[key]
        return "it would lose its last channel"

    def blocked_for_ever(self, key: Key) -> bool:
        """Whether a channel would have to stay even if it were constant."""
        for member in self.groups()[self.root(key)]:
            why = self.stuck.get(member, "")
            if why and "weights for it" not in why:
                return True
        return False


def _carrier(kind: TensorType) -> Bounds:
    if kind.dtype.is_integer:
        return full(kind.dtype, kind.shape[-1])
    return full(DType.S8, kind.shape[-1])  # never asked: what reads floats has no rule


def _of_constant(const: Const) -> Bounds:
    if not const.type.dtype.is_integer:
        return _carrier(const.type)
    flat = const.data.astype(np.int64).reshape(-1, const.type.shape[-1])
    return flat.min(axis=0), flat.max(axis=0)


def _apply(graph: Graph, analysis: _Analysis, removed: Mapping[str, set[int]]) -> Rewrite:
    edit, done = Editor(graph), []
    types = analysis.types
    kept = {
        name: np.asarray(
            [c for c in range(types[name].shape[-1]) if c not in removed.get(name, ())]
        )
        for name in analysis.bounds
    }
    renamed: dict[str, str] = {}
    for name in removed:
        renamed[name] = edit.fresh(f"{name}_kept")
    consts = graph.const_map()
    for name in removed:
        if name in consts:
            renamed[name] = edit.const(
                renamed[name], types[name], consts[name].data[..., kept[name]], consts[name].label
            )
    for node in graph.nodes:
        touched = (*activations(load_ops().op(node.op), node), node.outputs[0].name)
        if any(name in removed for name in touched):
            edit.replace(node, _rebuilt(graph, node, edit, analysis, kept, renamed))
    for node in graph.nodes:
        for value in node.outputs:
            if value.name in removed:
                done.append(_proof(value, renamed[value.name], analysis, removed[value.name]))
    return Rewrite(graph=edit.result(), done=tuple(done))


def _proof(value: Value, name: str, analysis: _Analysis, gone: set[int]) -> Step:
    codes = {c: analysis.constant((value.name, c)) for c in sorted(gone)}
    constant = {channel: code for channel, code in codes.items() if code is not None}
    count, total = len(gone), value.type.shape[-1]
    text = (
        f"removed {count} of {total} channels: {len(constant)} constant, "
        f"{count - len(constant)} that nothing reads; now %{name}"
    )
    kept = [c for c in range(total) if c not in gone]
    return Step(
        node=value.name,
        text=text,
        data={"value": name, "kept": kept, "constant": {str(c): v for c, v in constant.items()}},
    )


def _rebuilt(
    graph: Graph,
    node: Node,
    edit: Editor,
    analysis: _Analysis,
    kept: Mapping[str, IntArray],
    renamed: Mapping[str, str],
) -> Node:
    op = load_ops().op(node.op)
    rule, q = op.channels, node_types(graph, node)
    consts = node_consts(op, node, graph)
    sources = activations(op, node)
    if rule is None:
        return node
    first = sources[0]
    gone = set(range(analysis.types[first].shape[-1])) - set(kept[first].tolist())
    codes = {c: code for c in gone if (code := analysis.constant((first, c))) is not None}
    removal = Removal(tuple(kept[n] for n in sources), kept[node.output.name], codes)
    attrs, changed = rule.without(node.attrs, q, consts, removal)
    inputs = map_inputs(node.inputs, lambda n: renamed.get(n, n))
    for item, data in changed.items():
        old = getattr(node.inputs, item)
        kind = _kind(graph, q, op, item, old, kept[node.output.name])
        wanted = old or f"{node.output.name}.{item}"
        inputs = replace(inputs, **{item: edit.const(f"{wanted}_kept", kind, data)})
    value = node.output
    shape = (*value.type.shape[:-1], kept[value.name].size)
    output = Value(renamed.get(value.name, value.name), value.type.with_shape(shape))
    return replace(node, inputs=inputs, attrs=attrs, outputs=(output,))


def _kind(
    graph: Graph, q: NodeTypes[Any], op: Any, item: str, old: str | None, output: IntArray
) -> TensorType:
    """Return the type of a changed constant; scales per output channel are chosen as it is."""
    if old is None:
        return TensorType((), DType.S32, Raw())
    kind = graph.const_map()[old].type
    encoding: Encoding = kind.encoding
    if isinstance(encoding, Affine) and len(encoding.scale) > 1:
        encoding = replace(encoding, scale=tuple(encoding.scale[i] for i in output.tolist()))
    if isinstance(encoding, Pow2) and len(encoding.frac) > 1:
        encoding = replace(encoding, frac=tuple(encoding.frac[i] for i in output.tolist()))
    return replace(kind, encoding=encoding)
