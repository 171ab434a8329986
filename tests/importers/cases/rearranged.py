"""Operators that repeat, reverse, pick, and exchange pixels with channels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .base import Case, cases, constant, single
from .movement import Shape, moved

REPEATS: tuple[tuple[str, Shape, Shape], ...] = (
    ("rows", (1, 2, 3, 4), (1, 3, 1, 1)),
    ("columns", (1, 2, 3, 4), (1, 1, 2, 1)),
    ("channels", (1, 2, 3, 4), (1, 1, 1, 3)),
    ("everything", (1, 2, 3, 2), (1, 2, 3, 2)),
    ("the first axis", (2, 3), (3, 1)),
    ("a batch", (1, 5), (4, 1)),
    ("a vector", (7,), (2,)),
    ("one element", (1,), (9,)),
    ("nothing", (1, 4, 3), (1, 1, 1)),
    ("pixels, as upsampling does", (1, 4, 4, 1, 3), (1, 1, 1, 2, 1)),
    ("as often as a kernel takes", (1, 3), (1, 16)),
    ("more often than a kernel takes", (1, 3), (1, 17)),
    ("much more often", (1, 2, 2), (1, 1, 300)),
)


@cases("TILE")
def tile(code: str) -> Iterator[Case]:
    """tflite-micro has no kernel of it."""
    for dtype in ("int8", "float32"):
        for label, shape, times in REPEATS[: None if dtype == "int8" else 3]:
            x = moved("x", shape, dtype)
            y = moved("y", [a * b for a, b in zip(shape, times, strict=True)], dtype)
            inputs = [x, constant("multiples", times)]
            name = f"{label}, {dtype}"
            yield single(code, name, inputs, [y], version=2, runtime="litert")


@cases("BROADCAST_TO")
def broadcast_to(code: str) -> Iterator[Case]:
    for label, shape, target, dtype in (
        ("rows", (1, 1, 3, 4), (1, 5, 3, 4), "int8"),
        ("columns", (1, 3, 1, 4), (1, 3, 5, 4), "int8"),
        ("channels", (1, 2, 3, 1), (1, 2, 3, 6), "int8"),
        ("pixels", (1, 1, 1, 4), (1, 3, 3, 4), "int8"),
        ("a vector to a matrix", (4,), (3, 4), "int8"),
        ("a vector to an image", (4,), (1, 2, 3, 4), "int8"),
        ("a column", (3, 1), (3, 7), "int8"),
        ("one element", (1,), (2, 3), "int8"),
        ("nothing", (1, 2, 3), (1, 2, 3), "int8"),
        ("a batch", (1, 5), (4, 5), "int8"),
        ("more often than a kernel takes", (1, 1, 2), (1, 33, 2), "int8"),
        ("float32", (1, 1, 3), (1, 4, 3), "float32"),
        ("int32", (1, 3), (2, 3), "int32"),
    ):
        inputs = [moved("x", shape, dtype), constant("shape", target)]
        yield single(code, label, inputs, [moved("y", target, dtype)])


@cases("REVERSE_V2")
def reverse(code: str) -> Iterator[Case]:
    """tflite-micro takes neighbouring axes in rising order."""
    for label, shape, axes, dtype in (
        ("rows", (1, 4, 3, 2), (1,), "int8"),
        ("columns", (1, 4, 3, 2), (2,), "int8"),
        ("channels", (1, 2, 3, 4), (3,), "int8"),
        ("channels from the end", (1, 2, 3, 4), (-1,), "int8"),
        ("pixels", (1, 4, 3, 2), (1, 2), "int8"),
        ("the first axis", (3, 4), (0,), "int8"),
        ("a vector", (7,), (0,), "int8"),
        ("one element", (1,), (0,), "int8"),
        ("an axis of one", (1, 5, 1), (2,), "int8"),
        ("time", (1, 9, 3), (1,), "int8"),
        ("rank 5", (1, 2, 2, 3, 2), (3,), "int8"),
        ("float32", (1, 6, 2), (1,), "float32"),
        ("int32", (4,), (0,), "int32"),
    ):
        inputs = [moved("x", shape, dtype), constant("axes", axes)]
        yield single(code, label, inputs, [moved("y", shape, dtype)])


@cases("GATHER")
def gather(code: str) -> Iterator[Case]:
    picks: tuple[tuple[str, Shape, int, Sequence[int], str], ...] = (
        ("channels", (1, 2, 3, 8), 3, (1, 2, 3), "int8"),
        ("channels from the end", (1, 2, 3, 8), -1, (0, 7), "int8"),
        ("every other column", (1, 4, 6, 2), 2, (0, 2, 4), "int8"),
        ("backwards", (1, 4, 6, 2), 1, (3, 2, 1, 0), "int8"),
        ("twice the same", (1, 5), 1, (2, 2), "int8"),
        ("a permutation", (1, 3, 6), 2, (5, 0, 3, 1, 4, 2), "int8"),
        ("several runs", (1, 12), 1, (0, 1, 2, 8, 6, 4, 11), "int8"),
        ("the first axis", (4, 3), 0, (3, 1), "int8"),
        ("a vector", (9,), 0, (8, 0, 4), "int8"),
        ("everything", (1, 4), 1, (0, 1, 2, 3), "int8"),
        ("more runs than a kernel joins", (1, 40), 1, tuple(i * i % 37 for i in range(40)), "int8"),
        ("one", (1, 5, 2), 1, (4,), "int8"),
        ("float32", (1, 5, 2), 1, (4, 0), "float32"),
    )
    for label, shape, axis, indices, dtype in picks:
        yield _gathered(code, label, shape, axis, np.asarray(indices), dtype)
    yield _gathered(code, "one without its axis", (1, 5, 2), 1, np.asarray(3), "int8")
    yield _gathered(code, "a matrix of indices", (1, 6), 1, np.asarray([[0, 1], [5, 2]]), "int8")


def _gathered(
    code: str, label: str, shape: Shape, axis: int, indices: np.ndarray, dtype: str
) -> Case:
    at = axis % len(shape)
    x, y = moved("x", shape, dtype), (*shape[:at], *indices.shape, *shape[at + 1 :])
    inputs = [x, constant("indices", indices)]
    return single(code, label, inputs, [moved("y", y, dtype)], "GatherOptions", {"Axis": axis})


@cases("DEPTH_TO_SPACE", "SPACE_TO_DEPTH")
def blocks(code: str) -> Iterator[Case]:
    options = "DepthToSpaceOptions" if code == "DEPTH_TO_SPACE" else "SpaceToDepthOptions"
    for shape, size, dtype in (
        ((1, 2, 3, 4), 2, "int8"),
        ((1, 3, 2, 8), 2, "int8"),
        ((1, 1, 1, 12), 2, "int8"),
        ((1, 5, 1, 4), 2, "int8"),
        ((1, 1, 7, 8), 2, "int8"),
        ((1, 2, 2, 9), 3, "int8"),
        ((1, 3, 1, 18), 3, "int8"),
        ((1, 2, 1, 16), 4, "int8"),
        ((1, 1, 2, 32), 4, "int8"),
        ((1, 4, 4, 3), 1, "int8"),
        ((2, 2, 2, 4), 2, "int8"),
        ((1, 2, 3, 4), 2, "float32"),
        ((1, 1, 2, 9), 3, "float32"),
    ):
        count, rows, columns, channels = shape
        wide = (count, rows * size, columns * size, channels // size**2)
        source, result = (shape, wide) if code == "DEPTH_TO_SPACE" else (wide, shape)
        xs, ys = [moved("x", source, dtype)], [moved("y", result, dtype)]
        label = f"{'x'.join(map(str, shape))} by {size}, {dtype}"
        yield single(code, label, xs, ys, options, {"BlockSize": size})
