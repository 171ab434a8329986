"""A training step of a layer with batch norm: exact sums, statistics, one requantisation.

The order in which they are computed and the running statistics move; the arithmetic is `norm`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class Pass:
    """What the layers of one training forward share: rounded weights, and the statistics towards
    which running ones move when it is done. There are many calls for little work in both, so they
    are done for all layers at once.
    """

    twin: Twin
    numbers: Numbers
    w: dict[str, Tensor] = field(default_factory=dict)
    """By step."""
    factor: dict[str, AnyArray] = field(default_factory=dict)
    """`pow2`: gamma / sigma, by step."""
    found: dict[str, channels.Statistics] = field(default_factory=dict)
    """Of the batch, by step."""
    count: dict[str, int] = field(default_factory=dict)
    """Values of a channel, by step."""

    def end(self) -> None:
        """Move the running statistics."""
        steps = [step for step in self.twin.steps if step.name in self.found]
        modules = [normalised.module(self.twin, step) for step in steps]
        moves = [
            (step.norm.momentum, self.found[step.name], self.count[step.name])
            for step in steps
            if step.norm
        ]
        if modules:
            channels.update_running(modules, moves)


def begin(twin: Twin, numbers: Numbers) -> Pass:
    """Round the weights of a training forward."""
    result = Pass(twin, numbers)
    factors: dict[str, Tensor | None] = {}
    for step in twin.steps:
        if not issubclass(step.op, WeightedOp) or len(step.outputs) > 1:
            continue
        if step.norm is None:
            factors[step.name] = None
        elif not normalised.module(twin, step).training:
            continue
        elif twin.scheme is Scheme.POW2:
            own, running = normalised.learned(twin, step), normalised.running(twin, step)
            factor = result.factor[step.name] = channels.slope(own, running)
            factors[step.name] = channels.tensor(factor, own.gamma.detach())
        else:
            gamma = twin.parameter(step.norm.gamma).detach()
            negative = bool((host(gamma) < 0).any())
            factors[step.name] = normalised.weight_factor(twin, step) if negative else None
    result.w.update(weights.rounded_all(twin, numbers, factors))
    return result


def run(
    step: Step, values: dict[str, Tensor], between: ts.Between, this: Pass, *, moving: bool
) -> Tensor:
    """Run a normalised step in training: exact for the statistics it uses, with batch norm's
    gradient.
    """
    twin, numbers = this.twin, this.numbers
    pow2 = twin.scheme is Scheme.POW2
    if moving and normalised.module(twin, step).training:  # in eval mode it keeps its statistics
        return (_run_pow2 if pow2 else _run_affine)(step, values, between, this)
    w = weights.rounded(twin, step, numbers, normalised.weight_factor(twin, step))
    acc = _sums(step, numbers, values, w)
    if not pow2:
        own, running = normalised.learned(twin, step), normalised.running(twin, step)
        return _requantize(step, numbers, acc, own, running, between, moving=False)
    bias = weights.folded_bias(twin, step, numbers)
    shift, (bounds, soft) = numbers.derived[step.name]["shift"], _bounds(step, numbers)
    return norm.frozen_shift(acc, bias, shift, bounds, soft, between)


def run_dynamic(
    step: Step, values: dict[str, Tensor], this: Pass, *, moving: bool
) -> tuple[Tensor, Tensor]:
    """Run a normalised step that finds the step of its output: as `run`, but codes and exponents.

    Every example's sums have a unit of their own, so statistics are those of real numbers.
    """
    twin, numbers = this.twin, this.numbers
    assert issubclass(step.op, DynamicOp)
    if not (moving and normalised.module(twin, step).training):
        inputs: Any = twin.operands(step, numbers, values)
        return step.op.surrogate(numbers.attrs[step.name], numbers.around(step), inputs)
    own, before = normalised.learned(twin, step), normalised.running(twin, step)
    factor = channels.slope(own, before)
    bias = _bias(step, numbers, own, before, factor)
    w = weights.rounded(twin, step, numbers, channels.tensor(factor, own.gamma.detach()))
    names: Any = step.inputs
    attrs: Any = numbers.attrs[step.name]
    e = None if names.e is None else values[names.e]
    acc = step.op.combine(attrs, values[names.x].double(), w.double(), None)
    unit = torch_dynamic.unit(acc, attrs.product, e)
    reals = acc * unit
    moments = norm.moments_of(reals.detach())
    this.found[step.name] = channels.before_norm(moments, own, before, factor, np.ones(1))
    this.count[step.name] = norm.count_of(acc)
    acc = norm.with_batch_gradient(reals, moments, own, factor) / unit
    return torch_dynamic.quantized(
        acc, channels.tensor(bias, acc.detach()), e, attrs.product, attrs.bias
    )


def _run_pow2(step: Step, values: dict[str, Tensor], between: ts.Between, this: Pass) -> Tensor:
    """Run with the running statistics, which then move; the gradient is that of the batch's."""
    twin, numbers, factor = this.twin, this.numbers, this.factor[step.name]
    own, before = normalised.learned(twin, step), normalised.running(twin, step)
    w = this.w.get(step.name)
    if w is None:
        w = weights.rounded(twin, step, numbers, channels.tensor(factor, own.gamma.detach()))
    acc = _sums(step, numbers, values, w)
    moments, sizes = norm.moments_of(acc), numbers.sum_step(step)
    this.found[step.name] = channels.before_norm(moments, own, before, factor, sizes)
    this.count[step.name] = norm.count_of(acc)
    bias, shift = _bias(step, numbers, own, before, factor), numbers.derived[step.name]["shift"]
    y_step, (bounds, soft) = numbers.step_of(step.name), _bounds(step, numbers)
    return norm.shift_requantize(
        acc, moments, own, bias, host(shift), y_step, bounds, soft, between=between
    )


def _run_affine(step: Step, values: dict[str, Tensor], between: ts.Between, this: Pass) -> Tensor:
    """Run with the batch's statistics, towards which the running ones move."""
    twin, numbers = this.twin, this.numbers
    own, w = normalised.learned(twin, step), this.w.get(step.name)
    if w is None:
        w = weights.rounded(twin, step, numbers, normalised.weight_factor(twin, step))
    acc = _sums(step, numbers, values, w)
    found = channels.statistics_of(norm.moments_of(acc), own, numbers.sum_step(step))
    this.found[step.name] = twin.batch_statistics[step.name] = found
    this.count[step.name] = norm.count_of(acc)
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


def _bias(
    step: Step,
    numbers: Numbers,
    own: channels.Affine,
    running: channels.Statistics,
    factor: AnyArray,
) -> AnyArray:
    """Return the integer bias of a `pow2` batch norm, whose own gradient reaches beta."""
    inverse = host(numbers.inverse(bias_of(step), own.gamma.device))
    return channels.folded_bias(own, running, factor, inverse)
