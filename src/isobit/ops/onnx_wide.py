"""Weights of nine bits: uint8 codes less a zero point that is not 128, as quantisers write them.

Kernels read int8 weights. A weight beyond that is the sum of two or three that fit, and
`x*(a + b) = x*a + x*b`: the channels that such weights belong to are read a second time, by weights
of their own. The sums are the same integers, so nothing is lost but time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isobit.core.types import AnyArray, Shape
from isobit.ir.builder import GraphBuilder
from isobit.ir.graph import Value
from isobit.ops.concat.op import ConcatAttrs, ConcatInputs
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
from isobit.ops.strided_slice.op import StridedSliceAttrs, StridedSliceInputs

LOW, HIGH = -128, 127
Range = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wide:
    """Weights that kernels can read, and how their input comes to have as many channels.

    weights: [..., C], channels of one group last. again: ranges of channels of every group that
    follow the group's own.
    """

    weights: AnyArray
    again: tuple[Range, ...] = ()
    groups: int = 1

    def read(self, build: GraphBuilder, name: str) -> str:
        """Return the value that the weights read, for a stored activation [..., groups * C]."""
        if not self.again:
            return name
        shape = build.type_of(name).shape
        own = self.weights.shape[-1] - sum(high - low for low, high in self.again)
        cut = (*shape[:-1], self.groups, own) if self.groups > 1 else shape
        source = _viewed(build, name, cut)
        parts = [source]
        for low, high in self.again:
            parts.append(source if (low, high) == (0, own) else _taken(build, source, low, high))
        joined = (*cut[:-1], self.weights.shape[-1])
        kind = build.type_of(name).with_shape(joined)
        value = Value(build.fresh(f"{name}_again"), kind)
        attrs = ConcatAttrs(len(joined) - 1)
        result = build.node("concat", ConcatInputs(tuple(parts)), attrs, value)
        return _viewed(build, result, (*shape[:-1], self.groups * self.weights.shape[-1]))


def wide(weights: AnyArray, groups: int = 1) -> Wide:
    """Return weights [..., C] of any integers as parts within int8; reals stay as they are."""
    if weights.dtype.kind == "f":
        return Wide(weights=weights, groups=groups)
    first = np.clip(weights, LOW, HIGH)
    rest, parts, again = weights - first, [first], []
    while rest.any():
        used = np.flatnonzero(rest.reshape(-1, rest.shape[-1]).any(axis=0))
        low, high = int(used[0]), int(used[-1]) + 1
        part = np.clip(rest, LOW, HIGH)
        parts.append(part[..., low:high])
        again.append((low, high))
        rest = rest - part
    found = np.concatenate(parts, axis=-1)
    return Wide(weights=found, again=tuple(again), groups=groups)


def fits(weights: AnyArray) -> bool:
    """Whether kernels read the weights as they are."""
    return weights.dtype.kind == "f" or not wide(weights.reshape(-1, 1)).again


def _viewed(build: GraphBuilder, name: str, shape: Shape) -> str:
    kind = build.type_of(name)
    if kind.shape == shape:
        return name
    value = Value(build.fresh(f"{name}_view"), kind.with_shape(shape))
    return build.node("reshape", ReshapeInputs(name), ReshapeAttrs(shape[1:]), value)


def _taken(build: GraphBuilder, name: str, low: int, high: int) -> str:
    kind = build.type_of(name)
    shape = (*kind.shape[:-1], high - low)
    begin = (*(0 for _ in shape[1:-1]), low)
    attrs = StridedSliceAttrs(begin, (1,) * (len(shape) - 1), shape[1:])
    value = Value(build.fresh(f"{name}_part"), kind.with_shape(shape))
    return build.node("strided_slice", StridedSliceInputs(name), attrs, value)
