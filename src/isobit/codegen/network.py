"""The three generated C files of a network: `<name>.h`, `<name>.c`, `<name>_data.h`.

Everything is `static` but functions with the network's name (run, and one per input and output), so
two networks link into one program. Kernels are included as source; each distinct geometry becomes
one instance that layers share.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from isobit.codegen.interface import (
    Port,
    c_name,
    c_prefix,
    header,
    input_ports,
    macro_prefix,
    output_ports,
    run_signature,
    wrapped,
)
from isobit.codegen.states import (
    arena_check,
    reset_constants,
    reset_declaration,
    reset_lines,
)
from isobit.core.dtypes import of_numpy
from isobit.core.errors import BadArgument, IsobitError, raise_all
from isobit.core.types import AnyArray
from isobit.ir.graph import Graph
from isobit.ir.text import print_node
from isobit.ops.base import Kernel, Packed
from isobit.ops.check import kernel_inputs, node_consts
from isobit.ops.registry import load_ops
from isobit.plan.plan import NodePlan, Plan


@dataclass(frozen=True, slots=True)
class Constant:
    """One packed constant of one node, under its C name."""

    symbol: str
    node: str
    packed: Packed


@dataclass(frozen=True, slots=True)
class Instance:
    """A kernel specialised to one geometry, with every constant's C type, shared by `nodes`."""

    symbol: str
    kernel: type[Kernel]
    geometry: tuple[tuple[str, int], ...]
    parameters: tuple[str, ...]
    nodes: tuple[str, ...]
    small: bool = False
    """Compiled for size."""


@dataclass(frozen=True, slots=True)
class Network:
    """A plan in C terms, and the files made from it (name -> text)."""

    plan: Plan
    prefix: str
    constants: tuple[Constant, ...]
    instances: tuple[Instance, ...]
    calls: tuple[tuple[NodePlan, Instance | None, tuple[str, ...]], ...]
    files: dict[str, str]

    @property
    def macro(self) -> str:
        """What every macro of the header starts with."""
        return macro_prefix(self.plan)

    @property
    def inputs(self) -> tuple[Port, ...]:
        """The inputs in C terms, in the graph's order."""
        return input_ports(self.plan)

    @property
    def outputs(self) -> tuple[Port, ...]:
        """The outputs in C terms, in the graph's order."""
        return output_ports(self.plan)

    @property
    def constant_bytes(self) -> int:
        """Bytes of all packed constants."""
        return sum(c.packed.data.nbytes for c in self.constants)


RESERVED = ("harness", "semihost", "stddef", "stdint", "stdio", "stdlib", "string")
LONGEST_NAME = 100


def generate(plan: Plan, content_hash: str) -> Network:
    """Write the network's C. Equal plans and constants give equal bytes."""
    raise_all(list(_refused(plan.graph)))
    constants, instances, calls = _collect(plan)
    network = Network(plan, c_prefix(plan), constants, instances, calls, {})
    stem = c_name(plan.graph.name)
    network.files[f"{stem}.h"] = header(plan, content_hash, reset_declaration(plan))
    network.files[f"{stem}_data.h"] = _data(network)
    network.files[f"{stem}.c"] = _source(network, stem)
    return network


def _refused(graph: Graph) -> Iterator[IsobitError]:
    name = graph.name[:LONGEST_NAME]
    stem = c_name(graph.name).lower()
    if stem.startswith("isobit") or stem in RESERVED or len(stem) > LONGEST_NAME:
        yield BadArgument(
            where=f"network {name!r}",
            what="name",
            want=f"at most {LONGEST_NAME} characters, not isobit... or {', '.join(RESERVED)}",
            got=name,
            fix="Headers of those names are the run time's or the compiler's.",
        )
    if stem.endswith("_data"):
        yield BadArgument(
            where=f"network {name!r}",
            what="name",
            want="one that does not end in _data",
            got=name,
            fix=f"{stem}.h holds the constants of a network called {stem[:-5]}: choose another.",
        )
    twice = [f"%{o}" for o in dict.fromkeys(graph.outputs) if graph.outputs.count(o) > 1]
    if twice:
        yield BadArgument(
            where=f"network {name!r}",
            what="outputs",
            want="each value once",
            got=f"{', '.join(twice)} more than once",
            fix="List it once: both would be the same numbers.",
        )


