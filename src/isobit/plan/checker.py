"""An independent check of a plan: every byte of the arena is played through the nodes.

It knows nothing of how the plan was made. Every byte that is ever written has a number of its own;
before a node runs, the bytes of everything it reads must still have the numbers that the value was
written with, and its output may only touch bytes of its own inputs as the kernel's declaration
allows. Where no code runs, the outputs have the numbers of the inputs, in order.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from isobit.core.errors import BadPlan, IsobitError, raise_all
from isobit.core.types import IntArray
from isobit.ir.graph import operands
from isobit.ops.check import activations
from isobit.ops.registry import load_ops

if TYPE_CHECKING:
    from isobit.plan.plan import NodePlan, Plan


def verify_plan(plan: Plan) -> None:
    """Raise `BadPlan` with every violation; return for a correct plan."""
    numbers: dict[str, IntArray] = {}
    written = 1
    types = plan.graph.type_map()
    owner = np.zeros(plan.arena_bytes, dtype=np.int64)
    errors: list[IsobitError] = []

    def span(name: str) -> slice:
        offset = plan.buffers[name].offset
        return slice(offset, offset + types[name].size_bytes)

    def write(name: str) -> None:
        nonlocal written
        own = np.arange(written, written + types[name].size_bytes)
        numbers[name], written = own, written + own.size
        found = owner[span(name)]
        found[:] = own[: found.size]

    def intact(name: str) -> bool:
        return np.array_equal(owner[span(name)], numbers[name])

    def bad(place: str, what: str, got: str) -> None:
        fix = "This is a fault of isobit's planner; please report the network."
        errors.append(BadPlan(where=place, what=what, want="intact memory", got=got, fix=fix))

    for name, buffer in plan.buffers.items():
        if buffer.offset < 0 or span(name).stop > plan.arena_bytes:
            bad(name, "buffer", "outside the arena")
        if buffer.offset % buffer.alignment_bytes:
            bad(name, "buffer", f"offset {buffer.offset} not aligned to {buffer.alignment_bytes}")
    for name in (*(v.name for v in plan.graph.inputs), *(s.name for s in plan.graph.states)):
        write(name)
    for step in plan.nodes:
        reads = [name for name in operands(step.node.inputs) if name in plan.buffers]
        for name in reads:
            if not intact(name):
                bad(step.name, f"input %{name}", "overwritten before it was read")
        if step.kernel is None:  # its outputs are its inputs under other names: nothing is written
            _check_in_place(plan, step, reads, numbers, bad)
            continue
        _check_sharing(plan, step, reads, bad)
        _check_places(plan, step, reads, bad)
        if step.scratch is not None:
            owner[step.scratch.offset : step.scratch.end] = 0
        for value in step.node.outputs:
            write(value.name)
    for name in plan.graph.kept:
        if not intact(name):
            bad(name, "output", "overwritten before the end")
    for state in plan.graph.states:
        if plan.buffers[state.name].offset != plan.buffers[state.next].offset:
            bad(state.name, f"next value %{state.next}", "another place, but no code that moves it")
    raise_all(errors)


def _check_in_place(
    plan: Plan, step: NodePlan, reads: list[str], numbers: dict[str, IntArray], bad: object
) -> None:
    """Inputs and outputs of a node without code lie in the same bytes, one after the other."""
    assert callable(bad)
    outputs = [value.name for value in step.node.outputs]
    types, start = plan.graph.type_map(), plan.buffers[reads[0]].offset
    sizes = [sum(types[name].size_bytes for name in names) for names in (reads, outputs)]
    if sizes[0] != sizes[1]:
        bad(step.name, "outputs without code", f"{sizes[1]} bytes of {sizes[0]} in the arena")
    given = np.concatenate([numbers[name] for name in reads])
    for names in (reads, outputs):
        end = 0
        for name in names:
            if plan.buffers[name].offset != start + end:
                what = f"view of %{reads[0]}" if names is outputs else f"%{name} to be joined"
                bad(step.name, what, "another place, but no code that moves the bytes")
            if names is outputs:
                numbers[name] = given[end : end + types[name].size_bytes]
            end += types[name].size_bytes


def _check_sharing(plan: Plan, step: NodePlan, reads: list[str], bad: object) -> None:
    assert callable(bad) and step.kernel is not None
    types = plan.graph.type_map()
    lead = step.kernel.overlap_bytes(step.node.attrs, step.types)
    first = activations(load_ops().op(step.node.op), step.node)[0]
    updated = {(state.name, state.next) for state in plan.graph.states}
    for value in step.node.outputs:
        out = plan.buffers[value.name].offset
        for name in reads:
            source, size = plan.buffers[name].offset, types[name].size_bytes
            if out + value.type.size_bytes <= source or source + size <= out:
                continue
            if (name, value.name) in updated:  # one buffer, which the kernel gets once
                continue
            allowed = lead is not None and (name == first or step.kernel.overlaps_all)
            if not allowed or lead is None or out + lead > source:
                bad(
                    step.name,
                    f"output over input %{name}",
                    f"offsets {out} and {source}, lead {lead}",
                )
    if step.scratch is not None:
        for name in (*reads, *(v.name for v in step.node.outputs)):
            start = plan.buffers[name].offset
            end = start + types[name].size_bytes
            if start < step.scratch.end and step.scratch.offset < end:
                bad(step.name, f"scratch over %{name}", f"offset {step.scratch.offset}")


def _check_places(plan: Plan, step: NodePlan, reads: list[str], bad: object) -> None:
    """Outputs apart from each other, everything on the kernel's own alignment."""
    assert callable(bad) and step.kernel is not None
    places = [plan.buffers[value.name].offset for value in step.node.outputs]
    ends = [at + v.type.size_bytes for at, v in zip(places, step.node.outputs, strict=True)]
    for (i, a), (j, b) in combinations(enumerate(step.node.outputs), 2):
        if places[i] < ends[j] and places[j] < ends[i]:
            bad(
                step.name,
                f"output %{b.name} over %{a.name}",
                f"offsets {places[j]} and {places[i]}",
            )
    least = step.kernel.alignment_bytes
    for name in (*reads, *(v.name for v in step.node.outputs)):
        offset = plan.buffers[name].offset
        if offset % least:
            bad(
                step.name,
                f"%{name}",
                f"offset {offset} not aligned to {least}, which the kernel needs",
            )
