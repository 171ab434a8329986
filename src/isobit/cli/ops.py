"""`isobit ops`: the operators there are, what each target has kernels for, and what can be
imported.
"""

from __future__ import annotations

import inspect
import re

import click
from rich.table import Column, Table

from isobit import targets
from isobit.api.importing import Supported, support
from isobit.cli.common.output import json_option, out, print_json
from isobit.core.errors import UnknownName
from isobit.ops.registry import load_ops

SOURCES = {
    "tflite": "tflite-micro: every integer equal, reals within 1e-5",
    "onnx": "onnxruntime: reals within 1e-5, codes equal or 1 apart next to a tie",
    "torch": "torch: reals within its own rounding",
}
"""By format: what its operators were compared with, and how closely."""


@click.command("ops")
@click.argument("name", required=False)
@click.option("--target", default="cortex-m4", show_default=True, help="Whose kernels to list.")
@click.option("--source", type=click.Choice(list(SOURCES)), help="List what of it can be imported.")
@json_option
def command(name: str | None, target: str, source: str | None, as_json: bool) -> None:
    """List operators, the layers and functions that make them, and the target's kernels.

    With --source the operators of another framework, how many single-operator models of each were
    compared with its own runtime, value by value, and what they become here.
    """
    if source is not None:
        _print_source(source, name, as_json=as_json)
        return
    registry, chip = load_ops(), targets.load(target)
    _require(name, list(registry.ops), "docs/add-an-operator.md shows how to add one.")
    rows = []
    for op_name, op in registry.ops.items():
        if name in (None, op_name):
            kernels = [
                k.stem for k in registry.kernels.get(op_name, ()) if k.features <= chip.features
            ]
            layers = [
                layer_name
                for key, layer in registry.layers.items()
                if layer.__module__ == op.__module__
                for layer_name in ([layer.public_name] if layer.public_name else layer.functions)
            ]
            summary = _first_sentence(inspect.getdoc(inspect.getmodule(op)) or "")
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
            str(row["summary"]).removeprefix(str(row["name"])).removeprefix(":").lstrip(),
        )
    out().print(table)


def _print_source(source: str, name: str | None, *, as_json: bool) -> None:
    """List the rules there are, those of other wheels included, with what was recorded of them."""
    recorded = support().get(source, {})
    names = sorted(rule for known, rule in load_ops().rules if known == source)
    _require(name, names, f"`isobit ops --source {source}` lists the operators of {source}.")
    rows = {n: recorded.get(n, Supported()) for n in names if name in (None, n)}
    if as_json:
        listed = [
            {"name": n, "cases": s.cases, "types": list(s.types), "ours": list(s.ours)}
            for n, s in rows.items()
        ]
        print_json({"source": source, "ops": listed})
        return
    table = Table(
        f"{source} operator",
        Column("cases", justify="right"),
        "types",
        "becomes",
        box=None,
        pad_edge=False,
    )
    for n, s in rows.items():
        table.add_row(n, str(s.cases), ", ".join(s.types), ", ".join(s.ours))
    out().print(table)
    out().print(
        f"\ncases: models of the operator alone that were compared with {SOURCES[source]}.",
        soft_wrap=True,
    )


def _first_sentence(text: str) -> str:
    r"""Return a docstring up to its first full stop, or its first paragraph, on one line.

    >>> _first_sentence("pad: x surrounded by\n`value`. Float too.\n\nMore.")
    'pad: x surrounded by `value`.'
    """
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return re.split(r"(?<=\.)\s+(?=[A-Z])", paragraph, maxsplit=1)[0]


def _require(name: str | None, known: list[str], fix: str) -> None:
    if name is not None and name not in known:
        raise UnknownName(
            where=f"operator {name!r}",
            what="operator",
            want="one of " + ", ".join(known),
            got=name,
            fix=fix,
        )
