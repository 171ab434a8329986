"""`isobit calibrate`: a float network as the chip's integers, from example inputs alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
import rich.progress

from isobit import data
from isobit.api.provenance import Origin, Story, read_story
from isobit.cli.common.arrays import read_codes
from isobit.cli.common.output import err, json_option, out, print_json
from isobit.cli.common.progress import stage
from isobit.cli.common.subject import read_float_graph, require_torch
from isobit.cli.common.summary import need_lines, needs_of, next_lines
from isobit.core.errors import BadArgument
from isobit.core.types import AnyArray

if TYPE_CHECKING:
    from isobit.api.calibrate import Agreement
    from isobit.api.model import Model
    from isobit.train.refine import Progress, Refinement

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
@click.option(
    "--input-dtype",
    type=click.Choice(["int8", "int16"]),
    default="int8",
    show_default=True,
    help="Codes of the input: int16 where values of very different size share it.",
)
@click.option(
    "--refine",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="STEPS",
    help="Then train towards the float network's outputs for so many steps; needs no label.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Of the order of examples in --refine.",
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
    input_dtype: str,
    refine: int,
    seed: int,
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
    title = f"calibrating {graph.name} on {min(samples, len(values)):,} examples"
    with _shown(title, refine) as report:
        found = calibrate(
            graph,
            values,
            scheme=scheme,
            method=method,
            samples=samples,
            bias_correction=bias_correction,
            equalise=equalise,
            input_dtype=input_dtype,
            refine=refine,
            seed=seed,
            report=report,
        )
        found.provenance = _provenance(model, found)
        found.save(output)
        agreement = compare(found, graph, spread(values, min(samples, COMPARED)))
    if as_json:
        refined = {"refinement": asdict(found.refinement)} if found.refinement else {}
        told = {"out": str(output), "scheme": scheme, "input_dtype": input_dtype}
        print_json({**told, "agreement": asdict(agreement), **refined})
        return
    _print(model, output, agreement, found, min(samples, len(values)))


def _print(source: Path, output: Path, agreement: Agreement, found: Model, used: int) -> None:
    """Say what was read, what it became and how close that is, and what to do with it."""
    graph = found.export()
    taken = f"{found.scheme.value}, input {graph.inputs[0].type.dtype.value}"
    lines = [
        f"{source}: {len(found.float_graph().nodes)} nodes on reals, ranges from {used:,} examples",
        f"{output}: {len(graph.nodes)} nodes on integers, {taken}",
        f"  {agreement.top1:.1%} of {agreement.examples} examples have the float network's largest "
        f"output; outputs differ by {agreement.error:.3g} (root mean square) of at most "
        f"{agreement.largest:.3g}",
        *([f"  {_told(found.refinement)}"] if found.refinement is not None else []),
        *need_lines(graph, needs_of(graph)),
        *next_lines(
            {
                f"isobit check {output}": "compiles it: exact RAM, flash, instructions",
                f"isobit deploy {output} --out {output.stem}": "writes the C project",
                f"isobit explain {output}": "what became of every node",
            }
        ),
    ]
    for line in lines:
        out().print(line, soft_wrap=True)


@contextmanager
def _shown(title: str, steps: int) -> Iterator[Callable[[Progress], None] | None]:
    """Show what is done while the block runs: a spinner, of a refinement what it will cost and how
    far it is.
    """
    if not steps:
        with stage(title):
            yield None
        return
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=err(), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def report(now: Progress) -> None:
            if bar.tasks[0].total is None:
                # A task's speed is that of its updates: a new one, which began with the refinement.
                cost = f"about {now.seconds / 60:.1f} min"
                bar.console.print(f"refining: two searches of ranges and {steps} steps, {cost}")
                bar.reset(task, total=1.0)
            bar.update(task, description=f"{now.stage}, error {now.error:.2%}", completed=now.done)

        yield report


def _told(found: Refinement) -> str:
    """Return what a refinement did, in one line."""
    before, after = found.before, found.after
    if found.kept == "nothing":
        return (
            f"Refinement brought nothing on the {found.held} examples held out of it and was "
            f"undone: the relative error stays {before.error:.2%}, the top class {before.top1:.1%}."
        )
    return (
        f"Refined in {found.seconds:.0f} s: on the {found.held} examples held out of it the "
        f"relative error went from {before.error:.2%} to {after.error:.2%}, the float network's "
        f"largest output from {before.top1:.1%} to {after.top1:.1%}."
    )


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
    origin, carried = Origin(story), dict(found.carried)
    names, fused = dict(story.names), dict(story.fused)
    for value, carrier in carried.items():
        tensor = origin.tensors.get(value)
        if tensor is None:
            continue
        if carrier in names and carrier != value and names[carrier] != tensor:
            fused[names[carrier]] = carrier  # an activation behind it has its value now
        names[carrier] = tensor
    moved = {tensor: carried.get(value, value) for tensor, value in fused.items()}
    notes = [
        {**note, "value": carried.get(str(note["value"]), note["value"])} for note in story.notes
    ]
    told = Story(names=names, fused=moved, source=story.source, passes=story.passes, notes=notes)
    return told.notes_as_text()
