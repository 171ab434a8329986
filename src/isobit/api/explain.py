"""Why a network looks on its chip as it does: kernels chosen and not, what each node has absorbed,
and what passes did to an imported one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from isobit.api.bundle import Absorbed
from isobit.api.provenance import Origin, Told
from isobit.api.provenance import Story as History
from isobit.core.arguments import Arguments
from isobit.core.errors import UnknownName
from isobit.ir.graph import Graph, Node, Stage
from isobit.ops.base import Kernel
from isobit.ops.check import check
from isobit.ops.registry import load_ops
from isobit.passes.base import Pass, load_passes
from isobit.plan.choice import allowance_bytes, extra_bytes
from isobit.plan.plan import NodePlan, Optimize, make_plan
from isobit.targets import Target
from isobit.train.steps import group


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A kernel that was not taken, and why."""

    kernel: str
    reason: str
    is_legal: bool = True
    """Whether it could run the node on this target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One node. `kernel` is "" for a view, which runs no code, and in a float graph; `tensor` is
    the name in the imported file, "" where it has none.
    """

    name: str
    op: str
    source: str
    kernel: str
    others: tuple[Choice, ...]
    absorbed: tuple[str, ...]
    tensor: str = ""
    passes: tuple[Told, ...] = ()
    fused: tuple[str, ...] = ()
    """Tensors of the imported file that it computes on its way and nobody sees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """What the importer says of one value: `kind` as in `isobit.ops.logical.Note`."""

    value: str
    kind: str
    text: str
    lsb: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """A value of the imported file that the network does not compute any more."""

    name: str
    tensor: str
    passes: tuple[Told, ...]
    into: str = ""
    """The node that absorbed it when the network became integers, "" where none did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """What one pass did with the whole imported network, or why it had nothing to do."""

    name: str
    done: int
    kept: int
    """Nodes that looked like what it rewrites, but had to stay."""
    reason: str
    """Why it did nothing, "" where it did something."""


def absorbed_values(floats: Graph) -> dict[str, list[str]]:
    """Return what the integer nodes of a float graph absorb: batch norms and activations."""
    check(floats)
    steps, _ = group(floats, load_ops())
    ops = {value.name: node.op for node in floats.nodes for value in node.outputs}
    return {s.name: [f"{name} ({ops[name]})" for name in s.absorbed] for s in steps if s.absorbed}


def explain(
    graph: Graph,
    target: Target,
    optimize: Optimize,
    absorbed: Absorbed,
    name: str = "",
    history: History | None = None,
) -> list[Story]:
    """Return the story of every node, or of the one called `name`. Raises `UnknownName`,
    `NoKernel`.

    history: of the import, as `isobit.api.provenance.read_story` returns it.
    """
    given = Arguments("explain")
    given.instance("graph", graph, Graph, "an integer graph, as Bundle.graph")
    given.instance("target", target, Target, "a target, as isobit.targets.load returns")
    given.instance("name", name, str, "the name of a node, or an empty string for all")
    optimize = given.member("optimize", optimize, Optimize)
    given.check()
    plan = make_plan(graph, target, optimize)
    tell = _teller(graph, absorbed, name, history)
    return [
        tell(step.node, step.kernel.stem if step.kernel else "", _others(step, target, optimize))
        for step in plan.nodes
        if name in ("", step.name)
    ]


def explain_float(graph: Graph, name: str = "", history: History | None = None) -> list[Story]:
    """Return the story of every node of a float graph, or of the one called `name`: no kernel is
    chosen yet. Raises `UnknownName`.

    history: as for `explain`.
    """
    check(graph)
    tell = _teller(graph, {}, name, history)
    return [tell(node, "", ()) for node in graph.nodes if name in ("", node.outputs[0].name)]


def _teller(
    graph: Graph, absorbed: Absorbed, name: str, history: History | None
) -> Callable[[Node, str, tuple[Choice, ...]], Story]:
    """Return what tells the story of a node with its kernel and the others. Raises `UnknownName`
    where no node is called `name`.
    """
    names = [node.outputs[0].name for node in graph.nodes]
    if name and name not in names:
        raise UnknownName(
            where=f"node {name!r} of {graph.name}",
            what="node",
            want="one of " + ", ".join(names),
            got=name,
            fix="`isobit show` prints the network.",
        )
    origin = Origin(history or History())

    def tell(node: Node, kernel: str, others: tuple[Choice, ...]) -> Story:
        own = [value.name for value in node.outputs]
        return Story(
            name=own[0],
            op=node.op,
            source=str(node.location),
            kernel=kernel,
            others=others,
            absorbed=tuple(absorbed.get(own[0], ())),
            tensor=origin.tensors.get(own[0], ""),
            passes=tuple(dict.fromkeys(told for value in own for told in origin.told(value))),
            fused=tuple(tensor for value in own for tensor in origin.fused(value)),
        )

    return tell


