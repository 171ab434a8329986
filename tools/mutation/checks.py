"""Does the battery see a fault? The targeted part of it, in seconds.

C faults: the operator's contract program (`tests/contract`), with the mutated file in place of its
source, computes every sample of the operator, apart and overlapping, between guard bytes; what
survives runs again under AddressSanitizer and UBSan with every buffer a heap block of its own.
Kernels for other cores run in Unicorn. The run-time header also goes through random networks.

Python faults: a forked child that has not imported isobit yet puts the mutated source in place of
the module, and asks the operators' contract, or the plans and the C of random networks
(`tests/property`).

Nothing in the source tree is touched.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from mutation.faults import Fault

ROOT = Path(__file__).resolve().parents[2]
WARM_TIMEOUT_S = 10.0
PYTHON_TIMEOUT_S = 90.0
"""A fault that makes a loop endless is killed by these."""
RUNTIME_OPS = ("requantize", "linear", "add", "clamp")
"""Operators that between them use everything in the run-time header."""
HEADER_SEEDS = range(12)
PLAN_SEEDS = range(60)
COMPILED_SEEDS = range(16)

SANITIZER_OPTIONS = {"ASAN_OPTIONS": "detect_leaks=0", "PATH": os.environ.get("PATH", "")}
KILLED, SURVIVED, INVALID = "killed", "survived", "invalid"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`invalid`: the mutated C does not compile, so there is nothing to find."""

    status: str
    by: str = ""


def use_repository() -> None:
    """Import isobit and the tests from this repository."""
    for folder in (ROOT / "tests", ROOT / "src"):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


# ---------------------------------------------------------------------------------------------- C


@dataclass(frozen=True, slots=True)
class Program:
    """How a bench is compiled for this computer: flags, objects that never change, calls, right
    answers.
    """

    name: str
    flags: tuple[str, ...]
    objects: tuple[Path, ...]
    record: Path
    answer: bytes


@dataclass(frozen=True, slots=True)
class Bench:
    """A kernel's program, ready to be compiled with another source, and its calls."""

    folder: Path
    file: str
    target: Any
    calls: tuple[Any, ...]
    programs: tuple[Program, ...]
    """Empty for kernels of other cores."""


def check_c(fault: Fault) -> Verdict:
    """Ask the contract about a fault in a kernel or in the run-time header."""
    use_repository()
    text = fault.apply((ROOT / fault.file).read_text(encoding="utf-8"))
    path = Path(fault.file)
    if path.suffix == ".h":
        return _check_header(path.name, text)
    return _check_kernel(path.parent.name, path.stem, text)


def _check_kernel(op: str, stem: str, text: str) -> Verdict:
    from mutants import parts

    bench = _bench(op, stem)
    verdict = _ask(bench, bench.file, text)
    if verdict.status == SURVIVED and stem == "reference" and op in parts.CASES:
        return _ask_parts(bench, op, text)
    return verdict


def _ask_parts(bench: Bench, op: str, text: str) -> Verdict:
    """Inner functions, whose low bits the operator's results do not show (`tests/mutants`)."""
    from mutants import parts

    with tempfile.TemporaryDirectory(dir=bench.folder) as temporary:
        changed = Path(temporary)
        (changed / bench.file).write_text(text, encoding="utf-8")
        include = [changed, bench.folder]
        said = parts.compile_parts(op, changed / "parts", include, ("-w",))
        said = said or parts.run_parts(op, changed / "parts", changed, WARM_TIMEOUT_S)
    return Verdict(KILLED, f"parts: {said[:140]}") if said else Verdict(SURVIVED)


def _check_header(name: str, text: str) -> Verdict:
    for op in RUNTIME_OPS:
        verdict = _ask(_bench(op, "reference"), name, text)
        if verdict.status != SURVIVED:
            return verdict
    return _ask_networks(name, text)


