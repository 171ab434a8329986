"""What every verb prints: results on stdout (tables, or one JSON object), progress and errors on
stderr.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.text import Text

from isobit.core.errors import BadArgument, IsobitError

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout."
)


def out() -> Console:
    """Console for results. Piped output is 100 columns and has no colour."""
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 100)


def err() -> Console:
    """Console for progress and errors."""
    return Console(stderr=True, highlight=False, markup=False)


def print_json(value: Mapping[str, Any]) -> None:
    """Print exactly one object, `schema` first."""
    click.echo(json.dumps({"schema": 1, **value}, indent=1))


def note_line(value: str, kind: str, text: str) -> Text:
    """Return how a note of an import is printed."""
    return Text(f"  %{value}  {kind}: {text}")


def fail_usage(error: click.ClickException) -> NoReturn:
    """Show a command line that cannot be parsed as one object, and exit with 2."""
    context = getattr(error, "ctx", None)
    where = "isobit" if context is None else str(context.command_path)
    problem = BadArgument(
        where=where,
        what="command line",
        want=f"what `{where} --help` describes",
        got=error.format_message(),
        fix="Correct the command.",
    )
    print_json({"errors": [asdict(p) for p in problem.problems]})
    sys.exit(2)


def fail(error: IsobitError, *, as_json: bool) -> NoReturn:
    """Show every problem and exit with 1."""
    if as_json:
        print_json({"errors": [asdict(problem) for problem in error.problems]})
    else:
        console = err()
        for problem in error.problems:
            line = Text(f"{problem.code} ", style="bold red")
            line.append(problem.where, style="bold")
            line.append(f"\n  {problem.what}: want {problem.want}, got {problem.got}.")
            line.append(f"\n  {problem.fix}", style="green")
            console.print(line, soft_wrap=True)
    sys.exit(1)
