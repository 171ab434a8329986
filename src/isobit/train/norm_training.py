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


@dataclass(slots=True)
class Layer:
    """A batch norm whose statistics move in this forward.

    module: torch's; own, before: its parameters, and its statistics, which move at the end; factor:
    gamma / sigma in `pow2`; found: statistics of the batch, over `count` values of a channel.
    """

    module: Any
    momentum: float
    own: channels.Affine
    before: channels.Statistics
    factor: AnyArray | None = None
    found: channels.Statistics | None = None
    count: int = 0


@dataclass(frozen=True, slots=True)
class Pass:
    """What the layers of one training forward share, by step: rounded weights, and moving batch
    norms. Both take many calls for little work, so they are made, and moved, for all layers at
    once.
    """

    twin: Twin
    numbers: Numbers
    w: dict[str, Tensor] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)

    def end(self) -> None:
        """Move the running statistics."""
        modules, moves = [], []
        for layer in self.layers.values():
            if layer.found is not None:
                modules.append(layer.module)
                moves.append((layer.momentum, layer.found, layer.count))
        if modules:
            channels.update_running(modules, moves)


def begin(twin: Twin, numbers: Numbers, *, moving: bool) -> Pass:
    """Round the weights of a training forward. moving: statistics of norms in training mode do."""
    this = Pass(twin, numbers)
    factors: dict[str, Tensor | None] = {}
    for step in twin.steps:
        if not issubclass(step.op, WeightedOp):
            continue
        if step.norm is None:
            if len(step.outputs) == 1:
                factors[step.name] = None
            continue
        module = normalised.module(twin, step)
        if not (moving and module.training):  # in eval mode it keeps its statistics
            continue
        own, before = normalised.learned(twin, step), normalised.running(twin, step)
        layer = this.layers[step.name] = Layer(module, step.norm.momentum, own, before)
        if twin.scheme is Scheme.POW2:
            layer.factor = channels.slope(own, before)
        if len(step.outputs) == 1:
            factors[step.name] = _weight_factor(layer)
    this.w.update(weights.rounded_all(twin, numbers, factors))
    return this


def _weight_factor(layer: Layer) -> Tensor | None:
    """Return what multiplies the weights before they are rounded [C]; the norm's own gradient
    reaches gamma.
    """
    gamma = layer.own.gamma.detach()
    if layer.factor is not None:
        return channels.tensor(layer.factor, gamma)
    signs = channels.sign_of(host(gamma))
    return channels.tensor(signs, gamma) if (signs < 0).any() else None


def run(step: Step, values: dict[str, Tensor], between: ts.Between, this: Pass) -> Tensor:
    """Run a normalised step in training: exact for the statistics it uses, with batch norm's
    gradient.
    """
    twin, numbers = this.twin, this.numbers
    pow2, layer = twin.scheme is Scheme.POW2, this.layers.get(step.name)
    if layer is not None:
        return (_run_pow2 if pow2 else _run_affine)(step, values, between, this, layer)
    w = weights.rounded(twin, step, numbers, normalised.weight_factor(twin, step))
    acc = _sums(step, numbers, values, w)
    if not pow2:
        own, running = normalised.learned(twin, step), normalised.running(twin, step)
        return _requantize(step, numbers, acc, own, running, between, moving=False)
    bias = weights.folded_bias(twin, step, numbers)
    shift, (bounds, soft) = numbers.derived[step.name]["shift"], _bounds(step, numbers)
    return norm.frozen_shift(acc, bias, shift, bounds, soft, between)


def run_dynamic(step: Step, values: dict[str, Tensor], this: Pass) -> tuple[Tensor, Tensor]:
    """Run a normalised step that finds the step of its output: as `run`, but codes and exponents.

    Every example's sums have a unit of their own, so statistics are those of real numbers.
    """
    twin, numbers, layer = this.twin, this.numbers, this.layers.get(step.name)
    assert issubclass(step.op, DynamicOp)
    if layer is None:
        inputs: Any = twin.operands(step, numbers, values)
        return step.op.surrogate(numbers.attrs[step.name], numbers.around(step), inputs)
    factor = layer.factor
    assert factor is not None
    bias = _bias(step, numbers, layer)
    w = weights.rounded(twin, step, numbers, _weight_factor(layer))
    names: Any = step.inputs
    attrs: Any = numbers.attrs[step.name]
    e = None if names.e is None else values[names.e]
    acc = step.op.combine(attrs, values[names.x].double(), w.double(), None)
    unit = torch_dynamic.unit(acc, attrs.product, e)
    reals = acc * unit
    moments = norm.moments_of(reals.detach())
    layer.found = channels.before_norm(moments, layer.own, layer.before, factor, np.ones(1))
    layer.count = norm.count_of(acc)
    acc = norm.with_batch_gradient(reals, moments, layer.own, factor) / unit
    b = channels.tensor(bias, acc.detach())
    return torch_dynamic.quantized(acc, b, e, attrs.product, attrs.bias)


def _run_pow2(
    step: Step, values: dict[str, Tensor], between: ts.Between, this: Pass, layer: Layer
) -> Tensor:
    """Run with the running statistics, which then move; the gradient is that of the batch's."""
    numbers, own, factor = this.numbers, layer.own, layer.factor
    assert factor is not None
    acc = _sums(step, numbers, values, _weights(step, this, layer))
    moments, sizes = norm.moments_of(acc), numbers.sum_step(step)
    layer.found = channels.before_norm(moments, own, layer.before, factor, sizes)
    layer.count = norm.count_of(acc)
    bias, shift = _bias(step, numbers, layer), numbers.derived[step.name]["shift"]
    y_step, (bounds, soft) = numbers.step_of(step.name), _bounds(step, numbers)
    return norm.shift_requantize(
        acc, moments, own, bias, host(shift), y_step, bounds, soft, between=between
    )


def _run_affine(
    step: Step, values: dict[str, Tensor], between: ts.Between, this: Pass, layer: Layer
) -> Tensor:
    """Run with the batch's statistics, towards which the running ones move."""
    twin, numbers, own = this.twin, this.numbers, layer.own
    acc = _sums(step, numbers, values, _weights(step, this, layer))
    found = channels.statistics_of(norm.moments_of(acc), own, numbers.sum_step(step))
    layer.found = twin.batch_statistics[step.name] = found
    layer.count = norm.count_of(acc)
    return _requantize(step, numbers, acc, own, found, between, moving=True)


def _weights(step: Step, this: Pass, layer: Layer) -> Tensor:
    w = this.w.get(step.name)
    if w is None:
        w = weights.rounded(this.twin, step, this.numbers, _weight_factor(layer))
    return w


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


def _bias(step: Step, numbers: Numbers, layer: Layer) -> AnyArray:
    """Return the integer bias of a `pow2` batch norm, whose own gradient reaches beta."""
    own, factor = layer.own, layer.factor
    assert factor is not None
    inverse = host(numbers.inverse(bias_of(step), own.gamma.device))
    return channels.folded_bias(own, layer.before, factor, inverse)
