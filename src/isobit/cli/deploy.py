"""`isobit deploy`: write the C project of a trained network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from isobit import targets
from isobit.api.bundle import Absorbed, open_bundle
from isobit.api.deployment import write_bundle
from isobit.api.explain import absorbed_values
from isobit.api.provenance import Story
from isobit.api.trained import read_trained_file
from isobit.cli.common.optimize import optimize_option
from isobit.cli.common.output import json_option, out, print_json
from isobit.cli.common.progress import stage
from isobit.cli.common.sizes import BYTES, LIMIT_HELP
from isobit.cli.common.subject import read_absorbed, read_history, read_spec, read_trained
from isobit.core.errors import BadArgument
from isobit.ir.graph import Graph
from isobit.plan.plan import Optimize
from isobit.run.compilers import Kind


@click.command("deploy")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--target", help="A name of `isobit targets`; the model's own by default.")
@click.option("--out", "folder", type=click.Path(path_type=Path), required=True)
@click.option("--name", default="", help="C prefix; the model's name by default.")
@click.option("--compiler", type=click.Choice(["zig", "gcc"]), default="zig", show_default=True)
@optimize_option
@click.option("--ram-limit", type=BYTES, help=f"{LIMIT_HELP} RAM.")
@click.option("--flash-limit", type=BYTES, help=f"{LIMIT_HELP} flash.")
@json_option
def command(
    model: Path,
    target: str | None,
    folder: Path,
    name: str,
    compiler: Kind,
    optimize: str,
    ram_limit: int | None,
    flash_limit: int | None,
    as_json: bool,
) -> None:
    """Write MODEL (M.isobit, trained or calibrated) as a C project with golden vectors and manifest
    into a folder.
    """
    if name and not (name.isidentifier() and name.isascii()):
        raise BadArgument(
            where="--name",
            what="name",
            want="a C identifier",
            got=repr(name),
            fix="Use ASCII letters, digits and underscores; the first is no digit.",
        )
    graph, absorbed, story, training = _read(model)
    chip = targets.load(target or graph.target)
    with stage(f"deploying for {chip.title}"):
        bundle = write_bundle(
            graph,
            chip,
            folder,
            compiler=compiler,
            optimize=Optimize(optimize),
            ram_limit=ram_limit,
            flash_limit=flash_limit,
            name=name,
            absorbed=absorbed,
            history=story,
            training=training,
        )
    manifest = bundle.manifest
    if as_json:
        print_json({"out": str(folder), "sizes": manifest["sizes"], "hashes": manifest["hashes"]})
        return
    sizes = manifest["sizes"]
    out().print(
        f"{folder}: RAM {sizes['ram_bytes'] or sizes['arena_bytes']:,} bytes, flash "
        f"{sizes['flash_bytes'] or sizes['constant_bytes']:,} bytes. Next: isobit verify {folder}",
        soft_wrap=True,
    )


def _read(model: Path) -> tuple[Graph, Absorbed, Story, dict[str, Any]]:
    """Return the integers, what each node also computes, the history of an import and of a
    training.
    """
    if model.suffix == ".py":
        spec = read_spec(model)  # once: it may train
        return spec.export(), absorbed_values(spec.traced.graph), Story(), spec.trained
    graph = read_trained(model)
    training = open_bundle(model).training if model.is_dir() else read_trained_file(model)
    return graph, read_absorbed(model), read_history(model), training
