"""The harness itself: faults planted in kernels must be seen, wherever the calls run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from isobit import targets
from isobit.codegen import board
from isobit.run.compilers import find
from isobit.targets import Isa

from . import runners
from .calls import Call, Pointer, Region
from .programs import HERE, IMAGE_BYTES

FAULTS = """
#include "runner.h"
#include <stdint.h>
#include <stddef.h>
#define N 13

static void good(void *const *p) {
    const int8_t *x = p[0];
    int8_t *y = p[1];
    for (int i = 0; i < N; i++) { y[i] = (int8_t)(x[i] ^ 1); }
}
static void wrong(void *const *p) {
    good(p);
    ((int8_t *)p[1])[N - 1] ^= 4;
}
static void reads_behind(void *const *p) {
    good(p);
    (void)((volatile const int8_t *)p[0])[N];
}
static void reads_before(void *const *p) {
    good(p);
    (void)((volatile const int8_t *)p[0])[-1];
}
static void writes_behind(void *const *p) {
    good(p);
    ((volatile int8_t *)p[1])[N] = 3;
}
static void writes_before(void *const *p) {
    good(p);
    ((volatile int8_t *)p[1])[-1] = 3;
}
static void writes_input(void *const *p) {
    good(p);
    ((volatile int8_t *)p[0])[2] = 77;
}
static void reads_scratch(void *const *p) {
    good(p);
    ((int8_t *)p[1])[0] = (int8_t)(((int8_t *)p[1])[0] + (((const int8_t *)p[2])[0] != 0x11));
}
static void deep_stack(void *const *p) {
    volatile int8_t local[2000];
    for (int i = 0; i < 2000; i++) { local[i] = (int8_t)i; }
    good(p);
    (void)local[5];
}
static void misaligned(void *const *p) {
    good(p);
    (void)*(volatile const uint32_t *)(const void *)((const uint8_t *)p[0] + 1);
}
void (*const contract_table[])(void *const *) = {
    contract_0, contract_1, contract_2, contract_3, contract_4,
    contract_5, contract_6, contract_7, contract_8, contract_9};
"""
NAMES = (
    "good",
    "wrong",
    "reads_behind",
    "reads_before",
    "writes_behind",
    "writes_before",
    "writes_input",
    "reads_scratch",
    "deep_stack",
    "misaligned",
)
N = 13


def build(name: str, folder: Path, *, apart: bool = False) -> Path:
    text = FAULTS
    for number, function in enumerate(NAMES):
        text = text.replace(f"static void {function}(", f"static void contract_{number}(")
    (folder / "faults.c").write_text(text.replace("good(p)", "contract_0(p)"))
    target = targets.load(name)
    sources = [folder / "faults.c", HERE / "runner.c"]
    include = [HERE, board.BOARD_DIR]
    defines = {"RUNNER_IMAGE_BYTES": f"{IMAGE_BYTES}u"} | ({"RUNNER_APART": ""} if apart else {})
    if target.isa is Isa.HOST:
        sources.append(board.BOARD_DIR / "semihost_host.c")
        flags = ("-fsanitize=undefined,address", "-fno-sanitize-recover=all") if apart else ()
        find("gcc", target).compile_program(
            sources, folder / "program", include_dirs=include, defines=defines, flags=flags
        )
        return folder / "program"
    find("zig", target).compile_elf(
        sources, folder / "program.elf", include_dirs=include, defines=defines, warnings=False
    )
    return folder / "program.elf"


def call(entry: int) -> Call:
    before = bytes(range(N))
    after = bytes(v ^ 1 for v in before)
    return Call(
        f"{NAMES[entry]} [0]",
        entry,
        (
            Region(before, before, 1, "input 0"),
            Region(bytes(N), after, 1, "output 0"),
            Region(bytes(8), None, 4, "scratch"),
        ),
        (Pointer(0), Pointer(1), Pointer(2)),
    )


def twice(entry: int) -> list[Call]:
    """Each buffer once at the end and once at the start of its pages."""
    return [call(entry), call(entry)]


@pytest.mark.usefixtures("need_emulators")
@pytest.mark.parametrize("name", ["cortex-m0plus", "cortex-m4", "rv32imc"])
def test_unicorn_sees_every_planted_fault(name: str, tmp_path: Path) -> None:
    program, target = build(name, tmp_path), targets.load(name)
    assert runners.run_on_unicorn(program, target, twice(0), check_alignment=True).problems == ()
    for entry, fault in enumerate(NAMES[1:], start=1):
        found = runners.run_on_unicorn(program, target, twice(entry), check_alignment=True).problems
        if fault == "misaligned" and target.unaligned_access:
            assert found == ()
            continue
        assert found, fault
    (text,) = runners.run_on_unicorn(program, target, twice(2)).problems
    assert (
        "reads_behind [0]: a read outside the memories: 1 bytes" in text and "contract_2+" in text
    )
    good = runners.run_on_unicorn(program, target, twice(0), count=True)
    assert good.instructions[0] == good.instructions[1] > N
    assert all(used < 64 for used in good.stack_bytes)


@pytest.mark.usefixtures("need_emulators")
def test_qemu_sees_what_guard_bytes_can_show(tmp_path: Path) -> None:
    target = targets.load("cortex-m55")
    if target.qemu is None or shutil.which(target.qemu.program) is None:
        pytest.skip("no QEMU for cortex-m55")
    program = build("cortex-m55", tmp_path)
    assert runners.run_on_qemu(program, target, twice(0)).problems == ()
    for fault in ("wrong", "writes_behind", "writes_before", "writes_input", "reads_scratch"):
        assert runners.run_on_qemu(program, target, twice(NAMES.index(fault))).problems, fault


@pytest.mark.usefixtures("need_gcc")
def test_host_sees_every_planted_fault_under_sanitizers(tmp_path: Path) -> None:
    if not runners.have_sanitizers():
        pytest.skip("gcc has no AddressSanitizer library here")
    program = build("host", tmp_path, apart=True)
    assert runners.run_host(program, twice(0)).problems == ()
    for fault in NAMES[1:]:
        if fault != "deep_stack":
            assert runners.run_host(program, twice(NAMES.index(fault))).problems, fault


@pytest.mark.usefixtures("need_gcc")
def test_host_sees_what_guard_bytes_can_show(tmp_path: Path) -> None:
    program = build("host", tmp_path)
    assert runners.run_host(program, twice(0)).problems == ()
    for fault in ("wrong", "writes_behind", "writes_before", "writes_input", "reads_scratch"):
        assert runners.run_host(program, twice(NAMES.index(fault))).problems, fault
