"""The channels of all layers with a moving batch norm, one after another.

What is computed of each channel takes some twenty calls; here they are made once for a whole
network, before its forward and after it. Only what needs the statistics of a layer, to compute the
next one, stays in the layer's turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from isobit.core import torch_sums as ts
from isobit.core.fixed_torch import F32_EXACT
from isobit.core.types import AnyArray, FloatArray, scale_of
from isobit.ops.schemes import Scheme
from isobit.ops.weighted import WeightedOp
from isobit.train import channels, norm, norm_layer, normalised, weights
from isobit.train.channels import host
from isobit.train.numbers import Numbers, bias_of
from isobit.train.steps import Step

if TYPE_CHECKING:
    from isobit.train.twin import Twin


@dataclass(slots=True)
class Layer:
    """A batch norm whose statistics move in this forward.

    module: torch's; own, before: its parameters, and its statistics, which move at the end; factor:
    gamma / sigma in `pow2`; moments: of its sums in this batch, over `count` values of a channel;
    found: the statistics that they are. fused: for `norm_layer`, if that can do it.
    """

    module: Any
    momentum: float
    own: channels.Affine
    before: channels.Statistics
    factor: AnyArray | None = None
    moments: channels.Moments | None = None
    found: channels.Statistics | None = None
    count: int = 0
    fused: Fused | None = None


@dataclass(slots=True)
class Fused:
    """What `norm_layer` takes: real weights w, rounded already where they are few, and what else
    they need; gains: in `affine`; line: in `pow2`.
    """

    plan: norm_layer.Plan
    w: Tensor
    back: Tensor
    slopes: norm_layer.Slopes
    rounded: norm_layer.Rounded | None = None
    gains: channels.Gains | None = None
    line: norm.Line | None = None


@dataclass(frozen=True, slots=True)
class Sizes:
    """What of the channels follows from the ranges: [C] of all layers. sums, y_step: steps; w, b:
    1 / step of weights and, in `pow2`, of biases, float32; shift: in `pow2`; eps: the norms'.
    """

    counts: list[int]
    sums: FloatArray
    y_step: FloatArray
    w: AnyArray
    b: AnyArray
    shift: FloatArray
    eps: FloatArray


class Stack:
    """The layers of one training forward."""

    def __init__(self, twin: Twin, numbers: Numbers, layers: dict[str, Layer]) -> None:
        self.layers = list(layers.values())
        steps = [step for step in twin.steps if step.name in layers]
        self.sizes = numbers.keep("sizes", " ".join(layers), lambda: _sizes(numbers, steps, layers))
        ends = [0, *accumulate(self.sizes.counts)]
        self.parts = [slice(start, end) for start, end in pairwise(ends)]
        own = [layer.own for layer in self.layers]
        self.own = channels.Arrays(
            np.concatenate([host(one.gamma) for one in own]),
            np.concatenate([host(one.beta) for one in own]),
            np.concatenate([host(one.bias) for one in own]),
            self.sizes.eps,
        )
        self.before = channels.Statistics(
            np.concatenate([layer.before.mean for layer in self.layers]),
            np.concatenate([layer.before.var for layer in self.layers]),
        )
        self.pow2 = twin.scheme is Scheme.POW2
        if self.pow2:
            self.factor = channels.slope(self.own, self.before)
            for layer, part in zip(self.layers, self.parts, strict=True):
                layer.factor = self.factor[part]
        self.slope = (self.factor if self.pow2 else channels.sign_of(self.own.gamma)) * self.sizes.w
        self._fuse(twin, numbers, steps)

    def _fuse(self, twin: Twin, numbers: Numbers, steps: Sequence[Step]) -> None:
        """Prepare the layers that are one autograd function."""
        backs = np.divide(1, self.slope, out=np.zeros_like(self.slope), where=self.slope != 0)
        if twin.device.type != "cpu":
            return
        both = torch.split(torch.from_numpy(np.array([self.slope, backs])), self.sizes.counts, 1)
        lines = self._lines(numbers, steps) if self.pow2 else None
        gains = None
        if not self.pow2:
            gains = channels.gains(self.own, self.sizes.sums, self.sizes.y_step)
        small: list[Fused] = []
        for index, (step, layer) in enumerate(zip(steps, self.layers, strict=True)):
            plan = numbers.keep("plan", step.name, partial(plan_of, step, numbers, twin.scheme))
            if plan is None:
                continue
            inputs: Any = step.inputs
            slope, back = both[index].reshape(2, *plan.rows)
            slopes = norm_layer.Slopes(slope)
            layer.fused = Fused(plan, twin.parameter(inputs.w), back, slopes)
            layer.fused.line = None if lines is None else lines[index]
            layer.fused.gains = None if gains is None else gains.of(self.parts[index])
            if layer.fused.w.numel() <= weights.MOST_SMALL:
                small.append(layer.fused)
        if small:
            round_small(small)

    def _lines(self, numbers: Numbers, steps: Sequence[Step]) -> list[norm.Line]:
        """Return how sums become codes in `pow2`, by layer."""
        bias = channels.folded_bias(self.own, self.before, self.factor, self.sizes.b)
        real = np.exp2(-self.sizes.shift)
        # float32 holds sums and biases up to 2^23 with the half of a step added to them.
        wide = bool((np.abs(bias) + 0.5 / real > F32_EXACT // 2).any())
        dtype = np.float64 if wide else np.float32
        rows = torch.from_numpy(np.array([bias * real + 0.5, real]).astype(dtype))
        found = []
        for both, step in zip(torch.split(rows, self.sizes.counts, 1), steps, strict=True):
            add, mult = both.unbind()
            found.append(norm.Line(add, mult, None, *clamp_of(step, numbers)))
        return found

    def end(self) -> None:
        """Say what the statistics of the batch were, and what gradient the layers get."""
        own, sizes = self.own, self.sizes
        if self.pow2:
            moments = self._moments()
            found = channels.before_norm(moments, own, self.before, self.factor, sizes.sums)
            for layer, part in zip(self.layers, self.parts, strict=True):
                layer.found = channels.Statistics(found.mean[part], found.var[part])
            line = norm.shift_line(moments, sizes.shift)
        else:
            line = norm.affine_line(own, self._found(), sizes.sums, sizes.y_step)
        rows = np.empty((6, len(self.slope)), np.float32)
        rows[0], rows[2:4] = line[0], line[1:]
        np.multiply(line[0], self.slope, out=rows[1])
        np.divide(1.0, sizes.y_step, out=rows[5])
        np.multiply(channels.sign_of(own.gamma), rows[5], out=rows[4])
        each = torch.split(torch.from_numpy(rows), sizes.counts, 1)
        for layer, own_rows in zip(self.layers, each, strict=True):
            if layer.fused is not None:
                plain, scaled, mean, inverse, turn, lift = own_rows.unbind()
                slopes = layer.fused.slopes
                slopes.gradient = norm.Gradient(plain, mean, inverse, turn, lift, moving=True)
                slopes.scaled = norm.Gradient(scaled, mean, inverse, turn, lift, moving=True)

    def _moments(self) -> channels.Moments:
        found = [layer.moments for layer in self.layers if layer.moments is not None]
        return channels.Moments(
            np.concatenate([one.mean for one in found]), np.concatenate([one.var for one in found])
        )

    def _found(self) -> channels.Statistics:
        found = [layer.found for layer in self.layers if layer.found is not None]
        return channels.Statistics(
            np.concatenate([one.mean for one in found]), np.concatenate([one.var for one in found])
        )


def _sizes(numbers: Numbers, steps: Sequence[Step], layers: dict[str, Layer]) -> Sizes:
    counts = [len(layer.own.gamma) for layer in layers.values()]

    def stacked(each: list[Any], dtype: Any) -> AnyArray:
        wide = [np.broadcast_to(np.asarray(a, dtype), n) for a, n in zip(each, counts, strict=True)]
        return np.concatenate(wide)

    def inverse(name: str) -> FloatArray:
        return 1.0 / scale_of(numbers.types[name].encoding)

    names: list[Any] = [step.inputs for step in steps]
    shifts = [numbers.derived[step.name].get("shift") for step in steps]
    return Sizes(
        counts,
        stacked([numbers.sum_step(step) for step in steps], np.float64),
        stacked([numbers.step_of(step.name) for step in steps], np.float64),
        stacked([inverse(own.w) for own in names], np.float32),
        stacked([inverse(bias_of(step)) for step in steps], np.float32),
        stacked([0 if shift is None else host(shift) for shift in shifts], np.float64),
        stacked([layer.own.eps for layer in layers.values()], np.float64),
    )


def plan_of(step: Step, numbers: Numbers, scheme: Scheme) -> norm_layer.Plan | None:
    """Return what of a layer follows from the ranges, if it is a convolution."""
    assert issubclass(step.op, WeightedOp)
    form = step.op.windows(step.attrs)
    if form is None:
        return None
    q = numbers.around(step)
    axis = step.op.channel_axis
    return norm_layer.Plan(
        partial(step.op.combine, step.attrs),
        ts.SumTypes(q.inputs.x, q.output, axis),
        form,
        weights.least_code(scheme),
        weights.along(step, len(q.inputs.w.shape)),
    )


def clamp_of(step: Step, numbers: Numbers) -> tuple[tuple[int, int], tuple[bool, bool]]:
    """Return the clamp of a step's codes without their zero point, and which of its ends a gradient
    passes.
    """
    q, attrs = numbers.around(step), numbers.attrs[step.name]
    return (attrs.clamp[0] - q.output.zero, attrs.clamp[1] - q.output.zero), q.soft


@torch.no_grad()
def round_small(some: list[Fused]) -> None:
    """Round the weights of several layers."""
    found = norm_layer.rounded_all(
        [one.w for one in some],
        [one.slopes.slope for one in some],
        [one.back for one in some],
        some[0].plan.low,
        [takes_int8(one) for one in some],
    )
    for one, rounded in zip(some, found, strict=True):
        one.rounded = rounded


def takes_int8(fused: Fused) -> bool:
    """Whether a layer's sums are int8 products."""
    return ts.takes_int8(fused.plan.form, fused.plan.types, fused.w, wide=False)
