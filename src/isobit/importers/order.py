"""Where the elements of a tensor lie: an algebra of axis orders that survives reshapes.

An `Order` is a permutation of elements. Reading a tensor under another shape does not change it, so
a reshape is never an obstacle; it only asks into which factors the axes fall.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from isobit.core.types import IntArray, Shape

Perm = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """`sizes`: factors of the element count, outermost first in the foreign (row-major) order;
    `perm`: stored factor i is foreign factor `perm[i]`.

    Instances made by `of` and `transposed` are normal: no factor is 1, neighbours that stay
    neighbours are one factor. So two orders of as many elements are equal exactly if they place
    every element alike, and the row-major order is `((n,), (0,))`.
    """

    sizes: tuple[int, ...]
    perm: Perm

    @staticmethod
    def of(shape: Shape, perm: Sequence[int]) -> Order:
        """Return the order of a tensor of foreign `shape` whose stored axis i is axis `perm[i]`."""
        kept = [axis for axis in range(len(shape)) if shape[axis] != 1]
        stored = [kept.index(axis) for axis in perm if shape[axis] != 1]
        runs: list[list[int]] = []
        for factor in stored:
            if runs and runs[-1][-1] + 1 == factor:
                runs[-1].append(factor)
            else:
                runs.append([factor])
        by_first = sorted(range(len(runs)), key=lambda r: runs[r][0])
        sizes = tuple(math.prod(shape[kept[f]] for f in runs[r]) for r in by_first)
        return Order(sizes, tuple(by_first.index(r) for r in range(len(runs))))

    @staticmethod
    def row_major(elements: int) -> Order:
        """Return the foreign order itself."""
        return Order.of((elements,), (0,))

    @property
    def is_row_major(self) -> bool:
        """Whether every element lies where the foreign model has it."""
        return len(self.sizes) < 2

    @property
    def stored_shape(self) -> Shape:
        """The factors as they are stored."""
        return tuple(self.sizes[f] for f in self.perm)

    def refined(self, shape: Shape) -> Order | None:
        """Return the same order in factors that every axis of `shape` is a product of; not normal.

        `None` where an axis boundary lies inside of a factor, as in 6 read as 4 x 3 of 12.
        """
        bounds = sorted(_suffixes(self.sizes) | _suffixes(shape))
        if any(b % a for a, b in pairwise(bounds)):
            return None
        edges = bounds[::-1]  # outermost first
        sizes = [a // b for a, b in pairwise(edges)]
        own = [math.prod(self.sizes[i + 1 :]) for i in range(len(self.sizes))]
        parts = [
            [f for f in range(len(sizes)) if low <= edges[f + 1] and edges[f] <= low * size]
            for low, size in zip(own, self.sizes, strict=True)
        ]
        return Order(tuple(sizes), tuple(f for factor in self.perm for f in parts[factor]))

    def axis_factors(self, shape: Shape) -> list[list[int]]:
        """Return the factors of every axis of `shape`; `self` is refined for it."""
        found: list[list[int]] = []
        factor = 0
        for size in shape:
            own, product = [], 1
            while product < size:
                own.append(factor)
                product *= self.sizes[factor]
                factor += 1
            found.append(own)
        return found

    def axes(self, shape: Shape) -> Perm | None:
        """Return the axis order of a tensor of foreign `shape`, `None` where an axis is torn apart.

        Axes of size 1 lie anywhere: axis 0 comes first, the others behind the axis before them.
        """
        fine = self.refined(shape)
        if fine is None:
            return None
        position = {factor: place for place, factor in enumerate(fine.perm)}
        starts: list[tuple[int, int]] = []
        for axis, own in enumerate(fine.axis_factors(shape)):
            places = [position[f] for f in own]
            if not places:
                continue
            if places != list(range(places[0], places[0] + len(places))):
                return None
            starts.append((places[0], axis))
        long = [axis for _, axis in sorted(starts)]
        ones = [axis for axis in range(len(shape)) if shape[axis] == 1]
        front = [0] if ones and ones[0] == 0 else []
        rest = [axis for axis in ones if axis not in front]
        if long == sorted(long):
            return tuple(front + sorted(long + rest))
        return _with_ones(front, long, rest)

    def transposed(self, shape: Shape, perm: Sequence[int]) -> Order | None:
        """Return where `x.transpose(perm)` lies if it keeps the memory of x, a tensor of foreign
        `shape` in this order.
        """
        fine = self.refined(shape)
        if fine is None:
            return None
        factors = fine.axis_factors(shape)
        moved = [factor for axis in perm for factor in factors[axis]]
        sizes = tuple(fine.sizes[factor] for factor in moved)
        return Order.of(sizes, tuple(moved.index(factor) for factor in fine.perm))

    def indices(self, elements: int) -> IntArray:
        """Return, for every stored element, its foreign position."""
        plain = np.arange(elements, dtype=np.int64)
        return plain.reshape(self.sizes or (1,)).transpose(self.perm or (0,)).ravel()

    def move_to(self, other: Order) -> tuple[Shape, Perm] | None:
        """Return (shape, perm) of the transposition from memory in this order to `other`, `None`
        where their factors have no common refinement.
        """
        fine, aim = self.refined(other.sizes), other.refined(self.sizes)
        if fine is None or aim is None:
            return None
        perm = [fine.perm.index(factor) for factor in aim.perm]
        merged = Order.of(fine.stored_shape, perm)  # fewest axes
        return merged.sizes, merged.perm


def _suffixes(sizes: Shape) -> set[int]:
    return {math.prod(sizes[i:]) for i in range(len(sizes) + 1)}


def _with_ones(front: list[int], long: list[int], ones: list[int]) -> Perm:
    """Put axes of size 1 behind the axis that is before them in the foreign shape."""
    found = front + long
    for axis in ones:
        below = [place for place, other in enumerate(found) if other == axis - 1]
        found.insert(below[0] + 1 if below else len(front), axis)
    return tuple(found)
