"""Many networks compiled into one program, run in one process, compared value by value."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path

import numpy as np

from isobit.codegen import board
from isobit.codegen.interface import c_name, offsets, record
from isobit.codegen.network import Network, generate
from isobit.plan.plan import make_plan
from isobit.run.child import run_child
from isobit.run.compilers import Kind, Optimize, find
from isobit.run.emulate import emulate
from isobit.targets import Isa, Target

from .graphs import Drawn

HERE = Path(__file__).parent
RUNTIME = Path(str(package_files("isobit.codegen"))) / "runtime"
TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Compared:
    """How many values were compared, and one line per network that differs."""

    values: int
    problems: tuple[str, ...]


def compare_many(
    drawn: Sequence[Drawn],
    target: Target,
    kind: Kind,
    *,
    samples: int,
    flags: Sequence[str] = (),
    optimize: Optimize = "",
) -> Compared:
    """Every value of every graph: the C of their plans for `target` against the golden model."""
    networks = [generate(make_plan(d.graph, target), f"seed {d.seed}") for d in drawn]
    with tempfile.TemporaryDirectory(prefix="isobit-property-") as temporary:
        folder = Path(temporary)
        program = _build(networks, samples, target, kind, folder, flags, optimize)
        blob = b"".join(little(d.x[:samples]) for d in drawn)
        got = _run(program, target, blob, folder)
    if isinstance(got, str):
        return Compared(0, (f"seeds {drawn[0].seed}..{drawn[-1].seed}: {got}",))
    at, values, problems = 0, 0, []
    for d, network in zip(drawn, networks, strict=True):
        problem = ""
        for sample in range(samples):
            for name in traced(network):
                want = little(d.values[name][sample : sample + 1])
                have = got[at : at + len(want)]
                at, values = at + len(want), values + d.values[name][0].size
                if have != want and not problem:
                    problem = f"seed {d.seed}, sample {sample}, %{name}: {difference(want, have)}"
            layout = record(network.outputs)
            outputs = np.frombuffer(got[at : at + layout.itemsize].ljust(layout.itemsize), layout)
            at += layout.itemsize
            for port in network.outputs:
                want = little(d.values[port.name][sample : sample + 1])
                have = outputs[port.name].tobytes()
                values += d.values[port.name][0].size
                if have != want and not problem:
                    where = f"seed {d.seed}, sample {sample}, output %{port.name}"
                    problem = f"{where}: {difference(want, have)}"
        if problem:
            problems.append(problem)
    if at != len(got):
        problems.append(f"{len(got)} bytes came back, {at} expected")
    return Compared(values, tuple(problems))


def traced(network: Network) -> list[str]:
    """What the program traces of one sample: every node's results. The outputs come behind it."""
    return [value.name for step, _, _ in network.calls for value in step.node.outputs]


def difference(want: bytes, have: bytes) -> str:
    """The first byte that differs."""
    a, b = np.frombuffer(want, np.int8), np.frombuffer(have.ljust(len(want), b"\0"), np.int8)
    (where,) = np.nonzero(a != b)
    first = int(where[0]) if len(where) else -1
    return f"{len(where)} of {len(a)} bytes, at {first}: want {a[first]}, got {b[first]}"


def little(array: np.ndarray) -> bytes:
    """Little-endian bytes, batch first."""
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()


def _build(
    networks: Sequence[Network],
    samples: int,
    target: Target,
    kind: Kind,
    folder: Path,
    flags: Sequence[str],
    optimize: Optimize,
) -> Path:
    sources = [HERE / "many.c", folder / "table.c"]
    (folder / "kernels").mkdir()
    for network in networks:
        for name, text in network.files.items():
            (folder / name).write_text(text)
        sources.append(folder / f"{c_name(network.plan.graph.name)}.c")
        for instance in network.instances:
            source = instance.kernel.source()
            place = (
                folder / "kernels" / f"{instance.kernel.op}_{instance.kernel.stem}{source.suffix}"
            )
            if not place.is_file():
                place.write_text(source.read_text())
                if source.suffix == ".S":
                    sources.append(place)
    (folder / "table.c").write_text(_table(networks, samples))
    defines = {"ISOBIT_TRACE": "", **_sizes(networks)}
    include = [HERE, folder, RUNTIME, board.BOARD_DIR]
    compiler = find(kind, target)
    compile_ = compiler.compile_elf
    if target.isa is Isa.HOST:
        compile_ = compiler.compile_program
        sources.append(board.BOARD_DIR / "semihost_host.c")
    output = folder / "program"
    compile_(sources, output, include_dirs=include, defines=defines, flags=flags, optimize=optimize)
    return output


def _sizes(networks: Sequence[Network]) -> dict[str, str]:
    """The largest of each buffer, as macros."""
    ins = [n.plan.graph.inputs[0].type.size_bytes for n in networks]
    outs = [record(n.outputs).itemsize for n in networks]
    return {
        "MANY_ARENA_BYTES": f"{max(n.plan.arena_bytes for n in networks)}u",
        "MANY_IN_BYTES": f"{max(ins)}u",
        "MANY_OUT_BYTES": f"{max(outs)}u",
    }


def _table(networks: Sequence[Network], samples: int) -> str:
    """The list of networks behind functions of one type."""
    lines = ['#include "many.h"', ""]
    lines += [f'#include "{c_name(n.plan.graph.name)}.h"' for n in networks]
    rows = []
    for number, network in enumerate(networks):
        graph, prefix = network.plan.graph, network.prefix
        source = graph.inputs[0].type
        places = [f"at + {offset}" for offset in offsets(network.outputs)]
        given = ", ".join(f"(void *)({place})" for place in places)
        lines += [
            "",
            f"static int run_{number}(void *arena, const void *in, void *out) {{",
            "    uint8_t *const at = out;",
            f"    return {prefix}_run(arena, in, {given});",
            "}",
            f"static void *input_{number}(void *arena) {{",
            f"    return {prefix}_input(arena);",
            "}",
        ]
        sizes = f"{network.plan.arena_bytes}, {source.size_bytes}, "
        sizes += f"{record(network.outputs).itemsize}, {samples}"
        rows.append(f"    {{run_{number}, input_{number}, {sizes}}},")
    lines += ["", "const network many_networks[] = {", *rows, "};"]
    lines.append(f"const uint32_t many_count = {len(networks)};")
    return "\n".join(lines) + "\n"


def _run(program: Path, target: Target, blob: bytes, folder: Path) -> bytes | str:
    """What the program wrote, or how it failed."""
    if target.isa is not Isa.HOST:
        ran = emulate(program, target, {"input.bin": blob}, count=False, timeout_s=TIMEOUT_S)
        return ran.files["output.bin"] if ran.exit_code == 0 else f"exit code {ran.exit_code}"
    (folder / "input.bin").write_bytes(blob)
    done = run_child([str(program)], timeout_s=TIMEOUT_S, cwd=folder)
    if done.code != 0:
        return f"{done.ending} {done.stderr.decode(errors='replace')[:800]}"
    return (folder / "output.bin").read_bytes()