@cache
def _bench(op: str, stem: str) -> Bench:
    """Prepare a kernel: sources in a folder of this process, calls, and proof that all is well
    without a fault.
    """
    import shutil

    from contract import calls, programs
    from isobit import targets
    from isobit.codegen import board
    from isobit.ops.registry import load_ops

    kernel = next(k for k in load_ops().kernels[op] if k.stem == stem)
    host = not kernel.features
    target = targets.load("host" if host else "cortex-m4")
    found, legal = programs.instances(op, target.features)
    # Only the instances of this kernel, renumbered.
    kept = [number for number, instance in enumerate(found) if instance.kernel is kernel]
    listed = []
    for entry in (e for e in legal if e.kernel is kernel):
        arguments = (load_ops().op(op), kernel, entry.sample, kept.index(entry.entry))
        listed += [*calls.apart(*arguments), *calls.overlapping(*arguments)]
    folder = Path(tempfile.mkdtemp(prefix=f"isobit-mutants-{op}-"))
    file = f"{op}_{stem}{kernel.source().suffix}"
    shutil.copyfile(kernel.source(), folder / file)
    (folder / "program.c").write_text(programs.source_text([found[number] for number in kept]))
    for source in (programs.HERE / "runner.c", programs.HERE / "runner.h"):
        shutil.copyfile(source, folder / source.name)
    for source in (*programs.RUNTIME.glob("*.h"), board.BOARD_DIR / "semihost.h"):
        shutil.copyfile(source, folder / source.name)
    if host:
        shutil.copyfile(board.BOARD_DIR / "semihost_host.c", folder / "semihost_host.c")
    own = {file: kernel.source().read_text(encoding="utf-8")}
    if not host:
        bench = Bench(folder, file, target, tuple(listed), ())
        sound = _ask(bench, file, own[file])
        assert sound.status == SURVIVED, f"{op} {stem} fails without a fault: {sound.by}"
        return bench
    assert not any(r.after is None for c in listed for r in c.regions), "scratch differs by nature"
    plain = _program(folder, "plain", ("-O0",), listed)
    apart = [c for c in listed if ", output " not in c.label]
    sanitized = ("-O1", "-DRUNNER_APART", "-fsanitize=undefined,address")
    strict = _program(folder, "sanitized", (*sanitized, "-fno-sanitize-recover=all"), apart)
    return Bench(folder, file, target, tuple(listed), (plain, strict))


def _program(folder: Path, name: str, flags: tuple[str, ...], listed: Sequence[Any]) -> Program:
    """Compile what no fault touches, and run once without a fault: every call must be right."""
    from contract import programs, runners

    flags = (*flags, f"-DRUNNER_IMAGE_BYTES={programs.IMAGE_BYTES}u", "-std=c11", "-w")
    objects = []
    for source in ("runner.c", "semihost_host.c"):
        objects.append(folder / f"{name}-{source}.o")
        command = ["gcc", *flags, f"-I{folder}", "-c", str(folder / source), "-o", str(objects[-1])]
        subprocess.run(command, check=True)
    program = folder / name
    command = ["gcc", *flags, f"-I{folder}", str(folder / "program.c"), *map(str, objects)]
    subprocess.run([*command, "-o", str(program)], check=True)
    problems = runners.run_host(program, listed).problems
    assert not problems, f"{folder.name} {name} fails without a fault: {problems[0]}"
    place = folder / f"{name}-run"
    place.mkdir()
    record = place / "input.bin"
    record.write_bytes(b"".join(runners._image(call).record for call in listed))
    subprocess.run([str(program)], cwd=place, check=True, env=SANITIZER_OPTIONS)
    return Program(name, flags, tuple(objects), record, (place / "output.bin").read_bytes())


def _ask(bench: Bench, file: str, text: str) -> Verdict:
    """Compile with `file` replaced and run every call."""
    with tempfile.TemporaryDirectory(dir=bench.folder) as temporary:
        changed = Path(temporary)
        (changed / file).write_text(text, encoding="utf-8")
        # A quoted include is looked for beside the file that has it first: the program moves too.
        (changed / "program.c").write_text((bench.folder / "program.c").read_text())
        if not bench.programs:
            return _ask_core(bench, changed)
        for program in bench.programs:
            verdict = _ask_host(bench, program, changed)
            if verdict.status != SURVIVED:
                return verdict
        return Verdict(SURVIVED)


