"""Every kernel equals `integer` bit for bit, stays in its buffers and keeps what it declares."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from isobit import targets
from isobit.ops.registry import load_ops
from isobit.targets import Target

from . import calls, cases, programs, runners
from .programs import Variant

HOST = {
    v.name: v
    for v in (
        Variant("gcc-O0", "gcc", "-O0"),
        Variant("gcc-O2", "gcc", "-O2"),
        Variant("zig", "zig"),
        Variant(
            "sanitized",
            "gcc",
            "-O1",
            (
                "-fsanitize=undefined,address",
                "-fno-sanitize-recover=all",
                "-fno-omit-frame-pointer",
            ),
            apart=True,
        ),
    )
}
FIRMWARE = Variant("zig")
ROOM_BYTES = 512 * 1024
VARIATIONS = 6
"""Other inputs and constants per sample whose instruction counts are compared."""


@pytest.mark.usefixtures("need_compiler", "need_gcc")
@pytest.mark.parametrize("variant", HOST)
def test_kernels_host(op: str, variant: str, shared: Path) -> None:
    host = targets.load("host")
    chosen = HOST[variant]
    if chosen.apart and not have_sanitizers():
        pytest.skip("gcc has no AddressSanitizer library here")
    program = programs.build(op, host, chosen, shared)
    found = [*_apart(op, host), *(() if chosen.apart else _overlapping(op, host))]
    _report(runners.run_host(program, found))


@pytest.mark.usefixtures("need_emulators")
def test_kernels_core(op: str, core: str, scale: str, shared: Path) -> None:
    target = _emulated(core)
    program = programs.build(op, target, FIRMWARE, shared)
    # Twice each: once every buffer at the end of its pages, once at the start (`run_on_unicorn`
    # alternates).
    found = [twice for call in _apart(op, target) for twice in (call, call)]
    _report(_run(program, target, found, scale))


@pytest.mark.usefixtures("need_emulators")
def test_overlap(op: str, core: str, scale: str, shared: Path) -> None:
    """The claim is executed, not judged: a kernel may be able to share more than it declares."""
    target = _emulated(core)
    found = list(_overlapping(op, target))
    if found:
        program = programs.build(op, target, FIRMWARE, shared)
        _report(_run(program, target, found, scale))


@pytest.mark.usefixtures("need_emulators")
def test_stack_and_scratch(op: str, shared: Path) -> None:
    """Scratch ends at an unmapped page (in `test_kernels_core` too); the stack has what a board
    reserves at least.
    """
    target = _emulated("cortex-m4")
    program = programs.build(op, target, FIRMWARE, shared)
    found = [c for c in _apart(op, target) if c.label.endswith("[0]")]
    ran = runners.run_on_unicorn(program, target, [c for call in found for c in (call, call)])
    _report(ran)
    assert all(0 <= used < 512 for used in ran.stack_bytes), (
        "a kernel's stack grows beyond 512 bytes"
    )


@pytest.mark.usefixtures("need_emulators")
def test_data_independent(op: str, shared: Path) -> None:
    """Other numbers of the same types: the same instance, `integer`'s result and the same
    instruction count.
    """
    target = _emulated("cortex-m4")
    program = programs.build(op, target, FIRMWARE, shared)
    definition = load_ops().op(op)
    listed: list[tuple[str, bool, calls.Call]] = []
    for legal in programs.instances(op, target.features)[1]:
        rng = calls.rng_of(legal.sample.label)
        same = [
            legal.sample,
            *(cases.varied(definition, legal.sample, rng) for _ in range(VARIATIONS)),
        ]
        key = programs.instance_key(legal.kernel, legal.sample)
        for sample in same:
            assert programs.instance_key(legal.kernel, sample) == key, (
                "training would change the code"
            )
            for call in calls.apart(definition, legal.kernel, sample, legal.entry, at_most=1):
                listed.append(
                    (
                        f"{legal.kernel.stem}: {legal.sample.label}",
                        legal.kernel.data_independent,
                        call,
                    )
                )
    ran = runners.run_on_unicorn(program, target, [call for _, _, call in listed], count=True)
    _report(ran)
    counts: dict[str, set[int]] = {}
    for (label, independent, _), count in zip(listed, ran.instructions, strict=True):
        if independent:
            counts.setdefault(label, set()).add(count)
    differing = {label: sorted(found) for label, found in counts.items() if len(found) > 1}
    assert not differing, f"declared data_independent: {differing}"
    assert all(min(found) > 0 for found in counts.values())


def test_every_sample_has_a_kernel(op: str) -> None:
    """On the smallest cores and on this computer."""
    for name in ("host", "cortex-m0plus", "rv32imc"):
        target = targets.load(name)
        legal = {id(entry.sample) for entry in programs.instances(op, target.features)[1]}
        missing = [s.label for s in cases.samples(op) if id(s) not in legal]
        assert not missing, f"{name}: no kernel for {missing}"


def _apart(op: str, target: Target) -> Iterator[calls.Call]:
    for legal in programs.instances(op, target.features)[1]:
        yield from calls.apart(load_ops().op(op), legal.kernel, legal.sample, legal.entry)


def _overlapping(op: str, target: Target) -> Iterator[calls.Call]:
    for legal in programs.instances(op, target.features)[1]:
        yield from calls.overlapping(load_ops().op(op), legal.kernel, legal.sample, legal.entry)


def _roomy(target: Target) -> Target:
    """The core with memory for the battery's program: kernels do not know how much there is."""
    if min(target.ram_bytes, target.flash_bytes) >= ROOM_BYTES:
        return target
    regions = (replace(r, size_bytes=max(r.size_bytes, ROOM_BYTES)) for r in target.regions)
    return replace(target, regions=tuple(regions))


def _emulated(core: str) -> Target:
    target = _roomy(targets.load(core))
    if target.unicorn_model:
        return target
    if target.qemu is None or shutil.which(target.qemu.program) is None:
        pytest.skip(f"no QEMU for {core}")
    return target.on_qemu()


def _run(program: Path, target: Target, found: list[calls.Call], scale: str) -> runners.Ran:
    if not target.unicorn_model:
        return runners.run_on_qemu(program, target, found)
    # Watching every access is slow. In quick it is left to kernels that are wider than their
    # elements:
    # from plain C the compiler makes no misaligned access, and UBSan sees the casts that could.
    widest = max(r.alignment_bytes for c in found for r in c.regions if r.what.startswith("input"))
    watched = scale == "full" or widest > 1
    return runners.run_on_unicorn(program, target, found, check_alignment=watched)


def _report(ran: runners.Ran) -> None:
    assert not ran.problems, f"{len(ran.problems)} problems\n" + "\n".join(ran.problems[:12])


@cache
def have_sanitizers() -> bool:
    return runners.have_sanitizers()


def test_a_wrong_output_is_seen() -> None:
    """The comparison itself: one byte of a region that differs is a problem."""
    region = calls.Region(b"\0\0", b"\1\2", 1, "output 0")
    call = calls.Call("case", 0, (region,), (calls.Pointer(0),))
    assert list(calls.problems(call, (b"\1\2",))) == []
    (text,) = calls.problems(call, (bytes(np.array([1, 3], np.uint8)),))
    assert "output 0: 1 of 2 bytes differ, first at 1: want 2, got 3" in text
