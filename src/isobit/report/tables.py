"""The tables of the page: what was compared, and every layer's numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from isobit.report import units
from isobit.report.report import Fate, Report, Step
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
    rows += _run_function(report, columns)
    head = [("#", "number"), ("Layer", "words"), *((c.title, c.class_) for c in columns)]
    return _table("Layers in execution order", head, rows)


def imported(report: Report) -> str:
    """Return the table of the imported file's values beside what stands for them here, and the
    notes of the import; "" for a network of another kind.
    """
    if report.origin is None or not report.origin.fates:
        return ""
    steps = {name: step for step in report.steps for name in step.writes}
    ports = {port.name for port in report.inputs}
    rows = []
    for fate in report.origin.fates:
        step = steps.get(fate.value)
        here = f"{step.index}  {step.op}" if step else "input" if fate.value in ports else "none"
        where = [text(here)]
        if fate.value:
            where.append(tag("span", text(fate.value), class_="value"))
        cells = [
            tag("th", *_file_names(fate), scope="row"),
            tag("td", *where, class_="words" if fate.value else "words soft"),
            tag("td", text("; ".join(fate.told)), class_="prose"),
        ]
        rows.append(tag("tr", *cells))
    head = [("In the file", "words"), ("Here", "words"), ("Done", "words")]
    table = _table("Values of the imported file, and what stands for them", head, rows)
    notes = [tag("li", text(note)) for note in report.origin.notes]
    return table + (tag("ul", *notes, class_="remarks") if notes else "")


def _file_names(fate: Fate) -> list[Markup]:
    """Return a value's name in the file, and those joined to it where a pointer can open them."""
    names = [tag("span", text(fate.tensor))]
    if fate.joined:
        count = f"and {len(fate.joined)} joined to it by the converter"
        listed = [tag("span", text(name), class_="tensor") for name in fate.joined]
        names.append(tag("details", tag("summary", text(count)), *listed))
    return names


def _run_function(report: Report, columns: list[_Column]) -> list[Markup]:
    """Return the row of what belongs to no layer: the run function and compiler helpers."""
    estimate = report.estimate
    totals = {"Code": estimate.remainder_bytes, "Instructions": estimate.remainder_instructions}
    if not any(totals.values()):
        return []
    name = tag("th", tag("b", text("run function")), scope="row")
    cells = [_cell(_optional(totals.get(column.title)), column.class_) for column in columns]
    return [tag("tr", _cell(""), name, *cells)]


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
    if step.tensor and step.tensor != step.name:
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
