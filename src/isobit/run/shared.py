"""Shared libraries of isobit's own C for the computer at hand, compiled once and kept."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from isobit import targets
from isobit.run.compilers import cache_dir, find, shared_suffix


def shared_library(source: Path, level: str, flags: tuple[str, ...]) -> Path:
    """Return a shared library of one C file for CPUs of `level` (zig's name: "x86_64_v3").

    Raises `ToolMissing` without zig, `CompileFailed`, `FileUnwritable`.
    """
    tool = find("zig", replace(targets.load("host"), zig_flags=(f"-mcpu={level}",)))
    text = source.read_bytes()
    key = hashlib.sha256(repr((tool.version, level, flags, text)).encode()).hexdigest()[:32]
    library = cache_dir() / "shared" / f"{source.stem}-{key}{shared_suffix()}"
    if not library.is_file():
        tool.compile_shared([source], library, flags=flags)
    return library
