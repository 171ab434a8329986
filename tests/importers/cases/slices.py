"""SLICE and STRIDED_SLICE."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .base import Case, cases, constant, single
from .movement import Shape, moved


@cases("SLICE")
def slices(code: str) -> Iterator[Case]:
    for label, shape, begin, size, dtype in (
        ("crop", (1, 5, 6, 3), (0, 1, 2, 0), (1, 3, 4, 3), "int8"),
        ("channels", (1, 3, 4, 6), (0, 0, 0, 2), (1, 3, 4, 3), "int8"),
        ("one channel", (1, 3, 4, 6), (0, 0, 0, 5), (1, 3, 4, 1), "int8"),
        ("to the end", (1, 5, 6, 3), (0, 2, 0, 1), (-1, -1, 6, -1), "int8"),
        ("rows", (1, 5, 3, 2), (0, 4, 0, 0), (1, 1, 3, 2), "int8"),
        ("features", (1, 21), (0, 5), (1, 9), "int8"),
        ("a vector", (21,), (12,), (9,), "int8"),
        ("one element", (7,), (6,), (1,), "int8"),
        ("the first axis", (4, 3), (1, 0), (2, 3), "int8"),
        ("both axes", (4, 3), (3, 1), (1, 2), "int8"),
        ("everything", (1, 3, 4), (0, 0, 0), (-1, 3, -1), "int8"),
        ("rank 3", (3, 4, 5), (1, 1, 2), (2, 2, 3), "int8"),
        ("rank 5", (2, 1, 3, 1, 4), (1, 0, 1, 0, 1), (1, 1, 2, 1, -1), "int8"),
        ("float32", (1, 5, 4), (0, 1, 1), (1, 3, 2), "float32"),
        ("int32", (4,), (1,), (2,), "int32"),
    ):
        yield _sliced(code, label, shape, begin, size, dtype, "int32")
    yield _sliced(code, "int64 indices", (1, 9), (0, 2), (1, 4), "int8", "int64")


def _sliced(
    code: str, label: str, shape: Shape, begin: Shape, size: Shape, dtype: str, index: str
) -> Case:
    new = [n - b if s == -1 else s for n, b, s in zip(shape, begin, size, strict=True)]
    x = moved("x", shape, dtype)
    inputs = [x, constant("begin", begin, index), constant("size", size, index)]
    return single(code, label, inputs, [moved("y", new, dtype)], "SliceOptions")


Index = slice | int
STRIDED: tuple[tuple[str, Shape, tuple[Index, ...], str], ...] = (
    ("crop", (1, 5, 6, 3), (slice(None), slice(1, 4), slice(2, 6), slice(None)), "int8"),
    (
        "every second",
        (1, 7, 6, 2),
        (slice(None), slice(0, 7, 2), slice(1, 6, 2), slice(None)),
        "int8",
    ),
    ("channels", (1, 3, 4, 6), (slice(0, 1), slice(0, 3), slice(0, 4), slice(2, 5)), "int8"),
    ("from the end", (1, 9), (slice(0, 1), slice(-5, -1)), "int8"),
    ("backwards", (1, 9), (slice(0, 1), slice(7, 2, -1)), "int8"),
    ("backwards by two", (9,), (slice(8, 1, -2),), "int8"),
    (
        "turned round",
        (1, 3, 4, 2),
        (slice(None), slice(None, None, -1), slice(None, None, -1), slice(None)),
        "int8",
    ),
    ("all turned round", (2, 3), (slice(None, None, -1), slice(None, None, -1)), "int8"),
    ("beyond the end", (1, 9), (slice(0, 1), slice(4, 60)), "int8"),
    ("far beyond both ends", (9,), (slice(-60, 60),), "int8"),
    ("backwards from beyond", (9,), (slice(60, -60, -4),), "int8"),
    ("one row", (1, 5, 3, 2), (slice(None), 3, slice(None), slice(None)), "int8"),
    ("last column", (1, 5, 3, 2), (slice(None), slice(None), -1, slice(None)), "int8"),
    ("one channel", (1, 5, 3, 2), (slice(None), slice(None), slice(None), 1), "int8"),
    ("no batch", (1, 5, 3), (0, slice(1, 4), slice(None)), "int8"),
    ("a row of a matrix", (4, 5), (2, slice(None)), "int8"),
    ("one element", (1, 5, 3), (0, 4, 1), "int8"),
    ("the first axis", (5, 3), (slice(1, 5, 2), slice(None)), "int8"),
    ("last time step", (1, 6, 4), (slice(None), -1, slice(None)), "int8"),
    ("everything", (1, 3, 4), (slice(None), slice(None), slice(None)), "int8"),
    (
        "rank 4 by four strides",
        (3, 4, 5, 4),
        (slice(0, 3, 2), slice(3, 0, -2), slice(0, 5, 3), slice(0, 4, 2)),
        "int8",
    ),
    ("float32", (1, 5, 4), (slice(None), slice(4, 0, -2), slice(1, 3)), "float32"),
    ("int32", (4,), (1,), "int32"),
)


@cases("STRIDED_SLICE")
def strided_slice(code: str) -> Iterator[Case]:
    for label, shape, index, dtype in STRIDED:
        yield strided(code, label, shape, index, dtype)


def strided(code: str, label: str, shape: Shape, index: tuple[Index, ...], dtype: str) -> Case:
    """The operator that means `x[index]` in NumPy."""
    begins, ends, strides = [], [], []
    masks = {"BeginMask": 0, "EndMask": 0, "ShrinkAxisMask": 0}
    for axis, entry in enumerate(index):
        if isinstance(entry, int):
            masks["ShrinkAxisMask"] |= 1 << axis
            entry = slice(entry, entry + 1)
        masks["BeginMask"] |= (entry.start is None) << axis
        masks["EndMask"] |= (entry.stop is None) << axis
        begins.append(entry.start or 0)
        ends.append(entry.stop or 0)
        strides.append(entry.step or 1)
    inputs = [
        moved("x", shape, dtype),
        constant("begin", begins),
        constant("end", ends),
        constant("strides", strides),
    ]
    y = moved("y", np.empty(shape)[index].shape, dtype)
    return single(code, label, inputs, [y], "StridedSliceOptions", masks)
