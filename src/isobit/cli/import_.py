"""`isobit import`: a TFLite or ONNX model as a network that computes the same integers."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Column, Table
from rich.text import Text

from isobit.api.importing import (
    ImportedModel,
    history,
    import_model,
    survey_file,
    total_cost,
)
from isobit.cli.common.output import json_option, out, print_json
from isobit.cli.common.progress import stage
from isobit.core.errors import BadArgument
from isobit.importers.base import Survey
from isobit.ir.graph import Graph, Stage
from isobit.ops.foreign import Runtime


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--out", "output", type=click.Path(path_type=Path), help="M.isobit to write.")
@click.option(
    "--runtime",
    type=click.Choice([r.value for r in Runtime]),
    default=Runtime.TFLM.value,
    show_default=True,
    help="Whose arithmetic a TFLite file means; they differ in FULLY_CONNECTED.",
)
@click.option(
    "--pass",
    "passes",
    multiple=True,
    metavar="NAME|-NAME",
    help="Add a pass to the default ones, or leave one out. Repeatable.",
)
@click.option("--name", default="", help="Of the network, a C prefix; the file's by default.")
@click.option("--target", default="cortex-m4", show_default=True, help="The network's own target.")
@click.option("--dry-run", is_flag=True, help="List what cannot be imported; write nothing.")
@json_option
def command(
    file: Path,
    output: Path | None,
    runtime: str,
    passes: tuple[str, ...],
    name: str,
    target: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Read FILE (.tflite or .onnx) and write it as M.isobit: the same integers in every tensor.

    What has no exact counterpart is refused, all of it at once.
    """
    if dry_run:
        _dry_run(file, runtime, as_json=as_json)
        return
    if output is None:
        raise BadArgument(
            where="isobit import",
            what="-o",
            want="the file to write, e.g. -o model.isobit",
            got="nothing",
            fix="Name it, or use --dry-run.",
        )
    with stage(f"importing {file.name}"):
        model = import_model(file, runtime=runtime, passes=passes, name=name, target=target)
        model.save(output)
    if as_json:
        print_json(_summary(model, output))
        return
    graph, cost = model.graph, total_cost(model.graph)
    constants = sum(const.data.nbytes for const in graph.consts)
    out().print(
        f"{output}: {len(graph.nodes)} nodes, {cost.macs:,} MACs, {constants:,} bytes of "
        f"constants, {graph.stage.value}."
    )
    for run in model.passes:
        if run.done:
            out().print(f"  {run.name}: {len(run.done)} rewritten")
    out().print(_next(graph, output), soft_wrap=True)


def _next(graph: Graph, output: Path) -> str:
    """Say what to do with the file: reals become integers first."""
    if graph.stage is Stage.FLOAT:
        return f"Next: isobit calibrate {output} --data examples.npy -o int.isobit"
    return f"Next: isobit check {output}, isobit deploy {output} --out DIR"


def _summary(model: ImportedModel, output: Path) -> dict[str, object]:
    cost = total_cost(model.graph)
    return {
        "out": str(output),
        "stage": model.graph.stage.value,
        "nodes": len(model.graph.nodes),
        "macs": cost.macs,
        "source": dict(model.source),
        "passes": [history(run) for run in model.passes],
    }


def _dry_run(file: Path, runtime: str, *, as_json: bool) -> None:
    found = survey_file(file, runtime=runtime)
    if as_json:
        print_json(
            {
                "file": file.name,
                "format": found.format,
                "operators": dict(found.operators),
                "unknown": list(found.unknown),
                "errors": [asdict(problem) for problem in found.problems],
            }
        )
    else:
        _print_survey(file, found)
    if found.problems:
        sys.exit(1)


def _print_survey(file: Path, found: Survey) -> None:
    total = sum(found.operators.values())
    out().print(f"{file.name}: {found.format}, {_count(total, 'operator')}\n", soft_wrap=True)
    table = Table(
        "operator", Column("count", justify="right"), "supported", box=None, pad_edge=False
    )
    for code, count in sorted(found.operators.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(code, str(count), "no" if code in found.unknown else "yes")
    out().print(table)
    if not found.problems:
        out().print("\nEverything can be imported.")
        return
    out().print(f"\n{_count(len(found.problems), 'reason')} why it cannot be imported:")
    for problem in found.problems:
        line = Text(f"\n{problem.code} ", style="bold red")
        line.append(problem.where, style="bold")
        line.append(f"\n  {problem.what}: want {problem.want}, got {problem.got}.")
        line.append(f"\n  nearest: {problem.fix}", style="green")
        out().print(line, soft_wrap=True)


def _count(amount: int, noun: str) -> str:
    return f"{amount} {noun}" + ("" if amount == 1 else "s")
