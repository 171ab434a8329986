"""Sums of products in torch, exact on float carriers, in the cheapest arithmetic that provably is.

Activations travel as integer-valued floats `q - zero`. A sum runs, in this order of preference,

- as int8 times int8 with int32 accumulators, where the CPU has such instructions and the operator
  is a convolution of one group (`Windows`): exact for any weights, and faster than float32;
- in float32, while `sum|w| * max|x| + |b| <= 2^24`: then every partial sum is an exactly
  representable integer, in any order, blocking or number of threads;
- in float32 over a few parts of the reduction, each within that bound, when what they add up to
  stays below it on the values at hand;
- in float64.

On other devices than the CPU always in float64, because libraries there may transform or truncate
what they are given. Only surrogates and `train` import this module.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from isobit.core.dtypes import DType
from isobit.core.fixed import Rounding
from isobit.core.fixed_torch import F32_EXACT, HARD, Soft, floor_clamp, requantize
from isobit.core.torch_products import Windows, int8_is_exact, int8_products
from isobit.core.types import TensorType

Combine = Callable[[Tensor, Tensor, Tensor | None], Tensor]

LIMIT = F32_EXACT // 2
"""Up to here sums are float32, so that a bias of that size can still be added."""
MOST_PARTS = 32
"""A part of the sums costs a few per cent of them; float64 costs two to ten times as much."""
LEAST_RUN = 96
"""Adjacent bytes of a window, below which gathering windows costs more than int8 saves."""
LEAST_CHANNELS = 128
"""The same for 1x1 windows, which need no gathering but a conversion to int8 and back."""


@dataclass(frozen=True, slots=True)
class Between:
    """What comes between sums and their requantisation.

    select: selects among sums of one channel, as max pooling does, which commutes with it. watch:
    sees what is then rounded, in steps of the output.
    """

    select: Callable[[Tensor], Tensor] | None = None
    watch: Callable[[Tensor], None] | None = None

    def selected(self, sums: Tensor) -> Tensor:
        """Return what is left of sums."""
        return sums if self.select is None else self.select(sums)


NOTHING = Between()


@dataclass(frozen=True, slots=True)
class SumTypes:
    """Types around a sum of products: `channel_axis` is the weights' output-channel axis."""

    x: TensorType
    y: TensorType
    channel_axis: int = 0
    soft: Soft = HARD


_int8_allowed = True


def allow_int8(allowed: bool) -> None:
    """Allow (the default) or forbid the int8 form of sums: the results are the same, only their
    speed is not.
    """
    global _int8_allowed
    _int8_allowed = allowed


def sum_bound(w: Tensor, b: Tensor | None, types: SumTypes) -> float:
    """`max_c(sum|w_c| * max|x - Zx| + |b_c|)`: bounds every partial sum, in any order.

    Where no `x - Zx` is below 0 the sums of either sign are bounds themselves: about half.
    """
    rows = w.detach().movedim(types.channel_axis, 0).flatten(1)
    bound = _bounds(rows, types).amax(0)
    return float((bound if b is None else bound + b.detach().abs()).max())


def _bounds(rows: Tensor, types: SumTypes) -> Tensor:
    """Return bounds of sums over axis 1 of weights [O, K,...] times `x - Zx`: float64 [1, O,...],
    or [2, O,...] for weights of either sign, where no `x - Zx` is below 0.
    """
    x = types.x
    high, low = float(x.dtype.high - x.zero), float(x.zero - x.dtype.low)
    if low <= 0:
        positive = rows.clamp_min(0).sum(1)
        return torch.stack([positive, positive - rows.sum(1)]).double() * high
    return rows.abs().sum(1).double().unsqueeze(0) * max(high, low)


