"""The channels of all layers with a moving batch norm, one after another.

What is computed of each channel takes some twenty calls; here they are made once for a whole
network, before its forward and after it. Only what needs the statistics of a layer, to compute the
next one, stays in the layer's turn.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
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
from isobit.train import channels, moments, native, norm, norm_layer, weights
from isobit.train.channels import host
from isobit.train.numbers import Numbers, bias_of
from isobit.train.places import Places
from isobit.train.steps import Norm, Step

if TYPE_CHECKING:
    from isobit.train.twin import Twin


@dataclass(slots=True)
class Layer:
    """A batch norm whose statistics move in this forward.

    module: torch's; own, before: its parameters, and its statistics, which move at the end; factor:
    gamma / sigma in `pow2`; parts or sums: of what it normalises, `moments.parts_of` it or, of all
    processes, sums and sums of squares, over `count` values of a channel; found: the statistics of
    the batch. fused: for `norm_layer`, if that can do it.
    """

    module: Any
    momentum: float
    own: channels.Affine
    before: channels.Statistics
    factor: AnyArray | None = None
    parts: list[Tensor] | None = None
    sums: Tensor | None = None
    found: channels.Statistics | None = None
    count: int = 0
    fused: Fused | None = None


@dataclass(slots=True)
class Fused:
    """What `norm_layer` takes: real weights w, rounded already where they are few, and what else
    they need; gains: in `affine`, [7, C]; line: in `pow2`.
    """

    slot: Slot
    plan: norm_layer.Plan
    w: Tensor
    slope: Tensor
    back: Tensor
    int8: bool
    gains: Tensor | None
    line: norm.Line | None
    rounded: norm_layer.Rounded | None = None
    call: norm_layer.Call | None = None


@dataclass(frozen=True, slots=True)
class Slot:
    """What of a layer does not change between updates of ranges: names of its input and constants,
    `Plan` if it is a convolution, clamp of its centred codes, and zeros for a bias it has not.
    """

    step: Step
    norm: Norm
    x: str
    w: str
    b: str | None
    plan: norm_layer.Plan | None
    bounds: tuple[int, int]
    soft: tuple[bool, bool]
    zeros: Tensor


@dataclass(frozen=True, slots=True)
class Sizes:
    """The same of the channels of all layers: [C]. sums, y_step: steps; w, b: 1 / step of weights
    and, in `pow2`, of biases, float32; shift: in `pow2`; eps: the norms'.
    """

    slots: list[Slot]
    counts: list[int]
    parts: list[slice]
    sums: FloatArray
    y_step: FloatArray
    w: AnyArray
    b: AnyArray
    shift: FloatArray
    eps: FloatArray


class Stack:
    """The layers of one training forward."""

    def __init__(
        self, twin: Twin, numbers: Numbers, places: Places, steps: dict[str, Step]
    ) -> None:
        make = partial(_sizes, twin, numbers, steps.values())
        self.sizes = sizes = numbers.keep("sizes", " ".join(steps), make)
        self.kernels = native.kernels(twin.device)
        self.pow2 = twin.scheme is Scheme.POW2

        def read(name: str) -> Tensor:
            return places.read(name, twin.parameter)

        slots = sizes.slots
        gammas, betas = [read(s.norm.gamma) for s in slots], [read(s.norm.beta) for s in slots]
        biases = [s.zeros if s.b is None else read(s.b) for s in slots]
        means, variances = [read(s.norm.mean) for s in slots], [read(s.norm.var) for s in slots]
        with torch.no_grad():
            rows = host(torch.cat([*gammas, *betas, *biases, *means, *variances]))
        gamma, beta, bias, mean, var = rows.reshape(5, -1)
        self.own = channels.Arrays(gamma, beta, bias, sizes.eps)
        self.before = channels.Statistics(mean, var)
        self.factor = channels.slope(self.own, self.before) if self.pow2 else None
        turned = channels.sign_of(gamma) if self.factor is None else self.factor
        self.slope = turned * sizes.w
        self.layers = {
            slot.step.name: Layer(
                places.holders[slot.norm.mean],
                slot.norm.momentum,
                channels.Affine(one, offset, own, slot.norm.eps),
                channels.Statistics(mean[part], var[part]),
                None if self.factor is None else self.factor[part],
            )
            for slot, part, one, offset, own in zip(
                slots, sizes.parts, gammas, betas, biases, strict=True
            )
        }
        if twin.device.type == "cpu":
            self._fuse([read(s.w) for s in slots])

    def _fuse(self, all_weights: Sequence[Tensor]) -> None:
        """Prepare the layers that are one autograd function."""
        sizes = self.sizes
        backs = np.divide(1, self.slope, out=np.zeros_like(self.slope), where=self.slope != 0)
        both = torch.split(torch.from_numpy(np.array((self.slope, backs))), sizes.counts, 1)
        none = [None] * len(both)
        lines: Sequence[norm.Line | None] = self._lines() if self.pow2 else none
        gains: Sequence[Tensor | None] = none if self.pow2 else self._gains()
        small: list[Fused] = []
        for slot, layer, w, two, line, gain in zip(
            sizes.slots, self.layers.values(), all_weights, both, lines, gains, strict=True
        ):
            plan = slot.plan
            if plan is not None:
                slope, back = two.reshape(plan.rows).unbind()
                int8 = ts.takes_int8(plan.form, plan.types, w, wide=False)
                layer.fused = Fused(slot, plan, w, slope, back, int8, gain, line)
                if w.numel() <= weights.MOST_SMALL:
                    small.append(layer.fused)
        if small:
            _round(small)

    def _gains(self) -> Sequence[Tensor]:
        """Return `channels.Gains` by layer, in `affine`."""
        own = channels.gains(self.own, self.sizes.sums, self.sizes.y_step)
        rows = (own.gain, own.lift, own.turn, own.bias, own.eps, own.unit, own.squared)
        return torch.split(torch.from_numpy(np.array(rows)), self.sizes.counts, 1)

    def _lines(self) -> list[norm.Line]:
        """Return how sums become codes by layer, in `pow2`."""
        assert self.factor is not None
        sizes = self.sizes
        bias = channels.folded_bias(self.own, self.before, self.factor, sizes.b)
        real = np.exp2(-sizes.shift)
        # float32 holds sums and biases up to 2^23 with the half of a step added to them.
        wide = bool((np.abs(bias) + 0.5 / real).max() > F32_EXACT // 2)
        both = np.array((bias * real + 0.5, real), np.float64 if wide else np.float32)
        rows = [part.unbind() for part in torch.split(torch.from_numpy(both), sizes.counts, 1)]
        return [
            norm.Line(add, mult, None, slot.bounds, slot.soft)
            for (add, mult), slot in zip(rows, sizes.slots, strict=True)
        ]

    def end(self) -> None:
        """Say what the statistics of the batch were, and what gradient the layers get."""
        sizes, layers = self.sizes, list(self.layers.values())
        if self.factor is not None:
            batch = self._moments(layers)
            found = channels.before_norm(batch, self.own, self.before, self.factor, sizes.sums)
            line = norm.shift_line(batch, sizes.shift)
        else:
            each = [layer.found for layer in layers if layer.found is not None]
            found = channels.Statistics(
                np.concatenate([one.mean for one in each]),
                np.concatenate([one.var for one in each]),
            )
            line = norm.affine_line(self.own, found, sizes.sums, sizes.y_step)
        rows = np.empty((6, len(self.slope)), np.float32)
        rows[native.WEIGHT], rows[native.MEAN], rows[native.INVERSE] = line
        np.multiply(line[0], self.slope, out=rows[native.SCALED])
        np.divide(1.0, sizes.y_step, out=rows[native.LIFT])
        np.multiply(channels.sign_of(self.own.gamma), rows[native.LIFT], out=rows[native.TURN])
        for layer, own in zip(
            layers, torch.split(torch.from_numpy(rows), sizes.counts, 1), strict=True
        ):
            if layer.fused is not None and layer.fused.call is not None:
                layer.fused.call.rows = own
        modules, momenta = [one.module for one in layers], [one.momentum for one in layers]
        channels.update_running(modules, momenta, found, [one.count for one in layers])

    def _moments(self, layers: Sequence[Layer]) -> channels.Moments:
        """Return the moments of all layers' sums, in one exchange between processes."""
        each = [layer.sums for layer in layers if layer.sums is not None]
        if len(each) == len(layers):
            counts = np.repeat([float(layer.count) for layer in layers], self.sizes.counts)
            return moments.of_sums(moments.shared_sums(torch.cat(each, 1)), counts)
        found = [moments_of(layer) for layer in layers]
        return channels.Moments(
            np.concatenate([one.mean for one in found]), np.concatenate([one.var for one in found])
        )


