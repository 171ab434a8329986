"""`isobit show`: the text form of a network, and its picture."""

from __future__ import annotations

from pathlib import Path

import click

from isobit.api.provenance import Origin
from isobit.cli.common.output import json_option, out, print_json
from isobit.cli.common.subject import read_history, read_stored
from isobit.core.files import write_atomic
from isobit.ir.text import print_graph
from isobit.report.graph_svg import render_graph


@click.command("show")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--svg", "picture", type=click.Path(path_type=Path), help="F.svg to write instead of text."
)
@json_option
def command(model: Path, picture: Path | None, as_json: bool) -> None:
    """Print MODEL (SPEC.py, M.isobit or a deployed folder) as IR text, or draw its graph.

    The integers where there are any, else the float network of the file.
    """
    graph = read_stored(model)
    if picture is not None:
        write_atomic(picture, render_graph(graph, Origin(read_history(model)).tensors))
        if as_json:
            print_json({"svg": str(picture)})
        else:
            out().print(f"picture: {picture}", soft_wrap=True)
        return
    text = print_graph(graph)
    if as_json:
        print_json({"text": text})
    else:
        click.echo(text, nl=False)