def fan_in_bound(w: Tensor, types: SumTypes) -> float:
    """Return a bound of every partial sum for any int8 weights of that shape."""
    x = types.x
    largest = 128 * max(x.dtype.high - x.zero, x.zero - x.dtype.low)
    return float(w.numel() // w.shape[types.channel_axis] * largest)


def exact_sums(
    combine: Combine, x: Tensor, w: Tensor, types: SumTypes, form: Windows | None = None
) -> Tensor:
    """Return `combine(x, w)`, exactly: float32 where `|sum| <= 2^23`, so that a bias of that size
    can still be added to it, else float64.
    """
    limit, bound = LIMIT, fan_in_bound(w, types)
    if bound > limit:
        sums = x.numel() // x.shape[-1] * len(w)  # about
        if form is not None and w.numel() > sums and takes_int8(form, types, w, wide=True):
            bound = math.inf  # the int8 sums themselves are fewer than the weights
        else:
            bound = sum_bound(w, None, types)
    return _sums(combine, (x, w, None), types, form, bound, limit)


def weighted(
    combine: Combine,
    inputs: Any,
    types: SumTypes,
    clamp: tuple[int, int],
    rounding: Rounding,
    form: Windows | None = None,
    between: Between = NOTHING,
) -> Tensor:
    """`clamp(R(combine(x, w, b)))` for a convolution or a matrix product.

    `inputs` holds integer-valued tensors x, w, b, mult, shift.
    """
    low, high = clamp[0] - types.y.zero, clamp[1] - types.y.zero
    w, b = inputs.w, inputs.b
    bound = sum_bound(w, b, types)
    if inputs.mult is not None:
        acc = _sums(combine, (inputs.x, w, b), types, form, bound)
        acc = between.selected(acc)
        if between.watch is not None:  # in training, which rounds half up
            real = inputs.mult.double() * torch.exp2(-inputs.shift.double())
            between.watch(acc.detach() * real.to(acc.dtype))
        return requantize(acc, inputs.mult, inputs.shift, rounding, low, high, types.soft)
    # acc * 2^-s is exact, so the shift and the 1/2 fold into weights and bias.
    half = 0.5 * 2.0 ** float(inputs.shift.max())
    carrier = torch.float32 if bound + half <= F32_EXACT else torch.float64
    step = torch.exp2(-inputs.shift.to(torch.float64)).expand(w.shape[types.channel_axis])
    offset = torch.full_like(step, 0.5) if b is None else b.double() * step + 0.5
    operands = (inputs.x, w, offset.to(carrier))
    y = _sums(combine, operands, types, form, bound + half, step=step)
    y = between.selected(y)
    if between.watch is not None:
        between.watch(y.detach() - 0.5)
    return floor_clamp(y, low, high, types.soft).to(torch.float32)


def _sums(
    combine: Combine,
    operands: tuple[Tensor, Tensor, Tensor | None],
    types: SumTypes,
    form: Windows | None,
    bound: float,
    limit: float = F32_EXACT,
    *,
    step: Tensor | None = None,
) -> Tensor:
    """Return `sum * step + b` of operands x, w, b, exactly; float32 where that holds it, else
    float64.

    bound: of every partial sum and of sum and bias; limit: the bound up to which float32 is
    returned; step: powers of two [C], which multiply the weights; `b` has its unit.
    """
    x, w, b = operands
    scaled = w
    if step is not None:
        axes = [-1 if i == types.channel_axis else 1 for i in range(w.dim())]
        scaled = w * step.to(w.dtype).reshape(axes)
    cpu = x.device.type == "cpu"
    with _no_autocast(x.device.type):
        wide = bound > limit
        acc = _sums_of_form(x, w, types, form, wide=wide) if cpu and form is not None else None
        if acc is not None:
            y: Tensor = _Summed.apply(x, scaled, b, acc, step, form, wide, limit)  # type: ignore[no-untyped-call]  # torch's apply is untyped
            return y
        if cpu and not wide:
            return combine(x, scaled, None if b is None else b.float())
        if cpu and form is None and step is None:
            parts = _in_parts(combine, x, w, types)
            most = math.inf if parts is None else largest(parts.detach())
            extra = 0.0 if b is None else float(b.detach().abs().max())
            if parts is not None and most + extra <= limit:
                return parts if b is None else parts + b.float()
        return combine(x.double(), scaled.double(), None if b is None else b.double())


@torch.no_grad()
def _sums_of_form(
    x: Tensor, w: Tensor, types: SumTypes, form: Windows, *, wide: bool
) -> Tensor | None:
    """Return the sums of a convolution as int32 or as float32, without a gradient; None where
    the convolution itself is to be run: in float32, or, if `wide`, in float64.
    """
    if takes_int8(form, types, w, wide=wide):
        total = w.reshape(len(w), -1).sum(1).to(torch.int32)
        return int8_products(x, w.to(torch.int8), types.x.zero, form, total)
    return _in_parts(form.sums, x, w, types) if wide else None


def _no_autocast(device: str) -> AbstractContextManager[object]:
    """Forbid half precision where it is not forbidden already, which is quicker to see."""
    allowed = torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if allowed else nullcontext()


def _in_parts(combine: Combine, x: Tensor, w: Tensor, types: SumTypes) -> Tensor | None:
    """Return `combine(x, w)` summed in parts of the last axis of x and w, of which float32 holds
    every one; None where there are too many, or where their sum could have been rounded.
    """
    ends = _ends_of_parts(w, types) if x.shape[-1] == w.shape[-1] else None
    if ends is None or len(ends) == 1:
        return combine(x, w, None) if ends or sum_bound(w, None, types) <= F32_EXACT else None
    total: Tensor | None = None
    for start, end in pairwise([0, *ends]):
        term = combine(x[..., start:end], w[..., start:end], None)
        total = term if total is None else total.add_(term)
        if largest(total.detach()) >= F32_EXACT:  # only a sum beyond can have been rounded
            return None
    return total


def _ends_of_parts(w: Tensor, types: SumTypes) -> list[int] | None:
    """Return where parts of the last axis of weights end, each as long as sums of it are certain to
    stay within float32; None where that takes more than `MOST_PARTS`.
    """
    if types.channel_axis != 0:
        return None
    rows = w.detach().flatten(1, -2) if w.dim() > 2 else w.detach().unsqueeze(1)
    sums = _bounds(rows, types).cumsum(-1)
    ends: list[int] = []
    before = torch.zeros_like(sums[..., :1])
    while not ends or ends[-1] < w.shape[-1]:
        fits = ((sums - before).flatten(0, -2).amax(0) <= F32_EXACT).sum()
        if int(fits) == (ends[-1] if ends else 0) or len(ends) == MOST_PARTS:
            return None
        ends.append(int(fits))
        before = sums[..., ends[-1] - 1 :][..., :1]
    return ends


def takes_int8(form: Windows, types: SumTypes, w: Tensor, *, wide: bool) -> bool:
    """Whether sums are to be int8 products: possible, and faster than float32 or `wide`, more than
    float32 holds.
    """
    if not (_int8_allowed and form.has_int8 and types.x.dtype is DType.S8 and int8_is_exact()):
        return False
    _, kh, kw, channels = w.shape
    least = LEAST_CHANNELS if kh == kw == 1 else LEAST_RUN
    return wide or kw * channels >= least


def plain_sums(
    x: Tensor, codes: Tensor, total: Tensor | None, types: SumTypes, form: Windows
) -> Tensor | None:
    """Return the sums of a convolution in float32, exact, without a gradient; None where float32
    does not hold them.

    codes: integer weights, float32, or int8 with their sum per output channel.
    """
    wide = fan_in_bound(codes, types) > LIMIT
    acc: Tensor | None
    if codes.dtype is torch.int8:
        assert total is not None
        acc = int8_products(x, codes, types.x.zero, form, total)
    else:
        acc = _in_parts(form.sums, x, codes, types) if wide else form.sums(x, codes)
    if acc is None or (wide and largest(acc) > LIMIT):
        return None
    return _float32(acc)


def largest(acc: Tensor) -> float:
    """Return the largest magnitude of integers."""
    return float(torch.stack(torch.aminmax(acc)).double().abs().max())


def _float32(acc: Tensor) -> Tensor:
    """Return sums as float32, in their own place: int32 is as large."""
    return acc if acc.dtype is torch.float32 else acc.view(torch.float32).copy_(acc)


class _Summed(torch.autograd.Function):
    """acc * step + b, where acc are the sums of x and w; the gradient is the convolution's, with
    the weights as they are scaled.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scaled: Tensor,
        b: Tensor | None,
        acc: Tensor,
        step: Tensor | None,
        form: Windows,
        wide: bool,
        limit: float,
    ) -> Tensor:
        if wide:
            extra = (
                0.0 if b is None else float((b.double() if step is None else b / step).abs().max())
            )
            wide = largest(acc) + extra > limit
        carrier = torch.float64 if wide else torch.float32
        y = acc.double() if wide else _float32(acc)
        if y is acc:  # torch would take the result for a view, which nobody may change in place
            y = acc.clone()
        if step is not None:
            y.mul_(step.to(carrier))
        if b is not None:
            y.add_(b.to(carrier))
        ctx.save_for_backward(x, scaled)
        ctx.form, ctx.bias = form, None if b is None else b.dtype
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, scaled = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        to_x, to_w, to_b = ctx.form.gradients(grads[0].to(x.dtype), x, scaled, wanted)
        return to_x, to_w, None if to_b is None else to_b.to(ctx.bias), *(None,) * 5
