"""`isobit check`: what a network needs on a target, before it is trained."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from isobit import targets
from isobit.cli.common.optimize import optimize_option
from isobit.cli.common.output import json_option, out, print_json
from isobit.cli.common.progress import stage
from isobit.cli.common.sizes import BYTES, LIMIT_HELP
from isobit.cli.common.subject import read_graph
from isobit.core.errors import raise_all
from isobit.plan.plan import Optimize
from isobit.run.compilers import Kind
from isobit.run.estimate import estimate


@click.command("check")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--target", help="A name of `isobit targets`; the model's own by default.")
@optimize_option
@click.option("--compiler", type=click.Choice(["zig", "gcc"]), default="zig", show_default=True)
@click.option("--ram-limit", type=BYTES, help=f"{LIMIT_HELP} RAM.")
@click.option("--flash-limit", type=BYTES, help=f"{LIMIT_HELP} flash.")
@click.option(
    "--no-compile", is_flag=True, help="Plan only: arena and constant bytes, in milliseconds."
)
@json_option
def command(
    model: Path,
    target: str | None,
    optimize: str,
    compiler: Kind,
    ram_limit: int | None,
    flash_limit: int | None,
    no_compile: bool,
    as_json: bool,
) -> None:
    """Plan, compile and run MODEL (SPEC.py or M.isobit) on the emulated chip: exact bytes and
    instructions.
    """
    graph = read_graph(model)
    chip = targets.load(target or graph.target)
    with stage(f"compiling for {chip.title}"):
        found = estimate(
            graph,
            chip,
            compile=not no_compile,
            compiler=compiler,
            optimize=Optimize(optimize),
            ram_limit=ram_limit,
            flash_limit=flash_limit,
        )
    if as_json:
        raise_all(found.problems())
        print_json(asdict(found))
        return
    out().print(str(found), soft_wrap=True)
    raise_all(found.problems())
