"""The C interface of a network: its header, and what each input and output is called in C.

One input is `in`, `isobit_<name>_input`, `ISOBIT_<NAME>_INPUT_BYTES`; of several each has its
value's name behind that: `in_<id>`, `isobit_<name>_input_<id>`, `ISOBIT_<NAME>_INPUT_<ID>_BYTES`.
Outputs likewise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from isobit.core.types import Pow2, TensorType, scale_of
from isobit.plan.plan import Plan


def c_name(name: str) -> str:
    """Return a C identifier for a value or network name."""
    cleaned = re.sub(r"\W", "_", name)
    return f"_{cleaned}" if not cleaned or cleaned[0].isdigit() else cleaned


def macro_name(name: str) -> str:
    """Return how macros spell a C identifier: `net` is NET, `NET` is net, `Net` stays Net.

    One-to-one, so headers of networks whose names differ only in case have no macro in common.
    """
    return name.swapcase() if name.islower() or name.isupper() else name


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output in C terms. `name` is the value's in the graph.

    `role`: how comments call it. `argument`: of the run function. `accessor`: the function that
    returns its place in the arena. `macro`: the prefix of its macros.
    """

    name: str
    type: TensorType
    role: str
    argument: str
    accessor: str
    macro: str
    is_input: bool

    @property
    def c_type(self) -> str:
        """The C type of its elements."""
        return self.type.dtype.c_name

    @property
    def parameter(self) -> str:
        """Its declaration in the run function's parameter list."""
        return f"{'const ' if self.is_input else ''}{self.c_type} *{self.argument}"

    @property
    def signature(self) -> str:
        """The accessor's declaration."""
        if self.is_input:
            return f"{self.c_type} *{self.accessor}(void *arena)"
        return f"const {self.c_type} *{self.accessor}(const void *arena)"


def input_ports(plan: Plan) -> tuple[Port, ...]:
    """Return the inputs in the graph's order."""
    return tuple(_ports(plan, [value.name for value in plan.graph.inputs], is_input=True))


def output_ports(plan: Plan) -> tuple[Port, ...]:
    """Return the outputs in the graph's order."""
    return tuple(_ports(plan, plan.graph.outputs, is_input=False))


def c_prefix(plan: Plan) -> str:
    """Return what every exported symbol of the network starts with."""
    return f"isobit_{c_name(plan.graph.name)}"


def macro_prefix(plan: Plan) -> str:
    """Return what every macro of the network's header starts with."""
    return f"ISOBIT_{macro_name(c_name(plan.graph.name))}"


def _ports(plan: Plan, names: Sequence[str], *, is_input: bool) -> Iterator[Port]:
    types = plan.graph.type_map()
    side, argument = ("input", "in") if is_input else ("output", "out")
    for name, suffix in zip(names, _suffixes(names), strict=True):
        yield Port(
            name=name,
            type=types[name],
            role=f"{side} {name}" if suffix else side,
            argument=f"{argument}{suffix}",
            accessor=f"{c_prefix(plan)}_{side}{suffix}",
            macro=f"{macro_prefix(plan)}_{side.upper()}{suffix.upper()}",
            is_input=is_input,
        )


def _suffixes(names: Sequence[str]) -> Iterator[str]:
    """Yield what tells ports apart; different in upper case too, because macros are."""
    taken: set[str] = set()
    for position, name in enumerate(names):
        stem = suffix = f"_{re.sub(r'[^A-Za-z0-9_]', '_', name)}" if len(names) > 1 else ""
        while suffix.upper() in taken:
            suffix = f"{stem}_{position}"
            position += 1
        taken.add(suffix.upper())
        yield suffix


def record(ports: Sequence[Port]) -> np.dtype[np.void]:
    """Return how one sample of all `ports` lies in the harness's files and buffers.

    One after the other in C order, little-endian, each from a multiple of its element's size.
    """
    starts = offsets(ports)
    kinds = [(p.type.dtype.numpy.newbyteorder("<"), p.type.shape[1:]) for p in ports]
    return np.dtype(
        {
            "names": [port.name for port in ports],
            "formats": kinds,
            "offsets": starts,
            "itemsize": starts[-1] + ports[-1].type.size_bytes,
        }
    )


