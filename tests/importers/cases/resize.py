"""RESIZE_NEAREST_NEIGHBOR and RESIZE_BILINEAR."""

from __future__ import annotations

from collections.abc import Iterator

from .base import Case, activation, cases, constant, single

OPTIONS = {
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
}
SIZES = (
    ("twice as large", (3, 4, 5), (6, 8)),
    ("half", (6, 8, 3), (3, 4)),
    ("odd sizes", (5, 4, 3), (7, 9)),
    ("a little smaller", (9, 7, 2), (8, 5)),
    ("rows only", (4, 5, 2), (11, 5)),
    ("the same size", (4, 5, 2), (4, 5)),
    ("from one pixel", (1, 1, 4), (3, 2)),
    ("to one pixel", (4, 5, 3), (1, 1)),
    ("many", (3, 5, 1), (23, 38)),
    ("thirds and sevenths", (7, 3, 2), (30, 28)),
)


@cases("RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR")
def resize(code: str) -> Iterator[Case]:
    for label, shape, size in SIZES:
        for name, aligned, centres in (
            ("", False, False),
            (", corners", True, False),
            (", centres", False, True),
        ):
            yield _case(code, label + name, shape, size, aligned, centres)
            yield _case(code, f"float, {label}{name}", shape, size, aligned, centres, "float32")
    yield _case(code, "lowest zero point", (3, 4, 5), (7, 7), False, True, zero=-128)
    yield _case(code, "highest zero point", (3, 4, 5), (7, 7), True, False, zero=127)
    if code == "RESIZE_NEAREST_NEIGHBOR":
        yield _case(code, "corners and centres", (5, 6, 3), (7, 4), True, True)


def _case(
    code: str,
    label: str,
    shape: tuple[int, int, int],
    size: tuple[int, int],
    aligned: bool,
    centres: bool,
    dtype: str = "int8",
    *,
    zero: int = 3,
) -> Case:
    x = activation("x", (1, *shape), 0.05, zero, dtype)
    y = activation("y", (1, *size, shape[2]), 0.05, zero, dtype)
    values = {"AlignCorners": aligned, "HalfPixelCenters": centres}
    return single(code, label, [x, constant("size", size)], [y], OPTIONS[code], values)
