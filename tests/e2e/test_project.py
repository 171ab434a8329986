"""The generated C project: deterministic, warning-free, buildable by cmake and make, pure integer,
linkable twice.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from e2e.nets import make, train_a_little
from isobit import targets
from isobit.api.bundle import Bundle
from isobit.api.deployment import write_bundle
from isobit.run.compilers import find
from isobit.run.emulate import emulate
from isobit.run.golden import run_golden

CORES = ("host", "cortex-m0plus", "cortex-m4", "cortex-m33", "cortex-m55", "rv32imc")

pytestmark = pytest.mark.xdist_group("project")


@pytest.fixture(scope="module")
def models() -> dict[int, Any]:
    found = {number: make(number) for number in (3, 6)}
    for model in found.values():
        train_a_little(model)
    return found


@pytest.fixture(scope="module")
def bundle(models: dict[int, Any], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    deployed: Bundle = models[6].deploy(tmp_path_factory.mktemp("bundle") / "net6")
    return deployed


def run(command: list[str], cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_bytes_are_the_same_twice(models: dict[int, Any], tmp_path: Path) -> None:
    first, second = models[6].deploy(tmp_path / "a"), models[6].deploy(tmp_path / "b")
    files = sorted(p.relative_to(first.path) for p in first.path.rglob("*") if p.is_file())
    assert files == sorted(
        p.relative_to(second.path) for p in second.path.rglob("*") if p.is_file()
    )
    for name in files:
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes(), name


@pytest.mark.parametrize("core", CORES)
def test_cmake_and_make_build_it(models: dict[int, Any], core: str, tmp_path: Path) -> None:
    made = write_bundle(models[3].export(), targets.load(core), tmp_path / "net")
    run(["make", "-s"], made.path)
    run(["make", "-s", "lib"], made.path)
    target = targets.load(core)
    cross = (
        []
        if core == "host"
        else [
            "-DCMAKE_SYSTEM_NAME=Generic",
            "-DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY",
            f"-DCMAKE_C_COMPILER={target.gcc}",
        ]
    )
    run(["cmake", "-S", ".", "-B", "cmake-build", *cross], made.path)
    run(["cmake", "--build", "cmake-build"], made.path)
    assert (made.path / "cmake-build" / f"lib{'isobit_' + made.manifest['name']}.a").is_file()


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize("core", CORES[1:])
def test_object_has_no_floating_point_and_no_mutable_data(
    bundle: Bundle, core: str, compiler: str, tmp_path: Path
) -> None:
    made = write_bundle(bundle.graph, targets.load(core), tmp_path / "net")
    tool = find(compiler, targets.load(core))  # type: ignore[arg-type]  # one of the two kinds
    flags = tool.target.zig_flags if compiler == "zig" else tool.target.gcc_flags
    stem = made.manifest["name"]
    command = [
        *tool.program,
        *flags,
        "-std=c11",
        "-O2",
        "-ffreestanding",
        "-fno-unwind-tables",
        "-Wall",
        "-Wextra",
        "-Wconversion",
        "-Werror",
        "-Isrc",
        "-c",
        f"src/{stem}.c",
        "-o",
        "net.o",
    ]
    if compiler == "zig":
        command.append("-fno-sanitize=undefined")
    run(command, made.path)
    with (made.path / "net.o").open("rb") as stream:
        file = ELFFile(stream)
        for section in file.iter_sections():
            writable = section["sh_flags"] & 3 == 3 and not section.name.startswith(".ARM")
            assert not (writable and section["sh_size"]), section.name
        undefined = {
            s.name
            for s in file.get_section_by_name(".symtab").iter_symbols()
            if s["st_shndx"] == "SHN_UNDEF"
        } - {""}
        exported = {
            s.name
            for s in file.get_section_by_name(".symtab").iter_symbols()
            if s["st_info"]["bind"] == "STB_GLOBAL" and s["st_shndx"] != "SHN_UNDEF"
        }
    allowed = (
        "__aeabi_lmul",
        "__aeabi_lasr",
        "__aeabi_llsl",
        "__aeabi_llsr",
        "__aeabi_idiv",
        "__aeabi_memcpy",
        "__aeabi_uidiv",
        "__aeabi_ldivmod",
        "__aeabi_memset",
        "__aeabi_memclr",
        "memcpy",
        "memset",
        "__muldi3",
        "__ashrdi3",
        "__ashldi3",
        "__lshrdi3",
        "__divdi3",
    )
    assert all(name.startswith(allowed) for name in undefined), undefined
    assert exported == {f"isobit_{stem}_{part}" for part in ("run", "input", "output")}
    listing = run([_objdump(core), "-d", "net.o"], made.path)
    mnemonics = {
        parts[2].split()[0]
        for line in listing.splitlines()
        if len(parts := line.split("\t", 2)) == 3
    }
    floats = {m for m in mnemonics if m.startswith(("v", "f")) and not m.startswith(("fence",))}
    if core != "cortex-m55":  # Helium's integer instructions also start with v
        assert not floats, floats


def _objdump(core: str) -> str:
    return "riscv64-unknown-elf-objdump" if core == "rv32imc" else "arm-none-eabi-objdump"


MAIN = """
#include "net3.h"
#include "net6.h"
#include "semihost.h"

