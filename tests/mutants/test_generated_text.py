"""The layout and the literals of generated C."""

from __future__ import annotations

from isobit import targets
from isobit.codegen.network import generate
from isobit.plan.plan import make_plan
from property.graphs import draw

from .generated_text import layout_problems, literal_problems, symbol_problems


def test_literals_are_the_numbers() -> None:
    assert not list(literal_problems())


def test_symbols_differ_and_alignments_say_something() -> None:
    assert not list(symbol_problems())


def test_generated_lines_are_laid_out() -> None:
    host = targets.load("host")
    for seed in range(40):
        network = generate(make_plan(draw(seed).graph, host), "")
        assert not list(layout_problems(network)), f"seed {seed}"
