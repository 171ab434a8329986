"""Why a network looks on its chip as it does: kernels chosen and not, and what each node has
absorbed.
"""

from __future__ import annotations

from dataclasses import dataclass

from isobit.api.bundle import Absorbed
from isobit.core.arguments import Arguments
from isobit.core.errors import UnknownName
from isobit.ir.graph import Graph
from isobit.ops.base import Kernel
from isobit.ops.check import check
from isobit.ops.registry import load_ops
from isobit.plan.choice import allowance_bytes, extra_bytes
from isobit.plan.plan import NodePlan, Optimize, make_plan
from isobit.targets import Target
from isobit.train.steps import group


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A kernel that was not taken, and why."""

    kernel: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One node. `kernel` is "" for a view, which runs no code."""

    name: str
    op: str
    source: str
    kernel: str
    others: tuple[Choice, ...]
    absorbed: tuple[str, ...]


def absorbed_values(floats: Graph) -> dict[str, list[str]]:
    """Return what the integer nodes of a float graph absorb: batch norms and activations."""
    check(floats)
    steps, _ = group(floats, load_ops())
    ops = {value.name: node.op for node in floats.nodes for value in node.outputs}
    return {s.name: [f"{name} ({ops[name]})" for name in s.absorbed] for s in steps if s.absorbed}


def explain(
    graph: Graph, target: Target, optimize: Optimize, absorbed: Absorbed, name: str = ""
) -> list[Story]:
    """Return the story of every node, or of the one called `name`. Raises `UnknownName`,
    `NoKernel`.
    """
    given = Arguments("explain")
    given.instance("graph", graph, Graph, "an integer graph, as Bundle.graph")
    given.instance("target", target, Target, "a target, as isobit.targets.load returns")
    given.instance("name", name, str, "the name of a node, or an empty string for all")
    optimize = given.member("optimize", optimize, Optimize)
    given.check()
    plan = make_plan(graph, target, optimize)
    names = [step.name for step in plan.nodes]
    if name and name not in names:
        raise UnknownName(
            where=f"node {name!r} of {graph.name}",
            what="node",
            want="one of " + ", ".join(names),
            got=name,
            fix="`isobit show` prints the network.",
        )
    return [
        Story(
            name=step.name,
            op=step.node.op,
            source=str(step.node.location),
            kernel=step.kernel.stem if step.kernel else "",
            others=_others(step, target, optimize),
            absorbed=tuple(absorbed.get(step.name, ())),
        )
        for step in plan.nodes
        if name in ("", step.name)
    ]


def _others(step: NodePlan, target: Target, optimize: Optimize) -> tuple[Choice, ...]:
    if step.kernel is None:
        return ()
    kernels = load_ops().kernels[step.node.op]
    return tuple(
        Choice(kernel=kernel.stem, reason=_reason(step, step.kernel, kernel, target, optimize))
        for kernel in kernels
        if kernel is not step.kernel
    )


def _reason(
    step: NodePlan, taken: type[Kernel], other: type[Kernel], target: Target, optimize: Optimize
) -> str:
    """Say which rule of `select_kernels` or of the plan's choice passed `other` over."""
    missing = other.features - target.features
    if missing:
        return f"needs {', '.join(sorted(f.value for f in missing))}"
    attrs, q = step.node.attrs, step.types
    illegal = other.when(attrs, q)
    if illegal:
        return illegal
    flash = other.flash_bytes(attrs, q), taken.flash_bytes(attrs, q)
    if optimize is Optimize.FLASH and flash[0] > flash[1]:
        return f"modelled at {flash[0]:,} bytes of flash, {taken.stem} at {flash[1]:,}"
    cycles = other.cycles(attrs, q), taken.cycles(attrs, q)
    if cycles[0] > cycles[1]:
        return f"modelled at {cycles[0]:,.0f} cycles, {taken.stem} at {cycles[1]:,.0f}"
    if optimize is Optimize.RAM and cycles[0] < cycles[1]:
        return f"faster than {taken.stem}, but the arena would grow"
    if optimize is Optimize.BALANCED and cycles[0] < cycles[1]:
        extra, most = extra_bytes(other, attrs, q), allowance_bytes(q)
        return f"{extra:,} bytes of scratch and flash, more than {most:,} above the smallest kernel"
    return f"modelled as fast as {taken.stem}, which is preferred"
