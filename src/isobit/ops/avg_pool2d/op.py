"""avg_pool2d: y[n,oy,ox,c] = clamp(D(sum of the window's codes, how many were counted))."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core.errors import BadAttribute, IsobitError, raise_all
from isobit.core.fixed import Average
from isobit.core.types import Affine, Encoding, FloatArray, IntArray, Pow2, Shape, TensorType
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.axes import ROWS_FOR_COLUMNS
from isobit.ops.base import Cost, Inferred, NodeTypes, Op, Sample, is_float
from isobit.ops.channels import Coupled
from isobit.ops.clamps import clamp_problems
from isobit.ops.global_avg_pool.op import GlobalAvgPoolAttrs, GlobalAvgPoolInputs
from isobit.ops.int16_samples import widened
from isobit.ops.layer import Layer
from isobit.ops.pooling import (
    adaptive_kernel,
    mean_carriers,
    mean_codes,
    overflow_problems,
    sum_carrier,
)
from isobit.ops.window import Pair, Quad, Window, ceil_extension, pair, symmetric

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AvgPool2dAttrs(Attrs):
    """`pad` is (top, left, bottom, right); `clamp` is in codes.

    `extension`: rows below and columns right of the padding that windows may reach but that are
    never counted, which is what torch's `ceil_mode` adds.
    """

    kernel: Pair
    stride: Pair
    pad: Quad = (0, 0, 0, 0)
    count_include_pad: bool = False
    extension: Pair = (0, 0)
    clamp: tuple[int, int] = (-128, 127)
    round: Average = Average.AWAY

    def window(self) -> Window:
        """The window, on padding and extension together."""
        top, left, bottom, right = self.pad
        pad = (top, left, bottom + self.extension[0], right + self.extension[1])
        return Window(kernel=self.kernel, stride=self.stride, pad=pad)

    def counted(self, shape: Shape) -> Quad:
        """Return what is counted: (first row, first column, end row, end column) of the input."""
        top, left, bottom, right = self.pad if self.count_include_pad else (0, 0, 0, 0)
        return (-top, -left, shape[1] + bottom, shape[2] + right)

    def counts(self, shape: Shape) -> IntArray:
        """Return [OH, OW, 1]: how many values each window of an input of `shape` averages."""
        first_row, first_col, end_row, end_col = self.counted(shape)
        rows, cols = (
            np.minimum(start + size, end) - np.maximum(start, first)
            for start, size, first, end in (
                (self._starts(shape, 0), self.kernel[0], first_row, end_row),
                (self._starts(shape, 1), self.kernel[1], first_col, end_col),
            )
        )
        counts: IntArray = np.maximum(rows, 0)[:, None, None] * np.maximum(cols, 0)[None, :, None]
        return counts

    def _starts(self, shape: Shape, axis: int) -> IntArray:
        size = self.window().out_hw(shape)[axis]
        return np.arange(size, dtype=np.int64) * self.stride[axis] - self.pad[axis]


@dataclass(frozen=True, slots=True)
class AvgPool2dInputs(Inputs[T]):
    """x: [N,H,W,C]."""

    x: T


class AvgPool2d(Op[AvgPool2dAttrs, AvgPool2dInputs[Any]], name="avg_pool2d"):
    """x, y: s8 or s16 [N,H,W,C], the same encoding.

    Taps on the input are summed and counted; with `count_include_pad` those on padding are too, as
    the code of real 0. Source: docs/numerics.md; TFLite `AVERAGE_POOL_2D` (`away`, of uint8
    `half_up`), legacy CMSIS-NN `arm_avepool_q7_HWC` (`trunc`).
    """

    absorbs_clamp = True
    channels = Coupled()

    @staticmethod
    def infer(attrs: AvgPool2dAttrs, types: AvgPool2dInputs[TensorType]) -> Inferred:
        x = types.x
        window = attrs.window()
        errors = window.problems("avg_pool2d", x.shape)
        if not errors and (min(attrs.extension) < 0 or attrs.counts(x.shape).min() < 1):
            errors.append(
                BadAttribute(
                    where="avg_pool2d",
                    what="pad and extension",
                    want="at least one counted value in every window",
                    got=f"pad {attrs.pad}, extension {attrs.extension}, kernel {attrs.kernel}",
                    fix="Use less padding than the kernel spans, or count_include_pad=True.",
                )
            )
        errors.extend(clamp_problems("avg_pool2d", x, attrs.clamp))
        raise_all(errors)
        return Inferred((x.shape[0], *window.out_hw(x.shape), x.shape[3]), x.dtype, x.encoding)

    @staticmethod
    def integer(
        attrs: AvgPool2dAttrs, q: NodeTypes[Any], inputs: AvgPool2dInputs[IntArray]
    ) -> IntArray:
        sums = attrs.window().gather(inputs.x - q.inputs.x.zero, 0).sum(axis=(3, 4))
        return mean_codes(sums, attrs.counts(inputs.x.shape), q.output, attrs.clamp, attrs.round)

    @classmethod
    def permuted(
        cls, attrs: AvgPool2dAttrs, q: NodeTypes[Any], perm: Shape
    ) -> AvgPool2dAttrs | None:
        if perm != ROWS_FOR_COLUMNS or is_float(q.output):  # sums of reals depend on the order
            return None
        top, left, bottom, right = attrs.pad
        return replace(
            attrs,
            kernel=attrs.kernel[::-1],
            stride=attrs.stride[::-1],
            pad=(left, top, right, bottom),
            extension=attrs.extension[::-1],
        )

    @staticmethod
    def real(attrs: AvgPool2dAttrs, inputs: AvgPool2dInputs[FloatArray]) -> FloatArray:
        sums = attrs.window().gather(inputs.x, 0.0).sum(axis=(3, 4))
        result: FloatArray = sums / attrs.counts(inputs.x.shape)
        return result

    @staticmethod
    def surrogate(
        attrs: AvgPool2dAttrs, q: NodeTypes[Any], inputs: AvgPool2dInputs[Tensor]
    ) -> Tensor:
        from torch.nn.functional import avg_pool2d, pad

        kernel = attrs.kernel
        x = inputs.x.to(sum_carrier(kernel[0] * kernel[1], q.inputs.x)).permute(0, 3, 1, 2)
        top, left, bottom, right = attrs.window().pad
        # divisor_override=1 makes torch's pool a sum. Its own padding must be the same on both
        # sides and at most half the kernel.
        if (top, left) == (bottom, right) and 2 * top <= kernel[0] and 2 * left <= kernel[1]:
            sums = avg_pool2d(x, kernel, attrs.stride, (top, left), divisor_override=1)
        else:
            x = pad(x, (left, right, top, bottom))
            sums = avg_pool2d(x, kernel, attrs.stride, divisor_override=1)
        counts = attrs.counts(q.inputs.x.shape)
        return mean_carriers(sums.permute(0, 2, 3, 1), counts, q.output, attrs.clamp, attrs.round)

    @staticmethod
    def cost(attrs: AvgPool2dAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.x.elements, writes=q.output.elements)

    @classmethod
    def prove(
        cls, attrs: AvgPool2dAttrs, q: NodeTypes[Any], consts: Any, where: str
    ) -> list[IsobitError]:
        """Prove from the window that no sum leaves int32."""
        return overflow_problems(where, int(attrs.counts(q.inputs.x.shape).max()), q.inputs.x)

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        found = list(_narrow())
        yield from found
        yield from widened(np.random.default_rng(16), found, moved="3x3 pad counted")


def _narrow() -> Iterator[Sample[Any]]:
    """The samples of int8."""
    rng = np.random.default_rng(26)
    zeros: tuple[Encoding, ...] = (Pow2((5,)), Affine((0.1,), -7))
    for index, (label, shape, attrs) in enumerate(_CASES):
        x = sampling.kind((1, *shape[1:]), zeros[index % 2])
        out = AvgPool2d.infer(attrs, AvgPool2dInputs(x))
        types = NodeTypes(AvgPool2dInputs(x), (x.with_shape(out.shape),))
        codes = sampling.codes(rng, shape)
        if "just below" in label:
            lowest = np.arange(10)[:, None] - 128
            codes = (lowest + (np.arange(900) < 451)).reshape(shape)
        yield Sample(label, attrs, types, AvgPool2dInputs(codes))


_CASES: tuple[tuple[str, tuple[int, ...], AvgPool2dAttrs], ...] = (
    ("2x2", (2, 6, 4, 3), AvgPool2dAttrs((2, 2), (2, 2))),
    ("2x2 odd input, trunc", (2, 7, 5, 4), AvgPool2dAttrs((2, 2), (2, 2), round=Average.TRUNC)),
    ("3x3 stride 2, pad 1", (2, 8, 7, 5), AvgPool2dAttrs((3, 3), (2, 2), (1, 1, 1, 1))),
    ("3x3 pad counted", (2, 8, 7, 5), AvgPool2dAttrs((3, 3), (2, 2), (1, 1, 1, 1), True)),
    (
        "3x3 stride 2, pad counted, ceil",
        (1, 8, 8, 2),
        AvgPool2dAttrs((3, 3), (2, 2), (1, 1, 1, 1), True, (1, 1)),
    ),
    ("3x3 stride 3, ceil", (1, 7, 8, 3), AvgPool2dAttrs((3, 3), (3, 3), extension=(2, 1))),
    (
        "3x3 stride 1, clamp",
        (1, 5, 6, 1),
        AvgPool2dAttrs((3, 3), (1, 1), (1, 1, 1, 1), clamp=(-50, 45)),
    ),
    (
        "5x5 stride 2, counted, trunc",
        (1, 9, 6, 2),
        AvgPool2dAttrs((5, 5), (2, 2), (2, 2, 1, 2), True, clamp=(-20, 127), round=Average.TRUNC),
    ),
    ("row", (2, 1, 9, 7), AvgPool2dAttrs((1, 4), (1, 3), (0, 1, 0, 2))),
    ("1x1 stride 2", (2, 5, 4, 3), AvgPool2dAttrs((1, 1), (2, 2))),
    ("3x2", (2, 6, 5, 3), AvgPool2dAttrs((3, 2), (2, 1))),
    ("2x3 counted", (2, 5, 7, 2), AvgPool2dAttrs((2, 3), (1, 2), (1, 0, 0, 2), True)),
    ("20x19 window", (1, 22, 20, 2), AvgPool2dAttrs((20, 19), (1, 1))),
    # k + 899/900 with its rounding term: a reciprocal of 24 bits makes that k + 1.
    ("300x3 window, just below", (10, 300, 3, 1), AvgPool2dAttrs((300, 3), (1, 1))),
    ("3x300 window, just below", (10, 3, 300, 1), AvgPool2dAttrs((3, 300), (1, 1))),
    ("2x2, half up", (2, 7, 5, 4), AvgPool2dAttrs((2, 2), (2, 2), round=Average.HALF_UP)),
    (
        "3x3 pad counted, half up",
        (2, 8, 7, 5),
        AvgPool2dAttrs((3, 3), (2, 2), (1, 1, 1, 1), True, round=Average.HALF_UP),
    ),
    (
        "20x19 window, half up",
        (9, 22, 20, 2),
        AvgPool2dAttrs((20, 19), (1, 1), round=Average.HALF_UP),
    ),
    (
        "300x3 window, half up, just below",
        (10, 300, 3, 1),
        AvgPool2dAttrs((300, 3), (1, 1), round=Average.HALF_UP),
    ),
)


class AvgPool2dLayer(Layer, name="AvgPool2d", functions=("torch.nn.functional.avg_pool2d",)):
    """`isobit.nn.AvgPool2d`."""

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        if module.divisor_override is not None:
            raise build.refuse(
                "divisor_override",
                "None",
                str(module.divisor_override),
                "Scale the weights of the next layer.",
            )
        kernel = pair(module.kernel_size)
        stride = pair(kernel if module.stride is None else module.stride)
        window = Window(kernel=kernel, stride=stride, pad=symmetric(pair(module.padding)))
        shape = x.type.shape
        if kernel == shape[1:3] and not any(window.pad):
            return build.node("global_avg_pool", GlobalAvgPoolInputs(x.name), GlobalAvgPoolAttrs())
        extension = (0, 0)
        if module.ceil_mode and not window.problems("avg_pool2d", shape):
            extended = ceil_extension(window, shape)
            extension = (extended[2] - window.pad[2], extended[3] - window.pad[3])
        include = bool(module.count_include_pad)
        attrs = AvgPool2dAttrs(kernel, stride, window.pad, include, extension)
        return build.node("avg_pool2d", AvgPool2dInputs(x.name), attrs)


class AdaptiveAvgPool2dLayer(
    Layer, name="AdaptiveAvgPool2d", functions=("torch.nn.functional.adaptive_avg_pool2d",)
):
    """`isobit.nn.AdaptiveAvgPool2d` of an output size that divides the input's."""

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        kernel = adaptive_kernel(build, module.output_size, x)
        if kernel == x.type.shape[1:3]:
            return build.node("global_avg_pool", GlobalAvgPoolInputs(x.name), GlobalAvgPoolAttrs())
        if kernel == (1, 1):
            return x
        attrs = AvgPool2dAttrs(kernel, kernel, (0, 0, 0, 0), True, (0, 0))
        return build.node("avg_pool2d", AvgPool2dInputs(x.name), attrs)