def _collect(
    plan: Plan,
) -> tuple[
    tuple[Constant, ...],
    tuple[Instance, ...],
    tuple[tuple[NodePlan, Instance | None, tuple[str, ...]], ...],
]:
    registry = load_ops()
    constants: list[Constant] = []
    instances: dict[Any, Instance] = {}
    calls: list[tuple[NodePlan, Instance | None, tuple[str, ...]]] = []
    places = _places(plan)
    stems: set[str] = set()
    stored: dict[str, str] = {}
    for step in plan.nodes:
        if step.kernel is None:
            calls.append((step, None, ()))
            continue
        op = registry.op(step.node.op)
        consts = node_consts(op, step.node, plan.graph)
        packed = step.kernel.pack(step.node.attrs, step.types, consts)
        stem = c_name(step.name)
        while stem in stems:  # `a.b` and `a_b` are one C name
            stem += "_"
        stems.add(stem)
        own = [Constant(f"{stem}_{p.name}", step.name, p) for p in packed]
        constants.extend(c for c in own if c.packed.data.size)
        sources = kernel_inputs(op, step.node)
        for name in sources:
            if name not in plan.buffers and name not in stored:
                data = plan.graph.const_map()[name].data
                least = step.kernel.alignment_bytes if step.kernel.alignment_bytes > 1 else 0
                kept = Constant(
                    f"{stem}_{c_name(name)}", step.name, Packed(name, data, "", (), least)
                )
                constants.append(kept)
                stored[name] = kept.symbol
        has_scratch = step.scratch is not None
        parameters = parameter_list(len(sources), packed, len(step.node.outputs), has_scratch)
        arguments = [
            *(places.get(name) or stored[name] for name in sources),
            *(_reference(c) for c in own),
            *(places[v.name] for v in step.node.outputs),
        ]
        if step.scratch is not None:
            arguments.append(_at(step.scratch.offset))
        geometry = tuple(step.kernel.geometry(step.node.attrs, step.types).items())
        key = (step.kernel, geometry, parameters, step.small)
        if key not in instances:
            symbol = (
                f"{step.kernel.op}_{step.kernel.stem}_{sum(k[0] is step.kernel for k in instances)}"
            )
            instances[key] = Instance(symbol, step.kernel, geometry, parameters, (), step.small)
        old = instances[key]
        instances[key] = replace(old, nodes=(*old.nodes, step.name))
        calls.append((step, old, tuple(arguments)))
    constants.extend(Constant(s, of, Packed(s, data)) for s, of, data in reset_constants(plan))
    return tuple(constants), tuple(instances.values()), tuple(calls)


def parameter_list(
    inputs: int, packed: Sequence[Packed], outputs: int, has_scratch: bool
) -> tuple[str, ...]:
    """Return an instance's C parameters in call order: activations, constants, outputs, scratch."""
    return (
        *(f"const void *x{i}" for i in range(inputs)),
        *(f"const {_c_type(p)} *{p.name}" for p in packed),
        *(f"void *y{i}" for i in range(outputs)),
        *(("void *scratch",) if has_scratch else ()),
    )


def _places(plan: Plan) -> dict[str, str]:
    return {name: _at(buffer.offset) for name, buffer in plan.buffers.items()}


def _at(offset: int) -> str:
    return f"at + {offset}" if offset else "at"


def _reference(constant: Constant) -> str:
    if not constant.packed.data.size:
        return "NULL"
    return f"&{constant.symbol}" if constant.packed.struct else constant.symbol


def _c_type(packed: Packed) -> str:
    return packed.struct or of_numpy(packed.data.dtype).c_name


def _data(network: Network) -> str:
    blocks = [
        f"/* Constants of {network.plan.graph.name}, by layer. Made by isobit. Do not edit. */"
    ]
    node = ""
    for constant in network.constants:
        if constant.node != node:
            node = constant.node
            blocks.append(f"/* {node} */")
        blocks.append(_constant(constant))
    return "\n\n".join(blocks) + "\n"


def _constant(constant: Constant) -> str:
    packed = constant.packed
    align = f" ISOBIT_ALIGNED({packed.alignment_bytes})" if packed.alignment_bytes else ""
    if packed.struct:
        members = zip(packed.fields, packed.data.tolist(), strict=True)
        body = ", ".join(f".{name} = {value}" for name, value in members)
        return f"static const {packed.struct} {constant.symbol}{align} = {{{body}}};"
    head = f"static const {_c_type(packed)} {constant.symbol}[{packed.data.size}]{align} = {{"
    return "\n".join([head, *_rows(packed.data), "};"])


def _rows(data: AnyArray) -> Iterator[str]:
    """Yield lines of at most 100 columns."""
    line = "   "
    for value in np.ravel(data).tolist():
        word = f" {_literal(value)},"
        if len(line) + len(word) > 100:
            yield line
            line = "   "
        line += word
    yield line


