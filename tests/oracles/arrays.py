"""Arrays in, arrays out; everything between is Python integers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

Index = tuple[int, ...]


def integers(array: np.ndarray | None) -> list | None:
    """A nested list of Python integers, or None."""
    if array is None:
        return None
    array = np.asarray(array)
    assert array.dtype.kind in "iu", f"integers expected, got {array.dtype}"
    return array.tolist()


def filled(shape: Index) -> np.ndarray:
    """The output, to be written one element at a time."""
    return np.zeros(shape, dtype=np.int64)


def positions(shape: Index) -> Iterator[Index]:
    """Every index of an array of this shape, the last axis running fastest."""
    if not shape:
        yield ()
        return
    for head in positions(shape[:-1]):
        for last in range(shape[-1]):
            yield (*head, last)


def broadcast_shape(a: Index, b: Index) -> Index:
    """NumPy broadcasting: align at the last axis; equal sizes, or one of them 1."""
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + tuple(a), (1,) * (rank - len(b)) + tuple(b)
    assert all(p == q or 1 in (p, q) for p, q in zip(a, b, strict=True)), f"{a} against {b}"
    return tuple(q if p == 1 else p for p, q in zip(a, b, strict=True))


def broadcast_index(index: Index, shape: Index) -> Index:
    """The element of an array of `shape` that serves the output element at `index`."""
    own = index[len(index) - len(shape) :]
    return tuple(0 if size == 1 else i for i, size in zip(own, shape, strict=True))


def from_flat(position: int, shape: Index) -> Index:
    """The index of the element number `position` in row-major order."""
    index = []
    for size in reversed(shape):
        index.append(position % size)
        position //= size
    return tuple(reversed(index))


def count(shape: Index) -> int:
    """How many elements an array of this shape has."""
    return math.prod(shape)


def axis_of(axis: int, rank: int) -> int:
    """The axis counted from 0, the batch; a negative one counts from the end. Never the batch."""
    axis = axis + rank if axis < 0 else axis
    assert 0 < axis < rank, "the batch axis stays whole and first"
    return axis
