"""How a PyTorch operator is told in ONNX's words, whose rules know reals and codes alike.

A rule `@aten(...)` gives torch's options their ONNX names and calls the ONNX rule beside it; so
both formats have one arithmetic. What ONNX has no operator for is recorded by the rule itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import Raw, Real, Shape, TensorType
from isobit.ops.foreign import Operand
from isobit.ops.logical import LogicalCall

Operands = Sequence[Operand | None]


def as_onnx(
    call: LogicalCall, code: str, inputs: Operands | None = None, **options: object
) -> LogicalCall:
    """Return the call under another name, with other options and, if given, other inputs."""
    given = call.inputs if inputs is None else tuple(inputs)
    return replace(call, code=code, inputs=given, options=options)


def integers(call: LogicalCall, values: Sequence[int]) -> Operand:
    """Return stored integers, such as axes, that ONNX takes as an input."""
    data = np.asarray(list(values), np.int64)
    kind = TensorType(data.shape, DType.S64, Raw())
    return Operand("", data.shape, kind, f"{call.output().value}_numbers", data)


def per_axis(call: LogicalCall, name: str, default: Sequence[int] = ()) -> tuple[int, ...]:
    """Return an option with one entry for every axis of the image; torch writes one number for
    equal entries, and nothing where `default` is meant.
    """
    axes = image_axes(call)
    found = tuple(int(v) for v in call.options.get(name) or ()) or tuple(default)
    return found * axes if len(found) == 1 else found


def image_axes(call: LogicalCall) -> int:
    """Return 2 for images [N, C, H, W], 1 for sequences [N, C, L]; raises `Unsupported` for an
    input without a batch.
    """
    rank = len(call.operand(0).shape)
    axes = 1 if "1d" in call.code else 2 if "2d" in call.code else rank - 2
    if axes not in (1, 2):
        raise call.unsupported(
            "input",
            "images [N, C, H, W] or sequences [N, C, L]",
            str(list(call.operand(0).shape)),
            "Volumes have no operator: make one of the axes channels, with layers of two axes.",
        )
    if rank != axes + 2:
        raise call.unsupported(
            "input",
            "a batch of images [N, C, H, W] or of sequences [N, C, L]",
            str(list(call.operand(0).shape)),
            "Keep the batch axis: call the module with x.unsqueeze(0).",
        )
    return axes


def axes_of(call: LogicalCall, given: Any, rank: int) -> tuple[int, ...]:
    """Return axes, ascending; `None` and nothing at all mean every axis."""
    if given is None or given == ():
        return tuple(range(rank))
    listed = given if isinstance(given, tuple | list) else (given,)
    return tuple(sorted({call.axis(int(axis), rank) for axis in listed}))


def second(call: LogicalCall) -> Operand:
    """Return the second operand of a pair; torch keeps a Python number as the option `other`."""
    if len(call.inputs) > 1:
        return call.operand(1)
    return real(call, "other", (), float(call.option("other")))


def real(call: LogicalCall, wanted: str, shape: Shape, value: float) -> Operand:
    """Return a stored tensor of equal reals."""
    data = np.full(shape, value, np.float64)
    kind = TensorType(shape, DType.F64, Real())
    return Operand("", shape, kind, f"{call.output().value}_{wanted}", data)


def divided(call: LogicalCall, size: Shape, wanted: Shape) -> tuple[int, ...]:
    """Return kernel = stride of an adaptive pool: torch's windows are equal, and do not overlap,
    exactly where the output size divides the input's.
    """
    if any(own % w for own, w in zip(size, wanted, strict=True)):
        raise call.unsupported(
            "output size",
            f"1, or divisors of the image's {'x'.join(map(str, size))}",
            "x".join(map(str, wanted)),
            "Use a pool with a kernel and stride that give about this size.",
        )
    return tuple(own // w for own, w in zip(size, wanted, strict=True))
