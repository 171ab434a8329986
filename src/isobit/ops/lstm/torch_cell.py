"""The surrogate of `lstm`: int64 tensors forward, the real sequence backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from isobit.core import fixed_torch as ft
from isobit.core.fixed import Rounding
from isobit.core.types import TensorType, scale_of
from isobit.ops.base import NodeTypes
from isobit.ops.lstm import gates

if TYPE_CHECKING:
    from isobit.ops.lstm.op import LstmAttrs, LstmInputs

Results = tuple[Tensor, Tensor, Tensor]
GATES = 4


def surrogate(attrs: LstmAttrs, q: NodeTypes[Any], inputs: LstmInputs[Tensor]) -> Results:
    """Return y, h and c as centred carriers: the integers of `Lstm.integer`, with the gradient of
    `real` at the numbers that the codes stand for.
    """
    with torch.no_grad():
        exact = _integers(attrs, q, inputs)
    decoded = _decoded(q, inputs)
    soft = real(attrs, decoded)
    steps = [float(scale_of(kind.encoding)[0]) for kind in q.outputs]
    # The difference is 0 in every bit, so the sum is the integer.
    return _three(
        e + (s / k - (s / k).detach()) for e, s, k in zip(exact, soft, steps, strict=True)
    )


def real(attrs: LstmAttrs, inputs: LstmInputs[Tensor]) -> Results:
    """Return y, h and c of real operands."""
    h, c = _before(attrs, inputs)
    axis = 1 if attrs.time_major else 2
    found = []
    fresh = inputs.x @ inputs.w.T + inputs.b
    for step in fresh.unbind(axis):
        i, f, g, o = (step + h @ inputs.r.T).chunk(GATES, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        c = c.clamp(-attrs.cell_clip, attrs.cell_clip)
        h = torch.sigmoid(o) * torch.tanh(c)
        found.append(h)
    return torch.stack(found, dim=axis), h, c


def _integers(attrs: LstmAttrs, q: NodeTypes[Any], inputs: LstmInputs[Tensor]) -> Results:
    """Return the integers, centred.

    Sums run in float64, which holds every partial sum: `prove` bounds them by 2^31.
    """
    assert inputs.mult is not None and inputs.shift is not None
    zero = q.outputs[1].zero
    mult, shift = inputs.mult.long(), inputs.shift.long()
    w, r, b = (t.double() for t in (inputs.w, inputs.r, inputs.b))
    h, c = (state.double() for state in _before(attrs, inputs))
    c = c.long()

    def factor(k: int, values: Tensor) -> Tensor:
        return ft.integers(values, mult[k], shift[k], Rounding.TFLITE_DOUBLE)

    axis = 1 if attrs.time_major else 2
    fresh = (inputs.x.double() @ w.T + b).long()
    found = []
    for step in fresh.unbind(axis):
        own = step.chunk(GATES, dim=-1)
        kept = (h @ r.T).long().chunk(GATES, dim=-1)
        i, f, g, o = (
            _sat16(_sat16(factor(k, own[k])) + _sat16(factor(GATES + k, kept[k])))
            for k in range(GATES)
        )
        old = _sat16(factor(8, sigmoid(f) * c))
        more = _sat16(factor(9, sigmoid(i) * tanh(g, gates.GATE_FRAC)))
        c = (old + more).clamp(*attrs.cell_clamp)
        top = factor(10, tanh(c, attrs.cell_frac) * sigmoid(o)) + zero
        h = (top.clamp(-128, 127) - zero).double()
        found.append(h)
    return torch.stack(found, dim=axis).float(), h.float(), c.float()


def sigmoid(codes: Tensor) -> Tensor:
    """Return what `gates.sigmoid` does."""
    scaled = codes * 3
    size = scaled.abs()
    result = torch.where(size >> 9 >= gates.ENTRIES - 1, 0x7FFF << 10, _interpolated(size, 9))
    signed = torch.where(scaled >= 0, result + 512, (1 << 25) - result + 511)
    return signed >> 10


def tanh(codes: Tensor, frac: int) -> Tensor:
    """Return what `gates.tanh` does."""
    factor, shift = gates.argument(frac)
    scaled = (codes * factor + ((1 << shift) >> 1)) >> shift
    size = scaled.abs()
    result = torch.where(size >> 8 >= gates.ENTRIES - 1, 0xFFFF << 8, _interpolated(size, 8))
    centred = result - (1 << 23)
    return torch.where(scaled >= 0, centred + 128, -centred + 127) >> 8


def _interpolated(size: Tensor, bits: int) -> Tensor:
    table = torch.as_tensor(gates.TABLE, device=size.device)
    index = (size >> bits).clamp(max=gates.ENTRIES - 2)
    low, high = table[index], table[index + 1]
    return (low << bits) + (size & ((1 << bits) - 1)) * (high - low)


def _sat16(values: Tensor) -> Tensor:
    return values.clamp(-32768, 32767)


def _before(attrs: LstmAttrs, inputs: LstmInputs[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the states before the first step: those given, else zero, centred."""
    if inputs.h is not None and inputs.c is not None:
        return inputs.h, inputs.c
    x = inputs.x
    rows = x.shape[2 if attrs.time_major else 1]
    zeros = x.new_zeros((x.shape[0], rows, inputs.r.shape[1]))
    return zeros, zeros


def _decoded(q: NodeTypes[Any], inputs: LstmInputs[Tensor]) -> LstmInputs[Tensor]:
    """Return the reals that carriers and codes stand for."""
    x = inputs.x

    def reals(codes: Tensor, kind: TensorType) -> Tensor:
        scale = torch.as_tensor(scale_of(kind.encoding), device=x.device).to(x.dtype)
        return codes.to(x.dtype) * (scale if scale.numel() == 1 else scale.reshape(-1, 1))

    scale = torch.as_tensor(scale_of(q.inputs.w.encoding), device=x.device).to(x.dtype)
    step = float(scale_of(q.inputs.x.encoding)[0])
    return type(inputs)(
        x * step,
        None if inputs.h is None else inputs.h * float(scale_of(q.outputs[1].encoding)[0]),
        None if inputs.c is None else inputs.c * float(scale_of(q.outputs[2].encoding)[0]),
        reals(inputs.w, q.inputs.w),
        reals(inputs.r, q.inputs.r),
        inputs.b.to(x.dtype) * scale * step,
    )


def _three(tensors: Any) -> Results:
    y, h, c = tensors
    return y, h, c
