"""zig and gcc: found, described by their version, and called to make firmware or a host library."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from isobit.codegen import board
from isobit.core.errors import BadArgument, CompileFailed, FileUnwritable, ToolMissing, UnknownName
from isobit.run.child import run_child
from isobit.run.stack_sizes import read_stack_sizes, read_stack_usage
from isobit.targets import Isa, Target

Kind = Literal["zig", "gcc"]
Optimize = Literal["", "-O0", "-O1", "-O2", "-O3", "-Os"]

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror")
QUOTED_LINES = 20

# zig takes -O3 for -O2 and drops the symbols at -Os: clang's own levels go through -Xclang.
_ZIG_LEVELS = {"": ("-O2", "-Xclang", "-O3"), "-O3": ("-O2", "-Xclang", "-O3")}
_ZIG_LEVELS |= {"-Os": ("-O2", "-Xclang", "-Os")}
_GCC_LEVELS = {"": ("-O2",)}

# A loop that clears or copies stays a loop, in gcc as in zig (which is always freestanding): the
# instruction counts of the two compilers then measure the same code.
_FIRMWARE = (
    "-ffreestanding",
    "-fomit-frame-pointer",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-stack-protector",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
)
_GCC_FIRMWARE = ("-fno-tree-loop-distribute-patterns", "-fstack-usage")
# Without outlining: what clang moves out of code for size has no frame and no owner in the figures.
_ZIG_FIRMWARE = ("-fno-sanitize=undefined", "-fstack-size-section", "-mno-outline")
_LINK = ("-static", "-Wl,-T,firmware.ld", "-Wl,-e,Reset", "-Wl,--gc-sections")

_PACKAGES = {
    "arm-none-eabi-gcc": "`apt install gcc-arm-none-eabi`, or Arm's own download, on PATH.",
    "riscv64-unknown-elf-gcc": "`apt install gcc-riscv64-unknown-elf`, on PATH.",
    "gcc": "`apt install gcc`, or Xcode's command line tools, on PATH.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A finished file. `stack_frames`: bytes of stack per function, as far as the compiler told.

    Assembly has no entry there. `command` is what made it.
    """

    path: Path
    command: tuple[str, ...]
    stack_frames: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiler:
    """One compiler for one target. `version` is for manifests: with the flags it fixes the code."""

    kind: Kind
    target: Target
    program: tuple[str, ...]
    version: str

    def compile_elf(
        self,
        sources: Sequence[Path],
        output: Path,
        *,
        include_dirs: Sequence[Path] = (),
        defines: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
        optimize: Optimize = "",
        warnings: bool = True,
        startup: bool = True,
        linker_script: str = "",
        timeout_s: float = 300.0,
    ) -> Compiled:
        """Compile and link C and .S sources into a firmware ELF that starts at `Reset`.

        `startup` adds the board's start-up code, semihosting and mem* functions; its folder is
        always an include directory. `optimize` "" is what was measured best: clang -O3, gcc -O2.
        `linker_script` "" takes the target's own. The output appears complete or not at all.

        Raises `CompileFailed` with the command and the compiler's first lines; `BadArgument` for
        the host.
        """
        script = linker_script or board.linker_script(self.target)
        files = [*sources, *(board.startup_sources(self.target) if startup else ())]
        is_zig = self.kind == "zig"
        arguments = [
            *_FIRMWARE,
            *(_ZIG_FIRMWARE if is_zig else _GCC_FIRMWARE),
            *_LINK,
            *(() if is_zig else ("-nostdlib", "-nostartfiles")),
        ]
        return self._compile(
            arguments,
            files,
            output,
            last=() if is_zig else ("-lgcc",),
            include_dirs=[*include_dirs, board.BOARD_DIR],
            defines=defines or {},
            flags=flags,
            optimize=optimize,
            warnings=warnings,
            script=script,
            timeout_s=timeout_s,
        )

    def compile_program(
        self,
        sources: Sequence[Path],
        output: Path,
        *,
        include_dirs: Sequence[Path] = (),
        defines: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
        optimize: Optimize = "",
        warnings: bool = True,
        timeout_s: float = 300.0,
    ) -> Compiled:
        """Compile C sources into a program for this computer; otherwise as `compile_shared`."""
        _check_host(self.target)
        return self._compile(
            ["-fno-sanitize=undefined"] if self.kind == "zig" else [],
            sources,
            output,
            last=(),
            include_dirs=include_dirs,
            defines=defines or {},
            flags=flags,
            optimize=optimize,
            warnings=warnings,
            script="",
            timeout_s=timeout_s,
        )

    def compile_shared(
        self,
        sources: Sequence[Path],
        output: Path,
        *,
        include_dirs: Sequence[Path] = (),
        defines: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
        optimize: Optimize = "",
        warnings: bool = True,
        timeout_s: float = 300.0,
    ) -> Compiled:
        """Compile C sources into a shared library for this computer (`shared_suffix` names it).

        zig has no runtime for AddressSanitizer: `-fsanitize=address` needs gcc. Raises
        `CompileFailed`; `BadArgument` for a target other than the host.
        """
        _check_host(self.target)
        arguments = ["-shared", "-fPIC"]
        if self.kind == "zig":
            arguments.append("-fno-sanitize=undefined")
        return self._compile(
            arguments,
            sources,
            output,
            last=(),
            include_dirs=include_dirs,
            defines=defines or {},
            flags=flags,
            optimize=optimize,
            warnings=warnings,
            script="",
            timeout_s=timeout_s,
        )

    def _compile(
        self,
        arguments: Sequence[str],
        sources: Sequence[Path],
        output: Path,
        *,
        last: Sequence[str],
        include_dirs: Sequence[Path],
        defines: Mapping[str, str],
        flags: Sequence[str],
        optimize: Optimize,
        warnings: bool,
        script: str,
        timeout_s: float,
    ) -> Compiled:
        is_zig = self.kind == "zig"
        levels = _ZIG_LEVELS if is_zig else _GCC_LEVELS
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            # Beside the output: the rename must not cross file systems.
            folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
        except OSError as error:
            raise _unwritable(output, error) from error
        try:
            if script:
                (folder / "firmware.ld").write_text(script, encoding="utf-8")
            command = (
                *self.program,
                *(self.target.zig_flags if is_zig else self.target.gcc_flags),
                "-std=c11",
                "-g0",
                *levels.get(optimize, (optimize,)),
                *(WARNINGS if warnings else ()),
                *arguments,
                *(f"-D{name}={value}" if value else f"-D{name}" for name, value in defines.items()),
                *(f"-I{path.resolve()}" for path in include_dirs),
                *flags,
                *(str(path.resolve()) for path in sources),
                "-o",
                output.name,
                *last,
            )
            # Relative names inside the folder: -Wl, would split a path at its commas.
            _run_compiler(command, folder, timeout_s, where=output.name)
            frames = read_stack_usage(folder)
            if script and is_zig:
                frames = read_stack_sizes(folder / output.name)
            (folder / output.name).replace(output)
        except OSError as error:
            raise _unwritable(output, error) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return Compiled(path=output, command=command, stack_frames=MappingProxyType(frames))