def offsets(ports: Sequence[Port]) -> list[int]:
    """Return where each port starts in a record, in bytes."""
    found, end = [], 0
    for port in ports:
        size = port.type.dtype.size_bytes
        found.append(-(-end // size) * size)
        end = found[-1] + port.type.size_bytes
    return found


def run_signature(plan: Plan) -> str:
    """Return the declaration of the run function without a semicolon; one line for two ports."""
    ports = (*input_ports(plan), *output_ports(plan))
    parameters = ", ".join(["void *arena", *(port.parameter for port in ports)])
    text = f"int {c_prefix(plan)}_run({parameters})"
    return text if len(ports) == 2 else wrapped(text, 0)


def wrapped(text: str, indent: int) -> str:
    """Break at spaces after commas only, continuation lines four columns deeper."""
    lines, line = [], " " * indent
    for word in text.split(", "):
        piece = word if line.strip() == "" else f", {word}"
        if len(line) + len(piece) > 99 and line.strip():
            lines.append(line + ",")
            line, piece = " " * (indent + 4), word
        line += piece
    return "\n".join([*lines, line])


def header(plan: Plan, content_hash: str, reset: Sequence[str] = ()) -> str:
    """Return `<name>.h`. reset: the lines that declare the reset function, where there is one."""
    graph, macro = plan.graph, macro_prefix(plan)
    inputs, outputs = input_ports(plan), output_ports(plan)
    lines = [
        f"/* {graph.name}: an integer neural network for {plan.target.title}, made by isobit. "
        "Do not edit. */",
        f"#ifndef {macro}_H",
        f"#define {macro}_H",
        "",
        "#include <stdint.h>",
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        f"/* Working memory: {_plural('input', inputs)}, {_plural('output', outputs)}, "
        f"{'states, ' if reset else ''}every layer "
        "between and scratch. Aligned to ARENA_ALIGNMENT bytes. */",
        f"#define {macro}_ARENA_BYTES {plan.arena_bytes}",
        f"#define {macro}_ARENA_ALIGNMENT {plan.alignment_bytes}",
        "",
    ]
    for port in (*inputs, *outputs):
        lines += _tensor_macros(port)
    lines += [
        "/* SHA-256 of the graph and its weights. */",
        f'#define {macro}_HASH "{content_hash}"',
        "",
        f"/* Runs the network once. {_null_rule(inputs, outputs)}",
        "   Returns 0, or 1 when the arena is NULL or misaligned. Reentrant: all state is in the "
        "arena. */",
        f"{run_signature(plan)};",
        "",
        *reset,
    ]
    for port in inputs:
        start = f"The {_buffer(port)} inside the arena: fill it and pass {port.argument} = NULL"
        lines += [
            f"/* {start} to save a copy. A run may overwrite it. */",
            f"{port.signature};",
            "",
        ]
    for port in outputs:
        start = f"The {_buffer(port)} inside the arena"
        lines += [f"/* {start}, valid after a run until the next. */", f"{port.signature};", ""]
    lines += ["#ifdef __cplusplus", "}", "#endif", "", "#endif"]
    return "\n".join(lines) + "\n"


def _plural(role: str, ports: Sequence[Port]) -> str:
    return role if len(ports) == 1 else f"{role}s"


def _buffer(port: Port) -> str:
    side, _, name = port.role.partition(" ")
    return f"{side} buffer{f' of {name}' if name else ''}"


def _null_rule(inputs: Sequence[Port], outputs: Sequence[Port]) -> str:
    one_in, one_out = len(inputs) == 1, len(outputs) == 1
    ins = (
        "in may be the arena's own input buffer" if one_in else "Each in_... may be its own buffer"
    )
    where = "" if one_in else " in the arena"
    return f"{ins}{where}, or NULL for it; {'out' if one_out else 'each out_...'} may be NULL."


def _tensor_macros(port: Port) -> Iterator[str]:
    """Shape, bytes, scale and zero point; real = SCALE * (code - ZERO)."""
    kind, macro = port.type, port.macro
    scale = float(scale_of(kind.encoding)[0])
    shape = ", ".join(map(str, kind.shape[1:]))
    real = "SCALE * (code - ZERO)"
    if isinstance(kind.encoding, Pow2) and kind.encoding.dynamic:
        real = "SCALE * code * 2^e, e the exponent that is the next output"
    yield f"/* {port.role}: {port.c_type}[{shape}]; real = {real}. */"
    yield f"#define {macro}_BYTES {kind.size_bytes}"
    yield f"#define {macro}_SHAPE {{{shape}}}"
    yield f"#define {macro}_SCALE {scale!r}"
    yield f"#define {macro}_ZERO {f'({kind.zero})' if kind.zero < 0 else kind.zero}"
    yield ""
