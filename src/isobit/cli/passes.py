"""`isobit passes`: the rewrites of imported graphs, what each preserves, and which run unasked."""

from __future__ import annotations

import click
from rich.table import Table

from isobit.cli.common.output import json_option, out, print_json
from isobit.core.errors import UnknownName
from isobit.passes.base import load_passes


@click.command("passes")
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the passes in running order. `isobit import --pass NAME` adds one, `--pass -NAME` leaves
    one out.
    """
    everything = load_passes()
    if name is not None and name not in everything:
        raise UnknownName(
            where=f"pass {name!r}",
            what="pass",
            want="one of " + ", ".join(everything),
            got=name,
            fix="docs/add-a-pass.md shows how to add one.",
        )
    rows = [
        {
            "name": one.name,
            "claim": one.claim.value,
            "stages": sorted(stage.value for stage in one.stages),
            "default": one.default,
            "summary": one.summary(),
        }
        for one in everything.values()
        if name in (None, one.name)
    ]
    if as_json:
        print_json({"passes": rows})
        return
    table = Table("pass", "preserves", "graphs", "runs", "meaning", box=None, pad_edge=False)
    for row in rows:
        stages = row["stages"]
        assert isinstance(stages, list)
        runs = "always" if row["default"] else "on request"
        table.add_row(
            str(row["name"]), str(row["claim"]), ", ".join(stages), runs, str(row["summary"])
        )
    out().print(table)
