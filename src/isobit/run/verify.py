"""Proof of equality: golden model, torch's recorded trace and the C on every core, value by
value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from isobit.core.errors import ValuesDiffer
from isobit.core.types import AnyArray
from isobit.ir.graph import Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first element that differs: where, and both values."""

    value: str
    index: tuple[int, ...]
    golden: int | float
    other: int | float
    location: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One execution against the golden model. `compared` counts single values over all tensors and
    samples.
    """

    name: str
    compiler: str
    emulator: str
    samples: int
    tensors: int
    compared: int
    differing: int
    first: Difference | None = None
    content_hash: str = ""

    @property
    def equal(self) -> bool:
        """Whether every value is the same."""
        return self.differing == 0


def compare(
    graph: Graph,
    golden: Mapping[str, AnyArray],
    other: Mapping[str, AnyArray],
    *,
    name: str,
    compiler: str = "",
    emulator: str = "",
    content_hash: str = "",
) -> Comparison:
    """Compare every tensor of `other` with the golden model's, in execution order."""
    order = [v.name for v in graph.inputs] + [v.name for node in graph.nodes for v in node.outputs]
    locations = {v.name: str(node.location) for node in graph.nodes for v in node.outputs}
    compared = differing = tensors = 0
    first: Difference | None = None
    for value in order:
        if value not in other:
            continue
        want, got = golden[value], other[value]
        tensors += 1
        compared += want.size
        if want.shape != got.shape:
            differing += want.size
            continue
        unequal = _bits(want) != _bits(got)
        count = int(unequal.sum())
        differing += count
        if count and first is None:
            index = tuple(int(i) for i in np.argwhere(unequal)[0])
            first = Difference(
                value=value,
                index=index,
                golden=want[index].item(),
                other=got[index].item(),
                location=locations.get(value, ""),
                count=count,
            )
    samples = len(next(iter(golden.values())))
    return Comparison(
        name=name,
        compiler=compiler,
        emulator=emulator,
        samples=samples,
        tensors=tensors,
        compared=compared,
        differing=differing,
        first=first,
        content_hash=content_hash,
    )


def _bits(array: AnyArray) -> AnyArray:
    """Return integers that are equal where the values are the same bits."""
    if array.dtype.kind == "f":  # as numbers, NaN would differ from itself and -0.0 equal 0.0
        return np.ascontiguousarray(array).view(f"i{array.dtype.itemsize}")
    return array.astype(np.int64)


def differs(comparison: Comparison) -> ValuesDiffer:
    """Return the error for a comparison that is not equal: first tensor, element, both values,
    source line.
    """
    first = comparison.first
    place = f"%{first.value}{list(first.index)}" if first else "shapes"
    line = f" ({first.location})" if first and first.location else ""
    return ValuesDiffer(
        where=f"{comparison.name}, {place}{line}",
        what=f"{comparison.differing} of {comparison.compared} values",
        want=f"the golden model's {first.golden if first else 'shape'}",
        got=str(first.other if first else "another shape"),
        fix="Two executions differ: a fault of isobit or of the compiler. Please report it.",
    )
