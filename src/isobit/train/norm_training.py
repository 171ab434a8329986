"""A training step of a layer with batch norm: exact sums, statistics, one requantisation.

The order in which they are computed and the running statistics move; the arithmetic is `norm`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np
import torch
from torch import Tensor

from isobit.core import torch_sums as ts
from isobit.core.torch_products import Windows
from isobit.core.types import AnyArray
from isobit.ops import torch_dynamic
from isobit.ops.dynamic import DynamicOp
from isobit.ops.schemes import Scheme
from isobit.ops.weighted import WeightedOp
from isobit.train import channels, moments, norm, norm_layer, normalised, weights
from isobit.train.channels import host
from isobit.train.native import Kernels, Packed
from isobit.train.norm_stack import Fused, Layer, Stack, clamp_of, moments_of
from isobit.train.numbers import Numbers, bias_of
from isobit.train.places import places_of
from isobit.train.steps import Step

if TYPE_CHECKING:
    from isobit.train.twin import Twin


@dataclass(slots=True)
class Pass:
    """What the layers of one training forward share, by step: rounded weights, and moving batch
    norms. Both take many calls for little work, so they are made, and moved, for all layers at
    once.
    """

    twin: Twin
    numbers: Numbers
    w: dict[str, Tensor] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)
    stack: Stack | None = None
    packed: dict[str, tuple[ref[Tensor], Packed]] = field(default_factory=dict)

    def packed_of(self, name: str, x: Tensor) -> Packed | None:
        """Return the packed codes of a value, if x is still what they were packed of."""
        made, packed = self.packed.get(name, (None, None))
        return packed if made is not None and made() is x else None

    def end(self) -> None:
        """Move the running statistics, and tell the layers their gradients."""
        if self.stack is not None:
            self.stack.end()
        for name, layer in self.layers.items():
            if layer.found is not None and (self.stack is None or name not in self.stack.layers):
                moves = [layer.module], [layer.momentum], layer.found, [layer.count]
                channels.update_running(*moves)


def begin(twin: Twin, numbers: Numbers, *, moving: bool) -> Pass:
    """Round the weights of a training forward. moving: statistics of norms in training mode do."""
    this = Pass(twin, numbers)
    plain: dict[str, Tensor | None] = {}
    stacked: dict[str, Step] = {}
    places = places_of(twin)
    for step in twin.weighted:
        if step.norm is None:
            if len(step.outputs) == 1:
                plain[step.name] = None
        elif moving and places.holders[step.norm.mean].training:  # else it keeps its statistics
            if len(step.outputs) == 1:
                stacked[step.name] = step
            else:
                this.layers[step.name] = _dynamic_layer(twin, step, step.norm.momentum)
    if stacked:
        this.stack = Stack(twin, numbers, places, stacked)
        this.layers.update(this.stack.layers)
    this.w.update(weights.rounded_all(twin, numbers, plain))
    return this


def _dynamic_layer(twin: Twin, step: Step, momentum: float) -> Layer:
    own, before = normalised.learned(twin, step), normalised.running(twin, step)
    factor = channels.slope(own.arrays, before)
    return Layer(normalised.module(twin, step), momentum, own, before, factor)


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
        y = None
        if layer.fused is not None:
            y = _run_fused(values, between, this, layer, layer.fused)
        if y is None:
            y = (_run_pow2 if pow2 else _run_affine)(step, values, between, this, layer)
        return y
    w = weights.rounded(twin, step, numbers, normalised.weight_factor(twin, step))
    acc = _sums(step, numbers, values, w)
    if not pow2:
        own, running = normalised.learned(twin, step), normalised.running(twin, step)
        return _requantize(step, numbers, acc, own, running, between, moving=False)
    bias = weights.folded_bias(twin, step, numbers)
    shift, (bounds, soft) = numbers.derived[step.name]["shift"], clamp_of(step, numbers)
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
    batch, own = moments.moments_of(reals.detach()), layer.own
    layer.found = channels.before_norm(batch, own.arrays, layer.before, factor, np.ones(1))
    layer.count = moments.count_of(acc)
    acc = norm.with_batch_gradient(reals, batch, own, factor) / unit
    b = channels.tensor(bias, acc.detach())
    return torch_dynamic.quantized(acc, b, e, attrs.product, attrs.bias)


def _run_fused(
    values: dict[str, Tensor], between: ts.Between, this: Pass, layer: Layer, fused: Fused
) -> Tensor | None:
    """Run as one autograd function; None where the sums need more than float32."""
    slot, plan, own, stack = fused.slot, fused.plan, layer.own, this.stack
    x = values[slot.x]
    assert stack is not None
    with torch.no_grad():
        rounded = fused.rounded
        if rounded is None:
            form = plan.low, fused.int8, stack.kernels
            rounded = norm_layer.rounded(fused.w, fused.slope, fused.back, *form)
        acc = ts.plain_sums(x, rounded.codes, rounded.total, plan.types, plan.form)
        # Only where weights alone prove nothing may sums of one process need more than another's.
        open_ = ts.fan_in_bound(rounded.codes, plan.types) > ts.LIMIT
        if moments.anywhere(acc is None) if open_ else acc is None:
            return None
        assert acc is not None
        kernels, layer.count = stack.kernels, moments.count_of(acc)
        if kernels is None:
            layer.parts = moments.parts_of(acc)
        else:
            acc = acc.contiguous()  # it is, unless weights do not lie channels last
            layer.sums = kernels.moments(acc)
        line = fused.line
        if line is None:
            line = _affine_line(acc, layer, fused, kernels)
            assert layer.found is not None
            this.twin.batch_statistics[slot.step.name] = layer.found
        if between.watch is not None and between.select is None:
            between.watch(line.values(acc) - 0.5)
    wanted = None if between.select is not None else line
    call = norm_layer.Call(plan, fused.slope, fused.back, wanted, layer.count, kernels)
    fused.call = call
    bias = None if slot.b is None else own.bias
    given = (x, fused.w, own.gamma, own.beta, bias)
    packed = this.packed_of(slot.x, x) if kernels is not None else None
    y = norm_layer.normed_sums(given, acc, rounded, call, packed)
    if wanted is None:
        return norm.selected(y, line, between, kernels)
    if call.packed is not None:
        this.packed[slot.step.name] = ref(y), call.packed
        call.packed = None  # saved for the backward, as long as that needs it
    return y


def _affine_line(acc: Tensor, layer: Layer, fused: Fused, kernels: Kernels | None) -> norm.Line:
    """Return how sums become codes with the batch's statistics, which are `found`."""
    assert fused.gains is not None
    slot = fused.slot
    if kernels is not None and layer.sums is not None:
        layer.sums = moments.shared_sums(layer.sums)
        statistics, (add, mult) = kernels.fold(layer.sums, layer.count, fused.gains)
        layer.found = channels.Statistics(*host(statistics))
        return norm.Line(add, mult, None, slot.bounds, slot.soft)
    gains = channels.Gains(*host(fused.gains))
    layer.found = channels.statistics_of(moments_of(layer), gains)
    return norm.line_of(channels.fold(gains, layer.found), acc, slot.bounds, slot.soft)