def _ask_host(bench: Bench, program: Program, changed: Path) -> Verdict:
    output = changed / program.name
    command = [
        "gcc",
        *program.flags,
        f"-I{changed}",
        f"-I{bench.folder}",
        str(changed / "program.c"),
    ]
    command += [*map(str, program.objects), "-o", str(output)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        return Verdict(INVALID, _first_line(done.stderr))
    link = changed / "input.bin"
    link.unlink(missing_ok=True)
    link.symlink_to(program.record)
    try:
        ran = subprocess.run(
            [str(output)],
            cwd=changed,
            capture_output=True,
            check=False,
            timeout=WARM_TIMEOUT_S,
            env=SANITIZER_OPTIONS,
        )
    except subprocess.TimeoutExpired:
        return Verdict(KILLED, f"{program.name}: endless")
    if ran.returncode != 0:
        words = [
            line for line in ran.stderr.decode(errors="replace").splitlines() if "rror" in line
        ]
        return Verdict(KILLED, f"{program.name}: exit {ran.returncode} {' '.join(words)[:120]}")
    wrong = (changed / "output.bin").read_bytes() != program.answer
    return Verdict(KILLED, f"{program.name}: other bytes") if wrong else Verdict(SURVIVED)


def _ask_core(bench: Bench, changed: Path) -> Verdict:
    from contract import programs, runners
    from isobit.core.errors import CompileFailed
    from isobit.run.compilers import find

    (changed / "runner.c").write_text((bench.folder / "runner.c").read_text())
    output = changed / "program.elf"
    try:
        find("gcc", bench.target).compile_elf(
            [changed / "program.c", changed / "runner.c"],
            output,
            include_dirs=[changed, bench.folder],
            defines={"RUNNER_IMAGE_BYTES": f"{programs.IMAGE_BYTES}u"},
            flags=["-w"],
            optimize="-O1",
            warnings=False,
        )
    except CompileFailed as error:
        return Verdict(INVALID, str(error)[:160])
    runners.TIMEOUT_S = 4 * WARM_TIMEOUT_S
    ran = runners.run_on_unicorn(
        output, bench.target, [c for call in bench.calls for c in (call, call)]
    )
    return (
        Verdict(KILLED, f"unicorn: {ran.problems[0][:160]}") if ran.problems else Verdict(SURVIVED)
    )


def _ask_networks(name: str, text: str) -> Verdict:
    """Random networks with another run-time header."""
    from isobit import targets
    from isobit.core.errors import IsobitError
    from property import programs
    from property.graphs import draw

    own = programs.RUNTIME
    with tempfile.TemporaryDirectory() as temporary:
        (Path(temporary) / name).write_text(text, encoding="utf-8")
        programs.RUNTIME = Path(temporary)
        try:
            drawn = [draw(seed) for seed in HEADER_SEEDS]
            found = programs.compare_many(
                drawn, targets.load("host"), "gcc", samples=4, optimize="-O0", flags=("-w",)
            )
        except IsobitError as error:
            return Verdict(KILLED, f"networks: {str(error)[:160]}")
        finally:
            programs.RUNTIME = own
    if found.problems:
        return Verdict(KILLED, f"networks: {found.problems[0][:160]}")
    return Verdict(SURVIVED)


def _first_line(blob: bytes) -> str:
    lines = [line for line in blob.decode(errors="replace").splitlines() if "error" in line]
    return lines[0][:160] if lines else "the compiler failed"


# ----------------------------------------------------------------------------------------- Python


class Overlay(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a given source."""

    def __init__(self, module: str, path: Path, source: str) -> None:
        self.module, self.path, self.source = module, path, source

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name != self.module:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.source, str(self.path), "exec"), vars(module))


def warm_up() -> None:
    """Import what is slow and is not isobit, once; every forked child then has it."""
    use_repository()
    import concurrent.futures
    import json
    import subprocess
    import zlib

    import numpy
    import numpy.lib.stride_tricks
    import numpy.random
    import safetensors.numpy

    assert "isobit" not in sys.modules, "a child could not replace what is imported already"
    del concurrent, json, subprocess, zlib, numpy, safetensors


def check_python(fault: Fault | None, file: str) -> Verdict:
    """Ask in a child that dies afterwards; `None`: without a fault, which must survive."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.setsid()  # its compilers end with it
        try:
            said = _ask_python(fault, file)
        except BaseException as error:  # whatever a fault breaks has been seen
            said = f"{type(error).__name__}: {str(error)[:140]}"
            if os.environ.get("ISOBIT_MUTANTS_TRACE"):
                traceback.print_exc()
        os.write(writer, said.encode()[:4000])
        os._exit(0)
    os.close(writer)
    os.set_blocking(reader, False)
    deadline = time.monotonic() + PYTHON_TIMEOUT_S
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reader)
            return Verdict(KILLED, "timeout")
        time.sleep(0.01)
    blob = os.read(reader, 4000)
    os.close(reader)
    said = blob.decode(errors="replace") if blob else "the child died"
    return Verdict(SURVIVED) if said == "sound" else Verdict(KILLED, said)


def _ask_python(fault: Fault | None, file: str) -> str:
    """Return "sound", or what is wrong; runs in the child."""
    path = ROOT / file
    if fault is not None:
        source = fault.apply(path.read_text(encoding="utf-8"))
        module = ".".join(Path(file).with_suffix("").parts[1:])
        sys.meta_path.insert(0, Overlay(module, path, source))
    for op, stem in _operators_of(file):
        said = _ask_contract(op, stem)
        if said:
            return said
    return _ask_text(file) or _ask_plans() or "sound"


def _ask_text(file: str) -> str:
    """What no result shows: more loops than needed, odd layout, literals (`tests/mutants`)."""
    from isobit import targets
    from isobit.codegen.network import generate
    from isobit.plan.plan import make_plan
    from mutants import arenas, generated_text, loops, plans
    from property.graphs import draw

    if file.endswith("plan.py"):
        core = targets.load("cortex-m4")
        on_core = (make_plan(draw(seed).graph, core) for seed in range(40))
        wrong = (p for plan in on_core for p in plans.alignment_problems(plan))
        return next(plans.plan_problems(), "") or next(wrong, "")
    if file.endswith("arena.py"):
        return next(arenas.arena_problems(), "")
    if file.endswith("broadcast.py"):
        return next(loops.loop_problems(), "")
    if not file.endswith("network.py"):
        return ""
    host = targets.load("host")
    networks = [generate(make_plan(draw(seed).graph, host), "") for seed in range(8)]
    found = [p for network in networks for p in generated_text.layout_problems(network)]
    return next(iter([*generated_text.literal_problems(), *found]), "")


SHARED = {
    "weighted.py": ("linear", "conv2d"),
    "window.py": ("max_pool2d", "conv2d", "avg_pool2d"),
    "broadcast.py": ("add", "mul"),
    "axes.py": ("concat", "split"),
}


def _operators_of(file: str) -> list[tuple[str, str]]:
    path = Path(file)
    if path.parent.parent.name == "ops":
        return [(path.parent.name, path.stem)]
    return [(op, "reference") for op in SHARED.get(path.name, ())]


def _ask_contract(op: str, stem: str) -> str:
    from contract import cases, programs
    from isobit import targets
    from mutants import leads

    for name in ("host", "cortex-m0plus"):
        legal = {id(e.sample) for e in programs.instances(op, targets.load(name).features)[1]}
        missing = [s.label for s in cases.samples(op) if id(s) not in legal]
        if missing:
            return f"no kernel for {missing[:3]}"
    worse = next(leads.lead_problems(op), "")
    if worse:
        return worse
    bench = _bench(op, stem)  # asserts that every call is right
    return "" if bench.calls else "no calls"


def _ask_plans() -> str:
    """Plans of random graphs: legal, no larger than recorded, and the C of some of them."""
    from isobit import targets
    from isobit.plan.plan import make_plan
    from property import programs
    from property.arena_sizes import larger_than_recorded
    from property.graphs import draw

    host = targets.load("host")
    plans = []
    for seed in PLAN_SEEDS:
        plans.append((seed, make_plan(draw(seed).graph, host)))
        said = larger_than_recorded(*plans[-1])
        if said:
            return said
    found = programs.compare_many(
        [draw(seed) for seed in COMPILED_SEEDS], host, "gcc", samples=3, optimize="-O0"
    )
    return found.problems[0] if found.problems else ""
