"""Does the battery see a fault in C? The operator's part of it, in seconds.

The operator's contract program (`tests/contract`), with the mutated file in place of its source,
computes every sample of the operator, apart and overlapping, between guard bytes; what survives
runs again under AddressSanitizer and UBSan with every buffer a heap block of its own. Kernels for
other cores run in Unicorn. A run-time header goes through kernels that include it, and then through
random networks or through every function by itself.

Nothing in the source tree is touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mutation.children import ask, contained
from mutation.faults import Fault
from mutation.verdicts import INVALID, KILLED, ROOT, SURVIVED, Verdict, use_repository

if TYPE_CHECKING:
    from isobit.run.compilers import Kind

WARM_TIMEOUT_S = 10.0
NETWORKS_TIMEOUT_S = 90.0
"""A fault that makes a loop endless is killed by these."""
HEADER_KERNELS: dict[str, tuple[tuple[str, str], ...]] = {
    "isobit_rt.h": (
        ("requantize", "reference"),
        ("linear", "reference"),
        ("add", "reference"),
        ("clamp", "reference"),
        ("linear", "s16"),
        ("lstm", "reference"),
    ),
    "isobit_dynamic.h": (
        ("dynamic_linear", "reference"),
        ("dynamic_linear", "chained"),
        ("dynamic_conv2d", "reference"),
        ("dynamic_conv2d", "chained"),
        ("dynamic_depthwise_conv2d", "reference"),
        ("dynamic_depthwise_conv2d", "chained"),
    ),
    "isobit_dsp.h": (("conv2d", "im2col_dsp"), ("linear", "dual_dsp")),
}
"""Operators and kernels that include a run-time header and between them use every function of it
(`tests/mutants/test_headers.py`).
"""
HEADER_NETWORKS = 40
MOST_SEEDS = 400
"""Among how many random networks to look for as many that use a header."""

SANITIZER_OPTIONS = {"ASAN_OPTIONS": "detect_leaks=0", "PATH": os.environ.get("PATH", "")}


@dataclass(frozen=True, slots=True)
class Program:
    """How a bench is compiled for this computer: flags, objects that never change, calls and what
    must come of them.
    """

    name: str
    flags: tuple[str, ...]
    objects: tuple[Path, ...]
    record: Path
    decided: np.ndarray
    """bool [bytes]: which bytes that come back a right kernel leaves no choice about."""
    answer: np.ndarray
    """uint8 [decided bytes]: what those are."""


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

    own = bench(op, stem)
    verdict = _ask(own, own.file, text)
    if verdict.status == SURVIVED and stem == "reference" and op in parts.CASES:
        return _ask_parts(own, own.file, op, text)
    return verdict


def _ask_parts(prepared: Bench, file: str, part: str, text: str) -> Verdict:
    """Inner functions, whose low bits the operator's results do not show (`tests/mutants`)."""
    from mutants import parts

    with tempfile.TemporaryDirectory(dir=prepared.folder) as temporary:
        changed = Path(temporary)
        (changed / file).write_text(text, encoding="utf-8")
        include = [changed, prepared.folder]
        said = parts.compile_parts(part, changed / "parts", include, ("-w",))
        said = said or parts.run_parts(part, changed / "parts", changed, WARM_TIMEOUT_S)
    return Verdict(KILLED, f"parts: {said[:140]}") if said else Verdict(SURVIVED)


def _check_header(name: str, text: str) -> Verdict:
    if name == "isobit_dsp.h":
        return _check_dsp(name, text)
    for op, stem in HEADER_KERNELS[name]:
        verdict = _ask(bench(op, stem), name, text)
        if verdict.status != SURVIVED:
            return verdict
    return _ask_networks(name, text)


def _check_dsp(name: str, text: str) -> Verdict:
    """Plain C on this computer, function by function; the kernels on a core, both compilers."""
    kernels = [bench(op, stem) for op, stem in HEADER_KERNELS[name]]
    verdict = _ask_parts(kernels[0], name, "dsp", text)
    for prepared in kernels:
        for kind in ("gcc", "zig"):
            if verdict.status == SURVIVED:
                verdict = _ask(prepared, name, text, kind)
    return verdict


@cache
def bench(op: str, stem: str) -> Bench:
    """Prepare a kernel: sources in a folder of this process, calls, and proof that all is well
    without a fault.
    """
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
    own = kernel.source().read_text(encoding="utf-8")
    if not host:
        found_bench = Bench(folder, file, target, tuple(listed), ())
        sound = _ask(found_bench, file, own)
        assert sound.status == SURVIVED, f"{op} {stem} fails without a fault: {sound.by}"
        return found_bench
    plain = _program(folder, "plain", ("-O0",), listed)
    apart = [c for c in listed if ", output " not in c.label]
    sanitized = ("-O1", "-DRUNNER_APART", "-fsanitize=undefined,address")
    strict = _program(folder, "sanitized", (*sanitized, "-fno-sanitize-recover=all"), apart)
    return Bench(folder, file, target, tuple(listed), (plain, strict))


def _program(folder: Path, name: str, flags: tuple[str, ...], listed: Sequence[Any]) -> Program:
    """Compile what no fault touches, and run once without a fault: every call must be right."""
    from contract import programs, runners

    flags = (*flags, f"-DRUNNER_IMAGE_BYTES={programs.IMAGE_BYTES}u", "-std=c11", "-w")
    objects: list[Path] = []
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
    images = [runners._image(call) for call in listed]
    record.write_bytes(b"".join(image.record for image in images))
    subprocess.run([str(program)], cwd=place, check=True, env=SANITIZER_OPTIONS)
    decided = np.concatenate([_decided(*pair) for pair in zip(listed, images, strict=True)])
    answer = np.fromfile(place / "output.bin", np.uint8)
    return Program(name, flags, tuple(objects), record, decided, answer[decided])