def _run_pow2(
    step: Step, values: dict[str, Tensor], between: ts.Between, this: Pass, layer: Layer
) -> Tensor:
    """Run with the running statistics, which then move; the gradient is that of the batch's."""
    numbers, own = this.numbers, layer.own
    w = weights.rounded(this.twin, step, numbers, _weight_factor(layer))
    acc = _sums(step, numbers, values, w)
    layer.parts, layer.count = moments.parts_of(acc.detach()), moments.count_of(acc)
    batch = moments.combined(torch.stack(layer.parts))
    bias, shift = _bias(step, numbers, layer), numbers.derived[step.name]["shift"]
    y_step, (bounds, soft) = numbers.step_of(step.name), clamp_of(step, numbers)
    return norm.shift_requantize(
        acc, batch, own, bias, host(shift), y_step, bounds, soft, between=between
    )


def _run_affine(
    step: Step, values: dict[str, Tensor], between: ts.Between, this: Pass, layer: Layer
) -> Tensor:
    """Run with the batch's statistics, towards which the running ones move."""
    twin, numbers, own = this.twin, this.numbers, layer.own
    w = weights.rounded(twin, step, numbers, _weight_factor(layer))
    acc = _sums(step, numbers, values, w)
    gains = channels.gains(own.arrays, numbers.sum_step(step), numbers.step_of(step.name))
    found = channels.statistics_of(moments.moments_of(acc), gains)
    layer.found = twin.batch_statistics[step.name] = found
    layer.count = moments.count_of(acc)
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
    y_step, (bounds, soft) = numbers.step_of(step.name), clamp_of(step, numbers)
    multipliers = channels.fold(channels.gains(own.arrays, sizes, y_step), statistics)
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


def _form(step: Step, numbers: Numbers) -> tuple[ts.Combine, ts.SumTypes, Windows | None]:
    assert issubclass(step.op, WeightedOp)
    q = numbers.around(step)
    types = ts.SumTypes(q.inputs.x, q.output, step.op.channel_axis)
    return partial(step.op.combine, step.attrs), types, step.op.windows(step.attrs)


def _bias(step: Step, numbers: Numbers, layer: Layer) -> AnyArray:
    """Return the integer bias of a `pow2` batch norm, whose own gradient reaches beta."""
    own, factor = layer.own, layer.factor
    assert factor is not None
    inverse = host(numbers.inverse(bias_of(step), own.gamma.device))
    return channels.folded_bias(own.arrays, layer.before, factor, inverse)
