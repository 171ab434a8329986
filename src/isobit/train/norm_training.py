"""A training step of a layer with batch norm: exact sums, statistics, one requantisation.

The order in which they are computed and the running statistics move; the arithmetic is `norm`'s.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from isobit.core import torch_sums as ts
from isobit.ops import torch_dynamic
from isobit.ops.dynamic import DynamicOp
from isobit.ops.schemes import Scheme
from isobit.ops.weighted import WeightedOp
from isobit.train import norm, normalised, weights
from isobit.train.numbers import Numbers
from isobit.train.steps import Step

if TYPE_CHECKING:
    from isobit.train.twin import Twin

LEAST_SLOPE = 1e-4
"""Of gamma / sigma, below which sums say nothing of the statistics before the norm."""


def run(
    twin: Twin,
    step: Step,
    numbers: Numbers,
    values: dict[str, Tensor],
    between: ts.Between,
    *,
    moving: bool,
) -> Tensor:
    """Run a normalised step in training: exact for the statistics it uses, with batch norm's
    gradient.
    """
    pow2 = twin.scheme is Scheme.POW2
    if moving and normalised.module(twin, step).training:  # in eval mode it keeps its statistics
        return (_run_pow2 if pow2 else _run_affine)(twin, step, numbers, values, between)
    w = weights.rounded(twin, step, numbers, normalised.weight_factor(twin, step))
    own, running = normalised.learned(twin, step), normalised.running(twin, step)
    acc = _sums(step, numbers, values, w)
    if not pow2:
        return _requantize(step, numbers, acc, own, running, between, moving=False)
    bias = weights.folded_bias(step, numbers, own, running, norm.slope(own, running))
    shift, (bounds, soft) = numbers.derived[step.name]["shift"], _bounds(step, numbers)
    return norm.frozen_shift(acc, bias, shift, bounds, soft, between)


def run_dynamic(
    twin: Twin, step: Step, numbers: Numbers, values: dict[str, Tensor], *, moving: bool
) -> tuple[Tensor, Tensor]:
    """Run a normalised step that finds the step of its output: as `run`, but codes and exponents.

    Every example's sums have a unit of their own, so statistics are those of real numbers.
    """
    assert issubclass(step.op, DynamicOp)
    if not (moving and normalised.module(twin, step).training):
        inputs: Any = twin.operands(step, numbers, values)
        return step.op.surrogate(numbers.attrs[step.name], numbers.around(step), inputs)
    own, before = normalised.learned(twin, step), normalised.running(twin, step)
    with torch.no_grad():  # the norm's own gradient reaches gamma
        factor = norm.slope(own, before)
        bias = weights.folded_bias(step, numbers, own, before, factor)
    w = weights.rounded(twin, step, numbers, factor)
    names: Any = step.inputs
    attrs: Any = numbers.attrs[step.name]
    e = None if names.e is None else values[names.e]
    acc = step.op.combine(attrs, values[names.x].double(), w.double(), None)
    unit = torch_dynamic.unit(acc, attrs.product, e)
    reals = acc * unit
    moments = norm.mean_and_variance(reals.detach())
    found = _before_norm(moments, own, before, factor, unit.new_ones(1))
    _move_running(twin, step, found, acc)
    acc = norm.with_batch_gradient(reals, moments, own, factor) / unit
    return torch_dynamic.quantized(acc, bias, e, attrs.product, attrs.bias)


def _run_pow2(
    twin: Twin,
    step: Step,
    numbers: Numbers,
    values: dict[str, Tensor],
    between: ts.Between,
) -> Tensor:
    """Run with the running statistics, which then move; the gradient is that of the batch's."""
    own, before = normalised.learned(twin, step), normalised.running(twin, step)
    with torch.no_grad():  # the norm's own gradient reaches gamma
        factor = norm.slope(own, before)
        bias = weights.folded_bias(step, numbers, own, before, factor)
    acc = _sums(step, numbers, values, weights.rounded(twin, step, numbers, factor))
    moments = norm.mean_and_variance(acc)
    sizes, shift = numbers.sum_step(step, acc.device), numbers.derived[step.name]["shift"]
    found = _before_norm(moments, own, before, factor, sizes)
    _move_running(twin, step, found, acc)
    bounds, soft = _bounds(step, numbers)
    return norm.shift_requantize(
        acc,
        moments,
        own,
        bias,
        shift,
        numbers.step_of(step.name),
        bounds,
        soft,
        between=between,
    )


def _run_affine(
    twin: Twin,
    step: Step,
    numbers: Numbers,
    values: dict[str, Tensor],
    between: ts.Between,
) -> Tensor:
    """Run with the batch's statistics, towards which the running ones move."""
    own = normalised.learned(twin, step)
    w = weights.rounded(twin, step, numbers, norm.sign_of(own.gamma.detach()))
    acc = _sums(step, numbers, values, w)
    found = norm.batch_statistics(acc, own, numbers.sum_step(step, acc.device))
    twin.batch_statistics[step.name] = found
    _move_running(twin, step, found, acc)
    return _requantize(step, numbers, acc, own, found, between, moving=True)


def _requantize(
    step: Step,
    numbers: Numbers,
    acc: Tensor,
    own: norm.Affine,
    statistics: norm.Statistics,
    between: ts.Between,
    *,
    moving: bool,
) -> Tensor:
    """Return the codes of an `affine` batch norm of sums with some statistics."""
    sizes = numbers.sum_step(step, acc.device)
    y_step, (bounds, soft) = numbers.step_of(step.name), _bounds(step, numbers)
    multipliers = norm.fold(own, statistics, sizes, y_step)
    return norm.norm_requantize(
        acc,
        own,
        multipliers,
        statistics,
        sizes,
        y_step,
        bounds,
        soft,
        moving=moving,
        between=between,
    )


def _sums(step: Step, numbers: Numbers, values: dict[str, Tensor], w: Tensor) -> Tensor:
    """Return the sums of products, without a bias."""
    assert issubclass(step.op, WeightedOp)
    inputs: Any = step.inputs
    q = numbers.around(step)
    types = ts.SumTypes(q.inputs.x, q.output, step.op.channel_axis)
    combine, form = partial(step.op.combine, step.attrs), step.op.int8_form(step.attrs)
    return ts.exact_sums(combine, values[inputs.x], w, types, form)


def _bounds(step: Step, numbers: Numbers) -> tuple[tuple[int, int], tuple[bool, bool]]:
    """Return the clamp of a step's codes without their zero point, and which of its ends a gradient
    passes.
    """
    q, attrs = numbers.around(step), numbers.attrs[step.name]
    return (attrs.clamp[0] - q.output.zero, attrs.clamp[1] - q.output.zero), q.soft


def _move_running(twin: Twin, step: Step, found: norm.Statistics, acc: Tensor) -> None:
    assert step.norm is not None
    count = acc.numel() // acc.shape[-1]
    norm.update_running(normalised.module(twin, step), found, count, step.norm.momentum)


@torch.no_grad()
def _before_norm(
    moments: norm.Moments,
    own: norm.Affine,
    running: norm.Statistics,
    factor: Tensor,
    sizes: Tensor,
) -> norm.Statistics:
    """Undo gamma / sigma in the moments of folded sums to see the statistics before the norm; where
    gamma is 0 they are the running ones.
    """
    usable = factor.abs() > LEAST_SLOPE
    scale = sizes / torch.where(usable, factor, 1.0).double()
    mean = torch.where(usable, moments[0] * scale + own.bias, running.mean)
    var = torch.where(usable, moments[1] * scale.square(), running.var)
    return norm.Statistics(mean.float(), var.float())
