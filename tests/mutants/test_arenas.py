"""Placements with known answers."""

from __future__ import annotations

from .arenas import arena_problems


def test_small_arenas_are_optimal() -> None:
    assert not list(arena_problems())
