"""SUM, MEAN, REDUCE_MAX, REDUCE_MIN."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .base import Case, activation, cases, constant, single

SHAPES = (
    # label, shape, axes, keep_dims
    ("height and width", (1, 4, 5, 3), (1, 2), True),
    ("height and width, dropped", (1, 4, 5, 3), (1, 2), False),
    ("in another order", (1, 4, 5, 3), (2, 1), True),
    ("channels", (1, 4, 5, 3), (3,), True),
    ("last, negative", (1, 7, 9), (-1,), False),
    ("rows of a matrix", (1, 7, 9), (1,), False),
    ("all but the batch", (1, 4, 5, 3), (1, 2, 3), False),
    ("everything", (1, 3, 4, 2), (0, 1, 2, 3), False),
    ("features", (1, 33), (1,), True),
    ("one axis", (17,), (0,), True),
    ("a batch of two", (2, 4, 5, 3), (1, 2), True),
    ("the batch", (3, 4, 5), (0,), False),
    ("every other axis", (1, 3, 4, 5, 2), (1, 3), True),
    ("an axis of one", (1, 1, 5, 3), (1,), True),
    ("twice the same axis", (1, 4, 5, 3), (1, 1), True),
)
SCALES = (
    ("one encoding", (0.05, 3), (0.05, 3)),
    ("zero points at the ends", (0.05, -128), (0.04, 127)),
    ("zero points at the other ends", (0.05, 127), (0.06, -128)),
    ("coarse", (0.003, 4), (0.5, -3)),
    ("fine", (0.5, 4), (0.01, -3)),
    ("nothing left", (1e-9, 4), (0.5, -3)),
)


@cases("SUM", "MEAN", "REDUCE_MAX", "REDUCE_MIN")
def reduction(code: str) -> Iterator[Case]:
    sums = code in ("SUM", "MEAN")
    y = (0.3 if code == "SUM" else 0.04, -5) if sums else (0.05, 3)
    for label, shape, axes, keep in SHAPES:
        yield _case(code, label, shape, axes, keep, ((0.05, 3), y))
        yield _case(code, f"float, {label}", shape, axes, keep, ((0.05, 3), y), "float32")
    for label, *scales in SCALES if sums else ():
        yield _case(code, label, (1, 5, 7, 3), (1, 2), True, scales)
        yield _case(code, f"{label}, dropped", (1, 5, 7, 3), (2,), False, scales)
    if sums:
        yield _case(code, "49 terms", (1, 7, 7, 6), (1, 2), True, ((0.023, -9), (0.011, 4)))
        yield _case(code, "many terms", (1, 40, 50, 2), (1, 2), True, ((0.05, 3), (0.02, 4)))


def _case(
    code: str,
    label: str,
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    keep: bool,
    scales: Sequence[tuple[float, int]],
    dtype: str = "int8",
) -> Case:
    reduced = {axis % len(shape) for axis in axes}
    out = tuple(
        1 if axis in reduced else size
        for axis, size in enumerate(shape)
        if keep or axis not in reduced
    )
    x, y = (activation(n, s, *e, dtype) for n, s, e in zip("xy", (shape, out), scales, strict=True))
    inputs = [x, constant("axes", axes)]
    return single(code, label, inputs, [y], "ReducerOptions", {"KeepDims": keep})
