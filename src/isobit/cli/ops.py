"""`isobit ops`: the operators there are, and what each target has kernels for."""

from __future__ import annotations

import inspect

import click
from rich.table import Table

from isobit import targets
from isobit.cli.common.output import json_option, out, print_json
from isobit.core.errors import UnknownName
from isobit.ops.registry import load_ops


@click.command("ops")
@click.argument("name", required=False)
@click.option("--target", default="cortex-m4", show_default=True, help="Whose kernels to list.")
@json_option
def command(name: str | None, target: str, as_json: bool) -> None:
    """List operators, the layers and functions that make them, and the target's kernels."""
    registry, chip = load_ops(), targets.load(target)
    if name is not None and name not in registry.ops:
        raise UnknownName(
            where=f"operator {name!r}",
            what="operator",
            want="one of " + ", ".join(registry.ops),
            got=name,
            fix="docs/add-an-operator.md shows how to add one.",
        )
    rows = []
    for op_name, op in registry.ops.items():
        if name in (None, op_name):
            kernels = [
                k.stem for k in registry.kernels.get(op_name, ()) if k.features <= chip.features
            ]
            module = inspect.getmodule(op)
            layers = [
                layer_name
                for key, layer in registry.layers.items()
                if layer.__module__ == op.__module__
                for layer_name in ([layer.public_name] if layer.public_name else layer.functions)
            ]
            summary = (inspect.getdoc(module) or "").splitlines()[0]
            rows.append({"name": op_name, "layers": layers, "kernels": kernels, "summary": summary})
    if as_json:
        print_json({"target": target, "ops": rows})
        return
    table = Table("operator", "layers", f"kernels on {target}", "meaning", box=None, pad_edge=False)
    for row in rows:
        table.add_row(
            str(row["name"]),
            ", ".join(row["layers"]),
            ", ".join(row["kernels"]) or "none",
            str(row["summary"]).partition(": ")[2],
        )
    out().print(table)
