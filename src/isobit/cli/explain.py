"""`isobit explain`: which kernel runs each node, why not another, and what was folded into it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
from rich.text import Text

from isobit import targets
from isobit.api.explain import Story, explain
from isobit.cli.common.optimize import optimize_option
from isobit.cli.common.output import json_option, out, print_json
from isobit.cli.common.subject import read_absorbed, read_graph
from isobit.plan.plan import Optimize


@click.command("explain")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("node", default="")
@click.option("--target", help="A name of `isobit targets`; the model's own by default.")
@optimize_option
@json_option
def command(model: Path, node: str, target: str | None, optimize: str, as_json: bool) -> None:
    """Say for every NODE of MODEL (SPEC.py, M.isobit or a deployed folder) what runs it and why."""
    graph = read_graph(model)
    chip = targets.load(target or graph.target)
    stories = explain(graph, chip, Optimize(optimize), read_absorbed(model), node)
    if as_json:
        print_json({"target": chip.name, "nodes": [asdict(story) for story in stories]})
        return
    for story in stories:
        out().print(_shown(story), soft_wrap=True)


def _shown(story: Story) -> Text:
    line = Text(story.name, style="bold")
    line.append(
        f"  {story.op}/{story.kernel}" if story.kernel else f"  {story.op}: a view, no code"
    )
    if story.source:
        line.append(f"  ({story.source})", style="dim")
    for value in story.absorbed:
        line.append(f"\n  also computes {value}")
    for other in story.others:
        line.append(f"\n  not {other.kernel}: {other.reason}")
    return line
