"""Small placements with known answers."""

from __future__ import annotations

from collections.abc import Iterator

from isobit.plan.arena import Buffer, Sharing, live_bound, place


def arena_problems() -> Iterator[str]:
    """Yield what `place` and `live_bound` get wrong."""
    cases: dict[str, tuple[list[Buffer], list[Sharing], int, int]] = {
        "nothing": ([], [], 0, 0),
        "one": ([Buffer("a", 7, 0, 3)], [], 7, 7),
        "inside": ([Buffer("a", 5, 0, 2), Buffer("b", 3, 1, 1)], [], 8, 8),
        "one after the other": ([Buffer("a", 5, 0, 1), Buffer("b", 6, 2, 3)], [], 6, 6),
        "in place": ([Buffer("a", 8, 0, 1), Buffer("b", 8, 1, 2)], [Sharing("a", "b", 0)], 8, 8),
        "ahead by 3": (
            [Buffer("a", 8, 0, 1), Buffer("b", 8, 1, 2)],
            [Sharing("a", "b", 3)],
            11,
            11,
        ),
        # Neither by size nor by lifetime: the unaligned one must come between or last.
        "three, aligned": (
            [Buffer("a", 5, 2, 2), Buffer("b", 1, 1, 2), Buffer("c", 5, 2, 2, 4)],
            [],
            11,
            11,
        ),
        "three at once": (
            [Buffer("a", 3, 2, 2, 4), Buffer("b", 2, 2, 2, 4), Buffer("c", 2, 2, 2)],
            [],
            7,
            7,
        ),
    }
    for name, (buffers, sharing, size, bound) in cases.items():
        leads = {(s.source, s.output): s.lead_bytes for s in sharing}
        if live_bound(buffers, leads) != bound:
            yield f"{name}: a bound of {live_bound(buffers, leads)}, want {bound}"
        placed, got = place(buffers, sharing)
        if got != size or set(placed) != {b.name for b in buffers}:
            yield f"{name}: {got} bytes, want {size}"
