"""Loops over broadcast operands."""

from __future__ import annotations

from .loops import loop_problems


def test_broadcast_takes_the_fewest_loops() -> None:
    assert not list(loop_problems())