def moments_of(layer: Layer) -> channels.Moments:
    """Return the moments of a layer's sums, of all processes."""
    if layer.sums is not None:
        return moments.of_sums(moments.shared_sums(layer.sums), layer.count)
    assert layer.parts is not None
    return moments.combined(torch.stack(layer.parts))


def _sizes(twin: Twin, numbers: Numbers, steps: Collection[Step]) -> Sizes:
    slots = [_slot(twin, numbers, step) for step in steps]
    counts = [len(slot.zeros) for slot in slots]

    def stacked(each: list[Any], dtype: Any) -> AnyArray:
        wide = [np.broadcast_to(np.asarray(a, dtype), n) for a, n in zip(each, counts, strict=True)]
        return np.concatenate(wide)

    def inverse(name: str) -> FloatArray:
        return 1.0 / scale_of(numbers.types[name].encoding)

    shifts = [numbers.derived[step.name].get("shift") for step in steps]
    ends = [0, *accumulate(counts)]
    return Sizes(
        slots,
        counts,
        [slice(start, end) for start, end in pairwise(ends)],
        stacked([numbers.sum_step(step) for step in steps], np.float64),
        stacked([numbers.step_of(step.name) for step in steps], np.float64),
        stacked([inverse(slot.w) for slot in slots], np.float32),
        stacked([inverse(bias_of(step)) for step in steps], np.float32),
        stacked([0 if shift is None else host(shift) for shift in shifts], np.float64),
        stacked([slot.norm.eps for slot in slots], np.float64),
    )


