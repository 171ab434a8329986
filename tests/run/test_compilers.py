"""Compilers: what is found, what a failure says, what lies on the disk afterwards."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from isobit import targets
from isobit.codegen import board
from isobit.core.errors import (
    BadArgument,
    CompileFailed,
    FileUnwritable,
    ToolMissing,
    UnknownName,
)
from isobit.run import compilers
from isobit.run.compilers import Compiled, Kind, find, shared_suffix
from isobit.targets import Region

Build = Callable[[str, Kind, str], Compiled]

MAIN = "int main(void);\nint main(void) { return 0; }\n"


def source(folder: Path, text: str, name: str = "main.c") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("kind", ["zig", "gcc"])
def test_compilers_report_stack_frames(build: Build, kind: Kind) -> None:
    for name in ("cortex-m0plus", "cortex-m4", "rv32imc"):
        frames = build(name, kind, "toy").stack_frames
        assert 64 <= frames["toy_scale"] <= 160
        assert frames["isobit_toy_run"] <= 48


def test_compilers_say_their_version(build: Build) -> None:
    build("cortex-m4", "zig", "toy")
    zig = find("zig", targets.load("cortex-m4"))
    assert zig.version.startswith("zig 0.")
    assert "(clang 2" in zig.version


@pytest.mark.parametrize("kind", ["zig", "gcc"])
def test_compile_elf_quotes_the_compiler_and_leaves_nothing(
    build: Build, tmp_path: Path, kind: Kind
) -> None:
    build("cortex-m4", kind, "toy")
    broken = source(tmp_path, MAIN + "int unused(int x) { return undeclared; }\n" * 30)
    output = tmp_path / "out" / "a.elf"
    with pytest.raises(CompileFailed) as caught:
        find(kind, targets.load("cortex-m4")).compile_elf([broken], output)
    text = str(caught.value)
    assert "undeclared" in text
    assert "more lines" in text
    assert "The command was:" in text
    assert len(text.splitlines()) <= 24
    assert list(output.parent.iterdir()) == []


def test_compile_elf_keeps_the_old_file_when_it_fails(build: Build, tmp_path: Path) -> None:
    build("cortex-m4", "zig", "toy")
    output = tmp_path / "a.elf"
    output.write_bytes(b"old")
    with pytest.raises(CompileFailed):
        find("zig", targets.load("cortex-m4")).compile_elf([source(tmp_path, "}")], output)
    assert output.read_bytes() == b"old"


def test_compile_elf_warns_only_if_asked(build: Build, tmp_path: Path) -> None:
    build("cortex-m4", "zig", "toy")
    compiler = find("zig", targets.load("cortex-m4"))
    careless = source(tmp_path, MAIN + "char f(int x);\nchar f(int x) { return x; }\n")
    compiler.compile_elf([careless], tmp_path / "a.elf", warnings=False)
    with pytest.raises(CompileFailed, match="conversion"):
        compiler.compile_elf([careless], tmp_path / "b.elf")


@pytest.mark.parametrize("kind", ["zig", "gcc"])
def test_compile_elf_is_reproducible_at_every_level(
    build: Build, tmp_path: Path, kind: Kind
) -> None:
    build("cortex-m4", kind, "toy")
    compiler = find(kind, targets.load("cortex-m4"))
    main = source(tmp_path, MAIN)
    levels: tuple[compilers.Optimize, ...] = ("-O0", "-O3", "-Os")
    for level in levels:
        blobs = [
            compiler.compile_elf([main], tmp_path / name, optimize=level).path.read_bytes()
            for name in ("first.elf", "second.elf")
        ]
        assert blobs[0] == blobs[1]


def test_compile_elf_fails_when_ram_is_too_small(build: Build, tmp_path: Path) -> None:
    build("cortex-m4", "zig", "toy")
    big = source(
        tmp_path, "static volatile char arena[65536 - 512];\n" + MAIN.replace("0;", "arena[0];")
    )
    with pytest.raises(CompileFailed, match="RAM overflow"):
        find("zig", targets.load("nucleo-l432kc")).compile_elf([big], tmp_path / "a.elf")
    find("zig", targets.load("nucleo-l4r5zi")).compile_elf([big], tmp_path / "b.elf")


@pytest.mark.parametrize("kind", ["zig", "gcc"])
def test_compile_elf_places_data_in_a_second_ram(build: Build, tmp_path: Path, kind: Kind) -> None:
    build("cortex-m4", kind, "toy")
    plain = targets.load("cortex-m4")
    ccm = Region(name="CCM", kind="ram", base=0x10000000, size_bytes=8192)
    target = replace(plain, regions=(*plain.regions, ccm))
    text = '__attribute__((section(".ccm"))) volatile char fast[4096];\n'
    main = source(tmp_path, text + MAIN.replace("0;", "fast[0];"))
    elf = find(kind, target).compile_elf([main], tmp_path / "a.elf").path
    with elf.open("rb") as stream:
        (symbol,) = ELFFile(stream).get_section_by_name(".symtab").get_symbol_by_name("fast")
    assert symbol["st_value"] == 0x10000000


def test_compile_elf_stops_at_the_time_limit(build: Build, tmp_path: Path) -> None:
    build("cortex-m4", "zig", "toy")
    with pytest.raises(CompileFailed, match="still running at the time limit"):
        find("zig", targets.load("cortex-m4")).compile_elf(
            [source(tmp_path, MAIN)], tmp_path / "a.elf", timeout_s=1e-4
        )


def test_compile_elf_refuses_a_folder_it_cannot_write(build: Build, tmp_path: Path) -> None:
    build("cortex-m4", "zig", "toy")
    with pytest.raises(FileUnwritable):
        find("zig", targets.load("cortex-m4")).compile_elf(
            [source(tmp_path, MAIN)], tmp_path / "main.c" / "a.elf"
        )


@pytest.mark.parametrize("kind", ["zig", "gcc"])
def test_compile_shared_makes_a_library_to_call(build: Build, tmp_path: Path, kind: Kind) -> None:
    build("cortex-m4", kind, "toy")
    host = targets.load("host")
    text = "int add(int a);\nint add(int a) { return a + STEP; }\n"
    flags = ("-fsanitize=undefined", "-fno-sanitize-recover") if kind == "gcc" else ()
    library = find(kind, host).compile_shared(
        [source(tmp_path, text)],
        tmp_path / f"add{shared_suffix()}",
        defines={"STEP": "40"},
        flags=flags,
        optimize="-O0",
    )
    assert ctypes.CDLL(str(library.path)).add(2) == 42


def test_compile_refuses_the_wrong_kind_of_target(build: Build, tmp_path: Path) -> None:
    build("cortex-m4", "zig", "toy")
    with pytest.raises(BadArgument, match="firmware"):
        find("zig", targets.load("host")).compile_elf([], tmp_path / "a.elf")
    with pytest.raises(BadArgument, match="shared library"):
        find("zig", targets.load("cortex-m4")).compile_shared([], tmp_path / "a.so")


def test_find_says_how_to_install_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolMissing, match="apt install gcc-arm-none-eabi"):
        find("gcc", targets.load("cortex-m4"))
    with pytest.raises(ToolMissing, match="apt install gcc-riscv64-unknown-elf"):
        find("gcc", targets.load("rv32imc"))
    monkeypatch.setattr(compilers.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ToolMissing, match=r"pip install isobit\[build\]"):
        find("zig", targets.load("cortex-m4"))
    with pytest.raises(UnknownName, match="zig or gcc"):
        find("icc", targets.load("cortex-m4"))  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell script")
def test_find_refuses_a_compiler_that_does_not_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = source(tmp_path, "#!/bin/sh\nexit 3\n", "arm-none-eabi-gcc")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="does not start"):
        find("gcc", targets.load("cortex-m4"))


def test_board_needs_no_libc() -> None:
    """Every header that firmware's board code includes is freestanding C11 or its own."""
    chips = [target for target in map(targets.load, targets.names()) if target.regions]
    files = {path for target in chips for path in board.startup_sources(target)} | {board.HARNESS}
    includes = {
        line.split()[1]
        for path in files
        for line in path.read_text().splitlines()
        if line.startswith("#include")
    }
    own = {'"semihost.h"', '"isobit_harness.h"'}
    assert includes <= own | {"<stdint.h>", "<stddef.h>"}
