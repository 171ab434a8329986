"""`isobit import`: a TFLite or ONNX model as a network that computes the same integers."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Column, Table
from rich.text import Text

from isobit.api.explain import notes_of
from isobit.api.importing import (
    ImportedModel,
    history,
    import_model,
    survey_file,
    total_cost,
)
from isobit.api.provenance import Origin
from isobit.cli.common.output import json_option, note_line, out, print_json
from isobit.cli.common.progress import stage
from isobit.cli.common.summary import Needs, need_lines, needs_of, next_lines
from isobit.importers.base import Survey
from isobit.ir.graph import Graph, Stage
from isobit.ir.text import print_type
from isobit.ops.foreign import Runtime
from isobit.run.estimate import Estimate


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
        raise click.UsageError(
            "-o: want the file to write, e.g. -o model.isobit; --dry-run writes nothing."
        )
    with stage(f"importing {file.name}"):
        model = import_model(file, runtime=runtime, passes=passes, name=name, target=target)
        model.save(output)
        needs = needs_of(model.graph)
    if as_json:
        print_json(_summary(model, output, needs))
    else:
        _print(model, output, needs)


def _print(model: ImportedModel, output: Path, needs: Needs) -> None:
    """Say what was read, what it became, what it needs, and what to do with it."""
    graph, source, say = model.graph, model.source, _say
    told = [f"{key} {source[key]}" for key in ("opset", "runtime") if key in source]
    say(f"{source['file']}: {', '.join([source['format'], *told])}")
    kind = "reals" if graph.stage is Stage.FLOAT else "integers"
    macs = total_cost(graph).macs
    say(f"{output}: {_count(len(graph.nodes), 'node')} on {kind}, {macs:,} MACs")
    types, tensors = graph.type_map(), Origin(model.story()).tensors
    for title, names in (("input", [v.name for v in graph.inputs]), ("output", graph.outputs)):
        for name in names:
            label = f'  "{tensors[name]}"' if tensors.get(name, name) != name else ""
            say(f"  {title} %{name}: {print_type(types[name])}{label}")
    for line in need_lines(graph, needs):
        say(line)
    for run in (run for run in model.passes if run.done):
        say(f"  pass {run.name}: {len(run.done)} rewritten")
    if model.notes:
        say("Notes:")
    for note in notes_of(model.story()):
        out().print(note_line(note.value, note.kind, note.text), soft_wrap=True)
    for line in next_lines(_next(graph, output)):
        say(line)


def _say(line: str) -> None:
    out().print(line, soft_wrap=True)


def _next(graph: Graph, output: Path) -> dict[str, str]:
    """Return what to do with the file: reals become integers first."""
    if graph.stage is Stage.FLOAT:
        made = output.with_name(f"{output.stem}_int.isobit")
        commands = {f"isobit calibrate {output} --data x.npy -o {made}": "integers, from examples"}
    else:
        commands = {
            f"isobit check {output}": "compiles it: exact RAM, flash, instructions",
            f"isobit deploy {output} --out {output.stem}": "writes the C project",
        }
    return {**commands, f"isobit explain {output}": "what became of every node of the file"}


def _summary(model: ImportedModel, output: Path, needs: Needs) -> dict[str, object]:
    cost = total_cost(model.graph)
    return {
        "out": str(output),
        "stage": model.graph.stage.value,
        "nodes": len(model.graph.nodes),
        "macs": cost.macs,
        "arena_bytes": needs.arena_bytes if isinstance(needs, Estimate) else None,
        "constant_bytes": needs.constant_bytes if isinstance(needs, Estimate) else None,
        "source": dict(model.source),
        "passes": [history(run) for run in model.passes],
        "notes": [asdict(note) for note in notes_of(model.story())],
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
