"""A layer with batch norm as one autograd function: sums, statistics, one requantisation.

The same as `weights.rounded`, `torch_sums.exact_sums` and `norm`'s functions one after another, in
fewer passes over weights and fewer nodes: the backward multiplies weights as they are in real units
(codes / slope, where codes = round(w * slope)) with a gradient that holds the slope already, so
that the gradient of the weights needs none.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from isobit.core import torch_scratch as scratch
from isobit.core import torch_sums as ts
from isobit.core.fixed_torch import where_inside
from isobit.core.torch_products import Windows
from isobit.train.moments import shared_sums
from isobit.train.native import Kernels, Packed
from isobit.train.norm import (
    Gradient,
    Line,
    codes_of,
    norm_gradients,
    normed,
    requantized,
)
from isobit.train.ste import ste_round

ROWS_BYTES = 1 << 19
"""Of weights that are rounded, at a time: several passes over what stays in a cache."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What of a layer follows from the ranges. low: the least code of a weight; rows: two of the
    shape in which channels broadcast over weights.
    """

    combine: ts.Combine
    types: ts.SumTypes
    form: Windows
    low: int
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rounded:
    """Weights `codes = clamp(round(w * slope))`, float32, or int8 with their sum per output
    channel; real: codes / slope, 0 where that is 0, or None where a backward computes them.
    """

    codes: Tensor
    real: Tensor | None
    total: Tensor | None = None


@dataclass(slots=True)
class Call:
    """What a call of the function knows. slope: of the weights; back: 1 / slope; line: None where
    sums are wanted; count: values of a channel, in all processes; kernels: None where torch's
    operators do it.

    packed: its codes, once it was called. rows: once the forward has ended, float32 [6, C]: weight,
    weight * slope, mean, inverse, turn and lift of `norm.Gradient`.
    """

    plan: Plan
    slope: Tensor
    back: Tensor
    line: Line | None
    count: int
    kernels: Kernels | None
    packed: Packed | None = None
    rows: Tensor | None = None

    def gradient(self, *, scaled: bool = False) -> Gradient:
        """Return the gradient of the sums; scaled: by the slope of the weights."""
        assert self.rows is not None
        plain, with_slope, mean, inverse, turn, lift = self.rows.unbind()
        weight = with_slope if scaled else plain
        return Gradient(weight, mean, inverse, turn, lift, moving=True)


def rounded(
    w: Tensor, slope: Tensor, back: Tensor, low: int, int8: bool, kernels: Kernels | None
) -> Rounded:
    """Return weights rounded. slope, back: 1 / slope, 0 where that is 0, in the shape in which they
    broadcast over weights, channels first or last; low: the least code. int8: channels are first.
    """
    if kernels is not None and int8 and w.is_contiguous():
        narrow = kernels.rounded(w, slope, low)
        if narrow is not None:
            return Rounded(narrow[0], None, narrow[1])
    real = scratch.empty(w.shape, w.dtype, w.device)
    codes = scratch.empty(w.shape, torch.int8 if int8 else w.dtype, w.device)
    sums = torch.empty(len(w)) if int8 else None
    count = max(1, ROWS_BYTES * len(w) // max(1, w.numel() * w.element_size()))
    if len(slope) < len(w):  # channels last: depthwise weights, which are few
        count = len(w)
    for start in range(0, len(w), count):
        part = slice(start, start + count)
        row = real[part]
        torch.mul(w[part], slope[part], out=row).round_().clamp_(low, 127)
        codes[part].copy_(row)
        if sums is not None:
            torch.sum(row.flatten(1), 1, out=sums[part])
        row.mul_(back[part])
    return Rounded(codes, real, None if sums is None else sums.to(torch.int32))


def rounded_all(
    weights: list[Tensor], slopes: list[Tensor], backs: list[Tensor], low: int, int8: list[bool]
) -> list[Rounded]:
    """Return `rounded` of several small weights, in as few calls as for one; channels along any
    axis.
    """
    codes = torch._foreach_mul(weights, slopes)
    torch._foreach_round_(codes)
    torch._foreach_clamp_min_(codes, low)
    torch._foreach_clamp_max_(codes, 127)
    reals = torch._foreach_mul(codes, backs)
    found = []
    for w, real, narrow in zip(codes, reals, int8, strict=True):
        total = w.flatten(1).sum(1).to(torch.int32) if narrow else None
        found.append(Rounded(w.to(torch.int8) if narrow else w, real, total))
    return found


class _NormedSums(torch.autograd.Function):
    """Codes of a layer, or its sums where `Call.line` is None; the gradient is batch norm's, masked
    where clamped. Inputs: x, real weights, gamma, beta, the layer's own bias or None.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w: Tensor,
        gamma: Tensor,
        beta: Tensor,
        bias: Tensor | None,
        acc: Tensor,
        w_codes: Tensor,
        call: Call,
    ) -> Tensor:
        ctx.call = call
        if call.line is None:
            y, codes = acc.view_as(acc), None
        else:
            y, call.packed = codes_of(acc, call.line, call.kernels)
            codes = y if call.packed is None else call.packed.bytes
        ctx.save_for_backward(codes, acc, w_codes, x, w, gamma, beta, bias)
        ctx.set_materialize_grads(False)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        if grad is None:
            return (None,) * 8
        y, acc, real, *given = ctx.saved_tensors
        call: Call = ctx.call
        if torch.is_grad_enabled():  # gradients of these gradients are wanted
            return *_by_parts(call, given, grad), None, None, None
        if call.kernels is None or (call.line is not None and y.dtype is not torch.uint8):
            if call.line is not None:
                grad = where_inside(grad, y, call.line.gradient_bounds)
            scaled = call.gradient(scaled=True)
            to_acc, to_gamma, to_beta = norm_gradients(grad, acc, scaled)
            to_gamma, to_beta = to_gamma.mul_(scaled.turn), to_beta.mul_(scaled.lift)
        else:
            to_acc, to_gamma, to_beta = _compiled(grad.contiguous(), y, acc, call, call.kernels)
        if real.dtype is torch.int8:
            assert call.kernels is not None
            real = call.kernels.real(real, call.back)
        wanted = (ctx.needs_input_grad[0], ctx.needs_input_grad[1], False)
        to_x, to_w, _ = call.plan.form.gradients(to_acc, given[0], real, wanted)
        # The norm subtracts the layer's own bias again: zeros, because data-parallel training
        # waits for every parameter.
        to_bias = None if given[4] is None else torch.zeros_like(to_beta)
        return to_x, to_w, to_gamma, to_beta, to_bias, None, None, None


