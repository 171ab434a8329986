"""One program per operator and compiler: every distinct kernel instance, callable by number.

The generated C is what a network would contain (the same instances), and for each of them a
function `contract_<n>(void *const *p)` that passes the pointers on. `runner.c` is its `main`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from isobit.codegen import board
from isobit.codegen.network import Instance, instance_lines, parameter_list
from isobit.core.features import Feature
from isobit.ops.base import Kernel, Sample
from isobit.ops.registry import load_ops
from isobit.run.compilers import Kind, Optimize, find
from isobit.targets import Isa, Target

from . import calls, cases

HERE = Path(__file__).parent
IMAGE_BYTES = 128 * 1024
"""Room for all buffers of one call and their guard bytes, which every emulated core has."""
RUNTIME = Path(str(package_files("isobit.codegen"))) / "runtime"


@dataclass(frozen=True, slots=True)
class Legal:
    """A kernel that may compute a sample, and the number of its instance in the program."""

    kernel: type[Kernel]
    sample: Sample[Any]
    entry: int


@dataclass(frozen=True, slots=True)
class Variant:
    """How a program is compiled. `apart`: every region is a heap block of its own (for
    AddressSanitizer).
    """

    name: str
    kind: Kind = "zig"
    optimize: Optimize = ""
    flags: tuple[str, ...] = ()
    apart: bool = False


@cache
def instances(
    name: str, features: frozenset[Feature]
) -> tuple[tuple[Instance, ...], tuple[Legal, ...]]:
    """Every instance that an operator's samples need on a core with `features`."""
    registry = load_ops()
    found: dict[Any, Instance] = {}
    legal = []
    for kernel in registry.kernels.get(name, ()):
        if kernel.features - features:
            continue
        for sample in cases.samples(name):
            if kernel.when(sample.attrs, sample.types):
                continue
            key = instance_key(kernel, sample)
            if key not in found:
                symbol = f"instance_{len(found)}"
                found[key] = Instance(symbol, kernel, key[1], key[2], (sample.label,))
            legal.append(Legal(kernel, sample, list(found).index(key)))
    return tuple(found.values()), tuple(legal)


def instance_key(
    kernel: type[Kernel], sample: Sample[Any]
) -> tuple[type[Kernel], tuple[tuple[str, int], ...], tuple[str, ...]]:
    """What decides about a kernel's instance: it must follow from types alone."""
    op = load_ops().op(kernel.op)
    packed = calls.packed_of(op, kernel, sample)
    parameters = parameter_list(
        len(cases.read_only(op, sample.types.inputs)),
        packed,
        len(sample.types.outputs),
        kernel.scratch_bytes(sample.attrs, sample.types) > 0,
    )
    return kernel, tuple(kernel.geometry(sample.attrs, sample.types).items()), parameters


def source_text(found: Sequence[Instance]) -> str:
    """The generated C."""
    kernels = {instance.kernel: None for instance in found}
    lines = ['#include "isobit_rt.h"', '#include "runner.h"', ""]
    lines += [f'#include "{_file(k)}"' for k in kernels if k.source().suffix == ".c"]
    for number, instance in enumerate(found):
        arguments = ", ".join(f"p[{i}]" for i in range(len(instance.parameters)))
        lines += [
            "",
            *instance_lines(instance),
            f"static void contract_{number}(void *const *p) {{",
        ]
        lines += [f"    {instance.symbol}({arguments});", "}"]
    table = ", ".join(f"contract_{number}" for number in range(len(found)))
    lines += ["", f"void (*const contract_table[])(void *const *) = {{{table}}};"]
    return "\n".join(lines) + "\n"


def build(name: str, target: Target, variant: Variant, shared: Path) -> Path:
    """Compile an operator's program for a target, once per test session (all workers share
    `shared`).
    """
    output = (
        shared
        / f"{name}-{target.name}-{variant.name}"
        / ("program" if target.isa is Isa.HOST else "program.elf")
    )
    if output.is_file():
        return output
    found, _ = instances(name, target.features)
    # A worker that comes second compiles in its own folder; the compiler renames complete files
    # only.
    folder = output.parent / f"src-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    assembly = []
    for kernel in {instance.kernel: None for instance in found}:
        place = folder / _file(kernel)
        shutil.copyfile(kernel.source(), place)
        if place.suffix == ".S":
            assembly.append(place)
    (folder / "program.c").write_text(source_text(found))
    compiler = find(variant.kind, target)
    sources = [folder / "program.c", *assembly, HERE / "runner.c"]
    defines = {"RUNNER_IMAGE_BYTES": f"{IMAGE_BYTES}u"}
    if variant.apart:
        defines["RUNNER_APART"] = ""
    include = [HERE, folder, RUNTIME, board.BOARD_DIR]
    if target.isa is Isa.HOST:
        sources.append(board.BOARD_DIR / "semihost_host.c")
        compiler.compile_program(
            sources,
            output,
            include_dirs=include,
            defines=defines,
            flags=variant.flags,
            optimize=variant.optimize,
        )
    else:
        compiler.compile_elf(
            sources,
            output,
            include_dirs=include,
            defines=defines,
            flags=variant.flags,
            optimize=variant.optimize,
        )
    return output


def _file(kernel: type[Kernel]) -> str:
    return f"{kernel.op}_{kernel.stem}{kernel.source().suffix}"
