"""The kernels that each mode takes."""

from __future__ import annotations

from property.graphs import draw

from .choices import choice_problems, ram_problems, relaxed_problems, unknown_problems


def test_modes_take_what_they_promise() -> None:
    assert not list(choice_problems())


def test_ram_has_the_smallest_arena_of_all_modes() -> None:
    for seed in range(40):
        assert not list(ram_problems(draw(seed).graph)), f"seed {seed}"


def test_ram_keeps_fast_kernels_below_the_peak() -> None:
    assert not list(relaxed_problems())


def test_a_node_without_a_kernel_is_named() -> None:
    assert not list(unknown_problems())
