"""Compile a network's C and run it on any target: one harness, four files, every emulator.

The host program, Unicorn and QEMU all run `board/main.c`, which reads `input.bin` (samples in turn,
all inputs of each), writes `output.bin` likewise and, in a trace build, `trace.bin`. So what
differs between them is the compiler and the core, nothing of ours.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from isobit.codegen.interface import c_name, record
from isobit.codegen.network import Network
from isobit.codegen.project import project_files, sources
from isobit.core.errors import BadArgument, ChildDied
from isobit.core.files import write_atomic
from isobit.core.types import AnyArray
from isobit.run.child import run_child
from isobit.run.codes import Codes, check_inputs, cut, sample_count
from isobit.run.compilers import Compiled, Compiler, Kind, Optimize, cache_dir, find
from isobit.run.emulate import emulate
from isobit.run.execution import Execution, Span
from isobit.run.qemu import run_qemu
from isobit.targets import Isa, Target

CHUNK = 256
"""Samples per process in a traced run: bounds the trace file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A compiled network: the program, how it was made, its stack frames."""

    path: Path
    target: Target
    compiler: str
    command: tuple[str, ...]
    traced: bool
    stack_frames: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Outputs [N, ...] of a run by name, every traced value, and what was measured (empty where it
    was not).
    """

    outputs: Mapping[str, AnyArray]
    trace: Mapping[str, AnyArray]
    emulator: str
    instructions: tuple[int, ...] = ()
    cycles: tuple[int, ...] = ()
    spans: tuple[tuple[Span, ...], ...] = ()
    stack_bytes: int | None = None

    @property
    def output(self) -> AnyArray:
        """The only output. Raises `BadArgument` where there are several."""
        if len(self.outputs) > 1:
            raise BadArgument(
                where="output",
                what="outputs of the network",
                want="one",
                got=", ".join(self.outputs),
                fix="Read `outputs`, a mapping by name.",
            )
        return next(iter(self.outputs.values()))


def build(
    network: Network,
    *,
    compiler: Kind = "zig",
    trace: bool = False,
    optimize: Optimize = "",
    flags: Sequence[str] = (),
    qemu: bool = False,
    files: Mapping[str, str] | None = None,
) -> Build:
    """Compile the network's own project files for its target; cached by everything that enters.

    `files` replaces the generated project (a bundle's own, possibly edited). `qemu` links for the
    memory map of the target's QEMU machine. Raises `ToolMissing` or `CompileFailed`.
    """
    target = network.plan.target.on_qemu() if qemu else network.plan.target
    tool = find(compiler, target)
    found = dict(files if files is not None else project_files(network))
    stem = c_name(network.plan.graph.name)
    defines = {"ISOBIT_TRACE": ""} if trace else {}
    key = hashlib.sha256()
    for part in (tool.version, target, optimize, tuple(flags), trace, sorted(found.items())):
        key.update(repr(part).encode())
    folder = cache_dir() / "builds" / key.hexdigest()[:32]
    for name, text in found.items():
        path = folder / name
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    program = folder / (stem if target.isa is Isa.HOST else f"{stem}.elf")
    record = folder / "build.json"
    if not (record.is_file() and program.is_file()):
        files_ = [folder / name for name in sources(found, stem)]
        compiled = _compile(tool, files_, folder, program, defines, optimize, flags)
        frames = dict(compiled.stack_frames)
        write_atomic(record, json.dumps({"command": compiled.command, "stack_frames": frames}))
    known = json.loads(record.read_text(encoding="utf-8"))
    return Build(
        path=program,
        target=target,
        compiler=tool.version,
        command=tuple(known["command"]),
        traced=trace,
        stack_frames=known["stack_frames"],
    )


def _compile(
    tool: Compiler,
    files: list[Path],
    folder: Path,
    program: Path,
    defines: Mapping[str, str],
    optimize: Optimize,
    flags: Sequence[str],
) -> Compiled:
    include = [folder / "src", folder / "src" / "board"]
    if tool.target.isa is Isa.HOST:
        return tool.compile_program(
            files, program, include_dirs=include, defines=defines, optimize=optimize, flags=flags
        )
    return tool.compile_elf(
        files,
        program,
        include_dirs=include,
        defines=defines,
        optimize=optimize,
        flags=flags,
        startup=False,
        linker_script=(folder / "src" / "board" / "firmware.ld").read_text(encoding="utf-8"),
    )


