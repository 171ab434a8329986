"""conv2d with SMLAD: windows gathered as int16, 2 channels x 2 pixels at a time; groups == 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from isobit.core.features import Feature
from isobit.core.types import AnyArray, Shape
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.conv2d.op import Conv2dAttrs
from isobit.ops.weighted import WeightedInputs, carrier_problem, pack_weighted, rule_fields
from isobit.ops.window import Window

WORD_ORDER = (0, 2, 1, 3)
"""Which of four weights lies at byte i: SXTB16 widens bytes 0 and 2, which must be neighbours."""


class Im2colDsp(Kernel, op="conv2d", function="conv2d_s8_im2col_dsp"):
    """Products of weight rows and gathered windows; in place where the pairs of pixels allow."""

    features = frozenset({Feature.DSP})
    headers = ("isobit_dsp.h",)
    code_bytes = 820

    @staticmethod
    def when(attrs: Conv2dAttrs, q: NodeTypes[Any]) -> str:
        problem = carrier_problem(q)
        if problem or attrs.groups == 1:
            return problem
        return f"want groups 1, got {attrs.groups}"

    @staticmethod
    def geometry(attrs: Conv2dAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        window = attrs.window(q.inputs.w.shape)
        return {
            **window.geometry(q.inputs.x.shape, q.output.shape),
            **rule_fields(q.inputs, attrs.round, q.output.shape[3]),
        }

    @staticmethod
    def pack(
        attrs: Conv2dAttrs, q: NodeTypes[Any], consts: WeightedInputs[AnyArray]
    ) -> Sequence[Packed]:
        packed = pack_weighted(q, consts, attrs.clamp)
        return [
            replace(p, data=_rows(p.data), alignment_bytes=4) if p.name == "w" else p
            for p in packed
        ]

    @staticmethod
    def scratch_bytes(attrs: Conv2dAttrs, q: NodeTypes[Any]) -> int:
        """One int16 window per pixel of a pair."""
        return min(2, _pixels(q)) * 2 * _row(q.inputs.w.shape)

    @staticmethod
    def overlap_bytes(attrs: Conv2dAttrs, q: NodeTypes[Any]) -> int | None:
        return _overlap(attrs.window(q.inputs.w.shape), q.inputs.x.shape, q.output.shape)

    @staticmethod
    def cycles(attrs: Conv2dAttrs, q: NodeTypes[Any]) -> float:
        """Sum of computed outputs, their products, gathered elements and taps.

        Fitted to the cycle model of cortex-m4 and zig's code: within 15 % on 15 of 16 shapes from
        1x1 1 -> 3 to 3x3 64 -> 64; a single pixel costs 1.4 times as much.
        """
        w: Shape = q.inputs.w.shape
        row, pixels = _row(w), _pixels(q)
        computed = _computed(pixels) * _computed(w[0])
        return computed * (39.0 + 1.4 * row) + pixels * (5.0 * row + 4.0 * w[1] * w[2])

    @classmethod
    def flash_bytes(cls, attrs: Conv2dAttrs, q: NodeTypes[Any]) -> int:
        w: Shape = q.inputs.w.shape
        padding = w[0] * (_row(w) - w[1] * w[2] * w[3])
        return cls.code_bytes + padding


def _computed(count: int) -> int:
    """Pixels or channels computed for `count`: an odd one with a neighbour, a single one alone."""
    return count if count == 1 else count + count % 2


def _pixels(q: NodeTypes[Any]) -> int:
    rows, cols = q.output.shape[1:3]
    return int(rows * cols)


def _row(w: Shape) -> int:
    """Taps of a filter, rounded up to whole words of int8."""
    return (w[1] * w[2] * w[3] + 3) // 4 * 4


def _rows(w: AnyArray) -> AnyArray:
    """Return [O * row] weights: filters padded with zeros to whole words, words in `WORD_ORDER`."""
    flat = w.reshape(w.shape[0], -1)
    padded = np.pad(flat, ((0, 0), (0, _row(w.shape) - flat.shape[1])))
    ordered: AnyArray = padded.reshape(-1, 4)[:, WORD_ORDER].ravel()
    return ordered


def _overlap(window: Window, x: Shape, y: Shape) -> int:
    """How far writes lead reads when pixels are written in pairs, both windows having been read.

    While the pair before pixel p is written, at most `p * C_out` bytes have been, and what is still
    to be read are the windows of p and later pixels. After the last pair nothing is. O(OH * OW).
    """
    rows = np.clip(np.arange(y[1]) * window.stride[0] - window.pad[0], 0, x[1])
    cols = np.clip(np.arange(y[2]) * window.stride[1] - window.pad[1], 0, x[2])
    first = ((rows[:, None] * x[2] + cols[None, :]) * x[3]).ravel()
    still_needed = np.minimum.accumulate(first[::-1])[::-1]
    starts = np.arange(2, first.size, 2)
    return int(np.max(starts * y[3] - still_needed[starts], initial=0))
