"""Flash by layer: constants and kernel code, and what belongs to no layer."""

from __future__ import annotations

from isobit.report import units
from isobit.report.report import Report, Step
from isobit.report.svg import Bar, Part, bars, join, legend


def draw(report: Report) -> str:
    """Return the picture; "" where no layer has a byte in flash."""
    estimate = report.estimate
    index_of = {step.name: step.index for step in report.steps}
    rows = [
        _row(step, index_of) for step in report.steps if _bytes(step) or step.cost.shares_code_with
    ]
    rest = report.remainder_bytes
    if rest is not None and rest > 0:
        rows.append(
            Bar(
                mark="",
                name="run function",
                parts=(Part(value=rest, class_="code"),),
                shown=units.count(rest),
                tip=f"the run function and compiler helpers: {units.count(rest)} bytes",
            )
        )
    if not rows:
        return ""
    compiled = estimate.flash_bytes is not None
    total = estimate.constant_bytes if estimate.flash_bytes is None else estimate.flash_bytes
    keys = (
        [("constants", "constants"), ("code", "code")] if compiled else [("constants", "constants")]
    )
    picture = bars(
        rows,
        id_="flash",
        title="Flash by layer",
        desc=f"Bytes per layer, {units.count(total)} in all. The table of layers has every number.",
    )
    return join([legend(keys), picture])


def _bytes(step: Step) -> int:
    return step.cost.constant_bytes + (step.cost.code_bytes or 0)


def _row(step: Step, index_of: dict[str, int]) -> Bar:
    cost = step.cost
    shared = cost.shares_code_with
    lines = [f"{step.op}  {step.name}", f"constants {units.count(cost.constant_bytes)} bytes"]
    if shared:
        lines.append(f"runs the code of {shared}")
    elif cost.code_bytes is not None:
        lines.append(f"code {units.count(cost.code_bytes)} bytes")
    return Bar(
        mark=str(step.index),
        name=step.op,
        parts=(
            Part(value=cost.constant_bytes, class_="constants"),
            Part(value=cost.code_bytes or 0, class_="code"),
        ),
        shown=units.count(_bytes(step)),
        aside=f"code shared with {index_of[shared]}" if shared in index_of else "",
        tip="\n".join(lines),
    )
