"""`isobit show`: the text form of a network."""

from __future__ import annotations

from pathlib import Path

import click

from isobit.cli.common.output import json_option, print_json
from isobit.cli.common.subject import read_graph
from isobit.ir.text import print_graph


@click.command("show")
@click.argument("model", type=click.Path(path_type=Path))
@json_option
def command(model: Path, as_json: bool) -> None:
    """Print MODEL (SPEC.py, M.isobit or a deployed folder) as IR text."""
    text = print_graph(read_graph(model))
    if as_json:
        print_json({"text": text})
    else:
        click.echo(text, nl=False)
