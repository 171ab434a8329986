"""`isobit targets`: the cores and boards there are."""

from __future__ import annotations

import click
from rich.table import Table

from isobit import targets
from isobit.cli.common.output import json_option, out, print_json


@click.command("targets")
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List targets, or describe one."""
    found = [targets.load(name)] if name else [targets.load(n) for n in targets.names()]
    if as_json:
        print_json(
            {
                "targets": [
                    {
                        "name": t.name,
                        "title": t.title,
                        "core": t.core,
                        "features": sorted(f.value for f in t.features),
                        "ram_bytes": t.ram_bytes,
                        "flash_bytes": t.flash_bytes,
                        "clock_hz": t.clock_hz,
                        "unicorn": bool(t.unicorn_model),
                        "qemu": t.qemu.machine if t.qemu else "",
                        "regions": [
                            {
                                "name": r.name,
                                "kind": r.kind,
                                "base": r.base,
                                "size_bytes": r.size_bytes,
                            }
                            for r in t.regions
                        ],
                        "source": t.source,
                    }
                    for t in found
                ]
            }
        )
        return
    table = Table("name", "what", "features", box=None, pad_edge=False)
    for title in ("RAM", "flash", "clock"):
        table.add_column(title, justify="right")
    table.add_column("emulators")
    for t in found:
        emulators = [*(["Unicorn"] if t.unicorn_model else []), *(["QEMU"] if t.qemu else [])]
        table.add_row(
            t.name,
            t.title,
            " ".join(sorted(f.value for f in t.features)),
            f"{t.ram_bytes // 1024} K" if t.ram_bytes else "-",
            f"{t.flash_bytes // 1024} K" if t.flash_bytes else "-",
            f"{t.clock_hz // 1_000_000} MHz" if t.clock_hz else "-",
            ", ".join(emulators) or "native",
        )
    out().print(table)