def _decided(call: Any, image: Any) -> np.ndarray:
    """Bool [bytes of the image]: False in scratch, whose bytes are free afterwards; the guard bytes
    around it are not.
    """
    found = np.ones(len(image.before), bool)
    for region, (offset, size) in zip(call.regions, image.places, strict=True):
        found[offset : offset + size] = region.after is not None
    return found


def _ask(prepared: Bench, file: str, text: str, kind: Kind = "gcc") -> Verdict:
    """Compile with `file` replaced and run every call; `kind` is for other cores."""
    with tempfile.TemporaryDirectory(dir=prepared.folder) as temporary:
        changed = Path(temporary)
        # A quoted include is looked for beside the file that has it first: these move too.
        for moved in ("program.c", prepared.file):
            (changed / moved).write_text((prepared.folder / moved).read_text())
        (changed / file).write_text(text, encoding="utf-8")
        if not prepared.programs:
            return _ask_core(prepared, changed, kind)
        for program in prepared.programs:
            verdict = _ask_host(prepared, program, changed)
            if verdict.status != SURVIVED:
                return verdict
        return Verdict(SURVIVED)


def _ask_host(prepared: Bench, program: Program, changed: Path) -> Verdict:
    output = changed / program.name
    command = [
        "gcc",
        *program.flags,
        f"-I{changed}",
        f"-I{prepared.folder}",
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
            preexec_fn=contained(WARM_TIMEOUT_S),
        )
    except subprocess.TimeoutExpired:
        return Verdict(KILLED, f"{program.name}: endless")
    if ran.returncode != 0:
        words = [
            line for line in ran.stderr.decode(errors="replace").splitlines() if "rror" in line
        ]
        return Verdict(KILLED, f"{program.name}: exit {ran.returncode} {' '.join(words)[:120]}")
    got = np.fromfile(changed / "output.bin", np.uint8)
    if got.shape != program.decided.shape:
        return Verdict(KILLED, f"{program.name}: {got.size} bytes of {program.decided.size}")
    wrong = not np.array_equal(got[program.decided], program.answer)
    return Verdict(KILLED, f"{program.name}: other bytes") if wrong else Verdict(SURVIVED)


def _ask_core(prepared: Bench, changed: Path, kind: Kind) -> Verdict:
    from contract import programs
    from isobit.core.errors import CompileFailed
    from isobit.run.compilers import find

    (changed / "runner.c").write_text((prepared.folder / "runner.c").read_text())
    output = changed / "program.elf"
    try:
        find(kind, prepared.target).compile_elf(
            [changed / "program.c", changed / "runner.c"],
            output,
            include_dirs=[changed, prepared.folder],
            defines={"RUNNER_IMAGE_BYTES": f"{programs.IMAGE_BYTES}u"},
            flags=["-w"],
            optimize="-O1",
            warnings=False,
        )
    except CompileFailed as error:
        return Verdict(INVALID, str(error)[:160])
    said = ask(lambda: _run_on_core(prepared, output), 4 * WARM_TIMEOUT_S)
    return Verdict(KILLED, f"unicorn: {said[:160]}") if said != "sound" else Verdict(SURVIVED)


def _run_on_core(prepared: Bench, program: Path) -> str:
    from contract import runners

    twice = [c for call in prepared.calls for c in (call, call)]
    ran = runners.run_on_unicorn(program, prepared.target, twice)
    return ran.problems[0] if ran.problems else "sound"


def _ask_networks(name: str, text: str) -> Verdict:
    """Random networks that use a run-time header, with another one; without a fault they must be
    right.
    """
    _prove_networks(name)
    said = _said_by_networks(name, text)
    return Verdict(KILLED, f"networks: {said[:160]}") if said != "sound" else Verdict(SURVIVED)


@cache
def _prove_networks(name: str) -> None:
    from contract import programs

    said = _said_by_networks(name, (programs.RUNTIME / name).read_text(encoding="utf-8"))
    assert said == "sound", f"random networks fail without a fault: {said}"


def _said_by_networks(name: str, text: str) -> str:
    """Asked in a child: what it starts may never end."""
    from contract import programs

    seeds = _seeds(name)
    with tempfile.TemporaryDirectory() as temporary:
        for header in programs.RUNTIME.glob("*.h"):  # networks may include any of them
            shutil.copyfile(header, Path(temporary) / header.name)
        (Path(temporary) / name).write_text(text, encoding="utf-8")
        return ask(lambda: _compare_networks(seeds, Path(temporary)), NETWORKS_TIMEOUT_S)


@cache
def _seeds(name: str) -> tuple[int, ...]:
    """The first networks with an operator whose kernels include the header."""
    from property.graphs import draw

    ops = {op for op, _ in HEADER_KERNELS[name]}
    using = (s for s in range(MOST_SEEDS) if ops & {node.op for node in draw(s).graph.nodes})
    found = tuple(islice(using, HEADER_NETWORKS))
    assert len(found) == HEADER_NETWORKS, f"{len(found)} networks use {name}"
    return found


def _compare_networks(seeds: Sequence[int], runtime: Path) -> str:
    from isobit import targets
    from property import programs
    from property.graphs import draw

    programs.RUNTIME = runtime
    drawn = [draw(seed) for seed in seeds]
    found = programs.compare_many(
        drawn, targets.load("host"), "gcc", samples=4, optimize="-O0", flags=("-w",)
    )
    return found.problems[0] if found.problems else "sound"


def _first_line(blob: bytes) -> str:
    lines = [line for line in blob.decode(errors="replace").splitlines() if "error" in line]
    return lines[0][:160] if lines else "the compiler failed"
