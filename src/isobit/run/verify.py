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

GOLDEN_VECTORS = "golden vectors"
"""Name of the comparison with what the golden model computed when the network was deployed."""


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

    content_hash: of the C that ran, "" where none did. replanned: that C was planned anew for the
    core, it is not the deployed folder's. edited: the C files of the folder that were changed since
    deployment.
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
    replanned: bool = False
    edited: tuple[str, ...] = ()

    @property
    def c_origin(self) -> str:
        """Which C ran, in words; "" where none did."""
        if not self.content_hash:
            return ""
        if self.replanned:
            unused = "; the folder's edited C was not used" if self.edited else ""
            return f"re-planned for {self.name}{unused}"
        if self.edited:
            return f"the folder's, edited since deployment: {', '.join(self.edited)}"
        return "the folder's"

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
        fix=_reason(comparison),
    )


def _reason(comparison: Comparison) -> str:
    """Say what makes executions differ: an edited file, another version of isobit, or a fault."""
    if comparison.edited and not comparison.replanned and comparison.content_hash:
        were = "was" if len(comparison.edited) == 1 else "were"
        files = ", ".join(comparison.edited)
        return f"{files} {were} edited since deployment. Undo the edit, or deploy again."
    if comparison.name == GOLDEN_VECTORS:
        return (
            "isobit computes something else than the version that deployed, which manifest.json "
            "names. Please report it."
        )
    return "Two executions differ: a fault of isobit or of the compiler. Please report it."
