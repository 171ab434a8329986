"""`isobit explain`: which kernel runs each node, why not another, what was folded into it, and what
passes did to it.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
from rich.text import Text

from isobit import targets
from isobit.api.explain import (
    Removed,
    Story,
    Told,
    explain,
    explain_float,
    notes_of,
    removed,
    value_of,
)
from isobit.cli.common.optimize import optimize_option
from isobit.cli.common.output import json_option, out, print_json
from isobit.cli.common.subject import read_absorbed, read_provenance, read_stored
from isobit.ir.graph import Stage
from isobit.plan.plan import Optimize


@click.command("explain")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("node", default="")
@click.option("--target", help="A name of `isobit targets`; the model's own by default.")
@optimize_option
@json_option
def command(model: Path, node: str, target: str | None, optimize: str, as_json: bool) -> None:
    """Say for every NODE of MODEL (SPEC.py, M.isobit or a deployed folder) what runs it and why.

    Of an imported network also which tensor of the file it is, what passes did to it, or why not,
    and what the importer noted. NODE may be such a tensor's name. A float network has no kernels
    yet: the rest is said.
    """
    graph, origin = read_stored(model), read_provenance(model)
    chip = targets.load(target or graph.target)
    node = value_of(origin, node)
    gone = removed(graph, origin, node)
    stories = []
    if not (node and gone):
        if graph.stage is Stage.FLOAT:
            stories = explain_float(graph, node, origin)
        else:
            stories = explain(graph, chip, Optimize(optimize), read_absorbed(model), node, origin)
    notes = notes_of(origin, node)
    if as_json:
        print_json(
            {
                "target": chip.name,
                "source": dict(origin.get("source", {})),
                "nodes": [asdict(story) for story in stories],
                "removed": [asdict(one) for one in gone],
                "notes": [asdict(note) for note in notes],
            }
        )
        return
    for story in stories:
        out().print(_shown(story, is_float=graph.stage is Stage.FLOAT), soft_wrap=True)
    if gone and not node:
        out().print("\nIn the imported file, but computed no more:", soft_wrap=True)
    for one in gone:
        out().print(_gone(one), soft_wrap=True)
    if notes:
        out().print("\nNotes of the import:", soft_wrap=True)
    for note in notes:
        out().print(Text(f"{note.value}  {note.kind}: {note.text}"), soft_wrap=True)


def _shown(story: Story, *, is_float: bool) -> Text:
    line = Text(story.name, style="bold")
    if is_float:
        line.append(f"  {story.op}")
    else:
        kernel = f"/{story.kernel}" if story.kernel else ": a view, no code"
        line.append(f"  {story.op}{kernel}")
    if story.source:
        line.append(f"  ({story.source})", style="dim")
    if story.tensor:
        line.append(f"\n  tensor {story.tensor}", style="dim")
    for value in story.absorbed:
        line.append(f"\n  also computes {value}")
    _append(line, story.passes)
    for other in story.others:
        line.append(f"\n  not {other.kernel}: {other.reason}")
    return line


def _gone(one: Removed) -> Text:
    line = Text(one.name, style="bold")
    if one.tensor:
        line.append(f"\n  tensor {one.tensor}", style="dim")
    _append(line, one.passes)
    return line


def _append(line: Text, told: tuple[Told, ...]) -> None:
    for one in told:
        line.append(f"\n  {one.by}: {'' if one.done else 'not rewritten: '}{one.text}")