def execute(
    network: Network,
    built: Build,
    x: Codes,
    *,
    count: bool = False,
    use_qemu: bool = False,
    timeout_s: float = 600.0,
) -> Result:
    """Run input codes `x` [N, *NHWC], of several inputs a mapping by name; `count` measures
    instructions, cycles and stack (Unicorn only).

    Samples of a network with states are consecutive runs after one reset. A traced build also
    returns every value of the network.
    """
    arrays = check_inputs(network.plan.graph, x)
    parts = []
    samples = sample_count(arrays)
    # A process starts with a reset, which only the first run of a sequence may have.
    chunk = CHUNK if built.traced and not network.plan.graph.states else samples
    for start in range(0, samples, chunk):
        part = cut(arrays, start, start + chunk)
        ran = _run(network, built, part, count=count, use_qemu=use_qemu, timeout_s=timeout_s)
        if ran.exit_code != 0:
            raise ChildDied(
                where=f"{network.plan.graph.name} on {built.target.name}",
                what="the program's exit code",
                want="0",
                got=str(ran.exit_code),
                fix="From 240 on they are board/main.c's: input missing, output not writable.",
            )
        parts.append((ran, sample_count(part)))
    return _collect(network, parts)


def _run(
    network: Network,
    built: Build,
    arrays: Mapping[str, AnyArray],
    *,
    count: bool,
    use_qemu: bool,
    timeout_s: float,
) -> Execution:
    table = np.zeros(sample_count(arrays), dtype=record(network.inputs))
    for name, array in arrays.items():
        table[name] = array
    inputs = {"input.bin": table.tobytes()}
    if built.target.isa is Isa.HOST:
        return _run_host(built, inputs, timeout_s)
    if use_qemu or not built.target.unicorn_model:
        return run_qemu(built.path, built.target, inputs, timeout_s=timeout_s)
    marks = [instance.symbol for instance in network.instances] if count else []
    return emulate(
        built.path,
        built.target,
        inputs,
        entry=f"{network.prefix}_run" if count else "",
        count=count,
        marks=marks,
        timeout_s=timeout_s,
    )


def _run_host(built: Build, inputs: Mapping[str, bytes], timeout_s: float) -> Execution:
    with tempfile.TemporaryDirectory(prefix="isobit-host-") as temporary:
        folder = Path(temporary)
        for name, content in inputs.items():
            (folder / name).write_bytes(content)
        done = run_child([str(built.path)], timeout_s=timeout_s, cwd=folder)
        if done.code is None or done.code < 0 or done.stderr:
            raise ChildDied(
                where=f"{built.path.name} on host",
                what="the program ended early",
                want=f"an exit within {timeout_s:g} s and no sanitizer report",
                got=f"{done.ending} {done.stderr.decode(errors='replace')[:2000]}".strip(),
                fix="Report this with the network: the C must have no undefined behaviour.",
            )
        found = {p.name: p.read_bytes() for p in folder.iterdir() if p.name not in inputs}
    return Execution(files=found, exit_code=done.code, emulator="host")


def _collect(network: Network, parts: Sequence[tuple[Execution, int]]) -> Result:
    tables = [
        np.frombuffer(ran.files["output.bin"], dtype=record(network.outputs), count=count)
        for ran, count in parts
    ]
    traces = [
        _read_trace(network, ran.files["trace.bin"], n)
        for ran, n in parts
        if "trace.bin" in ran.files
    ]
    runs = [ran for ran, _ in parts]
    stacks = [ran.stack_bytes for ran in runs if ran.stack_bytes is not None]
    return Result(
        outputs={
            port.name: np.concatenate([table[port.name] for table in tables]).astype(
                port.type.dtype.numpy, copy=False
            )
            for port in network.outputs
        },
        trace={
            name: np.concatenate([t[name] for t in traces])
            for name in (traces[0] if traces else {})
        },
        emulator=runs[0].emulator,
        instructions=tuple(i for ran in runs for i in ran.instructions),
        cycles=tuple(c for ran in runs for c in ran.cycles),
        spans=tuple(s for ran in runs for s in ran.spans),
        stack_bytes=max(stacks, default=None),
    )


def _read_trace(network: Network, blob: bytes, count: int) -> dict[str, AnyArray]:
    """Read records `node, bytes, payload`; every sample writes the same sequence, so it is one
    table.
    """
    fields, names = [], []
    for index, (step, _, _) in enumerate(network.calls):
        for position, value in enumerate(step.node.outputs):
            names.append((value, index * 16 + position))
            shape = value.type.shape[1:]
            fields += [
                (f"{value.name}/id", "<i4"),
                (f"{value.name}/bytes", "<u4"),
                (value.name, value.type.dtype.numpy.newbyteorder("<"), shape),
            ]
    table = np.frombuffer(blob, dtype=np.dtype(fields))
    assert len(table) == count, "the trace has another number of samples"
    for value, number in names:
        assert (table[f"{value.name}/id"] == number).all(), "the trace is out of step"
    return {value.name: np.ascontiguousarray(table[value.name]) for value, _ in names}
