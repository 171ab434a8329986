"""`isobit doctor`: what is installed, what is missing, and how to get it."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from dataclasses import asdict, dataclass

import click
from rich.table import Table

from isobit import __version__, targets
from isobit.cli.common.output import json_option, out, print_json
from isobit.targets import Target


@dataclass(frozen=True, slots=True)
class Finding:
    """One tool: what it is for, whether it is there, how to get it."""

    name: str
    purpose: str
    found: str
    fix: str


_PACKAGES = (
    ("torch", "training (Model, fit)", "pip install 'isobit[train]'"),
    ("ziglang", "the default C compiler, for every core", "pip install 'isobit[build]'"),
    ("unicorn", "the emulated chip, exact instruction counts", "pip install 'isobit[emulate]'"),
    ("capstone", "disassembly for instruction counts", "pip install 'isobit[emulate]'"),
)


@click.command("doctor")
@json_option
def command(as_json: bool) -> None:
    """Say what of isobit works here; exit 1 if nothing can be compiled."""
    findings = [_package(*entry) for entry in _PACKAGES]
    for name, purpose in _programs([targets.load(name) for name in targets.names()]):
        path = shutil.which(name)
        fix = "" if path else f"install {name} with your system's package manager"
        findings.append(Finding(name, purpose, "on PATH" if path else "", fix))
    findings.append(_kernels({f.name for f in findings if f.found}))
    works = any(f.name == "ziglang" and f.found for f in findings) or any(
        "gcc" in f.name and f.found for f in findings
    )
    if as_json:
        print_json({"isobit": __version__, "ok": works, "tools": [asdict(f) for f in findings]})
    else:
        console = out()
        console.print(f"isobit {__version__}, Python {sys.version.split()[0]}")
        table = Table("", "tool", "for", "found / how to get it", box=None, pad_edge=False)
        for f in findings:
            table.add_row("ok" if f.found else "--", f.name, f.purpose, f.found or f.fix)
        console.print(table)
    if not works:
        sys.exit(1)


def _programs(known: list[Target]) -> list[tuple[str, str]]:
    """Return every compiler and emulator on PATH that a target names, with what it is for."""
    found = {t.gcc: "second compiler" for t in known if t.gcc}
    for program in {t.qemu.program for t in known if t.qemu}:
        run = [t for t in known if t.qemu and t.qemu.program == program]
        alone = [t.name for t in run if not t.unicorn_model]
        only = f"; the only one for {', '.join(alone)}" if alone else ""
        found[program] = f"second emulator{only}"
    return sorted(found.items())


def _package(name: str, purpose: str, fix: str) -> Finding:
    try:
        return Finding(name, purpose, importlib.metadata.version(name), "")
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, purpose, "", fix)


def _kernels(found: set[str]) -> Finding:
    """Say whether training has its kernels, by building and trying them."""
    name, purpose = "training kernels", "faster training"
    missing = {"torch", "ziglang"} - found
    if missing:
        return Finding(name, purpose, "", f"needs {' and '.join(sorted(missing))}")
    from isobit.run.shared import shared_library
    from isobit.train import native  # here, because every other command line would wait for torch

    native.offer(shared_library)
    attempt = native.attempt()
    fix = f"cannot be used: {attempt.fault}" if attempt.kernels is None else ""
    return Finding(name, purpose, attempt.described, fix)