def _check_host(target: Target) -> None:
    if target.isa is not Isa.HOST:
        raise BadArgument(
            where=f"target {target.name!r}",
            what="program or shared library",
            want="the target host",
            got=target.name,
            fix="A microcontroller runs firmware: use compile_elf.",
        )


def find(kind: Kind, target: Target) -> Compiler:
    """Return the compiler of this kind for `target`.

    Raises `ToolMissing` with the command that installs it, `UnknownName` for another kind.
    """
    if kind == "zig":
        zig = _find_zig()
        version = f"zig {_ask(zig, 'version')} ({_ask(zig, 'cc', '--version')})"
        return Compiler(kind=kind, target=target, program=(zig, "cc"), version=version)
    if kind == "gcc":
        program = shutil.which(target.gcc)
        if program is None:
            raise ToolMissing(
                where=f"compiler gcc for {target.name}",
                what="not installed",
                want=f"{target.gcc} on PATH",
                got="no such program",
                fix=_PACKAGES.get(target.gcc, f"Install {target.gcc}.") + " Or use zig.",
            )
        version = _ask(program, "--version")
        return Compiler(kind=kind, target=target, program=(program,), version=version)
    raise UnknownName(
        where=f"compiler {kind!r}",
        what="no such compiler",
        want="zig or gcc",
        got=str(kind),
        fix="zig comes with `pip install isobit[build]`.",
    )


def shared_suffix() -> str:
    """Return how the name of a shared library ends on this system."""
    return {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")


def cache_dir() -> Path:
    """Return isobit's folder in this user's cache; a temporary one where there is no home."""
    try:
        if sys.platform == "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home())
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            # The XDG specification says that a relative path here is to be ignored.
            base = Path(os.environ.get("XDG_CACHE_HOME", ""))
            base = base if base.is_absolute() else Path.home() / ".cache"
        folder = base / "isobit"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return Path(tempfile.gettempdir()) / "isobit-cache"
    return folder


def _find_zig() -> str:
    spec = importlib.util.find_spec("ziglang")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        # The file itself: `python -m ziglang` would only start it, later.
        program = Path(place) / ("zig.exe" if os.name == "nt" else "zig")
        if program.is_file():
            return str(program)
    raise ToolMissing(
        where="compiler zig",
        what="not installed",
        want="the package ziglang",
        got="no module named ziglang",
        fix="`pip install isobit[build]`, or choose gcc.",
    )


@cache
def _ask(program: str, *arguments: str) -> str:
    """The first line that a program says about itself."""
    command = (program, *arguments)
    try:
        done = run_child(command, timeout_s=60.0, env=_environment())
        lines = done.stdout.decode(errors="replace").strip().splitlines()
        got = done.ending
    except OSError as error:
        lines, got = [], str(error)
    if not lines:
        raise ToolMissing(
            where=program,
            what="the compiler does not start",
            want=f"an answer to `{shlex.join(command)}`",
            got=got,
            fix="Install it again.",
        )
    return re.sub(r"^clang version ", "clang ", lines[0])


def _run_compiler(command: Sequence[str], folder: Path, timeout_s: float, *, where: str) -> None:
    done = run_child(command, timeout_s=timeout_s, env=_environment(), cwd=folder)
    if done.code == 0:
        return
    output = (done.stderr + done.stdout).decode(errors="replace").strip().splitlines()
    quoted = "\n".join(output[:QUOTED_LINES])
    if len(output) > QUOTED_LINES:
        quoted += f"\n... and {len(output) - QUOTED_LINES} more lines"
    raise CompileFailed(
        where=where,
        what="the compiler failed",
        want="exit code 0",
        got=f"{done.ending}\n{quoted}",
        fix=f"The command was: {shlex.join(command)}",
    )


def _environment() -> dict[str, str]:
    cache_folder = str(cache_dir() / "zig")
    return {"ZIG_GLOBAL_CACHE_DIR": cache_folder, "ZIG_LOCAL_CACHE_DIR": cache_folder}


def _unwritable(output: Path, error: OSError) -> FileUnwritable:
    return FileUnwritable(
        where=str(output),
        what="cannot write",
        want="a writable folder with free space",
        got=error.strerror or str(error),
        fix="Choose another path, or change the folder's permissions.",
    )
