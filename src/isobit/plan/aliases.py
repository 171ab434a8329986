"""Values that share memory: views, and joins and cuts that need no copy.

Every value lies at some offset in a group, and every group gets one buffer. A view lies at its
source's place. Where the bytes of a node's inputs, one after the other, are those of its outputs
(`Op.contiguous`), the values can be placed so: whoever computes an input of a concatenation writes
straight into its result, and the outputs of a split are parts of its input. Then no code runs.

A group lives from the first to the last use of anything in it, which may cost memory. So every such
node is tried, in the graph's order, and stays joined only if the arena does not grow. O(joins and
cuts) placements. Not optimal: an arena that only several of them together keep small is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from isobit.core.types import TensorType
from isobit.ir.graph import Graph, Node, operands
from isobit.ops.base import Kernel, NodeTypes
from isobit.ops.check import activations
from isobit.ops.registry import load_ops
from isobit.plan.arena import ALIGNMENT_BYTES, Buffer

Chosen = tuple[Node, NodeTypes[Any], type[Kernel] | None]


@dataclass(frozen=True, slots=True)
class Groups:
    """The group of every value, and its offset in there in bytes."""

    of: Mapping[str, str]
    at: Mapping[str, int]

    def __contains__(self, name: object) -> bool:
        return name in self.of

    def members(self, group: str) -> list[str]:
        """Return the values of a group."""
        return [name for name, own in self.of.items() if own == group]

    def moved(self, group: str, into: str, by: int) -> Groups:
        """Return these groups with all of `group` at offset `by` of the group `into`."""
        members = self.members(group)
        at = {**self.at, **{name: self.at[name] + by for name in members}}
        return Groups({**self.of, **dict.fromkeys(members, into)}, at)


def without_copies(
    graph: Graph,
    chosen: list[Chosen],
    groups: Groups,
    arena: Callable[[list[Chosen], Groups], int],
) -> tuple[list[Chosen], Groups]:
    """Return kernels and groups with no code for joins and cuts that memory can do as well.

    arena: the bytes that a choice needs.
    """
    types = graph.type_map()
    least: int | None = None
    for index, (node, q, kernel) in enumerate(chosen):
        op = load_ops().op(node.op)
        if kernel is None or not op.contiguous(node.attrs, q):
            continue
        joined = _joined(graph, node, activations(op, node), groups, types)
        if joined is None:
            continue
        tried = [*chosen[:index], (node, q, None), *chosen[index + 1 :]]
        if not _aligned(tried, joined):
            continue
        if least is None:
            least = arena(chosen, groups)
        needed = arena(tried, joined)
        if needed <= least:
            chosen, groups, least = tried, joined, needed
    return chosen, groups


def _joined(
    graph: Graph,
    node: Node,
    sources: tuple[str, ...],
    groups: Groups,
    types: Mapping[str, TensorType],
) -> Groups | None:
    """Return groups in which a node's inputs and outputs are the same bytes; `None` where that
    cannot be.
    """
    outputs = [value.name for value in node.outputs]
    whole, parts = (outputs, sources) if len(outputs) == 1 else (sources, outputs)
    if len(whole) != 1 or not all(name in groups for name in sources):  # constants lie in flash
        return None
    fixed = {groups.of[state.name] for state in graph.states}
    into, start = groups.of[whole[0]], groups.at[whole[0]]
    for name in parts:
        group, size = groups.of[name], types[name].size_bytes
        ends = (groups.at[n] + types[n].size_bytes for n in groups.members(group))
        part_of_more = groups.at[name] > 0 or max(ends) > size
        if group in (into, *fixed) or into in fixed or part_of_more:
            return None
        groups = groups.moved(group, into, start)
        start += size
    return groups


def _aligned(chosen: Iterable[Chosen], groups: Groups) -> bool:
    """Whether every value lies as its kernels need it, in a buffer that does."""
    return all(
        groups.at[name] % max(kernel.alignment_bytes if kernel else 1, ALIGNMENT_BYTES) == 0
        for node, _, kernel in chosen
        for name in touched(node, groups)
    )


def touched(node: Node, groups: Groups) -> tuple[str, ...]:
    """Return the values around a node that lie in the arena."""
    read = (name for name in operands(node.inputs) if name in groups)
    return (*read, *(value.name for value in node.outputs))


def places(graph: Graph, groups: Groups, placed: Mapping[str, Buffer]) -> dict[str, Buffer]:
    """Return where every value lies. Parts of a buffer become buffers of their own, alive from the
    first to the last node that uses them.
    """
    types, found = graph.type_map(), {name: placed[group] for name, group in groups.of.items()}
    parts: dict[tuple[str, int, int], list[str]] = {}
    for name, group in groups.of.items():
        parts.setdefault((group, groups.at[name], types[name].size_bytes), []).append(name)
    for (group, at, size), names in parts.items():
        whole = placed[group]
        if sum(key[0] == group for key in parts) == 1:
            continue
        first, last = _span(graph, names)
        part = Buffer(names[0], size, first, last, ALIGNMENT_BYTES, whole.offset + at, whole.region)
        found.update(dict.fromkeys(names, part))
    return found


def _span(graph: Graph, names: list[str]) -> tuple[int, int]:
    """Return the first and the last node at which any of these values must be there."""
    used = [
        index
        for index, node in enumerate(graph.nodes)
        if any(n in names for n in operands(node.inputs))
        or any(value.name in names for value in node.outputs)
    ]
    used += [0 for value in graph.inputs if value.name in names]
    used += [len(graph.nodes) - 1 for name in graph.outputs if name in names]
    return min(used), max(used)
