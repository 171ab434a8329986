"""Why a network looks on its chip as it does: kernels chosen and not, what each node has absorbed,
and what passes did to an imported one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isobit.api.bundle import Absorbed
from isobit.core.arguments import Arguments
from isobit.core.errors import FileDamaged, UnknownName
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
class Told:
    """What a pass did to a value when the network was imported, or, not `done`, why nothing."""

    by: str
    text: str
    done: bool


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
    provenance: Mapping[str, Any] | None = None,
) -> list[Story]:
    """Return the story of every node, or of the one called `name`. Raises `UnknownName`,
    `NoKernel`.

    provenance: of an imported network its `names` and `passes`, as its file or manifest keeps them.
    """
    given = Arguments("explain")
    given.instance("graph", graph, Graph, "an integer graph, as Bundle.graph")
    given.instance("target", target, Target, "a target, as isobit.targets.load returns")
    given.instance("name", name, str, "the name of a node, or an empty string for all")
    optimize = given.member("optimize", optimize, Optimize)
    given.check()
    plan = make_plan(graph, target, optimize)
    names = [step.name for step in plan.nodes]
    _require_name(graph, name, names)
    told, tensors = _told(provenance or {}), tensors_of(provenance or {})
    return [
        Story(
            name=step.name,
            op=step.node.op,
            source=str(step.node.location),
            kernel=step.kernel.stem if step.kernel else "",
            others=_others(step, target, optimize),
            absorbed=tuple(absorbed.get(step.name, ())),
            tensor=tensors.get(step.name, ""),
            passes=tuple(told.get(step.name, ())),
        )
        for step in plan.nodes
        if name in ("", step.name)
    ]


def explain_float(
    graph: Graph, name: str = "", provenance: Mapping[str, Any] | None = None
) -> list[Story]:
    """Return the story of every node of a float graph, or of the one called `name`: no kernel is
    chosen yet. Raises `UnknownName`.

    provenance: as for `explain`.
    """
    check(graph)
    names = [node.outputs[0].name for node in graph.nodes]
    _require_name(graph, name, names)
    told, tensors = _told(provenance or {}), tensors_of(provenance or {})
    return [
        Story(
            name=own,
            op=node.op,
            source=str(node.location),
            kernel="",
            others=(),
            absorbed=(),
            tensor=tensors.get(own, ""),
            passes=tuple(told.get(own, ())),
        )
        for own, node in zip(names, graph.nodes, strict=True)
        if name in ("", own)
    ]


def _require_name(graph: Graph, name: str, names: Sequence[str]) -> None:
    if name and name not in names:
        raise UnknownName(
            where=f"node {name!r} of {graph.name}",
            what="node",
            want="one of " + ", ".join(names),
            got=name,
            fix="`isobit show` prints the network.",
        )


def removed(graph: Graph, provenance: Mapping[str, Any], name: str = "") -> list[Removed]:
    """Return what the imported file computed and the network does not, or the one called `name`."""
    told, tensors = _told(provenance), tensors_of(provenance)
    present = graph.type_map()
    return [
        Removed(name=value, tensor=tensors.get(value, ""), passes=tuple(told.get(value, ())))
        for value in dict.fromkeys([*tensors, *told])
        if _final(provenance, value) not in present and name in ("", value)
    ]


def notes_of(provenance: Mapping[str, Any], name: str = "") -> list[Noted]:
    """Return the notes of the import, or those of the value `name`. Raises `FileDamaged` for what
    no importer writes.
    """
    text = str(provenance.get("source", {}).get("notes", "[]"))
    try:
        found = [
            Noted(
                value=_final(provenance, str(note["value"])),
                kind=str(note["kind"]),
                text=str(note["text"]),
                lsb=int(note["lsb"]),
            )
            for note in json.loads(text)
        ]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FileDamaged(
            where="notes of the import",
            what="notes",
            want="a list, each with value, kind, text and lsb",
            got=text[:80],
            fix="Import the model again.",
        ) from error
    return [note for note in found if name in ("", note.value)]


def value_of(provenance: Mapping[str, Any], name: str) -> str:
    """Return the value that a tensor of the imported file, or a value before the passes, is now;
    the argument where it is neither.
    """
    values = {label: value for value, label in provenance.get("names", {}).items()}
    return _final(provenance, str(values.get(name, name)))


def _renames(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return the new names that passes gave to values, by the old ones."""
    steps = (step for run in provenance.get("passes", ()) for step in run["done"])
    return {step["node"]: str(step["data"]["value"]) for step in steps if "value" in step["data"]}


def _final(provenance: Mapping[str, Any], value: str) -> str:
    renames = _renames(provenance)
    for _ in renames:  # as often as there can be new names
        value = renames.get(value, value)
    return value


def tensors_of(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return the file's tensor by value; a value that a pass renamed keeps its tensor."""
    found = dict(provenance.get("names", {}))
    return {**{_final(provenance, value): label for value, label in found.items()}, **found}


def _told(provenance: Mapping[str, Any]) -> dict[str, list[Told]]:
    """Return what passes did and why they did nothing by value, under its last name too."""
    found: dict[str, list[Told]] = {}
    for run in provenance.get("passes", ()):
        for kind in ("done", "kept"):
            for step in run[kind]:
                one = Told(by=run["name"], text=step["text"], done=kind == "done")
                for value in dict.fromkeys((step["node"], _final(provenance, step["node"]))):
                    found.setdefault(value, []).append(one)
    return found


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
