from __future__ import annotations

import numpy as np
import pytest

from isobit.core.errors import BadAttribute, SeveralProblems
from isobit.core.types import Pow2
from isobit.ops import sampling
from isobit.ops.base import NodeTypes
from isobit.ops.strided_slice.op import StridedSlice, StridedSliceAttrs, StridedSliceInputs
from isobit.ops.strided_slice.reference import Reference, loops


def typed(shape: tuple[int, ...], attrs: StridedSliceAttrs) -> NodeTypes:
    x = sampling.kind(shape, Pow2((3,)))
    return NodeTypes(StridedSliceInputs(x), (sampling.kind((1, *attrs.size), Pow2((3,))),))


@pytest.mark.parametrize(
    "attrs",
    [
        StridedSliceAttrs((), (), ()),
        StridedSliceAttrs((0,), (1, 1), (1,)),
        StridedSliceAttrs((0,), (0,), (1,)),
        StridedSliceAttrs((0,), (1,), (0,)),
        StridedSliceAttrs((-1,), (1,), (1,)),
        StridedSliceAttrs((5,), (1,), (1,)),
        StridedSliceAttrs((2,), (2,), (3,)),
        StridedSliceAttrs((2,), (-1,), (4,)),
    ],
)
def test_every_index_must_lie_on_the_input(attrs: StridedSliceAttrs) -> None:
    with pytest.raises(BadAttribute):
        StridedSlice.infer(attrs, StridedSliceInputs(sampling.kind((1, 5), Pow2((3,)))))


def test_all_axes_that_are_wrong_are_named_at_once() -> None:
    x = sampling.kind((1, 5, 5), Pow2((3,)))
    with pytest.raises(SeveralProblems) as found:
        StridedSlice.infer(StridedSliceAttrs((9, 9), (1, 1), (1, 1)), StridedSliceInputs(x))
    assert len(found.value.problems) == 2


def test_a_crop_of_rows_is_one_run() -> None:
    attrs = StridedSliceAttrs((1, 0, 0), (1, 1, 1), (2, 4, 3))
    assert loops(attrs, typed((1, 5, 4, 3), attrs)) == ([], 24)


def test_only_whole_axes_are_identities() -> None:
    whole = StridedSliceAttrs((0, 0), (1, 1), (3, 4))
    assert StridedSlice.identity(whole, typed((1, 3, 4), whole))
    turned = StridedSliceAttrs((2, 0), (-1, 1), (3, 4))
    assert not StridedSlice.identity(turned, typed((1, 3, 4), turned))
    assert Reference.overlap_bytes(turned, typed((1, 3, 4), turned)) is None


@pytest.mark.parametrize(("begin", "stride", "size"), [(0, 1, 9), (8, -1, 9), (7, -3, 3)])
def test_indices_are_those_of_numpy(begin: int, stride: int, size: int) -> None:
    attrs = StridedSliceAttrs((begin,), (stride,), (size,))
    x = np.arange(9).reshape(1, 9)
    last = begin + stride * size
    want = x[:, begin : (last if last >= 0 else None) : stride]
    got = StridedSlice.integer(attrs, typed((1, 9), attrs), StridedSliceInputs(x))
    assert (got == want).all()
