"""The surrogate of `add` with `round=tflite_double`: int64 tensors, the real sum backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from isobit.core import fixed_torch as ft
from isobit.core.fixed import Rounding
from isobit.core.types import scale_of
from isobit.ops.add.op import LEFT_SHIFT
from isobit.ops.base import NodeTypes

if TYPE_CHECKING:
    from isobit.ops.add.op import AddAttrs, AddInputs


def rescaled_sum(
    attrs: AddAttrs, q: NodeTypes[Any], inputs: AddInputs[Tensor], sign: float
) -> Tensor:
    """Return centred codes; inputs are centred carriers."""
    low, high = (float(c - q.output.zero) for c in attrs.clamp)
    with torch.no_grad():
        bits = LEFT_SHIFT[q.inputs.a.dtype]
        a = _rescaled(inputs.a.long() << bits, inputs.mult_a, inputs.shift_a)
        b = _rescaled(inputs.b.long() << bits, inputs.mult_b, inputs.shift_b)
        total = _rescaled(a + int(sign) * b, inputs.mult, inputs.shift)
        exact = total.float().clamp(low, high)
    if not (inputs.a.requires_grad or inputs.b.requires_grad):
        return exact
    sa, sb, sy = (float(scale_of(t.encoding)[0]) for t in (q.inputs.a, q.inputs.b, q.output))
    smooth = inputs.a * (sa / sy) + inputs.b * (sign * sb / sy)
    first, last = ft.gradient_bounds(low, high, q.soft)
    return ft.straight_through(exact, smooth.clamp(first, last))


def _rescaled(x: Tensor, mult: Tensor | None, shift: Tensor | None) -> Tensor:
    assert mult is not None and shift is not None
    return ft.integers(x, mult.long(), shift.long(), Rounding.TFLITE_DOUBLE)
