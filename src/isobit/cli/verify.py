"""`isobit verify`: prove that a deployed folder computes what was trained."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from isobit import targets
from isobit.cli.common.arrays import read_codes
from isobit.cli.common.output import json_option, out, print_json
from isobit.cli.common.progress import stage
from isobit.cli.common.subject import read_bundle
from isobit.core.errors import raise_all
from isobit.report.terminal import verification_notes, verification_table
from isobit.run.codes import Codes, random_codes
from isobit.run.verify import differs


@click.command("verify")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--on", "cores", help="Comma-separated targets; host and the bundle's own by default."
)
@click.option(
    "--input",
    "array",
    type=click.Path(path_type=Path),
    help="x.npy of input codes; of several inputs x.npz with an array for each name.",
)
@click.option(
    "--samples", type=click.IntRange(min=1), help="Instead of --input: that many random inputs."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--compiler", type=click.Choice(["zig", "gcc"]), help="The bundle's own by default.")
@json_option
def command(
    folder: Path,
    cores: str | None,
    array: Path | None,
    samples: int | None,
    seed: int,
    compiler: str | None,
    as_json: bool,
) -> None:
    """Compare golden model, golden vectors, recorded torch trace and the C on every core: every
    value of every tensor.

    On its own target FOLDER's C runs, edited or not. For any other core the network is planned
    anew, and FOLDER's C is not used.
    """
    if array is not None and samples is not None:
        raise click.UsageError("--input and --samples exclude each other.")
    names = [name.strip() for name in cores.split(",")] if cores is not None else []
    if cores is not None and not all(names):
        raise click.UsageError(f"--on {cores!r}: an empty name between the commas.")
    for name in names:
        targets.load(name)
    bundle = read_bundle(folder)
    x: Codes | None = read_codes(array) if array else None
    if samples is not None:
        x = random_codes(bundle.graph, samples, seed)
    with stage("verifying"):
        found = bundle.verify(x, names, compiler=compiler or "", raise_on_difference=False)
    bad = [differs(c) for c in found if not c.equal]
    if as_json:
        raise_all(bad)
        print_json({"verified": [asdict(c) for c in found]})
        return
    out().print(verification_table(found))
    for note in verification_notes(found):
        out().print(note, soft_wrap=True)
    raise_all(bad)
