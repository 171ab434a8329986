"""The C project around a network: kernels, run time, board files, build files, README.

src/<name>.h  .c  _data.h      the network            src/kernels/   the kernels it uses, as
source src/isobit_*.h                 run time                src/board/     start-up, linker
script, main of the emulated board CMakeLists.txt  Makefile       library and firmware
README.md      how to integrate it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files as package_files

from isobit.codegen import board
from isobit.codegen.interface import Port, c_name, offsets, record
from isobit.codegen.network import Network
from isobit.targets import Isa, Target

RUNTIME = package_files("isobit.codegen") / "runtime"


def project_files(network: Network) -> dict[str, str]:
    """Return every file of the project by its path relative to the bundle, as text."""
    target, stem = network.plan.target, c_name(network.plan.graph.name)
    found = {f"src/{name}": text for name, text in network.files.items()}
    extra = {name for instance in network.instances for name in instance.kernel.headers}
    for name in ("isobit_rt.h", *sorted(extra)):
        found[f"src/{name}"] = (RUNTIME / name).read_text(encoding="utf-8")
    for instance in network.instances:
        source = instance.kernel.source()
        name = f"src/kernels/{instance.kernel.op}_{instance.kernel.stem}{source.suffix}"
        found[name] = source.read_text(encoding="utf-8")
    found["src/isobit_harness.h"] = harness_header(network)
    found["src/board/main.c"] = board.HARNESS.read_text(encoding="utf-8")
    found["src/board/semihost.h"] = (board.BOARD_DIR / "semihost.h").read_text(encoding="utf-8")
    if target.isa is Isa.HOST:
        text = (board.BOARD_DIR / "semihost_host.c").read_text(encoding="utf-8")
        found["src/board/semihost_host.c"] = text
    else:
        for path in board.startup_sources(target):
            found[f"src/board/{path.name}"] = path.read_text(encoding="utf-8")
        found["src/board/firmware.ld"] = board.linker_script(target)
    found["Makefile"] = _makefile(target, stem, found)
    found["CMakeLists.txt"] = _cmake(target, stem, found)
    found["README.md"] = _readme(network, stem)
    return dict(sorted(found.items()))


def harness_header(network: Network) -> str:
    """Return `isobit_harness.h`: what the main program of emulated runs needs to know.

    Its `in` and `out` hold all inputs and all outputs of one sample, as `interface.record` says.
    """
    macro, stem = network.macro, c_name(network.plan.graph.name)
    arguments = ["arena"]
    for ports, buffer in ((network.inputs, "in"), (network.outputs, "out")):
        for port, offset in zip(ports, offsets(ports), strict=True):
            place = f"(({buffer}) + {offset})" if offset else f"({buffer})"
            arguments.append(f"({'const ' if port.is_input else ''}{port.c_type} *){place}")
    separator = ", " if len(arguments) == 3 else ", \\\n        "
    return "\n".join(
        [
            "/* What board/main.c runs. Made by isobit. */",
            "#ifndef ISOBIT_HARNESS_INCLUDED",
            "#define ISOBIT_HARNESS_INCLUDED",
            "",
            f'#include "{stem}.h"',
            "",
            f"#define ISOBIT_HARNESS_ARENA_BYTES {macro}_ARENA_BYTES",
            f"#define ISOBIT_HARNESS_IN_BYTES {_harness_bytes(network.inputs)}",
            f"#define ISOBIT_HARNESS_OUT_BYTES {_harness_bytes(network.outputs)}",
            "#define ISOBIT_HARNESS_RUN(arena, in, out) \\",
            f"    {network.prefix}_run({separator.join(arguments)})",
            *_harness_reset(network),
            "",
            "#endif",
            "",
        ]
    )


def _harness_reset(network: Network) -> list[str]:
    if not network.plan.graph.states:
        return []
    return [f"#define ISOBIT_HARNESS_RESET(arena) {network.prefix}_reset(arena)"]


def _harness_bytes(ports: Sequence[Port]) -> str:
    return f"{ports[0].macro}_BYTES" if len(ports) == 1 else str(record(ports).itemsize)


def sources(found: Mapping[str, str], stem: str) -> list[str]:
    """Return what a compiler must be given: the network, assembly kernels, the board."""
    assembly = [n for n in found if n.startswith("src/kernels/") and n.endswith(".S")]
    boards = [n for n in found if n.startswith("src/board/") and n.endswith((".c", ".S"))]
    return [f"src/{stem}.c", *assembly, *boards]


def _makefile(target: Target, stem: str, found: Mapping[str, str]) -> str:
    gcc = target.gcc or "cc"
    flags = " ".join(target.gcc_flags)
    link = (
        ""
        if target.isa is Isa.HOST
        else " -nostdlib -nostartfiles -static -T src/board/firmware.ld -Wl,-e,Reset"
    )
    freestanding = "" if target.isa is Isa.HOST else " -ffreestanding -fno-builtin"
    libs = "" if target.isa is Isa.HOST else " -lgcc"
    suffix = "" if target.isa is Isa.HOST else ".elf"
    zig = " ".join(target.zig_flags)
    return f"""# {stem} for {target.title}. `make` builds build/{stem}{suffix}; `make lib` only the network, to link into your program.
# zig instead of gcc: make CC="python -m ziglang cc" TARGET_FLAGS="{zig}"
CC = {gcc}
AR = {gcc.removesuffix("gcc")}ar
TARGET_FLAGS = {flags}
CFLAGS = -std=c11 -O2 -ffunction-sections -fdata-sections -Wall -Wextra -Wconversion -Werror{freestanding}
SOURCES = {" ".join(sources(found, stem))}

