"""The text: numbers whole at 80 columns, nothing that only colour says, names never markup."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console, RenderableType

from isobit.report.report import Report
from isobit.report.terminal import (
    estimate_table,
    layer_table,
    print_report,
    verification_table,
)
from isobit.report.units import count
from isobit.run.verify import Difference
from report.cases import HISTORY, bare_report, comparison, full_report


def _console(width: int = 80) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, width=width), stream


def _text(item: RenderableType) -> str:
    console, stream = _console()
    console.print(item)
    return stream.getvalue()


def _report(report: Report, width: int = 80) -> str:
    console, stream = _console(width)
    print_report(report, console)
    return stream.getvalue()


@pytest.mark.parametrize("name", ["full", "bare", "large"])
def test_text_fits_80_columns_without_escape_codes(
    name: str, request: pytest.FixtureRequest
) -> None:
    text = _report(request.getfixturevalue(name))
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert "…" not in text


def test_numbers_are_whole_at_80_columns(large: Report) -> None:
    layers = tuple(
        replace(
            layer,
            name=f"a.rather.long.name.of.a.layer.{layer.name}",
            live_bytes=12_345_678,
            constant_bytes=23_456_789,
            code_bytes=345_678,
            instructions=4_567_890_123.0,
        )
        for layer in large.estimate.layers
    )
    estimate = replace(large.estimate, layers=layers, instructions=98_765_432_109.0)
    text = _text(layer_table(estimate))
    for number in (12_345_678, 23_456_789, 4_567_890_123):
        assert text.count(count(number)) == 60
    assert "98,765,432,109" in _text(estimate_table(estimate))


def test_verification_is_whole_at_80_columns() -> None:
    long = replace(
        comparison("a-very-long-board-name-rev-b"),
        emulator="qemu-system-arm 10.0.2",
        compared=12_345_678_901,
        samples=100_000,
    )
    text = _text(verification_table([long]))
    assert "12,345,678,901" in text
    assert "100,000" in text
    assert "equal" in text


def test_headline_and_footer_are_there(full: Report) -> None:
    text = _report(full)
    assert "0 of 1,234,566 values differ" in text
    assert "Note: Data unverified." in text
    assert "isobit 0" in text
    assert "zig 1.2.3" in text


def test_a_difference_is_told_in_words() -> None:
    first = Difference(
        value="act", index=(0, 3), golden=12, other=-13, location="net.py:7", count=4
    )
    text = " ".join(_report(full_report(comparisons=[comparison("m4", first, 7)])).split())
    assert "7 of 617,283 values differ" in text
    assert "DIFFERS" in text
    assert "First difference on m4: %act[0, 3] (net.py:7) is -13, golden 12" in text


def test_a_difference_of_shapes_is_told() -> None:
    text = _report(full_report(comparisons=[comparison("host", None, 64)]))
    assert "another shape" in text


def test_names_are_never_markup() -> None:
    text = _report(
        full_report("[red]x[/red]", notes=["[bold]so[/bold]"], classes=("[i]", "b", "c"))
    )
    assert "[red]x[/red]tiny" in text
    assert "[bold]so[/bold]" in text
    assert "[i]" in text


def test_parts_without_data_are_left_out(bare: Report) -> None:
    text = _report(bare)
    for absent in ("Verification", "Training", "errors", "Accuracy", "instructions", "Note"):
        assert absent not in text
    assert "Not verified yet" in text


def test_long_histories_show_first_best_and_last() -> None:
    history = [
        {**HISTORY[0], "epoch": i + 1, "val_accuracy": 0.9 if i == 20 else 0.5} for i in range(60)
    ]
    lines = _report(full_report(history=history)).split("Training\n")[1].splitlines()
    numbers = [line.split()[0] for line in lines if line.split() and line.split()[0].isdigit()]
    assert numbers[:8] == ["1", "21", "55", "56", "57", "58", "59", "60"]


def test_float_epochs_are_named_and_times_left_out_where_unknown() -> None:
    kept = [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in HISTORY[:3]]
    history = [{**kept[0], "phase": "float", "val_accuracy": 0.99}, *kept[1:]]
    table = _report(full_report(history=history)).split("Training\n")[1].split("\n\n")[0]
    assert "Seconds" not in table
    words = [line.split()[-1] for line in table.splitlines()[2:5]]
    assert words[0] == "float" and words[2] == "best"


def test_layers_and_run_function_add_up(full: Report) -> None:
    lines = _text(layer_table(full.estimate)).splitlines()
    (row,) = [line for line in lines if "run function" in line]
    code, instructions = (int(word.replace(",", "")) for word in row.split()[-2:])
    layers = full.estimate.layers
    assert code + sum(c.constant_bytes + (c.code_bytes or 0) for c in layers) == (
        full.estimate.flash_bytes
    )
    assert full.estimate.instructions is not None
    counted = sum(c.instructions or 0 for c in layers)
    assert abs(instructions + counted - full.estimate.instructions) <= 1
    assert "run function" not in _text(layer_table(bare_report().estimate))


def test_changed_c_is_claimed_nothing_of() -> None:
    text = _report(full_report(changed=True))
    assert "Changed since verification" in text and "values differ" not in text
    assert " changed\n" in text.replace(" \n", "\n")


def test_where_the_c_came_from_is_told() -> None:
    again = replace(comparison("rv32imc"), replanned=True)
    unused = replace(comparison("host"), replanned=True, edited=("src/a.c",))
    own = replace(comparison("cortex-m4"), edited=("src/a.c", "src/b.c"))
    lines = _report(full_report(comparisons=[again, unused, own])).splitlines()
    assert "rv32imc: C re-planned for rv32imc" in lines
    assert "host: C re-planned for host; the folder's edited C was not used" in lines
    assert "cortex-m4: C the folder's, edited since deployment: src/a.c, src/b.c" in lines
    assert ": C " not in _report(full_report())
