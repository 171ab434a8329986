"""The plan: kernels chosen, buffers placed. `make_plan` decides from types alone, never from
trained numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from isobit.core.errors import DoesNotFit, IsobitError, raise_all
from isobit.ir.graph import Graph, Node
from isobit.ops.base import Kernel, NodeTypes
from isobit.ops.check import activations, check, node_types, where
from isobit.ops.registry import Registry, load_ops, select_kernels
from isobit.plan.aliases import Chosen, Groups, places, without_copies
from isobit.plan.arena import ALIGNMENT_BYTES as ALIGNMENT_BYTES
from isobit.plan.arena import Buffer, Sharing, place
from isobit.plan.checker import verify_plan
from isobit.plan.choice import Optimize as Optimize  # the name that callers import from here
from isobit.plan.choice import choose, is_small, longest_prefix
from isobit.targets.base import Target

MOST_ARENA_BYTES = 1 << 26
"""No microcontroller has more; the independent checker keeps an owner for every byte."""


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node with its kernel. `kernel=None`: a view, or joined or cut in place; no code runs."""

    node: Node
    types: NodeTypes[Any]
    kernel: type[Kernel] | None
    scratch: Buffer | None = None
    small: bool = False
    """Whether the kernel's code is compiled for size."""

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
    """Choose kernels (`Optimize` says how) and place buffers. Raises every `NoKernel` at once, or
    what `check` finds.
    """
    check(graph)
    registry = load_ops()
    errors: list[IsobitError] = []
    chosen: list[Chosen] = []
    fastest: list[Chosen] = []
    for node in graph.nodes:
        q = node_types(graph, node)
        try:
            legal = _legal(registry, node, q, target)
        except IsobitError as error:
            errors.append(error)
            continue
        for found, mode in ((chosen, optimize), (fastest, Optimize.SPEED)):
            found.append((node, q, choose(legal, node.attrs, q, mode) if legal else None))
    raise_all(errors)
    groups = _alias_groups(graph, registry)
    if optimize is Optimize.RAM:
        chosen = _faster_in_the_same_arena(graph, chosen, fastest, groups)
    chosen, groups = without_copies(graph, chosen, groups, partial(_arena_bytes, graph))
    placed, size = _placed(graph, chosen, groups)
    _require_sane(graph, target, size)
    nodes = tuple(
        NodePlan(
            node,
            q,
            kernel,
            placed.get(f"{node.outputs[0].name}.scratch"),
            kernel is not None and is_small(kernel, quick, optimize),
        )
        for (node, q, kernel), (_, _, quick) in zip(chosen, fastest, strict=True)
    )
    plan = Plan(graph, target, nodes, places(graph, groups, placed), size)
    verify_plan(plan)
    return plan


def _require_sane(graph: Graph, target: Target, arena_bytes: int) -> None:
    if arena_bytes > MOST_ARENA_BYTES:
        raise DoesNotFit(
            where=f"{graph.name} on {target.name}",
            what="RAM",
            want=f"at most {MOST_ARENA_BYTES:,} bytes, whatever the target",
            got=f"{arena_bytes:,} bytes, {arena_bytes - MOST_ARENA_BYTES:,} too many",
            fix="Use a smaller input. docs/it-does-not-fit.md lists what helps.",
        )


def _legal(
    registry: Registry, node: Node, q: NodeTypes[Any], target: Target
) -> tuple[type[Kernel], ...]:
    """Return the kernels to choose from; none for a view."""
    if registry.op(node.op).view:
        return ()
    return select_kernels(registry, node.op, node.attrs, q, target.features, where(node))


def _arena_bytes(graph: Graph, chosen: list[Chosen], groups: Groups) -> int:
    return _placed(graph, chosen, groups)[1]


def _placed(graph: Graph, chosen: list[Chosen], groups: Groups) -> tuple[dict[str, Buffer], int]:
    """Return the buffers with their offsets, and the arena's bytes."""
    buffers, scratches = _buffers(graph, chosen, groups)
    sharing = _sharing(graph, chosen, groups, buffers)
    return place([*buffers.values(), *scratches.values()], sharing)