def _literal(value: int | float) -> str:
    if isinstance(value, float):
        return f"{value.hex()}f"
    return "INT32_MIN" if value == -(2**31) else str(value)


def _source(network: Network, stem: str) -> str:
    plan = network.plan
    graph = plan.graph
    kernels = {instance.kernel: None for instance in network.instances}
    places = _places(plan)
    needed = sorted({f for kernel in kernels for f in kernel.features}, key=lambda f: f.value)
    lines = [
        f"/* {graph.name} for {plan.target.title}: one call per layer, in order. Made by isobit. Do not edit. */",
        f'#include "{stem}.h"',
        "",
        '#include "isobit_rt.h"',
        "",
    ]
    for feature in needed:
        if feature.guard:
            lines += [
                f"#if !({feature.guard})",
                f'#error "{graph.name} was made for {plan.target.name}, which has {feature.value}; set -mcpu accordingly"',
                "#endif",
                "",
            ]
    lines += [
        f'#include "kernels/{k.op}_{k.stem}{k.source().suffix}"'
        for k in kernels
        if k.source().suffix == ".c"
    ]
    lines += ["", f'#include "{stem}_data.h"', ""]
    for instance in network.instances:
        lines += [*instance_lines(instance), ""]
    lines += [
        "#ifdef ISOBIT_TRACE",
        "void isobit_trace(int32_t node, const void *data, uint32_t bytes);",
        "#define TRACE(node, data, bytes) isobit_trace(node, data, bytes)",
        "#else",
        "#define TRACE(node, data, bytes) ((void)0)",
        "#endif",
        "",
    ]
    for port in network.inputs:
        cast = f"({port.c_type} *)"
        lines += [f"{port.signature} {{", "    uint8_t *const at = arena;"]
        lines += [f"    return {cast}({places[port.name]});", "}", ""]
    for port in network.outputs:
        cast = f"(const {port.c_type} *)"
        lines += [f"{port.signature} {{", "    const uint8_t *const at = arena;"]
        lines += [f"    return {cast}({places[port.name]});", "}", ""]
    lines += reset_lines(plan, places)
    lines += [
        f"{run_signature(plan)} {{",
        *arena_check(plan),
    ]
    lines += [
        f"    isobit_copy({port.accessor}(arena), {port.argument}, {port.type.size_bytes});"
        for port in network.inputs
    ]
    lines.append("")
    for index, (step, called, arguments) in enumerate(network.calls):
        lines += _call(index, step, called, arguments, places)
    lines += [
        f"    isobit_copy({port.argument}, {port.accessor}(arena), {port.type.size_bytes});"
        for port in network.outputs
    ]
    lines += ["    return 0;", "}"]
    return "\n".join(lines) + "\n"


def instance_lines(instance: Instance) -> Iterator[str]:
    """Yield the C function that fixes a kernel's geometry."""
    kernel = instance.kernel
    yield f"/* {kernel.op} for: {', '.join(instance.nodes)} */"
    linkage = "ISOBIT_SMALL_INSTANCE" if instance.small else "ISOBIT_INSTANCE"
    yield wrapped(f"{linkage} void {instance.symbol}({', '.join(instance.parameters)}) {{", 0)
    fields = ", ".join(f".{name} = {value}" for name, value in instance.geometry)
    yield wrapped(f"const {kernel.function}_geometry g = {{{fields}}};", 4)
    names = [parameter.rsplit("*", 1)[1].strip() for parameter in instance.parameters]
    if kernel.gathers:
        inputs = [name for name in names if re.fullmatch(r"x\d+", name)]
        outputs = [name for name in names if re.fullmatch(r"y\d+", name)]
        yield f"    const void *const xs[] = {{{', '.join(inputs)}}};"
        yield f"    void *const ys[] = {{{', '.join(outputs)}}};"
        constants = [name for name in names if name not in (*inputs, *outputs, "scratch")]
        names = ["xs", *constants, "ys", *(name for name in names if name == "scratch")]
    yield f"    {kernel.function}({', '.join(['g', *names])});"
    yield "}"


def _call(
    index: int,
    step: NodePlan,
    instance: Instance | None,
    arguments: Sequence[str],
    places: dict[str, str],
) -> Iterator[str]:
    text = print_node(step.node)
    yield f"    /* {text} */"
    if instance is None:
        yield "    /* nothing to do: the same bytes */"
    else:
        yield wrapped(f"{instance.symbol}({', '.join(arguments)});", 4)
    for position, value in enumerate(step.node.outputs):
        yield f"    TRACE({index * 16 + position}, {places[value.name]}, {value.type.size_bytes});"
    yield ""
