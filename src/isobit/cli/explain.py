"""`isobit explain`: which kernel runs each node, why not another, what was folded into it, and what
passes did to it.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
from rich.text import Text

from isobit import targets
from isobit.api.explain import Removed, Story, Told, explain, removed, value_of
from isobit.cli.common.optimize import optimize_option
from isobit.cli.common.output import json_option, out, print_json
from isobit.cli.common.subject import read_absorbed, read_graph, read_provenance
from isobit.plan.plan import Optimize


@click.command("explain")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("node", default="")
@click.option("--target", help="A name of `isobit targets`; the model's own by default.")
@optimize_option
@json_option
def command(model: Path, node: str, target: str | None, optimize: str, as_json: bool) -> None:
    """Say for every NODE of MODEL (SPEC.py, M.isobit or a deployed folder) what runs it and why.

    Of an imported network also which tensor of the file it is and what passes did to it, or why
    not. NODE may be such a tensor's name.
    """
    graph, origin = read_graph(model), read_provenance(model)
    chip = targets.load(target or graph.target)
    node = value_of(origin, node)
    gone = removed(graph, origin, node)
    stories = []
    if not (node and gone):
        stories = explain(graph, chip, Optimize(optimize), read_absorbed(model), node, origin)
    if as_json:
        print_json(
            {
                "target": chip.name,
                "source": dict(origin.get("source", {})),
                "nodes": [asdict(story) for story in stories],
                "removed": [asdict(one) for one in gone],
            }
        )
        return
    for story in stories:
        out().print(_shown(story), soft_wrap=True)
    if gone and not node:
        out().print("\nIn the imported file, but computed no more:", soft_wrap=True)
    for one in gone:
        out().print(_gone(one), soft_wrap=True)


def _shown(story: Story) -> Text:
    line = Text(story.name, style="bold")
    line.append(
        f"  {story.op}/{story.kernel}" if story.kernel else f"  {story.op}: a view, no code"
    )
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