def _faster_in_the_same_arena(
    graph: Graph, chosen: list[Chosen], fastest: list[Chosen], groups: Groups
) -> list[Chosen]:
    """Return the kernels of least memory, replaced by the fastest where the arena does not grow.

    Only the nodes at the peak decide about the arena. One node at a time is tried alone, then those
    that fit are taken together, in the graph's order as many as still fit: scratch of different
    nodes never lives at once, so that is nearly always all of them. O(nodes) placements.
    """
    nodes = range(len(chosen))
    open_ = [i for i in nodes if chosen[i][2] is not fastest[i][2]]

    def arena(taken: Collection[int]) -> int:
        return _arena_bytes(graph, [(fastest if i in taken else chosen)[i] for i in nodes], groups)

    if not open_ or arena(open_) <= (least := arena(())):
        return fastest
    fit = [i for i in open_ if arena((i,)) <= least]
    count = longest_prefix(len(fit), lambda k: arena(fit[:k]) <= least)
    return [(fastest if i in fit[:count] else chosen)[i] for i in nodes]


def _alias_groups(graph: Graph, registry: Registry) -> Groups:
    """Map every activation to the value whose buffer it has: views share their input's, what
    states become has the state's.
    """
    groups = {value.name: value.name for value in graph.inputs}
    groups.update((state.name, state.name) for state in graph.states)
    updated = {state.next: state.name for state in graph.states}
    for node in graph.nodes:
        for value in node.outputs:
            groups[value.name] = updated.get(value.name, value.name)
        if registry.op(node.op).view:
            source = next(name for name in _activations(node, groups))
            groups[node.output.name] = groups[source]
    return Groups(groups, dict.fromkeys(groups, 0))


def _activations(node: Node, groups: Container[str]) -> tuple[str, ...]:
    from isobit.ir.graph import operands

    return tuple(name for name in operands(node.inputs) if name in groups)


def _buffers(
    graph: Graph,
    chosen: list[Chosen],
    groups: Groups,
) -> tuple[dict[str, Buffer], dict[str, Buffer]]:
    """Sizes and lifetimes. Inputs live from the first node, outputs and states to the last."""
    types, last_node = graph.type_map(), max(len(graph.nodes) - 1, 0)
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    size: dict[str, int] = {}
    align: dict[str, int] = {}

    def touch(value: str, index: int) -> None:
        group = groups.of[value]
        first[group] = min(first.get(group, index), index)
        last[group] = max(last.get(group, index), index)
        size[group] = max(size.get(group, 0), groups.at[value] + types[value].size_bytes)

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
            group = groups.of[name]
            align[group] = max(align.get(group, ALIGNMENT_BYTES), least)
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
    chosen: list[Chosen],
    groups: Groups,
    buffers: Mapping[str, Buffer],
) -> list[Sharing]:
    """Pairs whose memory may overlap because a kernel reads ahead of what it writes."""
    found = []
    kept = {groups.of[name] for name in (*graph.outputs, *(s.name for s in graph.states))}
    for index, (node, q, kernel) in enumerate(chosen):
        lead = kernel.overlap_bytes(node.attrs, q) if kernel else None
        if kernel is None or lead is None or len(node.outputs) != 1:
            continue
        sources = activations(load_ops().op(node.op), node)
        output, at = groups.of[node.output.name], groups.at[node.output.name]
        for source in sources if kernel.overlaps_all else sources[:1]:
            if source not in groups:  # a constant lies in flash
                continue
            group = groups.of[source]
            # What outlives the last node does not die at it.
            dies_here = buffers[group].last == index and group not in kept
            if (
                dies_here
                and groups_used_once(sources, group, groups.of)
                and buffers[output].first == index
                and group != output
            ):
                # The buffers' offsets, not those of the values that lie somewhere in them.
                found.append(Sharing(group, output, lead + at - groups.at[source]))
    return found


def groups_used_once(sources: tuple[str, ...], group: str, groups: Mapping[str, str]) -> bool:
    """Whether a buffer is only one of a node's operands (the same tensor twice is read at two
    places).
    """
    return sum(groups.get(source) == group for source in sources) == 1