def _slot(twin: Twin, numbers: Numbers, step: Step) -> Slot:
    assert step.norm is not None
    names: Any = step.inputs
    zeros = torch.zeros_like(twin.parameter(step.norm.gamma).detach())
    plan = plan_of(step, numbers, twin.scheme)
    bounds, soft = clamp_of(step, numbers)
    return Slot(step, step.norm, names.x, names.w, names.b, plan, bounds, soft, zeros)


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
        (2, *weights.along(step, len(q.inputs.w.shape))),
    )


def clamp_of(step: Step, numbers: Numbers) -> tuple[tuple[int, int], tuple[bool, bool]]:
    """Return the clamp of a step's codes without their zero point, and which of its ends a gradient
    passes.
    """
    q, attrs = numbers.around(step), numbers.attrs[step.name]
    return (attrs.clamp[0] - q.output.zero, attrs.clamp[1] - q.output.zero), q.soft


@torch.no_grad()
def _round(some: list[Fused]) -> None:
    """Round the weights of several layers."""
    found = norm_layer.rounded_all(
        [one.w for one in some],
        [one.slope for one in some],
        [one.back for one in some],
        some[0].plan.low,
        [one.int8 for one in some],
    )
    for one, rounded in zip(some, found, strict=True):
        one.rounded = rounded
