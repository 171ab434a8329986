"""Quantised graphs: `y = factor * x + offset` with stored reals of every channel, as the definition
says it.

A depthwise convolution of one tap: the factor becomes the channel's own
multiplier, the offset its bias, and `isobit.ops.exact` matches both at every threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import Affine, TensorType
from isobit.ir.graph import Inputs
from isobit.ops.depthwise_conv2d.op import DepthwiseConv2dAttrs
from isobit.ops.exact import Factor, half_even, match
from isobit.ops.foreign import Operand
from isobit.ops.logical import Fixed, LogicalCall, Names
from isobit.ops.onnx import code_bounds, done, reach, scale, stored_reals, target
from isobit.ops.weighted import WeightedInputs

LIMIT = 1 << 31
TAPS = (1, 127, 125, 121, 119, 113, 109, 107, 103, 101, 97)
"""Weights that are tried: the bias is a whole number of products, and so finer with a large one."""


@dataclass(frozen=True, slots=True)
class _Channel:
    """The numbers of a channel, and how many of its codes they give another result for than the
    definition, at most by `lsb`.
    """

    tap: int
    factor: Factor
    differing: int
    lsb: int


def channel_reals(call: LogicalCall, x: Operand, c: Operand) -> list[Fraction] | None:
    """Return the reals of a stored operand if it has one for every channel of x [1,C,...], axis 1;
    `None` for anything else.
    """
    rank = len(x.shape)
    if call.is_float or c.data is None or not c.is_float or x.is_const or rank not in (2, 3, 4):
        return None
    aligned = (1,) * (rank - len(c.shape)) + c.shape
    wanted = (1, x.shape[1], *(1,) * (rank - 2))
    fits = x.shape[0] == 1 and aligned == wanted and x.shape == call.output().shape
    return stored_reals(call, c) if fits and c.type.elements > 1 else None


@dataclass(frozen=True, slots=True)
class _Codes:
    """The encodings around the operator."""

    step_x: Fraction
    zero_x: int
    step_y: Fraction
    zero_y: int
    clamp: tuple[int, int]

    def clipped(self, n: int) -> int:
        return min(max(n + self.zero_y, self.clamp[0]), self.clamp[1])


def _channel(codes: _Codes, factor: Fraction, offset: Fraction) -> _Channel:
    """Return the numbers that differ for the fewest of the 256 codes."""
    inputs = [q - codes.zero_x for q in range(-128, 128)]
    want = [
        codes.clipped(half_even((factor * codes.step_x * q + offset) / codes.step_y))
        for q in inputs
    ]
    reach, sign = max(map(abs, inputs)), (factor > 0) - (factor < 0)
    best: _Channel | None = None
    for tap in TAPS:
        # A factor of 0 leaves the offset, in any step.
        step = (abs(factor) * codes.step_x or codes.step_y) / tap
        bound = reach * tap if factor else 0
        own = match(step / codes.step_y, offset / step, codes.clamp, codes.zero_y, bound)
        got = [
            codes.clipped(_half_up(sign * tap * q + own.offset, own.mult, own.shift))
            for q in inputs
        ]
        gaps = [abs(a - b) for a, b in zip(got, want, strict=True)]
        found = _Channel(tap, own, sum(gap > 0 for gap in gaps), max(gaps))
        if best is None or (found.lsb, found.differing) < (best.lsb, best.differing):
            best = found
        if not best.lsb:
            break
    assert best is not None
    return best


def _half_up(value: int, mult: int, shift: int) -> int:
    """Return `value * mult / 2^shift`, rounded to the nearest, ties up."""
    return (value * mult + ((1 << shift) >> 1)) >> shift


def per_channel(
    call: LogicalCall, x: Operand, factors: Sequence[Fraction], offsets: Sequence[Fraction]
) -> bool:
    """Record it for x [1,C,...] and say whether int32 holds its numbers; if not, nothing is
    recorded.
    """
    out = call.output()
    codes = _Codes(scale(call, x), x.zero, scale(call, out), out.zero, code_bounds(call, out))
    bound = reach(x)
    found = [
        _channel(codes, factor, offset) for factor, offset in zip(factors, offsets, strict=True)
    ]
    if max(abs(f.factor.offset) for f in found) + bound * max(TAPS) >= LIMIT:
        return False
    count = sum(f.differing for f in found)
    text = f"{count} of {256 * len(found)} codes of all channels lie on a tie or next to one"
    call.lossy(max(f.lsb for f in found), text)
    channels = x.shape[1]
    pairs = list(zip(factors, found, strict=True))
    taps = [own.tap * ((factor > 0) - (factor < 0)) for factor, own in pairs]
    steps = tuple(float(abs(factor)) / own.tap or 1.0 for factor, own in pairs)
    kind = TensorType((), DType.S8, Affine(steps, 0, 2))
    w = call.const("taps", np.asarray(taps, np.int8).reshape(1, 1, channels), kind)
    names = {
        "b": call.const("offsets", np.asarray([f.factor.offset for f in found], np.int32)),
        "mult": call.const("mult", np.asarray([f.factor.mult for f in found], np.int32)),
        "shift": call.const("shift", np.asarray([f.factor.shift for f in found], np.int32)),
    }

    def inputs(given: Names) -> Inputs[str]:
        return WeightedInputs(given[0], w, names["b"], mult=names["mult"], shift=names["shift"])

    size = (1, *x.shape[2:]) if len(x.shape) < 4 else x.shape[2:]
    shape = (1, channels, *size, *(1,) * (2 - len(size)))
    y = target(call, shape)
    step_kind = Fixed("depthwise_conv2d", inputs, DepthwiseConv2dAttrs(clamp=codes.clamp))
    call.step(step_kind, [call.viewed(x, shape)], y)
    done(call, y)
    return True
