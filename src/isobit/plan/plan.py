"""The plan: kernels chosen, buffers placed. `make_plan` decides from types alone, never from
trained numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from isobit.core.errors import IsobitError, raise_all
from isobit.ir.graph import Graph, Node
from isobit.ops.base import Kernel, NodeTypes
from isobit.ops.check import check, node_types, where
from isobit.ops.registry import Registry, load_ops, select_kernels
from isobit.plan.arena import Buffer, Sharing, place
from isobit.plan.checker import verify_plan
from isobit.targets.base import Target

ALIGNMENT_BYTES = 4
"""Every activation starts on a word: byte kernels lose nothing, word kernels need it."""


class Optimize(Enum):
    """What to prefer where kernels and orders differ."""

    SPEED = "speed"
    BALANCED = "balanced"
    RAM = "ram"
    FLASH = "flash"


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node with its kernel. `kernel=None`: a view, no code runs."""

    node: Node
    types: NodeTypes[Any]
    kernel: type[Kernel] | None
    scratch: Buffer | None = None

    @property
    def name(self) -> str:
        """The first output's name."""
        return self.node.outputs[0].name


@dataclass(frozen=True, slots=True)
class Plan:
    """A graph ready for code generation. `buffers` maps every value to its place in the arena."""

    graph: Graph
    target: Target
    nodes: tuple[NodePlan, ...]
    buffers: Mapping[str, Buffer]
    arena_bytes: int

    def live_at(self, index: int) -> tuple[Buffer, ...]:
        """Buffers alive while node `index` runs, scratch included, each once."""
        found = {b.name: b for b in self.buffers.values() if b.first <= index <= b.last}
        scratch = self.nodes[index].scratch
        if scratch is not None:
            found[scratch.name] = scratch
        return tuple(sorted(found.values(), key=lambda b: b.offset))

    def live_bytes(self, index: int) -> int:
        """Bytes of the arena in use while node `index` runs; shared ones count once."""
        used, end = 0, 0
        for buffer in self.live_at(index):  # by offset
            used += max(0, buffer.end - max(end, buffer.offset))
            end = max(end, buffer.end)
        return used

    @property
    def alignment_bytes(self) -> int:
        """What the arena's address must be a multiple of."""
        return max((b.alignment_bytes for b in self.buffers.values()), default=ALIGNMENT_BYTES)

    @property
    def peak_index(self) -> int:
        """The node at which the highest address is in use."""
        tops = [max((b.end for b in self.live_at(i)), default=0) for i in range(len(self.nodes))]
        return tops.index(max(tops))


def make_plan(graph: Graph, target: Target, optimize: Optimize = Optimize.SPEED) -> Plan:
    """Choose kernels and place buffers. Raises every `NoKernel` at once, or what `check` finds."""
    check(graph)
    registry = load_ops()
    errors: list[IsobitError] = []
    chosen: list[tuple[Node, NodeTypes[Any], type[Kernel] | None]] = []
    for node in graph.nodes:
        q = node_types(graph, node)
        try:
            chosen.append((node, q, _kernel(registry, node, q, target, optimize)))
        except IsobitError as error:
            errors.append(error)
    raise_all(errors)
    groups = _alias_groups(graph, registry)
    buffers, scratches = _buffers(graph, chosen, groups)
    sharing = _sharing(graph, chosen, groups, buffers)
    placed, size = place([*buffers.values(), *scratches.values()], sharing)
    nodes = tuple(
        NodePlan(node, q, kernel, placed.get(f"{node.outputs[0].name}.scratch"))
        for node, q, kernel in chosen
    )
    plan = Plan(graph, target, nodes, {v: placed[g] for v, g in groups.items()}, size)
    verify_plan(plan)
    return plan


def _kernel(
    registry: Registry, node: Node, q: NodeTypes[Any], target: Target, optimize: Optimize
) -> type[Kernel] | None:
    if registry.op(node.op).view:
        return None
    legal = select_kernels(registry, node.op, node.attrs, q, target.features, where(node))
    if optimize is Optimize.RAM:
        return min(legal, key=lambda k: (k.scratch_bytes(node.attrs, q), k.cycles(node.attrs, q)))
    return min(legal, key=lambda k: (k.cycles(node.attrs, q), -k.rank))