def removed(
    graph: Graph, history: History, name: str = "", absorbed: Absorbed | None = None
) -> list[Removed]:
    """Return what the imported file computed and the network does not, or the one called `name`."""
    origin, present = Origin(history), graph.type_map()
    inside = {
        value.split(" ")[0]: node for node, values in (absorbed or {}).items() for value in values
    }
    values = dict.fromkeys([*history.names, *origin.mentioned])
    pairs = [(value, origin.tensors.get(value, "")) for value in values]
    pairs += [] if name else [(value, tensor) for tensor, value in history.fused.items()]
    return [
        Removed(
            name=value,
            tensor=tensor,
            passes=origin.gone(value, present),
            into=inside.get(value, ""),
        )
        for value, tensor in pairs
        if origin.final(value) not in present and name in ("", value)
    ]


def considered(history: History) -> list[Considered]:
    """Return what every pass did with an imported network; nothing for one that was not."""
    if not history.source:
        return []
    counts = {
        str(run["name"]): tuple(_count(run, k) for k in ("done", "kept")) for run in history.passes
    }
    known = load_passes()
    stages = [known[name].stages for name in counts if name in known]
    here = frozenset(Stage).intersection(*stages)
    return [
        Considered(
            name=one.name, done=done, kept=kept, reason=_nothing_done(one, ran, done, kept, here)
        )
        for one in known.values()
        for ran, (done, kept) in [(one.name in counts, counts.get(one.name, (0, 0)))]
    ]


def _count(run: Mapping[str, object], kind: str) -> int:
    steps = run[kind]
    assert isinstance(steps, list)
    return len(steps)


def _nothing_done(one: type[Pass], ran: bool, done: int, kept: int, here: frozenset[Stage]) -> str:
    """Say why a pass did nothing in a network that was imported in one of the stages `here`."""
    if done:
        return ""
    if kept:
        return f"considered {kept} node{'' if kept == 1 else 's'}, which say why it left them"
    if ran:
        return "nothing here looks like what it rewrites"
    if not one.stages & here:
        return f"only for {' and '.join(sorted(s.value for s in one.stages))} networks"
    return "left out" if one.default else f"only on request: isobit import --pass {one.name}"


def notes_of(history: History, name: str = "") -> list[Noted]:
    """Return the notes of the import, or those of the value `name`."""
    origin = Origin(history)
    found = [
        Noted(
            value=origin.final(str(note["value"])),
            kind=str(note["kind"]),
            text=str(note["text"]),
            lsb=int(str(note.get("lsb", 0))),
        )
        for note in history.notes
    ]
    return [note for note in found if name in ("", note.value)]


def _others(step: NodePlan, target: Target, optimize: Optimize) -> tuple[Choice, ...]:
    if step.kernel is None:
        return ()
    return tuple(
        _choice(step, step.kernel, kernel, target, optimize)
        for kernel in load_ops().kernels[step.node.op]
        if kernel is not step.kernel
    )


def _choice(
    step: NodePlan, taken: type[Kernel], other: type[Kernel], target: Target, optimize: Optimize
) -> Choice:
    missing = other.features - target.features
    if missing:
        needs = f"needs {', '.join(sorted(f.value for f in missing))}"
        return Choice(kernel=other.stem, reason=needs, is_legal=False)
    illegal = other.when(step.node.attrs, step.types)
    if illegal:
        return Choice(kernel=other.stem, reason=illegal, is_legal=False)
    return Choice(kernel=other.stem, reason=_preferred(step, taken, other, optimize))


def _preferred(step: NodePlan, taken: type[Kernel], other: type[Kernel], optimize: Optimize) -> str:
    """Say which rule of `select_kernels` or of the plan's choice passed a legal kernel over."""
    attrs, q = step.node.attrs, step.types
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