def _compiled(
    grad: Tensor, y: Tensor | None, acc: Tensor, call: Call, kernels: Kernels
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients to acc, scaled by the slope of the weights, gamma and beta.

    Those of batch norm: what the gradient has along the batch's mean and deviation, of all
    processes, is taken out of it (Ioffe and Szegedy 2015, section 3). The parameters' own are this
    process's, which data-parallel training averages.
    """
    rows, inside = call.rows, (0, 0) if call.line is None else call.line.inside
    assert rows is not None
    sums = kernels.gradient_sums(grad, y, acc, rows, inside)
    total = shared_sums(sums)
    return kernels.gradient(grad, y, acc, rows, inside, sums, total, call.count)


def normed_sums(
    given: tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None],
    acc: Tensor,
    rounded: Rounded,
    call: Call,
    packed: Packed | None = None,
) -> Tensor:
    """Return a layer's codes, or its sums `acc` where `call.line` is None. given: x, real weights,
    gamma, beta, and the layer's own bias, if it has one; packed: x, which is then kept so for the
    backward.
    """
    kept = rounded.codes if rounded.real is None else rounded.real
    hooks: AbstractContextManager[object] = nullcontext()
    if packed is not None and not _has_hooks():
        assert call.kernels is not None
        # Hooks see another tensor of the same memory than the one that was saved.
        unpack, place = call.kernels.unpack, given[0].data_ptr()
        hooks = saved_tensors_hooks(
            lambda saved: packed if saved.data_ptr() == place else saved,
            lambda saved: unpack(saved) if saved is packed else saved,
        )
    with hooks:
        result: Tensor = _NormedSums.apply(*given, acc, kept, call)  # type: ignore[no-untyped-call]  # torch's apply is untyped
    return result


def _has_hooks() -> bool:
    """Whether someone else, as checkpointing does, decides how tensors are kept for the backward,
    or forbids to; torch has no public names for that.
    """
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    enabled = getattr(torch._C._autograd, "_saved_tensors_hooks_is_enabled", None)
    return top is None or enabled is None or not enabled() or top(False) is not None


def _by_parts(call: Call, given: list[Any], grad: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients of a call computed once more, one function after another, so that they
    have gradients themselves.
    """
    x, w, gamma, beta, bias = given
    plan, gradient = call.plan, call.gradient()
    codes = ste_round(w, call.slope, plan.low, 127)
    acc = ts.exact_sums(plan.combine, x, codes, plan.types, plan.form)
    own = (gamma, beta, torch.zeros_like(beta) if bias is None else bias)
    if call.line is None:
        y = normed(acc, *own, gradient)
    else:
        y = requantized(acc, *own, gradient, call.line)
    wanted = [tensor is not None and tensor.requires_grad for tensor in given]
    chosen = [tensor for tensor, own in zip(given, wanted, strict=True) if own]
    found = iter(torch.autograd.grad(y, chosen, grad, create_graph=True, allow_unused=True))
    return tuple(next(found) if own else None for own in wanted)
