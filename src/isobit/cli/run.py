"""`isobit run`: run a network's C on a target."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path

import click

from isobit import targets
from isobit.api.bundle import Bundle
from isobit.cli.common.arrays import read_codes, require_place, write_outputs
from isobit.cli.common.output import err, json_option, out, print_json
from isobit.cli.common.progress import stage
from isobit.cli.common.subject import read_bundle, read_graph
from isobit.codegen.network import generate
from isobit.core.errors import BadArgument, raise_all
from isobit.core.files import npz_bytes, write_atomic
from isobit.ir.graph import Graph
from isobit.plan.plan import make_plan
from isobit.run.codes import Codes, sample_count
from isobit.run.compilers import Kind
from isobit.run.execute import Result, build, execute


@click.command("run")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--on", "target", help="A name of `isobit targets`; the model's own by default.")
@click.option(
    "--input",
    "array",
    type=click.Path(path_type=Path),
    required=True,
    help="x.npy; of several inputs x.npz with an array for each name.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="y.npy; of several outputs y.npz with an array for each name.",
)
@click.option("--trace", type=click.Path(path_type=Path), help="t.npz with every value.")
@click.option(
    "--compiler", type=click.Choice(["zig", "gcc"]), help="A deployed folder's own, else zig."
)
@json_option
def command(
    model: Path,
    target: str | None,
    array: Path,
    output: Path | None,
    trace: Path | None,
    compiler: Kind | None,
    as_json: bool,
) -> None:
    """Run MODEL (deployed folder or M.isobit) on input codes [N, *NHWC]; write output codes.

    A folder's own C runs on its own target; for another one C is planned anew, and that is said.
    Several outputs are printed as one object, name: array.
    """
    _require_apart({"MODEL": model, "--input": array, "--output": output, "--trace": trace})
    x = read_codes(array)
    subject = read_bundle(model) if model.is_dir() else read_graph(model)
    graph = subject.graph if isinstance(subject, Bundle) else subject
    own = subject.target.name if isinstance(subject, Bundle) else ""
    replanned = bool(own) and targets.load(target or own).name != own
    if replanned and not as_json:
        err().print(
            f"C planned anew for {target}: the folder's own C is for {own} and is not used.",
            soft_wrap=True,
        )
    if output is not None:
        require_place(output, graph.outputs)
    with stage("running"):
        ran = _run(subject, target, x, compiler, trace=trace is not None)
    if output is not None:
        write_outputs(output, ran.outputs)
    if trace is not None:
        _write_trace(trace, ran)
    samples = sample_count(ran.outputs)
    listed = {name: values.tolist() for name, values in ran.outputs.items()}
    shown = listed if len(listed) > 1 else ran.output.tolist()
    if as_json:
        print_json(
            {
                "samples": samples,
                "emulator": ran.emulator,
                "replanned": replanned,
                "output": shown,
            }
        )
    elif output is not None:
        out().print(f"{samples} outputs in {output}", soft_wrap=True)
    elif len(listed) > 1:
        out().print(json.dumps(shown), soft_wrap=True)
    else:
        out().print(shown)


def _require_apart(places: Mapping[str, Path | None]) -> None:
    """Raise `BadArgument` for every two options that name one file: one would replace the other."""
    given = [(option, path) for option, path in places.items() if path is not None]
    raise_all(
        [
            BadArgument(
                where=f"{one} and {other}",
                what="paths",
                want="different files",
                got=str(second),
                fix=f"Choose another path for {other}; nothing was written.",
            )
            for (one, first), (other, second) in itertools.combinations(given, 2)
            if _is_same(first, second)
        ]
    )


def _is_same(first: Path, second: Path) -> bool:
    if os.path.realpath(first) == os.path.realpath(second):
        return True
    try:  # hard links, and names that a file system takes for one
        return first.samefile(second)
    except (OSError, ValueError):
        return False


def _run(
    subject: Bundle | Graph, target: str | None, x: Codes, compiler: Kind | None, *, trace: bool
) -> Result:
    if isinstance(subject, Bundle):
        return subject.run(x, target, trace=trace, compiler=compiler or "")
    chip = targets.load(target or subject.target)
    network = generate(make_plan(subject, chip), "")
    on_qemu = not chip.unicorn_model and chip.qemu is not None
    built = build(network, compiler=compiler or "zig", trace=trace, qemu=on_qemu)
    return execute(network, built, x, use_qemu=on_qemu)


def _write_trace(path: Path, ran: Result) -> None:
    write_atomic(path, npz_bytes(ran.trace))