build/{stem}{suffix}: $(SOURCES) $(wildcard src/*.h src/kernels/*)
\t@mkdir -p build
\t$(CC) $(TARGET_FLAGS) $(CFLAGS) -Isrc -Isrc/board $(SOURCES) -Wl,--gc-sections{link} -o $@{libs}

.PHONY: lib clean
lib: build/lib{stem}.a
build/lib{stem}.a: src/{stem}.c $(wildcard src/*.h src/kernels/*)
\t@mkdir -p build
\t$(CC) $(TARGET_FLAGS) $(CFLAGS) -Isrc -c src/{stem}.c -o build/{stem}.o
\t$(AR) rcs $@ build/{stem}.o

clean:
\trm -rf build
"""


def _cmake(target: Target, stem: str, found: Mapping[str, str]) -> str:
    network = [name for name in sources(found, stem) if not name.startswith("src/board/")]
    boards = [name for name in sources(found, stem) if name.startswith("src/board/")]
    language = "C ASM" if any(name.endswith(".S") for name in found) else "C"
    flags = " ".join(target.gcc_flags)
    compile_options = f"\nadd_compile_options({flags})" if flags else ""
    link = ""
    if target.isa is not Isa.HOST:
        link = f"""
  target_compile_options({stem}_firmware PRIVATE -ffreestanding -fno-builtin)
  target_link_options({stem}_firmware PRIVATE {flags} -nostdlib -nostartfiles -static
    -T${{CMAKE_CURRENT_SOURCE_DIR}}/src/board/firmware.ld -Wl,-e,Reset -Wl,--gc-sections)
  target_link_libraries({stem}_firmware PRIVATE gcc)"""
    return f"""# {stem} for {target.title}. In your project: add_subdirectory(here), target_link_libraries(app isobit_{stem}).
cmake_minimum_required(VERSION 3.16)
project(isobit_{stem} {language})
set(CMAKE_C_STANDARD 11){compile_options}

add_library(isobit_{stem} STATIC {" ".join(network)})
target_include_directories(isobit_{stem} PUBLIC src)
target_compile_options(isobit_{stem} PRIVATE -O2 -ffreestanding -ffunction-sections -fdata-sections)

option(ISOBIT_FIRMWARE "Build the program for the emulated board" ON)
if(ISOBIT_FIRMWARE AND CMAKE_SOURCE_DIR STREQUAL CMAKE_CURRENT_SOURCE_DIR)
  add_executable({stem}_firmware {" ".join(boards)})
  target_include_directories({stem}_firmware PRIVATE src src/board)
  target_link_libraries({stem}_firmware PRIVATE isobit_{stem}){link}
endif()
"""


def _readme(network: Network, stem: str) -> str:
    plan, macro = network.plan, network.macro
    flags = " ".join(plan.target.gcc_flags) or "none"
    return f"""# {plan.graph.name} on {plan.target.title}

An integer neural network as plain C11: no allocation, no library but the compiler's own, no floating point.

Add `src/{stem}.c` to your build, `src/` to its include path, and:

```c
#include "{stem}.h"

static uint8_t arena[{macro}_ARENA_BYTES] __attribute__((aligned({plan.alignment_bytes}))); /* {plan.arena_bytes} bytes */

{_example(network)}
```

real value = `SCALE * (code - ZERO)`; both are macros of the header{_each(network)}. Two calls with two arenas may run at once.{_states(network)}

- Compiler flags of the core: `{flags}`. The float ABI must match the rest of your program; the network uses no floating point.
- `make` builds the program of the emulated board, `make lib` a static library. CMake: `add_subdirectory` and link `isobit_{stem}`.
- `isobit verify .` proves that this C computes what was trained; `isobit report .` shows where the bytes go.
- `{plan.graph.name}.isobit` is the network itself; `manifest.json` lists the hash of everything here.
"""


def _example(network: Network) -> str:
    """A C function that fills the inputs in place, runs and reads the outputs."""
    lines = []
    if network.plan.graph.states:
        lines = ["void start(void) {", f"    {network.prefix}_reset(arena);", "}", ""]
    lines.append("void classify(void) {")
    for port in network.inputs:
        fill = f"/* fill {port.type.elements} values, NHWC */"
        lines.append(f"    {port.c_type} *{port.argument} = {port.accessor}(arena); {fill}")
    given = [port.argument for port in network.inputs] + ["NULL"] * len(network.outputs)
    lines.append(f"    {network.prefix}_run({', '.join(['arena', *given])});")
    for port in network.outputs:
        place = f"const {port.c_type} *{port.argument} = {port.accessor}(arena);"
        lines.append(f"    {place} /* {port.type.elements} codes */")
    return "\n".join([*lines, "}"])


def _states(network: Network) -> str:
    """What a user must know of a network that remembers."""
    states = network.plan.graph.states
    if not states:
        return ""
    size = sum(state.type.size_bytes for state in states)
    return f"""

The network remembers: {size} bytes of the arena are its state ({", ".join(s.next for s in states)}). `{network.prefix}_reset(arena)` starts a sequence, and each run continues where the one before ended. Reset once before the first run, keep the arena between runs, and use one arena for each sequence."""


def _each(network: Network) -> str:
    several = [p.macro for p in (*network.inputs, *network.outputs)]
    return "" if len(several) == 2 else f", for each input and output (`{several[0]}_SCALE`, ...)"
