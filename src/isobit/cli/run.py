"""`isobit run`: run a network's C on a target."""

from __future__ import annotations

from pathlib import Path

import click

from isobit import targets
from isobit.cli.common.arrays import read_array, write_array
from isobit.cli.common.output import json_option, out, print_json
from isobit.cli.common.progress import stage
from isobit.cli.common.subject import read_bundle, read_graph
from isobit.codegen.network import generate
from isobit.core.files import npz_bytes, write_atomic
from isobit.core.types import AnyArray
from isobit.plan.plan import make_plan
from isobit.run.compilers import Kind
from isobit.run.execute import Result, build, execute


@click.command("run")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--on", "target", help="A name of `isobit targets`; the model's own by default.")
@click.option("--input", "array", type=click.Path(path_type=Path), required=True, help="x.npy")
@click.option("--output", type=click.Path(path_type=Path), help="y.npy")
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
    """Run MODEL (deployed folder or M.isobit) on input codes [N, *NHWC]; write output codes."""
    x = read_array(array)
    with stage("running"):
        ran = _run(model, target, x, compiler, trace=trace is not None)
    if output is not None:
        write_array(output, ran.output)
    if trace is not None:
        _write_trace(trace, ran)
    if as_json:
        print_json(
            {"samples": len(ran.output), "emulator": ran.emulator, "output": ran.output.tolist()}
        )
    elif output is None:
        out().print(ran.output.tolist())
    else:
        out().print(f"{len(ran.output)} outputs in {output}", soft_wrap=True)


def _run(
    model: Path, target: str | None, x: AnyArray, compiler: Kind | None, *, trace: bool
) -> Result:
    if model.is_dir():
        return read_bundle(model).run(x, target, trace=trace, compiler=compiler or "")
    graph = read_graph(model)
    chip = targets.load(target or graph.target)
    network = generate(make_plan(graph, chip), "")
    on_qemu = not chip.unicorn_model and chip.qemu is not None
    built = build(network, compiler=compiler or "zig", trace=trace, qemu=on_qemu)
    return execute(network, built, x, use_qemu=on_qemu)


def _write_trace(path: Path, ran: Result) -> None:
    write_atomic(path, npz_bytes(ran.trace))
