"""The three generated C files of a network: `<name>.h`, `<name>.c`, `<name>_data.h`.

Everything is `static` but four functions with the network's name, so two networks link into one
program. Kernels are included as source; each distinct geometry becomes one instance that layers
share.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from isobit.core.dtypes import of_numpy
from isobit.core.errors import BadArgument
from isobit.core.types import Affine, AnyArray, TensorType, scale_of
from isobit.ir.graph import operands
from isobit.ir.text import print_node
from isobit.ops.base import Kernel, Packed
from isobit.ops.check import node_consts
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
    def constant_bytes(self) -> int:
        """Bytes of all packed constants."""
        return sum(c.packed.data.nbytes for c in self.constants)


def c_name(name: str) -> str:
    """Return a C identifier for a value or network name."""
    cleaned = re.sub(r"\W", "_", name)
    return f"_{cleaned}" if not cleaned or cleaned[0].isdigit() else cleaned


RESERVED = ("harness", "semihost", "stddef", "stdint", "stdio", "stdlib", "string")
LONGEST_NAME = 100


def generate(plan: Plan, content_hash: str) -> Network:
    """Write the network's C. Equal plans and constants give equal bytes."""
    stem = c_name(plan.graph.name).lower()
    if stem.startswith("isobit") or stem in RESERVED or len(stem) > LONGEST_NAME:
        raise BadArgument(
            where=f"network {plan.graph.name[:LONGEST_NAME]!r}",
            what="name",
            want=f"at most {LONGEST_NAME} characters, not isobit... or {', '.join(RESERVED)}",
            got=plan.graph.name[:LONGEST_NAME],
            fix="Headers of those names are the run time's or the compiler's.",
        )
    prefix = f"isobit_{c_name(plan.graph.name)}"
    constants, instances, calls = _collect(plan)
    network = Network(plan, prefix, constants, instances, calls, {})
    stem = c_name(plan.graph.name)
    network.files[f"{stem}.h"] = _header(network, content_hash)
    network.files[f"{stem}_data.h"] = _data(network)
    network.files[f"{stem}.c"] = _source(network, stem)
    return network


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
    for step in plan.nodes:
        if step.kernel is None:
            calls.append((step, None, ()))
            continue
        op = registry.op(step.node.op)
        consts = node_consts(op, step.node, plan.graph)
        packed = step.kernel.pack(step.node.attrs, step.types, consts)
        own = [Constant(f"{c_name(step.name)}_{p.name}", step.name, p) for p in packed]
        constants.extend(c for c in own if c.packed.data.size)
        sources = [name for name in operands(step.node.inputs) if name in plan.buffers]
        has_scratch = step.scratch is not None
        parameters = parameter_list(len(sources), packed, len(step.node.outputs), has_scratch)
        arguments = [
            *(places[name] for name in sources),
            *(_reference(c) for c in own),
            *(places[v.name] for v in step.node.outputs),
        ]
        if step.scratch is not None:
            arguments.append(_at(step.scratch.offset))
        geometry = tuple(step.kernel.geometry(step.node.attrs, step.types).items())
        key = (step.kernel, geometry, parameters)
        if key not in instances:
            symbol = (
                f"{step.kernel.op}_{step.kernel.stem}_{sum(k[0] is step.kernel for k in instances)}"
            )
            instances[key] = Instance(symbol, step.kernel, geometry, parameters, ())
        old = instances[key]
        instances[key] = Instance(
            old.symbol, old.kernel, old.geometry, old.parameters, (*old.nodes, step.name)
        )
        calls.append((step, old, tuple(arguments)))
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


