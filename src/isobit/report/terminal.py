"""The report as text: tables with aligned numbers that need neither colour nor a terminal.

Names are `Text`, never markup: a value called `[red]` is shown as that. Numbers never lose a digit:
where a table is wider than the console, names are folded instead.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from isobit.report import units
from isobit.report.report import Confusion, Report
from isobit.run.estimate import Estimate
from isobit.run.verify import Comparison

_EPOCHS_MOST = 8


def print_report(report: Report, console: Console) -> None:
    """Print everything the report has, most important first."""
    console.print(Text(f"{report.name} on {report.target_title}", style="bold"))
    console.print(_verdict(report))
    for note in report.notes:
        console.print(Text(f"Note: {note}"))
    console.print()
    if report.accuracy is not None:
        on = f" on {report.accuracy_on}" if report.accuracy_on else ""
        console.print(
            Text(f"Accuracy: {units.accuracy(report.accuracy)}{on}, by the chip's integers")
        )
        console.print()
    if report.comparisons:
        results = [report.result(c) for c in report.comparisons]
        _print(console, "Verification", verification_table(report.comparisons, results))
        for line in verification_notes(report.comparisons):
            console.print(line)
        console.print()
    for difference in _differences(report.comparisons):
        console.print(difference)
        console.print()
    _print(console, "Sizes and work", estimate_table(report.estimate))
    if report.steps:
        _print(console, "Layers", layer_table(report.estimate))
    if report.epochs:
        _print(console, "Training", _training_table(report))
    if report.confusion is not None and report.confusion.total:
        _print(console, "Most frequent errors", _error_table(report.confusion))
    console.print(_footer(report))


def estimate_table(estimate: Estimate) -> Table:
    """Return the totals: figure, number, unit, meaning."""
    table = _table("Figure", "Amount>", "Unit", "Meaning")
    ram_limit, flash_limit = estimate.ram_limit_bytes, estimate.flash_limit_bytes
    ram = estimate.arena_bytes if estimate.ram_bytes is None else estimate.ram_bytes
    flash = estimate.constant_bytes if estimate.flash_bytes is None else estimate.flash_bytes
    clock = f"modelled at {estimate.clock_hz / 1e6:g} MHz"
    rows: list[tuple[str, float | None, str, str]] = [
        ("RAM", estimate.ram_bytes, "bytes", _share(ram, ram_limit)),
        ("  arena", estimate.arena_bytes, "bytes", "input, output, scratch and state included"),
        ("  stack", estimate.stack_bytes, "bytes", "upper bound"),
        ("flash", estimate.flash_bytes, "bytes", _share(flash, flash_limit)),
        ("  constants", estimate.constant_bytes, "bytes", ""),
        ("MACs", estimate.macs, "", "per inference"),
        ("instructions", estimate.instructions, "", "per inference, counted"),
        ("cycles", estimate.cycles, "", f"modelled, {estimate.cycle_model}, zero wait states"),
        ("time", estimate.milliseconds, "ms", clock),
    ]
    for name, value, unit, meaning in rows:
        if value is not None:
            shown = f"{value:,.3f}" if name == "time" else units.count(value)
            _add(table, name, shown, unit, meaning)
    return table


def layer_table(estimate: Estimate) -> Table:
    """Return a row per layer and one for the run function, which belongs to none; code and
    instructions where they were measured.
    """
    compiled = estimate.flash_bytes is not None
    counted = estimate.instructions is not None
    columns = ["#>", "Layer", "Kernel", "Live RAM>", "Constants>"]
    columns += ["Code>"] if compiled else []
    columns += ["Instructions>"] if counted else []
    table = _table(*columns)
    index_of = {layer.name: index for index, layer in enumerate(estimate.layers)}
    for index, layer in enumerate(estimate.layers):
        code = units.count(layer.code_bytes or 0)
        if layer.shares_code_with in index_of:
            code = f"as {index_of[layer.shares_code_with]}"
        cells = [str(index), layer.name, f"{layer.op}/{layer.kernel}"]
        cells += [units.count(layer.live_bytes), units.count(layer.constant_bytes)]
        cells += [code] if compiled else []
        own = layer.instructions
        cells += ["" if own is None else units.count(own)] if counted else []
        _add(table, *cells)
    if compiled or counted:
        cells = ["", "run function", "", "", ""]
        cells += [units.count(estimate.remainder_bytes or 0)] if compiled else []
        cells += [units.count(estimate.remainder_instructions or 0)] if counted else []
        _add(table, *cells)
    return table


def verification_table(
    comparisons: Sequence[Comparison], results: Sequence[str] | None = None
) -> Table:
    """Return a row per execution compared with the golden model.

    results: a word for each, where it is not simply whether it was equal.
    """
    words = results or ["equal" if c.equal else "differs" for c in comparisons]
    table = _table(
        "Execution", "Compiler", "Emulator", "Inputs>", "Tensors>", "Compared>", "Differing>", ""
    )
    for c, word in zip(comparisons, words, strict=True):
        _add(
            table,
            c.name,
            c.compiler or "-",
            c.emulator or "-",
            units.count(c.samples),
            units.count(c.tensors),
            units.count(c.compared),
            units.count(c.differing),
            "DIFFERS" if word == "differs" else word,
        )
    return table


def verification_notes(comparisons: Sequence[Comparison]) -> list[Text]:
    """Return a line for every execution whose C is not the folder's as it was deployed."""
    return [Text(f"{c.name}: C {c.c_origin}") for c in comparisons if c.replanned or c.edited]


