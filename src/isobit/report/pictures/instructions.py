"""Instructions by layer: the mean over the inputs that were run on the emulated core."""

from __future__ import annotations

from isobit.report import units
from isobit.report.report import Report, Step
from isobit.report.svg import Bar, Part, bars


def draw(report: Report) -> str:
    """Return the picture; "" where nothing was counted."""
    total = report.estimate.instructions
    counted = [step for step in report.steps if step.cost.instructions]
    if not total or not counted:
        return ""
    rows = [_row(step, total) for step in counted]
    rest = total - sum(step.cost.instructions or 0 for step in counted)
    if rest >= 1:
        rows.append(
            Bar(
                mark="",
                name="run function",
                parts=(Part(value=rest, class_="work"),),
                shown=units.count(rest),
                aside=units.percent(rest / total),
                tip=f"the run function's own: {units.count(rest)} instructions",
            )
        )
    return bars(
        rows,
        id_="instructions",
        title="Instructions by layer",
        desc=f"Instructions per inference and layer, {units.count(total)} in all. "
        "The table of layers has every number.",
    )


def _row(step: Step, total: float) -> Bar:
    cost = step.cost
    own = cost.instructions or 0.0
    lines = [f"{step.op}  {step.name}", f"{units.count(own)} instructions"]
    if cost.cycles is not None:
        lines.append(f"{units.count(cost.cycles)} cycles, modelled")
    if cost.macs:
        lines.append(f"{units.count(cost.macs)} MACs, {own / cost.macs:.2f} instructions each")
    return Bar(
        mark=str(step.index),
        name=step.op,
        parts=(Part(value=own, class_="work"),),
        shown=units.count(own),
        aside=units.percent(own / total),
        tip="\n".join(lines),
    )