def _header(network: Network, content_hash: str) -> str:
    graph, prefix = network.plan.graph, network.prefix
    upper = prefix.upper()
    (source,) = graph.inputs
    types = graph.type_map()
    target = types[graph.outputs[0]]
    in_c, out_c = source.type.dtype.c_name, target.dtype.c_name
    lines = [
        f"/* {graph.name}: an integer neural network for {network.plan.target.title}, made by isobit. Do not edit. */",
        f"#ifndef {upper}_H",
        f"#define {upper}_H",
        "",
        "#include <stdint.h>",
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        "/* Working memory: input, output, every layer between and scratch. Aligned to ARENA_ALIGNMENT bytes. */",
        f"#define {upper}_ARENA_BYTES {network.plan.arena_bytes}",
        f"#define {upper}_ARENA_ALIGNMENT {network.plan.alignment_bytes}",
        "",
        *_tensor_macros(f"{upper}_INPUT", source.type),
        *_tensor_macros(f"{upper}_OUTPUT", target),
        "/* SHA-256 of the graph and its weights. */",
        f'#define {upper}_HASH "{content_hash}"',
        "",
        "/* Runs the network once. in may be the arena's own input buffer, or NULL for it; out may be NULL.",
        "   Returns 0, or 1 when the arena is NULL or misaligned. Reentrant: all state is in the arena. */",
        f"int {prefix}_run(void *arena, const {in_c} *in, {out_c} *out);",
        "",
        "/* The input buffer inside the arena: fill it and pass in = NULL to save a copy. A run may overwrite it. */",
        f"{in_c} *{prefix}_input(void *arena);",
        "",
        "/* The output buffer inside the arena, valid after a run until the next. */",
        f"const {out_c} *{prefix}_output(const void *arena);",
        "",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "",
        "#endif",
    ]
    return "\n".join(lines) + "\n"


def _tensor_macros(stem: str, kind: TensorType) -> Iterator[str]:
    """Shape, bytes, scale and zero point; real = SCALE * (code - ZERO)."""
    scale = float(scale_of(kind.encoding)[0])
    zero = kind.encoding.zero if isinstance(kind.encoding, Affine) else 0
    shape = ", ".join(map(str, kind.shape[1:]))
    role = stem.rsplit("_", 1)[1].lower()
    yield f"/* {role}: {kind.dtype.c_name}[{shape}]; real = SCALE * (code - ZERO). */"
    yield f"#define {stem}_BYTES {kind.size_bytes}"
    yield f"#define {stem}_SHAPE {{{shape}}}"
    yield f"#define {stem}_SCALE {scale!r}"
    yield f"#define {stem}_ZERO {f'({zero})' if zero < 0 else zero}"
    yield ""


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
    plan, prefix = network.plan, network.prefix
    graph = plan.graph
    (source,) = graph.inputs
    types = graph.type_map()
    target = types[graph.outputs[0]]
    in_c, out_c = source.type.dtype.c_name, target.dtype.c_name
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
        f"{in_c} *{prefix}_input(void *arena) {{",
        "    uint8_t *const at = arena;",
        f"    return ({in_c} *)({places[source.name]});",
        "}",
        "",
        f"const {out_c} *{prefix}_output(const void *arena) {{",
        "    const uint8_t *const at = arena;",
        f"    return (const {out_c} *)({places[graph.outputs[0]]});",
        "}",
        "",
        f"int {prefix}_run(void *arena, const {in_c} *in, {out_c} *out) {{",
        "    uint8_t *const at = arena;",
        f"    if (at == NULL || ((uintptr_t)at & {plan.alignment_bytes - 1}u) != 0) {{",
        "        return 1;",
        "    }",
        f"    isobit_copy({prefix}_input(arena), in, {source.type.size_bytes});",
        "",
    ]
    for index, (step, called, arguments) in enumerate(network.calls):
        lines += _call(index, step, called, arguments, places)
    lines += [
        f"    isobit_copy(out, {prefix}_output(arena), {target.size_bytes});",
        "    return 0;",
        "}",
    ]
    return "\n".join(lines) + "\n"


def instance_lines(instance: Instance) -> Iterator[str]:
    """Yield the C function that fixes a kernel's geometry."""
    kernel = instance.kernel
    yield f"/* {kernel.op} for: {', '.join(instance.nodes)} */"
    yield _wrapped(
        f"ISOBIT_INSTANCE void {instance.symbol}({', '.join(instance.parameters)}) {{", 0
    )
    fields = ", ".join(f".{name} = {value}" for name, value in instance.geometry)
    yield _wrapped(f"const {kernel.function}_geometry g = {{{fields}}};", 4)
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


def _wrapped(text: str, indent: int) -> str:
    """Break at spaces after commas only, continuation lines four columns deeper."""
    lines, line = [], " " * indent
    for word in text.split(", "):
        piece = word if line.strip() == "" else f", {word}"
        if len(line) + len(piece) > 99 and line.strip():
            lines.append(line + ",")
            line, piece = " " * (indent + 4), word
        line += piece
    return "\n".join([*lines, line])


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
        yield _wrapped(f"{instance.symbol}({', '.join(arguments)});", 4)
    for position, value in enumerate(step.node.outputs):
        yield f"    TRACE({index * 16 + position}, {places[value.name]}, {value.type.size_bytes});"
    yield ""
