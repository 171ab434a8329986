"""`check` refuses tensors that nothing can hold, and codes that stand for no number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from isobit.core.dtypes import DType
from isobit.core.errors import BadShape, BadWeights, IsobitError, TextSyntax
from isobit.core.fixed import Rounding
from isobit.core.types import Affine, Pow2, Raw, Real, TensorType
from isobit.ir.graph import Const, Graph, Node, Stage, Value
from isobit.ir.text import parse_graph, print_graph
from isobit.ops.avg_pool2d.op import AvgPool2dAttrs, AvgPool2dInputs
from isobit.ops.check import check
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.maximum.op import MaximumAttrs, MaximumInputs
from isobit.ops.prelu.op import PreluAttrs, PreluInputs
from isobit.ops.registry import load_ops
from isobit.ops.weighted import overflow_problems

PLAIN = TensorType((1, 4), DType.S8, Affine((0.5,), 0))


def clamped(kind: TensorType) -> Graph:
    node = Node("clamp", ClampInputs("x"), ClampAttrs(clamp=(0, 1)), (Value("y", kind),))
    return Graph(
        name="g", stage=Stage.INT, inputs=(Value("x", kind),), nodes=(node,), outputs=("y",)
    )


BAD = {
    "scale 0": replace(PLAIN, encoding=Affine((0.0,), 0)),
    "negative scale": replace(PLAIN, encoding=Affine((-1.0,), 0)),
    "NaN scale": replace(PLAIN, encoding=Affine((float("nan"),), 0)),
    "infinite scale": replace(PLAIN, encoding=Affine((float("inf"),), 0)),
    "zero point above": replace(PLAIN, encoding=Affine((0.5,), 128)),
    "zero point below": replace(PLAIN, encoding=Affine((0.5,), -129)),
    "exponent": replace(PLAIN, encoding=Pow2((1 << 40,))),
    "scale per channel": replace(PLAIN, encoding=Affine((0.5,) * 4, 0, axis=1)),
    "size 0": PLAIN.with_shape((1, 0)),
    "2^32 elements": PLAIN.with_shape((1, 1 << 16, 1 << 16)),
}


def test_a_sound_graph_passes() -> None:
    check(clamped(PLAIN))
    for zero in (-128, 127):
        check(clamped(replace(PLAIN, encoding=Affine((0.5,), zero))))


@pytest.mark.parametrize("label", BAD)
def test_an_unsound_type_is_refused_by_the_value_s_name(label: str) -> None:
    with pytest.raises(IsobitError) as caught:
        check(clamped(BAD[label]))
    assert {problem.code for problem in caught.value.problems} == {BadShape.code}
    assert [problem.where for problem in caught.value.problems] == ["g %x", "g %y"]


def test_stored_values_are_numbers() -> None:
    kind = TensorType((1, 2), DType.F64, Real())
    stored = Const("k", kind, np.array([[1.0, np.nan]]))
    graph = replace(clamped(replace(kind)), stage=Stage.FLOAT, consts=(stored,))
    with pytest.raises(BadWeights):
        check(graph)


def test_padding_larger_than_any_memory_is_refused_before_it_is_made() -> None:
    kind = TensorType((1, 4, 4, 1), DType.S8, Affine((0.5,), 0))
    pad = (1 << 40, 0, 0, 0)
    attrs = AvgPool2dAttrs(kernel=(2, 2), stride=(1, 1), pad=pad, count_include_pad=True)
    node = Node("avg_pool2d", AvgPool2dInputs("x"), attrs, (Value("y", kind),))
    with pytest.raises(BadShape) as caught:
        check(replace(clamped(kind), nodes=(node,)))
    assert caught.value.problems[0].what == "padded input"


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("shift", [-(2**31), -64, 63, 2**31 - 1])
def test_a_shift_that_no_product_has_is_refused(rounding: Rounding, shift: int) -> None:
    bound, mult = np.array([100]), np.array([1 << 30])
    (problem,) = overflow_problems("node", bound, mult, np.array([shift]), rounding)
    assert problem.problems[0].what == "shift"


@pytest.mark.parametrize(
    ("old", "new"),
    [("clamp=(0,1)", "clamp=(0,1,2)"), ("clamp=(0,1)", "clamp=(0)"), ("clamp=(0,1)", "low=nan")],
)
def test_attributes_have_the_form_of_their_type(old: str, new: str) -> None:
    text = print_graph(clamped(PLAIN))
    assert old in text
    with pytest.raises(TextSyntax):
        parse_graph(text.replace(old, new), {}, load_ops().signature)


def with_operand(kind: TensorType, data: np.ndarray) -> Graph:
    """max(x, stored) over codes."""
    node = Node("maximum", MaximumInputs("x", "c"), MaximumAttrs(), (Value("y", PLAIN),))
    return Graph(
        name="g",
        stage=Stage.INT,
        inputs=(Value("x", PLAIN),),
        consts=(Const("c", kind, data),),
        nodes=(node,),
        outputs=("y",),
    )


def test_fractions_are_no_codes() -> None:
    check(with_operand(PLAIN, np.asarray([[1.0, 2.0, -3.0, 0.0]])))
    with pytest.raises(BadWeights, match=r"such as 0\.7"):
        with_operand(PLAIN, np.asarray([[1.0, 0.7, -3.0, 0.0]]))


def test_reals_beside_codes_are_refused() -> None:
    real = TensorType((1, 4), DType.F64, Real())
    with pytest.raises(IsobitError):
        check(with_operand(real, np.asarray([[1.0, 0.7, -3.0, 0.0]])))


def test_reals_among_the_constants_of_codes_are_refused() -> None:
    one = TensorType((1,), DType.S32, Raw())
    slope = TensorType((1, 4), DType.F64, Real())
    names = ("mult", "shift", "mult_neg", "shift_neg")
    consts = [Const(name, one, np.ones(1, np.int32)) for name in names]
    node = Node(
        "prelu",
        PreluInputs("x", "slope", **{name: name for name in names}),
        PreluAttrs(),
        (Value("y", PLAIN),),
    )
    graph = Graph(
        name="g",
        stage=Stage.INT,
        inputs=(Value("x", PLAIN),),
        consts=(Const("slope", slope, np.full((1, 4), 0.25)), *consts),
        nodes=(node,),
        outputs=("y",),
    )
    with pytest.raises(BadShape, match="integers in a network of integers"):
        check(graph)
