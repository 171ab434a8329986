"""Reductions, resizing and transposed convolutions: what their shape rules refuse, what they leave
alone, and loops beyond the kernels'.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from isobit.core.dtypes import DType
from isobit.core.errors import BadAttribute, BadShape, IsobitError, Overflow
from isobit.core.fixed import Rounding
from isobit.core.types import Affine, TensorType
from isobit.ops import reductions
from isobit.ops.base import NodeTypes
from isobit.ops.l2_normalization.op import (
    L2Normalization,
    L2NormalizationAttrs,
    L2NormalizationInputs,
)
from isobit.ops.maximum.op import Maximum, MaximumAttrs, MaximumInputs
from isobit.ops.reduce_max.op import ReduceMax, ReduceMaxAttrs, ReduceMaxInputs
from isobit.ops.reduce_sum.op import ReduceSum, ReduceSumAttrs, ReduceSumInputs
from isobit.ops.resize_bilinear.op import ResizeBilinear
from isobit.ops.resize_nearest.op import ResizeAttrs, ResizeInputs, ResizeNearest
from isobit.ops.transpose_conv2d.op import TransposeConv2d, TransposeConv2dAttrs
from isobit.ops.weighted import WeightedInputs


def codes(*shape: int, zero: int = 3) -> TensorType:
    return TensorType(shape, DType.S8, Affine((0.05,), zero))


def refused(code: type[IsobitError], what: str, infer: Any, attrs: Any, types: Any) -> None:
    with pytest.raises(code) as caught:
        infer(attrs, types)
    assert [p.what for p in caught.value.problems] == [what]


@pytest.mark.parametrize("axes", [(), (0,), (2, 1), (1, 1), (1, 4), (-1,)])
def test_reductions_want_ascending_axes_after_the_batch(axes: tuple[int, ...]) -> None:
    x = codes(1, 4, 5, 3)
    refused(BadAttribute, "axes", ReduceSum.infer, ReduceSumAttrs(axes), ReduceSumInputs(x))
    refused(BadAttribute, "axes", ReduceMax.infer, ReduceMaxAttrs(axes), ReduceMaxInputs(x))


def test_a_sum_that_leaves_int32_is_refused() -> None:
    x = codes(1, 4096, 4096, 1)
    kind = NodeTypes(ReduceSumInputs(x), (codes(1, 1, 1, 1),))
    consts = ReduceSumInputs(None, mult=np.asarray([1 << 30]), shift=np.asarray([-20]))
    attrs = ReduceSumAttrs((1, 2), round=Rounding.TFLITE_DOUBLE)
    (problem,) = ReduceSum.prove(attrs, kind, consts, "here")
    assert isinstance(problem, Overflow)


def test_runs_of_axes_become_one_loop() -> None:
    fields = reductions.geometry((1, 2, 3, 4, 5), (2, 3))
    kept = [(fields[f"size_{i}"], fields[f"step_{i}"]) for i in range(3)]
    terms = [(fields[f"terms_{i}"], fields[f"terms_step_{i}"]) for i in range(3)]
    assert kept == [(1, 0), (2, 60), (5, 1)]
    assert terms == [(1, 0), (1, 0), (12, 5)]
    assert reductions.when((1, 2, 3, 4, 5), (1, 3)) == ""
    assert "got 4" in reductions.when((1, *(2,) * 8), (1, 3, 5, 7))


def test_reduce_max_over_axes_of_one_is_its_input() -> None:
    q = NodeTypes(ReduceMaxInputs(codes(1, 1, 5, 3)), (codes(1, 1, 5, 3),))
    assert ReduceMax.identity(ReduceMaxAttrs((1,)), q)
    assert not ReduceMax.identity(ReduceMaxAttrs((2,)), q)


def test_maximum_wants_one_encoding() -> None:
    types = MaximumInputs(codes(1, 4), codes(1, 4, zero=0))
    refused(BadAttribute, "encodings of the operands", Maximum.infer, MaximumAttrs(), types)


@pytest.mark.parametrize("op", [ResizeNearest, ResizeBilinear])
def test_resize_wants_an_image_and_a_size(op: Any) -> None:
    vector, image = ResizeInputs(codes(1, 12)), ResizeInputs(codes(1, 4, 6, 3))
    refused(BadShape, "input rank", op.infer, ResizeAttrs((2, 2)), vector)
    refused(BadAttribute, "size", op.infer, ResizeAttrs((0, 2)), image)


def test_resize_bilinear_takes_one_option_and_stays_on_the_image() -> None:
    both = ResizeAttrs((2, 2), True, True)
    what = "align_corners and half_pixel_centers"
    image = ResizeInputs(codes(1, 4, 6, 3))
    refused(BadAttribute, what, ResizeBilinear.infer, both, image)
    # 1024 / 70 rounds up to 15: the last of 70 outputs would lie at 1035 / 1024 of one pixel.
    far, pixel = ResizeAttrs((70, 1)), ResizeInputs(codes(1, 1, 1, 3))
    refused(BadAttribute, "size", ResizeBilinear.infer, far, pixel)
    assert ResizeBilinear.infer(ResizeAttrs((64, 1)), pixel).shape == (1, 64, 1, 3)


@pytest.mark.parametrize("op", [ResizeNearest, ResizeBilinear])
def test_resize_to_the_same_size_is_its_input(op: Any) -> None:
    q = NodeTypes(ResizeInputs(codes(1, 4, 6, 3)), (codes(1, 4, 6, 3),))
    for options in ((False, False), (True, False), (False, True)):
        assert op.identity(ResizeAttrs((4, 6), *options), q)
        assert not op.identity(ResizeAttrs((4, 5), *options), q)


def test_transpose_conv2d_wants_matching_channels_and_a_size() -> None:
    weights = TensorType((2, 3, 3, 4), DType.S8, Affine((0.1,), 0))
    attrs = TransposeConv2dAttrs((8, 8), (2, 2))
    other = WeightedInputs(codes(1, 4, 4, 3), weights)
    refused(BadShape, "shapes", TransposeConv2d.infer, attrs, other)
    fitting = WeightedInputs(codes(1, 4, 4, 4), weights)
    wrong = TransposeConv2dAttrs((8, 8), (0, 2))
    refused(BadAttribute, "size, stride, pad", TransposeConv2d.infer, wrong, fitting)


def test_l2_normalization_wants_squares_that_fit() -> None:
    attrs, limit = L2NormalizationAttrs(), (2**31 - 1) // 255**2
    what = "size of the last axis"
    long = L2NormalizationInputs(codes(1, limit + 1))
    refused(BadShape, what, L2Normalization.infer, attrs, long)
    fitting = L2NormalizationInputs(codes(1, limit))
    assert L2Normalization.infer(attrs, fitting).shape == (1, limit)
