"""A training step of a layer with batch norm: exact sums, statistics, one requantisation.

The order in which they are computed and the running statistics move; the arithmetic is `norm`'s.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from isobit.core import torch_sums as ts
from isobit.core.types import AnyArray
from isobit.ops import torch_dynamic
from isobit.ops.dynamic import DynamicOp
from isobit.ops.schemes import Scheme
from isobit.ops.weighted import WeightedOp
from isobit.train import channels, norm, normalised, weights
from isobit.train.channels import host
from isobit.train.numbers import Numbers, bias_of
from isobit.train.steps import Step

if TYPE_CHECKING:
    from isobit.train.twin import Twin


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
    acc = _sums(step, numbers, values, w)
    if not pow2:
        own, running = normalised.learned(twin, step), normalised.running(twin, step)
        return _requantize(step, numbers, acc, own, running, between, moving=False)
    bias = weights.folded_bias(twin, step, numbers)
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
    factor, bias = _folded(step, numbers, own, before)
    w = weights.rounded(twin, step, numbers, channels.tensor(factor, own.gamma.detach()))
    names: Any = step.inputs
    attrs: Any = numbers.attrs[step.name]
    e = None if names.e is None else values[names.e]
    acc = step.op.combine(attrs, values[names.x].double(), w.double(), None)
    unit = torch_dynamic.unit(acc, attrs.product, e)
    reals = acc * unit
    moments = norm.moments_of(reals.detach())
    found = channels.before_norm(moments, own, before, factor, np.ones(1))
    _move_running(twin, step, found, acc)
    acc = norm.with_batch_gradient(reals, moments, own, factor) / unit
    return torch_dynamic.quantized(
        acc, channels.tensor(bias, acc.detach()), e, attrs.product, attrs.bias
    )


def _run_pow2(
    twin: Twin,
    step: Step,
    numbers: Numbers,
    values: dict[str, Tensor],
    between: ts.Between,
) -> Tensor:
    """Run with the running statistics, which then move; the gradient is that of the batch's."""
    own, before = normalised.learned(twin, step), normalised.running(twin, step)
    factor, bias = _folded(step, numbers, own, before)
    w = weights.rounded(twin, step, numbers, channels.tensor(factor, own.gamma.detach()))
    acc = _sums(step, numbers, values, w)
    moments, shift = norm.moments_of(acc), host(numbers.derived[step.name]["shift"])
    found = channels.before_norm(moments, own, before, factor, numbers.sum_step(step))
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
    w = weights.rounded(twin, step, numbers, normalised.weight_factor(twin, step))
    acc = _sums(step, numbers, values, w)
    found = channels.statistics_of(norm.moments_of(acc), own, numbers.sum_step(step))
    twin.batch_statistics[step.name] = found
    _move_running(twin, step, found, acc)
    return _requantize(step, numbers, acc, own, found, between, moving=True)


def _requantize(
    step: Step,
    numbers: Numbers,
    acc: Tensor,
    own: channels.Affine,
    statistics: channels.Statistics,
    between: ts.Between,
    *,
    moving: bool,
) -> Tensor:
    """Return the codes of an `affine` batch norm of sums with some statistics."""
    sizes = numbers.sum_step(step)
    y_step, (bounds, soft) = numbers.step_of(step.name), _bounds(step, numbers)
    multipliers = channels.fold(own, statistics, sizes, y_step)
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
    inputs: Any = step.inputs
    combine, types, form = numbers.keep("form", step.name, lambda: _form(step, numbers))
    return ts.exact_sums(combine, values[inputs.x], w, types, form)


def _form(step: Step, numbers: Numbers) -> tuple[ts.Combine, ts.SumTypes, ts.Int8Form | None]:
    assert issubclass(step.op, WeightedOp)
    q = numbers.around(step)
    types = ts.SumTypes(q.inputs.x, q.output, step.op.channel_axis)
    return partial(step.op.combine, step.attrs), types, step.op.int8_form(step.attrs)


def _bounds(step: Step, numbers: Numbers) -> tuple[tuple[int, int], tuple[bool, bool]]:
    """Return the clamp of a step's codes without their zero point, and which of its ends a gradient
    passes.
    """
    q, attrs = numbers.around(step), numbers.attrs[step.name]
    return (attrs.clamp[0] - q.output.zero, attrs.clamp[1] - q.output.zero), q.soft


def _folded(
    step: Step, numbers: Numbers, own: channels.Affine, running: channels.Statistics
) -> tuple[AnyArray, AnyArray]:
    """Return gamma / sigma and the integer bias; the norm's own gradient reaches gamma and beta."""
    factor = channels.slope(own, running)
    inverse = host(numbers.inverse(bias_of(step), own.gamma.device))
    return factor, channels.folded_bias(own, running, factor, inverse)


def _move_running(twin: Twin, step: Step, found: channels.Statistics, acc: Tensor) -> None:
    assert step.norm is not None
    module, momentum = normalised.module(twin, step), step.norm.momentum
    channels.update_running(module, found, norm.count_of(acc), momentum)
