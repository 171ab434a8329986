"""`isobit calibrate`: a float network as the chip's integers, without training."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from isobit import data
from isobit.api.importing import read_story
from isobit.cli.common.arrays import read_codes
from isobit.cli.common.output import json_option, out, print_json
from isobit.cli.common.progress import stage
from isobit.cli.common.subject import read_float_graph, require_torch
from isobit.core.errors import BadArgument
from isobit.core.types import AnyArray

if TYPE_CHECKING:
    from isobit.api.model import Model

COMPARED = 64
"""Examples on which the integers are compared with the float network."""


@click.command("calibrate")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", "output", type=click.Path(path_type=Path), required=True, help="M2.isobit."
)
@click.option(
    "--data",
    "name",
    required=True,
    help="x.npy of real inputs [N, *NHWC], a data set (its training images) or a folder of one.",
)
@click.option("--unverified", is_flag=True, help="Accept files that are not the published ones.")
@click.option("--samples", type=click.IntRange(min=1), default=512, show_default=True)
@click.option(
    "--scheme", type=click.Choice(["affine", "pow2"]), default="affine", show_default=True
)
@click.option(
    "--method",
    type=click.Choice(["minmax", "percentile", "mse"]),
    default="minmax",
    show_default=True,
    help="How a range follows from the values seen.",
)
@click.option(
    "--bias-correction/--no-bias-correction",
    default=True,
    show_default=True,
    help="Move every bias by its layer's mean error.",
)
@click.option(
    "--equalise/--no-equalise",
    default=False,
    show_default=True,
    help="Scale channels of neighbouring layers to like ranges first.",
)
@json_option
def command(
    model: Path,
    output: Path,
    name: str,
    unverified: bool,
    samples: int,
    scheme: str,
    method: str,
    bias_correction: bool,
    equalise: bool,
    as_json: bool,
) -> None:
    """Turn MODEL (M.isobit of a float network) into integers, with ranges from example inputs."""
    if output.suffix != ".isobit":
        raise BadArgument(
            where="-o",
            what="file name",
            want="one that ends in .isobit",
            got=str(output),
            fix=f"-o {output.with_suffix('.isobit')}",
        )
    graph = read_float_graph(model)
    require_torch(model, "calibration runs the trainable forward")
    from isobit.api.calibrate import calibrate, compare, spread

    values = _examples(name, verified=not unverified)
    with stage(f"calibrating {graph.name} on {min(samples, len(values)):,} examples"):
        found = calibrate(
            graph,
            values,
            scheme=scheme,
            method=method,
            samples=samples,
            bias_correction=bias_correction,
            equalise=equalise,
        )
        found.provenance = _provenance(model, found)
        found.save(output)
        agreement = compare(found, graph, spread(values, min(samples, COMPARED)))
    if as_json:
        print_json({"out": str(output), "scheme": scheme, "agreement": asdict(agreement)})
        return
    out().print(
        f"{output}: {scheme}, {agreement.top1:.1%} of {agreement.examples} examples have the float "
        f"network's largest output; outputs differ by {agreement.error:.3g} (root mean square) of "
        f"at most {agreement.largest:.3g}.",
        soft_wrap=True,
    )
    out().print(f"Next: isobit check {output}, isobit deploy {output} --out DIR", soft_wrap=True)


def _examples(name: str, *, verified: bool) -> AnyArray:
    """Return real inputs [N, ...] of a file or a data set."""
    if Path(name).suffix not in (".npy", ".npz"):
        train, _ = data.load(name, verified=verified)
        return train.images
    found = read_codes(Path(name))
    if isinstance(found, np.ndarray):
        return found
    raise BadArgument(
        where=name,
        what="--data",
        want="an .npy file of one array [N, *input]",
        got=f"an archive of {', '.join(found)}",
        fix="Save the inputs with numpy.save.",
    )


def _provenance(source: Path, found: Model) -> dict[str, str]:
    """Return the notes of the import, with the names of tensors carried over to the nodes that now
    compute them.
    """
    story = read_story(source)
    names = dict(story.names)
    for value, carrier in found.carried.items():
        if value in story.names:
            names[carrier] = story.names[value]
    return {
        "source": json.dumps(dict(story.source), sort_keys=True),
        "names": json.dumps(names, sort_keys=True),
        "passes": json.dumps(list(story.passes)),
    }
