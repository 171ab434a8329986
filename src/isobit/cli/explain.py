"""`isobit explain`: which kernel runs each node, why not another, what was folded into it, and what
passes did to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import click
from rich.text import Text

from isobit import targets
from isobit.api.explain import (
    Considered,
    Removed,
    Story,
    considered,
    explain,
    explain_float,
    notes_of,
    removed,
)
from isobit.api.provenance import Origin, Told, first_of
from isobit.cli.common.optimize import optimize_option
from isobit.cli.common.output import json_option, note_line, out, print_json
from isobit.cli.common.subject import read_absorbed, read_history, read_stored
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
    what became of everything else in the file, and what the importer noted. NODE may be such a
    tensor's name. A float network has no kernels yet: the rest is said.
    """
    graph, history = read_stored(model), read_history(model)
    chip = targets.load(target or graph.target)
    is_float = graph.stage is Stage.FLOAT
    absorbed = {} if is_float else read_absorbed(model)
    node = Origin(history).value(node)
    gone = removed(graph, history, node, absorbed)
    stories = []
    if not (node and gone):
        if is_float:
            stories = explain_float(graph, node, history)
        else:
            stories = explain(graph, chip, Optimize(optimize), absorbed, node, history)
    notes = notes_of(history, node)
    passes = [] if node else considered(history)
    if as_json:
        print_json(
            {
                "target": chip.name,
                "source": dict(history.source),
                "nodes": [asdict(story) for story in stories],
                "removed": [asdict(one) for one in gone],
                "passes": [asdict(one) for one in passes],
                "notes": [asdict(note) for note in notes],
            }
        )
        return
    if history.source and not node:
        told = ", ".join(f"{k} {v}" for k, v in history.source.items() if k != "sha256")
        out().print(Text(f"Imported: {told}\n"), soft_wrap=True)
    for story in stories:
        out().print(_shown(story, is_float=is_float), soft_wrap=True)
    _print_all("In the imported file, but computed no more:" if not node else "", map(_gone, gone))
    _print_all("Passes, in the order in which they run:", map(_considered, passes))
    _print_all("Notes of the import:", (note_line(n.value, n.kind, n.text) for n in notes))


def _print_all(title: str, lines: Iterable[Text]) -> None:
    found = list(lines)
    if found and title:
        out().print(f"\n{title}", soft_wrap=True)
    for line in found:
        out().print(line, soft_wrap=True)


def _shown(story: Story, *, is_float: bool) -> Text:
    line = Text(story.name, style="bold")
    if is_float:
        line.append(f"  {story.op}")
    else:
        kernel = f"/{story.kernel}" if story.kernel else ": a view, no code"
        line.append(f"  {story.op}{kernel}")
    if story.source:
        line.append(f"  ({story.source})", style="dim")
    _append_tensor(line, story.name, story.tensor)
    if story.fused:
        line.append(f"\n  stands also for tensors {', '.join(story.fused)}", style="dim")
    for value in story.absorbed:
        line.append(f"\n  also computes {value}")
    _append(line, story.passes)
    slower = [other for other in story.others if other.is_legal]
    illegal = [other for other in story.others if not other.is_legal]
    for other in slower:
        line.append(f"\n  not {other.kernel}: {other.reason}")
    if illegal:
        listed = "; ".join(f"{other.kernel} ({other.reason})" for other in illegal)
        line.append(f"\n  cannot run it: {listed}", style="dim")
    return line


def _gone(one: Removed) -> Text:
    line = Text(one.name, style="bold")
    _append_tensor(line, one.name, one.tensor)
    if one.into:
        line.append(f"\n  now part of %{one.into}, which computes it in the same step")
    _append(line, one.passes)
    return line


def _considered(one: Considered) -> Text:
    line = Text(f"  {one.name}: ")
    if one.done:
        line.append(
            f"{one.done} rewritten" + (f", {one.kept} left as they are" if one.kept else "")
        )
    else:
        line.append(one.reason, style="dim")
    return line


def _append_tensor(line: Text, name: str, tensor: str) -> None:
    """Say which tensor of the file a value is, where its name does not say so."""
    first, joined = first_of(tensor)
    if first and (joined or first != name):
        line.append(f"\n  tensor {first}", style="dim")
    if joined:
        line.append(f"\n    joined to it by the converter: {', '.join(joined)}", style="dim")


def _append(line: Text, told: tuple[Told, ...]) -> None:
    for one in told:
        line.append(f"\n  {one.by}: {'' if one.done else 'not rewritten: '}{one.text}")