static uint8_t first[ISOBIT_NET3_ARENA_BYTES] __attribute__((aligned(4)));
static uint8_t second[ISOBIT_NET6_ARENA_BYTES] __attribute__((aligned(4)));
static uint8_t input[ISOBIT_NET3_INPUT_BYTES + ISOBIT_NET6_INPUT_BYTES];

extern "C" int main() {
    const int32_t in = semihost_open("input.bin", SEMIHOST_READ_BINARY);
    const int32_t out = semihost_open("output.bin", SEMIHOST_WRITE_BINARY);
    semihost_read(in, input, sizeof input);
    int8_t classes[10];
    int status = isobit_net3_run(first, reinterpret_cast<const int8_t *>(input), classes);
    semihost_write(out, classes, sizeof classes);
    for (unsigned i = 0; i < ISOBIT_NET6_INPUT_BYTES; i++)
        isobit_net6_input(second)[i] = input[ISOBIT_NET3_INPUT_BYTES + i];
    status |= isobit_net6_run(second, nullptr, nullptr);
    semihost_write(out, isobit_net6_output(second), ISOBIT_NET6_OUTPUT_BYTES);
    if (isobit_net3_run(nullptr, nullptr, nullptr) != 1)
        status |= 2;
    if (isobit_net3_run(first + 1, nullptr, nullptr) != 1)
        status |= 2;
    semihost_close(out);
    return status;
}
"""


def test_two_networks_and_a_cpp_main_link_into_one_elf(
    models: dict[int, Any], tmp_path: Path
) -> None:
    target = targets.load("cortex-m4")
    program = shutil.which("arm-none-eabi-g++")
    assert program is not None
    includes, objects = [], []
    for number in (3, 6):
        made = models[number].deploy(tmp_path / f"net{number}")
        includes.append(f"-I{made.path / 'src'}")
        run(["make", "-s", "lib"], made.path)
        objects.append(str(made.path / "build" / f"libnet{number}.a"))
    board = tmp_path / "net3" / "src" / "board"
    (tmp_path / "main.cpp").write_text(
        MAIN.replace('#include "semihost.h"', 'extern "C" {\n#include "semihost.h"\n}').replace(
            'extern "C" {', 'extern "C" {\n#define _Noreturn [[noreturn]]', 1
        )
    )
    flags = [
        *target.gcc_flags,
        "-O2",
        "-ffreestanding",
        "-fno-builtin",
        "-fno-exceptions",
        "-fno-rtti",
    ]
    run([program, *flags, *includes, f"-I{board}", "-c", "main.cpp", "-o", "main.o"], tmp_path)
    for name in ("startup_arm", "semihost", "memory"):
        run(
            [
                target.gcc,
                *flags[:-2],
                "-std=c11",
                f"-I{board}",
                "-c",
                str(board / f"{name}.c"),
                "-o",
                f"{name}.o",
            ],
            tmp_path,
        )
        objects.append(f"{name}.o")
    script = str(board / "firmware.ld")
    run(
        [
            target.gcc,
            *target.gcc_flags,
            "-nostdlib",
            "-nostartfiles",
            "-static",
            "-T",
            script,
            "-Wl,-e,Reset",
            "main.o",
            *objects,
            "-lgcc",
            "-o",
            "both.elf",
        ],
        tmp_path,
    )
    rng = np.random.default_rng(1)
    codes, expected = [], b""
    for number in (3, 6):
        graph = models[number].export()
        kind = graph.inputs[0].type
        x = rng.integers(kind.dtype.low, kind.dtype.high + 1, (1, *kind.shape[1:])).astype(
            kind.dtype.numpy
        )
        codes.append(x)
        expected += run_golden(graph, x)[graph.outputs[0]].tobytes()
    blob = b"".join(x.tobytes() for x in codes)
    ran = emulate(tmp_path / "both.elf", target, {"input.bin": blob}, count=False)
    assert ran.exit_code == 0
    assert ran.files["output.bin"] == expected
