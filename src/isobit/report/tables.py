"""The tables of the page: what was compared, and every layer's numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from isobit.report import units
from isobit.report.report import Report, Step
from isobit.report.svg import Markup, ending, tag, text


@dataclass(frozen=True, slots=True)
class _Column:
    """A heading, what stands in a row, and the class of the cells."""

    title: str
    read: Callable[[Step], object]
    class_: str = "number"


def verification(report: Report) -> str:
    """Return the table of executions; "" where nothing was verified."""
    if not report.comparisons:
        return ""
    rows = []
    for c in report.comparisons:
        cells = [
            tag("th", text(c.name), scope="row"),
            _cell(units.count(c.differing), "number total"),
            _cell(report.result(c), "words"),
            _cell(units.count(c.compared)),
            _cell(units.count(c.tensors)),
            _cell(units.count(c.samples)),
            _cell(c.compiler or "none", "words"),
            _cell(c.emulator or "none", "words"),
            _cell(c.c_origin or "none", "words"),
        ]
        good = report.result(c) == "equal"
        rows.append(tag("tr", *cells, class_=None if good else "unequal"))
    head = [
        ("Execution", "words"),
        ("Differing", "number"),
        ("Result", "words"),
        ("Values compared", "number"),
        ("Tensors", "number"),
        ("Inputs", "number"),
        ("Compiler", "words"),
        ("Emulator", "words"),
        ("C", "words"),
    ]
    return _table("Executions compared with the golden model", head, rows)


def layers(report: Report) -> str:
    """Return the table of layers: every number of the pictures, and the source line."""
    if not report.steps:
        return ""
    columns = _columns(report)
    index_of = {step.name: step.index for step in report.steps}
    rows = []
    for step in report.steps:
        name = _name(step)
        cells = [_cell(column.read(step), column.class_) for column in columns]
        shared = step.cost.shares_code_with
        if shared in index_of and report.estimate.flash_bytes is not None:
            at = next(i for i, column in enumerate(columns) if column.title == "Code")
            cells[at] = _cell(f"as {index_of[shared]}", "number soft")
        peak = step.index == report.peak_index
        rows.append(tag("tr", _cell(step.index), name, *cells, class_="peak" if peak else None))
    head = [("#", "number"), ("Layer", "words"), *((c.title, c.class_) for c in columns)]
    return _table("Layers in execution order", head, rows)


def _columns(report: Report) -> list[_Column]:
    estimate = report.estimate
    found = [
        _Column("Kernel", lambda s: s.kernel, "words"),
        _Column("Output", lambda s: f"{units.shape(s.shape)} {s.dtype}", "words mono"),
        _Column("MACs", lambda s: units.count(s.cost.macs)),
        _Column("Live RAM", lambda s: units.count(s.cost.live_bytes)),
        _Column("Constants", lambda s: units.count(s.cost.constant_bytes)),
    ]
    if estimate.flash_bytes is not None:
        found.append(_Column("Code", lambda s: units.count(s.cost.code_bytes or 0)))
    if estimate.instructions is not None:
        found.append(_Column("Instructions", lambda s: _optional(s.cost.instructions)))
    if estimate.cycles is not None:
        found.append(_Column("Cycles", lambda s: _optional(s.cost.cycles)))
    if any(step.source for step in report.steps):
        found.append(_Column("Source", lambda s: s.source, "words mono"))
    return found


def _name(step: Step) -> Markup:
    """Return the operator, the value, and below it the tensor of the imported file.

    Of fused ones, which a converter joins with semicolons, the first and how many more.
    """
    parts = [tag("b", text(step.op)), tag("span", text(step.name))]
    if step.tensor:
        first, *more = step.tensor.split(";")
        words = ending(first, 32) + (f" and {len(more)} more" if more else "")
        parts.append(tag("span", text(words), class_="tensor", title=step.tensor))
    return tag("th", *parts, scope="row")


def _optional(value: float | None) -> str:
    return "" if value is None else units.count(value)


def _cell(value: object, class_: str = "number") -> Markup:
    return tag("td", text(value), class_=class_)


def _table(caption: str, head: list[tuple[str, str]], rows: list[Markup]) -> Markup:
    titles = [tag("th", text(title), scope="col", class_=class_) for title, class_ in head]
    whole = tag(
        "table",
        tag("caption", text(caption)),
        tag("thead", tag("tr", *titles)),
        tag("tbody", *rows),
    )
    return tag("div", whole, class_="scroll", tabindex=0, role="region", aria_label=caption)
