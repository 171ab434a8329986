"""Sums of products in torch, exact on float carriers, in the cheapest arithmetic that provably is.

Activations travel as integer-valued floats `q - zero`. A sum runs, in this order of preference,

- as int8 times int8 with int32 accumulators, where the CPU has such instructions and the operator
  gives its sums that form (`Int8Form`): exact for any weights, and faster than float32;
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
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F  # torch's own convention
from torch import Tensor

from isobit.core import torch_scratch as scratch
from isobit.core.dtypes import DType
from isobit.core.fixed import Rounding
from isobit.core.fixed_torch import F32_EXACT, HARD, Soft, floor_clamp, requantize
from isobit.core.types import TensorType

Combine = Callable[[Tensor, Tensor, Tensor | None], Tensor]

MOST_PARTS = 4
"""Splitting a reduction further costs more than float64 does."""
LEAST_RUN = 96
"""Adjacent bytes of a window, below which gathering windows costs more than int8 saves."""
LEAST_CHANNELS = 64
"""The same for 1x1 windows, which need no gathering but a conversion to int8 and back."""
PART_BYTES = 1 << 20
"""Of the gathered operands of one int8 product: they should stay in a cache."""


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


@dataclass(frozen=True, slots=True)
class Int8Form:
    """A sum as a matrix product of windows: NHWC activations, OHWI weights, one group.

    A linear layer is the case of 1x1 on [N, 1, 1, features].
    """

    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)


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
    x = types.x
    high, low = float(x.dtype.high - x.zero), float(x.zero - x.dtype.low)
    rows = w.detach().movedim(types.channel_axis, 0).flatten(1)
    if low <= 0:
        positive = rows.clamp_min(0).sum(1)
        bound = torch.maximum(positive, positive - rows.sum(1)) * high
    else:
        bound = rows.abs().sum(1) * max(high, low)
    return float((bound if b is None else bound + b.detach().abs()).max())


def fan_in_bound(w: Tensor, types: SumTypes) -> float:
    """Return a bound of every partial sum for any int8 weights of that shape."""
    x = types.x
    largest = 128 * max(x.dtype.high - x.zero, x.zero - x.dtype.low)
    return float(w.numel() // w.shape[types.channel_axis] * largest)


def exact_sums(
    combine: Combine, x: Tensor, w: Tensor, types: SumTypes, form: Int8Form | None = None
) -> Tensor:
    """Return `combine(x, w)`, exactly: float32 where `|sum| <= 2^23`, so that a bias of that size
    can still be added to it, else float64.
    """
    limit, bound = F32_EXACT // 2, fan_in_bound(w, types)
    if bound > limit:
        sums = x.numel() // x.shape[-1] * len(w)  # about
        if form is not None and w.numel() > sums and _takes_int8(types, w, wide=True):
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
    form: Int8Form | None = None,
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
    form: Int8Form | None,
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
        if cpu and form is not None and _takes_int8(types, w, wide=wide):
            y: Tensor = _Int8Sums.apply(x, scaled, b, w, step, types.x.zero, form, wide, limit)  # type: ignore[no-untyped-call]  # torch's apply is untyped
            return y
        if cpu and not wide:
            return combine(x, scaled, None if b is None else b.float())
        if cpu and step is None and math.ceil(bound / limit) <= MOST_PARTS:
            parts = _in_parts(combine, x, w, b, types, bound, limit)
            if parts is not None:
                return parts
        return combine(x.double(), scaled.double(), None if b is None else b.double())


def _no_autocast(device: str) -> AbstractContextManager[object]:
    """Forbid half precision where it is not forbidden already, which is quicker to see."""
    allowed = torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if allowed else nullcontext()


def _in_parts(
    combine: Combine,
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    types: SumTypes,
    bound: float,
    limit: float,
) -> Tensor | None:
    """Return the sum over parts of the last axis of x and w, or None where a partial one reaches
    the limit: only a sum beyond it can have been rounded.
    """
    if x.shape[-1] != w.shape[-1] or types.channel_axis != 0:
        return None  # grouped, or not a plain reduction over the last axis
    count = math.ceil(bound / limit)
    size = math.ceil(x.shape[-1] / count)
    total: Tensor | None = None
    for a, part in zip(torch.split(x, size, -1), torch.split(w, size, -1), strict=True):
        if sum_bound(part, b, types) > limit:
            return None
        term = combine(a, part, b if total is None else None)
        total = term if total is None else total + term
        low, high = torch.aminmax(total.detach())
        if float(torch.maximum(-low, high)) >= limit:
            return None
    return total


def _takes_int8(types: SumTypes, w: Tensor, *, wide: bool) -> bool:
    """Whether the int8 form is possible and faster than float32, or float32 does not hold sums."""
    if not (_int8_allowed and types.x.dtype is DType.S8 and int8_is_exact()):
        return False
    _, kh, kw, channels = w.shape
    least = LEAST_CHANNELS if kh == kw == 1 else LEAST_RUN
    return wide or kw * channels >= least


@cache
def int8_is_exact() -> bool:
    """Whether this CPU multiplies int8 fast and exactly.

    Without VNNI such products go through 16-bit sums that saturate; the flag and a test with codes
    and weights at their ends keep that out.
    """
    supported = getattr(torch.cpu, "_is_vnni_supported", None)
    if supported is None or not supported():
        return False
    generator = torch.Generator().manual_seed(0)
    for k in (64, 75, 800):
        a = torch.randint(-128, 128, (33, k), generator=generator)
        w = torch.randint(-127, 128, (40, k), generator=generator)
        a[0], a[1], w[0], w[1] = -128, 127, -127, 127
        try:
            found = torch._int_mm(a.to(torch.int8), w.to(torch.int8).t())
        except RuntimeError:  # not built into this torch
            return False
        if not torch.equal(found.long(), a @ w.t()):
            return False
    return True


def int8_products(x: Tensor, w: Tensor, zero: int, form: Int8Form) -> Tensor:
    """Return `sum (x) * w` as int32 [N, H, W, O] for centred codes x [N, H, W, C] and integer
    weights w [O, KH, KW, C] of int8.
    """
    kh, kw = w.shape[1:3]
    flat = w.reshape(len(w), -1).to(torch.int8).t()
    codes = _int8_codes(x, zero, form.pad)
    n, height, width, channels = codes.shape
    oh = (height - form.dilation[0] * (kh - 1) - 1) // form.stride[0] + 1
    ow = (width - form.dilation[1] * (kw - 1) - 1) // form.stride[1] + 1
    if (kh, kw, form.stride) == (1, 1, (1, 1)):
        acc = scratch.empty((n * oh * ow, len(w)), torch.int32, x.device)
        torch._int_mm(codes.reshape(-1, channels), flat, out=acc)
    else:
        s = codes.stride()
        shape = (n, oh, ow, kh, kw, channels)
        down, along = s[1] * form.stride[0], s[2] * form.stride[1]
        strides = (s[0], down, along, s[1] * form.dilation[0], s[2] * form.dilation[1], 1)
        windows = codes.as_strided(shape, strides)
        fan_in = kh * kw * channels
        count = max(1, PART_BYTES * torch.get_num_threads() // (oh * ow * fan_in))
        acc = scratch.empty((n * oh * ow, len(w)), torch.int32, x.device)
        for start in range(0, n, count):
            part = windows[start : start + count].reshape(-1, fan_in)
            torch._int_mm(part, flat, out=acc[start * oh * ow :][: len(part)])
    if zero:
        acc.sub_(zero * w.reshape(len(w), -1).sum(1).to(torch.int32))
    return acc.reshape(n, oh, ow, len(w))


def _int8_codes(x: Tensor, zero: int, pad: tuple[int, int, int, int]) -> Tensor:
    """Return the codes of centred ones [N, H, W, C] in a frame of the code of 0."""
    top, left, bottom, right = pad
    n, height, width, channels = x.shape
    shape = (n, top + height + bottom, left + width + right, channels)
    codes = scratch.empty(shape, torch.int8, x.device)
    moved = torch.add(x, zero, out=scratch.empty_like(x)) if zero else x
    codes[:, top : top + height, left : left + width].copy_(moved)
    if not any(pad):
        return codes
    codes[:, :top].fill_(zero)
    codes[:, top + height :].fill_(zero)
    codes[:, :, :left].fill_(zero)
    codes[:, :, left + width :].fill_(zero)
    return codes


class _Int8Sums(torch.autograd.Function):
    """sum * step + b; the gradient is the convolution's, with the weights as they are scaled."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scaled: Tensor,
        b: Tensor | None,
        w: Tensor,
        step: Tensor | None,
        zero: int,
        form: Int8Form,
        wide: bool,
        limit: float,
    ) -> Tensor:
        acc = int8_products(x, w, zero, form)
        if wide:
            ends = torch.stack(torch.aminmax(acc)).double().abs()
            extra = (
                0.0 if b is None else float((b.double() if step is None else b / step).abs().max())
            )
            wide = float(ends.max()) + extra > limit
        carrier = torch.float64 if wide else torch.float32
        y = acc.double() if wide else acc.view(torch.float32).copy_(acc)  # in place, as large
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
        form: Int8Form = ctx.form
        top, left, bottom, right = form.pad
        image = x.permute(0, 3, 1, 2)
        even = (top, left) == (bottom, right)
        if not even:
            image = F.pad(image, (left, right, top, bottom))
        to_x, to_w, to_b = torch.ops.aten.convolution_backward(
            grads[0].to(x.dtype).permute(0, 3, 1, 2),
            image,
            scaled.permute(0, 3, 1, 2),
            [len(scaled)],
            form.stride,
            (top, left) if even else (0, 0),
            form.dilation,
            False,
            [0, 0],
            1,
            [ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.needs_input_grad[2]],
        )
        if to_x is not None:
            to_x = to_x.permute(0, 2, 3, 1)
            if not even:
                to_x = to_x[:, top : top + x.shape[1], left : left + x.shape[2]]
        to_w = None if to_w is None else to_w.permute(0, 2, 3, 1)
        to_b = None if to_b is None else to_b.to(ctx.bias)
        return to_x, to_w, to_b, *(None,) * 6


def conv2d_nhwc(
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    stride: tuple[int, int],
    pad: tuple[int, int, int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """`F.conv2d` on NHWC activations and OHWI weights; both permutes are views of channels-last
    memory.
    """
    top, left, bottom, right = pad
    image = x.permute(0, 3, 1, 2)
    if (top, left) != (bottom, right):
        image = F.pad(image, (left, right, top, bottom))
        top = left = 0
    kernel = w.permute(0, 3, 1, 2)
    return F.conv2d(image, kernel, b, stride, (top, left), dilation, groups).permute(0, 2, 3, 1)
