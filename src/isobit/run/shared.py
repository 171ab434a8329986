"""Shared libraries of isobit's own C for the computer at hand, compiled once and kept."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from isobit import targets
from isobit.run.compilers import cache_dir, find, shared_suffix


def shared_library(folder: Path, level: str, flags: tuple[str, ...]) -> Path:
    """Return a shared library of the C files in a folder for CPUs of `level` (zig's name:
    "x86_64_v3").

    Raises `ToolMissing` without zig, `CompileFailed`, `FileUnwritable`.
    """
    tool = find("zig", replace(targets.load("host"), zig_flags=(f"-mcpu={level}",)))
    files = sorted(folder.glob("*.[ch]"))
    contents = [(file.name, file.read_bytes()) for file in files]
    key = hashlib.sha256(repr((tool.version, level, flags, contents)).encode()).hexdigest()[:32]
    library = cache_dir() / "shared" / f"{folder.name}-{key}{shared_suffix()}"
    if not library.is_file():
        sources = [file for file in files if file.suffix == ".c"]
        tool.compile_shared(sources, library, include_dirs=[folder], flags=flags)
    return library
