"""The fewest loops over two broadcast operands, written down."""

from __future__ import annotations

from collections.abc import Iterator

from isobit.ops.broadcast import loops

WANTED = {
    ((1, 3, 4, 5), (1, 3, 4, 5)): [(60, 1, 1)],
    ((1, 7), (1, 7)): [(7, 1, 1)],
    ((1, 1, 1, 1), (1, 1, 1, 1)): [],
    ((1, 3, 4, 5), (1, 1, 1, 5)): [(12, 5, 0), (5, 1, 1)],
    ((1, 1, 1, 5), (1, 3, 4, 5)): [(12, 0, 5), (5, 1, 1)],
    ((1, 3, 1, 1), (1, 3, 4, 5)): [(3, 1, 20), (20, 0, 1)],
    ((1, 3, 4, 5), (1, 3, 1, 1)): [(3, 20, 1), (20, 1, 0)],
    ((1, 3, 1, 5), (1, 1, 4, 5)): [(3, 5, 0), (4, 0, 5), (5, 1, 1)],
    ((1, 1), (1, 17)): [(17, 0, 1)],
    ((1, 2, 1, 3, 1), (1, 1, 4, 1, 5)): [(2, 3, 0), (4, 0, 5), (3, 1, 0), (5, 0, 1)],
    ((1, 2, 1, 3, 1), (1, 2, 1, 3, 4)): [(6, 1, 4), (4, 0, 1)],
}
"""Shapes of a and b -> (size, step of a, step of b), outermost first."""


def loop_problems() -> Iterator[str]:
    """Yield shapes that get other loops: more of them are slower, though no result is wrong."""
    for (a, b), want in WANTED.items():
        got = loops(a, b)
        if got != want:
            yield f"{a} and {b}: want {want}, got {got}"