def _verdict(report: Report) -> Text:
    if not report.comparisons:
        return Text("Not verified yet")
    if report.changed:
        words = "Changed since verification: the C in the folder is not the C that was compared"
        return Text(words, style="bold red")
    words = f"{units.count(report.differing)} of {units.count(report.compared)} values differ"
    return Text(words, style="bold red" if report.differing else "bold")


def _differences(comparisons: Sequence[Comparison]) -> list[Text]:
    """One line for every execution that differs: the first element that does."""
    found = []
    for c in comparisons:
        first = c.first
        if c.equal:
            continue
        if first is None:
            found.append(Text(f"{c.name}: a tensor has another shape than in the golden model"))
            continue
        index = ", ".join(map(str, first.index))
        source = f" ({first.location})" if first.location else ""
        found.append(
            Text(
                f"First difference on {c.name}: %{first.value}[{index}]{source} "
                f"is {first.other:,}, golden {first.golden:,}; "
                f"{units.count(first.count)} values of this tensor differ"
            )
        )
    return found


def _training_table(report: Report) -> Table:
    """The first epoch, the best and the last ones; all of them if they are few."""
    columns = ["Epoch>", "Loss>", "Training>", "Validation>", "Learning rate>"]
    timed = report.seconds is not None
    table = _table(*columns, *(["Seconds>"] if timed else []), "")
    best = report.best
    last = report.epochs[-(_EPOCHS_MOST - 2) :]
    shown = {e.epoch for e in (report.epochs[0], best, *last)}
    for e in report.epochs:
        if len(report.epochs) <= _EPOCHS_MOST or e.epoch in shown:
            words = ["float"] if e.phase == "float" else []
            _add(
                table,
                str(e.epoch),
                f"{e.loss:.4f}",
                units.accuracy(e.train_accuracy),
                units.accuracy(e.val_accuracy),
                f"{e.learning_rate:.2e}",
                *([f"{e.seconds:,.1f}"] if timed else []),
                ", ".join([*words, "best"] if e is best else words),
            )
    return table


def _error_table(confusion: Confusion) -> Table:
    table = _table("Count>", "Class", "Taken for")
    for count, true, answer in confusion.errors()[:5]:
        _add(table, units.count(count), true, answer)
    return table


def _footer(report: Report) -> Text:
    lines = [f"isobit {report.isobit}, target {report.target}"]
    lines += [f"compiler {report.estimate.compiler}"] if report.estimate.compiler else []
    lines += [f"{name} {value}" for name, value in report.hashes]
    return Text("\n".join(lines))


def _share(used: float, limit: int) -> str:
    return f"{units.percent(used / limit)} of {units.count(limit)}" if limit else ""


def _table(*headings: str) -> Table:
    """Return an empty table; a heading that ends in ">" is a column of numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        if heading.endswith(">"):
            table.add_column(Text(heading[:-1]), justify="right", no_wrap=True)
        else:
            table.add_column(Text(heading), overflow="fold")
    return table


def _add(table: Table, *cells: str) -> None:
    """Add a row; a column of numbers keeps the room of its longest, so that only names give way."""
    table.add_row(*(Text(cell) for cell in cells))
    for column, cell in zip(table.columns, cells, strict=True):
        if column.no_wrap:
            heading = column.header.cell_len if isinstance(column.header, Text) else 0
            column.min_width = max(column.min_width or heading, len(cell))


def _print(console: Console, title: str, table: Table) -> None:
    console.print(Text(title, style="bold"))
    console.print(table)
    console.print()