def _alias_groups(graph: Graph, registry: Registry) -> dict[str, str]:
    """Map every activation to the value whose buffer it has: views share their input's."""
    groups = {value.name: value.name for value in graph.inputs}
    groups.update((state.name, state.name) for state in graph.states)
    for node in graph.nodes:
        for value in node.outputs:
            groups[value.name] = value.name
        if registry.op(node.op).view:
            source = next(name for name in _activations(node, groups))
            groups[node.output.name] = groups[source]
    return groups


def _activations(node: Node, groups: Mapping[str, str]) -> tuple[str, ...]:
    from isobit.ir.graph import operands

    return tuple(name for name in operands(node.inputs) if name in groups)


def _buffers(
    graph: Graph,
    chosen: list[tuple[Node, NodeTypes[Any], type[Kernel] | None]],
    groups: dict[str, str],
) -> tuple[dict[str, Buffer], dict[str, Buffer]]:
    """Sizes and lifetimes. Inputs live from the first node, outputs and states to the last."""
    types, last_node = graph.type_map(), max(len(graph.nodes) - 1, 0)
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    size: dict[str, int] = {}
    align: dict[str, int] = {}

    def touch(value: str, index: int) -> None:
        group = groups[value]
        first[group] = min(first.get(group, index), index)
        last[group] = max(last.get(group, index), index)
        size[group] = max(size.get(group, 0), types[value].size_bytes)

    for value in graph.inputs:
        touch(value.name, 0)
    for state in graph.states:
        touch(state.name, 0)
        touch(state.name, last_node)
    scratches: dict[str, Buffer] = {}
    for index, (node, q, kernel) in enumerate(chosen):
        for name in (*_activations(node, groups), *(v.name for v in node.outputs)):
            touch(name, index)
            least = kernel.alignment_bytes if kernel else 1
            align[groups[name]] = max(align.get(groups[name], ALIGNMENT_BYTES), least)
        needed = kernel.scratch_bytes(node.attrs, q) if kernel else 0
        if needed:
            name = f"{node.outputs[0].name}.scratch"
            least = max(kernel.alignment_bytes if kernel else 1, ALIGNMENT_BYTES)
            scratches[name] = Buffer(name, needed, index, index, least)
    for name in graph.outputs:
        touch(name, last_node)
    buffers = {
        g: Buffer(g, size[g], first[g], last[g], align.get(g, ALIGNMENT_BYTES)) for g in size
    }
    return buffers, scratches


def _sharing(
    graph: Graph,
    chosen: list[tuple[Node, NodeTypes[Any], type[Kernel] | None]],
    groups: dict[str, str],
    buffers: Mapping[str, Buffer],
) -> list[Sharing]:
    """Pairs whose memory may overlap because a kernel reads ahead of what it writes."""
    found = []
    kept = {groups[name] for name in (*graph.outputs, *(s.name for s in graph.states))}
    for index, (node, q, kernel) in enumerate(chosen):
        lead = kernel.overlap_bytes(node.attrs, q) if kernel else None
        if kernel is None or lead is None or len(node.outputs) != 1:
            continue
        sources = _activations(node, groups)
        output = groups[node.output.name]
        for source in sources if kernel.overlaps_all else sources[:1]:
            group = groups[source]
            # What outlives the last node does not die at it.
            dies_here = buffers[group].last == index and group not in kept
            if (
                dies_here
                and groups_used_once(sources, group, groups)
                and buffers[output].first == index
            ):
                found.append(Sharing(group, output, lead))
    return found


def groups_used_once(sources: tuple[str, ...], group: str, groups: Mapping[str, str]) -> bool:
    """Whether a buffer is only one of a node's operands (the same tensor twice is read at two
    places).
    """
    return sum(groups[source] == group for source in sources) == 1
